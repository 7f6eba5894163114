//! Why a device cannot be used.

use crate::{Features, PhysRange, QueueError};
use core::fmt;

/// A device that could not be brought into service, or failed in it. The kernel adds which device it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A capability the driver cannot do without is missing: not a modern virtio device.
    MissingCapability(&'static str),
    /// A capability contradicts itself or its BAR.
    BadCapability(&'static str),
    /// A BAR that a capability names is not a usable memory BAR.
    BadBar(u8),
    /// No room to place a BAR of this many bytes.
    NoBarSpace {
        /// Which BAR, 0 to 5.
        bar: u8,
        /// Its size in bytes.
        size: u64,
    },
    /// The kernel will not map this range as registers.
    Unmappable(PhysRange),
    /// More MSI-X vectors are wanted than the device has.
    TooFewVectors {
        /// How many the kernel gave.
        wanted: usize,
        /// How many the device has.
        has: usize,
    },
    /// The device did not accept a vector for a queue.
    VectorRefused {
        /// The queue.
        queue: u16,
    },
    /// The device did not finish its reset.
    ResetTimeout,
    /// A feature the driver cannot do without is not offered.
    MissingFeature(&'static str),
    /// The device did not accept our subset of its features.
    FeaturesRefused {
        /// What it had offered.
        offered: Features,
        /// What we accepted.
        accepted: Features,
    },
    /// The device is of another type than the driver.
    WrongType {
        /// The virtio device type that was found.
        found: u16,
        /// The one the driver drives.
        wanted: u16,
    },
    /// The device has no such queue.
    NoQueue(u16),
    /// A configuration field lies outside the device's configuration space.
    ShortConfig,
    /// The virtio-fs tag is empty or not UTF-8.
    BadTag,
    /// Memory for rings or buffers is short.
    NoMemory,
    /// A queue failed.
    Queue(QueueError),
    /// The console's host side breaks the protocol.
    Console(&'static str),
}

impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingCapability(what) => write!(f, "no {what} capability: not a modern virtio-pci device"),
            Self::BadCapability(what) => write!(f, "the {what} capability does not fit its BAR or is malformed"),
            Self::BadBar(bar) => write!(f, "BAR {bar} is not a usable memory BAR"),
            Self::NoBarSpace { bar, size } => write!(f, "no address space for BAR {bar} of {size:#x} bytes"),
            Self::Unmappable(range) => write!(f, "registers at {range:?} cannot be mapped"),
            Self::TooFewVectors { wanted, has } => write!(f, "{wanted} MSI-X vectors wanted, the device has {has}"),
            Self::VectorRefused { queue } => write!(f, "the device refused an interrupt vector for queue {queue}"),
            Self::ResetTimeout => write!(f, "the device did not complete its reset"),
            Self::MissingFeature(what) => write!(f, "the device does not offer {what}"),
            Self::FeaturesRefused { offered, accepted } => {
                write!(f, "the device refused features {:#x} of {:#x}", accepted.bits(), offered.bits())?;
                if offered.contains(Features::ACCESS_PLATFORM) {
                    write!(f, "; it may insist on ACCESS_PLATFORM (an IOMMU), which is not supported")?;
                }
                Ok(())
            }
            Self::WrongType { found, wanted } => write!(f, "virtio device type {found} where {wanted} was expected"),
            Self::NoQueue(index) => write!(f, "the device has no queue {index}"),
            Self::ShortConfig => write!(f, "the device's configuration space is too short"),
            Self::BadTag => write!(f, "the file system's tag is empty or not UTF-8"),
            Self::NoMemory => write!(f, "no memory for the device's rings or buffers"),
            Self::Queue(error) => write!(f, "{error}"),
            Self::Console(what) => write!(f, "console: {what}"),
        }
    }
}

impl core::error::Error for Error {}

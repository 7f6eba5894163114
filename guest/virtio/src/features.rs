//! Feature bits and the device status (sections 2.1, 2.2 and 6).

bitflags::bitflags! {
    /// What a device offers and a driver accepts. Bits 0 to 23 belong to the device type and are named there.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Descriptors may point to tables of descriptors.
        const INDIRECT_DESC = 1 << 28;
        /// Both sides say at which index they want to be told.
        const EVENT_IDX = 1 << 29;
        /// The device follows virtio 1.0 or later.
        const VERSION_1 = 1 << 32;
        /// The device sees memory through an IOMMU, which we do not have.
        const ACCESS_PLATFORM = 1 << 33;
        // Devices may offer what we have never heard of.
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// The device status field.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Status: u8 {
        const ACKNOWLEDGE = 1;
        const DRIVER = 2;
        const DRIVER_OK = 4;
        const FEATURES_OK = 8;
        const NEEDS_RESET = 64;
        const FAILED = 128;
        const _ = !0;
    }
}

/// What the ring layer understands; accepted wherever offered.
pub(crate) const TRANSPORT: Features = Features::VERSION_1.union(Features::INDIRECT_DESC).union(Features::EVENT_IDX);

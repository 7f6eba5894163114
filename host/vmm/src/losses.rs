//! What happens when a guest touches a window page whose file has been cut short on the host.
//!
//! KVM reports a failed access and nothing more; not every KVM says where. So [`Mender`] looks through the windows for
//! pages that are gone, tells the guest ([`diolkos_common::losses`]), puts zeros there and lets the processor try again;
//! the interrupt reaches it before the instruction does. [`Patience`] ends a machine for which that changes nothing.
//!
//! Some hosts do not even report the access ([`Vm::fails_at_once`](crate::kvm::Vm::fails_at_once)): there somebody has to
//! look again and again ([`Mender::patrol`]).
//!
//! The work for one fault is bounded: a look at each run of each window, twice at most, and a binary search in those
//! that are short.
//!
//! Left out: pages that fail for another reason (a disk that cannot be read, a full one under a page with a hole) end the
//! machine, unless the host's KVM says which page it was. Where somebody has to look again and again, a file that grew after
//! it was mapped and shrank to no less than it was then is not noticed.

use crate::layout::LOSSES;
use crate::shadow::Shadow;
use crate::virtio::fs::window::{Suspect, Window};
use crate::virtio::interrupt::Interrupter;
use diolkos_common::losses::{Loss, Writer};
use kvm_bindings::kvm_regs;
use std::sync::{Arc, Mutex, PoisonError};

/// A window and who speaks for it.
pub struct Mended {
    /// Guest-physical address.
    pub base: u64,
    /// The window.
    pub window: Arc<Window>,
    /// Of the device it belongs to.
    pub interrupter: Arc<Interrupter>,
}

/// Looks after all windows of a machine.
pub struct Mender {
    windows: Vec<Mended>,
    shadow: Arc<Shadow>,
    writer: Mutex<Writer>,
}

/// The vector by which a device announces lost pages.
const VECTOR: u16 = 0;

impl Mender {
    /// A mender of `windows` that writes its record into `shadow`.
    pub fn new(windows: Vec<Mended>, shadow: Arc<Shadow>) -> Self {
        Self { windows, shadow, writer: Mutex::default() }
    }

    /// Mends what can be mended after a failed access, at guest-physical `address` if that is known. Returns whether
    /// there was anything.
    pub fn mend(&self, address: Option<u64>) -> bool {
        let found = match address {
            Some(address) => self.mend_all(|place| address.checked_sub(place.base).map(Suspect::Page)),
            // The quick look is nearly always enough, and leaves the files alone that are merely small.
            None => self.mend_all(|_| Some(Suspect::Shrunk)) || self.mend_all(|_| Some(Suspect::Short)),
        };
        tracing::debug!("access to lost memory, at {address:x?}: {}", if found { "mended" } else { "nothing found" });
        found
    }

    /// Mends files that have become shorter, before or after the guest has touched what is gone.
    pub fn patrol(&self) {
        self.mend_all(|_| Some(Suspect::Shrunk));
    }

    fn mend_all(&self, suspect: impl Fn(&Mended) -> Option<Suspect>) -> bool {
        // Plain data: whole after every step.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for place in &self.windows {
            let Some(suspect) = suspect(place) else { continue };
            let found = place.window.mend(suspect, |range| {
                let loss = Loss { address: place.base + range.offset(), len: range.len() };
                writer.enter(loss, |at, word| self.shadow.store_word(LOSSES + at as u64, word));
                // Before there is anything to be read: another processor may be waiting for this very page.
                place.interrupter.trigger(VECTOR);
            });
            any |= found > 0;
        }
        any
    }
}

/// How often one instruction may fail with nothing to mend. It may for once: the host may cut a file and stretch it again
/// before we look. A guest that touches what is nowhere does it for ever.
const ATTEMPTS: u32 = 64;

/// One processor's failed accesses.
#[derive(Debug, Default)]
pub struct Patience {
    attempts: u32,
    stuck: Option<kvm_regs>,
}

impl Patience {
    /// Whether a processor with these registers, whose access has just failed, may try again.
    pub fn allows(&mut self, mended: bool, registers: Option<kvm_regs>) -> bool {
        if mended {
            *self = Self::default();
            return true;
        }
        if registers.is_none() || registers != self.stuck {
            self.stuck = registers;
            self.attempts = 0;
        }
        self.attempts += 1;
        registers.is_some() && self.attempts < ATTEMPTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::KvmError;
    use crate::pci::msix::Message;
    use crate::virtio::fs::window::{DaxWindow, PAGE};
    use crate::virtio::interrupt::Platform;
    use diolkos_common::losses::{News, Reader};
    use std::os::fd::AsFd;
    use vmm_sys_util::eventfd::EventFd;

    struct Silent;

    impl Platform for Silent {
        fn send(&self, _: Message) {}
        fn doorbell(&self, _: u64, _: &EventFd) -> Result<(), KvmError> {
            Ok(())
        }
    }

    const BASE: [u64; 2] = [1 << 32, 1 << 33];

    fn mender() -> (Mender, [std::fs::File; 2]) {
        let shadow = Shadow::new().unwrap();
        let files = [(); 2].map(|()| tempfile::tempfile().unwrap());
        let windows = BASE.iter().zip(&files).map(|(base, file)| {
            file.set_len(16 * PAGE).unwrap();
            let window = Arc::new(Window::new(2 << 20, false, 10).unwrap());
            window.map(window.range(0, 2 << 20).unwrap(), file.as_fd(), 0, false).unwrap();
            let interrupter = Interrupter::new(1, shadow.clone(), crate::layout::REGISTERS, Arc::new(Silent));
            Mended { base: *base, window, interrupter: Arc::new(interrupter) }
        });
        (Mender::new(windows.collect(), shadow.clone()), files)
    }

    fn news(mender: &Mender, reader: &mut Reader) -> Option<News> {
        reader.next(|at| {
            let mut word = [0; 8];
            mender.shadow.load(LOSSES + at as u64, &mut word);
            u64::from_le_bytes(word)
        })
    }

    #[test]
    fn the_guest_reads_what_is_lost() {
        let (mender, files) = mender();
        let mut reader = Reader::new();
        files[1].set_len(5).unwrap();
        assert!(mender.mend(None));
        let expected = |window: usize, page: u64| {
            Some(News::Lost(Loss { address: BASE[window] + page * PAGE, len: (2 << 20) - page * PAGE }))
        };
        assert_eq!(news(&mender, &mut reader), expected(1, 1));
        assert_eq!(news(&mender, &mut reader), None, "the other file is as it was, beyond its end too");
        // Nothing is short that was not; so the closer look takes what is beyond the ends.
        assert!(mender.mend(None));
        assert_eq!(news(&mender, &mut reader), expected(0, 16));
        assert!(!mender.mend(None));
        assert_eq!(news(&mender, &mut reader), None);
    }

    #[test]
    fn a_known_address_is_looked_at_and_nothing_else() {
        let (mender, files) = mender();
        files.iter().for_each(|file| file.set_len(0).unwrap());
        for nowhere in [0, BASE[0] - 1, BASE[0] + (2 << 20), u64::MAX] {
            assert!(!mender.mend(Some(nowhere)), "{nowhere:#x}");
        }
        assert!(mender.mend(Some(BASE[0] + 3)) && !mender.mend(Some(BASE[0])));
        assert!(mender.mend(Some(BASE[1] + (2 << 20) - 1)));
    }

    #[test]
    fn who_gets_nowhere_is_given_up() {
        let at = |rip| Some(kvm_regs { rip, ..Default::default() });
        let mut patience = Patience::default();
        for step in 0..10 * u64::from(ATTEMPTS) {
            assert!(patience.allows(false, at(step)), "it gets on");
        }
        let tries = (0..).take_while(|_| patience.allows(false, at(7))).count();
        assert_eq!(tries as u32, ATTEMPTS - 1);
        assert!(patience.allows(true, at(7)) && patience.allows(false, at(7)));
        assert!(!patience.allows(false, None));
    }
}

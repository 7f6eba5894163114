//! What comes with a signal: `siginfo_t`, 128 bytes, of which the code says how to read the rest (sigaction(2)).

use super::signal_set::Signal;

/// Sent by kill(2).
pub const SI_USER: i32 = 0;
/// Sent by the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// Sent by a POSIX timer.
pub const SI_TIMER: i32 = -2;
/// Sent by tkill(2) or tgkill(2).
pub const SI_TKILL: i32 = -6;

/// Bytes of a `struct signalfd_siginfo` (signalfd(2)).
pub const FD_SIGINFO_LEN: usize = 128;

/// The record as the program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct SigInfo {
    /// Signal number.
    pub signo: i32,
    /// Always 0 here.
    pub errno: i32,
    /// Where it comes from.
    pub code: i32,
    pad: i32,
    /// The union, as 64-bit words.
    pub fields: [u64; 14],
}

impl SigInfo {
    fn new(signal: Signal, code: i32) -> Self {
        Self { signo: signal.number() as i32, errno: 0, code, pad: 0, fields: [0; 14] }
    }

    /// From the kernel, without details.
    pub fn kernel(signal: Signal) -> Self {
        Self::new(signal, SI_KERNEL)
    }

    /// From a process (`SI_USER` or `SI_TKILL`).
    pub fn from_process(signal: Signal, code: i32, pid: u32, uid: u32) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = u64::from(pid) | u64::from(uid) << 32;
        info
    }

    /// From an instruction: `address` is what it touched, or the instruction's own.
    pub fn fault(signal: Signal, code: i32, address: u64) -> Self {
        let mut info = Self::new(signal, code);
        info.fields[0] = address;
        info
    }

    /// From a POSIX timer.
    pub fn timer(signal: Signal, id: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self::new(signal, SI_TIMER);
        info.fields[0] = u64::from(id as u32) | u64::from(overrun as u32) << 32;
        info.fields[1] = value;
        info
    }

    /// The timer that sent it and its overrun count, if a POSIX timer did.
    pub fn of_timer(&self) -> Option<(i32, i32)> {
        (self.code == SI_TIMER).then_some((self.fields[0] as i32, (self.fields[0] >> 32) as i32))
    }

    /// Counts `more` expirations of the timer that sent it.
    pub fn overrun_by(&mut self, more: i32) {
        let overrun = ((self.fields[0] >> 32) as i32).saturating_add(more);
        self.fields[0] = u64::from(self.fields[0] as u32) | u64::from(overrun as u32) << 32;
    }

    /// The record as a `struct signalfd_siginfo`, whose fields do not share places.
    pub fn for_descriptor(&self) -> [u8; FD_SIGINFO_LEN] {
        let mut bytes = [0; FD_SIGINFO_LEN];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let [low, high] = [self.fields[0] as u32, (self.fields[0] >> 32) as u32];
        put(0, &self.signo.to_ne_bytes());
        put(4, &self.errno.to_ne_bytes());
        put(8, &self.code.to_ne_bytes());
        match self.code {
            SI_TIMER => {
                put(24, &low.to_ne_bytes()); // ssi_tid
                put(32, &high.to_ne_bytes()); // ssi_overrun
                put(44, &(self.fields[1] as u32).to_ne_bytes()); // ssi_int
                put(48, &self.fields[1].to_ne_bytes()); // ssi_ptr
            }
            // Sent by somebody: kill, tgkill, and sigqueue with a value.
            ..=0 => {
                put(12, &low.to_ne_bytes()); // ssi_pid
                put(16, &high.to_ne_bytes()); // ssi_uid
                put(44, &(self.fields[1] as u32).to_ne_bytes());
                put(48, &self.fields[1].to_ne_bytes());
            }
            SI_KERNEL => {}
            _ => put(72, &self.fields[0].to_ne_bytes()), // ssi_addr
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    /// Against the C layout: `_sifields` begins at 16; pid, uid and value at 16, 20 and 24; address at 16.
    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!((size_of::<SigInfo>(), offset_of!(SigInfo, fields)), (128, 16));
        assert_eq!(size_of::<SigInfo>(), size_of::<linux_raw_sys::general::siginfo_t>());
        let sent = SigInfo::from_process(Signal::new(10).unwrap(), SI_TKILL, 0x11, 0x22);
        assert_eq!((sent.signo, sent.code, sent.fields[0]), (10, -6, 0x22_0000_0011));
        assert_eq!(SigInfo::from_process(Signal::new(10).unwrap(), SI_USER, 1, 0).code, 0);
        let timer = SigInfo::timer(Signal::ALRM, 3, -1, 9);
        assert_eq!(timer.fields[..2], [0xffff_ffff_0000_0003, 9]);
        assert_eq!(SigInfo::fault(Signal::SEGV, 1, 0xdead).fields[0], 0xdead);
        assert_eq!(SigInfo::kernel(Signal::CHLD).code, 0x80);
    }

    /// Against the C layout: pid at 12, uid at 16, tid at 24, overrun at 32, int at 44, ptr at 48, addr at 72.
    #[test]
    fn a_descriptor_shows_the_same_in_its_own_layout() {
        let word = |bytes: &[u8; FD_SIGINFO_LEN], at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let sent = SigInfo::from_process(Signal::new(10).unwrap(), SI_USER, 0x11, 0x22).for_descriptor();
        assert_eq!([0, 8, 12, 16].map(|at| word(&sent, at)), [10, 0, 0x11, 0x22]);
        let timer = SigInfo::timer(Signal::ALRM, 3, 2, 9).for_descriptor();
        assert_eq!([0, 12, 24, 32, 44, 48].map(|at| word(&timer, at)), [14, 0, 3, 2, 9, 9]);
        assert_eq!(word(&SigInfo::fault(Signal::SEGV, 1, 0xdead).for_descriptor(), 72), 0xdead);
    }
}

//! Signal numbers, sets of them, and what is done by default about each.

use core::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// A signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(u8);

/// What an unhandled signal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultAction {
    /// Ends the process.
    Terminate,
    /// Nothing. Stopping and continuing are in this class too: nobody could continue a stopped machine.
    Ignore,
}

/// Names without `SIG`, from number 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

macro_rules! signals {
    ($($name:ident = $number:literal),* $(,)?) => {
        impl Signal {
            $(#[doc = concat!("`SIG", stringify!($name), "`.")] pub const $name: Self = Self($number);)*
        }
    };
}

// Those the kernel itself raises or treats specially.
signals! {
    ILL = 4, TRAP = 5, BUS = 7, FPE = 8, KILL = 9, SEGV = 11, ALRM = 14, CHLD = 17, CONT = 18, STOP = 19, TSTP = 20,
    TTIN = 21, TTOU = 22, URG = 23, VTALRM = 26, PROF = 27, WINCH = 28,
}

impl Signal {
    /// Checks a number from a program.
    pub fn new(number: u64) -> Option<Self> {
        (1..=64).contains(&number).then_some(Self(number as u8))
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name without `SIG`, or `RT` for real-time signals.
    pub fn name(self) -> &'static str {
        NAMES.get(self.0 as usize - 1).unwrap_or(&"RT")
    }

    /// Whether several of it may be queued.
    pub fn is_realtime(self) -> bool {
        self.0 >= 32
    }

    /// See [`DefaultAction`].
    pub fn default_action(self) -> DefaultAction {
        match self {
            Self::CHLD | Self::URG | Self::WINCH | Self::CONT | Self::STOP | Self::TSTP | Self::TTIN | Self::TTOU => {
                DefaultAction::Ignore
            }
            _ => DefaultAction::Terminate,
        }
    }
}

/// A set of signals: bit `n - 1` stands for signal `n`, as in the kernel's `sigset_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// The two that can be neither blocked, caught nor ignored.
    pub const UNBLOCKABLE: Self = Self(1 << (9 - 1) | 1 << (19 - 1));
    /// Those an instruction of the program raises itself; they are delivered before others.
    pub const SYNCHRONOUS: Self = Self(1 << 10 | 1 << 6 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 30);

    /// Just one.
    pub fn only(signal: Signal) -> Self {
        Self(1 << (signal.0 - 1))
    }

    /// Whether it is in the set.
    pub fn contains(self, signal: Signal) -> bool {
        (self & Self::only(signal)).0 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one to deliver first: synchronous ones, then by number (signal(7)).
    pub fn first(self) -> Option<Signal> {
        let urgent = self & Self::SYNCHRONOUS;
        let set = if urgent.is_empty() { self } else { urgent };
        (!set.is_empty()).then(|| Signal(set.0.trailing_zeros() as u8 + 1))
    }

    /// The set as a mask: the unblockable ones taken out.
    pub fn blockable(self) -> Self {
        self & !Self::UNBLOCKABLE
    }
}

impl BitOr for SignalSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
impl BitOrAssign for SignalSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
impl BitAnd for SignalSet {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}
impl Not for SignalSet {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUP: Signal = Signal(1);

    #[test]
    fn numbers_are_checked() {
        assert_eq!((Signal::new(0), Signal::new(65)), (None, None));
        assert_eq!(Signal::new(9), Some(Signal::KILL));
        assert_eq!(Signal::new(64).map(|s| (s.number(), s.name(), s.is_realtime())), Some((64, "RT", true)));
        assert_eq!((HUP.name(), Signal(31).name()), ("HUP", "SYS"));
        assert_eq!((Signal::SEGV.name(), Signal::SEGV.is_realtime()), ("SEGV", false));
    }

    #[test]
    fn faults_come_first_then_the_lowest() {
        let mut set = SignalSet::only(HUP) | SignalSet::only(Signal::SEGV);
        assert_eq!(set.first(), Some(Signal::SEGV));
        set = set & !SignalSet::only(Signal::SEGV);
        set |= SignalSet::only(Signal::KILL);
        assert_eq!(set.first(), Some(HUP));
        assert_eq!(set.blockable(), SignalSet::only(HUP));
        assert_eq!(SignalSet::EMPTY.first(), None);
        for signal in [Signal::SEGV, Signal::BUS, Signal::ILL, Signal::TRAP, Signal::FPE, Signal(31)] {
            assert!(SignalSet::SYNCHRONOUS.contains(signal));
        }
        assert_eq!(SignalSet::SYNCHRONOUS.0.count_ones(), 6);
    }

    #[test]
    fn defaults() {
        assert_eq!(Signal::CHLD.default_action(), DefaultAction::Ignore);
        assert_eq!(Signal::STOP.default_action(), DefaultAction::Ignore);
        for signal in [Signal::ALRM, Signal::VTALRM, Signal::PROF, Signal(10), Signal::new(40).unwrap(), Signal::KILL] {
            assert_eq!(signal.default_action(), DefaultAction::Terminate);
        }
    }
}

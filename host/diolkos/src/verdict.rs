//! How a run ended, as an exit status and at most one line.

use std::io::Write;

use diolkos_common::report::End;

/// The status for failures of diolkos itself, of the hypervisor or of the guest kernel.
pub const OWN_FAILURE: u8 = 125;

/// How a machine came to its end, on any platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The kernel said how the program ended, or why it never began.
    Told(End),
    /// The kernel died without a word.
    TripleFault,
    /// We stopped the machine, because a signal told us to.
    Stopped,
    /// The machine itself failed, for this reason.
    Failed(String),
}

/// What the process leaves with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The exit status.
    pub status: u8,
    /// The line for stderr, if there is anything to explain.
    pub line: Option<String>,
}

impl Verdict {
    /// Judges `ending` of `program`; `signal` is the last that came to us, if any did.
    pub fn new(ending: &Ending, program: &str, signal: Option<i32>) -> Self {
        let with = |status: u8, line: String| Self { status, line: Some(line) };
        match ending {
            Ending::Told(End::Exited(status)) => Self { status: *status, line: None },
            // The user knows: the signal was theirs.
            Ending::Told(End::Killed(number)) if signal == Some((*number).into()) => {
                Self { status: 128 + (number & 0x7f), line: None }
            }
            Ending::Told(End::Killed(signal)) => killed(*signal, program),
            Ending::Told(End::NotStarted { status, message }) => {
                // The guest chooses the number; only these three mean what we promise.
                let status = if matches!(status, 126 | 127) { *status } else { OWN_FAILURE };
                with(status, printable(message))
            }
            Ending::Told(End::Panicked(message)) => {
                with(OWN_FAILURE, format!("the guest kernel panicked: {}", printable(message)))
            }
            Ending::TripleFault => with(
                OWN_FAILURE,
                "the guest kernel died of a triple fault and left no message; --verbose shows how far it came"
                    .to_owned(),
            ),
            Ending::Stopped => match signal.and_then(|signal| u8::try_from(signal).ok()) {
                Some(signal) => Self { status: 128 + (signal & 0x7f), line: None },
                None => with(OWN_FAILURE, "the machine was stopped".to_owned()),
            },
            Ending::Failed(reason) => with(OWN_FAILURE, printable(reason)),
        }
    }
}

fn killed(signal: u8, program: &str) -> Verdict {
    if !(1..=64).contains(&signal) {
        let line = format!("the guest kernel reported an impossible signal, {signal}");
        return Verdict { status: OWN_FAILURE, line: Some(line) };
    }
    let name = signal_hook::low_level::signal_name(signal.into());
    // Like a shell, no word about a program whose reader went away.
    let line = (i32::from(signal) != libc::SIGPIPE).then(|| match name {
        Some(name) => format!("{program}: killed by signal {signal} ({name})"),
        None => format!("{program}: killed by signal {signal}"),
    });
    Verdict { status: 128 + signal, line }
}

/// Text from the guest, made safe for one line of a terminal: control characters are shown, not obeyed.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match character {
            '\n' => out.push_str("; "),
            '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Writes `diolkos: line` to stderr. A stderr that is gone is nobody's fault.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "diolkos: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(ending: Ending) -> (u8, String) {
        let verdict = Verdict::new(&ending, "prog", Some(libc::SIGTERM));
        (verdict.status, verdict.line.unwrap_or_default())
    }

    #[test]
    fn the_programs_own_end_is_passed_on() {
        assert_eq!(verdict(Ending::Told(End::Exited(7))), (7, String::new()));
        assert_eq!(verdict(Ending::Told(End::Killed(11))), (139, "prog: killed by signal 11 (SIGSEGV)".into()));
        assert_eq!(verdict(Ending::Told(End::Killed(13))), (141, String::new()));
        assert_eq!(verdict(Ending::Told(End::Killed(15))), (143, String::new()), "it came from us");
        assert_eq!(verdict(Ending::Stopped), (143, String::new()));
    }

    #[test]
    fn a_panic_and_a_triple_fault_are_told_apart() {
        let (status, panic) = verdict(Ending::Told(End::Panicked("out of frames\n".into())));
        assert_eq!((status, panic.as_str()), (125, "the guest kernel panicked: out of frames"));
        let (status, fault) = verdict(Ending::TripleFault);
        assert!(status == 125 && fault.contains("triple fault") && !fault.contains("panicked"));
    }

    #[test]
    fn a_lying_guest_cannot_choose_any_status_or_drive_the_terminal() {
        let lie = |status| Ending::Told(End::NotStarted { status, message: "x\x1b[2J\r\ny".into() });
        assert_eq!(verdict(lie(0)), (125, "x\\u{1b}[2J\\r; y".into()));
        assert_eq!(verdict(lie(127)).0, 127);
        for signal in [0, 65, 200] {
            assert_eq!(verdict(Ending::Told(End::Killed(signal))).0, 125);
        }
    }
}

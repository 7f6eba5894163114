//! Pseudo-terminals (pty(7)): [`pair`] is the files, [`discipline`] what happens between them.

pub mod discipline;
#[cfg(guest)]
pub mod pair;
#[cfg(test)]
mod tests;

use linux_raw_sys::general as raw;

/// What a terminal starts with: `stty sane` at 38400 baud (`tty_std_termios` in Linux' drivers/tty/tty_io.c).
pub fn ordinary() -> raw::termios2 {
    let mut control = [0; 19];
    for (at, value) in [
        (raw::VINTR, 3),
        (raw::VQUIT, 28),
        (raw::VERASE, 127),
        (raw::VKILL, 21),
        (raw::VEOF, 4),
        (raw::VMIN, 1),
        (raw::VSTART, 17),
        (raw::VSTOP, 19),
        (raw::VSUSP, 26),
        (raw::VREPRINT, 18),
        (raw::VDISCARD, 15),
        (raw::VWERASE, 23),
        (raw::VLNEXT, 22),
    ] {
        control[at as usize] = value;
    }
    raw::termios2 {
        c_iflag: raw::ICRNL | raw::IXON,
        c_oflag: raw::OPOST | raw::ONLCR,
        c_cflag: raw::B38400 | raw::CS8 | raw::CREAD,
        c_lflag: raw::ISIG
            | raw::ICANON
            | raw::ECHO
            | raw::ECHOE
            | raw::ECHOK
            | raw::ECHOCTL
            | raw::ECHOKE
            | raw::IEXTEN,
        c_line: 0,
        c_cc: control,
        c_ispeed: 38400,
        c_ospeed: 38400,
    }
}

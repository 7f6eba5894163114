//! What the guest must know of the user's terminal.

use diolkos_common::cmdline::Terminal;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{isatty, tcgetwinsize};

/// Which of the standard streams are a terminal, and the size of the first that is.
pub fn look() -> Terminal {
    let streams = [stdin(), stdout(), stderr()];
    let size = streams.iter().find_map(|stream| tcgetwinsize(stream).ok());
    Terminal { streams: streams.map(isatty), size: size.map_or((0, 0), |size| (size.ws_col, size.ws_row)) }
}

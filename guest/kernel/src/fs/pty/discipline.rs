//! The line discipline of a pseudo-terminal: what becomes of bytes on their way between its two ends (termios(3), and
//! Linux' drivers/tty/n_tty.c). Pure: bytes and settings in, bytes out.
//!
//! What is typed at the master is edited into lines (`ICANON`) or passed on as it comes, and shown on the way (`ECHO`); what
//! the slave prints is adjusted (`OPOST`). Left out: parity marks, `ECHOPRT`, and delays. Characters that would send a signal
//! do what else they do: no process group belongs to such a terminal here.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use linux_raw_sys::general::{self as raw, termios2};

/// Most bytes that wait at either end. A line is no longer than [`LINE_MAX`].
pub const CAPACITY: usize = 64 << 10;
/// Bytes of a line with its end (`MAX_CANON` and more in Linux' n_tty.c).
const LINE_MAX: usize = 4096;

/// A terminal's lines on their way.
pub struct Discipline {
    settings: termios2,
    /// The line being typed.
    edited: Vec<u8>,
    /// What the slave may read, and in lines the lengths of these. An end of file is a line without a newline.
    ready: VecDeque<u8>,
    lines: VecDeque<usize>,
    /// What the master may read.
    shown: VecDeque<u8>,
    column: usize,
    /// The next byte is taken as it is (`VLNEXT`).
    literal: bool,
    /// Output stands still (`VSTOP`).
    stopped: bool,
}

/// The control character `^X` of a byte, for showing.
fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// A byte within a character of UTF-8.
fn continues(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

impl Discipline {
    /// A quiet terminal.
    pub fn new(settings: termios2) -> Self {
        Self {
            settings,
            edited: Vec::new(),
            ready: VecDeque::new(),
            lines: VecDeque::new(),
            shown: VecDeque::new(),
            column: 0,
            literal: false,
            stopped: false,
        }
    }

    /// Present settings.
    pub fn settings(&self) -> termios2 {
        self.settings
    }

    /// Changes the settings. What was typed and not read yet stays: as one line, or without lines.
    pub fn set_settings(&mut self, settings: termios2) {
        let before = self.edits();
        self.settings = settings;
        if before != self.edits() {
            self.ready.extend(self.edited.drain(..));
            self.lines.clear();
            if self.edits() && !self.ready.is_empty() {
                self.lines.push_back(self.ready.len());
            }
        }
        self.stopped &= self.input(raw::IXON);
    }

    fn input(&self, flag: u32) -> bool {
        self.settings.c_iflag & flag != 0
    }

    fn output(&self, flag: u32) -> bool {
        self.settings.c_oflag & flag != 0
    }

    fn local(&self, flag: u32) -> bool {
        self.settings.c_lflag & flag != 0
    }

    fn edits(&self) -> bool {
        self.local(raw::ICANON)
    }

    /// Whether a byte is this control character; 0 stands for none.
    fn is(&self, byte: u8, which: u32) -> bool {
        byte != 0 && self.settings.c_cc[which as usize] == byte
    }

    /// How many bytes may be typed now. A line that is too long is cut, so that its end can always be typed.
    pub fn room_to_type(&self) -> usize {
        CAPACITY.saturating_sub(self.ready.len() + self.edited.len())
    }

    /// A byte is typed at the master.
    pub fn type_in(&mut self, byte: u8) {
        let mut byte = if self.input(raw::ISTRIP) { byte & 0x7f } else { byte };
        if core::mem::take(&mut self.literal) {
            return self.add(byte);
        }
        if self.input(raw::IUCLC) && self.local(raw::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if self.input(raw::IXON) && self.controls_flow(byte) {
            return;
        }
        if self.local(raw::ISIG) && [raw::VINTR, raw::VQUIT, raw::VSUSP].iter().any(|key| self.is(byte, *key)) {
            if !self.local(raw::NOFLSH) {
                self.forget_input();
                self.shown.clear();
            }
            return self.echo(byte);
        }
        match byte {
            b'\r' if self.input(raw::IGNCR) => return,
            b'\r' if self.input(raw::ICRNL) => byte = b'\n',
            b'\n' if self.input(raw::INLCR) => byte = b'\r',
            _ => {}
        }
        if self.edits() { self.edit(byte) } else { self.add(byte) }
    }

    /// Whether a byte starts or stops the output.
    fn controls_flow(&mut self, byte: u8) -> bool {
        if self.is(byte, raw::VSTART) {
            self.stopped = false;
        } else if self.is(byte, raw::VSTOP) {
            self.stopped = true;
        } else {
            self.stopped &= !self.input(raw::IXANY);
            return false;
        }
        true
    }

    /// A byte of a line.
    fn edit(&mut self, byte: u8) {
        let extended = self.local(raw::IEXTEN);
        if self.is(byte, raw::VERASE) {
            self.erase_character();
        } else if extended && self.is(byte, raw::VWERASE) {
            while self.edited.last().is_some_and(|last| !last.is_ascii_alphanumeric() && *last != b'_') {
                self.erase_character();
            }
            while self.edited.last().is_some_and(|last| last.is_ascii_alphanumeric() || *last == b'_') {
                self.erase_character();
            }
        } else if self.is(byte, raw::VKILL) {
            self.kill_line(byte);
        } else if extended && self.is(byte, raw::VLNEXT) {
            self.literal = true;
            if self.local(raw::ECHO) && self.local(raw::ECHOCTL) {
                self.show(b'^');
                self.show(8);
            }
        } else if extended && self.local(raw::ECHO) && self.is(byte, raw::VREPRINT) {
            self.echo(byte);
            self.show(b'\n');
            for byte in self.edited.clone() {
                self.echo(byte);
            }
        } else if byte == b'\n' {
            if self.local(raw::ECHO) || self.local(raw::ECHONL) {
                self.show(b'\n');
            }
            self.end_line(Some(byte));
        } else if self.is(byte, raw::VEOF) {
            self.end_line(None);
        } else if self.is(byte, raw::VEOL) || extended && self.is(byte, raw::VEOL2) {
            self.echo(byte);
            self.end_line(Some(byte));
        } else {
            self.add(byte);
        }
    }

    /// Takes a byte as it is. What does not fit is lost, with a bell.
    fn add(&mut self, byte: u8) {
        let full = if self.edits() { self.edited.len() + 1 >= LINE_MAX } else { self.ready.len() >= CAPACITY };
        if full {
            if self.input(raw::IMAXBEL) {
                self.show(7);
            }
            return;
        }
        self.echo(byte);
        if self.edits() { self.edited.push(byte) } else { self.ready.push_back(byte) }
    }

    fn end_line(&mut self, end: Option<u8>) {
        // Ends of files take no room, but must not be without number either.
        if self.lines.len() >= LINE_MAX && end.is_none() {
            return;
        }
        self.edited.extend(end);
        self.lines.push_back(self.edited.len());
        self.ready.extend(self.edited.drain(..));
    }

    fn erase_character(&mut self) {
        let Some(mut last) = self.edited.pop() else { return };
        while self.input(raw::IUTF8)
            && continues(last)
            && let Some(before) = self.edited.pop()
        {
            last = before;
        }
        if self.local(raw::ECHO) && self.local(raw::ECHOE) {
            let width = if is_control(last) && self.local(raw::ECHOCTL) { 2 } else { 1 };
            for byte in b"\x08 \x08".repeat(width) {
                self.show(byte);
            }
        } else if self.local(raw::ECHO) {
            self.echo(self.settings.c_cc[raw::VERASE as usize]);
        }
    }

    fn kill_line(&mut self, key: u8) {
        if self.local(raw::ECHO) && self.local(raw::ECHOK) && self.local(raw::ECHOKE) && self.local(raw::ECHOE) {
            while !self.edited.is_empty() {
                self.erase_character();
            }
            return;
        }
        self.edited.clear();
        self.echo(key);
        if self.local(raw::ECHO) && self.local(raw::ECHOK) {
            self.show(b'\n');
        }
    }

    /// Shows a typed byte, if that is wanted.
    fn echo(&mut self, byte: u8) {
        if !self.local(raw::ECHO) {
            return;
        }
        if self.local(raw::ECHOCTL) && is_control(byte) && byte != b'\t' {
            self.show(b'^');
            self.show(byte ^ 0x40);
        } else {
            self.show(byte);
        }
    }

    /// Shows a byte as if it were printed. Nobody waits for it: what does not fit is lost.
    fn show(&mut self, byte: u8) {
        if self.shown.len() + WIDEST <= CAPACITY {
            self.adjust(byte);
        }
    }

    /// How many bytes may be printed now.
    pub fn room_to_print(&self) -> usize {
        if self.stopped { 0 } else { CAPACITY.saturating_sub(self.shown.len()) / WIDEST }
    }

    /// A byte is printed by the slave, who has asked for room.
    pub fn print(&mut self, byte: u8) {
        self.adjust(byte);
    }

    /// `do_output_char`.
    fn adjust(&mut self, byte: u8) {
        if !self.output(raw::OPOST) {
            return self.shown.push_back(byte);
        }
        match byte {
            b'\n' => {
                if self.output(raw::ONLCR) {
                    self.shown.push_back(b'\r');
                    self.column = 0;
                } else if self.output(raw::ONLRET) {
                    self.column = 0;
                }
            }
            b'\r' if self.output(raw::ONOCR) && self.column == 0 => return,
            b'\r' if self.output(raw::OCRNL) => {
                if self.output(raw::ONLRET) {
                    self.column = 0;
                }
                return self.shown.push_back(b'\n');
            }
            b'\r' => self.column = 0,
            b'\t' => {
                let width = 8 - self.column % 8;
                self.column += width;
                if self.settings.c_oflag & raw::TABDLY == raw::XTABS {
                    return self.shown.extend(core::iter::repeat_n(b' ', width));
                }
            }
            8 => self.column = self.column.saturating_sub(1),
            _ if is_control(byte) || self.input(raw::IUTF8) && continues(byte) => {}
            _ => self.column += 1,
        }
        self.shown.push_back(if self.output(raw::OLCUC) { byte.to_ascii_uppercase() } else { byte });
    }

    /// Stops the output or lets it go on (`TCXONC`).
    pub fn stop(&mut self, stopped: bool) {
        self.stopped = stopped;
    }

    /// Forgets what was typed and not read.
    pub fn forget_input(&mut self) {
        self.edited.clear();
        self.ready.clear();
        self.lines.clear();
    }

    /// Forgets what was printed and not read.
    pub fn forget_output(&mut self) {
        self.shown.clear();
    }

    /// Bytes the slave could read now; `None` if it has to wait. An end of file is nothing that can be read now.
    pub fn to_read(&self) -> Option<usize> {
        if self.edits() { self.lines.front().copied() } else { Some(self.ready.len()).filter(|len| *len > 0) }
    }

    /// Bytes of all whole lines, or of all that was typed (`FIONREAD`).
    pub fn typed(&self) -> usize {
        self.ready.len()
    }

    /// How many bytes a read waits for, and how long in tenths of a second, where there are no lines (`VMIN`, `VTIME`).
    pub fn patience(&self) -> Option<(usize, u64)> {
        let value = |which: u32| self.settings.c_cc[which as usize];
        (!self.edits()).then(|| (value(raw::VMIN).into(), value(raw::VTIME).into()))
    }

    /// A copy of what the slave reads next: no more than a line.
    pub fn next_read(&self, most: usize) -> Vec<u8> {
        self.ready.iter().take(self.to_read().unwrap_or(0).min(most)).copied().collect()
    }

    /// The slave has read so many bytes of that; none of a line without any is the end of a file.
    pub fn was_read(&mut self, len: usize) {
        if self.edits()
            && let Some(line) = self.lines.front_mut()
        {
            *line -= len.min(*line);
            if *line == 0 {
                self.lines.pop_front();
            }
        }
        self.ready.drain(..len.min(self.ready.len()));
    }

    /// Bytes the master can read.
    pub fn printed(&self) -> usize {
        self.shown.len()
    }

    /// A copy of what the master reads next.
    pub fn next_printed(&self, most: usize) -> Vec<u8> {
        self.shown.iter().take(most).copied().collect()
    }

    /// The master has read so many bytes of that.
    pub fn was_printed(&mut self, len: usize) {
        self.shown.drain(..len.min(self.shown.len()));
    }
}

/// Bytes that one may become: a tab of spaces.
const WIDEST: usize = 8;

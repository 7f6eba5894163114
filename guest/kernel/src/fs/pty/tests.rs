use super::discipline::{CAPACITY, Discipline};
use super::ordinary;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;

fn terminal() -> Discipline {
    Discipline::new(ordinary())
}

fn type_all(terminal: &mut Discipline, bytes: &[u8]) {
    bytes.iter().for_each(|byte| terminal.type_in(*byte));
}

fn print_all(terminal: &mut Discipline, bytes: &[u8]) {
    bytes.iter().for_each(|byte| terminal.print(*byte));
}

/// One read of the slave; `None` if it would wait.
fn read(terminal: &mut Discipline, most: usize) -> Option<Vec<u8>> {
    terminal.to_read()?;
    let bytes = terminal.next_read(most);
    terminal.was_read(bytes.len());
    Some(bytes)
}

fn shown(terminal: &mut Discipline) -> Vec<u8> {
    let bytes = terminal.next_printed(CAPACITY);
    terminal.was_printed(bytes.len());
    bytes
}

#[test]
fn a_line_is_read_when_it_has_ended_and_shown_at_once() {
    let mut terminal = terminal();
    type_all(&mut terminal, b"hel");
    assert_eq!((read(&mut terminal, 99), shown(&mut terminal)), (None, b"hel".to_vec()));
    type_all(&mut terminal, b"lo\rmore\n");
    assert_eq!(shown(&mut terminal), b"lo\r\nmore\r\n");
    assert_eq!(read(&mut terminal, 4), Some(b"hell".to_vec()));
    assert_eq!(read(&mut terminal, 99), Some(b"o\n".to_vec()));
    assert_eq!(read(&mut terminal, 99), Some(b"more\n".to_vec()));
    assert_eq!(read(&mut terminal, 99), None);
}

#[test]
fn a_line_is_edited() {
    let mut terminal = terminal();
    type_all(&mut terminal, b"ab\x7fc\x01\x7f\n");
    assert_eq!(shown(&mut terminal), b"ab\x08 \x08c^A\x08 \x08\x08 \x08\r\n");
    assert_eq!(read(&mut terminal, 99), Some(b"ac\n".to_vec()));
    type_all(&mut terminal, b"two words\x17x\x15end\x16\x7f\n");
    assert_eq!(read(&mut terminal, 99), Some(b"end\x7f\n".to_vec()));
    shown(&mut terminal);
    type_all(&mut terminal, b"\x7f\x15\n");
    assert_eq!((read(&mut terminal, 99), shown(&mut terminal)), (Some(b"\n".to_vec()), b"\r\n".to_vec()));
}

#[test]
fn an_end_of_file_is_a_line_without_an_end() {
    let mut terminal = terminal();
    type_all(&mut terminal, b"part\x04\x04");
    assert_eq!(read(&mut terminal, 99), Some(b"part".to_vec()));
    assert_eq!(read(&mut terminal, 99), Some(Vec::new()));
    assert_eq!(read(&mut terminal, 99), None);
}

#[test]
fn raw_bytes_pass_as_they_are() {
    let mut settings = ordinary();
    settings.c_iflag = 0;
    settings.c_oflag = 0;
    settings.c_lflag = 0;
    let mut terminal = Discipline::new(settings);
    type_all(&mut terminal, b"\x03\r\n\x04\x7f");
    print_all(&mut terminal, b"a\nb\t");
    assert_eq!(read(&mut terminal, 99), Some(b"\x03\r\n\x04\x7f".to_vec()));
    assert_eq!(shown(&mut terminal), b"a\nb\t");
    assert_eq!(terminal.patience(), Some((1, 0)));
}

#[test]
fn what_was_typed_survives_a_change_of_mode() {
    let mut terminal = terminal();
    type_all(&mut terminal, b"one\ntw");
    let (lines, mut raw_mode) = (ordinary(), ordinary());
    raw_mode.c_lflag &= !raw::ICANON;
    terminal.set_settings(raw_mode);
    assert_eq!(read(&mut terminal, 5), Some(b"one\nt".to_vec()));
    terminal.set_settings(lines);
    assert_eq!(read(&mut terminal, 99), Some(b"w".to_vec()));
    assert_eq!(read(&mut terminal, 99), None);
}

#[test]
fn output_can_be_stopped_and_adjusted() {
    let mut terminal = terminal();
    type_all(&mut terminal, b"\x13");
    assert_eq!(terminal.room_to_print(), 0);
    type_all(&mut terminal, b"\x11");
    assert!(terminal.room_to_print() > 1000);
    terminal.stop(true);
    assert_eq!(terminal.room_to_print(), 0);
    terminal.stop(false);
    print_all(&mut terminal, b"forgotten\n");
    terminal.forget_output();
    let mut settings = terminal.settings();
    settings.c_oflag |= raw::XTABS | raw::OLCUC;
    terminal.set_settings(settings);
    print_all(&mut terminal, b"ab\tc\n\td");
    assert_eq!(shown(&mut terminal), b"AB      C\r\n        D");
}

#[test]
fn a_key_for_a_signal_forgets_what_was_typed() {
    let mut terminal = terminal();
    type_all(&mut terminal, b"gone\x03new\n");
    assert_eq!(shown(&mut terminal), b"^Cnew\r\n");
    assert_eq!(read(&mut terminal, 99), Some(b"new\n".to_vec()));
}

#[test]
fn nothing_grows_without_bound() {
    let mut terminal = terminal();
    for _ in 0..3 * CAPACITY {
        if terminal.room_to_type() > 0 {
            terminal.type_in(b'x');
        }
    }
    type_all(&mut terminal, b"\n");
    assert_eq!(terminal.typed(), 4096);
    assert!(terminal.printed() <= CAPACITY);
}

//! Standard input, output and error: byte for byte, apart, and with both their ends.

use std::io::{BufRead, BufReader, Read, Write};

use crate::each_platform;
use crate::outcome::Outcome;

each_platform! {
    fn cat_passes_its_input_on(on) {
        let bytes: Vec<u8> = (0..1_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        on.run(&["/bin/cat"]).input(bytes).same_as_host();
    }

    fn control_characters_are_not_cooked(on) {
        on.run(&["/bin/cat"]).input((0..=255).collect::<Vec<u8>>()).same_as_host();
    }

    fn an_empty_input_ends_at_once(on) { on.same_as_host(&["/usr/bin/wc", "-c"]); }

    fn input_ends_after_its_last_byte(on) { on.run(&["/usr/bin/wc"]).input("one two\nthree").same_as_host(); }

    fn output_and_error_stay_apart(on) {
        on.same_as_host(&["/bin/sh", "-c", "echo out; echo err >&2; echo more; echo worse >&2; exit 3"]);
    }

    fn an_error_message_reads_as_on_the_host(on) { on.same_as_host(&["/bin/ls", "/no/such/place"]); }

    fn a_lot_of_output_arrives_whole(on) { on.same_as_host(&["/usr/bin/seq", "300000"]); }

    fn input_arrives_while_the_program_runs(on) {
        let vm = on.run(&["/bin/cat"]);
        let mut child = vm.start();
        let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        for line in ["first\n", "second\n"] {
            to.write_all(line.as_bytes()).unwrap();
            let mut answer = String::new();
            from.read_line(&mut answer).unwrap();
            assert_eq!(answer, line);
        }
        drop(to);
        assert_eq!(from.read(&mut [0]).unwrap(), 0);
        Outcome::of(child, on.patience()).expect_status(0);
    }

    fn a_program_whose_reader_is_gone_ends(on) {
        let mut child = on.run(&["/usr/bin/yes"]).start();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "y\n");
        // The pipe is closed now; like a shell, we leave with the status of SIGPIPE and say nothing.
        let outcome = Outcome::of(child, on.patience()).expect_status(141);
        assert_eq!(outcome.err(), "");
    }
}

//! Programs that the test talks to while they run, and files that it changes meanwhile.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout};
use std::thread::sleep;
use std::time::Duration;

use crate::vm::Vm;

/// A program in a machine that says a line when it is given one.
pub struct Dialogue<'a> {
    vm: Vm<'a>,
    pub child: Child,
    output: BufReader<ChildStdout>,
}

impl<'a> Dialogue<'a> {
    pub fn start(vm: Vm<'a>) -> Self {
        let mut child = vm.start();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { vm, child, output }
    }

    /// What it says to `question`.
    pub fn ask(&mut self, question: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{question}").unwrap();
        self.line()
    }

    /// What it says by itself.
    pub fn line(&mut self) -> String {
        let mut answer = String::new();
        if self.output.read_line(&mut answer).unwrap() == 0 {
            let mut err = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            panic!("{:?} said nothing and ended: {}: {err}", self.vm, self.child.wait().unwrap());
        }
        answer.trim().to_owned()
    }

    /// Ends its input, and waits for it to end well; what it has written to stderr.
    pub fn end(mut self) -> String {
        drop(self.child.stdin.take());
        let (mut out, mut err) = (String::new(), String::new());
        self.output.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(self.child.wait().unwrap().success(), "{:?}: {out}{err}", self.vm);
        err
    }
}

/// Changes a file so that its time of modification shows it.
pub fn change(path: &Path, act: impl FnOnce(&fs::File)) {
    // The clock for times of files ticks every few milliseconds.
    sleep(Duration::from_millis(30));
    act(&fs::OpenOptions::new().write(true).open(path).unwrap());
}

/// Lets a second pass, for which `--cache auto` believes what it knows.
pub fn outlive_beliefs(cache: &str) {
    if cache == "auto" {
        sleep(Duration::from_millis(1100));
    }
}

//! What a process left: output, complaints, status.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// As a shell has it: 128 + n for a death by signal n.
    pub status: i32,
}

impl Outcome {
    /// Waits for `child`, which must end within `patience`, and collects what it wrote to the pipes it still has.
    pub fn of(child: Child, patience: Duration) -> Self {
        Self::or_timeout(child, patience)
            .unwrap_or_else(|cut_off| panic!("no end within {patience:?}; so far: {}", cut_off.show()))
    }

    /// # Errors
    /// What had been written when the time was up; the child is killed then.
    fn or_timeout(mut child: Child, patience: Duration) -> Result<Self, Self> {
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let deadline = Instant::now() + patience;
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => thread::sleep(Duration::from_millis(3)),
            }
        };
        if ended.is_none() {
            child.kill().unwrap();
        }
        let status = shell_status(child.wait().unwrap());
        let outcome = Self { stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap(), status };
        if ended.is_some() { Ok(outcome) } else { Err(outcome) }
    }

    /// stdout as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stderr as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Panics unless the status is `status`.
    pub fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}", self.show());
        self
    }

    /// Panics unless stderr is one line of diolkos' own that holds all of `words`.
    pub fn expect_line(self, words: &[&str]) -> Self {
        let err = self.err();
        assert!(
            err.starts_with("diolkos: ") && err.trim_end().lines().count() == 1,
            "one line expected: {}",
            self.show()
        );
        for word in words {
            assert!(err.contains(word), "'{word}' expected: {}", self.show());
        }
        self
    }

    /// Panics unless stdout is `text`.
    pub fn expect_out(self, text: &str) -> Self {
        assert_eq!(self.out(), text, "{}", self.show());
        self
    }

    /// Panics unless `self`, from a machine, is what `host` is.
    pub fn expect_same(&self, host: &Self) {
        let compare = |name: &str, guest: &[u8], host: &[u8]| {
            if guest != host {
                let at = guest.iter().zip(host).take_while(|(a, b)| a == b).count();
                let around = |bytes: &[u8]| cut(&bytes[at.saturating_sub(80).min(bytes.len())..]);
                panic!(
                    "{name} differs at byte {at} (machine {} bytes, host {})\n--- machine:\n{}\n--- host:\n{}\n--- all of it: {}",
                    guest.len(),
                    host.len(),
                    around(guest),
                    around(host),
                    self.show()
                );
            }
        };
        compare("stderr", &self.stderr, &host.stderr);
        compare("stdout", &self.stdout, &host.stdout);
        assert_eq!(self.status, host.status, "status differs: {}", self.show());
    }

    fn show(&self) -> String {
        format!("status {}\nstdout: {}\nstderr: {}", self.status, cut(&self.stdout), cut(&self.stderr))
    }
}

/// The beginning of `bytes`, for people.
fn cut(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
    if bytes.len() > 2000 {
        text.push_str(&format!("… ({} bytes)", bytes.len()));
    }
    text
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn shell_status(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

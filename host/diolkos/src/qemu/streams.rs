//! The program's standard streams between QEMU's sockets and our own descriptors, byte for byte.
//!
//! The hard part is the ends. End of input: only our writing side of the socket is shut down, so that QEMU closes the
//! port after the last byte. A reader of our output that is gone: the socket is closed, so that QEMU closes the port and the
//! program gets EPIPE.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::verdict::say;

const BUFFER: usize = 64 * 1024;

/// Our ends of the three sockets, served by a thread each.
pub struct Relays {
    outputs: Vec<JoinHandle<()>>,
}

impl Relays {
    /// Starts the relays; QEMU's ends are returned in the order stdin, stdout, stderr.
    ///
    /// # Errors
    /// No descriptor or thread is left.
    pub fn start() -> io::Result<(Self, [UnixStream; 3])> {
        let (input, input_far) = UnixStream::pair()?;
        let (output, output_far) = UnixStream::pair()?;
        let (error, error_far) = UnixStream::pair()?;
        // Never joined: it may be waiting for a key that nobody will press.
        spawn("stdin", move || relay_input(rustix::stdio::stdin(), &input))?;
        let outputs = vec![
            spawn("stdout", move || relay_output(output, rustix::stdio::stdout(), "stdout"))?,
            spawn("stderr", move || relay_output(error, rustix::stdio::stderr(), "stderr"))?,
        ];
        Ok((Self { outputs }, [input_far, output_far, error_far]))
    }

    /// Waits until everything the guest wrote is written. QEMU must be gone.
    pub fn drain(self) {
        for output in self.outputs {
            let _ = output.join();
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

fn relay_input(from: BorrowedFd, mut to: &UnixStream) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match rustix::io::read(from, &mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                if to.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(from, PollFlags::IN),
            // A closed stdin reads as empty, as it does for a program that does not look.
            Err(_) => break,
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    // QEMU must not see the socket hang up before it has read all of it: it would throw the rest away. So our end
    // stays open until QEMU closes its own.
    while matches!(to.read(&mut buffer), Ok(1..)) {}
}

fn relay_output(mut from: UnixStream, to: BorrowedFd, name: &str) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if let Err(error) = write_all(to, &buffer[..count]) {
                    if error != Errno::PIPE {
                        say(&format!("cannot write to {name}: {}", io::Error::from(error)));
                    }
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn write_all(to: BorrowedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Whoever gave us this descriptor may have made it non-blocking for themselves.
            Err(Errno::AGAIN) => wait_for(to, PollFlags::OUT),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for(fd: BorrowedFd, events: PollFlags) {
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), events)], None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_ends_after_its_last_byte() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let relay = thread::spawn(move || relay_input(reader.as_fd(), &near));
        let data: Vec<u8> = (0..300_000).map(|i| i as u8).collect();
        let sent = data.clone();
        let source = thread::spawn(move || write_all(writer.as_fd(), &sent));
        // However late the other end comes to read, it finds a socket that has not hung up.
        thread::sleep(std::time::Duration::from_millis(50));
        let mut hangup = [PollFd::from_borrowed_fd(far.as_fd(), PollFlags::empty())];
        poll(&mut hangup, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        assert!(!hangup[0].revents().contains(PollFlags::HUP));
        let mut received = Vec::new();
        far.read_to_end(&mut received).unwrap();
        assert!(received == data);
        drop(far);
        relay.join().unwrap();
        source.join().unwrap().unwrap();
    }

    #[test]
    fn a_reader_that_is_gone_closes_the_socket() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        let (near, mut far) = UnixStream::pair().unwrap();
        let relay = thread::spawn(move || relay_output(near, writer.as_fd(), "stdout"));
        far.write_all(b"x").unwrap();
        relay.join().unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
    }
}

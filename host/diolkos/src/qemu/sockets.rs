//! The sockets between us, QEMU and the daemons.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};

/// A listening socket and the first client, connected to it. Neither has a name any more: the one that bind(2) demands
/// lived for a moment in a directory that only this user can enter.
///
/// # Errors
/// There is no room for a temporary directory, or no descriptor left.
pub fn listener_with_client() -> io::Result<(UnixListener, UnixStream)> {
    let folder = tempfile::Builder::new().prefix("diolkos-").tempdir()?;
    let name = folder.path().join("socket");
    let listener = UnixListener::bind(&name)?;
    let client = UnixStream::connect(&name)?;
    folder.close()?;
    Ok((listener, client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_client_is_the_first_to_be_accepted() {
        let (listener, mut client) = listener_with_client().unwrap();
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}

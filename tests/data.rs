//! Folders, files and small programs for tests.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A folder of a test's own, inside the build directory: not in /tmp, which is the machine's own memory there.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The same in memory of the host's.
pub fn folder_in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Writes `bytes` to a new file of `folder`.
pub fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A file of `size` bytes that no two places and no two runs have in common.
pub fn random_file(folder: &Path, name: &str, size: usize) -> PathBuf {
    let path = folder.join(name);
    let mut file = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(&path).unwrap());
    let mut state = RandomState::new().build_hasher().finish() | 1;
    let mut left = size;
    while left > 0 {
        // xorshift64*: not for secrets.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bytes = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        let count = left.min(bytes.len());
        file.write_all(&bytes[..count]).unwrap();
        left -= count;
    }
    file.into_inner().unwrap();
    path
}

/// Compiles a C program into `folder` with `compiler` and `flags`.
pub fn compile(folder: &Path, name: &str, compiler: &str, flags: &[&str], source: &str) -> PathBuf {
    let text = file(folder, &format!("{name}.c"), source.as_bytes());
    let path = folder.join(name);
    let output = Command::new(compiler)
        .args(["-O1", "-o"])
        .arg(&path)
        .arg(&text)
        .args(flags)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}; .ci/run names the packages that tests need"));
    assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    path
}

//! Programs of others that some tests meet (`cargo xtask tools` fetches them, `.ci/run` the rest).

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// QEMU's own daemon, in C.
pub const QEMUS_DAEMON: &str = "/usr/lib/qemu/virtiofsd";

/// Where `cargo xtask tools` puts things.
pub fn folder() -> PathBuf {
    // Cargo gives tests a folder of their own in the one it builds into.
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is a folder's folder").join("tools")
}

/// `path`, if something is there; the test skips what needs it if not.
///
/// # Panics
/// Nothing is there, and this is CI, where nothing may be skipped.
pub fn here(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    missing(&format!("{} is not there; 'cargo xtask tools' and .ci/run fetch what tests need", path.display()));
    None
}

/// Tells that something is skipped.
///
/// # Panics
/// This is CI.
pub fn missing(why: &str) {
    assert!(env::var_os("CI").is_none(), "must be tested in CI: {why}");
    // Not by a macro: those are captured for tests that pass.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

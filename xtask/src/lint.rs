//! `cargo xtask lint`.

use crate::cargo::{cargo, target};
use crate::compatibility;

/// Checks everything that can be checked without running anything.
///
/// # Errors
/// The first check that failed.
pub fn run() -> Result<(), String> {
    compatibility::check()?;
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])?;
    // Most of the kernel exists only in the guest's build, which the line above does not see.
    let guest = target().join("guestclippy");
    let guest = guest.to_str().ok_or("the target directory's path is not UTF-8")?;
    let words =
        ["clippy", "--package", "diolkos-kernel", "--profile", "guest", "--target-dir", guest, "--", "-D", "warnings"];
    cargo(&words, &[("DIOLKOS_GUEST", "1")])?;
    cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])
}

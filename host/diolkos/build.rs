//! Builds the guest kernel with a nested cargo and names the file for `include_bytes!`.
//!
//! The kernel needs a profile, link arguments and a `cfg` of its own, which cargo cannot give to a dependency; so it is
//! built by a second cargo in a target directory of its own (the outer cargo holds the lock of the usual one).
//! Nothing of the outer build may leak into it: clippy's wrapper, RUSTFLAGS and profile overrides of the environment
//! would each give another kernel, or none.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the kernel is made of, relative to the workspace. Directories are watched as a whole.
const SOURCES: [&str; 8] =
    ["guest/kernel", "guest/net", "guest/vfs", "guest/virtio", "guest/virtiofs", "common", "Cargo.toml", "Cargo.lock"];

/// Settings of the outer cargo and rustc that must not reach the nested build, by exact name and by prefix.
const UNWANTED: [&str; 10] = [
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "MAKEFLAGS",
    "TARGET",
];
const UNWANTED_PREFIXES: [&str; 8] = [
    "CARGO_PROFILE_",
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_BUILD_",
    "CARGO_TARGET_",
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "LLVM_PROFILE",
];

/// Names the kernel's profile, one of the workspace's `Cargo.toml`: `guest` unless set, `guest-quick` to build often.
const PROFILE: &str = "DIOLKOS_GUEST_PROFILE";

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().nth(2).expect("this crate lies two folders below the workspace");
    println!("cargo:rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo:rerun-if-env-changed={PROFILE}");
    let profile = env::var(PROFILE).unwrap_or_else(|_| "guest".into());
    let kernel = build_kernel(workspace, &target_directory(), &profile);
    println!("cargo:rustc-env=DIOLKOS_KERNEL={}", kernel.display());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}

/// `TARGET/guest`, beside the profiles of the outer build, so that debug, release and test builds share one kernel.
/// OUT_DIR is `TARGET[/TRIPLE]/PROFILE/build/diolkos-HASH/out`.
fn target_directory() -> PathBuf {
    let out = PathBuf::from(variable("OUT_DIR"));
    out.ancestors().nth(4).expect("OUT_DIR is at least four folders deep").join("guest")
}

fn build_kernel(workspace: &Path, target: &Path, profile: &str) -> PathBuf {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(workspace)
        .args(["build", "--quiet", "--package", "diolkos-kernel", "--bin", "diolkos-kernel", "--profile", profile])
        .arg("--target-dir")
        .arg(target);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if UNWANTED.contains(&&*text) || UNWANTED_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    // Last, for the kernel's own build script asks for it.
    cargo.env("DIOLKOS_GUEST", "1");
    let status = cargo.status().expect("cargo, which runs this script, can be started again");
    if !status.success() {
        println!("cargo:warning=the guest kernel did not build; its errors are above");
        std::process::exit(1);
    }
    target.join(profile).join("diolkos-kernel")
}

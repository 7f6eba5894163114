//! Emits the freestanding link line, only when the command line's build script asks for the guest
//! (`DIOLKOS_GUEST=1`). Otherwise this crate is an ordinary program, so that tests and clippy need nothing special.
//!
//! Code generation keeps the target's defaults: everything is RIP-relative and so links at any fixed address.
//! The later `-no-pie` and `norelro` win over what rustc passes.

use std::env;

fn main() {
    println!("cargo:rerun-if-env-changed=DIOLKOS_GUEST");
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("DIOLKOS_GUEST").is_none() {
        return;
    }
    println!("cargo:rustc-cfg=guest");
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    for arg in [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
        "-Wl,-z,norelro",
        "-Wl,--gc-sections",
        "-Wl,--orphan-handling=warn",
        &format!("-Wl,-T,{manifest}/link.ld"),
        &format!("-Wl,-Map,{out}/kernel.map"),
    ] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}

//! The hypervisors a test runs on.

use std::env;
use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use crate::tools;
use crate::vm::Vm;

/// A hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Kvm,
    Qemu,
}

impl Platform {
    /// This platform, if it is here; the test returns at once if not.
    ///
    /// # Panics
    /// It is not here, and this is CI, where nothing may be skipped.
    pub fn here(self) -> Option<Self> {
        let missing = match self {
            Self::Kvm => match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
                Ok(_) => return Some(self),
                Err(error) => format!("/dev/kvm: {error}"),
            },
            Self::Qemu if in_path("qemu-system-x86_64") => return Some(self),
            Self::Qemu => "qemu-system-x86_64 is not in PATH".to_owned(),
        };
        tools::missing(&format!("{self:?}: {missing}"));
        None
    }

    /// As `--platform` takes it.
    pub fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }

    /// How long a run may take before it counts as hung.
    pub fn patience(self) -> Duration {
        match self {
            Self::Kvm => Duration::from_secs(30),
            Self::Qemu => Duration::from_secs(120),
        }
    }

    /// Size in bytes of a file that counts as big: on QEMU a tenth of the speed must do. `DIOLKOS_TEST_BIG` asks for
    /// the full size on KVM.
    pub fn big_file(self) -> usize {
        match self {
            Self::Kvm if env::var_os("DIOLKOS_TEST_BIG").is_some() => 1 << 30,
            Self::Kvm => 256 << 20,
            Self::Qemu => 24 << 20,
        }
    }

    /// `command` with the host's root directory as its own.
    pub fn run<'a>(self, command: &[&'a str]) -> Vm<'a> {
        Vm::new(self, command)
    }

    /// Runs `command` here and on the host; panics if anything differs.
    pub fn same_as_host(self, command: &[&str]) {
        self.run(command).same_as_host();
    }
}

fn in_path(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder: std::path::PathBuf| Path::new(&folder).join(name).is_file())
}

/// Makes each function a test on each platform: `name::kvm` and `name::qemu`.
#[macro_export]
macro_rules! each_platform {
    ($($(#[$attribute:meta])* fn $name:ident($on:ident) $body:block)*) => {$(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "not every body names something of its file")]
            use super::*;
            use $crate::platform::Platform;

            fn check($on: Platform) $body

            #[test]
            fn kvm() {
                Platform::Kvm.here().into_iter().for_each(check);
            }

            #[test]
            fn qemu() {
                Platform::Qemu.here().into_iter().for_each(check);
            }
        }
    )*};
}

//! A Linux guest in QEMU, with its own virtio-fs client and the virtiofsd that Diolkos in QEMU has.
//!
//! The distribution's kernel is booted with an archive of three things: busybox, the modules for virtio and FUSE, and a script
//! that mounts the host's root and the files, and runs the program there.

use std::fs;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::{Context, Kind, Missing, System, Task, diolkos, guest, version_of, words};
use crate::machine::has_hardware_virtualisation;
use crate::runner::{Helper, Invocation, Output, Runner};

/// In the order in which they need each other.
const MODULES: [&str; 7] =
    ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "fuse", "virtiofs"];

/// A kernel and what it takes to start it.
pub struct Linux {
    qemu: PathBuf,
    virtiofsd: PathBuf,
    busybox: PathBuf,
    kernel: PathBuf,
    modules: Vec<PathBuf>,
    /// As QEMU spells it.
    accelerator: &'static str,
    version: String,
}

/// Looks for everything.
///
/// # Errors
/// What is not there.
pub fn find(context: &Context, runner: &mut dyn Runner) -> Result<Linux, Missing> {
    let qemu = context.finder.needed("qemu-system-x86_64", "qemu-system-x86")?;
    let busybox = context.finder.needed("busybox", "busybox-static")?;
    let virtiofsd = diolkos::virtiofsd(context)?;
    let folder = context.peers.linux.clone().unwrap_or_else(|| context.finder.root());
    let (release, kernel) = kernel(&folder).ok_or_else(|| Missing {
        why: format!("no kernel at {}", folder.join("boot/vmlinuz-*").display()),
        remedy: "apt install linux-image-cloud-amd64, or unpack that package and give the folder by --linux".to_owned(),
    })?;
    let modules = MODULES.iter().map(|name| module(&folder, &release, name)).collect::<Result<_, _>>()?;
    // As Diolkos chooses it for QEMU.
    let kvm = has_hardware_virtualisation() && context.finder.usable("/dev/kvm").is_ok();
    let accelerator = if kvm { "-accel kvm -cpu host" } else { "-accel tcg -cpu max,-erms" };
    let version = format!(
        "Linux {release}; {}; {}; {accelerator}",
        version_of(&qemu, runner, "apt install qemu-system-x86")?,
        version_of(&virtiofsd, runner, "name another with --virtiofsd")?
    );
    Ok(Linux { qemu, virtiofsd, busybox, kernel, modules, accelerator, version })
}

/// The newest kernel in `folder` for which there are modules, and its release.
fn kernel(folder: &Path) -> Option<(String, PathBuf)> {
    let entries = fs::read_dir(folder.join("boot")).ok()?.flatten();
    let release = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned());
    let mut found: Vec<String> = entries.filter_map(release).collect();
    found.retain(|release| modules(folder, release).is_some());
    found.sort();
    let release = found.pop()?;
    let path = folder.join("boot").join(format!("vmlinuz-{release}"));
    Some((release, path))
}

fn modules(folder: &Path, release: &str) -> Option<PathBuf> {
    let places = ["lib/modules", "usr/lib/modules"].map(|place| folder.join(place).join(release).join("kernel"));
    places.into_iter().find(|place| place.is_dir())
}

fn module(folder: &Path, release: &str, name: &str) -> Result<PathBuf, Missing> {
    let kernel = modules(folder, release).unwrap_or_default();
    let places = ["drivers/virtio", "fs/fuse"].map(|place| kernel.join(place).join(format!("{name}.ko")));
    let path = places[0].clone();
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| Missing {
        why: format!("no module {}, or it is compressed", path.display()),
        remedy: "give another kernel by --linux".to_owned(),
    })
}

impl System for Linux {
    fn kind(&self) -> Kind {
        Kind::QemuLinux
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn invocation(&self, task: &Task) -> Result<Invocation, String> {
        let initrd = task.scratch.join("initrd");
        self.initrd(task, &initrd).map_err(|error| format!("{}: {error}", initrd.display()))?;
        let memory = task.amounts.memory() >> 20;
        let mut command = words([&self.qemu]);
        command.extend(words(self.accelerator.split(' ')));
        command.extend(words("-machine q35 -smp 1 -nodefaults -display none -no-reboot".split(' ')));
        command.extend(words(["-serial", "stdio", "-append", "console=ttyS0 quiet loglevel=0 panic=-1", "-kernel"]));
        command.extend(words([&self.kernel]));
        command.extend(words(["-initrd".as_ref(), initrd.as_os_str()]));
        // The daemons see the guest's memory.
        let backend = format!("memory-backend-memfd,id=memory,size={memory}M,share=on,reserve=off");
        command.extend(words(["-m", &format!("{memory}M"), "-object", &backend, "-numa", "node,memdev=memory"]));
        let mut helpers = Vec::new();
        for (tag, source) in [("root", Path::new("/")), ("files", task.place.folder())] {
            let socket = task.scratch.join(format!("{tag}.socket"));
            // A daemon that was killed leaves it, and we would take it for that of its successor.
            let _ = fs::remove_file(&socket);
            command.extend(words(["-chardev", &format!("socket,id={tag},path={}", socket.display())]));
            command.extend(words(["-device", &format!("vhost-user-fs-pci,chardev={tag},tag={tag}")]));
            helpers.push(Helper { command: self.daemon(&socket, source), socket });
        }
        Ok(Invocation { command, helpers, patience: task.patience(Kind::QemuLinux) })
    }

    fn printed(&self, output: &Output) -> Result<String, String> {
        guest::printed(output)
    }
}

impl Linux {
    /// As Diolkos starts it, in words that both virtiofsd understand, the one in C and the one in Rust.
    fn daemon(&self, socket: &Path, source: &Path) -> Vec<std::ffi::OsString> {
        let mut command = words([&self.virtiofsd]);
        command.extend(words([format!("--socket-path={}", socket.display())]));
        command.extend(words(["-o".to_owned(), format!("source={}", source.display())]));
        command.extend(words(["-o", "cache=auto", "-o", "sandbox=chroot", "-o", "xattr"]));
        command
    }

    fn initrd(&self, task: &Task, path: &Path) -> std::io::Result<()> {
        let mut archive = Archive::default();
        for folder in ["bin", "dev", "root"] {
            archive.folder(folder);
        }
        archive.file("bin/busybox", &fs::read(&self.busybox)?);
        for (module, name) in self.modules.iter().zip(MODULES) {
            archive.file(&format!("{name}.ko"), &fs::read(module)?);
        }
        archive.file("init", script(task).as_bytes());
        fs::write(path, archive.finish())
    }
}

fn script(task: &Task) -> String {
    let busybox = "/bin/busybox";
    let mut before = format!("{busybox} mount -t devtmpfs dev /dev\n");
    for module in MODULES {
        before.push_str(&format!("{busybox} insmod /{module}.ko\n"));
    }
    let files = format!("/root{}", task.place.folder().display());
    before.push_str(&format!("{busybox} mount -t virtiofs -o ro root /root\n"));
    before.push_str(&format!("{busybox} mount {}\n", guest::quoted(["-t", "virtiofs", "files", &files])));
    before.push_str(&format!("{busybox} mount -t proc proc /root/proc\n{busybox} mount -t tmpfs tmp /root/tmp\n"));
    before.push_str(&format!("{busybox} mount -o bind /dev /root/dev\n"));
    let program = task.program(task.place);
    let program = guest::quoted(program.iter().map(String::as_str));
    guest::script(Path::new(busybox), &before, &format!("{busybox} chroot /root {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_with_modules_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let boot = folder.path().join("boot");
        fs::create_dir_all(&boot).unwrap();
        for name in ["vmlinuz-6.1.0-1-cloud", "vmlinuz-6.1.0-2-cloud", "vmlinuz-6.9", "config-7"] {
            fs::write(boot.join(name), "").unwrap();
        }
        assert_eq!(kernel(folder.path()), None);
        for release in ["6.1.0-1-cloud", "6.1.0-2-cloud"] {
            fs::create_dir_all(folder.path().join("lib/modules").join(release).join("kernel/fs/fuse")).unwrap();
        }
        let (release, path) = kernel(folder.path()).unwrap();
        assert_eq!((release.as_str(), path), ("6.1.0-2-cloud", boot.join("vmlinuz-6.1.0-2-cloud")));
        fs::write(folder.path().join("lib/modules/6.1.0-2-cloud/kernel/fs/fuse/fuse.ko"), "").unwrap();
        assert!(module(folder.path(), &release, "fuse").unwrap().ends_with("fs/fuse/fuse.ko"));
        assert!(module(folder.path(), &release, "virtio").unwrap_err().why.contains("virtio.ko"));
    }
}

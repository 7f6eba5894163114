//! What is to be run, checked as far as the host alone can check it.
//!
//! A [`Plan`] knows no hypervisor. Building one touches the host only to look: the shared directories are opened once to
//! see that they can be.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use diolkos_common::cmdline::{self, Access, BootOptions, CacheMode};

use diolkos_common::image::Image;
use diolkos_common::root::Root;

use crate::args::{RunOptions, TraceKind};
use crate::disk::Disk;
use crate::environment;
use crate::memory_size::MemorySize;
use crate::root;
use crate::terminal;
use crate::volume::Volume;

/// A piece of the window, and the page size that memory is handed out in; in bytes.
const CHUNK: u64 = 2 << 20;
/// What the kernel and a small program need, in bytes.
const LEAST_MEMORY: u64 = 64 << 20;
/// More than any machine we know of can use, but far from where sums of addresses could overflow; in bytes.
const MOST: u64 = 1 << 40;
/// The window of a share if the user does not say, in bytes.
const DEFAULT_WINDOW: u64 = 2 << 30;

/// A host directory to serve.
#[derive(Debug, Clone)]
pub struct Share {
    /// The virtio-fs tag.
    pub tag: String,
    /// The directory, as an absolute path without symbolic links.
    pub source: PathBuf,
    /// Whether the guest may write to it.
    pub writable: bool,
    /// How long the guest may believe what it knows of the files.
    pub cache: CacheMode,
    /// Its DAX window in bytes, a multiple of 2 MiB; 0 for none.
    pub window: u64,
}

/// Everything a platform needs to know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the kernel is told; the platform adds clocks and addresses.
    pub boot: BootOptions,
    /// The shares in the order of `boot.shares`, the directory ROOT first, if it is one.
    pub shares: Vec<Share>,
    /// The disks: the first is `/dev/vda`.
    pub disks: Vec<Disk>,
    /// The archive that the kernel finds in memory.
    pub initrd: Option<PathBuf>,
    /// Memory of the machine in bytes, a multiple of 2 MiB.
    pub memory: u64,
    /// The option by which the user gave the size of a window: a platform without windows must say so.
    pub window_asked: Option<&'static str>,
}

impl Plan {
    /// Checks `options` and fills in what was not said.
    ///
    /// # Errors
    /// One line that names the option or path at fault and says what to do.
    pub fn new(options: &RunOptions) -> Result<Self, String> {
        let memory = check_memory(options.memory)?;
        if !options.workdir.as_bytes().starts_with(b"/") {
            return Err(format!("--workdir {}: the path must start with '/'", options.workdir.display()));
        }
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let env = environment::build(&options.env, uid)?;
        let image = root::look(&options.root)?;
        let (shares, mounts) = check_shares(options, image.is_none())?;
        let (mut disks, mut initrd) = (options.disk.clone(), options.initrd.clone());
        if let Some(path) = &initrd {
            root::check_initrd(path)?;
        }
        match image {
            None => {}
            Some(Image::Cpio) => {
                if let Some(other) = initrd.replace(options.root.clone()) {
                    let (root, other) = (options.root.display(), other.display());
                    return Err(format!("--initrd {other}: ROOT, {root}, is an archive already, and there can be one"));
                }
            }
            Some(image) => disks.insert(0, image_disk(options, image)?),
        }
        let root = options.rootfs.clone().unwrap_or(match image {
            None => Root::Virtiofs(None),
            Some(Image::Erofs) => Root::Rofs,
            Some(Image::Ext4) => Root::Ext4,
            Some(Image::Cpio) => Root::Ramfs,
        });
        let root_share = root_share(&root, &shares)?;
        let windowless = shares.iter().all(|share| share.window == 0);
        let boot = BootOptions {
            // What the host's own root lists is mounted in it already, and seen there.
            no_fstab: root_share.is_some_and(|share| share.source == Path::new("/")),
            root_overlay: image.is_some() && options.overlay,
            root,
            mounts: options.mount.clone(),
            shares: mounts,
            args: options.program.iter().map(bytes).collect(),
            env,
            workdir: bytes(&options.workdir),
            hostname: "diolkos".to_owned(),
            ids: (uid, gid),
            dax_io: options.dax_io.into(),
            dax: if windowless { cmdline::DaxPolicy::Off } else { options.dax_policy.into() },
            trace: cmdline::Trace {
                syscalls: options.trace.contains(&TraceKind::Syscalls),
                fuse: options.trace.contains(&TraceKind::Fuse),
            },
            verbose: options.verbose,
            no_patch: options.no_patch,
            stats: options.stats,
            cpus: options.cpus as usize,
            terminal: terminal::look(),
            ..BootOptions::default()
        };
        let own_window = || options.volume.iter().any(|volume| volume.window.is_some());
        let window_asked = match options.dax_window {
            Some(_) => Some("--dax-window"),
            None => own_window().then_some("--volume ...:dax=SIZE"),
        };
        Ok(Self { boot, shares, disks, initrd, memory, window_asked })
    }
}

/// The share that is the root, if one is to be.
fn root_share<'a>(root: &Root, shares: &'a [Share]) -> Result<Option<&'a Share>, String> {
    let Some(tag) = root.tag() else { return Ok(shares.iter().find(|share| share.tag == ROOT_TAG)) };
    let found = shares.iter().find(|share| share.tag == tag);
    let tags: Vec<_> = shares.iter().map(|share| share.tag.as_str()).collect();
    found
        .map(Some)
        .ok_or_else(|| format!("--rootfs virtiofs:{tag}: no share has that tag; the tags are {}", tags.join(", ")))
}

fn bytes(text: &OsString) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn check_memory(size: MemorySize) -> Result<u64, String> {
    let say = |why: String| Err(format!("--memory {size}: {why}"));
    match size.0 {
        ..LEAST_MEMORY => say(format!("too little; at least {} is needed", MemorySize(LEAST_MEMORY))),
        bytes if bytes > MOST => say(format!("too much; {} is the most", MemorySize(MOST))),
        bytes if !bytes.is_multiple_of(CHUNK) => say("must be a multiple of 2M".to_owned()),
        bytes => Ok(bytes),
    }
}

/// The size of a window for which `--dax-window` may have been given, in bytes.
///
/// # Errors
/// What is wrong with it.
pub fn default_window(asked: Option<MemorySize>) -> Result<u64, String> {
    asked.map_or(Ok(DEFAULT_WINDOW), |size| check_window(size, "--dax-window "))
}

/// The size of a window in bytes; `named` is the option that gave it.
fn check_window(size: MemorySize, named: &str) -> Result<u64, String> {
    let say = |why: String| Err(format!("{named}{size}: {why}"));
    match size.0 {
        0 => Ok(0),
        1..CHUNK => say("smaller than one piece of the window; give at least 2M, or 0 for none".to_owned()),
        bytes if bytes > MOST => {
            say(format!("too large for the machine's address space; {} is the most", MemorySize(MOST)))
        }
        bytes if !bytes.is_multiple_of(CHUNK) => say("must be a multiple of 2M".to_owned()),
        bytes => Ok(bytes),
    }
}

/// What holds for one share.
struct Rules {
    access: Access,
    cache: CacheMode,
    window: u64,
}

/// An image as the first disk.
fn image_disk(options: &RunOptions, image: Image) -> Result<Disk, String> {
    let shown = options.root.display();
    if options.rw {
        let name = image.name();
        return Err(format!("--rw: {shown} is an {name} image, which is only read; --overlay keeps changes in memory"));
    }
    Ok(Disk { source: options.root.clone(), writable: false })
}

/// The tag of the share that is the directory ROOT.
const ROOT_TAG: &str = "root";

/// The root share, if ROOT is a directory, and the volumes, as the host and as the guest needs them.
fn check_shares(options: &RunOptions, directory: bool) -> Result<(Vec<Share>, Vec<cmdline::Share>), String> {
    let mut shares = Vec::new();
    let mut mounts: Vec<cmdline::Share> = Vec::new();
    let window = default_window(options.dax_window)?;
    let mut add = |tag: String, source: &Path, target: &[u8], rules: Rules, named: &str| {
        let Rules { access, cache, window } = rules;
        let shown = String::from_utf8_lossy(target).into_owned();
        if mounts.iter().any(|mount| mount.target == target) {
            return Err(format!("--volume: two directories cannot both appear at {shown}"));
        }
        let source = check_directory(source).map_err(|why| format!("{named}{}: {why}", source.display()))?;
        shares.push(Share { tag: tag.clone(), source, writable: access.changes_host(), cache, window });
        mounts.push(cmdline::Share { tag, target: target.to_vec(), access, cache });
        Ok(())
    };
    let access = match (options.rw, options.overlay) {
        (true, _) => Access::ReadWrite,
        (_, true) => Access::Overlay,
        _ => Access::ReadOnly,
    };
    let cache = options.cache.into();
    if directory {
        add(ROOT_TAG.to_owned(), &options.root, b"/", Rules { access, cache, window }, "")?;
    }
    for (i, volume) in options.volume.iter().enumerate() {
        let Volume { source, target, access, cache: own_cache, window: own_window } = volume;
        let named = || format!("--volume {}:{}:dax=", source.display(), String::from_utf8_lossy(target));
        let rules = Rules {
            access: *access,
            cache: own_cache.map_or(cache, CacheMode::from),
            window: own_window.map_or(Ok(window), |size| check_window(size, &named()))?,
        };
        add(format!("volume{}", i + 1), source, target, rules, "--volume ")?;
    }
    Ok((shares, mounts))
}

fn check_directory(path: &Path) -> Result<PathBuf, String> {
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such directory".to_owned(),
        std::io::ErrorKind::NotADirectory => {
            "not a directory; give the directory that holds the program's files".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => "permission denied; this user cannot read the directory".to_owned(),
        _ => lowercase(&error.to_string()),
    };
    let absolute = fs::canonicalize(path).map_err(io)?;
    fs::read_dir(&absolute).map_err(io)?;
    Ok(absolute)
}

fn lowercase(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;

    fn plan(words: &[&str]) -> Result<Plan, String> {
        let Command::Run(options) = Arguments::parse_from([&["diolkos", "run"], words].concat()).command else {
            unreachable!("the word is run")
        };
        Plan::new(&options)
    }

    #[test]
    fn the_root_comes_first_and_is_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let volume = format!("{}:/data", folder.path().display());
        let plan = plan(&["--volume", &volume, "/", "ls", "-l"]).unwrap();
        assert_eq!(plan.boot.shares[0].target, b"/");
        assert!(plan.boot.shares[0].access == Access::ReadOnly && !plan.shares[0].writable);
        assert!(plan.boot.shares[1].access == Access::ReadWrite && plan.shares[1].writable);
        assert_eq!(plan.boot.shares[1].tag, plan.shares[1].tag);
        assert_eq!(plan.boot.args, [b"ls".to_vec(), b"-l".to_vec()]);
        assert_eq!(BootOptions::parse(&plan.boot.encode()), Ok(plan.boot));
    }

    #[test]
    fn a_volume_may_have_a_cache_rule_of_its_own() {
        let plan = plan(&["--cache", "always", "--volume", "/:/a", "--volume", "/:/b:cache=none", "/", "ls"]).unwrap();
        let rules: Vec<_> = plan.boot.shares.iter().map(|share| share.cache).collect();
        assert_eq!(rules, [CacheMode::Always, CacheMode::Always, CacheMode::None]);
        assert_eq!(plan.shares.iter().map(|share| share.cache).collect::<Vec<_>>(), rules);
    }

    #[test]
    fn the_root_is_the_directory_unless_another_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, volume) = (folder.path().display().to_string(), format!("{}:/data", folder.path().display()));
        let root =
            |words: &[&str]| plan(&[words, &["--volume", &volume, &path, "ls"]].concat()).map(|plan| plan.boot.root);
        assert_eq!(root(&[]), Ok(Root::Virtiofs(None)));
        assert_eq!(root(&["--rootfs", "auto"]), Ok(Root::Auto));
        assert_eq!(root(&["--rootfs", "virtiofs:volume1"]), Ok(Root::Virtiofs(Some("volume1".into()))));
        let error = root(&["--rootfs", "virtiofs:volume2"]).unwrap_err();
        assert!(error.contains("virtiofs:volume2") && error.contains("root, volume1"), "{error}");
    }

    #[test]
    fn the_list_of_mounts_of_the_hosts_own_root_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(plan(&["/", "ls"]).unwrap().boot.no_fstab);
        assert!(!plan(&[folder.path().to_str().unwrap(), "ls"]).unwrap().boot.no_fstab);
    }

    #[test]
    fn a_window_of_nothing_turns_the_policy_off() {
        assert_eq!(plan(&["--dax-window", "0", "/", "ls"]).unwrap().boot.dax, cmdline::DaxPolicy::Off);
        assert_eq!(plan(&["--dax-policy", "lifo", "/", "ls"]).unwrap().boot.dax, cmdline::DaxPolicy::Lifo);
        assert_eq!(plan(&["--dax-io", "window", "/", "ls"]).unwrap().boot.dax_io, cmdline::DaxIo::Window);
    }

    #[test]
    fn what_lies_under_an_overlay_is_read_only_to_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let volume = format!("{}:/data:overlay", folder.path().display());
        let plan = plan(&["--overlay", "--volume", &volume, "/", "ls"]).unwrap();
        for (share, mount) in plan.shares.iter().zip(&plan.boot.shares) {
            assert_eq!((share.writable, mount.access), (false, Access::Overlay));
        }
    }

    #[test]
    fn every_share_has_a_window_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let volume = |target: &str| format!("{}:{target}", folder.path().display());
        let windows = |words: &[&str]| -> (Vec<u64>, cmdline::DaxPolicy) {
            let (own, none, other) = (volume("/a:dax=64M"), volume("/b:ro:dax=0"), volume("/c"));
            let volumes = ["--volume", &own, "--volume", &none, "--volume", &other, "/", "ls"];
            let plan = plan(&[words, &volumes].concat()).unwrap();
            (plan.shares.iter().map(|share| share.window).collect(), plan.boot.dax)
        };
        let clock = cmdline::DaxPolicy::Clock;
        assert_eq!(windows(&[]), (vec![DEFAULT_WINDOW, 64 << 20, 0, DEFAULT_WINDOW], clock));
        assert_eq!(windows(&["--dax-window", "0"]), (vec![0, 64 << 20, 0, 0], clock));
        let error = plan(&["--volume", &volume("/a:dax=3M"), "/", "ls"]).unwrap_err();
        assert!(error.contains(":/a:dax=3M: must be a multiple"), "{error}");
    }

    #[test]
    fn sizes_that_cannot_work_are_refused() {
        for (option, size, why) in [
            ("--memory", "1M", "too little"),
            ("--memory", "2T", "too much"),
            ("--memory", "67108865", "multiple"),
            ("--dax-window", "1M", "smaller than one piece"),
            ("--dax-window", "3M", "multiple"),
            ("--dax-window", "1000000T", "too large"),
        ] {
            let error = plan(&[option, size, "/", "ls"]).unwrap_err();
            assert!(error.starts_with(option) && error.contains(why), "{error}");
        }
    }
}

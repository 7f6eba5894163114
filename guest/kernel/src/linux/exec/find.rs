//! From a name to a program that may be loaded: search path, permissions, scripts, ELF headers, interpreter.

use super::{StartError, describe, show};
use crate::abi::elf::{ElfError, HEADER_SIZE, Header, Image};
use crate::abi::script::{HEAD_SIZE, Script};
use crate::mm::USER_TOP;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, File, FileType, Location, Lookup, Namespace, SliceSink, WriteDenial};

/// Scripts that may interpret one another (execve(2): `ELOOP` beyond).
const MAX_NESTING: usize = 5;

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `X_OK` of access(2).
const X_OK: u32 = 1;

/// A checked file and what it holds.
pub struct Object {
    /// The open file.
    pub file: Arc<dyn File>,
    /// Where it is.
    pub location: Location,
    /// Nobody writes it meanwhile.
    pub denial: WriteDenial,
    /// Its headers.
    pub image: Image,
}

/// A program ready to be loaded.
pub struct Found {
    /// The program, or the interpreter of a script.
    pub object: Object,
    /// The dynamic linker it asks for.
    pub interpreter: Option<Object>,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
    /// The path that was asked for (`AT_EXECFN`).
    pub execfn: Vec<u8>,
}

/// Why a program cannot be started.
#[derive(Debug)]
pub struct Failure {
    /// What execve(2) returns.
    pub errno: Errno,
    /// What a shell's exit status would be: 127 or 126.
    pub status: u8,
    /// One line, naming the file.
    pub message: String,
}

impl Failure {
    fn new(errno: Errno, path: &[u8], why: &str) -> Self {
        Self { errno, status: 126, message: format!("{}: {why}", show(path)) }
    }

    fn of(errno: Errno, path: &[u8]) -> Self {
        let status = if errno == Errno::ENOENT { 127 } else { 126 };
        Self { status, ..Self::new(errno, path, &describe(errno)) }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self { status: failure.status, message: failure.message }
    }
}

type Result<T> = core::result::Result<T, Failure>;

/// Finds a program as execvp(3) does: a name without a slash along `PATH`, the first that can be executed.
///
/// # Errors
/// See [`Failure`]; a file that may not be executed is reported only if no other is found.
pub fn along_path(
    namespace: &Namespace,
    start: &Location,
    name: &[u8],
    args: &[Vec<u8>],
    env: &[Vec<u8>],
) -> Result<Found> {
    if name.contains(&b'/') {
        return program(namespace, start, name, args.to_vec());
    }
    if name.is_empty() {
        return Err(Failure::of(Errno::ENOENT, b"''"));
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for dir in path.split(|byte| *byte == b':') {
        // An empty entry is the working directory.
        let mut candidate = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
        candidate.push(b'/');
        candidate.extend_from_slice(name);
        // Only what the name itself leads to decides whether to look on.
        match open(namespace, start, &candidate) {
            Ok(_) => return program(namespace, start, &candidate, args.to_vec()),
            Err(failure) if failure.errno == Errno::EACCES => denied = denied.or(Some(failure)),
            Err(failure) if matches!(failure.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(denied.unwrap_or_else(|| Failure::of(Errno::ENOENT, name)))
}

/// A file to be executed.
struct Executable {
    file: Arc<dyn File>,
    location: Location,
    denial: WriteDenial,
}

impl Executable {
    fn with(self, image: Image) -> Object {
        let Self { file, location, denial } = self;
        Object { file, location, denial, image }
    }
}

/// Opens a file to be executed.
fn open(namespace: &Namespace, start: &Location, path: &[u8]) -> Result<Executable> {
    let fail = |errno| Failure::of(errno, path);
    let location = namespace.find(start, path, Lookup::FOLLOW).map_err(fail)?;
    match location.inode().file_type() {
        FileType::Regular => {}
        FileType::Directory => return Err(Failure::new(Errno::EACCES, path, "is a directory")),
        _ => return Err(Failure::new(Errno::EACCES, path, "is not a regular file")),
    }
    location.access(X_OK).map_err(|errno| match errno {
        Errno::EACCES => Failure::new(errno, path, "permission denied: it is not executable"),
        errno => fail(errno),
    })?;
    let denial = WriteDenial::new(location.inode())
        .map_err(|errno| Failure::new(errno, path, "somebody has it open for writing"))?;
    let file = namespace.open_program(&location).map_err(fail)?.file;
    Ok(Executable { file, location, denial })
}

/// Bytes at the beginning of a file that are read at once: in most programs they hold the ELF header, the program headers
/// and the interpreter's name.
const HEAD: usize = 1024;
const _: () = assert!(HEAD >= HEAD_SIZE && HEAD >= HEADER_SIZE);

/// A file and its beginning.
struct Beginning<'a> {
    file: &'a Arc<dyn File>,
    head: Vec<u8>,
}

impl<'a> Beginning<'a> {
    fn of(file: &'a Arc<dyn File>) -> diolkos_vfs::Result<Self> {
        Ok(Self { file, head: read(file, 0, HEAD)? })
    }

    /// `len` bytes at `offset`, fewer only where the file ends.
    fn read(&self, offset: u64, len: usize) -> diolkos_vfs::Result<Vec<u8>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match start.checked_add(len).and_then(|end| self.head.get(start..end)) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => read(self.file, offset, len),
        }
    }
}

/// Reads `len` bytes at `offset`, fewer only where the file ends.
fn read(file: &Arc<dyn File>, offset: u64, len: usize) -> diolkos_vfs::Result<Vec<u8>> {
    let mut bytes = alloc::vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(offset + done as u64, &mut SliceSink::new(&mut bytes[done..]))? {
            0 => break,
            n => done += n,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Checks an ELF file.
fn check(beginning: &Beginning<'_>, path: &[u8]) -> Result<Image> {
    let io = |errno| Failure::of(errno, path);
    let bad = |error: ElfError| Failure::new(Errno::ENOEXEC, path, &format!("{error}"));
    let header = Header::parse(&beginning.head).map_err(bad)?;
    let size = beginning.file.inode().metadata().map_err(io)?.size;
    let whole = header.table_offset.checked_add(header.table_bytes() as u64).is_some_and(|end| end <= size);
    let table = || beginning.read(header.table_offset, header.table_bytes()).map_err(io);
    let table = if whole { table()? } else { Vec::new() };
    // A table cut short is refused by the parser, which says so.
    Image::parse(&header, &table, size, USER_TOP).map_err(bad)
}

/// Finds the program at `path`, following scripts to their interpreters.
///
/// # Errors
/// See [`Failure`].
pub fn program(namespace: &Namespace, start: &Location, path: &[u8], mut args: Vec<Vec<u8>>) -> Result<Found> {
    let mut at = path.to_vec();
    for nesting in 0..=MAX_NESTING {
        let found = open(namespace, start, &at).map_err(|failure| match nesting {
            0 => failure,
            _ => bad_interpreter(path, &at, failure),
        })?;
        let beginning = Beginning::of(&found.file).map_err(|errno| Failure::of(errno, &at))?;
        let head = &beginning.head;
        if head.starts_with(b"#!") {
            let not_valid = || Failure::new(Errno::ENOEXEC, &at, "its first line names no interpreter");
            let script = Script::parse(&head[..head.len().min(HEAD_SIZE)]).ok_or_else(not_valid)?;
            // argv[0] gives way to the interpreter, its argument, and the script's path (execve(2)).
            args.splice(
                ..args.len().min(1),
                [script.interpreter.clone()].into_iter().chain(script.argument).chain([at]),
            );
            at = script.interpreter;
            continue;
        }
        if !head.starts_with(b"\x7fELF") {
            return Err(Failure::new(
                Errno::ENOEXEC,
                &at,
                "is neither an ELF program nor a script with an interpreter",
            ));
        }
        let image = check(&beginning, &at)?;
        let interpreter = match image.interpreter {
            Some((offset, len)) => {
                let name = beginning.read(offset, len).map_err(|errno| Failure::of(errno, &at))?;
                Some(linker(namespace, start, &name, &at)?)
            }
            None => None,
        };
        return Ok(Found { object: found.with(image), interpreter, args, execfn: path.to_vec() });
    }
    Err(Failure::new(Errno::ELOOP, path, "too many scripts interpret one another"))
}

/// What is wrong with an interpreter is told of the file that names it. A missing one counts as "not found", as
/// in bash and dash.
fn bad_interpreter(script: &[u8], interpreter: &[u8], failure: Failure) -> Failure {
    let why = match failure.errno {
        Errno::ENOENT => format!("its interpreter {} does not exist", show(interpreter)),
        _ => format!("its interpreter cannot be run: {}", failure.message),
    };
    Failure { status: failure.status, ..Failure::new(failure.errno, script, &why) }
}

/// The dynamic linker that `program` names, with a NUL behind.
fn linker(namespace: &Namespace, start: &Location, name: &[u8], program: &[u8]) -> Result<Object> {
    let corrupt =
        || Failure::new(Errno::ENOEXEC, program, "is a corrupt ELF file: its interpreter's name does not end");
    let path = name.split(|byte| *byte == 0).next().filter(|path| path.len() < name.len()).ok_or_else(corrupt)?;
    let found = open(namespace, start, path).map_err(|failure| match failure.errno {
        Errno::ENOENT => Failure {
            errno: Errno::ENOENT,
            status: 127,
            message: format!(
                "{} needs the interpreter {}, which the shared directory does not have",
                show(program),
                show(path)
            ),
        },
        _ => bad_interpreter(program, path, failure),
    })?;
    let beginning = Beginning::of(&found.file).map_err(|errno| Failure::of(errno, path))?;
    let image = check(&beginning, path)
        .map_err(|failure| Failure { errno: Errno::ELIBBAD, ..bad_interpreter(program, path, failure) })?;
    Ok(found.with(image))
}

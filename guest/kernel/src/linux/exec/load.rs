//! Putting a program into memory: segments, dynamic linker, vDSO, stack, and the registers to begin with.
//!
//! Addresses: fixed programs lie where they say; others from 0x5555_5555_4000 on, at a random page, as on Linux with its
//! smaller space scaled down; the heap follows at a random distance; the stack ends a random way below the
//! end of user space; the dynamic linker and the vDSO lie wherever mappings go.

use super::find::{Found, Object};
use super::{Process, show};
use crate::abi::elf::{Load, PHDR_SIZE};
use crate::abi::signal_frame::SigFrame;
use crate::abi::stack::{self, Contents};
use crate::abi::vdso;
use crate::arch::{Frame, xstate};
use crate::drivers::rng;
use crate::linux::limits::Resource;
use crate::linux::process::Program;
use crate::mm::space::{MapRequest, Place};
use crate::mm::user::UserPtr;
use crate::mm::vma::{Backing, Marks, Prot};
use crate::mm::{AddressSpace, PAGE_SIZE, USER_TOP, page_down, page_up};
use crate::time;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::auxvec;

/// Where position-independent programs lie at the lowest.
const PIE_BASE: u64 = 0x5555_5555_4000;
/// Pages by which they are moved at most, the heap behind them, and the stack: 256 GiB, 32 MiB, 16 GiB.
const PIE_PAGES: u64 = 1 << 26;
const HEAP_PAGES: u64 = 1 << 13;
const STACK_PAGES: u64 = 1 << 22;
/// What a stack can grow by before its first page faults (`setup_arg_pages` in Linux' fs/exec.c).
const STACK_EXPAND: u64 = 128 << 10;
/// Smallest limit of the main stack, in bytes: the arguments must fit.
const MIN_STACK: u64 = stack::MAX_TOTAL as u64 + (1 << 20);

/// A random number below `limit`, which is a power of two.
fn random(limit: u64) -> u64 {
    let mut bytes = [0; 8];
    rng::fill(&mut bytes);
    u64::from_le_bytes(bytes) & (limit - 1)
}

/// An ordinary private mapping.
fn request(place: Place, len: u64, prot: Prot, backing: Backing, name: Option<Arc<str>>) -> MapRequest {
    let (max_prot, shared, marks, populate) = (Prot::all(), false, Marks::empty(), false);
    MapRequest { place, len, prot, max_prot, shared, marks, backing, name, populate }
}

/// Loads a program into its process' address space, which is empty and in use, and returns its first registers.
///
/// # Errors
/// `ENOMEM`, and what reading the files gives.
pub fn load(process: &Process, found: Found, env: Vec<Vec<u8>>) -> Result<Frame> {
    let space = process.space();
    let Found { object, interpreter, args, execfn } = found;
    let bias = bias_of(&object)?;
    map_object(&space, &object, bias)?;
    let image = &object.image;
    let (_, last) = image.span();
    space.set_brk_start(last.wrapping_add(bias) + random(HEAP_PAGES) * PAGE_SIZE);
    let (entry, base) = match &interpreter {
        Some(linker) => {
            let base = room_for(&space, linker)?;
            map_object(&space, linker, base)?;
            (linker.image.entry.wrapping_add(base), base)
        }
        None => (image.entry.wrapping_add(bias), 0),
    };
    let vdso = map_vdso(&space)?;
    let credentials = process.credentials.lock().clone();
    let auxv: [(u32, u64); 17] = [
        (auxvec::AT_SYSINFO_EHDR, vdso),
        (auxvec::AT_MINSIGSTKSZ, frame_room()),
        (auxvec::AT_HWCAP, hardware_capabilities()),
        (auxvec::AT_PAGESZ, PAGE_SIZE),
        (auxvec::AT_CLKTCK, 100),
        // Zero where no segment holds the headers, as in Linux.
        (auxvec::AT_PHDR, image.phdrs.map_or(0, |at| at.wrapping_add(bias))),
        (auxvec::AT_PHENT, PHDR_SIZE as u64),
        (auxvec::AT_PHNUM, image.phnum.into()),
        (auxvec::AT_BASE, base),
        (auxvec::AT_FLAGS, 0),
        (auxvec::AT_ENTRY, image.entry.wrapping_add(bias)),
        (auxvec::AT_UID, credentials.uid.real.into()),
        (auxvec::AT_EUID, credentials.uid.effective.into()),
        (auxvec::AT_GID, credentials.gid.real.into()),
        (auxvec::AT_EGID, credentials.gid.effective.into()),
        (auxvec::AT_SECURE, 0),
        // No instruction for the fs and gs bases is offered: the kernel keeps its own base in gs.
        (auxvec::AT_HWCAP2, 0),
    ];
    let auxv: Vec<(u64, u64)> = auxv.into_iter().map(|(key, value)| (key.into(), value)).collect();
    let mut bytes = [0; 16];
    rng::fill(&mut bytes);
    let contents = Contents { args: &args, env: &env, execfn: &execfn, random: bytes, auxv: &auxv };
    let top = USER_TOP - PAGE_SIZE - random(STACK_PAGES) * PAGE_SIZE;
    let stack = stack::build(top, &contents);
    space.set_stack_limit(process.limits.lock().get(Resource::Stack).0.max(MIN_STACK));
    map_stack(&space, (stack.arg_range.0, top), image.exec_stack)?;
    space.set_stack_start(stack.pointer);
    UserPtr::<u8>::new(stack.pointer).write_slice(&stack.bytes)?;
    let moved = |(start, end): (u64, u64)| (start.wrapping_add(bias), end.wrapping_add(bias));
    let (code, data) = image.code_and_data();
    process.set_program(Program {
        exe: Some(object.location),
        _denial: Some(object.denial),
        args,
        env,
        auxv: stack.auxv,
        arg_range: stack.arg_range,
        env_range: stack.env_range,
        code_range: moved(code),
        data_range: moved(data),
        stack_start: stack.pointer,
    });
    Ok(Frame { rip: entry, rsp: stack.pointer, ..Frame::user() })
}

/// How far a program is moved from the addresses in its file.
fn bias_of(object: &Object) -> Result<u64> {
    let image = &object.image;
    if !image.relocatable {
        return Ok(0);
    }
    let (first, _) = image.span();
    let wanted = PIE_BASE + random(PIE_PAGES) * PAGE_SIZE;
    Ok((wanted & !(image.align - 1)).wrapping_sub(first & !(image.align - 1)))
}

/// A free place for a position-independent object, as its bias.
fn room_for(space: &AddressSpace, object: &Object) -> Result<u64> {
    let image = &object.image;
    if !image.relocatable {
        return Ok(0);
    }
    let (first, last) = image.span();
    let len = (last - first).checked_add(image.align).ok_or(Errno::ENOMEM)?;
    let start = space.map(request(Place::Anywhere(0), len, Prot::empty(), Backing::Anonymous, None))?;
    space.unmap(start, len)?;
    let aligned = start.next_multiple_of(image.align);
    Ok(aligned.wrapping_sub(first & !(image.align - 1)))
}

fn map_object(space: &AddressSpace, object: &Object, bias: u64) -> Result<()> {
    let name: Arc<str> = show(&object.location.path()).into();
    object.image.loads.iter().try_for_each(|load| map_segment(space, object, load, bias, &name))
}

/// Maps one segment: the pages that come from the file, then whole pages of zeroes.
fn map_segment(space: &AddressSpace, object: &Object, load: &Load, bias: u64, name: &Arc<str>) -> Result<()> {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, load.read);
    prot.set(Prot::WRITE, load.write);
    prot.set(Prot::EXEC, load.exec);
    // The header parser bounded the addresses without the bias; with it they must begin below USER_TOP too, or the
    // sums here could overflow. Where they end is checked by mapping.
    let start = page_down(load.vaddr).wrapping_add(bias);
    if start >= USER_TOP {
        return Err(Errno::ENOMEM);
    }
    let into = load.vaddr % PAGE_SIZE;
    let file_end = start + into + load.filesz;
    let end = page_up(start + into + load.memsz).ok_or(Errno::ENOMEM)?;
    let mut zeroes = start;
    if load.filesz > 0 {
        zeroes = page_up(file_end).ok_or(Errno::ENOMEM)?;
        let tail = zeroes - file_end;
        let clears = load.memsz > load.filesz && tail > 0;
        // The rest of the last page must read as zeroes even where the program may not write.
        let first = if clears { prot | Prot::WRITE } else { prot };
        let backing = Backing::File { file: object.file.clone(), offset: page_down(load.offset), held: None };
        space.map(request(Place::Fixed(start), zeroes - start, first, backing, Some(name.clone())))?;
        if clears {
            UserPtr::<u8>::new(file_end).write_slice(&[0; PAGE_SIZE as usize][..tail as usize])?;
            if first != prot {
                space.protect(start, zeroes - start, prot)?;
            }
        }
    }
    if end > zeroes {
        space.map(request(Place::Fixed(zeroes), end - zeroes, prot, Backing::Anonymous, None))?;
    }
    Ok(())
}

/// Maps the clock page and the vDSO above it, and returns the vDSO's address.
fn map_vdso(space: &AddressSpace) -> Result<u64> {
    let both = Prot::READ | Prot::WRITE;
    let name = |text: &str| Some(Arc::from(text));
    let start = space.map(request(Place::Anywhere(0), 2 * PAGE_SIZE, both, Backing::Anonymous, name("[vvar]")))?;
    let image = start + PAGE_SIZE;
    space.map(request(Place::Fixed(image), PAGE_SIZE, both, Backing::Anonymous, name("[vdso]")))?;
    let scale = time::scale();
    let clock = vdso::Clock { base: scale.base, mult: scale.mult, wall_base_ns: scale.wall_base_ns };
    UserPtr::<u8>::new(start).write_slice(&clock.to_bytes())?;
    UserPtr::<u8>::new(image).write_slice(&vdso::image())?;
    space.protect(start, PAGE_SIZE, Prot::READ)?;
    space.protect(image, PAGE_SIZE, Prot::READ | Prot::EXEC)?;
    Ok(image)
}

/// Maps the main stack, which ends with the program's arguments, as large as on Linux at the start; it grows.
fn map_stack(space: &AddressSpace, (strings, top): (u64, u64), executable: bool) -> Result<()> {
    let start = page_down(strings) - STACK_EXPAND;
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, executable);
    let area = request(Place::Fixed(start), top - start, prot, Backing::Anonymous, None);
    space.map(MapRequest { marks: Marks::GROWS_DOWN, ..area })?;
    Ok(())
}

/// Bytes a signal frame takes at most: its parts, their alignment, the red zone and a page for the handler itself.
fn frame_room() -> u64 {
    const RED_ZONE: u64 = 128;
    const ALIGNMENT: u64 = 64 + 16;
    xstate::layout().0 as u64 + size_of::<SigFrame>() as u64 + RED_ZONE + ALIGNMENT + PAGE_SIZE / 4
}

/// `AT_HWCAP` of x86: the feature bits of CPUID leaf 1, EDX, as the program could read them itself.
fn hardware_capabilities() -> u64 {
    core::arch::x86_64::__cpuid(1).edx.into()
}

use super::*;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// push %rax: an instruction of one byte that fills no room.
const PUSH: u8 = 0x50;

/// A page with code at an offset, after `int3` and before pushes.
fn page(at: usize, code: &[u8]) -> Page {
    let mut page = [0xcc; 4096];
    page[at..].fill(PUSH);
    page[at..at + code.len()].copy_from_slice(code);
    page
}

/// glibc's getppid: mov $110,%eax; syscall; ret.
const MOVE: [u8; 8] = [0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3];

#[test]
fn the_number_makes_room() {
    let mut page = page(64, &MOVE);
    assert_eq!(find(&page, 69, 110), Some(Site { jump: 64, short: None }));
    // Made with another number: something jumped to the syscall itself. There may be a gap, however.
    assert_eq!(find(&page, 69, 111), None);
    page[72..80].fill(0xcc);
    assert_eq!(find(&page, 69, 111), Some(Site { jump: 72, short: Some(69) }));
    assert_eq!(find(&page, 70, 110), None, "not a call");
}

#[test]
fn arguments_between_the_number_and_the_call_come_along() {
    // What rustix makes of openat: mov $257,%eax; mov %r15,%rsi; lea 0x10(%rsp),%rdx; xor %r10d,%r10d; syscall.
    let moved: &[u8] = &[0x4c, 0x89, 0xfe, 0x48, 0x8d, 0x54, 0x24, 0x10, 0x45, 0x31, 0xd2];
    let call = |between: &[u8]| {
        let mut code = vec![0xb8, 1, 1, 0, 0];
        code.extend(between);
        let at = 64 + code.len();
        code.extend([0x0f, 0x05]);
        let page = page(64, &code);
        let site = find(&page, at, 257);
        site.map(|site| (site.jump, site.short, site.taken(&page, at).len()))
    };
    assert_eq!(call(moved), Some((64, None, 16)));
    // What knows where it stands (mov 0x10(%rip),%rsi), what stands for something else (call, syscall), and too much.
    for other in [&[0x48, 0x8b, 0x35, 0x10, 0, 0, 0][..], &[0xe8, 0, 0, 0, 0], &[0x0f, 0x05], &moved.repeat(4)] {
        assert_eq!(call(other), None, "{other:x?}");
    }
    // An instruction of which only the end looks like one that could be moved: movabs $..., %rax.
    assert_eq!(call(&[0x48, 0xb8, 0x45, 0x31, 0xd2]), None);
}

#[test]
fn what_only_looks_like_the_number_is_left_alone() {
    // movl $110,-0x48(%rsp); syscall; then nothing but calls: no gap.
    let mut code = vec![0xc7, 0x44, 0x24, 0xb8, 110, 0, 0, 0, 0x0f, 0x05];
    code.extend([PUSH; 200]);
    assert_eq!(find(&page(64, &code), 72, 110), None);
    // mov $110,%r8d; syscall.
    code.splice(..8, [0x41, 0xb8, 110, 0, 0, 0]);
    assert_eq!(find(&page(64, &code), 70, 110), None);
    // Nothing tells where instructions begin.
    let mut all = [PUSH; 4096];
    all[2048..2055].copy_from_slice(&MOVE[..7]);
    assert_eq!(find(&all, 2053, 110), None);
}

#[test]
fn a_gap_behind_the_function_makes_room() {
    // glibc's read: xor %eax,%eax; syscall; cmp $-4096,%rax; ja +1; ret; nopl 0x0(%rax).
    let code = [0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77, 0x01, 0xc3];
    let mut all = page(64, &code);
    let mut filled = |filler: &[u8]| {
        all[77..77 + filler.len()].copy_from_slice(filler);
        find(&all, 66, 0)
    };
    assert_eq!(filled(&[0xcc, 0xcc, 0xcc, 0x90]), None, "three bytes are not enough");
    // The next function begins at 96.
    let long = [0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x44, 0, 0, 0x66, 0x90, 0xcc, 0xcc];
    assert_eq!(filled(&long), Some(Site { jump: 77, short: Some(66) }));
    assert_eq!(&short_jump(66, 77), &[0xeb, 9]);
}

#[test]
fn room_that_somebody_gets_to_is_not_taken() {
    // syscall; mov %rax,%rbx (whose last byte is that of ret); a loop is aligned; call: no end in sight.
    let mut code = vec![0x0f, 0x05, 0x48, 0x89, 0xc3, 0x0f, 0x1f, 0x80, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0];
    code.extend([0x90; 160]);
    assert_eq!(find(&page(64, &code), 64, 1), None);
    // The same after a ret, too far away.
    let mut code = vec![0x0f, 0x05];
    code.extend([0x90; 128]);
    code.push(0xc3);
    assert_eq!(find(&page(64, &code), 64, 1), None);
}

#[test]
fn nothing_reaches_over_the_ends_of_the_page() {
    let mut end = [0xcc; 4096];
    end[4094..].copy_from_slice(&[0x0f, 0x05]);
    assert_eq!(find(&end, 4094, 1), None);
    assert_eq!(find(&end, 4095, 1), None);
    let mut start = [0xcc; 4096];
    start[..6].copy_from_slice(&[1, 0, 0, 0, 0x0f, 0x05]);
    start[6..].fill(PUSH);
    assert_eq!(find(&start, 4, 1), None);
}

#[test]
fn jumps_reach_two_gigabytes() {
    assert_eq!(jump(0x1000, 0x2000), Some([0xe9, 0xfb, 0x0f, 0, 0]));
    assert_eq!(jump(0x2000, 0x1000), Some([0xe9, 0xfb, 0xef, 0xff, 0xff]));
    assert_eq!(jump(0, 1 << 31), Some([0xe9, 0xfb, 0xff, 0xff, 0x7f]));
    assert_eq!(jump(0, (1 << 31) + 5), None);
    assert_eq!(jump(u64::MAX, 0), Some([0xe9, 0xfc, 0xff, 0xff, 0xff]), "round the end");
}

/// Runs a stub on this very processor: it must come to `entry` with the number in eax and the way back in rcx, and
/// nothing else changed.
#[test]
fn a_stub_loads_the_number_and_the_way_back() {
    // entry: lea (%rax,%rcx),%rax; ret
    let entry = [0x48, 0x8d, 0x04, 0x08, 0xc3];
    // SAFETY: a mapping of its own.
    let base = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            4096,
            ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC,
            MapFlags::PRIVATE,
        )
    }
    .unwrap();
    // mov $7,%eax; mov $9,%ecx, which is loaded again; and as much more as there is room for.
    let mut most = vec![0xb8, 7, 0, 0, 0, 0xb9, 9, 0, 0, 0];
    most.resize(MOST_TAKEN, 0x90);
    for (taken, before, sum) in [(&most[..5], 0u64, 7), (&[], 5, 5), (&most[..], 5, 7)] {
        let code = stub(taken, 0x1_2345_6789, base as u64 + 2048);
        // SAFETY: the page is ours; the code is a stub and an entry that returns.
        let result = unsafe {
            base.cast::<u8>().copy_from_nonoverlapping(code.as_ptr(), code.len());
            base.cast::<u8>().add(2048).copy_from_nonoverlapping(entry.as_ptr(), entry.len());
            let result: u64;
            std::arch::asm!("call {stub}", stub = in(reg) base, inout("rax") before => result, out("rcx") _);
            result
        };
        assert_eq!(result, 0x1_2345_6789 + sum);
    }
    // SAFETY: nothing uses it any more.
    unsafe { munmap(base, 4096) }.unwrap();
}

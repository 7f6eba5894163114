//! Guests in assembly, put together by the host's binutils when a test runs.

use std::path::Path;
use std::process::Command;

/// What every guest may use: the machine's constants, and macros. Execution starts in 32-bit protected mode with the
/// boot information in `ebx`; `fail` exits with status 1.
const PRELUDE: &str = r#"
    .set ECAM, 0xe0000000
    .set REGISTERS, 0xe0100000
    .set DOORBELLS, 0xe0200000
    .set WINDOW, 0x100000000

    .macro power_off
        mov $0xf4, %dx
        out %al, %dx
    .endm
    .macro outs from, len
        mov $\from, %esi
        mov $\len, %ecx
        mov $0xe9, %dx
        cld
        rep outsb
    .endm
    .macro expect address, value
        mov \address, %eax
        cmp $\value, %eax
        jne fail
    .endm
    .macro expect_byte address, value
        mov \address, %al
        cmp $\value, %al
        jne fail
    .endm
    .macro succeed
        outs prelude_success, 6
        power_off
    .endm
    .macro long_mode
        mov $0x20, %eax
        mov %eax, %cr4
        mov $prelude_pml4, %eax
        mov %eax, %cr3
        mov $0xc0000080, %ecx
        rdmsr
        or $0x100, %eax
        wrmsr
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        lgdt prelude_gdt_pointer
        ljmp $0x10, $1f
        .code64
    1:
    .endm
    .macro ring3
        mov $prelude_stack, %esp
        push $0x2b
        push $0
        push $0x202
        push $0x33
        push $2f
        iretq
    2:
    .endm

    .section .note.Xen, "a", @note
    .long 4, 4, 18
    .asciz "Xen"
    .long start

    .data
    prelude_success: .byte 16; .long 1; .byte 0
    prelude_failure: .byte 16; .long 1; .byte 1
    .balign 64
    .skip 64
    prelude_stack:
    # Linux' selectors: the only ones that work on hosts which run ring 3 with their own descriptors.
    prelude_gdt: .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0, 0x00cff3000000ffff, 0x00affb000000ffff
    prelude_gdt_pointer: .short 55; .long prelude_gdt
    # The first 5 GiB, one to one.
    .balign 4096
    prelude_pml4: .quad prelude_pdpt + 7
    .balign 4096
    prelude_pdpt:
    .set i, 0
    .rept 5
        .quad prelude_pd + i * 4096 + 7
        .set i, i + 1
    .endr
    .balign 4096
    prelude_pd:
    .set i, 0
    .rept 5 * 512
        .quad i * 0x200000 + 0x87
        .set i, i + 1
    .endr

    .text
    .code32
    .globl start
    fail:
        outs prelude_failure, 6
        power_off
    start:
"#;

/// Assembles a guest.
pub fn assemble(source: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("guest.s"), format!("{PRELUDE}\n{source}\n")).unwrap();
    run("as", &["--64", "-o"], &[&path("guest.o"), &path("guest.s")]);
    let options = ["-Ttext=0x100000", "-z", "noexecstack", "--build-id=none", "-N", "-e", "start", "-o"];
    run("ld", &options, &[&path("guest"), &path("guest.o")]);
    std::fs::read(path("guest")).unwrap()
}

fn run(program: &str, options: &[&str], files: &[&Path]) {
    let output = Command::new(program).args(options).args(files).output().expect("binutils are installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

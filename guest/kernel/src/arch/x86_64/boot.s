# From the PVH entry (32-bit, paging off) to ring 3, in about two dozen ring-0 instructions: on hosts that emulate
# ring 0 each one counts. Nothing is built at run time; descriptor tables, page tables and per-CPU areas are
# assembled constants.

# ---- constants shared by all assembly files; percpu.rs repeats those that Rust needs --------------------------
.set PHYS_BASE, 0x680000000000
.set MONITOR,   PHYS_BASE + 0x110000    # fixed by link.ld
.set PERCPU0,   PHYS_BASE + 0x118000    # fixed by link.ld
.set PERCPU_SIZE, 0x8000
.set CPUS,      64        # places for task state segments; percpu.rs has it too
# offsets in a per-CPU area
.set P_SELF,    0x80      # its own address: gs:P_SELF
.set P_MASK,    0x88      # bit 0: interrupts are recorded, not served
.set P_SAVED,   0x90      # the mask an exception found
.set P_CR2,     0x98
.set P_PENDING, 0xa0      # a bit for each recorded vector 0xc0..0xff
.set P_SCRATCH, 0xa8      # the program's rsp while a system call enters
.set P_CURRENT, 0xb0      # the current thread
.set P_STACK_TOP, 0xb8    # bounds of the current thread's kernel stack
.set P_STACK_LOW, 0xc0
.set P_DUPLICATES, 0xc8   # interrupts delivered twice
.set P_CALLS,   0xd0      # the monitor calls
.set P_CPU,     0x110     # its number
.set P_INT_MASK, 0x118    # the mask an interrupt found, and whether it has noted that and its registers
.set P_INT_SAVED, 0x120
.set P_EXC,     0x200     # return frames of the exception stubs, 48 bytes each
.set P_TSS,     0x900
.set P_INT,     0x1000    # return frames of the interrupt stubs (vectors 0xc0..), 64 bytes each
.set P_IST1,    0x3600    # interrupt stack A; stack B is 64 bytes below
.set P_RSP0,    0x3a00    # exception stack
.set P_TRAP2,   0x3e00    # ring-3 scratch stack of interrupts
.set P_TRAP,    0x4000    # ring-3 scratch stack of exceptions
.set P_IOMAP,   0x4000    # 8 KiB of zeroes: every port is allowed at ring 3

# Linux' own selectors: where ring-3 code runs natively, it runs with the host's real descriptors, and a ring-3
# iretq must name them.
.set KERNEL_CS, 0x10
.set USER_CS,   0x33
.set USER_DS,   0x2b
.set FLAGS,     0x3202    # IF, IOPL 3

# ---- the PVH note ---------------------------------------------------------------------------------------------
.section .note.Xen,"a",@note
.long 4, 8, 18            # XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.quad pvh_start

# ---- entry: ebx = physical address of hvm_start_info ----------------------------------------------------------
.section .boot,"awx",@progbits
.code32
.globl pvh_start
pvh_start:
  lgdt gdt_low
  mov %ebx, boot_start_info
  mov $boot_pml4, %eax
  mov $boot_frame, %esi
  mov $0x40, %edi
enable_long_mode:         # eax = page tables, esi = return frame, edi = selector of the task state segment
  mov %eax, %cr3
  mov $0x50620, %eax      # CR4: PAE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE
  mov %eax, %cr4
  mov $0xc0000080, %ecx   # EFER: SCE LME NXE
  mov $0x901, %eax
  xor %edx, %edx
  wrmsr
  mov $0x80010033, %eax   # CR0: PG WP NE ET MP PE
  mov %eax, %cr0
  ljmp $KERNEL_CS, $long_mode
.code64
long_mode:
  lgdt gdt_high           # the tables must be reachable when the identity map is gone
  lidt idt_high
  ltr %di
  mov $0xff, %al          # the PICs, if there are any, keep silent
  out %al, $0x21
  out %al, $0xa1
  mov %esi, %esp
  iretq

# ---- further processors: their first code, copied to physical address AP_CODE, which the start-up message names ----
.set AP_CODE, 0x8000      # processors.rs has it too
.globl ap_code, ap_code_end, ap_tables, ap_frame, ap_selector, ap_area
.code16
ap_code:                  # real mode, all segments but cs zero
  lgdtl AP_CODE + (ap_gdt - ap_code)
  mov $0x11, %eax         # CR0: ET PE
  mov %eax, %cr0
  ljmpl $8, $ap_protected
ap_gdt:
  .short gdt_end - gdt - 1
  .long gdt
ap_code_end:
.code32
ap_protected:
  mov $0x18, %eax
  mov %eax, %ds
  mov ap_tables, %eax
  mov $ap_frame, %esi
  mov ap_selector, %edi
  jmp enable_long_mode
.code64
.balign 16
ap_tables: .quad 0        # page tables that also map this code where it lies; below 4 GiB
ap_selector: .quad 0
ap_area: .quad 0          # the per-CPU area
ap_frame: .quad ap_ring3_start, USER_CS, FLAGS, 0, USER_DS

.balign 16
.globl boot_start_info
boot_start_info: .quad 0
boot_frame: .quad ring3_start, USER_CS, FLAGS, boot_stack_top, USER_DS
gdt_low:
  .short gdt_end - gdt - 1
  .quad gdt
.balign 8
gdt_high:
  .short gdt_end - gdt - 1
  .quad gdt + PHYS_BASE
.balign 8
idt_high:
  .short 0xfff
  .quad idt + PHYS_BASE
.balign 16
.globl gdt
gdt:
  .quad 0
  .quad 0x00cf9b000000ffff    # 08 32-bit code, for the boot code
  .quad 0x00af9b000000ffff    # 10 kernel code
  .quad 0x00cf93000000ffff    # 18 kernel data
  .quad 0x00cffb000000ffff    # 23 user code, 32-bit
  .quad 0x00cff3000000ffff    # 2b user data
  .quad 0x00affb000000ffff    # 33 user code
  .quad 0
.set base, PERCPU0 + P_TSS    # 40, 50, ... task state segments; percpu.rs adds those of further processors
  .quad (P_IOMAP - P_TSS + 0x2000) | ((base & 0xffffff) << 16) | (0x89 << 40) | (((base >> 24) & 0xff) << 56)
  .quad base >> 32
  .fill 2 * (CPUS - 1), 8, 0
gdt_end:
.balign 16
idt:
.set v, 0
.rept 256
  .set stub, MONITOR + v * 64
  .set type, 0x8e00           # interrupt gate, ring 0 only
  .if v == 3
    .set type, 0xee00         # int3 may be executed at ring 3: it is the monitor call
  .endif
  .if v >= 32
    .set type, 0x8e01         # on IST1
  .endif
  .quad (stub & 0xffff) | (KERNEL_CS << 16) | (type << 32) | (((stub >> 16) & 0xffff) << 48)
  .quad stub >> 32
  .set v, v + 1
.endr

# The first page tables: 4 GiB mapped at 0 (for the few instructions above; removed later) and at PHYS_BASE, in
# 2 MiB pages, since not every host has larger ones. Executable up to 8 MiB only; paging.rs tightens that.
.balign 4096
.globl boot_pml4
boot_pml4:
  .quad boot_pdpt + 7
  .fill (PHYS_BASE >> 39) - 1, 8, 0
  .quad boot_pdpt + 7
  .fill 511 - (PHYS_BASE >> 39), 8, 0
.balign 4096
.globl boot_pdpt
boot_pdpt:
  .quad boot_pd + 7, boot_pd + 0x1007, boot_pd + 0x2007, boot_pd + 0x3007
  .fill 508, 8, 0
.globl boot_pd
boot_pd:
.set i, 0
.rept 4
  .quad (i << 21) | 0x87
  .set i, i + 1
.endr
.rept 2044
  .quad (i << 21) | 0x87 | (1 << 63)
  .set i, i + 1
.endr

.bss
.balign 4096
.globl boot_stack_low, boot_stack_top
boot_stack_low:
.skip 65536
boot_stack_top:

# ---- the first processor's area; percpu.rs makes those of further ones after it --------------------------------
.section .percpu,"aw",@progbits
.globl percpu_area
percpu_area:
.set b, PERCPU0
  .fill P_SELF, 1, 0
  .quad b                               # P_SELF
  .quad 1                               # P_MASK: set until somebody can serve
  .fill P_STACK_TOP - P_SAVED, 1, 0
  .quad boot_stack_top, boot_stack_low  # P_STACK_TOP, P_STACK_LOW
  .quad 0                               # P_DUPLICATES
  .quad call_invlpg, call_halt, call_rdmsr, call_wrmsr, call_xsetbv, call_cr3, call_cpuid, call_set_if   # P_CALLS
  .quad 0                               # P_CPU
  .fill P_EXC - P_CPU - 8, 1, 0
  .set v, 0
  .rept 32
    .quad ring3_vectors + v * 16, USER_CS, FLAGS, b + P_TRAP, USER_DS, 0
    .set v, v + 1
  .endr
  .fill P_TSS - P_EXC - 32 * 48, 1, 0
  .long 0                               # the TSS: rsp0, ist1, I/O bitmap
  .quad b + P_RSP0, 0, 0, 0, b + P_IST1
  .fill 0x66 - 0x2c, 1, 0
  .short P_IOMAP - P_TSS
  .fill P_INT - P_TSS - 0x68, 1, 0
  .set v, 0xc0
  .rept 64
    .quad ring3_vectors + v * 16, USER_CS, FLAGS, b + P_TRAP2, USER_DS, 0, 0, 0
    .set v, v + 1
  .endr
  .fill P_IOMAP - P_INT - 64 * 64, 1, 0
  .fill 0x2000, 1, 0
  .byte 0xff
  .fill PERCPU_SIZE - P_IOMAP - 0x2001, 1, 0

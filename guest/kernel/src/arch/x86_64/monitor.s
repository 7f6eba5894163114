# The monitor: all the code that runs at ring 0 after boot. One 64-byte stub a vector.
#
# An exception or interrupt arrives on a fixed stack of the per-CPU area (RSP0 or IST1); the stub points rsp at a
# return frame prepared there and leaves by iretq to the vector's ring-3 entry (entry.s). The hardware's own frame
# stays where it was pushed, and ring 3 copies it. Everything is reached relative to rsp: the stubs know no CPU.
#
# int3 with r10 in [MAGIC, MAGIC + calls) is a monitor call; any other int3 is reflected like an exception, so a
# program's breakpoint stays one.
.section .monitor,"ax",@progbits
.set MAGIC, 0x0d104b00        # monitor.rs has it too
.set CALLS, 8
.set FRAME3, P_RSP0 - 40      # offset of the frame of an exception without error code

.macro EXCEPTION v, error
  .balign 64
  .set E, P_RSP0 - 40 - 8 * \error
  .if \v == 14
    push %rax
    mov %cr2, %rax            # handed over in rax; the real one lies on this stack
    .set E, E - 8
  .endif
  lea (P_EXC + 48 * \v) - E(%rsp), %rsp
  iretq
.endm

EXCEPTION 0, 0
EXCEPTION 1, 0
EXCEPTION 2, 0
.balign 64                    # 3: int3
  cmp $MAGIC, %r10
  jb 1f
  cmp $(MAGIC + CALLS), %r10
  jae 1f
  jmp *(P_CALLS - FRAME3 - 8 * MAGIC)(%rsp, %r10, 8)
1: lea (P_EXC + 48 * 3) - FRAME3(%rsp), %rsp
  iretq
EXCEPTION 4, 0
EXCEPTION 5, 0
EXCEPTION 6, 0
EXCEPTION 7, 0
EXCEPTION 8, 1
EXCEPTION 9, 0
EXCEPTION 10, 1
EXCEPTION 11, 1
EXCEPTION 12, 1
EXCEPTION 13, 1
EXCEPTION 14, 1
EXCEPTION 15, 0
EXCEPTION 16, 0
EXCEPTION 17, 1
EXCEPTION 18, 0
EXCEPTION 19, 0
EXCEPTION 20, 0
EXCEPTION 21, 1
.set v, 22
.rept 10
  EXCEPTION v, 0
  .set v, v + 1
.endr

# Interrupts. Some hosts deliver one interrupt several times, on top of its own ring-3 entry: before that ran an
# instruction, or later, when it first touched memory for which the host had to do something. With one stack the later
# frames would overwrite the first and the interrupted context be lost. So the first delivery moves IST1 to a second stack
# 64 bytes lower, and there the same rsp-relative lea lands on the return frame of vector v-1, whose ring-3 entry starts
# v over with the first, intact frame. Hence even vectors only. (On the second stack the subtraction hits a word that
# nobody uses.)
.set I, P_IST1 - 40
.rept 255 - 32
  .balign 64
  .if v >= 0xc0
    subq $64, P_TSS + 0x24 - I(%rsp)
    lea (P_INT + 64 * (v - 0xc0)) - I(%rsp), %rsp
  .endif
  iretq
  .set v, v + 1
.endr
.balign 64
  iretq                       # 255, spurious
.balign 64

# The calls. rsp = the int3's frame; arguments and results in registers; all other registers are kept.
call_invlpg:                  # rdi = address, rsi = pages (1 or more); both changed
1: invlpg (%rdi)
  add $4096, %rdi
  dec %rsi
  jnz 1b
  iretq
call_halt:                    # sleeps unless an interrupt is recorded; the mask must be set
  cmpq $0, P_PENDING - FRAME3(%rsp)
  jne 1f
  sti
  hlt
1: iretq
call_rdmsr:
  rdmsr
  iretq
call_wrmsr:
  wrmsr
  iretq
call_xsetbv:
  xsetbv
  iretq
call_cr3:                     # rdi = new CR3
  mov %rdi, %cr3
  iretq
call_cpuid:
  cpuid
  iretq
call_set_if:                  # sets IF in the caller's flags, which ring 3 cannot
  orq $0x200, 16(%rsp)
  iretq

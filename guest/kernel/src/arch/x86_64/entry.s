# The ways into the ring-3 kernel and out.
#
#  exception, interrupt: stub (monitor.s) -> ring3_vectors -> copy the hardware frame to the thread's kernel stack,
#    save registers as a Frame (frame.rs) -> trap_entry(&mut Frame) -> restore -> iretq at ring 3
#  system call: LSTAR -> system_call, at ring 0 on real hardware and at ring 3 where the host keeps it there;
#    or direct_call, from a jump in the program's code; then the same, and back without iretq, which is slow
#
# The interrupt mask is a flag (P_MASK). Kernel code runs with it set; an interrupt that finds it set is recorded in
# P_PENDING and served at the next safe point. An exception must set it before anything else can come in: in the
# short window before it has, [window_start, window_end), the interrupt entry records too.
#
# Which stack: below the interrupted rsp (and its red zone) if that lies in the thread's kernel stack, else at its top.

# Frame offsets
.set F_GPRS, 264
.set F_RDX, 360
.set F_RCX, 368
.set F_RAX, 376
.set F_VECTOR, 384
.set F_CR2, 392
.set F_SAVED, 400
.set F_ERROR, 408
.set F_RIP, 416
.set F_CS, 424
.set F_RFLAGS, 432
.set F_RSP, 440
.set F_SS, 448
.set F_SIZE, 464

# Flags that popfq does not load as iretq does, or that would stop us before we are out: trap, nested task, resume.
.set SLOW_FLAGS, 0x14100

.text
.globl ring3_start
ring3_start:
  mov boot_start_info_address(%rip), %rax
  mov (%rax), %rdi
  call kernel_start
  ud2
.balign 8
boot_start_info_address: .quad boot_start_info + PHYS_BASE

.globl ap_ring3_start
ap_ring3_start:                         # a further processor, on the stack of its idle thread
  mov ap_area_address(%rip), %rax
  mov (%rax), %rdi
  call processor_start
  ud2
.balign 8
ap_area_address: .quad ap_area + PHYS_BASE

.balign 16
window_start:
page_fault:                             # rax = CR2; the real rax at RSP0-56
  btsl $0, P_MASK - (P_TRAP - 8)(%rsp)
  setc P_SAVED - (P_TRAP - 8)(%rsp)
  mov %rax, P_CR2 - (P_TRAP - 8)(%rsp)
  mov P_RSP0 - 56 - (P_TRAP - 8)(%rsp), %rax
  jmp exception_body
exception:
  btsl $0, P_MASK - (P_TRAP - 8)(%rsp)
  setc P_SAVED - (P_TRAP - 8)(%rsp)
  jmp exception_body
.balign 16
.globl ring3_vectors
ring3_vectors:
.set v, 0
.rept 256
  .balign 16
  .if v == 32
    window_end:
  .endif
  .if (v >= 0xc0) && (v & 1)
    pushq $(v + 1)                      # a duplicate of the even vector above
    jmp duplicate
  .else
    pushq $v
    .if v == 14
      jmp page_fault
    .elseif v < 32
      jmp exception
    .else
      jmp interrupt
    .endif
  .endif
  .set v, v + 1
.endr

# rsp = scratch stack: rdx rcx rax vector. Builds the upper part of a Frame, switches to it. `frame` is where the
# hardware pushed (offset in the per-CPU area), S the offset of rsp there.
.macro BUILD_FRAME frame, exception
  mov \frame + 24 - S(%rsp), %rax       # the interrupted rsp
  mov P_STACK_TOP - S(%rsp), %rcx
  cmp %rcx, %rax
  ja 1f
  cmp P_STACK_LOW - S(%rsp), %rax
  jb 1f
  lea -128(%rax), %rcx
1: and $-16, %rcx
  sub $F_SIZE, %rcx
  mov \frame + 0 - S(%rsp), %rdx
  mov %rdx, F_RIP(%rcx)
  mov \frame + 8 - S(%rsp), %rdx
  mov %rdx, F_CS(%rcx)
  mov \frame + 16 - S(%rsp), %rdx
  mov %rdx, F_RFLAGS(%rcx)
  mov %rax, F_RSP(%rcx)
  mov \frame + 32 - S(%rsp), %rdx
  mov %rdx, F_SS(%rcx)
  .if \exception
  mov \frame - 8 - S(%rsp), %rdx        # garbage where the exception has no error code
  mov %rdx, F_ERROR(%rcx)
  movzbl P_SAVED - S(%rsp), %edx
  mov %rdx, F_SAVED(%rcx)
  mov P_CR2 - S(%rsp), %rdx
  mov %rdx, F_CR2(%rcx)
  .else
  movq $0, F_SAVED(%rcx)
  .endif
  mov 24(%rsp), %rdx
  mov %rdx, F_VECTOR(%rcx)
  mov 16(%rsp), %rdx
  mov %rdx, F_RAX(%rcx)
  mov 8(%rsp), %rdx
  mov %rdx, F_RCX(%rcx)
  mov (%rsp), %rdx
  mov %rdx, F_RDX(%rcx)
  .if !\exception
  movl $1, P_MASK - S(%rsp)
  lea P_IST1 - S(%rsp), %rdx
  mov %rdx, P_TSS + 0x24 - S(%rsp)      # back to interrupt stack A, whose frame has been read
  movb $0, P_INT_SAVED - S(%rsp)
  .endif
  lea F_RDX(%rcx), %rsp
  jmp trap_body
.endm

# Notes the vector as pending, restores the scratch registers, goes back to interrupt stack A and to `frame`.
.macro RECORD frame
  mov 24(%rsp), %rcx
  and $63, %ecx
  btsq %rcx, P_PENDING - S(%rsp)
  pop %rdx
  pop %rcx
  pop %rax
  movb $0, P_INT_SAVED - S - 24(%rsp)
  lea \frame - S - 24(%rsp), %rsp
  addq $64, P_TSS + 0x24 - (\frame)(%rsp)
  iretq
.endm

exception_body:
  push %rax
  push %rcx
  push %rdx
  .set S, P_TRAP - 32
  BUILD_FRAME (P_RSP0 - 40), 1

# An interrupt that is delivered again starts over (see monitor.s), wherever it was. It may, until it goes back to interrupt
# stack A: what it found is noted once, and all else it does can be done twice.
duplicate:                              # rsp = vector
  .set S, P_TRAP2 - 8
  incq P_DUPLICATES - S(%rsp)
  testb $1, P_INT_SAVED - S(%rsp)
  jnz saved
interrupt:
  .set S, P_TRAP2 - 8
  mov %rax, -8(%rsp)                    # no register changes before P_INT_SAVED is set
  mov %rcx, -16(%rsp)
  mov %rdx, -24(%rsp)
  testb $1, P_MASK - S(%rsp)
  setnz P_INT_MASK - S(%rsp)
  movb $1, P_INT_SAVED - S(%rsp)
saved:
  lea -24(%rsp), %rsp
  .set S, P_TRAP2 - 32
  testb $3, P_IST1 - 32 - S(%rsp)       # from the monitor's hlt?
  jz from_halt
  testb $1, P_INT_MASK - S(%rsp)
  jnz record
  mov P_IST1 - 40 - S(%rsp), %rax       # inside the window?
  lea window_start(%rip), %rcx
  sub %rcx, %rax
  cmp $(window_end - window_start), %rax
  jb record
  BUILD_FRAME (P_IST1 - 40), 0
record:
  RECORD (P_IST1 - 40)
from_halt:                              # record, and return through the frame of the halt call's int3
  RECORD (P_RSP0 - 40)

# rsp = &frame.rdx
.macro SAVE_REST
  push %rbx
  push %rbp
  push %rsi
  push %rdi
  push %r8
  push %r9
  push %r10
  push %r11
  push %r12
  push %r13
  push %r14
  push %r15
  cld
  sub $F_GPRS, %rsp
  movaps %xmm0, 0(%rsp)
  movaps %xmm1, 16(%rsp)
  movaps %xmm2, 32(%rsp)
  movaps %xmm3, 48(%rsp)
  movaps %xmm4, 64(%rsp)
  movaps %xmm5, 80(%rsp)
  movaps %xmm6, 96(%rsp)
  movaps %xmm7, 112(%rsp)
  movaps %xmm8, 128(%rsp)
  movaps %xmm9, 144(%rsp)
  movaps %xmm10, 160(%rsp)
  movaps %xmm11, 176(%rsp)
  movaps %xmm12, 192(%rsp)
  movaps %xmm13, 208(%rsp)
  movaps %xmm14, 224(%rsp)
  movaps %xmm15, 240(%rsp)
  stmxcsr 256(%rsp)
  ldmxcsr kernel_mxcsr(%rip)
  mov %rsp, %rdi
.endm

# rsp = &Frame, afterwards &frame.rcx: what is there back into all registers but rcx and rax.
.macro LOAD_REST
  ldmxcsr 256(%rsp)
  movaps 0(%rsp), %xmm0
  movaps 16(%rsp), %xmm1
  movaps 32(%rsp), %xmm2
  movaps 48(%rsp), %xmm3
  movaps 64(%rsp), %xmm4
  movaps 80(%rsp), %xmm5
  movaps 96(%rsp), %xmm6
  movaps 112(%rsp), %xmm7
  movaps 128(%rsp), %xmm8
  movaps 144(%rsp), %xmm9
  movaps 160(%rsp), %xmm10
  movaps 176(%rsp), %xmm11
  movaps 192(%rsp), %xmm12
  movaps 208(%rsp), %xmm13
  movaps 224(%rsp), %xmm14
  movaps 240(%rsp), %xmm15
  add $F_GPRS, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %r11
  pop %r10
  pop %r9
  pop %r8
  pop %rdi
  pop %rsi
  pop %rbp
  pop %rbx
  pop %rdx
.endm

trap_body:
  SAVE_REST
  call trap_entry
.globl return_from_frame
return_from_frame:                      # rsp = &Frame
  LOAD_REST
  pop %rcx
  pop %rax
  add $32, %rsp
  iretq
.balign 4
kernel_mxcsr: .long 0x1f80

.balign 16
.globl system_call
system_call:                            # rcx = return address, r11 = flags; rsp is the program's
  movl $1, %gs:P_MASK
  mov %rsp, %gs:P_SCRATCH
  mov %gs:P_STACK_TOP, %rsp
  pushq $0                              # the frame's padding
  pushq $USER_DS
  pushq %gs:P_SCRATCH
  push %r11
  pushq $USER_CS
  push %rcx
  pushq $0                              # error
  pushq $0                              # saved mask
  pushq $0                              # cr2
  pushq $0x100                          # vector: a system call
  push %rax
  push %rcx
  push %rdx
  mov %cs, %eax
  mov %rax, F_CR2 - F_RDX(%rsp)         # the ring we came in at, for the probe at start
  test $3, %al
  jnz 1f
  mov %rsp, %rdx                        # ring 0: go on at ring 3
  lea 1f(%rip), %rax
  pushq $USER_DS
  push %rdx
  pushq $FLAGS
  pushq $USER_CS
  push %rax
  iretq
1: SAVE_REST
  call system_call_entry
  jmp return_from_call

# A system call made by a jump (mm/patch.rs): rcx = return address, and the flags are the program's.
.balign 16
.globl direct_call
direct_call:
  movl $1, %gs:P_MASK
  mov %rsp, %gs:P_SCRATCH
  mov %gs:P_STACK_TOP, %rsp
  pushq $0                              # as above
  pushq $USER_DS
  pushq %gs:P_SCRATCH
  pushfq
  pushq $USER_CS
  push %rcx
  sub $24, %rsp                         # error, saved mask, cr2: nobody asks
  pushq $0x101
  push %rax
  push %rcx
  push %rdx
  SAVE_REST
  call system_call_entry

# As return_from_frame, and some 30 ns faster, for who has just made a system call: rcx holds the return address then.
# It does not where a signal handler or another context is returned to; nor can popfq do all that iretq does.
return_from_call:                       # rsp = &Frame
  mov F_RIP(%rsp), %rcx
  cmp F_RCX(%rsp), %rcx
  jne return_from_frame
  mov %rcx, %rax
  shr $47, %rax                         # a jump there would fault here, not there
  jnz return_from_frame
  testl $SLOW_FLAGS, F_RFLAGS(%rsp)
  jnz return_from_frame
  LOAD_REST
  add $8, %rsp                          # rcx is loaded
  pop %rax
  lea F_RFLAGS - F_VECTOR(%rsp), %rsp
  popfq
  mov (%rsp), %rsp
  jmp *%rcx                             # an interrupt from here is no longer on our stack, and needs nothing of it

# Starts a thread's first context: switch_stacks "returns" here with the body in rbx.
.globl thread_entry
thread_entry:
  mov %rbx, %rdi
  call thread_start
  ud2

# switch_stacks(rdi: where to keep the old rsp, rsi: the new one). Callee-saved registers go on the old stack.
.globl switch_stacks
switch_stacks:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

# resume_frame(rdi: &Frame): leaves the kernel by a frame anywhere in memory.
.globl resume_frame
resume_frame:
  mov %rdi, %rsp
  jmp return_from_frame

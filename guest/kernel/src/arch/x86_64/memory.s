# The memory functions the compiler calls, and the one copy that may fault.
.text
.globl copy_fallible_start, copy_fallible_end, copy_fallible_asm
# copy_fallible(rdi: to, rsi: from, rdx: len) -> rax: bytes left. A fault that cannot be resolved ends it at
# copy_fallible_end with the rest in rcx. Four and eight bytes, if aligned, are moved as one: other processors may be
# changing or waiting for that very word.
copy_fallible_asm:
  mov %rdx, %rcx
  mov %edi, %eax
  or %esi, %eax
copy_fallible_start:
  cmp $8, %rdx
  je 1f
  cmp $4, %rdx
  je 2f
0: rep movsb
  jmp copy_fallible_end
1: test $7, %al
  jnz 0b
  mov (%rsi), %rax
  mov %rax, (%rdi)
  xor %ecx, %ecx
  jmp copy_fallible_end
2: test $3, %al
  jnz 0b
  mov (%rsi), %eax
  mov %eax, (%rdi)
  xor %ecx, %ecx
copy_fallible_end:
  mov %rcx, %rax
  ret

.globl exchange_fallible_start, exchange_fallible_end, exchange_fallible_asm
# exchange_fallible(rdi: word, esi: expected, edx: new) -> rax: what was there. A fault that cannot be resolved ends it
# at exchange_fallible_end with all ones in rax.
exchange_fallible_asm:
  mov %esi, %eax
exchange_fallible_start:
  lock cmpxchg %edx, (%rdi)
  mov %eax, %eax
  ret
exchange_fallible_end:
  mov $-1, %rax
  ret

.globl memcpy, memmove, memset, memcmp, bcmp, strlen, rust_eh_personality, _Unwind_Resume
memcpy:
  mov %rdi, %rax
  cmp $16, %rdx
  jb 3f
  cmp $256, %rdx
  ja 2f
  movups -16(%rsi, %rdx), %xmm1         # the tail first; it may overlap what the loop writes
  lea -16(%rdi, %rdx), %r8
  lea -1(%rdx), %rcx
  and $-16, %rcx                        # whole 16-byte steps before the tail
  jz 8f
1: movups -16(%rsi, %rcx), %xmm0
  movups %xmm0, -16(%rdi, %rcx)
  sub $16, %rcx
  jnz 1b
8: movups %xmm1, (%r8)
  ret
2: mov %rdx, %rcx
  rep movsb
  ret
3: cmp $8, %edx
  jb 4f
  mov (%rsi), %rcx
  mov -8(%rsi, %rdx), %r8
  mov %rcx, (%rdi)
  mov %r8, -8(%rdi, %rdx)
  ret
4: cmp $4, %edx
  jb 5f
  mov (%rsi), %ecx
  mov -4(%rsi, %rdx), %r8d
  mov %ecx, (%rdi)
  mov %r8d, -4(%rdi, %rdx)
  ret
5: test %edx, %edx
  jz 6f
  movzbl (%rsi), %ecx
  movzbl -1(%rsi, %rdx), %r8d
  cmp $3, %edx
  jne 7f
  movzbl 1(%rsi), %r9d
  mov %r9b, 1(%rdi)
7: mov %cl, (%rdi)
  mov %r8b, -1(%rdi, %rdx)
6: ret

memmove:
  mov %rdi, %rcx
  sub %rsi, %rcx
  cmp %rdx, %rcx
  jae memcpy_forward                    # to is below from, or past its end
  mov %rdi, %rax
  mov %rdx, %rcx
  lea -1(%rdi, %rdx), %rdi
  lea -1(%rsi, %rdx), %rsi
  std
  rep movsb
  cld
  ret
memcpy_forward:
  mov %rdi, %rax
  mov %rdx, %rcx
  rep movsb
  ret

memset:
  mov %rdi, %r8
  mov %esi, %eax
  mov %rdx, %rcx
  rep stosb
  mov %r8, %rax
  ret

bcmp:
memcmp:
  xor %ecx, %ecx
  sub $8, %rdx
  jb 2f
1: mov (%rdi, %rcx), %rax
  cmp (%rsi, %rcx), %rax
  jne 2f
  add $8, %rcx
  cmp %rdx, %rcx
  jbe 1b
2: add $8, %rdx
3: cmp %rdx, %rcx                       # bytewise from here: the end, or the 8 bytes that differ
  jae 5f
  movzbl (%rdi, %rcx), %eax
  movzbl (%rsi, %rcx), %r8d
  inc %rcx
  sub %r8d, %eax
  je 3b
  ret
5: xor %eax, %eax
  ret

strlen:
  xor %eax, %eax
1: cmpb $0, (%rdi, %rax)
  je 2f
  inc %rax
  jmp 1b
2: ret

rust_eh_personality:
_Unwind_Resume:
  ud2

# Memory functions, and the one copy that may fault. symbols.s gives them the names under which the compiler calls them.
#
# Long runs go by words of 8 bytes: a processor is as fast with bytes, or far slower (Zen, where the places differ by a few
# bytes in their pages), and an emulator takes a step for each, whatever its size.
.text
.globl copy_fallible_start, copy_fallible_end, copy_words_start, copy_words_end, copy_fallible_asm
# copy_fallible(rdi: to, rsi: from, rdx: len) -> rax: bytes left. A fault that cannot be resolved ends it at
# copy_fallible_end with the rest in rcx; among whole words it leads to copy_words_end, where bytes find out how far it goes.
# Four and eight bytes, if aligned, are moved as one: other processors may be changing or waiting for that very word.
copy_fallible_asm:
  mov %rdx, %rcx
  mov %edi, %eax
  or %esi, %eax
  cmp $64, %rdx
  jae 3f
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
3: shr $3, %rcx
copy_words_start:
  rep movsq
copy_words_end:
  and $7, %edx
  lea (%rdx, %rcx, 8), %rcx             # words left, and the bytes that are no whole word
  test %rcx, %rcx
  jnz 0b
  xor %eax, %eax
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

.globl memory_copy, memory_move, memory_set, memory_compare, memory_strlen
memory_copy:
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
2: mov -8(%rsi, %rdx), %r8
  lea -8(%rdi, %rdx), %r9
  mov %rdx, %rcx
  shr $3, %rcx
  rep movsq
  mov %r8, (%r9)
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

memory_move:
  mov %rdi, %rax
  mov %rdx, %rcx
  mov %rdi, %r9
  sub %rsi, %r9
  cmp %rdx, %r9
  jb 1f
  cmp $8, %rdx                          # to is below from, or past its end
  jb 2f
  mov -8(%rsi, %rdx), %r8               # the tail, which the words may overwrite
  lea -8(%rdi, %rdx), %r9
  shr $3, %rcx
  rep movsq
  mov %r8, (%r9)
  ret
2: rep movsb
  ret
1: std
  cmp $8, %rdx
  jb 3f
  mov (%rsi), %r8                       # the head, likewise
  lea -8(%rdi, %rdx), %rdi
  lea -8(%rsi, %rdx), %rsi
  shr $3, %rcx
  rep movsq
  cld
  mov %r8, (%rax)
  ret
3: lea -1(%rdi, %rdx), %rdi
  lea -1(%rsi, %rdx), %rsi
  rep movsb
  cld
  ret

memory_set:
  mov %rdi, %r8
  mov %rdx, %rcx
  movzbl %sil, %eax
  cmp $64, %rdx
  jb 1f
  mov $0x0101010101010101, %r9
  imul %r9, %rax
  mov %rax, -8(%rdi, %rdx)              # the last bytes; the words may leave up to seven
  shr $3, %rcx
  rep stosq
  mov %r8, %rax
  ret
1: rep stosb
  mov %r8, %rax
  ret

memory_compare:
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

memory_strlen:
  xor %eax, %eax
1: cmpb $0, (%rdi, %rax)
  je 2f
  inc %rax
  jmp 1b
2: ret

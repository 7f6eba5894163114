# The names under which the compiler calls memory functions, and what it refers to but never calls: nothing unwinds here.
.text
.globl memcpy, memmove, memset, memcmp, bcmp, strlen, rust_eh_personality, _Unwind_Resume
.set memcpy, memory_copy
.set memmove, memory_move
.set memset, memory_set
.set memcmp, memory_compare
.set bcmp, memory_compare
.set strlen, memory_strlen

rust_eh_personality:
_Unwind_Resume:
  ud2

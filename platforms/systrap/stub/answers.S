/* The standing answer: what one call of one descriptor gives, said in advance, until the Sentry does anything at all
 * (layout.py ANSWER*; the Sentry's side is kernel/standing_answers.py). Entered and left as the calls of local.S are, and
 * as harmless: what the header says, the guest could have said to itself.
 *
 * The Sentry takes an answer back by a zero in its key, and may then write another. So the key is looked at before and
 * behind the copy; its serial number tells that it is still the same. Loads are in order (no string instructions). */
#include "layout.h"
#include "local.h"

#define AT(offset) ((offset) - FILE_ROWS)(%r11)

  .section .text.local, "ax"

/* rax = the key, if it is of `kind` and the descriptor in rdi. r11 changes. */
.macro KEY kind ask
  cmp $ANSWER_FDS, %rdi
  jae \ask
  mov %gs:FILE_TABLE, %r11
  test %r11, %r11
  jz \ask
  mov AT(ANSWER), %rax
  mov %eax, %r11d
  sub %edi, %r11d
  cmp $\kind, %r11d
  jne \ask
.endm

/* Copy the data to rsi, if the key is (still) rdx; rax = the result in rdi. rcx, rsi and r11 change. r11 = FILE_TABLE. */
.macro COPY_ANSWER ask
  mov AT(ANSWER_WORDS), %ecx
  add $(ANSWER_DATA - FILE_ROWS), %r11
  jrcxz 9f
8: mov (%r11), %eax
  mov %eax, (%rsi)
  add $4, %r11
  add $4, %rsi
  dec %ecx
  jnz 8b
9: mov %gs:FILE_TABLE, %r11
  cmp %rdx, AT(ANSWER)
  jne \ask
  mov %rdi, %rax
.endm

/* edx = how many events fit, r10d = the time-out. No events are the answer only to who does not wait. */
.macro EPOLL name number
  KEY ANSWER_EPOLL \name\()_ask
  SAVE
\name\()_copy:
  lea -1(%rdx), %ecx
  cmp $(EPOLL_EVENTS_MAX - 1), %ecx
  ja \name\()_copy_ask
  mov %gs:FILE_TABLE, %r11
  mov AT(ANSWER_RESULT), %rdi
  cmp %edi, %edx
  jb \name\()_copy_ask
  test %edi, %edi
  jnz 1f
  test %r10d, %r10d
  jnz \name\()_copy_ask
1: mov %rax, %rdx
  COPY_ANSWER \name\()_copy_ask
  UNSAVE
\name\()_done:
  jmp *%rcx
\name\()_copy_ask:
  UNSAVE
\name\()_ask:
  mov $\number, %eax
  jmp stub_fast_entry
\name\()_end:
  STRETCH stub_answer_\name, \name\()_copy, \name\()_ask
  STRETCH \name\()_copy, \name\()_done, \name\()_copy_ask
  STRETCH \name\()_done, \name\()_copy_ask, 0
  STRETCH \name\()_copy_ask, \name\()_ask, \name\()_copy_ask
  STRETCH \name\()_ask, \name\()_end, \name\()_ask
.endm

  .globl stub_answer_epoll_wait
  .balign 64
stub_answer_epoll_wait:
  EPOLL epoll_wait 232

  .globl stub_answer_epoll_pwait
  .balign 16
stub_answer_epoll_pwait:
  test %r8, %r8               /* a signal mask of its own */
  jnz epoll_pwait_ask
  EPOLL epoll_pwait 281

  .globl stub_answer_fstat
  .balign 16
stub_answer_fstat:
  KEY ANSWER_STAT fstat_ask
  SAVE
fstat_copy:
  mov %rax, %rdx
  mov %gs:FILE_TABLE, %r11
  mov AT(ANSWER_RESULT), %rdi
  COPY_ANSWER fstat_copy_ask
  UNSAVE
fstat_done:
  jmp *%rcx
fstat_copy_ask:
  UNSAVE
fstat_ask:
  mov $5, %eax
  jmp stub_fast_entry
fstat_end:
  STRETCH stub_answer_fstat, fstat_copy, fstat_ask
  STRETCH fstat_copy, fstat_done, fstat_copy_ask
  STRETCH fstat_done, fstat_copy_ask, 0
  STRETCH fstat_copy_ask, fstat_ask, fstat_copy_ask
  STRETCH fstat_ask, fstat_end, fstat_ask

/* newfstatat(fd, "", buffer, AT_EMPTY_PATH) is how C libraries spell fstat. */
  .globl stub_answer_fstatat
  .balign 16
stub_answer_fstatat:
  cmp $0x1000, %r10d
  jne fstatat_ask
  KEY ANSWER_STAT fstatat_ask
  cmpb $0, (%rsi)
  jne fstatat_ask
  SAVE
fstatat_copy:
  mov %rdx, %rsi
  mov %rax, %rdx
  mov %gs:FILE_TABLE, %r11
  mov AT(ANSWER_RESULT), %rdi
  COPY_ANSWER fstatat_copy_ask
  UNSAVE
fstatat_done:
  jmp *%rcx
fstatat_copy_ask:
  UNSAVE
fstatat_ask:
  mov $(262 | 1 << 31), %eax
  jmp stub_fast_path_entry
fstatat_end:
  STRETCH stub_answer_fstatat, fstatat_copy, fstatat_ask
  STRETCH fstatat_copy, fstatat_done, fstatat_copy_ask
  STRETCH fstatat_done, fstatat_copy_ask, 0
  STRETCH fstatat_copy_ask, fstatat_ask, fstatat_copy_ask
  STRETCH fstatat_ask, fstatat_end, fstatat_ask

  .section .note.GNU-stack, "", @progbits

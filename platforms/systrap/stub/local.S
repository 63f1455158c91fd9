/* Calls that the stub answers itself, with no event to the Sentry: reads and writes of descriptors of which the header says
 * all there is to know (layout.py FILE_*; the Sentry's side is kernel/published_files.py).
 *
 * Entered as stub_fast_entry is: rax = number, rcx = where to go on, arguments in their registers, GS base = the slot; no
 * stack, and only rax, rcx and r11 may change. Whatever is not plain goes the long way, as the call that it was.
 *
 * Nothing here can give a guest what it has not: a row lets the stub return a number, or copy between places of the guest's
 * own address space, which it could do itself. The row is read from where the slot says, which the guest may have changed,
 * and buffers are where the guest says, be that in the stub's range: the text is read-only to it and faults, its
 * slots are its own. (A direction flag that the guest left set makes copies go wrong for it alone.)
 *
 * A kick or a fault in here finds its place in `stub_locals` (stub_handler in stub.c): until a call's last instruction it
 * can be begun anew as an ordinary call, for nothing was done that the Sentry would not do again. So each stretch names
 * where to go: with all registers but rax and r11 as they came, `..._ask`; and at the last jump, nowhere: it is done. */
#include "layout.h"
#include "local.h"

  .section .text.local, "ax"

/* The buffer (rsi, rdx) is a user's and no longer than one call transfers (access_ok, MAX_RW_COUNT). */
.macro CHECK_BUFFER ask
  cmp $MAX_RW, %rdx
  ja \ask
  mov %rsi, %rax
  shr $47, %rax
  jnz \ask
  lea (%rsi,%rdx), %rax
  movabs $USER_END, %r11
  cmp %r11, %rax
  ja \ask
.endm

/* A site that has the number in a register. */
  .globl stub_any_entry
  .balign 64
stub_any_entry:
  cmp $18, %eax
  ja any_answered
  je stub_local_pwrite
  cmp $17, %eax
  je stub_local_pread
  cmp $1, %eax
  jb stub_local_read
  je stub_local_write
  cmp $5, %eax
  je stub_answer_fstat
  cmp $7, %eax
  je stub_local_poll
  cmp $9, %eax
  je stub_local_mmap
  cmp $11, %eax
  je stub_local_munmap
  cmp $14, %eax
  je stub_local_mask
any_ask:
  jmp stub_fast_struct_entry
any_answered:
  cmp $23, %eax
  je stub_local_select
  cmp $28, %eax
  je stub_local_madvise
  cmp $44, %eax
  je stub_local_sendto
  cmp $45, %eax
  je stub_local_recvfrom
  cmp $232, %eax
  je stub_answer_epoll_wait
  cmp $262, %eax
  je stub_answer_fstatat
  cmp $270, %eax
  je stub_local_pselect6
  cmp $271, %eax
  je stub_local_ppoll
  cmp $273, %eax
  je stub_local_robust_list
  cmp $281, %eax
  je stub_answer_epoll_pwait
  jmp stub_fast_struct_entry
any_end:
  STRETCH stub_any_entry, any_end, stub_fast_entry

  .globl stub_local_write
  .balign 16
stub_local_write:
  ROW write_ask
  test $FILE_SINK, %r11b
  jz write_other
  CHECK_BUFFER write_ask
  mov %rdx, %rax
write_done:
  jmp *%rcx
write_other:
  test $FILE_RING_OUT, %r11b
  jnz stub_ring_write
  bt $FILE_COUNTER, %r11
  jc stub_counter_write
  .globl stub_write_ask
stub_write_ask:
write_ask:
  mov $1, %eax
  jmp stub_fast_buffer_entry
write_end:
  STRETCH stub_local_write, write_done, write_ask
  STRETCH write_done, write_other, 0
  STRETCH write_other, write_ask, write_ask
  STRETCH write_ask, write_end, write_ask

  .globl stub_local_read
  .balign 16
stub_local_read:
  ROW read_ask
  test $FILE_ZERO, %r11b
  jnz read_zeros
  test $FILE_EMPTY, %r11b
  jz read_other
  CHECK_BUFFER read_ask
  xor %eax, %eax
read_empty_done:
  jmp *%rcx
read_other:
  test $FILE_RING_IN, %r11b
  jnz stub_ring_read
  bt $FILE_COUNTER, %r11
  jc stub_counter_read
  jmp read_ask
read_zeros:
  lea -1(%rdx), %rax
  cmp $FILE_LOCAL_MAX, %rax
  jae read_ask                /* nothing, or much */
  mov %rcx, %gs:RETURN
  mov %rdi, %gs:ARGS
read_clear:
  mov %rsi, %rdi
  mov %rdx, %rcx
  xor %eax, %eax
  rep stosb
  mov %gs:ARGS, %rdi
  mov %gs:RETURN, %rcx
  mov %rdx, %rax
read_zeros_done:
  jmp *%rcx
read_clear_ask:
  mov %gs:ARGS, %rdi
  mov %gs:RETURN, %rcx
  .globl stub_read_ask
stub_read_ask:
read_ask:
  xor %eax, %eax
  jmp stub_fast_entry
read_end:
  STRETCH stub_local_read, read_empty_done, read_ask
  STRETCH read_empty_done, read_other, 0
  STRETCH read_other, read_zeros, read_ask
  STRETCH read_zeros, read_clear, read_ask
  STRETCH read_clear, read_zeros_done, read_clear_ask
  STRETCH read_zeros_done, read_clear_ask, 0
  STRETCH read_clear_ask, read_ask, read_clear_ask
  STRETCH read_ask, read_end, read_ask

/* rdx bytes at r10 of the file in row r11 are within its size, and not nothing or much. Only rax changes. */
.macro CHECK_RANGE ask
  mov %r11, %rax
  shr $FILE_SIZE_SHIFT, %rax
  sub %r10, %rax
  jb \ask
  cmp %rdx, %rax
  jb \ask
  lea -1(%rdx), %rax
  cmp $FILE_LOCAL_MAX, %rax
  jae \ask
.endm

/* Note the time (the processor's counter: the Sentry makes a time of it) at `offset` of descriptor rdi's notes. rax, rcx,
 * rdx change. */
.macro NOTE offset
  mov %rdi, %rcx
  shl $4, %rcx
  movabs $FILE_NOTES + \offset, %rax
  add %rax, %rcx
  rdtsc
  shl $32, %rdx
  or %rdx, %rax
  mov %rax, (%rcx)
.endm

/* r11 = where byte r10 of the file in row r11 lies. rax changes. */
.macro PLACE
  shr $FILE_UNIT_SHIFT, %r11
  and $FILE_UNIT_MASK, %r11d
  shl $FILE_UNIT, %r11
  movabs $FILE_WINDOWS, %rax
  add %rax, %r11
  add %r10, %r11
.endm

  .globl stub_local_pread
  .balign 16
stub_local_pread:
  ROW pread_ask
  test $FILE_READ, %r11b
  jz pread_ask
  CHECK_RANGE pread_ask
  SAVE
pread_copy:
  test $FILE_NOTE_READS, %r11b
  jz 1f
  NOTE 8
1:
  PLACE
  mov %rsi, %rdi
  mov %r11, %rsi
  mov %gs:ARGS+16, %rcx
  rep movsb
  UNSAVE
  mov %rdx, %rax
pread_done:
  jmp *%rcx
pread_copy_ask:
  UNSAVE
pread_ask:
  mov $17, %eax
  jmp stub_fast_entry
pread_end:
  STRETCH stub_local_pread, pread_copy, pread_ask
  STRETCH pread_copy, pread_done, pread_copy_ask
  STRETCH pread_done, pread_copy_ask, 0
  STRETCH pread_copy_ask, pread_ask, pread_copy_ask
  STRETCH pread_ask, pread_end, pread_ask

/* The time is noted first: it must not be later than the change. */
  .globl stub_local_pwrite
  .balign 16
stub_local_pwrite:
  ROW pwrite_ask
  test $FILE_WRITE, %r11b
  jz pwrite_ask
  CHECK_RANGE pwrite_ask
  SAVE
pwrite_copy:
  NOTE 0
  PLACE
  mov %r11, %rdi
  mov %gs:ARGS+16, %rcx
  rep movsb
  UNSAVE
  mov %rdx, %rax
pwrite_done:
  jmp *%rcx
pwrite_copy_ask:
  UNSAVE
pwrite_ask:
  mov $18, %eax
  jmp stub_fast_buffer_entry
pwrite_end:
  STRETCH stub_local_pwrite, pwrite_copy, pwrite_ask
  STRETCH pwrite_copy, pwrite_done, pwrite_copy_ask
  STRETCH pwrite_done, pwrite_copy_ask, 0
  STRETCH pwrite_copy_ask, pwrite_ask, pwrite_copy_ask
  STRETCH pwrite_ask, pwrite_end, pwrite_ask

  .section .note.GNU-stack, "", @progbits

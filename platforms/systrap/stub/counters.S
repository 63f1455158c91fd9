/* Reads and writes of an eventfd whose counter lies in a page that everyone who has it has mapped (layout.py FILE_COUNTER*;
 * the Sentry's side is files/shared_counter.py): one compare-and-exchange, no event. Entered and left as the calls of
 * local.S are, from there, with the row in r11.
 *
 * All that is looked at is in the row, one word, and in the page it names: so it is right in programs with threads, too,
 * whoever closes the descriptor meanwhile. What would wait is asked for, and what is wrong, and every length but eight.
 * While the Sentry has the counter, or took it away, the word is COUNTER_HELD, which no write makes of it: who finds that
 * asks, and an exchange that came too late fails.
 *
 * Who waits has set its flag before the word was put back, we look at it behind the exchange, which is a full barrier: so
 * one of the two sees the other. A kick before the exchange finds a call that can be begun anew (the guest's buffer is
 * written before, for a fault must be), one behind it that is done and whose flag was perhaps not looked at, so it tells; at
 * the jump that looks whether the exchange was done, the zero flag says which. */
#include "layout.h"
#include "local.h"

  .section .text.local, "ax"

/* The call moves eight bytes. rcx is put by, the row as well; r11 = where the counter lies, rax = its value. */
.macro COUNTER_BEGIN name ask
\name:
  cmp $8, %rdx
  jne \ask
  mov %rcx, %gs:RETURN
\name\()_begin:
  mov %r11, %gs:NR
  shr $FILE_UNIT_SHIFT, %r11
  and $FILE_UNIT_MASK, %r11d
  shl $FILE_UNIT, %r11
  movabs $FILE_WINDOWS, %rax
  add %rax, %r11
  mov COUNTER_VALUE(%r11), %rax
.endm

/* The counter, found as rax, becomes rcx; then back, or to the Sentry if `flag` is set. */
.macro COUNTER_END name ask flag
  lock cmpxchg %rcx, COUNTER_VALUE(%r11)
\name\()_moved:
  jne \name\()_again
\name\()_look:
  cmpl $0, \flag(%r11)
  jne \name\()_tell
  mov %gs:RETURN, %rcx
  mov $8, %eax
\name\()_done:
  jmp *%rcx
\name\()_kicked:
  jne \name\()_undo
\name\()_tell:
  mov $8, %eax
  movl $RING_MOVED, %gs:KIND
  jmp stub_fast_event
\name\()_undo:
  mov %gs:RETURN, %rcx
  jmp \ask
\name\()_end:
  STRETCH \name, \name\()_begin, \ask
  STRETCH \name\()_begin, \name\()_moved, \name\()_undo
  STRETCH \name\()_moved, \name\()_look, \name\()_kicked
  STRETCH \name\()_look, \name\()_done, \name\()_tell
  STRETCH \name\()_done, \name\()_kicked, 0
  STRETCH \name\()_kicked, \name\()_tell, \name\()_kicked
  STRETCH \name\()_tell, \name\()_undo, \name\()_tell
  STRETCH \name\()_undo, \name\()_end, \name\()_undo
.endm

  .globl stub_counter_read, stub_counter_write

/* All of it to rsi, or one. Not when it is 0 or COUNTER_HELD. */
  .balign 16
  COUNTER_BEGIN stub_counter_read, stub_read_ask
stub_counter_read_again:
  lea -1(%rax), %rcx
  cmp $COUNTER_MAX, %rcx
  jae stub_counter_read_undo
  btq $FILE_COUNTER_BY_ONE, %gs:NR
  jc 1f
  xor %ecx, %ecx
  mov %rax, (%rsi)
  jmp 2f
1: movq $1, (%rsi)
2:
  COUNTER_END stub_counter_read, stub_read_ask, RING_PRODUCER_WAITS

/* What is at rsi is added. Not when the sum passes COUNTER_MAX: then somebody waits, or it is COUNTER_HELD, or what is to be
 * added is too much. */
  .balign 16
  COUNTER_BEGIN stub_counter_write, stub_write_ask
stub_counter_write_again:
  mov (%rsi), %rcx
  add %rax, %rcx
  jc stub_counter_write_undo
  cmp $COUNTER_MAX, %rcx
  ja stub_counter_write_undo
  COUNTER_END stub_counter_write, stub_write_ask, RING_CONSUMER_WAITS

  .section .note.GNU-stack, "", @progbits

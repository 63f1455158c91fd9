/* Reads and writes of streams whose bytes lie in rings (protocol/rings.py), in a window that both ends have mapped: one
 * copy, no event (layout.py FILE_RING_*, RINGS; the Sentry's side is kernel/published_rings.py). Entered and left as the
 * calls of local.S are.
 *
 * What is not plain is asked for: a ring without room for all of a write (who waits, waits in the Sentry), or without a
 * byte to read, unless the row says FILE_RING_WAITS (below), or whose positions cannot be. Places, sizes and limits come from the entry in the header, which is the
 * guest's own; of what the other side can write only differences are used, and never more than the ring holds, so it can
 * spoil the stream and nothing else.
 *
 * A position moves by a compare-and-exchange. It fails when the Sentry took the ring away meanwhile, by an exchange that
 * leaves a position that cannot be: then nothing was done, and the call is an ordinary one. It is a full barrier, too: who
 * waits has set its flag (how much it waits for) before it looked at the positions a last time, we look at the flag behind
 * our position, so that one of the two sees the other. What is seen here only errs towards telling: the other side's
 * position was loaded before, so no less can be there (or free) than is computed. Then the call is done, its result is
 * known (in NR), and the event RING_MOVED tells the Sentry, which answers with that result.
 *
 * A kick before the exchange finds a call that can be begun anew; behind it one that is done and whose flag was perhaps
 * not looked at, so it tells; at the jump that looks whether the exchange was done, the zero flag says which. */
#include "layout.h"
#include "local.h"

  .section .text.local, "ax"

/* r11 = where the rings of row r11 are described. */
.macro RING_ENTRY_OF
  shr $FILE_UNIT_SHIFT, %r11
  and $(RING_COUNT - 1), %r11d
  shl $RING_ENTRY_SHIFT, %r11d
  add %gs:FILE_TABLE, %r11
  add $(RINGS - FILE_ROWS), %r11
.endm

/* r11 = where the rings of row r11 are described; the arguments and r8..r10 are put by. */
.macro RING_BEGIN ask
  lea -1(%rdx), %rax
  cmp $FILE_LOCAL_MAX, %rax
  jae \ask                    /* nothing, or much */
  RING_ENTRY_OF
  SAVE_ALL
.endm

/* rcx = how much of rdx bytes fits before the ring's end (rcx: its size), rax = the rest; `at` = where position r9 lies. */
.macro RING_SPLIT bytes at
  lea -1(%rcx), \at
  and %r9, \at
  sub \at, %rcx
  add \bytes(%r11), \at
  cmp %rdx, %rcx
  cmova %rdx, %rcx
  mov %rdx, %rax
  sub %rcx, %rax
.endm

/* The position in `word` goes from r9 on by rdx, the result. */
.macro RING_MOVE name word
  mov %rdx, %gs:NR
  mov %r9, %rax
  add %rdx, %r9
  lock cmpxchg %r9, \word(%r8)
\name\()_moved:
  jne \name\()_undo
\name\()_look:
.endm

/* The call is done: back, or to the Sentry. */
.macro RING_END name ask
  UNSAVE_ALL
  mov %gs:NR, %rax
\name\()_done:
  jmp *%rcx
\name\()_kicked:
  jne \name\()_undo
\name\()_tell:
  UNSAVE_ALL
  mov %gs:NR, %rax
  movl $RING_MOVED, %gs:KIND
  jmp stub_fast_event
\name\()_undo:
  UNSAVE_ALL
  jmp \ask
\name\()_end:
  STRETCH \name, \name\()_copy, \ask
  STRETCH \name\()_copy, \name\()_moved, \name\()_undo
  STRETCH \name\()_moved, \name\()_look, \name\()_kicked
  STRETCH \name\()_look, \name\()_done, \name\()_tell
  STRETCH \name\()_done, \name\()_kicked, 0
  STRETCH \name\()_kicked, \name\()_tell, \name\()_kicked
  STRETCH \name\()_tell, \name\()_undo, \name\()_tell
  STRETCH \name\()_undo, \name\()_end, \name\()_undo
.endm

/* Up to rdx bytes to rsi. */
.macro RING_READ name ask empty
\name:
  RING_BEGIN \ask
\name\()_copy:
  mov RING_IN_WORDS(%r11), %r8
  mov RING_HEAD(%r8), %r9
  mov RING_TAIL(%r8), %r10
  sub %r9, %r10               /* what is in it */
  jz \empty
  mov RING_IN_SIZE(%r11), %rcx
  cmp %rcx, %r10
  ja \name\()_undo
  cmp %r10, %rdx
  cmova %r10, %rdx
  mov %rsi, %rdi
  RING_SPLIT RING_IN_BYTES, %rsi
  rep movsb
  mov RING_IN_BYTES(%r11), %rsi
  mov %rax, %rcx
  rep movsb
  RING_MOVE \name, RING_HEAD
  mov RING_PRODUCER_WAITS(%r8), %ecx
  test %ecx, %ecx
  jz 1f
  mov RING_IN_SIZE(%r11), %rax
  sub %r10, %rax
  add %rdx, %rax
  cmp %rcx, %rax
  jae \name\()_tell
1:
  RING_END \name, \ask
.endm

/* All of the rdx bytes at rsi. */
.macro RING_WRITE name ask
\name:
  RING_BEGIN \ask
\name\()_copy:
  mov RING_OUT_WORDS(%r11), %r8
  mov RING_TAIL(%r8), %r9
  mov %r9, %r10
  sub RING_HEAD(%r8), %r10    /* what is in it */
  mov RING_OUT_LIMIT(%r11), %rax
  sub %r10, %rax
  jb \name\()_undo
  cmp %rdx, %rax
  jb \name\()_undo
  mov RING_OUT_SIZE(%r11), %rcx
  RING_SPLIT RING_OUT_BYTES, %rdi
  rep movsb
  mov RING_OUT_BYTES(%r11), %rdi
  mov %rax, %rcx
  rep movsb
  RING_MOVE \name, RING_TAIL
  mov RING_CONSUMER_WAITS(%r8), %ecx
  test %ecx, %ecx
  jz 1f
  add %rdx, %r10
  cmp %rcx, %r10
  jae \name\()_tell
1:
  RING_END \name, \ask
.endm

  .globl stub_ring_read, stub_ring_write
  .balign 16
  RING_READ stub_ring_read, stub_read_ask, read_waits
  .balign 16
  RING_WRITE stub_ring_write, stub_write_ask

/* send(2) without address, and no flag but those that say nothing here (MSG_DONTWAIT, MSG_NOSIGNAL). */
  .globl stub_local_sendto
  .balign 16
stub_local_sendto:
  ROW sendto_ask
  test $FILE_RING_OUT, %r11b
  jz sendto_ask
  bt $FILE_RING_SOCKET, %r11
  jnc sendto_ask
  test $~0x4040, %r10d
  jnz sendto_ask
  test %r8, %r8
  jz ring_sendto
sendto_ask:
  mov $44, %eax
  jmp stub_fast_buffer_entry
  RING_WRITE ring_sendto, sendto_ask
  STRETCH stub_local_sendto, sendto_ask, sendto_ask
  STRETCH sendto_ask, ring_sendto, sendto_ask

/* recv(2) without address, and no flag but MSG_DONTWAIT. */
  .globl stub_local_recvfrom
  .balign 16
stub_local_recvfrom:
  ROW recvfrom_ask
  test $FILE_RING_IN, %r11b
  jz recvfrom_ask
  bt $FILE_RING_SOCKET, %r11
  jnc recvfrom_ask
  test $~0x40, %r10d
  jnz recvfrom_ask
  test %r8, %r8
  jz ring_recvfrom
recvfrom_ask:
  mov $45, %eax
  jmp stub_fast_entry
  RING_READ ring_recvfrom, recvfrom_ask, recvfrom_waits
  STRETCH stub_local_recvfrom, recvfrom_ask, recvfrom_ask
  STRETCH recvfrom_ask, ring_recvfrom, recvfrom_ask

/* Nothing to read yet: rdi = the descriptor, r8 = the words, r9 = the head. The other side is one that wakes who sleeps.
 * The thread says RING_SLEEPS and sleeps on the word that it says it in, unless there is something by then, or the row has
 * changed: who changes it looks at the word afterwards, so that one of the two sees the other. The word also says whether
 * the Sentry waits, and goes on to. Whoever is woken (or kicked) and finds nothing asks. */
  .balign 16
recvfrom_waits:
  testb $0x40, %gs:ARGS+24    /* MSG_DONTWAIT */
  jnz ring_recvfrom_undo
  movq $45, %gs:NR
  jmp ring_wait
read_waits:
  movq $0, %gs:NR
ring_wait:
  mov %gs:FILE_TABLE, %r11
  mov (%r11,%rdi,8), %r11
  bt $FILE_RING_WAITS, %r11
  jnc ring_wait_undo
  incl %gs:SLEEPS
  lock orl $RING_SLEEPS, RING_CONSUMER_WAITS(%r8)
  mov RING_CONSUMER_WAITS(%r8), %edx
  mov %gs:FILE_TABLE, %rcx
  cmp (%rcx,%rdi,8), %r11
  jne ring_wait_undo
  cmp RING_TAIL(%r8), %r9
  jne ring_wait_seen
  test %edx, %edx             /* woken already */
  jns ring_wait_undo
  lea RING_CONSUMER_WAITS(%r8), %rdi
  xor %esi, %esi              /* FUTEX_WAIT, shared */
  xor %r10d, %r10d
  mov $202, %eax
  syscall
  .globl stub_ring_wait_ip
stub_ring_wait_ip:
  mov %gs:ARGS, %rdi
  mov %gs:FILE_TABLE, %r11
  mov (%r11,%rdi,8), %r11
  bt $FILE_RING_WAITS, %r11
  jnc ring_wait_undo
  cmp RING_TAIL(%r8), %r9
  je ring_wait_undo
ring_wait_seen:
  incl %gs:SLEEPS
  lock andl $~RING_SLEEPS, RING_CONSUMER_WAITS(%r8)
  mov %gs:ARGS+8, %rsi
  mov %gs:ARGS+16, %rdx
  RING_ENTRY_OF
  cmpq $0, %gs:NR
  je stub_ring_read_copy
  jmp ring_recvfrom_copy
ring_wait_undo:
  mov %gs:SLEEPS, %eax
  inc %eax
  and $~1, %eax
  mov %eax, %gs:SLEEPS
  cmpq $0, %gs:NR
  je stub_ring_read_undo
  jmp ring_recvfrom_undo
ring_wait_end:
  STRETCH recvfrom_waits, read_waits, ring_recvfrom_undo
  STRETCH read_waits, ring_wait, stub_ring_read_undo
  STRETCH ring_wait, ring_wait_end, ring_wait_undo

  .section .note.GNU-stack, "", @progbits

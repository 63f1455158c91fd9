/* poll(2), ppoll(2), select(2) and pselect6(2) with no event to the Sentry, where all is known that they ask for and they
 * need not wait. Entered and left as the calls of local.S are, and as harmless: what rows and rings say, the guest could
 * have said to itself.
 *
 * Of a descriptor whose row has FILE_POLL_KNOWN, the bits of poll(2) are those of its rings, which are looked up here
 * (layout.py RING_*), and none of the ones that the row says are absent (the Sentry's side is kernel/published_polls.py).
 * So are those of a counter (stub/counters.S), unless the Sentry has it.
 * Every bit that is asked for must be known: select tells all that is ready. And something must be ready, or the time-out
 * be zero: who waits, waits in the Sentry. A ring whose positions cannot be was taken away.
 *
 * The time left is what a call takes at least, a microsecond, less than it was. A signal mask changes nothing for who does
 * not wait; one who finds nothing may be interrupted by what it lets through, and asks.
 *
 * Sets and time-outs are overwritten by their results. So a kick or a fault while that is done must put them back before
 * the call is begun anew: all was written once as it was, to know that it can be. If it cannot any more, then neither can
 * the Sentry. What poll writes is nothing it reads. */
#include "layout.h"
#include "local.h"

#define POLL_ALWAYS 0x18      /* POLLERR | POLLHUP */
#define SELECT_READ 0xd9      /* POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR */
#define SELECT_WRITE 0x30c    /* POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR */
#define SELECT_EXCEPT 2       /* POLLPRI */
#define TRIES 8               /* each is spent by one kick, or all by memory that is gone */
#define ENTRY(offset) (RINGS - FILE_ROWS + (offset))(%r9)

  .section .text.local, "ax"

/* r8d = the poll bits that the file in row r11 has, eax = those it has not. rcx, r9..r11 change. */
.macro LOOK_UP name
  bt $FILE_POLL_KNOWN, %r11
  jnc \name\()_back
  mov %r11, %rax
  shr $FILE_ABSENT_SHIFT, %rax
  movzwl %ax, %eax
  xor %r8d, %r8d
  test $(FILE_RING_IN | FILE_RING_OUT), %r11b
  jnz 4f
  bt $FILE_COUNTER, %r11
  jnc 9f
  shr $FILE_UNIT_SHIFT, %r11
  and $FILE_UNIT_MASK, %r11d
  shl $FILE_UNIT, %r11
  movabs $FILE_WINDOWS, %rcx
  mov COUNTER_VALUE(%rcx,%r11), %r10
  mov $COUNTER_OUT, %ecx
  cmp $COUNTER_MAX, %r10
  ja \name\()_back
  je 1f
  or %ecx, %r8d
  jmp 2f
1: or %ecx, %eax
2: mov $COUNTER_IN, %ecx
  test %r10, %r10
  jz 3f
  or %ecx, %r8d
  jmp 9f
3: or %ecx, %eax
  jmp 9f
4: mov %r11d, %r9d
  shr $FILE_UNIT_SHIFT, %r9d
  and $(RING_COUNT - 1), %r9d
  shl $RING_ENTRY_SHIFT, %r9d
  add %gs:FILE_TABLE, %r9
  test $FILE_RING_IN, %r11b
  jz 8f
  mov ENTRY(RING_IN_WORDS), %rcx
  mov RING_TAIL(%rcx), %r10
  sub RING_HEAD(%rcx), %r10   /* what is in it */
  cmp ENTRY(RING_IN_SIZE), %r10
  ja \name\()_back
  cmp $1, %r10
  mov $RING_IN_BITS, %ecx
  jb 7f
  or %ecx, %r8d
  jmp 8f
7: or %ecx, %eax
8: test $FILE_RING_OUT, %r11b
  jz 9f
  mov ENTRY(RING_OUT_WORDS), %rcx
  mov RING_TAIL(%rcx), %r10
  sub RING_HEAD(%rcx), %r10
  mov ENTRY(RING_OUT_LIMIT), %rcx
  sub %r10, %rcx              /* what is free */
  jb \name\()_back
  mov ENTRY(RING_OUT_ROOM), %r10d
  cmp %r10, %rcx
  mov ENTRY(RING_OUT_BITS), %ecx
  jb 7f
  or %ecx, %r8d
  jmp 9f
7: or %ecx, %eax
9:
.endm

/* Whether a signal mask at rax, of `size` bytes, lets the call be answered here, with r9d descriptors ready. */
.macro CHECK_MASK name size
  test %rax, %rax
  jz 1f
  cmp $8, \size
  jne \name\()_back
  test %r9d, %r9d
  jz \name\()_back
  mov (%rax), %rax
1:
.endm

/* The time-out at r8, 0: none. Whether the call, with r9d descriptors ready, is over; if so, what is left is noted. r8 = 0
 * if it is not to be changed. rax, rcx, r11 change. */
.macro CHECK_TIME name unit step
  test %r8, %r8
  jnz 1f
  test %r9d, %r9d
  jz \name\()_back
  jmp 4f
1: mov (%r8), %rax
  mov 8(%r8), %rcx
  mov %rax, %gs:POLL_TIME
  mov %rcx, %gs:POLL_TIME+8
  cmp $\unit, %rcx
  jae \name\()_back
  mov %rax, %r11
  shr $31, %r11
  jnz \name\()_back           /* negative, or longer than any */
  mov %rax, %r11
  or %rcx, %r11
  jnz 2f
  xor %r8d, %r8d
  jmp 4f
2: test %r9d, %r9d
  jz \name\()_back
  sub $\step, %rcx
  jae 3f
  add $\unit, %rcx
  sub $1, %rax
  jae 3f
  xor %eax, %eax
  xor %ecx, %ecx
3: mov %rax, %gs:POLL_TIME_LEFT
  mov %rcx, %gs:POLL_TIME_LEFT+8
4: mov %r8, %gs:POLL_TIME_AT
.endm

/* The time-out at r8, 0: none, is `words`. rax changes. */
.macro PUT_TIME words
  test %r8, %r8
  jz 1f
  mov %gs:\words, %rax
  mov %rax, (%r8)
  mov %gs:\words+8, %rax
  mov %rax, 8(%r8)
1:
.endm

/* Behind what puts things back (`undo`): to the Sentry, as an ordinary call. And where a kick or a fault leads to. */
.macro POLL_ASK name number
\name\()_back:
  UNSAVE_ALL
\name\()_ask:
  mov $\number, %eax
  jmp stub_fast_struct_entry
\name\()_end:
  STRETCH stub_local_\name, \name\()_look, \name\()_ask
  STRETCH \name\()_look, \name\()_write, \name\()_back
  STRETCH \name\()_write, \name\()_done, \name\()_undo
  STRETCH \name\()_done, \name\()_undo, 0
  STRETCH \name\()_undo, \name\()_back, \name\()_undo
  STRETCH \name\()_back, \name\()_ask, \name\()_back
  STRETCH \name\()_ask, \name\()_end, \name\()_ask
.endm

/* --- select --- */
/* `value` = the word of the set at `place`, of the bits in r9; the other words, of ecx in all, are empty. r11 changes. */
.macro READ_SET name place value put_by
  xor %eax, %eax
  test \place, \place
  jz 2f
  mov (\place), %rax
  mov %rax, %gs:\put_by
  and %r9, %rax
  mov %ecx, %r11d
1: dec %r11d
  jz 2f
  cmpq $0, (\place,%r11,8)
  je 1b
  jmp \name\()_back
2: mov %rax, \value
.endm

/* Take the bit r11 out of `set`, or count it, by the state of its descriptor. ecx changes. */
.macro CHOOSE name set bits
  test %r11, \set
  jz 3f
  test $\bits, %r8d
  jz 2f
  incl %gs:POLL_COUNT
  jmp 3f
2: mov %eax, %ecx
  and $\bits, %ecx
  cmp $\bits, %ecx
  jne \name\()_back
  xor %r11, \set
3:
.endm

/* The word at the address in argument `place`, if there is one, is `value`. rcx changes. */
.macro PUT_SET place value
  mov %gs:ARGS+\place, %rcx
  jrcxz 1f
  mov \value, (%rcx)
1:
.endm

/* All that is written is as it was. r8: where the time-out is. */
.macro PUT_BACK
  mov %gs:POLL_SETS, %rax
  PUT_SET 8, %rax
  mov %gs:POLL_SETS+8, %rax
  PUT_SET 16, %rax
  mov %gs:POLL_SETS+16, %rax
  PUT_SET 24, %rax
  PUT_TIME POLL_TIME
.endm

/* edi = how many bits, rsi, rdx, r10 = the sets, r8 = the time-out in seconds and units, r9 = mask and its size. */
.macro SELECT name number unit step masked
  .globl stub_local_\name
  .balign 16
stub_local_\name:
  cmpq $0, %gs:FILE_TABLE
  je \name\()_ask
  lea -1(%rdi), %eax
  cmp $SELECT_MOST, %eax
  jae \name\()_ask
  SAVE_ALL
\name\()_look:
  mov %edi, %ecx
  mov $-1, %r9
  cmp $64, %ecx
  jae 1f
  shl %cl, %r9
  not %r9
1: add $63, %ecx
  shr $6, %ecx
  READ_SET \name, %rsi, %rsi, POLL_SETS
  READ_SET \name, %rdx, %rdx, POLL_SETS+8
  READ_SET \name, %r10, %gs:POLL_EXCEPTS, POLL_SETS+16
  mov %gs:POLL_EXCEPTS, %rdi
  or %rsi, %rdi
  or %rdx, %rdi
  movl $0, %gs:POLL_COUNT
5: bsf %rdi, %rcx
  jz 6f
  mov %gs:FILE_TABLE, %r11
  mov (%r11,%rcx,8), %r11
  LOOK_UP \name
  mov %rdi, %r11
  neg %r11
  and %rdi, %r11
  xor %r11, %rdi
  CHOOSE \name, %rsi, SELECT_READ
  CHOOSE \name, %rdx, SELECT_WRITE
  CHOOSE \name, %gs:POLL_EXCEPTS, SELECT_EXCEPT
  jmp 5b
6: mov %gs:POLL_COUNT, %r9d
.if \masked
  mov %gs:ARGS+40, %rcx
  xor %eax, %eax
  jrcxz 7f
  mov (%rcx), %rax
  mov 8(%rcx), %rcx
7: CHECK_MASK \name, %rcx
.endif
  mov %gs:ARGS+32, %r8
  CHECK_TIME \name, \unit, \step
  PUT_BACK
  movl $TRIES, %gs:POLL_TRIES
\name\()_write:
  PUT_SET 8, %rsi
  PUT_SET 16, %rdx
  mov %gs:POLL_EXCEPTS, %rax
  PUT_SET 24, %rax
  PUT_TIME POLL_TIME_LEFT
  mov %r9d, %eax
  UNSAVE_ALL
\name\()_done:
  jmp *%rcx
\name\()_undo:
  decl %gs:POLL_TRIES
  js \name\()_back
  mov %gs:POLL_TIME_AT, %r8
  PUT_BACK
  POLL_ASK \name, \number
.endm

  SELECT select 23 1000000 1 0
  SELECT pselect6 270 1000000000 1000 1

/* --- poll --- */
/* rdi = struct pollfd, esi of them; edx = the time-out in ms, or rdx = where it is, r10 and r8 = mask and its size. */
.macro POLL name number timed
  .globl stub_local_\name
  .balign 16
stub_local_\name:
  cmpq $0, %gs:FILE_TABLE
  je \name\()_ask
  lea -1(%rsi), %eax
  cmp $POLL_MOST, %eax
  jae \name\()_ask
  SAVE_ALL
\name\()_look:
  mov %esi, %esi
  movq $0, %gs:POLL_COUNT     /* and POLL_ASKED */
5: mov (%rdi), %ecx
  xor %r8d, %r8d
  test %ecx, %ecx
  js 6f
  cmp $FILE_ROW_COUNT, %ecx
  jae \name\()_back
  movl $1, %gs:POLL_ASKED
  mov %gs:FILE_TABLE, %r11
  mov (%r11,%rcx,8), %r11
  LOOK_UP \name
  movzwl 4(%rdi), %ecx
  or $POLL_ALWAYS, %ecx
  or %r8d, %eax
  not %eax
  test %ecx, %eax
  jnz \name\()_back
  and %ecx, %r8d
  jz 6f
  incl %gs:POLL_COUNT
6: mov %r8w, %gs:POLL_REVENTS(,%rsi,2)
  add $8, %rdi
  dec %esi
  jnz 5b
  cmpl $0, %gs:POLL_ASKED
  je \name\()_back
  mov %gs:POLL_COUNT, %r9d
.if \timed
  mov %gs:ARGS+24, %rax
  mov %gs:ARGS+32, %rcx
  CHECK_MASK \name, %rcx
  mov %rdx, %r8
  CHECK_TIME \name, 1000000000, 1000
  PUT_TIME POLL_TIME
.else
  test %r9d, %r9d
  jnz 7f
  test %edx, %edx
  jnz \name\()_back
7:
.endif
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %esi
8: mov %gs:POLL_REVENTS(,%rsi,2), %ax
  mov %ax, 6(%rdi)
  add $8, %rdi
  dec %esi
  jnz 8b
  movl $TRIES, %gs:POLL_TRIES
\name\()_write:
.if \timed
  PUT_TIME POLL_TIME_LEFT
.endif
  mov %r9d, %eax
  UNSAVE_ALL
\name\()_done:
  jmp *%rcx
\name\()_undo:
.if \timed
  decl %gs:POLL_TRIES
  js \name\()_back
  mov %gs:POLL_TIME_AT, %r8
  PUT_TIME POLL_TIME
.endif
  POLL_ASK \name, \number
.endm

  POLL poll 7 0
  POLL ppoll 271 1

  .section .note.GNU-stack, "", @progbits

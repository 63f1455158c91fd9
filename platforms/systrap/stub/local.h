/* What the calls have in common that the stub answers itself (local.S, rings.S, counters.S, polls.S, answers.S, local_maps.S,
 * local_mask.S, local_told.S, local_sigreturn.S). */

/* A thread that is kicked, or faults, in [begin, end) goes on at `away`; 0: the call is over but for the jump.
 * 1: so it is, with result 0, if the zero flag is set; else it is on its way to the Sentry. */
.macro STRETCH begin, end, away
  .pushsection .text.local_table, "ax"
  .quad \begin, \end, \away
  .popsection
.endm

/* r11 = the row of the descriptor in rdi. */
.macro ROW ask
  mov %gs:FILE_TABLE, %r11
  cmp $FILE_ROW_COUNT, %rdi
  jae \ask
  test %r11, %r11
  jz \ask
  mov (%r11,%rdi,8), %r11
.endm

/* The arguments that string instructions take, into the slot and back. */
.macro SAVE
  mov %rcx, %gs:RETURN
  mov %rdi, %gs:ARGS
  mov %rsi, %gs:ARGS+8
  mov %rdx, %gs:ARGS+16
.endm

.macro UNSAVE
  mov %gs:ARGS, %rdi
  mov %gs:ARGS+8, %rsi
  mov %gs:ARGS+16, %rdx
  mov %gs:RETURN, %rcx
.endm

/* The same of all six arguments. */
.macro SAVE_ALL
  SAVE
  mov %r10, %gs:ARGS+24
  mov %r8, %gs:ARGS+32
  mov %r9, %gs:ARGS+40
.endm

.macro UNSAVE_ALL
  UNSAVE
  mov %gs:ARGS+24, %r10
  mov %gs:ARGS+32, %r8
  mov %gs:ARGS+40, %r9
.endm

/* rt_sigprocmask(2) with no event to the Sentry. The mask stands in the slot while that is allowed (layout.py MASK), which
 * is as long as no signal is pending that it could hold back or let through (services/sentry/kernel/signals.py).
 *
 * One compare-and-exchange changes it, if it is what it was and still allowed: the Sentry takes the mask back by a single
 * exchange too, so one of the two comes first. Until then nothing is done that cannot be done again: a fault at either
 * buffer, or a kick, makes it an ordinary call. Behind it only the result is left to be given. */
#include "layout.h"
#include "local.h"

#define FLAGS_OF_MASK (MASK_SHARED | MASK_TRAPS)

  .section .text.local, "ax"

/* edi = how, rsi = the set or 0, rdx = where the old one goes or 0, r10 = 8. */
  .globl stub_local_mask
  .balign 64
stub_local_mask:
  cmp $8, %r10
  jne mask_ask
  mov %rcx, %gs:RETURN
mask_read:
  mov %gs:MASK, %rax
  test $MASK_SHARED, %eax
  jz mask_back
  mov %rax, %r11
  test %rsi, %rsi
  jz 4f
  mov (%rsi), %rcx
  and $~FLAGS_OF_MASK, %rcx
  cmp $1, %edi
  jb 1f
  je 2f
  cmp $2, %edi
  jne mask_back
  and $FLAGS_OF_MASK, %r11d   /* SIG_SETMASK; the upper half is cleared */
1:
  or %rcx, %r11               /* SIG_BLOCK */
  jmp 4f
2:
  not %rcx
  and %rcx, %r11              /* SIG_UNBLOCK */
4:
  test %rdx, %rdx
  jz 5f
  mov %rax, %rcx
  and $~FLAGS_OF_MASK, %rcx
  mov %rcx, (%rdx)
5:
  mov %gs:RETURN, %rcx
  lock cmpxchg %r11, %gs:MASK
mask_changed:
  jne mask_ask
  xor %eax, %eax
mask_done:
  jmp *%rcx
mask_back:
  mov %gs:RETURN, %rcx
mask_ask:
  mov $14, %eax
  jmp stub_fast_entry
mask_end:
  STRETCH stub_local_mask, mask_read, mask_ask
  STRETCH mask_read, mask_changed, mask_back
  STRETCH mask_done, mask_back, 0
  STRETCH mask_back, mask_ask, mask_back
  STRETCH mask_ask, mask_end, mask_ask

  .section .note.GNU-stack, "", @progbits

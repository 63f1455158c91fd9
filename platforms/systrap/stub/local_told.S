/* set_robust_list(2) with no event to the Sentry: what the list is only matters when the thread ends, or somebody asks. The
 * word stands in the slot (layout.py TOLD; trapped.c does the same for calls that trap), where `Task.robust_list` looks.
 *
 * A kick before the last instruction makes it an ordinary call, which says the same once more. */
#include "layout.h"
#include "local.h"

  .section .text.local, "ax"

/* rdi = the list's head, rsi = its size. */
  .globl stub_local_robust_list
  .balign 64
stub_local_robust_list:
  cmp $24, %rsi
  jne robust_ask
  testl $TOLD_ALLOWED, %gs:TOLD
  jz robust_ask
  mov %rdi, %gs:ROBUST_LIST
  orl $TOLD_ROBUST, %gs:TOLD
  xor %eax, %eax
robust_done:
  jmp *%rcx
robust_ask:
  mov $273, %eax
  jmp stub_fast_entry
robust_end:
  STRETCH stub_local_robust_list, robust_done, robust_ask
  STRETCH robust_done, robust_ask, 0
  STRETCH robust_ask, robust_end, robust_ask

  .section .note.GNU-stack, "", @progbits

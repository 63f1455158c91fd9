/* Memory that fork(2) lends to a child (services/sentry/kernel/loans.py): what of it is the parent's own is saved before, and
 * put back when the parent goes on. Both are done by the parent's thread; no other one runs in this memory meanwhile.
 *
 * The Sentry says what: LOAN_COUNT ranges, each an address and a length, whole words both. */
#include "stub.h"

extern int stub_user_copy(u64 to, u64 from, u64 length); /* trapped.c */
/* Whether so many whole words are equal: 0, or 1, also when it faults. */
extern int stub_user_differs(u64 one, u64 other, u64 length);

#define PIECE 0x1000ul /* compared at a time */

static void each_range(int back) {
  u64 copy = STUB_BASE + HEADER + LOAN_BYTES, left = LOAN_MOST, count = HEAD64(LOAN_COUNT);
  volatile u64 *range = (volatile u64 *)(STUB_BASE + HEADER + LOAN_RANGES);
  for (u64 k = 0; k < count && k < LOAN_RANGES_MOST; k++, range += 2) {
    u64 at = range[0], length = range[1];
    if (length > left) return;
    left -= length;
    if (!back) stub_user_copy(copy, at, length);
    /* What is equal is left alone: a page that was never written stays none. What cannot be read or written, for its file
     * became shorter, could not be changed either. */
    else
      for (u64 done = 0; done < length; done += PIECE) {
        u64 piece = length - done < PIECE ? length - done : PIECE;
        if (stub_user_differs(at + done, copy + done, piece)) stub_user_copy(at + done, copy + done, piece);
      }
    copy += length;
  }
}

void stub_save_memory(void) { each_range(0); }
void stub_put_memory_back(void) { each_range(1); }

/* What a new program finds in its memory when it begins (execve(2)): its first stack, and zeros behind initialized data.
 * The thread that is going to run it writes that by itself: a page that is touched there costs a fraction of what it costs
 * from another process.
 *
 * The Sentry says what: FILL_COUNT rows, each an address, a length, and where in the slot the bytes are, 0 for zeros. */
#include "stub.h"

extern int stub_user_copy(u64 to, u64 from, u64 length); /* trapped.c */
extern int stub_user_clear(u64 to, u64 length);

/* A program whose memory cannot be written is killed by what it does first: it begins where nothing is. (Or by that write,
 * as long as its thread has all signals blocked.) */
void stub_fill(u64 slot) {
  u64 count = SLOT64(slot, FILL_COUNT);
  volatile u64 *row = (volatile u64 *)(slot + FILL_ROWS);
  for (u64 k = 0; k < count && k < FILL_ROWS_MOST; k++, row += 3)
    if (row[2] ? stub_user_copy(row[0], slot + row[2], row[1]) : stub_user_clear(row[0], row[1]))
      SLOT64(slot, REGS + 8 * G_RIP) = 0;
  SLOT64(slot, FILL_COUNT) = 0; /* who looks at this memory waits for that */
}

// futex(2): wait, wake, timeouts, bitsets, requeue, wake-op, private and shared, errors.
#include "../check.h"
#include <linux/futex.h>

static long futex(void *word, int op, uint32_t value, void *timeout, void *word2, uint32_t value3) {
    return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}

static int *word;

static pid_t waiter(int op, uint32_t value3) {
    pid_t pid = NEED(fork());
    if (pid == 0) _exit(futex(word, op, 0, NULL, NULL, value3) == 0 ? 1 : errno == EAGAIN ? 2 : 3);
    sleep_ms(60);
    return pid;
}

int main(void) {
    word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct timespec t = {0, 30000000}, bad = {0, 1000000000};
    SAY(futex(word, FUTEX_WAIT, 1, NULL, NULL, 0));
    SAY(futex(word, FUTEX_WAIT, 0, &t, NULL, 0));
    SAY(futex(word, FUTEX_WAIT, 0, &bad, NULL, 0));
    SAY(futex((char *)word + 1, FUTEX_WAIT, 0, &t, NULL, 0));
    SAY(futex((void *)8, FUTEX_WAIT, 0, &t, NULL, 0));
    SAY(futex(word, FUTEX_WAKE, 1, NULL, NULL, 0));
    SAY(futex(word, 77, 1, NULL, NULL, 0));
    SAY(futex(word, FUTEX_WAIT_BITSET, 0, &t, NULL, 0));
    pid_t a = waiter(FUTEX_WAIT, 0), b = waiter(FUTEX_WAIT, 0);
    SAY(futex(word, FUTEX_WAKE, 1, NULL, NULL, 0));
    SAY(futex(word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
    reap("a", a);
    reap("b", b);
    a = waiter(FUTEX_WAIT_BITSET, 1);
    b = waiter(FUTEX_WAIT_BITSET, 2);
    SAY(futex(word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, 2));
    reap("b", b);
    SAY(futex(word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, 4));
    SAY(futex(word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, 3));
    reap("a", a);
    a = waiter(FUTEX_WAIT, 0);
    b = waiter(FUTEX_WAIT, 0);
    pid_t c = waiter(FUTEX_WAIT, 0);
    SAY(futex(word, FUTEX_CMP_REQUEUE, 1, (void *)5L, word + 10, 9));
    SAY(futex(word, FUTEX_CMP_REQUEUE, 1, (void *)1L, word + 10, 0));
    SAY(futex(word + 10, FUTEX_WAKE, 5, NULL, NULL, 0));
    SAY(futex(word, FUTEX_WAKE, 5, NULL, NULL, 0));
    reap("a", a);
    reap("b", b);
    reap("c", c);
    word[20] = 5;
    SAY(futex(word, FUTEX_WAKE_OP, 1, (void *)1L, word + 20, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)));
    printf("%d\n", word[20]);
    int64_t until = now_ns(CLOCK_MONOTONIC) + 30000000;
    t = (struct timespec){until / 1000000000, until % 1000000000};
    SAY(futex(word, FUTEX_WAIT_BITSET, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY));
    IS(now_ns(CLOCK_MONOTONIC) >= until);
    SAY(futex(word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
    return 0;
}

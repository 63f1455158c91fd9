// timeout=60 futex(2) from one hot call site: the word is what it is when the call is served, however often it ran before.
#include "../check.h"
#include <linux/futex.h>

enum { ROUNDS = 4000, WAKERS = 3 };
static volatile int word, turn, stop;
static long unanswered;

static long futex(volatile int *addr, int op, int value, const struct timespec *limit) {
    return syscall(SYS_futex, addr, op | FUTEX_PRIVATE_FLAG, value, limit, NULL, ~0);
}

// Waits are bounded, so that a wake-up that is lost shows as a number instead of a hang.
static void wait_while(volatile int *addr, int value) {
    struct timespec limit = {10, 0};
    while (*addr == value)
        if (futex(addr, FUTEX_WAIT, value, &limit) == -1 && errno == ETIMEDOUT) unanswered++;
}

static void *echo(void *unused) {
    for (int k = 0; k < ROUNDS; k++) {
        wait_while(&turn, 0);
        turn = 0;
        futex(&turn, FUTEX_WAKE, 1, NULL);
    }
    return unused;
}

static void *waker(void *unused) {
    while (!stop) {
        __atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
        futex(&word, FUTEX_WAKE, INT_MAX, NULL);
    }
    return unused;
}

int main(void) {
    pthread_t threads[WAKERS];
    IS(pthread_create(&threads[0], NULL, echo, NULL) == 0);
    for (int k = 0; k < ROUNDS; k++) {
        turn = 1;
        futex(&turn, FUTEX_WAKE, 1, NULL);
        wait_while(&turn, 1);
    }
    pthread_join(threads[0], NULL);
    IS(unanswered == 0);

    for (int k = 0; k < WAKERS; k++) IS(pthread_create(&threads[k], NULL, waker, NULL) == 0);
    for (int k = 0; k < ROUNDS; k++) wait_while(&word, word);
    stop = 1;
    for (int k = 0; k < WAKERS; k++) pthread_join(threads[k], NULL);
    IS(unanswered == 0);

    SAY(futex(&word, FUTEX_WAIT, word + 1, NULL));
    SAY(futex((int *)8, FUTEX_WAIT, 0, NULL));
    char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    IS(page != MAP_FAILED);
    SAY(futex((int *)page, FUTEX_WAIT, 0, NULL));
    SAY(futex((int *)(page + 2), FUTEX_WAIT, 0, NULL));
    struct timespec soon = {0, 1000000};
    SAY(futex(&word, FUTEX_WAIT, word, &soon));
    return 0;
}

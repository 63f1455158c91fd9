// timeout=60 Threads that make threads which end at once, wait, or compute, here and in forked children.
#include "../check.h"
#include <pthread.h>

enum { MAKERS = 6, ROUNDS = 60, FORKS = 3 };
static long sums[MAKERS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *work(void *what) {
    long n = (long)what;
    volatile long spun = 0;
    if (n % 3 == 1)
        for (int k = 0; k < 200000; k++) spun++;
    if (n % 3 == 2) usleep(200);
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    return (void *)(n + 1);
}

static void *make(void *which) {
    long *sum = &sums[(long)which];
    for (long round = 0; round < ROUNDS; round++) {
        pthread_t two[2];
        for (int k = 0; k < 2; k++)
            if (pthread_create(&two[k], NULL, work, (void *)(round + k))) return NULL;
        for (int k = 0; k < 2; k++) {
            void *result;
            pthread_join(two[k], &result);
            *sum += (long)result;
        }
    }
    return which;
}

static long all(void) {
    pthread_t makers[MAKERS];
    memset(sums, 0, sizeof sums);
    for (long n = 0; n < MAKERS; n++)
        if (pthread_create(&makers[n], NULL, make, (void *)n)) return -1;
    long sum = 0;
    for (int n = 0; n < MAKERS; n++) pthread_join(makers[n], NULL), sum += sums[n];
    return sum;
}

static void *fork_some(void *unused) {
    for (int n = 0; n < FORKS; n++) {
        pid_t pid = NEED(fork());
        if (pid == 0) _exit(all() == MAKERS * (ROUNDS * (ROUNDS - 1) + 3 * ROUNDS) ? 7 : 8);
        reap("child of a thread", pid);
    }
    return unused;
}

int main(void) {
    printf("sum %ld\n", all());
    pthread_t forker;
    pthread_create(&forker, NULL, fork_some, NULL);
    pthread_join(forker, NULL);
    printf("sum %ld\n", all());
    return 0;
}

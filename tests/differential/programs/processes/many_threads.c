// timeout=60 500 threads at once, twice, and a fork out of a late one whose child makes 200 of its own.
#include "../check.h"
#include <pthread.h>

enum { COUNT = 500, FORKER = 300, OF_CHILD = 200 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int there, go, wanted;
static pthread_attr_t small;

static void *wait_for_all(void *number) {
    pthread_mutex_lock(&mutex);
    if (++there == wanted) pthread_cond_broadcast(&changed);
    while (!go) pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    return number;
}

static void *count(void *unused) {
    __atomic_fetch_add(&there, 1, __ATOMIC_SEQ_CST);
    return unused;
}

static void *fork_one(void *number) {
    wait_for_all(number);
    pid_t pid = NEED(fork());
    if (pid == 0) {
        pthread_t threads[OF_CHILD];
        there = 0;
        for (int n = 0; n < OF_CHILD; n++)
            if (pthread_create(&threads[n], &small, count, NULL)) _exit(9);
        for (int n = 0; n < OF_CHILD; n++) pthread_join(threads[n], NULL);
        _exit(there == OF_CHILD ? 7 : 8);
    }
    reap("child of a late thread", pid);
    return number;
}

int main(void) {
    static pthread_t threads[COUNT];
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    wanted = COUNT;
    for (int round = 0; round < 2; round++) {
        there = go = 0;
        for (long n = 0; n < COUNT; n++) {
            int failed = pthread_create(&threads[n], &small, n == FORKER ? fork_one : wait_for_all, (void *)n);
            if (failed) {
                printf("thread %ld: %s\n", n, error_name(failed));
                return 1;
            }
        }
        pthread_mutex_lock(&mutex);
        while (there < COUNT) pthread_cond_wait(&changed, &mutex);
        go = 1;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
        long sum = 0;
        for (int n = 0; n < COUNT; n++) {
            void *result;
            pthread_join(threads[n], &result);
            sum += (long)result;
        }
        printf("sum %ld\n", sum);
    }
    return 0;
}

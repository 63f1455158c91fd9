// Threads: same pid, own tid, shared descriptors and memory, join values, detach, thread-local storage.
#include "../check.h"

static __thread int local = 1;
static int shared;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pid_t tids[8], pids[8];

static void *work(void *argument) {
    long n = (long)argument;
    local += n;
    tids[n] = gettid();
    pids[n] = getpid();
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&mutex);
        shared++;
        pthread_mutex_unlock(&mutex);
    }
    return (void *)(long)local;
}

int main(void) {
    pthread_t threads[8];
    for (long i = 0; i < 8; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    long sum = 0;
    for (int i = 0; i < 8; i++) {
        void *value;
        pthread_join(threads[i], &value);
        sum += (long)value;
    }
    int distinct = 1, same = 1;
    for (int i = 0; i < 8; i++) {
        same &= pids[i] == getpid();
        for (int j = 0; j < i; j++) distinct &= tids[i] != tids[j];
    }
    printf("sum %ld shared %d local %d distinct %d same %d\n", sum, shared, local, distinct, same);
    IS(gettid() == getpid());
    SAY(tgkill(getpid(), tids[0], 0));
    SAY(syscall(SYS_tgkill, getpid(), getpid(), 0));
    return 0;
}

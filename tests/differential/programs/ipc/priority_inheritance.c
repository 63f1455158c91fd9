// Priority-inheritance mutexes (FUTEX_LOCK_PI) under contention.
#include "../check.h"

static pthread_mutex_t mutex;
static long counter;

static void *work(void *x) {
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        if (i % 100 == 0) sched_yield();
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

int main(void) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    printf("protocol %s\n", error_name(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT)));
    printf("init %s\n", error_name(pthread_mutex_init(&mutex, &attr)));
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, work, NULL);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    printf("counter %ld\n", counter);
    return 0;
}

// Condition variables, barriers, rwlocks, semaphores, once, timed waits.
#include "../check.h"
#include <semaphore.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t sem;
static int turn, order[30], count, serial, total;

static void *ring(void *x) {
    long me = (long)x;
    for (int i = 0; i < 10; i++) {
        pthread_mutex_lock(&mutex);
        while (turn != me) pthread_cond_wait(&cond, &mutex);
        order[count++] = me;
        turn = (turn + 1) % 3;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}
static void *meet(void *x) {
    for (int i = 0; i < 20; i++)
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) __sync_fetch_and_add(&serial, 1);
    return NULL;
}
static void *lock(void *x) {
    for (int i = 0; i < 200; i++) {
        pthread_rwlock_wrlock(&rwlock);
        total++;
        pthread_rwlock_unlock(&rwlock);
        pthread_rwlock_rdlock(&rwlock);
        pthread_rwlock_unlock(&rwlock);
        sem_wait(&sem);
        sem_post(&sem);
    }
    return NULL;
}

static void three(void *(*f)(void *)) {
    pthread_t t[3];
    for (long i = 0; i < 3; i++) pthread_create(&t[i], NULL, f, (void *)i);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
}

int main(void) {
    three(ring);
    int right = 1;
    for (int i = 0; i < 30; i++) right &= order[i] == i % 3;
    printf("ring in order %d\n", right);
    pthread_barrier_init(&barrier, NULL, 3);
    three(meet);
    printf("serial threads %d\n", serial);
    sem_init(&sem, 0, 1);
    three(lock);
    printf("total %d\n", total);
    int64_t until = now_ns(CLOCK_REALTIME) + 40000000;
    struct timespec t = {until / 1000000000, until % 1000000000};
    pthread_mutex_lock(&mutex);
    printf("timed wait %s\n", error_name(pthread_cond_timedwait(&cond, &mutex, &t)));
    pthread_mutex_unlock(&mutex);
    sem_wait(&sem);
    printf("sem timed wait %d %s\n", sem_timedwait(&sem, &t), error_name(errno));
    printf("try %s\n", error_name(pthread_mutex_trylock(&mutex)));
    printf("timed lock %s\n", error_name(pthread_mutex_timedlock(&mutex, &t)));
    return 0;
}

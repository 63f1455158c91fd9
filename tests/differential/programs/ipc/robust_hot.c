// Threads that end with a robust mutex held, so many that their calls are no longer asked for; and lists said again.
#include "../check.h"

static pthread_mutex_t mutex;
static void *dies(void *unused) {
    pthread_mutex_lock(&mutex);
    return unused;
}
static void *lives(void *unused) {
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    return unused;
}

static int __attribute__((noinline)) say_list(void *head, size_t size) {
    return syscall(SYS_set_robust_list, head, size);
}
static void *said_last(void *unused) {  // what counts is what was said last, whoever was told
    unsigned long heads[4][3], *found;
    size_t size;
    int wrong = 0;
    for (int k = 0; k < 400; k++) {
        unsigned long *head = heads[k % 4];
        head[0] = (unsigned long)head, head[1] = head[2] = 0;
        if (say_list(head, 24) || (k % 7 == 0 && say_list(head, 8) != -1)) wrong++;
        if (k % 5 == 0 && (syscall(SYS_get_robust_list, 0, &found, &size) || found != head || size != 24)) wrong++;
    }
    printf("wrong %d\n", wrong);
    say_list(NULL, 24);
    return unused;
}

int main(void) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex, &attr);
    int died = 0, fine = 0;
    for (int k = 0; k < 300; k++) {
        pthread_t thread;
        pthread_create(&thread, NULL, k % 3 ? dies : lives, NULL);
        pthread_join(thread, NULL);
        int error = pthread_mutex_lock(&mutex);
        if (error == EOWNERDEAD) died++, pthread_mutex_consistent(&mutex);
        if (!error) fine++;
        pthread_mutex_unlock(&mutex);
    }
    printf("%d died with it, %d did not\n", died, fine);
    pthread_t thread;
    pthread_create(&thread, NULL, said_last, NULL);
    pthread_join(thread, NULL);
    IN_CHILD("a process of its own", said_last(NULL));
    return 0;
}

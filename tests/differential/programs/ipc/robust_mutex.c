// A robust mutex whose owner dies: EOWNERDEAD, consistent, ENOTRECOVERABLE; between processes.
#include "../check.h"

int main(void) {
    pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(m, &attr);
    IN_CHILD("dies with the lock", pthread_mutex_lock(m));
    printf("lock %s\n", error_name(pthread_mutex_lock(m)));
    printf("consistent %s\n", error_name(pthread_mutex_consistent(m)));
    printf("unlock %s\n", error_name(pthread_mutex_unlock(m)));
    int p[2];
    char c;
    NEED(pipe(p));
    pid_t pid = NEED(fork());
    if (pid == 0) {
        pthread_mutex_lock(m);
        write(p[1], "x", 1);
        for (;;) pause();
    }
    NEED(read(p[0], &c, 1));
    printf("try %s\n", error_name(pthread_mutex_trylock(m)));
    pid_t second = NEED(fork());
    if (second == 0) _exit(pthread_mutex_lock(m) == EOWNERDEAD ? 5 : 6);
    sleep_ms(60);
    kill(pid, SIGKILL);
    reap("owner", pid);
    reap("waiter", second);
    printf("lock %s\n", error_name(pthread_mutex_lock(m)));
    printf("unlock without repair %s\n", error_name(pthread_mutex_unlock(m)));
    printf("lock %s\n", error_name(pthread_mutex_lock(m)));
    return 0;
}

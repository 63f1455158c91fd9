// Named and unnamed POSIX semaphores and shm_open between processes.
#include "../check.h"
#include <semaphore.h>

int main(void) {
    char name[40];
    snprintf(name, sizeof name, "/sentrio-%d", getpid());
    sem_t *named = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    IS(named != SEM_FAILED);
    pid_t pid = NEED(fork());
    if (pid == 0) {
        sem_t *again = sem_open(name, 0);
        if (again == SEM_FAILED) _exit(9);
        sem_post(again);
        _exit(0);
    }
    SAY(sem_wait(named));
    reap("poster", pid);
    SAY(sem_trywait(named));
    SAY(sem_unlink(name));
    SAY(sem_unlink(name));
    int fd;
    OK(fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600));
    NEED(ftruncate(fd, 4096));
    struct { sem_t a; sem_t b; int n; } *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    sem_init(&s->a, 1, 0);
    sem_init(&s->b, 1, 0);
    pid = NEED(fork());
    if (pid == 0) {
        for (int i = 0; i < 200; i++) {
            sem_wait(&s->a);
            s->n++;
            sem_post(&s->b);
        }
        _exit(0);
    }
    for (int i = 0; i < 200; i++) {
        s->n++;
        sem_post(&s->a);
        sem_wait(&s->b);
    }
    reap("partner", pid);
    printf("n %d\n", s->n);
    SAY(shm_unlink(name));
    OK(shm_open(name, O_RDWR, 0));
    return 0;
}

// execve from a thread other than the first: the process keeps its pid.
#include "../check.h"

static void *run(void *x) {
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    execl("/proc/self/exe", "again", pid, NULL);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        printf("same pid %d tid %d name %s\n", atoi(argv[1]) == getpid(), gettid() == getpid(), argv[0]);
        return 31;
    }
    IN_CHILD("child", {
        pthread_t t;
        pthread_create(&t, NULL, run, NULL);
        for (;;) pause();
    });
    return 0;
}

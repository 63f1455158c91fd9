// A fork bomb is bounded by RLIMIT_NPROC: EAGAIN for forks and threads alike, and room again when children ended.
#include "../check.h"
#include <pthread.h>

static void *nothing(void *unused) { return unused; }

int main(void) {
    NEED(setresuid(54321, 54321, 54321));
    struct rlimit limit = {40, 40};
    NEED(setrlimit(RLIMIT_NPROC, &limit));
    int made = 0, hold[2];
    NEED(pipe(hold));
    pid_t pid;
    while ((pid = fork()) > 0) made++;
    if (pid == 0) {
        char c;
        close(hold[1]);
        read(hold[0], &c, 1);
        _exit(0);
    }
    printf("made %d, then %s\n", made, error_name(errno));
    pthread_t thread;
    printf("thread: %s\n", error_name(pthread_create(&thread, NULL, nothing, NULL)));
    close(hold[0]);
    close(hold[1]);
    int ended = 0;
    while (wait(NULL) > 0) ended++;
    printf("ended %d\n", ended);
    pid = fork();
    if (pid == 0) _exit(3);
    reap("again", pid);
    return 0;
}

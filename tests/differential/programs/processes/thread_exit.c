// exit_group from a thread ends all; the main thread's pthread_exit does not; fork in a thread copies one.
#include "../check.h"

static void *forever(void *x) {
    for (;;) pause();
    return x;
}
static void *ender(void *x) {
    exit(21);
}
static void *later(void *x) {
    sleep_ms(50);
    exit(22);
}
static void *forker(void *x) {
    pid_t pid = fork();
    if (pid == 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/status");
        FILE *f = fopen(path, "r");
        for (char line[256]; fgets(line, sizeof line, f);)
            if (strncmp(line, "Threads:", 8) == 0) printf("child %s", line);
        _exit(0);
    }
    reap("forked in a thread", pid);
    return NULL;
}

int main(void) {
    pthread_t t;
    IN_CHILD("exit in a thread", { pthread_create(&t, NULL, forever, NULL); pthread_create(&t, NULL, ender, NULL); pause(); });
    IN_CHILD("main leaves first", { pthread_create(&t, NULL, later, NULL); pthread_exit(NULL); });
    IN_CHILD("only main", pthread_exit(NULL));
    IN_CHILD("killed", { pthread_create(&t, NULL, forever, NULL); kill(getpid(), SIGKILL); pause(); });
    pthread_create(&t, NULL, forker, NULL);
    pthread_join(t, NULL);
    IN_CHILD("exec in a thread group", {
        pthread_create(&t, NULL, forever, NULL);
        execl("/bin/sh", "sh", "-c", "exit 23", NULL);
    });
    return 0;
}

// vfork: the parent waits, memory is shared until exit or exec.
#include "../check.h"

static volatile int shared;

int main(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        shared = 42;
        _exit(3);
    }
    printf("shared %d\n", shared);
    reap("child", pid);
    pid = vfork();
    if (pid == 0) {
        shared = 43;
        execl("/bin/sh", "sh", "-c", "exit 4", NULL);
        _exit(1);
    }
    printf("shared %d\n", shared);
    reap("exec", pid);
    pid = vfork();
    if (pid == 0) {
        execl("/nonexistent", "x", NULL);
        shared = errno;
        _exit(5);
    }
    printf("%s\n", error_name(shared));
    reap("failed exec", pid);
    return 0;
}

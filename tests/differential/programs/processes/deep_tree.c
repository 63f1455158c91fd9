// A chain of twenty processes, each waiting for the next; the value comes back added up.
#include "../check.h"

static int level(int n) {
    if (n == 0) return 1;
    pid_t pid = NEED(fork());
    if (pid == 0) _exit(level(n - 1));
    int status;
    NEED(waitpid(pid, &status, 0));
    return WEXITSTATUS(status) + 1;
}

int main(void) {
    printf("depth %d\n", level(20));
    return 0;
}

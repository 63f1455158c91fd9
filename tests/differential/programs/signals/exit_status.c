// The end by a signal as seen by the parent: every default-terminating signal.
#include "../check.h"

int main(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    for (int signo = 1; signo < 65; signo++) {
        if (signo == 32 || signo == 33) continue;
        pid_t pid = NEED(fork());
        if (pid == 0) {
            raise(signo);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, WUNTRACED);
        if (WIFSTOPPED(status)) {
            printf("%d stops\n", signo);
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
        } else if (WIFSIGNALED(status))
            printf("%d kills\n", signo == WTERMSIG(status) ? signo : -1);
        else
            printf("%d nothing\n", signo);
    }
    return 0;
}

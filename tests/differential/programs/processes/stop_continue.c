// WUNTRACED and WCONTINUED: stops and continues are reported once each.
#include "../check.h"

int main(void) {
    int status;
    pid_t pid = NEED(fork());
    if (pid == 0)
        for (;;) pause();
    for (int i = 0; i < 2; i++) {
        kill(pid, SIGSTOP);
        IS(waitpid(pid, &status, WUNTRACED) == pid);
        say_status("child", status);
        SAY(waitpid(pid, &status, WUNTRACED | WNOHANG));
        kill(pid, SIGCONT);
        IS(waitpid(pid, &status, WCONTINUED) == pid);
        say_status("child", status);
        SAY(waitpid(pid, &status, WCONTINUED | WNOHANG));
    }
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGTERM);
    SAY(waitpid(pid, &status, WNOHANG));
    kill(pid, SIGCONT);
    reap("after SIGCONT", pid);
    pid = NEED(fork());
    if (pid == 0)
        for (;;) pause();
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGKILL);
    reap("killed while stopped", pid);
    return 0;
}

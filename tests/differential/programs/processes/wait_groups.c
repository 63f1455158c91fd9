// waitpid by process group.
#include "../check.h"

int main(void) {
    pid_t a = NEED(fork());
    if (a == 0) _exit(1);
    pid_t b = NEED(fork());
    if (b == 0) {
        setpgid(0, 0);
        _exit(2);
    }
    siginfo_t info;
    NEED(waitid(P_PID, a, &info, WEXITED | WNOWAIT));
    NEED(waitid(P_PID, b, &info, WEXITED | WNOWAIT));
    int status;
    IS(waitpid(-b, &status, 0) == b);
    say_status("other group", status);
    SAY(waitpid(-b, &status, 0));
    IS(waitpid(0, &status, 0) == a);
    say_status("own group", status);
    SAY(waitpid(0, &status, 0));
    SAY(waitpid(INT_MIN, &status, 0));
    return 0;
}

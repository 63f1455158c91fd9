// waitid(2): all options, WNOWAIT, siginfo fields, idtypes, pidfds.
#include "../check.h"

static void show(const char *what, int r, siginfo_t *i, pid_t expected) {
    if (r == -1)
        printf("%s: %s\n", what, error_name(errno));
    else
        printf("%s: signo %d code %d status %d pid %s\n", what, i->si_signo, i->si_code, i->si_status,
               i->si_pid == expected ? "right" : i->si_pid == 0 ? "zero" : "other");
}

int main(void) {
    siginfo_t i;
    pid_t pid = NEED(fork());
    if (pid == 0) {
        raise(SIGSTOP);
        raise(SIGSTOP);
        _exit(9);
    }
    memset(&i, 0, sizeof i);
    show("stopped", waitid(P_PID, pid, &i, WSTOPPED), &i, pid);
    memset(&i, 0, sizeof i);
    show("nothing yet", waitid(P_PID, pid, &i, WEXITED | WSTOPPED | WNOHANG), &i, pid);
    kill(pid, SIGCONT);
    memset(&i, 0, sizeof i);
    show("continued or stopped again", waitid(P_PID, pid, &i, WSTOPPED), &i, pid);
    kill(pid, SIGCONT);
    memset(&i, 0, sizeof i);
    show("exited, left", waitid(P_ALL, 0, &i, WEXITED | WNOWAIT), &i, pid);
    show("exited, left", waitid(P_PGID, 0, &i, WEXITED | WNOWAIT), &i, pid);
    int fd = NEED(syscall(SYS_pidfd_open, pid, 0));
    show("pidfd", waitid(P_PIDFD, fd, &i, WEXITED), &i, pid);
    show("gone", waitid(P_PID, pid, &i, WEXITED), &i, pid);
    show("no options", waitid(P_ALL, 0, &i, 0), &i, pid);
    show("bad idtype", waitid(77, 0, &i, WEXITED), &i, pid);
    show("bad option", waitid(P_ALL, 0, &i, WEXITED | 0x100), &i, pid);
    if ((pid = fork()) == 0) raise(SIGKILL);
    show("killed", waitid(P_PID, pid, &i, WEXITED), &i, pid);
    if ((pid = fork()) == 0) _exit(1);
    struct rusage usage = {.ru_nsignals = -1};
    show("null info", syscall(SYS_waitid, P_PID, pid, NULL, WEXITED, &usage), &i, i.si_pid);
    IS(usage.ru_nsignals == 0 && usage.ru_utime.tv_sec == 0);
    return 0;
}

// Process groups and sessions: setpgid, setsid, getpgid, getsid and their errors.
#include "../check.h"

int main(void) {
    IN_CHILD("child", {
        pid_t me = getpid();
        IS(getpgrp() != me);
        IS(getsid(0) == getsid(getppid()));
        SAY(setpgid(0, 0));
        IS(getpgrp() == me);
        SAY(setsid());
        pid_t pid = NEED(fork());
        if (pid == 0) {
            IS(getpgrp() == me);
            IS(setsid() == getpid());
            IS(getsid(0) == getpid() && getpgrp() == getpid());
            SAY(setpgid(0, 0));
            SAY(setsid());
            _exit(0);
        }
        reap("session leader", pid);
    });
    int p[2];
    char c;
    NEED(pipe(p));
    pid_t pid = NEED(fork());
    if (pid == 0) {
        close(p[1]);
        read(p[0], &c, 1);
        _exit(0);
    }
    SAY(setpgid(pid, pid));
    IS(getpgid(pid) == pid);
    SAY(setpgid(pid, 1 << 29));
    SAY(setpgid(pid, getpgrp()));
    SAY(setpgid(pid, -1));
    SAY(setpgid(1 << 29, 0));
    SAY(getpgid(1 << 29));
    SAY(getsid(1 << 29));
    close(p[1]);
    reap("child", pid);
    pid = NEED(fork());
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "sleep 5", NULL);
        _exit(1);
    }
    sleep_ms(300);
    SAY(setpgid(pid, pid));
    kill(pid, SIGKILL);
    reap("after exec", pid);
    return 0;
}

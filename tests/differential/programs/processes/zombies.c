// A zombie: kill works, /proc shows Z, its group stays; SIGCHLD ignored reaps by itself.
#include "../check.h"

static char state_of(pid_t pid) {
    char path[64], data[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    if (fd == -1) return '-';
    read(fd, data, sizeof data - 1);
    close(fd);
    return strrchr(data, ')')[2];
}

int main(void) {
    siginfo_t info;
    pid_t pid = NEED(fork());
    if (pid == 0) _exit(5);
    NEED(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    printf("state %c\n", state_of(pid));
    SAY(kill(pid, 0));
    SAY(kill(pid, SIGTERM));
    IS(getpgid(pid) == getpgrp());
    reap("zombie", pid);
    SAY(kill(pid, 0));
    printf("state %c\n", state_of(pid));
    signal(SIGCHLD, SIG_IGN);
    pid = NEED(fork());
    if (pid == 0) _exit(6);
    int status;
    SAY(waitpid(pid, &status, 0));
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    NEED(sigaction(SIGCHLD, &action, NULL));
    pid = NEED(fork());
    if (pid == 0) _exit(7);
    SAY(waitpid(-1, &status, 0));
    printf("self state %c\n", state_of(getpid()));
    return 0;
}

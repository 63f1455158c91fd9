// O_ASYNC: SIGIO when a socket becomes readable, F_SETSIG with siginfo, F_SETOWN.
#include "../check.h"

static siginfo_t seen;
static volatile int count;
static void on(int signo, siginfo_t *info, void *context) {
    seen = *info;
    count++;
}

int main(void) {
    int s[2];
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    struct sigaction action = {.sa_sigaction = on, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGIO, &action, NULL);
    sigaction(SIGRTMIN, &action, NULL);
    SAY(fcntl(s[0], F_GETOWN));
    SAY(fcntl(s[0], F_SETOWN, getpid()));
    IS(fcntl(s[0], F_GETOWN) == getpid());
    SAY(fcntl(s[0], F_SETFL, O_ASYNC));
    IS((fcntl(s[0], F_GETFL) & O_ASYNC) != 0);
    NEED(write(s[1], "x", 1));
    printf("count %d signo io %d\n", count > 0, seen.si_signo == SIGIO);
    SAY(fcntl(s[0], F_SETSIG, SIGRTMIN));
    count = 0;
    NEED(write(s[1], "y", 1));
    printf("count %d rt %d fd %d band in %d\n", count > 0, seen.si_signo == SIGRTMIN, seen.si_fd == s[0], (seen.si_band & POLLIN) != 0);
    SAY(fcntl(s[0], F_SETSIG, 99));
    SAY(fcntl(s[0], F_SETOWN, 1 << 29));
    SAY(fcntl(s[0], F_SETFL, 0));
    return 0;
}

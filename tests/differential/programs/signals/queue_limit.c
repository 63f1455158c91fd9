// RLIMIT_SIGPENDING bounds queued real-time signals; the standard ones get through.
#include "../check.h"

int main(void) {
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    NEED(setresuid(54321, 54321, 54321));
    struct rlimit limit = {5, 5};
    NEED(setrlimit(RLIMIT_SIGPENDING, &limit));
    int sent = 0;
    while (sent < 100 && sigqueue(getpid(), SIGRTMIN, (union sigval){sent}) == 0) sent++;
    printf("%s\n", error_name(errno));
    IS(sent >= 4 && sent <= 5);
    SAY(raise(SIGUSR1));
    sigpending(&set);
    IS(sigismember(&set, SIGUSR1));
    return 0;
}

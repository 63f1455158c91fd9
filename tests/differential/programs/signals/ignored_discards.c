// Setting SIG_IGN discards what is pending; a blocked default-ignored signal stays pending.
#include "../check.h"

static bool pending(int signo) {
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, signo);
}

int main(void) {
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    raise(SIGUSR1);
    IS(pending(SIGUSR1));
    signal(SIGUSR1, SIG_IGN);
    IS(pending(SIGUSR1));
    raise(SIGURG);
    IS(pending(SIGURG));
    signal(SIGURG, SIG_DFL);
    IS(pending(SIGURG));
    raise(SIGTSTP);
    IS(pending(SIGTSTP));
    raise(SIGCONT);
    IS(pending(SIGTSTP));
    IS(pending(SIGCONT));
    raise(SIGTTOU);
    IS(pending(SIGCONT));
    return 0;
}

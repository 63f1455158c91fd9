// Real-time signals queue with their values, lowest number first, in order of sending; standard ones before them.
#include "../check.h"

static void on(int signo, siginfo_t *info, void *context) {
    if (signo >= SIGRTMIN)
        printf("RTMIN+%d value %d\n", signo - SIGRTMIN, info->si_value.sival_int);
    else
        printf("%s\n", sigabbrev_np(signo));
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    sigfillset(&action.sa_mask);
    sigset_t set;
    sigemptyset(&set);
    int numbers[] = {SIGUSR1, SIGHUP, SIGRTMIN, SIGRTMIN + 3, SIGRTMAX};
    for (int i = 0; i < 5; i++) {
        NEED(sigaction(numbers[i], &action, NULL));
        sigaddset(&set, numbers[i]);
    }
    NEED(sigprocmask(SIG_BLOCK, &set, NULL));
    for (int i = 0; i < 3; i++) {
        sigqueue(getpid(), SIGRTMIN + 3, (union sigval){i});
        sigqueue(getpid(), SIGRTMIN, (union sigval){10 + i});
        raise(SIGUSR1);
        raise(SIGHUP);
    }
    // With the handlers' full masks, delivery runs one handler to its end before the next.
    while (1) {
        sigset_t pending, one;
        sigpending(&pending);
        int any = 0;
        for (int i = 0; i < 5; i++) any |= sigismember(&pending, numbers[i]);
        if (!any) break;
        siginfo_t info;
        one = set;
        int signo = sigwaitinfo(&one, &info);
        on(signo, &info, NULL);
    }
    for (int i = 0; i < 3; i++) sigqueue(getpid(), SIGRTMIN, (union sigval){20 + i});
    NEED(sigprocmask(SIG_UNBLOCK, &set, NULL));
    return 0;
}

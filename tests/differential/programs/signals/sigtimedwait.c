// sigwaitinfo and sigtimedwait: queued values, timeouts, interruption, bad arguments.
#include "../check.h"

static void on(int signo) {}

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 1);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL));
    siginfo_t info;
    struct timespec zero = {0, 0}, some = {0, 60000000}, bad = {0, 1000000000};
    SAY(sigtimedwait(&set, &info, &zero));
    int64_t start = now_ns(CLOCK_MONOTONIC);
    SAY(sigtimedwait(&set, &info, &some));
    IS(now_ns(CLOCK_MONOTONIC) - start >= 60000000);
    SAY(sigtimedwait(&set, &info, &bad));
    sigqueue(getpid(), SIGRTMIN + 1, (union sigval){77});
    IS(sigwaitinfo(&set, &info) == SIGRTMIN + 1);
    printf("value %d code %d\n", info.si_value.sival_int, info.si_code);
    raise(SIGUSR1);
    IS(sigtimedwait(&set, NULL, &zero) == SIGUSR1);
    struct sigaction action = {.sa_handler = on, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {.it_value = {0, 50000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    SAY(sigwaitinfo(&set, &info));
    pid_t parent = getpid(), pid = NEED(fork());
    if (pid == 0) {
        sleep_ms(50);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    IS(sigwaitinfo(&set, &info) == SIGUSR1);
    IS(info.si_pid == pid && info.si_code == SI_USER);
    reap("sender", pid);
    SAY(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 4));
    return 0;
}

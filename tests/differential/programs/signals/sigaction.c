// sigaction(2): what is stored and returned, SIG_IGN and SIG_DFL, uncatchable signals, bad numbers.
#include "../check.h"

static volatile int got;
static void on(int signo) { got = signo; }

int main(void) {
    struct sigaction new = {.sa_handler = on, .sa_flags = SA_RESTART | SA_NODEFER}, old;
    sigemptyset(&new.sa_mask);
    sigaddset(&new.sa_mask, SIGHUP);
    sigaddset(&new.sa_mask, SIGKILL);
    SAY(sigaction(SIGUSR1, &new, &old));
    IS(old.sa_handler == SIG_DFL);
    SAY(sigaction(SIGUSR1, NULL, &old));
    IS(old.sa_handler == on);
    printf("flags %x hup %d kill %d usr1 %d\n", old.sa_flags & ~0x04000000, sigismember(&old.sa_mask, SIGHUP),
           sigismember(&old.sa_mask, SIGKILL), sigismember(&old.sa_mask, SIGUSR1));
    raise(SIGUSR1);
    printf("got %d\n", got);
    SAY(sigaction(SIGKILL, &new, NULL));
    SAY(sigaction(SIGSTOP, &new, NULL));
    SAY(sigaction(SIGKILL, NULL, &old));
    SAY(sigaction(0, &new, NULL));
    SAY(sigaction(65, &new, NULL));
    SAY(syscall(SYS_rt_sigaction, SIGUSR1, &new, NULL, 4));
    SAY(syscall(SYS_rt_sigaction, SIGUSR1, (void *)8, NULL, 8));
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    printf("ignored\n");
    new.sa_flags = SA_RESETHAND;
    SAY(sigaction(SIGUSR2, &new, NULL));
    raise(SIGUSR2);
    SAY(sigaction(SIGUSR2, NULL, &old));
    IS(old.sa_handler == SIG_DFL);
    return 0;
}

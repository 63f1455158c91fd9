// sigprocmask and sigpending: blocking, standard signals merge, KILL and STOP cannot be blocked.
#include "../check.h"

static volatile int count;
static void on(int signo) { count++; }

int main(void) {
    sigset_t set, old, pending;
    signal(SIGUSR1, on);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SAY(sigprocmask(SIG_BLOCK, &set, &old));
    IS(sigismember(&old, SIGUSR1));
    for (int i = 0; i < 5; i++) raise(SIGUSR1);
    printf("count %d\n", count);
    SAY(sigpending(&pending));
    printf("usr1 %d usr2 %d\n", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGUSR2));
    IN_CHILD("child has no pending", { sigpending(&pending); printf("%d\n", sigismember(&pending, SIGUSR1)); });
    SAY(sigprocmask(SIG_UNBLOCK, &set, NULL));
    printf("count %d\n", count);
    sigfillset(&set);
    SAY(sigprocmask(SIG_SETMASK, &set, NULL));
    SAY(sigprocmask(SIG_BLOCK, NULL, &old));
    printf("kill %d stop %d hup %d\n", sigismember(&old, SIGKILL), sigismember(&old, SIGSTOP), sigismember(&old, SIGHUP));
    SAY(sigprocmask(77, &set, NULL));
    SAY(sigprocmask(77, NULL, &old));
    SAY(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 4));
    SAY(syscall(SYS_rt_sigprocmask, SIG_BLOCK, (void *)8, NULL, 8));
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    sigpending(&pending);
    printf("blocked and ignored: pending %d\n", sigismember(&pending, SIGUSR1));
    return 0;
}

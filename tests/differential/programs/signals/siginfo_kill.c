// siginfo of kill, tgkill, raise, sigqueue, and of a terminal-less SIGCHLD.
#include "../check.h"

static siginfo_t seen;
static volatile int count;
static void on(int signo, siginfo_t *info, void *context) {
    seen = *info;
    count++;
}

static void show(const char *what) {
    printf("%s: signo %d code %d errno %d own pid %d uid %d count %d\n", what, seen.si_signo, seen.si_code, seen.si_errno,
           seen.si_pid == getpid(), seen.si_uid, count);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    NEED(sigaction(SIGUSR1, &action, NULL));
    NEED(sigaction(SIGRTMIN, &action, NULL));
    kill(getpid(), SIGUSR1);
    show("kill");
    raise(SIGUSR1);
    show("raise");
    tgkill(getpid(), gettid(), SIGUSR1);
    show("tgkill");
    union sigval value = {.sival_ptr = (void *)0x123456789abc};
    SAY(sigqueue(getpid(), SIGRTMIN, value));
    show("sigqueue");
    IS(seen.si_value.sival_ptr == (void *)0x123456789abc);
    siginfo_t forged = {.si_signo = SIGUSR1, .si_code = SI_USER};
    pid_t parent = getpid();
    SAY(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &forged));
    IN_CHILD("forger", {
        SAY(syscall(SYS_rt_sigqueueinfo, parent, SIGUSR1, &forged));
        forged.si_code = SI_TKILL;
        SAY(syscall(SYS_rt_sigqueueinfo, parent, SIGUSR1, &forged));
    });
    NEED(sigaction(SIGCHLD, &action, NULL));
    count = 0;
    pid_t pid = NEED(fork());
    if (pid == 0) _exit(3);
    reap("child", pid);
    IS(seen.si_pid == pid && seen.si_signo == SIGCHLD);
    printf("code %d status %d count %d\n", seen.si_code, seen.si_status, count);
    pid = NEED(fork());
    if (pid == 0) raise(SIGKILL);
    reap("child", pid);
    printf("code %d status %d count %d\n", seen.si_code, seen.si_status, count);
    return 0;
}

// SIGCHLD: on exit, stop and continue; SA_NOCLDSTOP; one signal for several children.
#include "../check.h"

static volatile int count, codes[8];
static void on(int signo, siginfo_t *info, void *context) {
    if (count < 8) codes[count] = info->si_code;
    count++;
}

static void wait_for(int n) {
    for (int i = 0; i < 200 && count < n; i++) sleep_ms(5);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    pid_t pid = NEED(fork());
    if (pid == 0)
        for (;;) pause();
    kill(pid, SIGSTOP);
    wait_for(1);
    kill(pid, SIGCONT);
    wait_for(2);
    kill(pid, SIGKILL);
    wait_for(3);
    printf("count %d codes %d %d %d\n", count, codes[0], codes[1], codes[2]);
    reap("child", pid);
    count = 0;
    action.sa_flags |= SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, NULL);
    pid = NEED(fork());
    if (pid == 0)
        for (;;) pause();
    kill(pid, SIGSTOP);
    int status;
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGCONT);
    waitpid(pid, &status, WCONTINUED);
    kill(pid, SIGKILL);
    reap("child", pid);
    printf("count %d code %d\n", count, codes[0]);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    count = 0;
    pid_t pids[5];
    for (int i = 0; i < 5; i++)
        if ((pids[i] = fork()) == 0) _exit(0);
    for (int i = 0; i < 5; i++) waitpid(pids[i], &status, 0);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("merged %d\n", count);
    return 0;
}

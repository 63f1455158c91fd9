// The running signal is blocked in its handler unless SA_NODEFER; sa_mask adds others; nesting order.
#include "../check.h"

static int depth;
static void nested(int signo) {
    depth++;
    printf("%*senter %s\n", depth, "", sigabbrev_np(signo));
    if (depth < 3) raise(signo);
    printf("%*sleave %s\n", depth, "", sigabbrev_np(signo));
    depth--;
}

static int again;
static void deferred(int signo) {
    printf("enter %d\n", again);
    if (again++ < 2) raise(signo);
    printf("leave, at %d\n", again);
}

static void outer(int signo) {
    printf("outer\n");
    raise(SIGUSR2);
    raise(SIGHUP);
    printf("outer ends\n");
}
static void inner(int signo) { printf("inner %s\n", sigabbrev_np(signo)); }

int main(void) {
    struct sigaction action = {.sa_handler = nested, .sa_flags = SA_NODEFER};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    action.sa_flags = 0;
    action.sa_handler = deferred;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    action.sa_handler = outer;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGUSR2, inner);
    signal(SIGHUP, inner);
    raise(SIGUSR1);
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    IS(!sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGUSR2));
    return 0;
}

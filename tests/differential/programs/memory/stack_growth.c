// The stack grows down to RLIMIT_STACK and no further.
#include "../check.h"
#include <setjmp.h>

static int deep(int n) {
    volatile char frame[4096];
    frame[0] = frame[4095] = n;
    return n == 0 ? frame[0] : deep(n - 1) + frame[4095] * 0;
}

static sigjmp_buf back;
static char other_stack[65536];
static void on(int signo, siginfo_t *info, void *context) { siglongjmp(back, 1 + (info->si_code == SEGV_MAPERR)); }

static int endless(int n) {
    volatile char frame[4096];
    frame[0] = n;
    return endless(n + 1) + frame[0];
}

int main(void) {
    printf("deep %d\n", deep(1500));
    stack_t alternate = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    NEED(sigaltstack(&alternate, NULL));
    struct sigaction action = {.sa_sigaction = on, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    NEED(sigaction(SIGSEGV, &action, NULL));
    int got = sigsetjmp(back, 1);
    if (got == 0) endless(0);
    printf("overflow caught %d\n", got > 0);
    signal(SIGSEGV, SIG_DFL);
    IN_CHILD("child", endless(0));
    return 0;
}

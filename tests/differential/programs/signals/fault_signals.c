// Synchronous signals: SIGFPE, SIGILL, SIGTRAP with their codes; blocked or ignored they still kill.
#include "../check.h"
#include <setjmp.h>
#include <ucontext.h>

static sigjmp_buf back;
static siginfo_t seen;
static void on(int signo, siginfo_t *info, void *context) {
    seen = *info;
    siglongjmp(back, signo);
}

#define TRY(what, action)                                                                     \
    do {                                                                                      \
        int got = sigsetjmp(back, 1);                                                         \
        if (got == 0) {                                                                       \
            action;                                                                           \
            printf("%s: nothing\n", what);                                                    \
        } else                                                                                \
            printf("%s: %s code %d address %d\n", what, sigabbrev_np(got), seen.si_code, seen.si_addr != NULL); \
    } while (0)

static void trap(int signo, siginfo_t *info, void *context) {
    printf("trap code %d\n", info->si_code);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    volatile int zero = 0, one = 1;
    TRY("division by zero", one = one / zero);
    TRY("undefined instruction", __asm__ volatile("ud2"));
    TRY("privileged instruction", __asm__ volatile("hlt"));
    action.sa_sigaction = trap;
    sigaction(SIGTRAP, &action, NULL);
    __asm__ volatile("int3");
    printf("after int3\n");
    sigset_t all;
    sigfillset(&all);
    IN_CHILD("blocked", { sigprocmask(SIG_SETMASK, &all, NULL); *(volatile int *)8 = 1; });
    IN_CHILD("ignored", { signal(SIGSEGV, SIG_IGN); *(volatile int *)8 = 1; });
    IN_CHILD("raise while ignored", { signal(SIGSEGV, SIG_IGN); raise(SIGSEGV); printf("raise returns\n"); });
    IN_CHILD("default", signal(SIGFPE, SIG_DFL); one = one / zero);
    IN_CHILD("abort with a handler", { signal(SIGABRT, SIG_IGN); abort(); });
    IN_CHILD("bad handler stack", {
        struct sigaction a = {.sa_handler = (void (*)(int))on};
        sigaction(SIGUSR1, &a, NULL);
        __asm__ volatile("mov $16, %%rsp\n mov %0, %%edi\n mov $39, %%eax\n syscall\n mov %%eax, %%edi\n mov $10, %%esi\n mov $62, %%eax\n syscall\n ud2" : : "r"(1));
    });
    return 0;
}

// A handler changes the saved registers: execution goes on with the new values; all registers survive a signal.
#include "../check.h"
#include <ucontext.h>

static void skip(int signo, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    u->uc_mcontext.gregs[REG_RIP] += 2;  // over ud2
    u->uc_mcontext.gregs[REG_RAX] = 4711;
}
static volatile int count;
static void scramble(int signo) {
    count++;
    __asm__ volatile("xor %%eax,%%eax\n xor %%r10,%%r10\n xor %%r11,%%r11\n pxor %%xmm0,%%xmm0\n pxor %%xmm7,%%xmm7" : : : "rax", "r10", "r11", "xmm0", "xmm7");
}

int main(void) {
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
    long value;
    __asm__ volatile("xor %%eax, %%eax\n ud2\n mov %%rax, %0" : "=r"(value) : : "rax");
    printf("value %ld\n", value);
    signal(SIGUSR1, scramble);
    long pid = getpid(), r12 = 0, r8 = 0;
    double x = 0;
    __asm__ volatile(
        "mov $1234, %%r12\n mov $5678, %%r8\n mov $9, %%r9\n cvtsi2sd %%r9, %%xmm7\n"
        "mov $62, %%eax\n mov %3, %%rdi\n mov $10, %%esi\n syscall\n"
        "mov %%r12, %0\n mov %%r8, %1\n movsd %%xmm7, %2\n"
        : "=m"(r12), "=m"(r8), "=m"(x) : "r"(pid) : "rax", "rcx", "r11", "r12", "r8", "r9", "rdi", "rsi", "xmm7", "memory");
    printf("%ld %ld %.1f count %d\n", r12, r8, x, count);
    unsigned mxcsr = 0x1f80 | 0x6000, after;
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    raise(SIGUSR1);
    __asm__ volatile("stmxcsr %0" : "=m"(after));
    IS((after & 0x6000) == 0x6000);
    return 0;
}

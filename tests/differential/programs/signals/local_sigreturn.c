// Returning from a handler restores every register, the flags, the whole floating-point state, the mask and the alternate
// stack, also as the handler changed them in its frame; and a frame that cannot be restored is a SIGSEGV.
#include "../check.h"
#include <setjmp.h>
#include <ucontext.h>

struct registers {
    uint64_t general[15], flags;
    uint8_t ymm[16][32];
    uint16_t control;
    uint32_t mxcsr;
} before, after;
long arguments[2];
uint64_t saved[3];
static volatile int count;

// Another value in everything that a handler may use.
static void spoil(int signo) {
    count++;
    __asm__ volatile(
        "fninit\n fldpi\n fldpi\n"
        "xor %%eax,%%eax\n mov %%rax,%%r8\n mov %%rax,%%r9\n mov %%rax,%%r10\n mov %%rax,%%r11\n mov %%rax,%%rdx\n"
        "mov %%rax,%%rsi\n mov %%rax,%%rcx\n std\n stc\n cld\n"
        "pxor %%xmm0,%%xmm0\n pxor %%xmm5,%%xmm5\n pxor %%xmm15,%%xmm15\n" : : :
        "rax", "r8", "r9", "r10", "r11", "rdx", "rsi", "rcx", "xmm0", "xmm5", "xmm15", "cc", "memory");
    unsigned plain = 0x1f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(plain));
    if (__builtin_cpu_supports("avx")) __asm__ volatile("vzeroall" : : : "memory");
}

// Fill the registers from `before`, send the signal, and note them in `after`. rax, rcx and r11 are the system call's.
__attribute__((noinline)) static void through_a_handler(long pid, long signo) {
    int avx = __builtin_cpu_supports("avx");
    if (avx)
        __asm__ volatile("vmovdqu %0,%%ymm0\n vmovdqu %1,%%ymm5\n vmovdqu %2,%%ymm15" : :
                         "m"(before.ymm[0]), "m"(before.ymm[5]), "m"(before.ymm[15]));
    __asm__ volatile("fninit\n fldcw %0\n ldmxcsr %1" : : "m"(before.control), "m"(before.mxcsr));
    arguments[0] = pid;
    arguments[1] = signo;
    __asm__ volatile(
        "lea -256(%%rsp), %%rsp\n"  // the compiler may keep something in the red zone
        "mov %%rbx, saved(%%rip)\n mov %%rbp, saved+8(%%rip)\n mov %%rsp, saved+16(%%rip)\n"
        "mov arguments(%%rip), %%rdi\n mov arguments+8(%%rip), %%rsi\n mov $62, %%eax\n"
        "mov $0x1111111111, %%rbx\n mov $0x2222222222, %%rdx\n mov $0x3333333333, %%r8\n mov $0x4444444444, %%r9\n"
        "mov $0x5555555555, %%r10\n mov $0x6666666666, %%r12\n mov $0x7777777777, %%r13\n mov $0x8888888888, %%r14\n"
        "mov $0x9999999999, %%r15\n mov $0xaaaaaaaaaa, %%rbp\n"
        "push $0xcd7\n popfq\n cld\n"
        "syscall\n"
        "mov %%rax, after(%%rip)\n"
        "pushfq\n popq after+120(%%rip)\n"
        "mov %%rbx, after+8(%%rip)\n mov %%rdx, after+16(%%rip)\n mov %%r8, after+24(%%rip)\n mov %%r9, after+32(%%rip)\n"
        "mov %%r10, after+40(%%rip)\n mov %%r12, after+48(%%rip)\n mov %%r13, after+56(%%rip)\n"
        "mov %%r14, after+64(%%rip)\n mov %%r15, after+72(%%rip)\n mov %%rbp, after+80(%%rip)\n"
        "mov %%rdi, after+88(%%rip)\n mov %%rsi, after+96(%%rip)\n"
        "mov saved(%%rip), %%rbx\n mov saved+8(%%rip), %%rbp\n mov %%rsp, %%rcx\n sub saved+16(%%rip), %%rcx\n"
        "mov %%rcx, after+104(%%rip)\n"
        "lea 256(%%rsp), %%rsp\n"
        : : : "rax", "rcx", "rdx", "rdi", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    __asm__ volatile("fnstcw %0\n stmxcsr %1" : "=m"(after.control), "=m"(after.mxcsr));
    if (avx)
        __asm__ volatile("vmovdqu %%ymm0,%0\n vmovdqu %%ymm5,%1\n vmovdqu %%ymm15,%2" :
                         "=m"(after.ymm[0]), "=m"(after.ymm[5]), "=m"(after.ymm[15]));
    else
        memcpy(after.ymm, before.ymm, sizeof after.ymm);
}

static void show_all(const char *what) {
    printf("%s: rax %ld rdi %d rsi %ld rsp moved %ld\n", what, (long)after.general[0],
           after.general[11] == (uint64_t)getpid(), (long)after.general[12], (long)after.general[13]);
    for (int k = 1; k < 11; k++) printf(" %lx", (long)after.general[k]);
    printf("\n flags %lx control %x mxcsr %x vectors %d\n", (long)after.flags & 0xcd5, after.control, after.mxcsr,
           !memcmp(before.ymm[0], after.ymm[0], 32) && !memcmp(before.ymm[5], after.ymm[5], 32) &&
           !memcmp(before.ymm[15], after.ymm[15], 32));
}

// --- what a handler changes in its frame ---
static sigset_t wanted;
static void change_mask(int signo, siginfo_t *info, void *context) {
    ((ucontext_t *)context)->uc_sigmask = wanted;
}
static void change_numbers(int signo, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    u->uc_mcontext.gregs[REG_RAX] = 4711;
    u->uc_mcontext.gregs[REG_R15] = 0x123;
    u->uc_mcontext.gregs[REG_EFL] ^= 1;
    u->uc_mcontext.fpregs->mxcsr = 0x3f80;
    u->uc_mcontext.fpregs->cwd = 0x27f;
}
static char other_stack[1 << 16];
static void change_stack(int signo) {
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    sigaltstack(&stack, NULL);
}
static void show_stack(const char *what) {
    stack_t stack;
    sigaltstack(NULL, &stack);
    printf("%s: size %zu flags %d\n", what, stack.ss_flags & SS_DISABLE ? 0 : stack.ss_size, stack.ss_flags);
}
static void stop_here(int signo, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    u->uc_mcontext.gregs[REG_EFL] |= 0x100;  // a trap after the next instruction
}
static volatile int traps;
static void trapped(int signo, siginfo_t *info, void *context) {
    traps++;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}
static void once_more(int signo) {
    if (count++ < 4) raise(SIGUSR1);  // blocked: it comes when this one has returned
}

// --- frames that cannot be restored ---
static sigjmp_buf back;
static void segv(int signo, siginfo_t *info, void *context) {
    siglongjmp(back, info->si_code == SI_KERNEL ? 1 : 2);
}
enum { BAD_MXCSR, BAD_HEADER, BAD_COMPACT, BAD_RESERVED, BAD_POINTER, ODD_POINTER, NO_IMAGE, NO_MAGIC, BAD_STACK, KINDS };
static volatile int kind;
static void break_it(int signo, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    uint8_t *image = (uint8_t *)u->uc_mcontext.fpregs;
    uint64_t all = ~0ul;
    if (kind == BAD_MXCSR) u->uc_mcontext.fpregs->mxcsr = ~0u;
    if (kind == BAD_HEADER) memcpy(image + 512, &all, 8);
    if (kind == BAD_COMPACT) memcpy(image + 520, &all, 8);
    if (kind == BAD_RESERVED) memcpy(image + 568, &all, 8);
    if (kind == BAD_POINTER) u->uc_mcontext.fpregs = (void *)64;
    if (kind == ODD_POINTER) u->uc_mcontext.fpregs = (void *)(image + 8);
    if (kind == NO_IMAGE) u->uc_mcontext.fpregs = NULL;
    if (kind == NO_MAGIC) memset(image + 464, 0, 4);
}
static void frame_at_nothing(void) {
    __asm__ volatile("mov $64, %%rsp\n mov $15, %%eax\n syscall\n" : : : "memory");
}

int main(void) {
    long pid = getpid();
    for (int k = 0; k < 16; k++) for (int b = 0; b < 32; b++) before.ymm[k][b] = (uint8_t)(k * 32 + b + 1);
    before.control = 0x0f7f;
    before.mxcsr = 0x1f80 | 0x6000;
    signal(SIGUSR1, spoil);
    for (int k = 0; k < 40; k++) through_a_handler(pid, SIGUSR1);
    show_all("kept");
    SAY(count);

    struct sigaction action = {.sa_sigaction = change_numbers, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR2, &action, NULL);
    for (int k = 0; k < 3; k++) through_a_handler(pid, SIGUSR2);
    show_all("changed");

    sigset_t now;
    action.sa_sigaction = change_mask;
    sigaction(SIGUSR2, &action, NULL);
    for (int k = 0; k < 3; k++) {
        sigemptyset(&wanted);
        sigaddset(&wanted, SIGHUP + k);
        sigaddset(&wanted, SIGKILL);
        sigaddset(&wanted, SIGSTOP);
        raise(SIGUSR2);
        sigprocmask(SIG_SETMASK, NULL, &now);
        printf("mask:");
        for (int signo = 1; signo < 32; signo++) if (sigismember(&now, signo)) printf(" %d", signo);
        printf("\n");
    }
    sigemptyset(&wanted);
    sigprocmask(SIG_SETMASK, &wanted, NULL);

    signal(SIGUSR1, once_more);
    count = 0;
    raise(SIGUSR1);
    SAY(count);

    show_stack("no stack");
    signal(SIGUSR1, change_stack);
    for (int k = 0; k < 2; k++) {
        raise(SIGUSR1);
        show_stack("after the handler");
    }
    static char first_stack[1 << 17];
    stack_t stack = {.ss_sp = first_stack, .ss_size = sizeof first_stack};
    sigaltstack(&stack, NULL);
    raise(SIGUSR1);
    show_stack("the first again");
    stack.ss_sp = other_stack;  // only its size is another one in the handler
    stack.ss_size = sizeof other_stack / 2;
    sigaltstack(&stack, NULL);
    raise(SIGUSR1);
    show_stack("as long as before");
    stack.ss_sp = first_stack;
    stack.ss_size = sizeof first_stack;
    sigaltstack(&stack, NULL);
    struct sigaction on_stack = {.sa_handler = spoil, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &on_stack, NULL);
    for (int k = 0; k < 5; k++) through_a_handler(pid, SIGUSR1);
    show_all("on it");
    stack.ss_flags = 1 << 31;  // SS_AUTODISARM
    sigaltstack(&stack, NULL);
    for (int k = 0; k < 3; k++) through_a_handler(pid, SIGUSR1);
    show_all("disarmed meanwhile");
    show_stack("armed again");
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);

    action.sa_sigaction = trapped;
    sigaction(SIGTRAP, &action, NULL);
    action.sa_sigaction = stop_here;
    sigaction(SIGUSR2, &action, NULL);
    for (int k = 0; k < 3; k++) raise(SIGUSR2);
    SAY(traps);

    action.sa_sigaction = segv;
    sigaction(SIGSEGV, &action, NULL);
    action.sa_sigaction = break_it;
    sigaction(SIGUSR2, &action, NULL);
    for (kind = 0; kind < BAD_STACK; kind++) {
        int how = sigsetjmp(back, 1);
        if (!how) raise(SIGUSR2);
        printf("broken %d: %d\n", kind, how);
    }
    int how = sigsetjmp(back, 1);
    stack.ss_flags = 0;
    sigaltstack(&stack, NULL);
    action.sa_sigaction = segv;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
    if (!how) frame_at_nothing();
    printf("no frame: %d\n", how);
    return 0;
}

// SIGSEGV: si_code, si_addr and the access for unmapped, protected and non-canonical addresses.
#include "../check.h"
#include <setjmp.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile int code;
static void *volatile address;
static volatile long error_bits;

static void on(int signo, siginfo_t *info, void *context) {
    code = info->si_code;
    address = info->si_addr;
    error_bits = ((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR];
    siglongjmp(back, signo);
}

#define TRY(what, expected, action)                                                                              \
    do {                                                                                                         \
        int got = sigsetjmp(back, 1);                                                                            \
        if (got == 0) {                                                                                          \
            action;                                                                                              \
            printf("%s: no fault\n", what);                                                                      \
        } else                                                                                                   \
            printf("%s: %s code %d address %s write %d\n", what, sigabbrev_np(got), code,                        \
                   address == (void *)(expected) ? "right" : "other", (int)(error_bits >> 1 & 1));               \
    } while (0)

int main(void) {
    struct sigaction action = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    NEED(sigaction(SIGSEGV, &action, NULL));
    NEED(sigaction(SIGBUS, &action, NULL));
    volatile char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY("null read", 0, (void)*(volatile char *)0);
    TRY("null write", 8, *(volatile char *)8 = 1);
    TRY("good", page, page[0] = 1);
    NEED(mprotect((void *)page, 4096, PROT_READ));
    TRY("read of read-only", page, (void)page[5]);
    TRY("write of read-only", page + 5, page[5] = 1);
    NEED(mprotect((void *)page, 4096, PROT_NONE));
    TRY("read of none", page + 7, (void)page[7]);
    NEED(munmap((void *)page, 4096));
    TRY("unmapped", page + 9, page[9] = 1);
    TRY("neighbour", page + 4096, page[4096] = 1);
    TRY("non-canonical", 0, (void)*(volatile char *)0x8000000000000000);
    TRY("kernel", 0xffffffff80000000, (void)*(volatile char *)0xffffffff80000000);
    TRY("execute", page + 4096, ((void (*)(void))(page + 4096))());
    return 0;
}

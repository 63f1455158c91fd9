// rt_sigprocmask(2) where something is loaded between the number and the call, as in the C library's threads: from a place
// in the program, or beside a register. Often enough that somebody may have made another way of it.
#include "../check.h"

__attribute__((used)) static const unsigned long masks[4] = {0, 1ul << (SIGUSR1 - 1), 1ul << (SIGUSR2 - 1), 3ul << (SIGUSR1 - 1)};

static unsigned long near_program(void) {
    unsigned long old = 0;
    long result;
    register unsigned long size __asm__("r10") = 8;
    __asm__ volatile("mov $14, %%eax\n"
                     ".byte 0x48, 0x8d, 0x35\n" // lea masks+8(%rip), %rsi
                     ".long masks+8-.-4\n"
                     "syscall"
                     : "=a"(result)
                     : "D"(SIG_SETMASK), "d"(&old), "r"(size)
                     : "rsi", "rcx", "r11", "memory");
    return result ? ~0ul : old;
}

static unsigned long beside_register(const void *base) {
    unsigned long old = 0;
    long result;
    register unsigned long size __asm__("r10") = 8;
    register const void *from __asm__("r9") = base;
    __asm__ volatile("mov $14, %%eax\n"
                     ".byte 0x49, 0x8d, 0xb1, 0x90, 0x01, 0, 0\n" // lea 0x190(%r9), %rsi
                     "syscall"
                     : "=a"(result)
                     : "D"(SIG_SETMASK), "d"(&old), "r"(size), "r"(from)
                     : "rsi", "rcx", "r11", "memory");
    return result ? ~0ul : old;
}

// Between them: what stands there is a call of its own.
static unsigned long behind_the_load(const void *set) {
    unsigned long old = 0;
    long result = 14;
    register unsigned long size __asm__("r10") = 8;
    __asm__ volatile("jmp 2f\n"
                     "mov $14, %%eax\n"
                     "1: .byte 0x48, 0x8d, 0xb6, 0, 0, 0, 0\n" // lea 0(%rsi), %rsi
                     "syscall\n"
                     "jmp 3f\n"
                     "2: jmp 1b\n"
                     "3:"
                     : "+a"(result)
                     : "D"(SIG_SETMASK), "d"(&old), "r"(size), "S"(set)
                     : "rcx", "r11", "memory");
    return result ? ~0ul : old;
}

int main(void) {
    unsigned long seen[5] = {0};
    for (int k = 0; k < 3000; k++) {
        seen[0] = seen[0] * 31 + near_program();
        seen[1] = seen[1] * 31 + beside_register((const void *)((uintptr_t)&masks[2] - 0x190));
        seen[2] = seen[2] * 31 + behind_the_load(&masks[3]);
        seen[3] = seen[3] * 31 + near_program();
        seen[4] = seen[4] * 31 + beside_register((const void *)((uintptr_t)&masks[k & 1] - 0x190));
    }
    for (int k = 0; k < 5; k++) printf("%lx\n", seen[k]);
    return 0;
}

// Small private mappings that come and go: each begins as zeros, and is gone when it is unmapped.
#include "../check.h"
#include <setjmp.h>

#define MOST 64
#define P 4096L

static struct {
    unsigned char *at;
    long pages;
    int prot;
    unsigned char value;
} held[MOST];
static int count, ends[2];
static unsigned long seed = 1;
static sigjmp_buf away;
static siginfo_t seen;

static unsigned long next(unsigned long most) {
    seed = seed * 6364136223846793005UL + 1442695040888963407UL;
    return (seed >> 33) % most;
}

static void on_fault(int signo, siginfo_t *info, void *context) {
    (void)signo, (void)context;
    seen = *info;
    siglongjmp(away, 1);
}

// What a read (or a write) there gives: 0, or the si_code of its fault.
static int touch(volatile unsigned char *at, int is_write) {
    seen.si_code = 0;
    if (sigsetjmp(away, 1)) return seen.si_addr == at ? seen.si_code : -1;
    if (is_write) *at = 1;
    else (void)*at;
    return 0;
}

static int __attribute__((noinline)) give(void *at, long pages) { return madvise(at, pages * P, MADV_DONTNEED); }

static int all(const unsigned char *at, long pages, unsigned char value) {
    for (long k = 0; k < pages * P; k += k % P == P - 1 || k % P == 0 ? 1 : P - 2)
        if (at[k] != value) return 0;
    return 1;
}

static void map(void) {
    static const int prots[] = {3, 3, 3, 3, 1, 0};
    long pages = 1 + next(next(4) ? 6 : 40);
    int prot = prots[next(6)];
    unsigned char *p = mmap(NULL, pages * P - next(2) * 100, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) printf("cannot map: %s\n", error_name(errno));
    if (prot && !all(p, pages, 0)) printf("not zeros\n");
    if (prot == 3 && next(4)) memset(p, held[count].value = 1 + next(255), pages * P);
    else held[count].value = 0;
    held[count].at = p, held[count].pages = pages, held[count].prot = prot;
    count++;
}

static void unmap(int k) {
    unsigned char *p = held[k].at;
    long pages = held[k].pages;
    if (held[k].prot && !all(p, pages, held[k].value)) printf("other contents\n");
    if (munmap(p, pages * P - next(2) * 50)) printf("cannot unmap: %s\n", error_name(errno));
    held[k] = held[--count];
    if (next(8) == 0) {
        int fault = touch(p + next(pages * P), next(2));
        if (fault != SEGV_MAPERR) printf("after unmapping: %d\n", fault);
        if (give(p, pages) != -1 || errno != ENOMEM) printf("given back once more\n");
        NEED(write(ends[1], "x", 1));
        if (read(ends[0], p, 1) != -1 || errno != EFAULT) printf("the kernel still writes there\n");
        else NEED(read(ends[0], &(char){0}, 1));
    }
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    NEED(pipe(ends));
    long begun = 0;
    for (int k = 0; k < 20000; k++) {
        unsigned long what = next(100);
        if (count == 0 || (count < MOST && what < 48)) map();
        else if (what < 90) unmap(count - 1);
        else if (what < 96) unmap(next(count));
        else if (what < 97 && k % 16 == 0) {  // a child has what is there, and what it does is its own
            pid_t pid = NEED(fork());
            if (pid == 0) {
                while (count) unmap(count - 1);
                for (int j = 0; j < 20; j++) map();
                _exit(0);
            }
            int status;
            waitpid(pid, &status, 0);
            if (status) printf("child: %x\n", status);
        } else if (count) {  // part of one goes, changes its protection, or grows
            int j = next(count);
            unsigned char *p = held[j].at;
            if (what == 97 && held[j].pages > 1) {
                munmap(p + (held[j].pages - 1) * P, P);
                held[j].pages--;
            } else if (what == 98 && held[j].prot == 3) {
                mprotect(p, held[j].pages * P, PROT_READ);
                held[j].prot = 1;
                int fault = touch(p, 1);
                if (fault != SEGV_ACCERR) printf("after mprotect: %d\n", fault);
            } else if (held[j].prot == 3) {
                p = mremap(p, held[j].pages * P, (held[j].pages + 3) * P, MREMAP_MAYMOVE);
                if (p == MAP_FAILED) {
                    printf("cannot grow: %s\n", error_name(errno));
                    return 1;
                }
                memset(p + held[j].pages * P, held[j].value, 3 * P);
                held[j].at = p, held[j].pages += 3;
            }
        }
        if (k % 5 == 0 && count) {
            int j = next(count);
            if (give(held[j].at, held[j].pages)) printf("cannot give back: %s\n", error_name(errno));
            held[j].value = 0;
        }
        begun++;
    }
    SAY(begun);
    while (count) unmap(count - 1);
    return 0;
}

// Mappings made and unmade again and again, as a busy allocator does: where they lie, what they hold, what /proc shows.
#include "../check.h"
#include <setjmp.h>

#define PAGES 4096L
static char *origin;
static long __attribute__((noinline)) at(void *p) { return p == MAP_FAILED ? -errno : (char *)p - origin; }
static char *map(long pages, int prot) { return mmap(NULL, pages * PAGES, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

// Areas around `origin`, as /proc/self/maps shows them, relative to it.
static void show(const char *what) {
    FILE *maps = fopen("/proc/self/maps", "r");
    printf("%s:", what);
    for (char line[512]; fgets(line, sizeof line, maps);) {
        unsigned long from, to;
        char flags[8];
        sscanf(line, "%lx-%lx %7s", &from, &to, flags);
        long low = from - (unsigned long)origin, high = to - (unsigned long)origin;
        if (high > -(256L << 20) && high <= 0) printf(" %ld+%ld%s", low, high - low, flags);
    }
    printf("\n");
    fclose(maps);
}
static void heat(void) {
    for (int k = 0; k < 200; k++) {
        char *p = map(3, PROT_READ | PROT_WRITE);
        p[4096] = 1;
        NEED(munmap(p, 3 * PAGES));
    }
}
static volatile int caught;
static sigjmp_buf back;
static void on_fault(int signo) { siglongjmp(back, signo); }
static int touch(char *p) {
    int signo = sigsetjmp(back, 1);
    if (!signo) *(volatile char *)p = 7;
    return signo;
}
static void on_alarm(int signo) {
    (void)signo;
    caught++;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("begin\n");
    fclose(fopen("/proc/self/maps", "r"));
    heat();
    // Below everything else, with all holes above filled, and a frame that keeps neighbours from merging.
    char *filler = map(16384, PROT_NONE);
    do origin = map(1, PROT_NONE);
    while (origin != filler - PAGES);

    // Downwards, joined where equal, split where not; the newest first, or in any order.
    char *a = map(2, 3), *b = map(1, 3), *c = map(4, PROT_READ), *d = map(1, PROT_NONE), *e = map(2, PROT_WRITE);
    printf("%ld %ld %ld %ld %ld\n", at(a), at(b), at(c), at(d), at(e));
    show("five");
    NEED(munmap(e, 2 * PAGES));
    NEED(munmap(d, PAGES));
    show("three");
    NEED(munmap(b, PAGES));
    show("hole");
    char *f = map(1, 3), *g = map(2, 3);
    printf("%ld %ld\n", at(f), at(g));
    show("filled");
    NEED(munmap(c, 6 * PAGES));
    NEED(munmap(g, 2 * PAGES));
    NEED(munmap(a, 2 * PAGES));
    NEED(munmap(f, PAGES));
    show("none");
    heat();

    // Lengths and offsets that are no whole pages; what is asked for wrongly.
    a = mmap(NULL, 5000, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    b = mmap(NULL, 1, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, 5, 4096);
    printf("%ld %ld\n", at(a), at(b));
    OK(at(mmap(NULL, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1)));
    OK((long)mmap(NULL, 0, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    OK((long)mmap(NULL, 4096, 3, MAP_ANONYMOUS, -1, 0));
    OK((long)mmap(NULL, -4096L, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    OK(munmap(b, 0));
    OK(munmap(b + 1, 4096));
    NEED(munmap(b, 17));
    NEED(munmap(a, 8192));
    show("odd lengths");
    heat();

    // Fresh memory every time, and none that is left.
    signal(SIGSEGV, on_fault);
    int dirty = 0, kept = 0;
    for (int k = 0; k < 300; k++) {
        long pages = 1 + k % 7;
        a = map(pages, 3);
        b = map(1 + k % 3, 3);
        for (long n = 0; n < pages; n++) dirty += a[n * PAGES + 9] != 0, a[n * PAGES + 9] = 1;
        b[0] = 1;
        if (k % 2) NEED(munmap(b, (1 + k % 3) * PAGES));
        NEED(munmap(a, pages * PAGES));
        if (!(k % 2)) NEED(munmap(b, (1 + k % 3) * PAGES));
        kept += touch(a) != SIGSEGV;
    }
    printf("dirty %d kept %d\n", dirty, kept);
    a = map(1, PROT_READ);
    b = map(1, PROT_NONE);
    printf("read-only %d none %d\n", touch(a), touch(b));
    NEED(munmap(b, PAGES));
    NEED(munmap(a, PAGES));

    // The kernel's own copies to such memory, and what it says when it is gone.
    int zero = NEED(open("/dev/zero", O_RDONLY)), ends[2];
    NEED(pipe(ends));
    for (int k = 0; k < 200; k++) {
        a = map(1, 3);
        NEED(write(ends[1], "hello", 5));
        NEED(read(ends[0], a, 5));
        if (memcmp(a, "hello", 5)) printf("lost\n");
        NEED(munmap(a, PAGES));
        NEED(write(ends[1], "x", 1));
        if (read(ends[0], a, 1) >= 0 || errno != EFAULT) printf("wrote to what is gone\n");
        NEED(read(ends[0], &(char){0}, 1));
    }
    close(zero);

    // Changes by other calls in between.
    heat();
    a = map(4, 3), b = map(4, 3);
    NEED(mprotect(b + PAGES, PAGES, PROT_READ));
    show("protected");
    c = map(1, 3);
    printf("%ld\n", at(c));
    d = mremap(b, 4 * PAGES, 6 * PAGES, MREMAP_MAYMOVE);
    printf("%s\n", d == MAP_FAILED ? strerror(errno) : "moved");
    NEED(munmap(a + PAGES, 2 * PAGES));
    show("remapped");
    e = map(2, 3);
    printf("%ld\n", at(e));
    NEED(madvise(a, PAGES, MADV_DONTNEED));
    IS(a[0] == 0);
    NEED(munmap(origin - 64 * PAGES, 64 * PAGES));
    show("cleared");
    heat();
    show("after");

    // A child has them, and its own from there on.
    a = map(2, 3);
    a[0] = 'p';
    for (int k = 0; k < 20; k++) {
        pid_t child = NEED(fork());
        if (!child) {
            b = map(2, 3);
            int bad = a[0] != 'p' || at(b) != at(a) - 2 * PAGES;
            NEED(munmap(b, 2 * PAGES));
            NEED(munmap(a, 2 * PAGES));
            b = map(3, 3);
            _exit(bad || at(b) != at(a) - PAGES);
        }
        int status;
        NEED(waitpid(child, &status, 0));
        if (status) printf("child %d: %x\n", k, status);
        b = map(1, 3);
        if (at(b) != at(a) - PAGES) printf("parent %ld\n", at(b));
        NEED(munmap(b, PAGES));
    }
    if (!vfork()) {
        b = map(3, 3);
        _exit(0);
    }
    NEED(wait(NULL));
    show("vfork");
    NEED(munmap(b, 3 * PAGES));
    NEED(munmap(a, 2 * PAGES));

    // Limits are exact, also those set in the middle.
    heat();
    struct rlimit limit;
    long size = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    NEED(fscanf(statm, "%ld", &size));
    fclose(statm);
    heat();
    limit.rlim_cur = (size + 10) * PAGES, limit.rlim_max = RLIM_INFINITY;
    NEED(setrlimit(RLIMIT_AS, &limit));
    int fit = 0;
    while ((a = map(1, 3)) != MAP_FAILED) fit++;
    printf("%d, %s\n", fit, strerror(errno));
    limit.rlim_cur = RLIM_INFINITY;
    NEED(setrlimit(RLIMIT_AS, &limit));
    show("limited");
    NEED(munmap(origin - fit * PAGES, fit * PAGES));

    // Signals in the middle.
    signal(SIGALRM, on_alarm);
    struct itimerval often = {{0, 300}, {0, 300}};
    NEED(setitimer(ITIMER_REAL, &often, NULL));
    int wrong = 0;
    for (long k = 0; caught < 300 && k < 3000000; k++) {
        a = map(2, 3), b = map(1, 3);
        wrong += at(a) != -2 * PAGES || at(b) != -3 * PAGES || a[4096] || b[0];
        a[4096] = b[0] = 1;
        wrong += munmap(b, PAGES) || munmap(a, 2 * PAGES);
    }
    often = (struct itimerval){{0, 0}, {0, 0}};
    NEED(setitimer(ITIMER_REAL, &often, NULL));
    printf("wrong %d, caught %s\n", wrong, caught >= 300 ? "all" : "few");
    show("signals");

    // Many, and all gone again.
    static char *many[2000];
    for (int k = 0; k < 2000; k++) many[k] = map(1, k % 2 ? 3 : 1);
    printf("%ld\n", at(many[1999]));
    for (int k = 1999; k >= 0; k--) NEED(munmap(many[k], PAGES));
    show("end");
    return 0;
}

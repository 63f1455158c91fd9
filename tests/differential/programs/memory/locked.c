// Locked memory is not given back (madvise(2)), a fork(2) inherits no locks, and what is unmapped is locked no more.
#include "../check.h"

#define PAGE 4096L
static char *area;
static int __attribute__((noinline)) give(char *at, size_t n, int advice) { return madvise(at, n, advice); }
static void fill(void) { memset(area, 'a', 4 * PAGE); }
static void show(void) { printf("%d %d %d %d\n", area[0], area[PAGE], area[2 * PAGE], area[3 * PAGE]); }

static long locked_kb(void) {
    char line[256];
    long kb = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        sscanf(line, "VmLck: %ld", &kb);
    fclose(status);
    return kb;
}

static void in_child(void (*act)(void)) {
    pid_t pid = fork();
    if (!pid) {
        act();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}
static void give_back(void) {
    printf("in the child: %ld\n", locked_kb());
    SAY(give(area, 4 * PAGE, MADV_DONTNEED));
    show();
}
static void lock_all(void) {
    SAY(mlockall(MCL_CURRENT));
    SAY(give(area, 4 * PAGE, MADV_DONTNEED));
}

// Memory that is locked as it is mapped, and RLIMIT_MEMLOCK, which does not hold for root.
static void *map(int pages, int flags) {
    return mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}
static void unlocked_child(void) {
    char *own = map(3, 0);
    printf("in the child: %ld\n", locked_kb());
    munmap(own, 3 * PAGE);
}
static void in_future(void) {
    char *last = NULL;
    for (int k = 0; k < 200; k++) {  // often enough for this kernel to leave it to whoever asks
        last = map(1, 0);
        munmap(last, PAGE);
    }
    setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){64 * PAGE, 64 * PAGE});
    NEED(setresuid(65534, 65534, 65534));
    OK(mlockall(MCL_FUTURE));
    printf("%ld\n", locked_kb());
    char *three = map(3, 0);
    printf("%ld\n", locked_kb());
    SAY(give(three, PAGE, MADV_DONTNEED));
    in_child(unlocked_child);
    OK(map(61, 0) == MAP_FAILED ? -1 : 0);
    OK(map(62, 0) == MAP_FAILED ? -1 : 0);
    munmap(three, 3 * PAGE);
    printf("%ld\n", locked_kb());
    char *more = map(2, 0);
    OK(mremap(more, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
    printf("%ld\n", locked_kb());
    void *at = sbrk(0);
    OK(sbrk(0x100000) == (void *)-1 ? -1 : 0);
    IS(sbrk(0) == at);
    OK(mlockall(MCL_CURRENT) ? -1 : 0);
    OK(munlockall());
    printf("%ld\n", locked_kb());
    for (int k = 0; k < 70; k++)
        last = map(1, 0);
    printf("%ld\n", locked_kb());
    OK(map(64, MAP_LOCKED) == MAP_FAILED ? -1 : 0);
    OK(map(1, MAP_LOCKED) == MAP_FAILED ? -1 : 0);
    printf("%ld\n", locked_kb());
    munlockall();
    setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){0, 0});
    OK(map(1, MAP_LOCKED) == MAP_FAILED ? -1 : 0);
    OK(mlockall(MCL_FUTURE));
}

int main(void) {
    setvbuf(stdout, malloc(1 << 16), _IOLBF, 1 << 16);
    in_child(in_future);
    area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int k = 0; k < 200; k++)  // often enough for this kernel to leave it to whoever asks
        NEED(give(area, 4 * PAGE, MADV_DONTNEED));

    // What lies below the locked page is given back before the call fails.
    fill();
    SAY(mlock(area + PAGE, PAGE));
    SAY(give(area, 4 * PAGE, MADV_DONTNEED));
    show();
    SAY(give(area + PAGE, PAGE, MADV_FREE));
    SAY(give(area + PAGE, PAGE, MADV_COLD));
    SAY(give(area + PAGE, PAGE, MADV_PAGEOUT));
    SAY(give(area + PAGE, PAGE, MADV_WILLNEED));
    SAY(give(area + 2 * PAGE, PAGE, MADV_DONTNEED));
    show();
    printf("%ld\n", locked_kb());
    in_child(give_back);
    SAY(munlock(area + PAGE, PAGE));
    SAY(give(area, 4 * PAGE, MADV_DONTNEED));
    show();

    // Parent and child, of whom one locks everything.
    fill();
    in_child(lock_all);
    SAY(give(area, PAGE, MADV_DONTNEED));
    SAY(mlockall(MCL_CURRENT));
    SAY(give(area, PAGE, MADV_DONTNEED));
    IS(locked_kb() > 16);
    in_child(give_back);
    SAY(munlockall());
    SAY(give(area, PAGE, MADV_DONTNEED));

    SAY(mlock(area, 2 * PAGE));
    NEED(munmap(area, PAGE));
    printf("%ld\n", locked_kb());
    return 0;
}

// Memory given back again and again, as allocators and ending threads do: what it holds then, and what is refused.
#include "../check.h"

#define PAGE 4096L
static char *area;
static int __attribute__((noinline)) give(void *at, size_t n, int advice) { return madvise(at, n, advice); }

static void heat(void) {
    int kept = 0;
    for (int k = 0; k < 200; k++) {
        area[0] = area[3 * PAGE + 5] = 1;
        NEED(give(area, 4 * PAGE, MADV_DONTNEED));
        kept += area[0] || area[3 * PAGE + 5];
    }
    printf("kept %d\n", kept);
}
static void *end_at_once(void *p) {
    char stack[20000];
    memset(stack, 1, sizeof stack);
    return stack[77] ? p : NULL;
}
static volatile int stop;
static void *touch(void *p) {
    for (char *at = p; !stop; at[0]++);
    return NULL;
}

int main(void) {
    area = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    heat();

    // Only whole pages, only what is there, only known advice.
    memset(area, 'a', 64 * PAGE);
    SAY(give(area + 1, PAGE, MADV_DONTNEED));
    SAY(give(area, 1, MADV_DONTNEED));
    printf("%d %d\n", area[0], area[PAGE]);
    SAY(give(area + PAGE, 0, MADV_DONTNEED));
    SAY(give(area + PAGE, -1, MADV_DONTNEED));
    printf("%d\n", area[PAGE]);
    memset(area, 'a', 64 * PAGE);
    SAY(give(area, PAGE, MADV_FREE));
    SAY(give(area, PAGE, MADV_NORMAL));
    SAY(give(area, PAGE, 1000));
    SAY(give((void *)-PAGE, PAGE, MADV_DONTNEED));
    SAY(give((void *)0x7ffffffff000, PAGE, MADV_DONTNEED));

    // Holes: what is mapped is given back all the same.
    NEED(munmap(area + 8 * PAGE, 8 * PAGE));
    memset(area, 'b', 8 * PAGE);
    memset(area + 16 * PAGE, 'b', 8 * PAGE);
    SAY(give(area, 24 * PAGE, MADV_DONTNEED));
    printf("%d %d\n", area[0], area[16 * PAGE]);
    SAY(give(area + 8 * PAGE, PAGE, MADV_DONTNEED));
    heat();

    // Files: private copies are dropped, shared pages are the file's.
    put_file("file", "contents");
    int fd = NEED(open("file", O_RDWR));
    char *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *all = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    own[0] = 'C';
    all[1] = 'O';
    SAY(give(own, PAGE, MADV_DONTNEED));
    SAY(give(all, PAGE, MADV_DONTNEED));
    printf("%.8s %.8s\n", own, all);
    SAY(give(own, PAGE, MADV_FREE));
    NEED(mprotect(area, PAGE, PROT_NONE));
    SAY(give(area, PAGE, MADV_DONTNEED));
    NEED(mprotect(area, PAGE, PROT_READ | PROT_WRITE));

    // Others at work: a thread that writes there, and ones that end and are made anew on the same stack.
    pthread_t toucher, thread;
    NEED(pthread_create(&toucher, NULL, touch, area + 60 * PAGE));
    heat();
    for (int k = 0; k < 300; k++) {
        if (pthread_create(&thread, NULL, end_at_once, area)) printf("no thread\n");
        void *result;
        pthread_join(thread, &result);
        if (result != area) printf("wrong\n");
    }
    stop = 1;
    pthread_join(toucher, NULL);

    // A child gives back its own.
    area[0] = 'p';
    pid_t child = NEED(fork());
    if (!child) {
        NEED(give(area, PAGE, MADV_DONTNEED));
        _exit(area[0]);
    }
    int status;
    NEED(waitpid(child, &status, 0));
    printf("%x %c\n", status, area[0]);
    return 0;
}

// What a program does while it starts, when none of its calls has been made often: it is executed again for each case.
#include "../check.h"

#include <asm/prctl.h>
#include <sys/file.h>

#define P 4096
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static void show(const void *from, size_t pages) {  // the areas in a range, as /proc tells them
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], prot[8];
    unsigned long start, end, offset, low = (unsigned long)from, high = low + pages * P;
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %7s %lx", &start, &end, prot, &offset) != 4 || end <= low || start >= high) continue;
        if (start < low) start = low;
        if (end > high) end = high;
        for (; start < end; start += P) printf("%lu:%s ", (start - low) / P, prot);
    }
    printf("\n");
    if (maps) fclose(maps);
}

static int library(void) {
    char page[P];
    int fd = NEED(open("lib", O_RDWR | O_CREAT | O_TRUNC, 0644));
    for (int k = 0; k < 10; k++) NEED(write(fd, memset(page, 'a' + k, P), P));
    NEED(close(fd));
    return NEED(open("lib", O_RDONLY));
}

static void parts(void) {  // a library, mapped part by part
    int fd = library();
    char *at = mmap(NULL, 10 * P, PROT_READ, MAP_PRIVATE, fd, 0);
    IS(mmap(at + P, 5 * P, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED | MAP_DENYWRITE, fd, P) == at + P);
    IS(mmap(at + 6 * P, 2 * P, RW, MAP_PRIVATE | MAP_FIXED | MAP_DENYWRITE, fd, 6 * P) == at + 6 * P);
    IS(mmap(at + 8 * P, 2 * P, RW, ANON | MAP_FIXED, -1, 0) == at + 8 * P);
    at[6 * P] = 'x', at[8 * P] = 'y';
    IS(mprotect(at + 6 * P, P, PROT_READ) == 0);
    printf("%c%c%c%c%c%d\n", at[0], at[P], at[5 * P], at[6 * P], at[7 * P], at[9 * P]);
    close(fd);
    show(at, 10);
    IN_CHILD("text", at[P] = 1);
    IN_CHILD("relocated", at[6 * P] = 1);
    IN_CHILD("data", at[7 * P] = 1; printf("%c\n", at[7 * P]));
}

static void others_file(void) {  // not the window's file, not its range, not what may be
    int fd = library(), other = NEED(open("/dev/zero", O_RDONLY));
    char *at = mmap(NULL, 8 * P, PROT_READ, ANON, -1, 0);
    IS(mmap(at, 4 * P, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == at);
    IS(mmap(at, P, PROT_READ, MAP_PRIVATE | MAP_FIXED, other, 0) == at);
    IS(mmap(at + P, P, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 9 * P) == at + P);
    SAY((long)mmap(at + P, P, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 12));
    SAY((long)mmap(at + P, P, PROT_READ, MAP_PRIVATE | MAP_FIXED, 77, 0));
    SAY((long)mmap(at + P + 1, P, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0));
    SAY((long)mmap(at + P, 0, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0));
    IS(mmap(at + 3 * P, 3 * P, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 7 * P) == at + 3 * P);
    printf("%d%c%c%c\n", at[0], at[P], at[2 * P], at[5 * P]);
    SAY((long)mmap(at + P, P, RW, MAP_SHARED | MAP_FIXED, fd, 0));
    show(at, 6);
}

static void reopened(void) {  // the descriptor is another file's now
    int fd = library();
    char *at = mmap(NULL, 4 * P, PROT_READ, MAP_PRIVATE, fd, 0);
    put_file("other", "other");
    NEED(dup2(NEED(open("other", O_RDONLY)), fd));
    IS(mmap(at, P, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == at);
    printf("%.5s %c\n", at, at[P]);
}

static void holes(void) {  // as far as all is mapped
    char *at = mmap(NULL, 6 * P, RW, ANON, -1, 0);
    NEED(munmap(at + 3 * P, P));
    SAY(mprotect(at + P, 4 * P, PROT_READ));
    show(at, 6);
    SAY(mprotect(at + 3 * P, P, PROT_READ));
    SAY(mprotect(at + 1, P, PROT_READ));
    SAY(mprotect(at, 0, PROT_READ));
    SAY(mprotect(at, -P, PROT_READ));
    SAY(mprotect((void *)-P, 2 * P, PROT_READ));
    IN_CHILD("below the hole", at[2 * P] = 1);
    IN_CHILD("behind it", at[4 * P] = 1);
}

static void taken_away(void) {  // a call that copies there fails, and nothing else
    int fd = library();
    char *at = mmap(NULL, 2 * P, RW, ANON, -1, 0);
    struct stat *st = (struct stat *)at;
    SAY(fstat(fd, st));
    NEED(mprotect(at, P, PROT_READ));
    SAY(fstat(fd, st));
    SAY(getrlimit(RLIMIT_CORE, (void *)at));
    SAY(read(fd, at, 10));
    SAY(read(fd, at + P - 5, 10));
    NEED(mprotect(at, P, RW));
    SAY(fstat(fd, st));
    IS(st->st_size == 10 * P);
}

static void fresh(void) {  // each below the one before, for there is no room above
    char *a = mmap(NULL, 64 * P, RW, ANON, -1, 0), *b = mmap(NULL, 64 * P, RW, ANON, -1, 0);
    IS(b + 64 * P == a);
    a[0] = b[64 * P - 1] = 1;
    int fd = library();
    char *c = mmap(NULL, 40 * P, PROT_READ, MAP_PRIVATE, fd, 0), *d = mmap(NULL, 40 * P, PROT_READ, ANON, -1, 0);
    IS(c + 40 * P == b), IS(d + 40 * P == c);
    NEED(munmap(c, 40 * P));
    char *e = mmap(NULL, 40 * P, PROT_READ, ANON, -1, 0);
    IS(e == c);
    SAY((long)mmap(NULL, 1ul << 47, RW, ANON, -1, 0));
    SAY((long)mmap(NULL, 0, RW, ANON, -1, 0));
    IN_CHILD("read only", d[0] = 1);
    show(d, 3);
}

static void limits(void) {
    NEED(setrlimit(RLIMIT_AS, &(struct rlimit){1 << 28, 1 << 28}));
    IS(mmap(NULL, 1 << 20, RW, ANON, -1, 0) != MAP_FAILED);
    SAY((long)mmap(NULL, 1 << 28, RW, ANON, -1, 0));
}

static void removed(void) {  // a mapping that nothing else holds, and one whose end somebody waits for
    int fd = library();
    char *at = mmap(NULL, 4 * P, PROT_READ, MAP_PRIVATE, fd, 0);
    NEED(close(fd));
    IS(munmap(at, 4 * P) == 0);
    show(at, 4);
    for (int how = 0; how < 2; how++) {
        fd = NEED(open("lib", O_RDONLY));
        NEED(flock(fd, LOCK_EX));
        at = mmap(NULL, 4 * P, PROT_READ, MAP_PRIVATE, fd, 0);
        if (how) IS(mmap(at, 4 * P, PROT_READ, ANON | MAP_FIXED, -1, 0) == at);
        NEED(close(fd));
        int again = NEED(open("lib", O_RDONLY));
        SAY(flock(again, LOCK_EX | LOCK_NB));
        NEED(munmap(at, 4 * P));
        SAY(flock(again, LOCK_EX | LOCK_NB));
        NEED(close(again));
    }
}

static void told(void) {  // what only matters later
    unsigned long head[3] = {(unsigned long)head, 0, 0}, *found = NULL;
    size_t size = 0;
    SAY(syscall(SYS_set_robust_list, head, 23));
    SAY(syscall(SYS_set_robust_list, head, 24));
    SAY(syscall(SYS_get_robust_list, 0, &found, &size));
    IS(found == head && size == 24);
    IN_CHILD("child", NEED(syscall(SYS_get_robust_list, 0, &found, &size)); IS(found == NULL || found != head));
    int word = 0, *where = NULL;
    IS(syscall(SYS_set_tid_address, &word) == getpid());
    SAY(prctl(PR_GET_TID_ADDRESS, &where));
    IS(where == &word);
    unsigned long fs = 0;
    NEED(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    SAY(syscall(SYS_arch_prctl, ARCH_SET_FS, fs));
    SAY(syscall(SYS_arch_prctl, ARCH_SET_FS, 1ul << 63));
    IS(sbrk(0) == (void *)syscall(SYS_brk, 0));
    char *end = sbrk(0);
    IS(sbrk(P) == end && sbrk(0) == end + P && syscall(SYS_brk, 0) == (long)(end + P));
}

static void many(void) {  // more than the stub answers by itself, so that sites are patched meanwhile
    int fd = library();
    for (int k = 0; k < 300; k++) {
        char *at = mmap(NULL, 4 * P, PROT_READ, MAP_PRIVATE, fd, 0);
        char *over = mmap(at + P, P, RW, MAP_PRIVATE | MAP_FIXED, fd, (k % 10) * P);
        if (over != at + P || *over != 'a' + k % 10 || at[0] != 'a') printf("wrong at %d\n", k);
        *over = 1;
        NEED(mprotect(over, P, PROT_READ));
        char *new = mmap(NULL, P, RW, ANON, -1, 0);
        *new = 1;
        NEED(munmap(at, 4 * P));
        if (k % 3) NEED(munmap(new, P));
    }
    printf("done\n");
}

static struct { const char *name; void (*run)(void); } cases[] = {
    {"parts", parts}, {"others_file", others_file}, {"reopened", reopened}, {"holes", holes}, {"taken_away", taken_away},
    {"fresh", fresh}, {"limits", limits}, {"removed", removed}, {"told", told}, {"many", many}};

int main(int argc, char **argv) {
    for (unsigned k = 0; k < sizeof cases / sizeof *cases; k++) {
        if (argc > 1) {
            if (!strcmp(argv[1], cases[k].name)) cases[k].run();
            continue;
        }
        printf("- %s\n", cases[k].name);
        pid_t child = NEED(fork());
        if (!child) {
            execl("/proc/self/exe", argv[0], cases[k].name, NULL);
            _exit(127);
        }
        reap(cases[k].name, child);
    }
    return 0;
}

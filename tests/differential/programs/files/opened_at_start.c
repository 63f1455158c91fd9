// A file that is opened while a program starts, when none of its calls has been made often: looked at, read, mapped and
// closed. It is executed again for each case, and some times, for what it maps once it is likely to map again.
#include "../check.h"

#define P 4096
#define AGAIN 4

static volatile char *flag;  // a page that parent and child share, so that neither needs a call to tell the other
static const char *self;     // a file of the machine's, not one made here: this very program

static int program(void) { return NEED(open(self, O_RDONLY | O_CLOEXEC)); }
static void until(int k, char value) { while (flag[k] != value) __builtin_ia32_pause(); }
static long at(int fd) { return lseek(fd, 0, SEEK_CUR); }

static bool same(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mode == b->st_mode && a->st_dev == b->st_dev &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_nlink == b->st_nlink && a->st_uid == b->st_uid;
}

static void looks(void) {
    struct stat by_name, st = {0};
    NEED(stat(self, &by_name));
    char *bad = mmap(NULL, 2 * P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = program();
    SAY(syscall(SYS_fstat, fd, &st));
    IS(same(&st, &by_name));
    fd = program(), memset(&st, 0, sizeof st);
    SAY(syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH));
    IS(same(&st, &by_name));
    fd = program();
    SAY(syscall(SYS_newfstatat, fd, "x", &st, AT_EMPTY_PATH));
    fd = program();
    SAY(syscall(SYS_newfstatat, fd, 8, &st, AT_EMPTY_PATH));
    fd = program();
    SAY(syscall(SYS_newfstatat, fd, "", &st, 0));
    fd = program();
    SAY(syscall(SYS_fstat, fd, bad));
    SAY(syscall(SYS_fstat, fd, 8));
    SAY(syscall(SYS_fstat, fd + 1, &st));
    SAY(syscall(SYS_fstat, fd, -1ul << 47));
}

static void reads(void) {
    static char page[P], other[P];
    NEED(pread(program(), page, P, 0));
    int fd = program();
    SAY(read(fd, other, 4));
    IS(!memcmp(other, page, 4));
    SAY(read(fd, other, 1000));
    IS(!memcmp(other, page + 4, 1000));
    SAY(pread(fd, other, 64, 64));
    IS(!memcmp(other, page + 64, 64));
    SAY(at(fd));
    fd = program();
    SAY(read(fd, other, 832));
    SAY(read(fd, other, 832));  // beyond what may be known
    IS(!memcmp(other, page + 832, 832));
    SAY(at(fd));
    fd = program();
    SAY(pread(fd, other, 100, 1000));
    SAY(pread(fd, other, 10, -1));
    SAY(pread(fd, other, 10, 1l << 40));
    SAY(read(fd, other, 0));
    SAY(write(fd, other, 1));
    SAY(at(fd));
    fd = program();
    SAY(read(fd, other, 1024)), SAY(read(fd, other, 1)), SAY(at(fd));
}

static void bad_buffers(void) {
    char *page = mmap(NULL, 2 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(munmap(page + P, P));
    int fd = program();
    SAY(read(fd, (void *)8, 16));
    SAY(at(fd));
    fd = program();
    SAY(read(fd, page + P, 16));
    fd = program();
    SAY(read(fd, (void *)(-1ul << 47), 16));
    fd = program();
    SAY(pread(fd, page + P - 8, 8, 1) == 8);
    SAY(pread(fd, NULL, 8, 1));
    fd = program();
    SAY(read(fd, page, 16));  // a page that nothing was written to yet
    IS(!memcmp(page, "\177ELF", 4));
    SAY(mprotect(page, P, PROT_READ));
    fd = program();
    SAY(read(fd, page, 16));
    SAY(read(fd, page, 16));
    SAY(at(fd));
}

static void closed(void) {
    char page[64];
    struct stat st;
    int fd = program();
    SAY(close(fd));
    SAY(close(fd));
    SAY(read(fd, page, 4));
    IS(program() == fd);
    SAY(close(fd));
    SAY(fstat(fd, &st));
    IS(program() == fd);
    IS(program() == fd + 1);
    SAY(close(fd));
    SAY(read(fd + 1, page, 4));
    SAY(fcntl(fd, F_GETFD));
    IS(dup(fd + 1) == fd);
    SAY(fcntl(fd, F_GETFD));
    SAY(close(fd)), SAY(close(fd + 1));
    fd = program();
    SAY(read(fd, page, 10));
    pid_t child = NEED(fork());
    if (!child) {
        SAY(read(fd, page, 10));
        SAY(close(fd));
        exit(0);
    }
    NEED(waitpid(child, NULL, 0));
    SAY(at(fd));
    SAY(close(fd));
}

static void show(const char *from, size_t pages) {  // the areas in a range, as /proc tells them
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], prot[8];
    unsigned long start, end, offset, low = (unsigned long)from, high = low + pages * P;
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %7s %lx", &start, &end, prot, &offset) != 4 || end <= low || start >= high) continue;
        for (unsigned long here = start < low ? low : start; here < (end < high ? end : high); here += P)
            printf("%lu:%s:%lx ", (here - low) / P, prot, strchr(line, '/') ? offset + here - start : 0);
    }
    printf("\n");
    if (maps) fclose(maps);
}

static void mapped(void) {
    static char head[4 * P];
    printf("what printing needs is there\n");
    int fd = program();
    NEED(pread(fd, head, sizeof head, 0));
    fd = program();
    char *whole = mmap(NULL, 64 * P, PROT_READ, MAP_PRIVATE, fd, 0);
    char *data = mmap(whole + P, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 2 * P);
    char *zero = mmap(whole + 3 * P, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
    SAY(close(fd));
    IS(data == whole + P && zero == whole + 3 * P);
    IS(!memcmp(whole, head, P) && !memcmp(data, head + 2 * P, P) && !memcmp(whole + 2 * P, head + 2 * P, P) && !*zero);
    *data = *zero = 'x';
    int other = program();
    char *far = mmap(NULL, 64 * P, PROT_READ, MAP_PRIVATE, other, P);  // both are too large for any hole that was left above
    IS(far + 64 * P == whole);
    IS(!memcmp(far, head + P, P));
    IS(mmap(far + 2 * P, P, PROT_READ, MAP_PRIVATE | MAP_FIXED, other, 0) == far + 2 * P);
    IS(!memcmp(far + 2 * P, head, P));
    SAY(close(other));
    show(far, 4);
    show(whole, 4);
    SAY(fcntl(fd, F_GETFD));
    fd = program();
    char *next = mmap(NULL, 2 * P, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_DENYWRITE, fd, P);
    IS(next + 2 * P == far);
    IS(!memcmp(next, head + P, P));
    SAY(close(fd));
    char *fresh = mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    IS(fresh + P == next);
    SAY(munmap(next, 2 * P));
    SAY(mmap(NULL, P, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED);
    fd = program();
    char *gone = mmap(NULL, 2 * P, PROT_READ, MAP_PRIVATE, fd, P);
    IS(!memcmp(gone, head + P, P));
    SAY(close(fd));
    SAY(munmap(gone, 2 * P));
    IN_CHILD("there no more", printf("%d\n", *(volatile char *)gone));
    show(fresh, 1);
    fd = program();
    SAY((long)mmap(NULL, P, PROT_READ, MAP_PRIVATE, fd, 12));
    SAY((long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0));
    SAY((long)mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    SAY((long)mmap(NULL, 1ul << 47, PROT_READ, MAP_PRIVATE, fd, 0));
    char *text = mmap(NULL, P, PROT_READ, MAP_PRIVATE, fd, 0);
    IN_CHILD("read only", *(volatile char *)text = 1);
    struct stat st;
    NEED(fstat(fd, &st));
    char *beyond = mmap(NULL, (st.st_size / P + 3) * P, PROT_READ, MAP_PRIVATE, fd, 0);
    IN_CHILD("behind its end", printf("%d\n", beyond[(st.st_size / P + 1) * P]));
    fork() ? wait(NULL) : _exit(text[0] != 0x7f);
    IS(!memcmp(text, head, P));
}

static void rights(void) {  // a program that gives up what it was allowed keeps what it mapped, and no more
    int fd = program();
    char *text = mmap(NULL, P, PROT_READ, MAP_PRIVATE, fd, 0);
    NEED(setresgid(12345, 12345, 12345));
    NEED(setresuid(12345, 12345, 12345));
    IS(text[0] == 0x7f);
    char *more = mmap(NULL, P, PROT_READ, MAP_PRIVATE, fd, P);
    IS(more != MAP_FAILED);
    SAY(close(fd));
}

static void others_look(void) {  // the child is told when to go on, and makes no other call
    char name[64], text[256];
    int pages = NEED(open("flag", O_RDWR));
    flag = mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED, pages, 0);
    if (flag[8]) {  // the child
        char page[16];
        int fd = program();
        if (read(fd, page, 10) != 10) _exit(3);
        flag[1] = fd, flag[0] = 1;
        until(2, 1);
        if (close(fd)) _exit(4);
        flag[0] = 2;
        until(2, 2);
        _exit(0);
    }
    flag[8] = 1;
    pid_t child = NEED(fork());
    if (!child) {
        execl("/proc/self/exe", "opened", "others_look", self, NULL);
        _exit(127);
    }
    until(0, 1);
    snprintf(name, sizeof name, "/proc/%d/fdinfo/%d", child, flag[1]);
    FILE *info = fopen(name, "r");
    IS(info && fgets(text, sizeof text, info) && !strcmp(text, "pos:\t10\n"));
    if (info) fclose(info);
    snprintf(name, sizeof name, "/proc/%d/fd/%d", child, flag[1]);
    IS(readlink(name, text, sizeof text) > 0);
    flag[2] = 1;
    until(0, 2);
    SAY(readlink(name, text, sizeof text));
    flag[2] = 2;
    reap("child", child);
}

static struct { const char *name; void (*run)(void); } cases[] = {
    {"looks", looks}, {"reads", reads}, {"bad_buffers", bad_buffers}, {"closed", closed}, {"mapped", mapped},
    {"rights", rights}, {"others_look", others_look}};

int main(int argc, char **argv) {
    static char path[P];
    if (argc > 2) self = argv[2];
    for (unsigned k = 0; k < sizeof cases / sizeof *cases; k++) {
        if (argc > 1) {
            if (!strcmp(argv[1], cases[k].name)) cases[k].run();
            continue;
        }
        NEED(readlink("/proc/self/exe", path, sizeof path - 1));
        for (int turn = 0; turn < AGAIN; turn++) {
            printf("- %s\n", cases[k].name);
            int fd = NEED(open("flag", O_RDWR | O_CREAT | O_TRUNC, 0644));
            NEED(ftruncate(fd, P));
            NEED(close(fd));
            pid_t child = NEED(fork());
            if (!child) {
                execl("/proc/self/exe", argv[0], cases[k].name, path, NULL);
                _exit(127);
            }
            reap(cases[k].name, child);
        }
    }
    return 0;
}

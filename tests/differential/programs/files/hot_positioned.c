// timeout=120 pread64 and pwrite64 in call sites that run often: every edge, and whatever changes what the descriptor means.
#include "../check.h"

#define SIZE 65536
static __thread char buffer[1 << 20];
static char pattern[SIZE];

__attribute__((noinline)) static ssize_t get(int fd, void *at, size_t count, off_t offset) { return pread(fd, at, count, offset); }
__attribute__((noinline)) static ssize_t put(int fd, const void *at, size_t count, off_t offset) { return pwrite(fd, at, count, offset); }

static char first(int fd, off_t offset) {
    char c = '?';
    return get(fd, &c, 1, offset) == 1 ? c : '-';
}
// Often enough for any short cut to be taken, with every answer checked.
static void heat(int fd, bool writing) {
    int wrong = 0;
    for (int k = 0; k < 300; k++) {
        off_t at = (k % 16) * 4096;
        if (writing) wrong += put(fd, pattern + at, 4096, at) != 4096;
        wrong += get(fd, buffer, 4096, at) != 4096 || memcmp(buffer, pattern + at, 4096);
    }
    IS(wrong == 0);
}
static int scratch(const char *name, int flags) {
    int fd = NEED(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
    for (int k = 0; k < SIZE; k++) pattern[k] = 'a' + k / 4096;
    NEED(write(fd, pattern, SIZE));
    if (flags == O_RDWR) return fd;
    int other = NEED(open(name, flags));
    NEED(dup2(other, fd));
    close(other);
    return fd;
}

static void edges(int fd) {
    SAY(get(fd, buffer, 0, 0));
    SAY(get(fd, buffer, 100, SIZE - 100));
    SAY(get(fd, buffer, 101, SIZE - 100));
    SAY(get(fd, buffer, 1, SIZE));
    SAY(get(fd, buffer, 100, SIZE + 5));
    SAY(get(fd, buffer, 1, -1));
    SAY(get(fd, buffer, SIZE, 0));
    SAY(get(fd, buffer, SIZE + 1, 0));
    SAY(get(fd, buffer, sizeof buffer, 1));
    SAY(get(fd, (void *)8, 10, 0));
    SAY(get(fd, (void *)-8, 4, 0));
    SAY(get(fd, (void *)get, 4, 0));
    SAY(put(fd, buffer, 0, 0));
    SAY(put(fd, buffer, 1, -1));
    SAY(put(fd, (void *)8, 10, 0));
    SAY(put(fd, (void *)-8, 4, 0));
    SAY(first(fd, 0));
    SAY(lseek(fd, 0, SEEK_CUR)); // positioned calls leave it alone
}

static void halves(int fd) {
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 'x', 8192);
    NEED(munmap(pages + 4096, 4096));
    SAY(get(fd, pages + 4000, 200, 4096) > 0);
    SAY(pages[4000]);
    SAY(put(fd, pages + 4000, 200, 8192) > 0);
    SAY(first(fd, 8192));
    SAY(first(fd, 8192 + 150));
    NEED(munmap(pages, 4096));
}

static void lengths(void) {
    int fd = scratch("lengths", O_RDWR);
    heat(fd, true);
    edges(fd);
    halves(fd);
    SAY(put(fd, "12345", 5, SIZE - 2)); // across the end
    SAY(lseek(fd, 0, SEEK_END));
    SAY(get(fd, buffer, 10, SIZE - 2));
    IS(!memcmp(buffer, "12345", 5));
    heat(fd, true);
    int pid = NEED(fork()), status;
    if (!pid) _exit(truncate("lengths", 5000) != 0);
    NEED(waitpid(pid, &status, 0));
    SAY(get(fd, buffer, 4096, 0));
    SAY(get(fd, buffer, 4096, 4096));
    SAY(get(fd, buffer, 4096, 8192));
    NEED(ftruncate(fd, SIZE));
    SAY(get(fd, buffer, 4096, 4096));
    SAY(buffer[5000 - 4096]); // what was cut off does not come back
    SAY(buffer[4095]);
    struct stat s;
    NEED(fstat(fd, &s));
    IS(s.st_size == SIZE);
    for (int k = 0; k < 300; k++) get(fd, buffer, 4096, 8192);
    IS(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 || errno == EOPNOTSUPP);
    SAY(lseek(fd, 0, SEEK_END));
    pid = NEED(fork());
    if (!pid) {
        int mine = NEED(open("lengths", O_WRONLY | O_APPEND));
        NEED(write(mine, pattern, 4096));
        _exit(put(mine, pattern, 5, 0) != 5); // appends
    }
    NEED(waitpid(pid, &status, 0));
    IS(status == 0);
    SAY(get(fd, buffer, 10000, SIZE));
    IS(!memcmp(buffer, pattern, 4096) && !memcmp(buffer + 4096, pattern, 5));
    NEED(open("lengths", O_WRONLY | O_TRUNC));
    SAY(get(fd, buffer, 1, 0));
    close(fd);
}

static void modes(void) {
    int fd = scratch("modes", O_RDONLY), writer = NEED(open("modes", O_WRONLY));
    heat(fd, false);
    for (int k = 0; k < 300; k++) put(fd, buffer, 1, 0);
    SAY(put(fd, buffer, 1, 0));
    close(writer);
    close(fd);
    fd = scratch("modes", O_WRONLY);
    for (int k = 0; k < 300; k++) put(fd, pattern, 4096, 0);
    SAY(get(fd, buffer, 1, 0));
    SAY(put(fd, pattern, 1, 0));
    close(fd);
    fd = scratch("modes", O_RDWR | O_APPEND);
    for (int k = 0; k < 300; k++) get(fd, buffer, 4096, 0);
    SAY(put(fd, "x", 1, 0));
    SAY(first(fd, 0));
    SAY(first(fd, SIZE));
    close(fd);
    fd = scratch("modes", O_RDWR);
    heat(fd, true);
    NEED(fcntl(fd, F_SETFL, O_APPEND));
    SAY(put(fd, "y", 1, 0));
    SAY(first(fd, 0));
    SAY(first(fd, SIZE));
    NEED(fcntl(fd, F_SETFL, 0));
    heat(fd, true);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, low = {4096, RLIM_INFINITY};
    NEED(getrlimit(RLIMIT_FSIZE, &old));
    NEED(setrlimit(RLIMIT_FSIZE, &low));
    SAY(put(fd, pattern, 10, 4090));
    SAY(put(fd, pattern, 10, 8192));
    NEED(setrlimit(RLIMIT_FSIZE, &old));
    SAY(put(fd, pattern + 8192, 10, 8192));
    close(fd);
}

static void set_ids(void) {
    int fd = scratch("suid", O_RDWR);
    struct stat s;
    NEED(fchown(fd, 65534, 65534));
    NEED(seteuid(65534));
    heat(fd, true);
    NEED(fchmod(fd, 04777));
    NEED(fstat(fd, &s));
    printf("mode %o\n", s.st_mode);
    SAY(put(fd, "x", 1, 0));
    NEED(fstat(fd, &s));
    printf("mode %o\n", s.st_mode);
    NEED(seteuid(0));
    close(fd);
}

static void descriptors(void) {
    int fd = scratch("one", O_RDWR), other = scratch("two", O_RDWR), status;
    NEED(pwrite(other, "two", 3, 0));
    heat(fd, true);
    NEED(dup2(other, fd));
    SAY(first(fd, 0));
    SAY(put(fd, "T", 1, 0));
    SAY(first(other, 0));
    NEED(close(fd));
    SAY(get(fd, buffer, 1, 0));
    SAY(put(fd, buffer, 1, 0));
    SAY(open("one", O_RDONLY) == fd);
    SAY(first(fd, 0));
    SAY(put(fd, buffer, 1, 0));
    heat(fd, false);
    int pid = NEED(vfork());
    if (!pid) {
        dup2(other, fd);
        _exit(first(fd, 0) != 'T');
    }
    NEED(waitpid(pid, &status, 0));
    IS(status == 0);
    SAY(first(fd, 0));
    pid = NEED(fork());
    if (!pid) {
        SAY(first(fd, 0));
        heat(fd, false);
        close(fd);
        SAY(get(fd, buffer, 1, 0));
        NEED(dup2(other, fd));
        SAY(first(fd, 0));
        _exit(0);
    }
    NEED(waitpid(pid, &status, 0));
    SAY(first(fd, 0));
    NEED(dup2(fd, 100));
    for (int k = 0; k < 300; k++) get(100, buffer, 4096, 0);
    SAY(close_range(99, 101, 0));
    SAY(get(100, buffer, 1, 0));
    SAY(first(fd, 0));
    NEED(dup3(fd, 700, O_CLOEXEC));
    for (int k = 0; k < 300; k++) get(700, buffer, 4096, 0);
    SAY(first(700, 4096));
    close(700), close(other), close(fd);
}

static void files(void) {
    int fd = NEED(memfd_create("m", MFD_ALLOW_SEALING));
    NEED(write(fd, pattern, SIZE));
    heat(fd, true);
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    SAY(put(fd, "x", 1, 0));
    SAY(first(fd, 0));
    close(fd);
    fd = NEED(open("sparse", O_RDWR | O_CREAT, 0600));
    NEED(ftruncate(fd, SIZE));
    int wrong = 0;
    for (int k = 0; k < 300; k++) wrong += get(fd, buffer, 4096, 8192) != 4096 || buffer[0] || put(fd, "s", 1, 3) != 1;
    IS(wrong == 0);
    SAY(first(fd, 3));
    close(fd);
    fd = NEED(open("/etc/passwd", O_RDONLY));
    char begin[4];
    NEED(get(fd, begin, 4, 0));
    for (int k = 0; k < 300; k++) wrong += get(fd, buffer, 4, 0) != 4 || memcmp(buffer, begin, 4);
    IS(wrong == 0);
    SAY(put(fd, "x", 1, 0));
    close(fd);
    fd = scratch("gone", O_RDWR);
    NEED(unlink("gone"));
    heat(fd, true);
    char *map = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    map[5] = '!';
    SAY(first(fd, 5));
    SAY(put(fd, "?", 1, 6));
    SAY(map[6]);
    close(fd);
}

static void written_through_another(void) {
    int fd = scratch("both", O_RDWR), status;
    heat(fd, true);
    int pid = NEED(fork());
    if (!pid) {
        int mine = NEED(open("both", O_RDWR));
        heat(mine, true);
        SAY(put(mine, "Z", 1, 1));
        SAY(put(fd, "Y", 1, 2));
        _exit(0);
    }
    NEED(waitpid(pid, &status, 0));
    SAY(first(fd, 1));
    SAY(first(fd, 2));
    pattern[1] = 'Z', pattern[2] = 'Y';
    heat(fd, true);
    close(fd);
}

static int shared;
static void *reader(void *a) {
    (void)a;
    heat(shared, true);
    return 0;
}
static void threads(void) {
    pthread_t t[4];
    shared = scratch("threads", O_RDWR);
    heat(shared, true);
    pthread_create(&t[0], 0, reader, 0); // first alone
    pthread_join(t[0], 0);
    for (int k = 0; k < 4; k++) pthread_create(&t[k], 0, reader, 0);
    for (int k = 0; k < 4; k++) pthread_join(t[k], 0);
    heat(shared, true);
    close(shared);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        SAY(get(atoi(argv[1]), buffer, 1, 0));
        SAY(first(atoi(argv[2]), 0));
        return 0;
    }
    lengths();
    modes();
    set_ids();
    descriptors();
    files();
    written_through_another();
    threads();
    int closed = scratch("closed", O_RDWR), kept = scratch("kept", O_RDWR);
    heat(closed, true), heat(kept, true);
    NEED(fcntl(closed, F_SETFD, FD_CLOEXEC));
    char numbers[2][12];
    snprintf(numbers[0], 12, "%d", closed), snprintf(numbers[1], 12, "%d", kept);
    execl("/proc/self/exe", "again", numbers[0], numbers[1], NULL);
    return 1;
}

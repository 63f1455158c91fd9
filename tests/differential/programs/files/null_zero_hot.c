// timeout=60 /dev/null and /dev/zero in call sites that run often: counts, bad buffers, and descriptors that change meaning.
#include "../check.h"

static char buffer[1 << 21];

__attribute__((noinline)) static ssize_t put(int fd, const void *at, size_t count) { return write(fd, at, count); }
__attribute__((noinline)) static ssize_t get(int fd, void *at, size_t count) { return read(fd, at, count); }

static void heat(int null, int zero) {
    for (int k = 0; k < 400; k++) {
        put(null, buffer, 1);
        get(zero, buffer, 1);
        get(null, buffer, 1);
    }
}

static void counts(int null, int zero) {
    SAY(put(null, buffer, 0));
    SAY(put(null, buffer, sizeof buffer));
    SAY(put(null, buffer, 0x7ffff000));
    SAY(put(null, buffer, 0x7ffff001));
    SAY(put(null, buffer, 0x80000000));
    SAY(put(null, buffer, 0x100000000));
    SAY(put(null, buffer, -1));
    SAY(put(null, (void *)8, 100));
    SAY(put(null, (void *)-8, 4));
    SAY(put(null, (void *)0x800000000000, 1));
    SAY(put(null, (void *)0x7ffffffff000, 0));
    SAY(put(null, (void *)0x7fffffffe000, 4096));
    SAY(put(null, (void *)0x7fffffffe000, 4097));
    SAY(get(null, buffer, 0));
    SAY(get(null, buffer, 0x80000000));
    SAY(get(null, (void *)8, 100));
    SAY(get(null, (void *)-8, 4));
    SAY(get(zero, buffer, 0));
    memset(buffer, 'x', sizeof buffer);
    SAY(get(zero, buffer + 1, 4096));
    IS(buffer[0] == 'x' && !buffer[1] && !buffer[4096] && buffer[4097] == 'x');
    SAY(get(zero, buffer, sizeof buffer));
    IS(!memchr(buffer, 'x', sizeof buffer));
    SAY(get(zero, (void *)8, 1));
    SAY(get(zero, (void *)-8, 4));
}

static void partial(int zero) {
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 'x', 8192);
    NEED(mprotect(pages + 4096, 4096, PROT_READ));
    SAY(get(zero, pages + 4000, 200));
    IS(pages[3999] == 'x' && !pages[4000] && !pages[4095] && pages[4096] == 'x');
    SAY(get(zero, pages + 4096, 1));
    NEED(munmap(pages, 8192));
    SAY(get(zero, pages, 1));
}

static void meanings(int null, int zero) {
    int out[2];
    char c = 0;
    NEED(pipe(out));
    NEED(dup2(out[1], null)); // a hot descriptor becomes another file
    SAY(put(null, "abc", 3));
    SAY(get(out[0], buffer, 10));
    SAY(get(null, buffer, 10));
    SAY(close(null));
    SAY(put(null, "abc", 3));
    SAY(open("/dev/null", O_RDONLY) == null);
    SAY(put(null, "abc", 3));
    SAY(get(null, buffer, 3));
    NEED(dup2(out[0], zero));
    NEED(write(out[1], "z", 1));
    SAY(get(zero, &c, 1));
    IS(c == 'z');
    SAY(close_range(zero, zero, 0));
    SAY(get(zero, &c, 1));
    close(out[0]), close(out[1]), close(null);
}

static void families(void) {
    int null = NEED(open("/dev/null", O_RDWR)), zero = NEED(open("/dev/zero", O_RDWR));
    heat(null, zero);
    SAY(put(zero, buffer, 5));
    int pid = NEED(vfork());
    if (!pid) { // shares memory, not descriptors
        close(null);
        _exit(put(null, buffer, 1) == -1 && errno == EBADF ? 0 : 1);
    }
    int status;
    NEED(waitpid(pid, &status, 0));
    IS(status == 0);
    SAY(put(null, buffer, 7));
    pid = NEED(fork());
    if (!pid) {
        close(null);
        SAY(put(null, buffer, 1));
        NEED(dup2(zero, null));
        SAY(get(null, buffer, 9));
        _exit(0);
    }
    NEED(waitpid(pid, &status, 0));
    SAY(get(null, buffer, 9));
    IS(fcntl(null, F_SETFD, FD_CLOEXEC) == 0);
    pid = NEED(fork());
    if (!pid) {
        char number[12];
        snprintf(number, sizeof number, "%d", null);
        execlp("sh", "sh", "-c", "( : >&$0 ) 2>/dev/null && echo open || echo closed", number, NULL);
        _exit(1);
    }
    NEED(waitpid(pid, &status, 0));
    heat(null, zero);
    SAY(close(null));
    SAY(put(null, buffer, 1));
    SAY(get(null, buffer, 1));
    SAY(close_range(zero, zero, 0));
    SAY(get(zero, buffer, 1));
}

static int shared_null, shared_zero;
static void *other(void *a) {
    (void)a;
    heat(shared_null, shared_zero);
    NEED(unshare(CLONE_FILES));
    close(shared_null); // of this thread alone
    SAY(put(shared_null, buffer, 1));
    return 0;
}
static void threads(void) {
    pthread_t t;
    shared_null = NEED(open("/dev/null", O_RDWR)), shared_zero = NEED(open("/dev/zero", O_RDWR));
    heat(shared_null, shared_zero);
    pthread_create(&t, 0, other, 0);
    pthread_join(t, 0);
    SAY(put(shared_null, buffer, 3));
    close(shared_null);
    SAY(put(shared_null, buffer, 3));
}

int main(void) {
    int null = NEED(open("/dev/null", O_RDWR)), zero = NEED(open("/dev/zero", O_RDONLY));
    counts(null, zero);
    heat(null, zero);
    counts(null, zero);
    partial(zero);
    SAY(put(zero, buffer, 5));
    meanings(null, zero);
    families();
    threads();
    return 0;
}

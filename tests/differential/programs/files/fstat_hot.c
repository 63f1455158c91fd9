// timeout=60 fstat asked again and again: it shows every change of the file, by whomever, and of the descriptor.
#include "../check.h"

static struct stat s;

__attribute__((noinline)) static int ask(int fd) { return fstat(fd, &s); }

// Many askings that all give the same; then `s` is true.
static int steady(int fd) {
    struct stat was;
    int first = ask(fd);
    was = s;
    for (int k = 0; k < 200; k++) {
        memset(&s, 0, sizeof s);
        if (ask(fd) != first) return -2;
        if (!first && memcmp(&s, &was, sizeof s)) return -3;
        s = was;
    }
    return first;
}
static void look(const char *what, int fd) {
    int result = steady(fd);
    printf("%s: %d size %ld mode %o links %ld\n", what, result, (long)s.st_size, s.st_mode & 07777, (long)s.st_nlink);
}
static int64_t modified(int fd) { steady(fd); return s.st_mtim.tv_sec * 1000000000LL + s.st_mtim.tv_nsec; }
static int64_t changed(int fd) { steady(fd); return s.st_ctim.tv_sec * 1000000000LL + s.st_ctim.tv_nsec; }

int main(void) {
    char data[8192] = "";
    umask(022);
    int fd = NEED(open("a", O_RDWR | O_CREAT, 0644));
    look("empty", fd);
    NEED(write(fd, data, 100));
    look("written", fd);
    IN_CHILD("truncates", truncate("a", 4000));
    look("truncated", fd);
    NEED(chmod("a", 0600));
    look("chmod", fd);
    NEED(link("a", "b"));
    look("link", fd);
    NEED(unlink("a"));
    look("unlink", fd);
    NEED(rename("b", "c"));
    look("rename", fd);
    int64_t before = modified(fd), change = changed(fd);
    sleep_ms(20);
    int other = NEED(open("c", O_RDWR));
    NEED(pwrite(other, "x", 1, 0));
    IS(modified(fd) > before && changed(fd) > change);
    struct timespec times[2] = {{1000, 5}, {2000, 7}};
    NEED(futimens(fd, times));
    IS(modified(fd) == 2000000000007);
    IS(s.st_atim.tv_sec == 1000 && s.st_atim.tv_nsec == 5);
    for (int k = 0; k < 300; k++) pwrite(fd, data, 4096, 0); // hot themselves
    IS(modified(fd) > 2000000000007);
    for (int round = 0; round < 20; round++) {
        before = modified(fd);
        sleep_ms(8);
        pwrite(fd, "y", 1, round);
        if (modified(fd) <= before) printf("no change seen in round %d\n", round);
    }
    close(other);
    other = NEED(open("d", O_RDWR | O_CREAT, 0640));
    NEED(write(other, data, 5000));
    steady(fd);
    NEED(dup2(other, fd)); // the descriptor becomes another file
    look("dup2", fd);
    NEED(ftruncate(other, 1));
    look("its duplicate truncated", fd);
    close(fd);
    SAY(steady(fd));
    SAY(open("c", O_RDONLY) == fd);
    look("reopened", fd);
    SAY(syscall(SYS_fstat, fd, 8));
    SAY(fstat(fd, (struct stat *)8)); // the hot call site's
    SAY(fstatat(fd, "nothing", &s, AT_EMPTY_PATH));
    SAY(syscall(SYS_newfstatat, fd, 8, &s, AT_EMPTY_PATH));
    SAY(fchmod(fd, 04755));
    look("fchmod", fd);
    int pid = NEED(vfork());
    if (!pid) { // shares memory, not descriptors
        dup2(other, fd);
        _exit(fstat(fd, &s) == 0 && s.st_size == 1 ? 0 : 1);
    }
    reap("vfork", pid);
    look("after it", fd);
    IN_CHILD("appends", int a = open("c", O_WRONLY | O_APPEND); write(a, data, 10));
    look("appended", fd);
    look("/dev/null", NEED(open("/dev/null", O_RDWR)));
    return 0;
}

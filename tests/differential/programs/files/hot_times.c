// timeout=60 What positioned reads and writes that run often do to a file's times, as this and another process see them.
#include "../check.h"

static char buffer[4096];
static int fd;

__attribute__((noinline)) static ssize_t get(off_t offset) { return pread(fd, buffer, sizeof buffer, offset); }
__attribute__((noinline)) static ssize_t put(off_t offset) { return pwrite(fd, buffer, sizeof buffer, offset); }

static int64_t ns(struct timespec t) { return t.tv_sec * 1000000000ll + t.tv_nsec; }
static int64_t coarse(void) { // what Linux stamps files with is not later than the clock, and one tick behind at most
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return ns(t);
}
static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return ns(t);
}
static struct stat look(void) {
    struct stat s;
    NEED(fstat(fd, &s));
    return s;
}
static void rest(void) { usleep(30000); }
static void heat(bool writing) {
    for (int k = 0; k < 300; k++) {
        if (writing) put(k % 4 * 4096);
        get(k % 4 * 4096);
    }
}

static void written(void) {
    rest();
    int64_t before = coarse();
    put(0);
    int64_t after = now();
    rest();
    struct stat s = look();
    IS(ns(s.st_mtim) >= before && ns(s.st_mtim) <= after);
    IS(ns(s.st_mtim) == ns(s.st_ctim));
    rest();
    IS(ns(look().st_mtim) == ns(s.st_mtim)); // nothing happened meanwhile
    get(0);
    IS(ns(look().st_mtim) == ns(s.st_mtim));
    rest();
    put(0);
    IS(ns(look().st_mtim) > ns(s.st_mtim));
}

static void seen_by_another(void) {
    int status, said[2], go[2];
    NEED(pipe(said)), NEED(pipe(go));
    int pid = NEED(fork());
    if (!pid) {
        struct stat s;
        int64_t times[2];
        char c;
        close(fd); // so that the other one is alone again
        for (int k = 0; k < 20; k++) {
            NEED(read(go[0], &c, 1));
            NEED(stat("file", &s));
            times[0] = ns(s.st_mtim), times[1] = s.st_size;
            NEED(write(said[1], times, sizeof times));
        }
        _exit(0);
    }
    usleep(20000);
    heat(true);
    int wrong = 0;
    for (int k = 0; k < 20; k++) {
        int64_t before = coarse(), times[2];
        usleep(5000);
        put(0);
        NEED(write(go[1], "", 1));
        NEED(read(said[0], times, sizeof times));
        wrong += times[0] < before || times[0] > now() || times[1] != 16384;
    }
    IS(wrong == 0);
    NEED(waitpid(pid, &status, 0));
    IS(status == 0);
}

static void set(void) {
    struct timespec old[2] = {{1000, 5}, {2000, 7}}, late[2] = {{1000, 5}, {4000000000, 7}};
    put(0);
    NEED(futimens(fd, old));
    struct stat s = look();
    IS(s.st_mtim.tv_sec == 2000 && s.st_mtim.tv_nsec == 7 && s.st_atim.tv_sec == 1000);
    rest();
    int64_t before = coarse();
    put(0);
    s = look();
    IS(ns(s.st_mtim) >= before && ns(s.st_mtim) <= now());
    heat(true);
    NEED(futimens(fd, late));
    IS(look().st_mtim.tv_sec == 4000000000);
    before = coarse();
    put(0);
    s = look();
    IS(ns(s.st_mtim) >= before && ns(s.st_mtim) <= now());
    heat(true);
    put(0);
    int64_t wrote = now();
    rest();
    NEED(fchmod(fd, 0640));
    s = look();
    IS(ns(s.st_mtim) <= wrote && ns(s.st_ctim) > wrote); // written before, changed after
    heat(true);
    put(0);
    wrote = now();
    rest();
    NEED(rename("file", "other"));
    NEED(rename("other", "file"));
    s = look();
    IS(ns(s.st_mtim) <= wrote && ns(s.st_ctim) > wrote);
}

static void across_ends(void) {
    struct stat s;
    heat(true);
    put(0);
    int64_t wrote = now();
    rest();
    NEED(ftruncate(fd, 16384)); // of the same length: still a change
    s = look();
    IS(ns(s.st_mtim) >= wrote);
    heat(true);
    put(0);
    wrote = now();
    rest();
    close(fd);
    NEED(stat("file", &s));
    IS(ns(s.st_mtim) <= wrote && ns(s.st_mtim) > wrote - 20000000);
    int status, pid = NEED(fork());
    if (!pid) {
        fd = NEED(open("file", O_RDWR));
        heat(true);
        put(0);
        rest();
        raise(SIGKILL);
    }
    int64_t before = coarse();
    NEED(waitpid(pid, &status, 0));
    NEED(stat("file", &s));
    IS(ns(s.st_mtim) >= before && ns(s.st_mtim) < now() - 20000000);
    fd = NEED(open("file", O_RDWR));
}

static void accessed(void) { // relatime, and mounts without access times: only what holds for both
    struct timespec old[2] = {{1000, 5}, {2000, 7}};
    NEED(futimens(fd, old));
    rest();
    heat(false);
    struct stat s = look();
    bool kept = s.st_atim.tv_sec != 1000;
    IS(!kept || ns(s.st_atim) <= now());
    int64_t was = ns(s.st_atim);
    rest();
    heat(false);
    IS(!kept || ns(look().st_atim) == was); // later than the change: stays
    rest();
    put(0);
    rest();
    int64_t before = coarse();
    get(0);
    s = look();
    IS(!kept || (ns(s.st_atim) >= before && ns(s.st_atim) > ns(s.st_mtim)));
}

int main(void) {
    fd = NEED(open("file", O_RDWR | O_CREAT, 0600));
    for (int k = 0; k < 4; k++) NEED(put(4096 * k));
    heat(true);
    for (int k = 0; k < 3; k++) written();
    seen_by_another();
    written();
    set();
    across_ends();
    accessed();
    return 0;
}

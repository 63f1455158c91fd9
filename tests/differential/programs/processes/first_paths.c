// timeout=60 The first calls with path names that a program makes, which are the same at each start, or not any more:
// under a name of its own each case is executed some times, and what it finds changes between.
#include "../check.h"

enum { TIMES = 5, P = 4096 };
static char here[PATH_MAX], absent[PATH_MAX], self[PATH_MAX];

static void contents(int fd, const char *name) {  // whether it is that file
    struct stat by_fd = {0}, by_name = {1};
    char first[64], again[64];
    IS(fstat(fd, &by_fd) == 0 && stat(name, &by_name) == 0 && by_fd.st_ino == by_name.st_ino && by_fd.st_size == by_name.st_size);
    long count = read(fd, first, sizeof first);
    IS(count > 0 && pread(fd, again, count, 0) == count && !memcmp(first, again, count));
    IS(lseek(fd, 0, SEEK_CUR) == count);
}

static void looks(int time) {
    int found = access(absent, R_OK), error = errno, fd = open(absent, O_RDONLY | O_CLOEXEC), another = errno;
    SAY(found), puts(error_name(error)), SAY(fd), puts(error_name(another));
    if (fd >= 0) SAY(fcntl(fd, F_GETFD));
}

static void opens(int time) {
    int found = access(absent, F_OK), fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    SAY(found), SAY(fd);
    contents(fd, "/etc/passwd");
    SAY(fcntl(fd, F_GETFD));
    SAY(close(fd)), SAY(close(fd));
    fd = SAY(open(self, O_RDONLY));
    SAY(fcntl(fd, F_GETFD));
    contents(fd, self);
}

static void closes(int time) {  // the same number each time
    struct stat st;
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC), other;
    fstat(fd, &st), close(fd);
    other = open(self, O_RDONLY | O_CLOEXEC);
    long count = read(fd, here, 4);
    close(other);
    int last = open("/etc/group", O_RDONLY | O_CLOEXEC);
    SAY(fd), SAY(other), SAY(last), SAY(count), IS(!memcmp(here, "\177ELF", 4));
    SAY(read(last, here, 1)), SAY(lseek(last, 0, SEEK_CUR)), SAY(close(last));
    SAY(read(fd, here, 4));
    SAY(fcntl(3, F_GETFD));
    fd = SAY(open("/etc/group", O_RDONLY));
    SAY(lseek(fd, 0, SEEK_CUR));
}

static void keeps(int time) {  // the first is still there when the second is opened
    int one = open("/etc/passwd", O_RDONLY), two = open(self, O_RDONLY);
    SAY(one), SAY(two);
    contents(two, self), contents(one, "/etc/passwd");
}

static void maps(int time) {
    int fd = NEED(open(self, O_RDONLY | O_CLOEXEC));
    char *at = mmap(NULL, 2 * P, PROT_READ, MAP_PRIVATE, fd, 0), page[2 * P], line[512];
    NEED(close(fd));
    fd = NEED(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
    char *other = mmap(NULL, P, PROT_READ, MAP_PRIVATE, fd, 0);
    NEED(close(fd));
    SAY(fcntl(fd, F_GETFD));
    fd = NEED(open(self, O_RDONLY));
    IS(read(fd, page, sizeof page) == sizeof page && !memcmp(page, at, sizeof page));
    NEED(close(fd));
    fd = NEED(open("/etc/passwd", O_RDONLY));
    IS((fd = read(fd, page, P)) > 0 && !memcmp(page, other, fd));
    FILE *areas = fopen("/proc/self/maps", "r");
    int found = 0;
    while (areas && fgets(line, sizeof line, areas))
        if (strtoul(line, NULL, 16) == (unsigned long)at && strstr(line, "first_paths")) found++;
        else if (strtoul(line, NULL, 16) == (unsigned long)other && strstr(line, "/etc/passwd")) found++;
    SAY(found);
}

static void forks(int time) {
    int fd = NEED(open("/etc/passwd", O_RDONLY));
    char c[16];
    pid_t pid = NEED(fork());
    if (!pid) _exit(read(fd, c, 7) == 7 ? 7 : 8);
    int status;
    NEED(waitpid(pid, &status, 0));
    SAY(WEXITSTATUS(status)), SAY(lseek(fd, 0, SEEK_CUR));
}

static void ends(int time) {  // with what nobody has asked about
    NEED(open("/etc/passwd", O_RDONLY));
    if (time % 2) kill(getpid(), SIGKILL);
    _exit(3);
}

static void another(int time) {
    int first = open(time % 2 ? "/etc/passwd" : absent, O_RDONLY);
    int found = access(time < 3 ? absent : self, F_OK);
    int last = open("/etc/group", time == 2 ? O_RDONLY : O_RDONLY | O_NONBLOCK);
    SAY(first), SAY(found), SAY(last), SAY(fcntl(last, F_GETFL) & O_NONBLOCK);
}

static void bad_names(int time) {
    char *end = (char *)NEED(mmap(NULL, 2 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) + P;
    NEED(munmap(end, P));
    char *name = strcpy(end - strlen("/etc/passwd") - 1, "/etc/passwd");
    if (time == 4) memmove(name + 1, name, 11);  // no NUL before memory ends
    int found = access(time != 2 ? absent : (char *)8, F_OK), error = errno;
    int fd = open(time == 3 ? "/etc/passw" : time == 4 ? name + 1 : name, O_RDONLY), another = errno;
    SAY(found), puts(error_name(error)), SAY(fd), puts(error_name(another));
    SAY(access(absent, 8));
}

static void shadow(int time) {
    int fd = open("/etc/shadow", O_RDONLY);
    IS(fd >= 0 ? geteuid() == 0 : errno == EACCES);
    SAY(access("/etc/no-such-file", R_OK));
}

static const struct { const char *name; void (*run)(int); } cases[] = {
    {"looks", looks}, {"opens", opens}, {"closes", closes}, {"keeps", keeps}, {"maps", maps}, {"forks", forks}, {"ends", ends},
    {"another", another}, {"bad_names", bad_names}, {"shadow", shadow}, {"low", opens}, {"limit", opens}, {"made", looks},
};

static void prepare(const char *name, int time) {  // in the child, before the program runs
    if (!strcmp(name, "low") && time > 1) NEED(close(0));
    if (!strcmp(name, "limit") && time > 2) NEED(setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, 3}));
    if (!strcmp(name, "shadow") && time > 2 && !geteuid()) NEED(syscall(SYS_setresuid, 1234, 1234, 1234));
    if (!strcmp(name, "made") && time == 2) NEED(close(NEED(open(absent, O_CREAT | O_WRONLY, 0600))));
    if (!strcmp(name, "made") && time == 3) NEED(unlink(absent)), NEED(symlink("/etc/passwd", absent));
}

int main(int argc, char **argv) {
    if (argc == 5) {
        snprintf(absent, sizeof absent, "%s", argv[3]), snprintf(self, sizeof self, "%s", argv[4]);
        for (size_t n = 0; n < sizeof cases / sizeof *cases; n++)
            if (!strcmp(cases[n].name, argv[1])) cases[n].run(atoi(argv[2]));
        fflush(stdout);
        return 0;
    }
    NEED(getcwd(here, sizeof here));
    snprintf(absent, sizeof absent, "%s/absent", here);
    NEED(readlink("/proc/self/exe", self, sizeof self - 1));
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        char link[PATH_MAX + 64], number[16];
        snprintf(link, sizeof link, "%s/%s", here, cases[n].name);
        NEED(symlink(self, link));
        for (int time = 0; time < TIMES; time++) {
            printf("--- %s %d\n", cases[n].name, time);
            snprintf(number, sizeof number, "%d", time);
            pid_t pid = NEED(vfork());
            if (!pid) {
                prepare(cases[n].name, time);
                execl(link, link, link + strlen(here) + 1, number, absent, self, NULL);
                _exit(9);
            }
            int status;
            NEED(waitpid(pid, &status, 0));
            SAY(status);
        }
    }
    return 0;
}

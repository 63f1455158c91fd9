// /proc/self/fd: readlink of files, deleted files, pipes; opening anew; fdinfo.
#include "../check.h"

static void link_of(int fd, const char *cwd) {
    char path[64], target[PATH_MAX] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, target, sizeof target - 1) == -1) {
        printf("%s\n", error_name(errno));
        return;
    }
    if (strncmp(target, "pipe:[", 6) == 0 || strncmp(target, "socket:[", 8) == 0) *strchr(target, '[') = 0;
    printf("%s\n", strncmp(target, cwd, strlen(cwd)) == 0 ? target + strlen(cwd) : target);
}

int main(void) {
    char cwd[PATH_MAX], path[64];
    getcwd(cwd, sizeof cwd);
    put_file("a", "0123456789");
    int fd = NEED(open("a", O_RDWR)), p[2];
    NEED(pipe(p));
    link_of(fd, cwd);
    NEED(rename("a", "b"));
    link_of(fd, cwd);
    NEED(unlink("b"));
    link_of(fd, cwd);
    link_of(p[0], cwd);
    link_of(NEED(socket(AF_UNIX, SOCK_STREAM, 0)), cwd);
    link_of(NEED(open("/dev/null", O_RDONLY)), cwd);
    link_of(500, cwd);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = NEED(open(path, O_RDONLY));
    NEED(lseek(fd, 5, SEEK_SET));
    SAY(lseek(again, 0, SEEK_CUR));
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    char data[512] = "";
    int info = NEED(open(path, O_RDONLY));
    NEED(read(info, data, sizeof data - 1));
    IS(strncmp(data, "pos:\t5\nflags:\t0", 15) == 0);
    OK(readlink("/proc/self/exe", path, sizeof path));
    return 0;
}

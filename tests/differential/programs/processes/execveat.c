// execveat(2) and fexecve(3): by descriptor, with AT_EMPTY_PATH, a symbolic link refused.
#include "../check.h"

int main(int argc, char **argv) {
    if (argc > 1) {
        printf("running %s\n", argv[1]);
        return 0;
    }
    extern char **environ;
    int fd = NEED(open("/proc/self/exe", O_PATH)), dir = NEED(open("/bin", O_RDONLY | O_DIRECTORY));
    char *by_fd[] = {"x", "by descriptor", NULL}, *sh[] = {"sh", "-c", "echo relative", NULL};
    IN_CHILD("fexecve", fexecve(fd, by_fd, environ));
    IN_CHILD("empty path", syscall(SYS_execveat, fd, "", by_fd, environ, AT_EMPTY_PATH));
    IN_CHILD("relative", syscall(SYS_execveat, dir, "sh", sh, environ, 0));
    SAY(syscall(SYS_execveat, fd, "", by_fd, environ, 0));
    SAY(syscall(SYS_execveat, 99, "sh", sh, environ, 0));
    SAY(syscall(SYS_execveat, dir, "sh", sh, environ, 0x8000));
    NEED(symlink("/bin/sh", "link"));
    SAY(syscall(SYS_execveat, AT_FDCWD, "link", sh, environ, AT_SYMLINK_NOFOLLOW));
    return 0;
}

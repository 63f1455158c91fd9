// fcntl record locks: conflicts, splitting, F_GETLK, release by any close of the file, inheritance.
#include "../check.h"

static long lock(int fd, int cmd, int type, long start, long len) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, cmd, &l);
}

static void query(int fd, long start, long len) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    if (fcntl(fd, F_GETLK, &l) == -1)
        printf("F_GETLK %s\n", error_name(errno));
    else if (l.l_type == F_UNLCK)
        printf("%ld+%ld free\n", start, len);
    else
        printf("%ld+%ld held %s %ld+%ld by parent %d\n", start, len, l.l_type == F_WRLCK ? "write" : "read", (long)l.l_start,
               (long)l.l_len, l.l_pid == getppid());
}

int main(void) {
    int fd = NEED(open("a", O_RDWR | O_CREAT, 0600));
    SAY(lock(fd, F_SETLK, F_WRLCK, 0, 100));
    SAY(lock(fd, F_SETLK, F_RDLCK, 40, 20));
    SAY(lock(fd, F_SETLK, F_UNLCK, 10, 10));
    IN_CHILD("child", {
        SAY(lock(fd, F_SETLK, F_WRLCK, 0, 5));
        SAY(lock(fd, F_SETLK, F_WRLCK, 10, 10));
        SAY(lock(fd, F_SETLK, F_RDLCK, 45, 5));
        SAY(lock(fd, F_SETLK, F_WRLCK, 45, 5));
        SAY(lock(fd, F_SETLK, F_RDLCK, 80, 5));
        query(fd, 0, 1);
        query(fd, 12, 2);
        query(fd, 42, 4);
        query(fd, 60, 0);
        query(fd, 100, 0);
    });
    close(NEED(open("a", O_RDONLY)));
    IN_CHILD("after a close", query(fd, 0, 0));
    SAY(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    IN_CHILD("whole file", query(fd, 1L << 40, 1));
    int ro = NEED(open("a", O_RDONLY));
    SAY(lock(ro, F_SETLK, F_WRLCK, 0, 1));
    SAY(lock(fd, F_SETLK, 9, 0, 1));
    SAY(lock(fd, F_SETLK, F_RDLCK, -1, 1));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -5, .l_len = 5};
    SAY(fcntl(fd, F_SETLK, &l));
    SAY(fcntl(fd, F_SETLK, (void *)8));
    SAY(lock(99, F_SETLK, F_RDLCK, 0, 1));
    return 0;
}

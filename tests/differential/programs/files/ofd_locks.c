// Open file description locks: owned by the description, shared by dup and fork, released by the last close.
#include "../check.h"

static long lock(int fd, int cmd, int type) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    long r = fcntl(fd, cmd, &l);
    if (cmd == F_OFD_GETLK && r == 0) printf("type %d pid %d\n", l.l_type, l.l_type == F_UNLCK ? 0 : l.l_pid);
    return r;
}

int main(void) {
    int a = NEED(open("f", O_RDWR | O_CREAT, 0600)), b = NEED(open("f", O_RDWR)), copy = NEED(dup(a));
    SAY(lock(a, F_OFD_SETLK, F_WRLCK));
    SAY(lock(b, F_OFD_SETLK, F_WRLCK));
    SAY(lock(copy, F_OFD_SETLK, F_WRLCK));
    SAY(lock(b, F_OFD_GETLK, F_WRLCK));
    SAY(lock(b, F_SETLK, F_WRLCK));
    IN_CHILD("child", SAY(lock(a, F_OFD_SETLK, F_RDLCK)));
    SAY(lock(b, F_OFD_SETLK, F_RDLCK));
    SAY(lock(b, F_OFD_SETLK, F_UNLCK));
    close(a);
    SAY(lock(b, F_OFD_SETLK, F_WRLCK));
    close(copy);
    SAY(lock(b, F_OFD_SETLK, F_WRLCK));
    struct flock l = {.l_type = F_WRLCK, .l_pid = 5};
    SAY(fcntl(b, F_OFD_SETLK, &l));
    return 0;
}

// fcntl(F_GETFL) and F_SETFL: which flags stay and which may change.
#include "../check.h"

static void show(const char *what, int flags) { printf("%s: %o\n", what, (unsigned)flags); }

int main(void) {
    int fd = NEED(open("a", O_RDWR | O_CREAT | O_TRUNC | O_EXCL | O_APPEND | O_CLOEXEC, 0600));
    show("after open", fcntl(fd, F_GETFL));
    SAY(fcntl(fd, F_SETFL, O_NONBLOCK));
    show("after F_SETFL", fcntl(fd, F_GETFL));
    SAY(fcntl(fd, F_SETFL, O_WRONLY | O_CREAT | O_APPEND));
    show("after F_SETFL with access mode", fcntl(fd, F_GETFL));
    int path = NEED(open("a", O_PATH));
    show("O_PATH", fcntl(path, F_GETFL));
    char c;
    SAY(read(path, &c, 1));
    SAY(fcntl(path, F_SETFL, O_NONBLOCK));
    SAY(fchmod(path, 0600));
    SAY(lseek(path, 0, SEEK_SET));
    SAY(ftruncate(path, 0));
    struct stat st;
    SAY(fstat(path, &st));
    OK(dup(path));
    SAY(fcntl(99, F_GETFL));
    SAY(fcntl(fd, 4242));
    int sync = NEED(open("a", O_WRONLY | O_SYNC | O_NOCTTY));
    show("O_SYNC", fcntl(sync, F_GETFL));
    return 0;
}

// O_APPEND: every write goes to the end, whatever the offset; pwrite on Linux appends too.
#include "../check.h"

int main(void) {
    put_file("a", "0123456789");
    int fd = NEED(open("a", O_RDWR | O_APPEND));
    SAY(lseek(fd, 0, SEEK_CUR));
    SAY(write(fd, "abc", 3));
    SAY(lseek(fd, 0, SEEK_CUR));
    SAY(lseek(fd, 2, SEEK_SET));
    SAY(write(fd, "XY", 2));
    SAY(lseek(fd, 0, SEEK_CUR));
    SAY(pwrite(fd, "pw", 2, 0));
    SAY(lseek(fd, 0, SEEK_CUR));
    show_file("a");
    int other = NEED(open("a", O_WRONLY | O_APPEND));
    SAY(write(other, "1", 1));
    SAY(write(fd, "2", 1));
    SAY(write(other, "3", 1));
    show_file("a");
    SAY(fcntl(fd, F_SETFL, 0));
    SAY(pwrite(fd, "Z", 1, 0));
    show_file("a");
    return 0;
}

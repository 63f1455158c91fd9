// SEEK_DATA and SEEK_HOLE at the ends of a file, where every file system agrees.
#include "../check.h"

int main(void) {
    int fd = NEED(open("a", O_RDWR | O_CREAT, 0600));
    SAY(lseek(fd, 0, SEEK_DATA));
    SAY(lseek(fd, 0, SEEK_HOLE));
    char page[4096];
    memset(page, 'x', sizeof page);
    SAY(write(fd, page, sizeof page));
    SAY(lseek(fd, 0, SEEK_DATA));
    SAY(lseek(fd, 0, SEEK_HOLE));
    SAY(lseek(fd, 4095, SEEK_HOLE));
    SAY(lseek(fd, 4096, SEEK_DATA));
    SAY(lseek(fd, 4096, SEEK_HOLE));
    SAY(lseek(fd, -1, SEEK_DATA));
    SAY(lseek(fd, 100, SEEK_CUR));
    SAY(lseek(fd, 17, SEEK_DATA));
    SAY(lseek(fd, 0, SEEK_CUR));
    return 0;
}

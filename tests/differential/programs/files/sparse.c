// A sparse file: zeros where nothing was written, data at both ends, small on disk.
#include "../check.h"

int main(void) {
    int fd = NEED(open("a", O_RDWR | O_CREAT, 0600));
    SAY(pwrite(fd, "start", 5, 0));
    SAY(pwrite(fd, "end", 3, 1L << 32));
    struct stat st;
    NEED(fstat(fd, &st));
    printf("size %ld sparse %d\n", (long)st.st_size, st.st_blocks < 1000);
    char data[65536];
    SAY(pread(fd, data, sizeof data, (1L << 31) + 17));
    int zeros = 1;
    for (size_t i = 0; i < sizeof data; i++) zeros &= data[i] == 0;
    IS(zeros);
    SAY(pread(fd, data, sizeof data, (1L << 32) - 2));
    printf("%d%d%.3s\n", data[0], data[1], data + 2);
    SAY(lseek(fd, 0, SEEK_END));
    SAY(ftruncate(fd, 5));
    SAY(pread(fd, data, sizeof data, 0));
    return 0;
}

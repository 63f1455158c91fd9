// truncate(2) and ftruncate(2): growing with zeros, shrinking, errors, descriptors without write access.
#include "../check.h"

int main(void) {
    put_file("a", "0123456789");
    SAY(truncate("a", 4));
    show_file("a");
    SAY(truncate("a", 8));
    char data[16] = "................";
    int fd = NEED(open("a", O_RDWR));
    SAY(read(fd, data, sizeof data));
    printf("%c%c%c%c %d%d%d%d\n", data[0], data[1], data[2], data[3], data[4], data[5], data[6], data[7]);
    SAY(ftruncate(fd, -1));
    SAY(truncate("a", -5));
    SAY(truncate("missing", 1));
    SAY(mkdir("d", 0700));
    SAY(truncate("d", 0));
    int ro = NEED(open("a", O_RDONLY));
    SAY(ftruncate(ro, 1));
    SAY(lseek(fd, 0, SEEK_CUR));
    SAY(ftruncate(fd, 2));
    SAY(lseek(fd, 0, SEEK_CUR));
    SAY(write(fd, "E", 1));
    struct stat st;
    NEED(fstat(fd, &st));
    printf("size %ld\n", (long)st.st_size);
    int p[2];
    NEED(pipe(p));
    SAY(ftruncate(p[1], 0));
    SAY(ftruncate(fd, 1L << 40));
    NEED(fstat(fd, &st));
    printf("size %ld sparse %d\n", (long)st.st_size, st.st_blocks * 512 < 1 << 20);
    return 0;
}

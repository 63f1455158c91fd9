// fallocate(2), posix_fallocate(3): growing, keeping the size, punching holes, errors.
#include "../check.h"

static long size(int fd) {
    struct stat st;
    NEED(fstat(fd, &st));
    return st.st_size;
}

int main(void) {
    int fd = NEED(open("a", O_RDWR | O_CREAT, 0600));
    SAY(fallocate(fd, 0, 0, 8192));
    printf("size %ld\n", size(fd));
    SAY(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536));
    printf("size %ld\n", size(fd));
    char page[8192];
    memset(page, 'x', sizeof page);
    NEED(pwrite(fd, page, 8192, 0));
    SAY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 5000));
    NEED(pread(fd, page, 8192, 0));
    int zeros = 0;
    for (int i = 0; i < 8192; i++) zeros += page[i] == 0;
    printf("zeros %d %c %c\n", zeros, page[99], page[5100]);
    SAY(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
    SAY(fallocate(fd, 0, -1, 10));
    SAY(fallocate(fd, 0, 0, 0));
    SAY(fallocate(fd, 0x4000, 0, 1));
    int ro = NEED(open("a", O_RDONLY)), p[2];
    SAY(fallocate(ro, 0, 0, 10));
    NEED(pipe(p));
    SAY(fallocate(p[1], 0, 0, 10));
    int dir = NEED(open(".", O_RDONLY));
    SAY(fallocate(dir, 0, 0, 10));
    printf("posix_fallocate %s\n", error_name(posix_fallocate(fd, 10000, 10000)));
    printf("size %ld\n", size(fd));
    printf("fadvise %s\n", error_name(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL)));
    printf("fadvise %s\n", error_name(posix_fadvise(fd, 0, 0, 99)));
    printf("fadvise %s\n", error_name(posix_fadvise(p[0], 0, 0, POSIX_FADV_NORMAL)));
    SAY(fsync(fd));
    SAY(fdatasync(fd));
    SAY(fsync(p[0]));
    SAY(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
    return 0;
}

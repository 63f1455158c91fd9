// stat(2) and statx(2): what they say of files, directories, links, FIFOs and devices, and that they agree.
#include "../check.h"
#include <sys/sysmacros.h>

int main(void) {
    struct stat st, other;
    struct statx sx;
    put_file("a", "0123456789");
    NEED(chmod("a", 0604));
    NEED(chown("a", 12, 34));
    NEED(stat("a", &st));
    printf("%o %d %d %ld %ld\n", st.st_mode, st.st_uid, st.st_gid, (long)st.st_nlink, (long)st.st_size);
    SAY(statx(AT_FDCWD, "a", 0, STATX_BASIC_STATS, &sx));
    IS((sx.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    IS(sx.stx_ino == st.st_ino && sx.stx_size == 10 && sx.stx_mode == st.st_mode && sx.stx_uid == 12);
    IS(makedev(sx.stx_dev_major, sx.stx_dev_minor) == st.st_dev);
    IS(sx.stx_mtime.tv_sec == st.st_mtim.tv_sec && sx.stx_mtime.tv_nsec == st.st_mtim.tv_nsec);
    SAY(statx(AT_FDCWD, "none", 0, STATX_ALL, &sx));
    SAY(statx(AT_FDCWD, "a", 0, 0x80000000, &sx));
    SAY(statx(AT_FDCWD, "a", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_ALL, &sx));
    int fd = NEED(open("a", O_RDONLY));
    SAY(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &sx));
    NEED(fstat(fd, &other));
    IS(other.st_ino == st.st_ino && other.st_dev == st.st_dev);
    NEED(stat("/dev/null", &st));
    printf("null %o %d,%d\n", st.st_mode & S_IFMT, major(st.st_rdev), minor(st.st_rdev));
    NEED(stat("/dev/zero", &st));
    printf("zero %d,%d\n", major(st.st_rdev), minor(st.st_rdev));
    int p[2];
    NEED(pipe(p));
    NEED(fstat(p[0], &st));
    printf("pipe %o size %ld\n", st.st_mode, (long)st.st_size);
    int s = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    NEED(fstat(s, &st));
    printf("socket %o\n", st.st_mode & S_IFMT);
    SAY(stat("a", (void *)8));
    SAY(stat((void *)8, &st));
    SAY(fstat(99, &st));
    SAY(stat("", &st));
    NEED(mkdir("d", 0700));
    NEED(stat("d/..", &st));
    NEED(stat(".", &other));
    IS(st.st_ino == other.st_ino);
    return 0;
}

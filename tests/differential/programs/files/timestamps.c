// Which calls change which of atime, mtime, ctime, and setting them by utimensat(2).
#include "../check.h"

static struct stat before;

static void mark(const char *path) {
    struct timespec old[2] = {{1000000000, 1}, {1000000000, 2}};
    NEED(utimensat(AT_FDCWD, path, old, 0));
    NEED(stat(path, &before));
    sleep_ms(12);
}

static void changed(const char *what, const char *path) {
    struct stat st;
    NEED(stat(path, &st));
    printf("%s: mtime %d ctime %d\n", what, st.st_mtim.tv_sec != 1000000000,
           st.st_ctim.tv_sec != before.st_ctim.tv_sec || st.st_ctim.tv_nsec != before.st_ctim.tv_nsec);
}

int main(void) {
    put_file("a", "data");
    NEED(mkdir("d", 0755));
    struct stat st;
    mark("a");
    printf("%ld.%ld %ld.%ld\n", (long)before.st_atim.tv_sec, before.st_atim.tv_nsec, (long)before.st_mtim.tv_sec, before.st_mtim.tv_nsec);
    NEED(truncate("a", 2));
    changed("truncate", "a");
    mark("a");
    NEED(chmod("a", 0600));
    changed("chmod", "a");
    mark("a");
    NEED(link("a", "b"));
    changed("link", "a");
    mark("a");
    int fd = NEED(open("a", O_RDWR));
    changed("open", "a");
    NEED(write(fd, "x", 1));
    changed("write", "a");
    mark("d");
    put_file("d/f", "");
    changed("create in directory", "d");
    mark("d");
    put_file("d/f", "more");
    changed("write to entry", "d");
    mark("d");
    NEED(unlink("d/f"));
    changed("unlink in directory", "d");
    struct timespec some[2] = {{5, 6}, {0, UTIME_OMIT}};
    SAY(utimensat(AT_FDCWD, "a", some, 0));
    NEED(stat("a", &st));
    printf("atime %ld.%ld mtime unchanged %d\n", (long)st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec > 1000000000);
    some[0].tv_nsec = 1000000000;
    SAY(utimensat(AT_FDCWD, "a", some, 0));
    SAY(utimensat(AT_FDCWD, "none", NULL, 0));
    SAY(futimens(fd, NULL));
    NEED(fstat(fd, &st));
    IS(st.st_atim.tv_sec > 1500000000);
    NEED(symlink("a", "s"));
    some[0] = some[1] = (struct timespec){77, 0};
    SAY(utimensat(AT_FDCWD, "s", some, AT_SYMLINK_NOFOLLOW));
    NEED(lstat("s", &st));
    printf("link %ld\n", (long)st.st_mtim.tv_sec);
    NEED(stat("s", &st));
    IS(st.st_mtim.tv_sec > 1500000000);
    SAY(utimensat(AT_FDCWD, "a", some, 0x10));
    some[0].tv_sec = -5;
    SAY(utimensat(AT_FDCWD, "a", some, 0));
    NEED(stat("a", &st));
    printf("negative %ld\n", (long)st.st_atim.tv_sec);
    return 0;
}

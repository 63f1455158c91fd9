// link, unlink, rmdir: link counts, data that outlives its name, errors.
#include "../check.h"

static long links(const char *path) {
    struct stat st;
    return stat(path, &st) == -1 ? -errno : (long)st.st_nlink;
}

int main(void) {
    put_file("a", "data");
    SAY(link("a", "b"));
    printf("links %ld %ld\n", links("a"), links("b"));
    struct stat x, y;
    NEED(stat("a", &x));
    NEED(stat("b", &y));
    IS(x.st_ino == y.st_ino && x.st_dev == y.st_dev);
    SAY(link("a", "b"));
    SAY(link("missing", "c"));
    SAY(mkdir("d", 0700));
    SAY(link("d", "e"));
    SAY(link("a", "d/a"));
    printf("links %ld\n", links("a"));
    int fd = NEED(open("a", O_RDONLY));
    SAY(unlink("a"));
    SAY(unlink("b"));
    SAY(unlink("b"));
    SAY(rmdir("d"));
    SAY(unlink("d"));
    SAY(unlink("d/a"));
    NEED(fstat(fd, &x));
    printf("links after unlink %ld\n", (long)x.st_nlink);
    char data[8] = "";
    SAY(read(fd, data, 8));
    printf("[%s]\n", data);
    SAY(rmdir("d"));
    SAY(rmdir("d"));
    SAY(rmdir("."));
    SAY(unlink("."));
    SAY(unlink("/"));
    put_file("f", "");
    SAY(rmdir("f"));
    SAY(unlink("f/"));
    SAY(symlink("f", "s"));
    SAY(linkat(AT_FDCWD, "s", AT_FDCWD, "t", 0));
    NEED(lstat("t", &x));
    IS(S_ISLNK(x.st_mode));
    SAY(linkat(AT_FDCWD, "s", AT_FDCWD, "u", AT_SYMLINK_FOLLOW));
    NEED(lstat("u", &x));
    IS(S_ISREG(x.st_mode));
    SAY(unlinkat(AT_FDCWD, "s", AT_REMOVEDIR));
    SAY(unlinkat(AT_FDCWD, "s", 0x10000));
    return 0;
}

// *at(2): relative to a directory descriptor, AT_EMPTY_PATH, wrong descriptors.
#include "../check.h"

int main(void) {
    NEED(mkdir("d", 0755));
    int d = NEED(open("d", O_RDONLY | O_DIRECTORY)), f;
    OK(f = openat(d, "f", O_CREAT | O_RDWR, 0600));
    SAY(faccessat(AT_FDCWD, "d/f", F_OK, 0));
    SAY(mkdirat(d, "sub", 0700));
    SAY(symlinkat("f", d, "s"));
    char target[32] = "";
    SAY(readlinkat(d, "s", target, sizeof target));
    printf("[%s]\n", target);
    SAY(linkat(d, "f", d, "g", 0));
    SAY(renameat(d, "g", AT_FDCWD, "h"));
    SAY(fchmodat(d, "f", 0640, 0));
    struct stat st;
    SAY(fstatat(d, "f", &st, 0));
    printf("mode %o\n", st.st_mode & 07777);
    SAY(fstatat(d, "", &st, 0));
    SAY(fstatat(d, "", &st, AT_EMPTY_PATH));
    IS(S_ISDIR(st.st_mode));
    SAY(fstatat(f, "", &st, AT_EMPTY_PATH));
    IS(S_ISREG(st.st_mode));
    SAY(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH));
    OK(openat(f, "x", O_RDONLY));
    OK(openat(99, "x", O_RDONLY));
    OK(openat(99, "/", O_RDONLY));
    OK(openat(d, "../d/f", O_RDONLY));
    SAY(fstatat(d, "s", &st, AT_SYMLINK_NOFOLLOW));
    IS(S_ISLNK(st.st_mode));
    SAY(fstatat(d, "s", &st, 0x8));
    SAY(unlinkat(d, "sub", 0));
    SAY(unlinkat(d, "sub", AT_REMOVEDIR));
    SAY(unlinkat(d, "f", 0));
    SAY(unlinkat(d, "f", 0));
    SAY(rmdir("d"));
    SAY(unlinkat(d, "s", 0));
    SAY(rmdir("d"));
    OK(openat(d, "f", O_CREAT | O_RDWR, 0600));
    SAY(fstatat(d, ".", &st, 0));
    SAY(fchdir(d));
    return 0;
}

// Symbolic links: readlink, loops, chains, trailing slashes, long targets.
#include "../check.h"

int main(void) {
    char target[PATH_MAX];
    SAY(symlink("loop", "loop"));
    OK(open("loop", O_RDONLY));
    SAY(symlink("y", "x"));
    SAY(symlink("x", "y"));
    SAY(access("x", F_OK));
    SAY(access("x/z", F_OK));
    put_file("f", "end");
    char from[16], to[16] = "f";
    for (int i = 0; i < 41; i++) {
        snprintf(from, sizeof from, "chain%d", i);
        NEED(symlink(to, from));
        strcpy(to, from);
    }
    OK(open("chain39", O_RDONLY));
    OK(open("chain40", O_RDONLY));
    SAY(readlink("chain1", target, sizeof target));
    SAY(readlink("chain1", target, 3));
    printf("%.3s\n", target);
    SAY(readlink("f", target, 10));
    SAY(readlink("missing", target, 10));
    SAY(readlink("chain1", target, 0));
    SAY(readlink("chain1", (void *)8, 10));
    SAY(symlink("", "empty"));
    SAY(symlink("f", "f"));
    SAY(mkdir("d", 0700));
    SAY(symlink("d", "sd"));
    struct stat st;
    NEED(lstat("sd", &st));
    IS(S_ISLNK(st.st_mode));
    printf("size %ld mode %o\n", (long)st.st_size, st.st_mode & 07777);
    NEED(lstat("sd/", &st));
    IS(S_ISDIR(st.st_mode));
    SAY(rmdir("sd"));
    SAY(rmdir("sd/"));
    SAY(unlink("sd/"));
    SAY(mkdir("sd", 0700));
    SAY(symlink("none", "dangling"));
    SAY(mkdir("dangling", 0700));
    SAY(mkdir("dangling/", 0700));
    memset(target, 'a', sizeof target);
    target[4095] = 0;
    SAY(symlink(target, "long"));
    target[4094] = 0;
    SAY(symlink(target, "long2"));
    return 0;
}

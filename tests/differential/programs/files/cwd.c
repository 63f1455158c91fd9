// chdir, fchdir, getcwd, a removed working directory, chroot.
#include "../check.h"

int main(void) {
    char start[PATH_MAX], path[PATH_MAX];
    NEED(mkdir("d", 0755));
    NEED(mkdir("d/e", 0755));
    IS(getcwd(start, sizeof start) != NULL);
    SAY(chdir("d/e"));
    getcwd(path, sizeof path);
    printf("%s\n", path + strlen(start));
    SAY(chdir(".."));
    getcwd(path, sizeof path);
    printf("%s\n", path + strlen(start));
    int here = NEED(open(".", O_RDONLY));
    SAY(chdir("nowhere"));
    put_file("f", "");
    SAY(chdir("f"));
    SAY(chdir("/"));
    printf("%s\n", getcwd(path, sizeof path));
    SAY(syscall(SYS_getcwd, path, 1));
    SAY(syscall(SYS_getcwd, path, sizeof path));
    SAY(fchdir(here));
    int file = NEED(open("f", O_RDONLY));
    SAY(fchdir(file));
    SAY(fchdir(99));
    SAY(chdir("e"));
    SAY(rmdir("../e"));
    SAY(syscall(SYS_getcwd, path, sizeof path));
    OK(open("x", O_CREAT | O_WRONLY, 0600));
    SAY(access(".", F_OK));
    SAY(access("..", F_OK));
    SAY(chdir(".."));
    getcwd(path, sizeof path);
    printf("%s\n", path + strlen(start));
    NEED(mkdir("root", 0755));
    put_file("root/inside", "in");
    IN_CHILD("chroot", {
        SAY(chroot("root"));
        SAY(chdir("/"));
        printf("%s\n", getcwd(path, sizeof path));
        show_file("/inside");
        SAY(access("/../../etc", F_OK));
        SAY(chdir(".."));
        show_file("inside");
        SAY(chroot("none"));
        NEED(setuid(1000));
        SAY(chroot("/"));
    });
    return 0;
}

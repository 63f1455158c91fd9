// unshare and setns: a private mount namespace, a pid namespace with its own init.
#include "../check.h"
#include <sys/mount.h>

int main(void) {
    IN_CHILD("mounts", {
        NEED(mkdir("m", 0755));
        SAY(unshare(CLONE_NEWNS));
        SAY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
        SAY(mount("tmpfs", "m", "tmpfs", 0, "size=1m"));
        put_file("m/inside", "x");
        show_file("m/inside");
        SAY(mount("m", "m", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
        OK(open("m/new", O_CREAT | O_WRONLY, 0600));
        SAY(umount("m"));
        SAY(access("m/inside", F_OK));
        SAY(umount("m"));
    });
    SAY(access("m/inside", F_OK));
    IN_CHILD("pids", {
        SAY(unshare(CLONE_NEWPID));
        pid_t pid = fork();
        if (pid == 0) {
            printf("pid %d parent %d\n", getpid(), getppid());
            if (fork() == 0) {
                printf("second pid %d\n", getpid());
                _exit(0);
            }
            wait(NULL);
            _exit(4);
        }
        reap("init", pid);
    });
    SAY(unshare(0x1));
    IN_CHILD("user", { NEED(setresuid(5, 5, 5)); SAY(unshare(CLONE_NEWUTS)); });
    return 0;
}

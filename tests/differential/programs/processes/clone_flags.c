// clone(2): what CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_PARENT_SETTID and friends share, and invalid combinations.
#include "../check.h"

static char stack[65536] __attribute__((aligned(16)));
static volatile int number;
static int fds[2];

static int body(void *argument) {
    number = 7;
    close(fds[0]);
    chdir("d");
    umask(0);
    return *(int *)argument;
}

static void with(const char *name, int flags) {
    int code = 5, status;
    number = 0;
    umask(022);
    NEED(pipe(fds));
    pid_t parent_tid = 0, child_tid = 1;
    pid_t pid = clone(body, stack + sizeof stack, flags | SIGCHLD, &code, &parent_tid, NULL, &child_tid);
    if (pid == -1) {
        printf("%s: %s\n", name, error_name(errno));
        close(fds[0]);
        close(fds[1]);
        return;
    }
    waitpid(pid, &status, __WALL);
    char c;
    printf("%s: number %d, closed %d, directory changed %d, umask %o, exit %d, parent tid %d, child tid %d\n", name, number,
           read(fds[0], &c, 0) == -1, access("inside", F_OK) == 0, umask(022), WEXITSTATUS(status), parent_tid == pid, child_tid);
    if (access("inside", F_OK) == 0) chdir("..");
    close(fds[0]);
    close(fds[1]);
}

int main(void) {
    NEED(mkdir("d", 0755));
    put_file("d/inside", "");
    with("none", 0);
    with("vm", CLONE_VM);
    with("files", CLONE_FILES);
    with("fs", CLONE_FS);
    with("all", CLONE_VM | CLONE_FILES | CLONE_FS);
    with("parent_settid", CLONE_PARENT_SETTID);
    with("vm cleartid", CLONE_VM | CLONE_CHILD_CLEARTID);
    with("vfork", CLONE_VM | CLONE_VFORK);
    with("sighand without vm", CLONE_SIGHAND);
    with("thread without sighand", CLONE_VM | CLONE_THREAD);
    with("newns and fs", CLONE_NEWNS | CLONE_FS);
    OK(syscall(SYS_clone3, NULL, 64));
    struct { uint64_t a[8]; } args = {{0}};
    args.a[4] = SIGCHLD;
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) _exit(6);
    reap("clone3", pid);
    args.a[0] = SIGCHLD;
    OK(syscall(SYS_clone3, &args, sizeof args));
    args.a[0] = 0;
    args.a[4] = 200;
    OK(syscall(SYS_clone3, &args, sizeof args));
    OK(syscall(SYS_clone3, &args, 8));
    pid = syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (pid == 0) _exit(2);
    int status;
    SAY(waitpid(pid, &status, WNOHANG));
    IS(waitpid(pid, &status, __WCLONE) == pid);
    say_status("no signal", status);
    return 0;
}

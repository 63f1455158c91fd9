// kill(2): who may signal whom, groups, all, nobody.
#include "../check.h"

static int body(void) {
    SAY(kill(getpid(), 0));
    SAY(kill(getpid(), 99));
    SAY(kill(getpid(), -1));
    SAY(kill(1 << 29, 0));
    SAY(kill(-(1 << 29), 0));
    int p[2];
    char c;
    NEED(pipe(p));
    pid_t root = NEED(fork());
    if (root == 0) {
        close(p[1]);
        read(p[0], &c, 1);
        _exit(0);
    }
    IN_CHILD("user", {
        close(p[1]);
        NEED(setresuid(1000, 1000, 1000));
        SAY(kill(root, 0));
        SAY(kill(root, SIGTERM));
        SAY(kill(getppid(), SIGTERM));
        SAY(kill(getpid(), 0));
    });
    NEED(setpgid(0, 0));
    pid_t children[3];
    for (int i = 0; i < 3; i++)
        if ((children[i] = fork()) == 0)
            for (;;) pause();
    signal(SIGUSR1, SIG_IGN);
    SAY(kill(0, SIGUSR1));
    for (int i = 0; i < 3; i++) kill(children[i], SIGUSR2);
    int usr1 = 0, usr2 = 0, status;
    for (int i = 0; i < 3; i++) {
        waitpid(children[i], &status, 0);
        usr1 += WTERMSIG(status) == SIGUSR1;
        usr2 += WTERMSIG(status) == SIGUSR2;
    }
    printf("by group %d\n", usr1 + usr2);
    close(p[1]);
    reap("root", root);
    return 0;
}

int main(void) {
    // In a child, since a session leader cannot change its group.
    IN_CHILD("test", body());
    return 0;
}

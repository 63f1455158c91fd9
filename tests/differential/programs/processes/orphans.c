// Orphans go to the nearest subreaper; PR_SET_PDEATHSIG tells a child of its parent's end.
#include "../check.h"

int main(void) {
    int p[2], value = -1;
    char c;
    SAY(prctl(PR_SET_CHILD_SUBREAPER, 1));
    SAY(prctl(PR_GET_CHILD_SUBREAPER, &value));
    printf("%d\n", value);
    NEED(pipe(p));
    pid_t me = getpid(), middle = NEED(fork());
    if (middle == 0) {
        if (fork() == 0) {
            close(p[1]);
            read(p[0], &c, 1);
            while (getppid() != me) sleep_ms(1);
            printf("orphan's parent is the subreaper\n");
            _exit(11);
        }
        int inherited = -1;
        prctl(PR_GET_CHILD_SUBREAPER, &inherited);
        printf("inherited %d\n", inherited);
        _exit(10);
    }
    reap("middle", middle);
    close(p[1]);
    int status;
    IS(wait(&status) > 0);
    say_status("orphan", status);
    NEED(pipe(p));
    middle = NEED(fork());
    if (middle == 0) {
        if (fork() == 0) {
            NEED(prctl(PR_SET_PDEATHSIG, SIGUSR1));
            write(p[1], "x", 1);
            for (;;) pause();
        }
        read(p[0], &c, 1);
        _exit(0);
    }
    reap("middle", middle);
    IS(wait(&status) > 0);
    say_status("child with death signal", status);
    SAY(prctl(PR_GET_PDEATHSIG, &value));
    SAY(prctl(PR_SET_PDEATHSIG, 99));
    return 0;
}

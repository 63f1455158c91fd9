// Stopping signals and SIGCONT: handlers of SIGCONT, orphaned groups, SIGTSTP ignored in them.
#include "../check.h"

static void on(int signo) { write(1, "continued\n", 10); }

int main(void) {
    int status;
    int stops[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    for (int i = 0; i < 4; i++) {
        pid_t pid = NEED(fork());
        if (pid == 0) {
            setpgid(0, 0);
            signal(SIGCONT, on);
            raise(stops[i]);
            _exit(3);
        }
        waitpid(pid, &status, WUNTRACED);
        say_status("child", status);
        kill(pid, SIGCONT);
        reap("child", pid);
    }
    IN_CHILD("orphaned group", {
        setsid();
        if (fork() == 0) {
            raise(SIGTSTP);
            printf("SIGTSTP does nothing in an orphaned group\n");
            _exit(0);
        }
        wait(&status);
        say_status("member", status);
    });
    IN_CHILD("newly orphaned stopped group gets HUP and CONT", {
        int p[2];
        NEED(pipe(p));
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            pid_t member = fork();
            if (member == 0) {
                setpgid(0, 0);
                raise(SIGSTOP);
                _exit(0);
            }
            waitpid(member, &status, WUNTRACED);
            _exit(0);
        }
        close(p[1]);
        reap("leader", pid);
        char c;
        printf("pipe closes when the member is gone: %zd\n", read(p[0], &c, 1));
    });
    return 0;
}

// fork, exit statuses, wait for any, for one, for none; ECHILD.
#include "../check.h"

int main(void) {
    int status;
    SAY(wait(&status));
    for (int code = 0; code < 600; code += 250) IN_CHILD("exit", _exit(code));
    IN_CHILD("signal", raise(SIGTERM));
    IN_CHILD("kill", kill(getpid(), SIGKILL));
    IN_CHILD("abort", abort());
    pid_t a = NEED(fork());
    if (a == 0) _exit(1);
    pid_t b = NEED(fork());
    if (b == 0) _exit(2);
    IS(waitpid(b, &status, 0) == b);
    printf("%d\n", WEXITSTATUS(status));
    IS(waitpid(-1, &status, 0) == a);
    printf("%d\n", WEXITSTATUS(status));
    SAY(waitpid(a, &status, 0));
    SAY(waitpid(-1, &status, WNOHANG));
    SAY(waitpid(getpid(), &status, 0));
    int p[2];
    NEED(pipe(p));
    pid_t c = NEED(fork());
    if (c == 0) {
        char x;
        close(p[1]);
        read(p[0], &x, 1);
        _exit(3);
    }
    SAY(waitpid(c, &status, WNOHANG));
    close(p[1]);
    IS(waitpid(c, &status, 0) == c);
    SAY(waitpid(-1, &status, 0x10000000));
    SAY(wait4(-1, &status, WNOHANG, NULL));
    return 0;
}

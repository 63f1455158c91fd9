// The controlling terminal: acquiring it, /dev/tty, foreground group, signals from keys, hang-up of the session.
#include "../check.h"
#include <pty.h>
#include <termios.h>

static volatile int got;
static void on(int signo) { got = signo; }

static int session(int m, int s) {
    close(m);
    OK(open("/dev/tty", O_RDWR));
    SAY(tcgetpgrp(s));
    IS(setsid() == getpid());
    SAY(ioctl(s, TIOCSCTTY, 0));
    OK(open("/dev/tty", O_RDWR));
    IS(tcgetpgrp(s) == getpid());
    IS(tcgetsid(s) == getpid());
    struct sigaction action = {.sa_handler = on};
    int keys[] = {SIGINT, SIGQUIT, SIGWINCH, SIGHUP, SIGTTOU};
    for (int i = 0; i < 5; i++) sigaction(keys[i], &action, NULL);
    NEED(write(1, "ready\n", 6));
    for (int i = 0; i < 3; i++) {
        while (!got) pause();
        printf("key signal %s\n", sigabbrev_np(got));
        got = 0;
        write(s, "+", 1);
    }
    pid_t child = NEED(fork());
    if (child == 0) {
        setpgid(0, 0);
        char c;
        signal(SIGTTIN, SIG_IGN);
        SAY(read(s, &c, 1));
        signal(SIGTTIN, SIG_DFL);
        read(s, &c, 1);
        printf("background continued\n");
        _exit(0);
    }
    int status;
    waitpid(child, &status, WUNTRACED);
    say_status("background reader", status);
    NEED(setpgid(child, child));
    SAY(tcsetpgrp(s, child));
    IS(tcgetpgrp(s) == child);
    write(s, "+", 1);
    kill(child, SIGCONT);
    reap("foreground reader", child);
    SAY(tcsetpgrp(s, getpid()));
    printf("interrupted by %s\n", got ? sigabbrev_np(got) : "none");
    signal(SIGTTOU, SIG_IGN);
    SAY(tcsetpgrp(s, getpid()));
    SAY(tcsetpgrp(s, 1 << 29));
    got = 0;
    write(s, "+", 1);
    while (!got) pause();
    printf("hang-up signal %s\n", sigabbrev_np(got));
    char c;
    SAY(read(s, &c, 1));
    _exit(5);
}

static void wait_mark(int m) {
    char c = 0;
    while (c != '+')
        if (read(m, &c, 1) != 1) return;
}

int main(void) {
    int m, s;
    NEED(openpty(&m, &s, NULL, NULL, NULL));
    int p[2];
    NEED(pipe(p));
    pid_t pid = NEED(fork());
    if (pid == 0) session(m, s);
    close(s);
    sleep_ms(150);
    NEED(write(m, "\x03", 1));
    wait_mark(m);
    NEED(write(m, "\x1c", 1));
    wait_mark(m);
    struct winsize w = {10, 20, 0, 0};
    NEED(ioctl(m, TIOCSWINSZ, &w));
    wait_mark(m);
    wait_mark(m);
    NEED(write(m, "x\n", 2));
    wait_mark(m);
    sleep_ms(50);
    close(m);
    reap("session", pid);
    return 0;
}

// SA_RESTART against EINTR: read on a pipe, wait, nanosleep, poll, pause, semaphores of futex, accept.
#include "../check.h"

static int p[2];
static volatile int count;
static void on(int signo) { count++; }

// Sends SIGUSR1 to us in 60 ms and writes a byte in 160 ms.
static pid_t helper(void) {
    pid_t parent = getpid(), pid = NEED(fork());
    if (pid == 0) {
        sleep_ms(60);
        kill(parent, SIGUSR1);
        sleep_ms(100);
        write(p[1], "x", 1);
        _exit(8);
    }
    return pid;
}

static void with(int flags) {
    struct sigaction action = {.sa_handler = on, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    printf("flags %x\n", flags);
    char c;
    count = 0;
    pid_t pid = helper();
    if (SAY(read(p[0], &c, 1)) == -1) read(p[0], &c, 1);
    printf("handler ran %d\n", count);
    reap("helper", pid);
    pid = helper();
    int status;
    printf("wait %s\n", waitpid(pid, &status, 0) == pid ? "restarted" : error_name(errno));
    if (flags == 0) reap("helper", pid);
    read(p[0], &c, 1);
    pid = helper();
    struct pollfd poll_fd = {p[0], POLLIN, 0};
    SAY(poll(&poll_fd, 1, 2000));
    reap("helper", pid);
    read(p[0], &c, 1);
    pid = helper();
    struct timespec long_time = {2, 0}, left;
    SAY(nanosleep(&long_time, &left));
    IS(left.tv_sec == 1);
    reap("helper", pid);
    read(p[0], &c, 1);
    pid = helper();
    SAY(pause());
    reap("helper", pid);
    read(p[0], &c, 1);
    pid = helper();
    int word = 0;
    SAY(syscall(SYS_futex, &word, 128, 0, &(struct timespec){0, 300000000}, NULL, 0));
    reap("helper", pid);
    read(p[0], &c, 1);
}

int main(void) {
    NEED(pipe(p));
    with(0);
    with(SA_RESTART);
    return 0;
}

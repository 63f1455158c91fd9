// timeout=120 Threads that do nothing but one call that is soon over, for ever: signals reach them without delay.
#include "../check.h"
#include <sys/epoll.h>

static volatile sig_atomic_t ticks;
static void on_alarm(int signo) { (void)signo, ticks++; }
static char buffer[65536];
static int null, zero, scratch, ep;

static void write_null(void) { write(null, buffer, 1); }
static void read_null(void) { read(null, buffer, 1); }
static void read_zero(void) { read(zero, buffer, 1); }
static void read_much(void) { read(zero, buffer, sizeof buffer); }
static void get_pid(void) { getppid(); }
static void pread_file(void) { pread(scratch, buffer, 4096, 8192); }
static void pwrite_file(void) { pwrite(scratch, buffer, 4096, 8192); }
static void look_for_events(void) { struct epoll_event e; epoll_wait(ep, &e, 1, 0); }
static void stat_file(void) { struct stat s; fstat(scratch, &s); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void alarms(void (*call)(void)) {
    ticks = 0;
    signal(SIGALRM, on_alarm);
    struct itimerval every = {{0, 10000}, {0, 10000}}, off = {0};
    double start = now();
    NEED(setitimer(ITIMER_REAL, &every, 0));
    while (ticks < 50) call();
    NEED(setitimer(ITIMER_REAL, &off, 0));
    IS(now() - start < 30);
}

static void ends(void (*call)(void)) {
    int status, pid = NEED(fork());
    if (!pid)
        for (;;) call();
    usleep(50000);
    NEED(kill(pid, SIGSTOP));
    NEED(waitpid(pid, &status, WUNTRACED));
    IS(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    NEED(kill(pid, SIGCONT));
    NEED(waitpid(pid, &status, WCONTINUED));
    IS(WIFCONTINUED(status));
    double start = now();
    NEED(kill(pid, SIGKILL));
    NEED(waitpid(pid, &status, 0));
    IS(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    IS(now() - start < 30);
}

static void (*shared_call)(void);
__attribute__((noreturn)) static void *endless(void *a) {
    (void)a;
    for (;;) shared_call();
}
static void threads(void (*call)(void)) { // the process ends although its threads never look
    int status, pid = NEED(fork());
    if (!pid) {
        pthread_t t;
        shared_call = call;
        for (int k = 0; k < 3; k++) pthread_create(&t, 0, endless, 0);
        usleep(50000);
        exit(7);
    }
    double start = now();
    NEED(waitpid(pid, &status, 0));
    IS(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    IS(now() - start < 30);
}

int main(void) {
    null = NEED(open("/dev/null", O_RDWR)), zero = NEED(open("/dev/zero", O_RDONLY));
    scratch = NEED(open("scratch", O_RDWR | O_CREAT, 0600));
    NEED(write(scratch, buffer, sizeof buffer));
    ep = NEED(epoll_create1(0));
    void (*calls[])(void) = {write_null, read_null, read_zero, read_much, get_pid, pread_file, pwrite_file,
                             look_for_events, stat_file};
    for (unsigned k = 0; k < sizeof calls / sizeof *calls; k++) {
        printf("call %u\n", k);
        alarms(calls[k]);
        ends(calls[k]);
        threads(calls[k]);
    }
    return 0;
}

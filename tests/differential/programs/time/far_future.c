// Times that no clock will ever show: whoever waits for them waits until something else comes.
#include "../check.h"
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/timerfd.h>

static const struct timespec never = {INT64_MAX, 999999999}, late = {1L << 40, 0};
static void handler(int signo) { (void)signo; }

// Waits of this process end with a signal after a while.
static void soon(void) {
    pid_t parent = getpid(), pid = fork();
    if (!pid) {
        sleep_ms(60);
        kill(parent, SIGUSR1);
        _exit(0);
    }
}

#define INTERRUPTED(call) \
    do {                  \
        soon();           \
        OK(call);         \
        wait(NULL);       \
    } while (0)

int main(void) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    INTERRUPTED(nanosleep(&never, NULL));
    INTERRUPTED(nanosleep(&late, NULL));
    int error;
    soon();
    error = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &never, NULL);
    printf("%s\n", error_name(error));
    wait(NULL);
    soon();
    error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &late, NULL);
    printf("%s\n", error_name(error));
    wait(NULL);
    int word = 0, epoll = NEED(epoll_create1(0));
    INTERRUPTED(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &never, NULL, 0));
    INTERRUPTED(syscall(SYS_ppoll, NULL, 0, &never, NULL, 8));
    INTERRUPTED(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &never, NULL));
    INTERRUPTED(select(0, NULL, NULL, NULL, &(struct timeval){INT64_MAX, 999999}));
    INTERRUPTED(epoll_wait(epoll, &(struct epoll_event){0}, 1, INT_MAX));
    INTERRUPTED(syscall(SYS_epoll_pwait2, epoll, &(struct epoll_event){0}, 1, &never, NULL, 8));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    INTERRUPTED(syscall(SYS_rt_sigtimedwait, &set, NULL, &never, 8));

    // Timers: this one is the only thing that will ever happen.
    int fd = NEED(timerfd_create(CLOCK_MONOTONIC, 0));
    OK(timerfd_settime(fd, 0, &(struct itimerspec){.it_value = never, .it_interval = never}, NULL));
    struct itimerspec left;
    OK(timerfd_gettime(fd, &left));
    IS(left.it_value.tv_sec > 1L << 32);
    INTERRUPTED(pause());
    timer_t timer;
    OK(timer_create(CLOCK_REALTIME, NULL, &timer));
    OK(timer_settime(timer, TIMER_ABSTIME, &(struct itimerspec){.it_value = never}, NULL));
    OK(timer_settime(timer, 0, &(struct itimerspec){.it_value = late}, NULL));
    OK(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {INT64_MAX, 0}}, NULL));
    IS(alarm(UINT_MAX) > 0);
    INTERRUPTED(pause());
    int pair[2];
    char byte;
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){INT64_MAX, 0}, sizeof(struct timeval)));
    INTERRUPTED(read(pair[0], &byte, 1));
    return 0;
}

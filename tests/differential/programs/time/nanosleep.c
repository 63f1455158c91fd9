// nanosleep and clock_nanosleep: length, absolute times, remaining time after a signal, bad values.
#include "../check.h"

static void on(int signo) {}

int main(void) {
    int64_t start = now_ns(CLOCK_MONOTONIC);
    struct timespec t = {0, 30000000}, left = {-1, -1};
    SAY(nanosleep(&t, &left));
    IS(now_ns(CLOCK_MONOTONIC) - start >= 30000000);
    IS(left.tv_sec == -1);
    t.tv_nsec = 1000000000;
    SAY(nanosleep(&t, NULL));
    t = (struct timespec){-1, 0};
    SAY(nanosleep(&t, NULL));
    SAY(syscall(SYS_nanosleep, (void *)8, NULL));
    t = (struct timespec){0, 0};
    SAY(nanosleep(&t, NULL));
    signal(SIGALRM, on);
    struct itimerval timer = {.it_value = {0, 50000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    t = (struct timespec){5, 0};
    SAY(nanosleep(&t, &left));
    IS(left.tv_sec == 4 && left.tv_nsec > 0);
    setitimer(ITIMER_REAL, &timer, NULL);
    printf("clock_nanosleep %s\n", error_name(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &left)));
    IS(left.tv_sec == 4);
    int64_t until = now_ns(CLOCK_MONOTONIC) + 40000000;
    t = (struct timespec){until / 1000000000, until % 1000000000};
    printf("absolute %s\n", error_name(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)));
    IS(now_ns(CLOCK_MONOTONIC) >= until);
    printf("past %s\n", error_name(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)));
    printf("realtime %s\n", error_name(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL)));
    printf("thread clock %s\n", error_name(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL)));
    printf("bad clock %s\n", error_name(clock_nanosleep(99, 0, &t, NULL)));
    IS(sleep(0) == 0);
    IS(usleep(1000) == 0);
    return 0;
}

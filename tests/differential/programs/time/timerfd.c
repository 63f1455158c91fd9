// timerfd: one-shot, periodic, absolute, non-blocking reads, gettime, poll, errors.
#include "../check.h"
#include <sys/timerfd.h>

int main(void) {
    int fd = NEED(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    uint64_t n = 0;
    SAY(read(fd, &n, 8));
    struct itimerspec t = {.it_value = {0, 20000000}}, old;
    SAY(timerfd_settime(fd, 0, &t, &old));
    SAY(timerfd_gettime(fd, &old));
    IS(old.it_value.tv_sec == 0 && old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 20000000);
    struct pollfd p = {fd, POLLIN, 0};
    SAY(poll(&p, 1, 2000));
    SAY(read(fd, &n, 8));
    printf("%lu\n", n);
    SAY(read(fd, &n, 8));
    SAY(timerfd_gettime(fd, &old));
    IS(old.it_value.tv_nsec == 0);
    t = (struct itimerspec){.it_value = {0, 10000000}, .it_interval = {0, 10000000}};
    SAY(timerfd_settime(fd, 0, &t, NULL));
    sleep_ms(100);
    SAY(read(fd, &n, 8));
    IS(n >= 5 && n < 100);
    t = (struct itimerspec){{0}};
    SAY(timerfd_settime(fd, 0, &t, &old));
    IS(old.it_interval.tv_nsec == 10000000);
    sleep_ms(20);
    SAY(read(fd, &n, 8));
    int64_t past = now_ns(CLOCK_MONOTONIC) - 1000000;
    t = (struct itimerspec){.it_value = {past / 1000000000, past % 1000000000}};
    SAY(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, NULL));
    SAY(poll(&p, 1, 1000));
    SAY(read(fd, &n, 8));
    SAY(read(fd, &n, 4));
    SAY(write(fd, &n, 8));
    SAY(lseek(fd, 0, SEEK_SET));
    t.it_value.tv_nsec = 1000000000;
    SAY(timerfd_settime(fd, 0, &t, NULL));
    SAY(timerfd_settime(fd, 0x100, &old, NULL));
    SAY(timerfd_settime(1, 0, &old, NULL));
    OK(timerfd_create(77, 0));
    OK(timerfd_create(CLOCK_MONOTONIC, 0x1));
    OK(timerfd_create(CLOCK_REALTIME, 0));
    int blocking = NEED(timerfd_create(CLOCK_BOOTTIME, 0));
    t = (struct itimerspec){.it_value = {0, 30000000}};
    NEED(timerfd_settime(blocking, 0, &t, NULL));
    SAY(read(blocking, &n, 8));
    printf("%lu\n", n);
    return 0;
}

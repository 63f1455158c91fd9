// clock_gettime, clock_getres: monotone, consistent with each other, errors.
#include "../check.h"

int main(void) {
    clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_TAI};
    for (int c = 0; c < 9; c++) {
        int64_t last = 0;
        int back = 0;
        for (int i = 0; i < 5000; i++) {
            int64_t t = now_ns(clocks[c]);
            back += t < last;
            last = t;
        }
        struct timespec res;
        int r = clock_getres(clocks[c], &res);
        printf("clock %d: backwards %d res %d\n", clocks[c], back, r == 0 && res.tv_sec == 0 && res.tv_nsec >= 1);
    }
    struct timespec t;
    SAY(clock_gettime(99, &t));
    SAY(clock_gettime(-1, &t));
    SAY(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (void *)8));
    SAY(clock_getres(99, &t));
    struct timeval tv;
    SAY(gettimeofday(&tv, NULL));
    IS(llabs(now_ns(CLOCK_REALTIME) - (tv.tv_sec * 1000000000LL + tv.tv_usec * 1000LL)) < 1000000000);
    IS(llabs((int64_t)time(NULL) - tv.tv_sec) <= 1);
    int64_t start = now_ns(CLOCK_MONOTONIC), real = now_ns(CLOCK_REALTIME);
    sleep_ms(100);
    int64_t elapsed = now_ns(CLOCK_MONOTONIC) - start, real_elapsed = now_ns(CLOCK_REALTIME) - real;
    IS(elapsed >= 100000000 && elapsed < 3000000000);
    IS(llabs(elapsed - real_elapsed) < 100000000);
    IS(now_ns(CLOCK_BOOTTIME) >= now_ns(CLOCK_MONOTONIC) - 1000000000);
    clockid_t own;
    IS(clock_getcpuclockid(getpid(), &own) == 0 && now_ns(own) > 0);
    IN_CHILD("user", { NEED(setresuid(5, 5, 5)); t = (struct timespec){1, 0}; SAY(clock_settime(CLOCK_REALTIME, &t)); });
    return 0;
}

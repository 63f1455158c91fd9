// CPU clocks: sleeping costs nothing, computing does; a process timer on CPU time fires.
#include "../check.h"

static volatile int fired;
static void on(int signo) { fired = 1; }

int main(void) {
    int64_t start = now_ns(CLOCK_PROCESS_CPUTIME_ID), thread = now_ns(CLOCK_THREAD_CPUTIME_ID);
    sleep_ms(200);
    IS(now_ns(CLOCK_PROCESS_CPUTIME_ID) - start < 100000000);
    int64_t until = now_ns(CLOCK_MONOTONIC) + 20000000000; // others may have the processors
    while (now_ns(CLOCK_THREAD_CPUTIME_ID) - thread < 20000000 && now_ns(CLOCK_MONOTONIC) < until)
        for (volatile int i = 0; i < 100000; i++) ;
    IS(now_ns(CLOCK_THREAD_CPUTIME_ID) - thread > 10000000);
    signal(SIGUSR1, on);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    SAY(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer));
    struct itimerspec t = {.it_value = {0, 30000000}};
    SAY(timer_settime(timer, 0, &t, NULL));
    sleep_ms(60);
    IS(!fired);
    while (!fired) ;
    printf("fired\n");
    return 0;
}

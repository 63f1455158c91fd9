// timer_create: signal with a value, SIGEV_NONE, overrun, to a thread, gettime, delete, errors.
#include "../check.h"

static siginfo_t seen;
static volatile int count;
static void on(int signo, siginfo_t *info, void *context) {
    seen = *info;
    count++;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 99};
    SAY(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec t = {.it_value = {0, 20000000}}, old;
    SAY(timer_settime(timer, 0, &t, NULL));
    while (!count) pause();
    printf("code %d value %d overrun %d\n", seen.si_code, seen.si_value.sival_int, seen.si_overrun);
    SAY(timer_gettime(timer, &old));
    IS(old.it_value.tv_sec == 0 && old.it_value.tv_nsec == 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    t = (struct itimerspec){.it_value = {0, 5000000}, .it_interval = {0, 5000000}};
    SAY(timer_settime(timer, 0, &t, NULL));
    sleep_ms(80);
    t = (struct itimerspec){{0}};
    count = 0;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    IS(seen.si_overrun > 3);
    SAY(timer_settime(timer, 0, &t, &old));
    IS(old.it_interval.tv_nsec == 5000000);
    SAY(timer_delete(timer));
    timer_t none, thread;
    event = (struct sigevent){.sigev_notify = SIGEV_NONE};
    SAY(timer_create(CLOCK_REALTIME, &event, &none));
    t = (struct itimerspec){.it_value = {10, 0}};
    SAY(timer_settime(none, 0, &t, NULL));
    SAY(timer_gettime(none, &old));
    IS(old.it_value.tv_sec == 9 && old.it_value.tv_nsec > 0);
    event = (struct sigevent){.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    event._sigev_un._tid = gettid();
    SAY(timer_create(CLOCK_MONOTONIC, &event, &thread));
    count = 0;
    int64_t until = now_ns(CLOCK_MONOTONIC) + 20000000;
    t = (struct itimerspec){.it_value = {until / 1000000000, until % 1000000000}};
    SAY(timer_settime(thread, TIMER_ABSTIME, &t, NULL));
    while (!count) pause();
    IS(now_ns(CLOCK_MONOTONIC) >= until);
    timer_t plain;
    SAY(timer_create(CLOCK_MONOTONIC, NULL, &plain));
    count = 0;
    t = (struct itimerspec){.it_value = {0, 1000000}};
    SAY(timer_settime(plain, 0, &t, NULL));
    while (!count) pause();
    IS(seen.si_signo == SIGALRM && seen.si_code == SI_TIMER);
    t.it_value.tv_nsec = -1;
    SAY(timer_settime(plain, 0, &t, NULL));
    event.sigev_notify = 77;
    SAY(timer_create(CLOCK_MONOTONIC, &event, &plain));
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = 99;
    SAY(timer_create(CLOCK_MONOTONIC, &event, &plain));
    SAY(timer_create(77, NULL, &plain));
    SAY(syscall(SYS_timer_delete, 12345));
    return 0;
}

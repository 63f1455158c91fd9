// alarm, setitimer REAL, VIRTUAL, PROF: delivery, remaining time, intervals, cancelling.
#include "../check.h"

static volatile int alarms, virtuals, profs;
static void on(int signo) {
    if (signo == SIGALRM) alarms++;
    if (signo == SIGVTALRM) virtuals++;
    if (signo == SIGPROF) profs++;
}

int main(void) {
    signal(SIGALRM, on);
    signal(SIGVTALRM, on);
    signal(SIGPROF, on);
    SAY(alarm(100));
    IS(alarm(0) >= 99);
    SAY(alarm(0));
    struct itimerval timer = {.it_value = {0, 20000}, .it_interval = {0, 20000}}, old;
    SAY(setitimer(ITIMER_REAL, &timer, NULL));
    while (alarms < 4) pause();
    SAY(getitimer(ITIMER_REAL, &old));
    IS(old.it_interval.tv_usec == 20000 && old.it_value.tv_sec == 0 && old.it_value.tv_usec <= 20000);
    timer = (struct itimerval){0};
    SAY(setitimer(ITIMER_REAL, &timer, &old));
    IS(old.it_interval.tv_usec == 20000);
    int before = alarms;
    sleep_ms(60);
    IS(alarms == before);
    timer = (struct itimerval){.it_value = {0, 30000}};
    SAY(setitimer(ITIMER_VIRTUAL, &timer, NULL));
    sleep_ms(60);
    IS(virtuals == 0);
    while (!virtuals) ;
    printf("virtual fired\n");
    SAY(setitimer(ITIMER_PROF, &timer, NULL));
    while (!profs) ;
    printf("prof fired\n");
    timer.it_value.tv_usec = 1000000;
    SAY(setitimer(ITIMER_REAL, &timer, NULL));
    timer.it_value.tv_usec = -1;
    SAY(setitimer(ITIMER_REAL, &timer, NULL));
    SAY(setitimer(7, &old, NULL));
    SAY(getitimer(7, &old));
    SAY(alarm(50));
    IN_CHILD("not inherited", SAY(alarm(0)));
    return 0;
}

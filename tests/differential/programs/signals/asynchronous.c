// Signals while computing: a timer interrupts a loop without losing any state.
#include "../check.h"
#include <math.h>

static volatile int ticks;
static void on(int signo) { ticks++; }

int main(void) {
    signal(SIGALRM, on);
    struct itimerval timer = {.it_value = {0, 2000}, .it_interval = {0, 2000}};
    NEED(setitimer(ITIMER_REAL, &timer, NULL));
    unsigned long hash = 5381;
    double sum = 0;
    unsigned long rounds = 0;
    while (ticks < 30) rounds++;
    for (long i = 0; i < 3000000; i++) {
        hash = hash * 33 + i;
        sum += 1.0 / (1 + i);
    }
    timer = (struct itimerval){0};
    setitimer(ITIMER_REAL, &timer, NULL);
    printf("hash %lx sum %.10f\n", hash, sum);
    IS(rounds > 0 && ticks >= 30);
    return 0;
}

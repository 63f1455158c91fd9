// getrusage, times, wait4's usage: plausibility and who counts.
#include "../check.h"
#include <sys/times.h>

static void burn(int ms) {
    int64_t until = now_ns(CLOCK_PROCESS_CPUTIME_ID) + ms * 1000000LL;
    while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < until) ;
}

static long micros(struct rusage *u) {
    return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000000 + u->ru_utime.tv_usec + u->ru_stime.tv_usec;
}

int main(void) {
    struct rusage self, children, one;
    burn(60);
    SAY(getrusage(RUSAGE_SELF, &self));
    IS(micros(&self) >= 30000);
    IS(self.ru_maxrss > 100);
    NEED(getrusage(RUSAGE_CHILDREN, &children));
    IS(micros(&children) == 0);
    pid_t pid = NEED(fork());
    if (pid == 0) {
        burn(60);
        _exit(0);
    }
    int status;
    IS(wait4(pid, &status, 0, &one) == pid);
    IS(micros(&one) >= 30000);
    NEED(getrusage(RUSAGE_CHILDREN, &children));
    IS(micros(&children) >= 30000);
    struct tms t;
    IS(times(&t) != -1);
    IS(t.tms_cutime + t.tms_cstime >= 2);
    SAY(getrusage(77, &self));
    SAY(getrusage(RUSAGE_SELF, (void *)8));
    SAY(getrusage(RUSAGE_THREAD, &self));
    return 0;
}

// getrlimit, setrlimit, prlimit: raising, lowering, errors, inheritance.
#include "../check.h"

int main(void) {
    struct rlimit limit = {50, 100};
    SAY(setrlimit(RLIMIT_NOFILE, &limit));
    NEED(getrlimit(RLIMIT_NOFILE, &limit));
    printf("%ld %ld\n", (long)limit.rlim_cur, (long)limit.rlim_max);
    limit.rlim_cur = 101;
    SAY(setrlimit(RLIMIT_NOFILE, &limit));
    SAY(getrlimit(99, &limit));
    SAY(setrlimit(RLIMIT_CORE, (void *)8));
    IN_CHILD("child", {
        getrlimit(RLIMIT_NOFILE, &limit);
        printf("%ld %ld\n", (long)limit.rlim_cur, (long)limit.rlim_max);
        NEED(setresuid(1000, 1000, 1000));
        limit.rlim_cur = 100;
        SAY(setrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_max = 200;
        SAY(setrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_max = 10;
        limit.rlim_cur = 10;
        SAY(setrlimit(RLIMIT_NOFILE, &limit));
        OK(open("/dev/null", O_RDONLY));
        SAY(dup2(0, 10));
        SAY(dup2(0, 9));
    });
    struct rlimit new = {20, 30}, old;
    SAY(prlimit(0, RLIMIT_NOFILE, &new, &old));
    printf("%ld %ld\n", (long)old.rlim_cur, (long)old.rlim_max);
    SAY(prlimit(1 << 29, RLIMIT_NOFILE, NULL, &old));
    NEED(getrlimit(RLIMIT_CPU, &limit));
    IS(limit.rlim_cur == RLIM_INFINITY);
    NEED(getrlimit(RLIMIT_STACK, &limit));
    IS(limit.rlim_cur >= 1 << 20);
    return 0;
}

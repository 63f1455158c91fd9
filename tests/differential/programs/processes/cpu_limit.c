// RLIMIT_CPU: SIGXCPU at the soft limit, SIGKILL at the hard one. timeout=90
#include "../check.h"

static volatile int got;
static void on(int signo) { got++; }

int main(void) {
    IN_CHILD("soft", {
        struct rlimit limit = {1, 2};
        NEED(setrlimit(RLIMIT_CPU, &limit));
        for (;;) got++;
    });
    IN_CHILD("handled, then hard", {
        struct rlimit limit = {1, 2};
        NEED(setrlimit(RLIMIT_CPU, &limit));
        signal(SIGXCPU, on);
        while (!got) ;
        printf("handled\n");
        for (;;) ;
    });
    return 0;
}

// pthread_kill and per-thread masks: a process signal goes to a thread that does not block it.
#include "../check.h"

static volatile int by_main, by_thread;
static pthread_t main_thread;
static void on(int signo) {
    if (pthread_equal(pthread_self(), main_thread))
        by_main++;
    else
        by_thread++;
}
static volatile int ready, stop;

static void *idle(void *x) {
    sigset_t set;
    sigemptyset(&set);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    ready = 1;
    while (!stop) sleep_ms(1);
    return NULL;
}

int main(void) {
    main_thread = pthread_self();
    struct sigaction action = {.sa_handler = on, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_t t;
    pthread_create(&t, NULL, idle, NULL);
    while (!ready) sleep_ms(1);
    kill(getpid(), SIGUSR1);
    while (!by_thread) sleep_ms(1);
    printf("process signal: main %d thread %d\n", by_main, by_thread);
    pthread_kill(t, SIGUSR1);
    while (by_thread < 2) sleep_ms(1);
    pthread_kill(main_thread, SIGUSR1);
    sleep_ms(20);
    sigset_t pending;
    sigpending(&pending);
    printf("directed: main %d thread %d pending %d\n", by_main, by_thread, sigismember(&pending, SIGUSR1));
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    printf("unblocked: main %d\n", by_main);
    stop = 1;
    pthread_join(t, NULL);
    printf("pthread_kill bad signal %s\n", error_name(pthread_kill(main_thread, 99)));
    return 0;
}

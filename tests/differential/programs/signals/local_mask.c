// Masks changed again and again, beside signals that come meanwhile: none is early, none is lost, every mask is what it was.
#include "../check.h"

static volatile sig_atomic_t got, inner;
static void count(int signo) {
    (void)signo;
    got++;
}
static void look(int signo) {  // blocked while it runs; what it changes is undone when it returns
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    inner += sigismember(&now, signo);
    sigaddset(&now, SIGUSR2);
    sigprocmask(SIG_SETMASK, &now, NULL);
}
static int __attribute__((noinline)) change(int how, const void *set, void *old) {
    return syscall(SYS_rt_sigprocmask, how, set, old, 8);
}
static unsigned long mask(void) {
    unsigned long now = 0;
    NEED(change(SIG_BLOCK, NULL, &now));
    return now;
}
static unsigned long bit(int signo) { return 1ul << (signo - 1); }
static void heat(void) {
    unsigned long set = bit(SIGUSR1), old;
    for (int k = 0; k < 200; k++) {
        NEED(change(SIG_BLOCK, &set, &old));
        NEED(change(SIG_SETMASK, &old, NULL));
        sigset_t s, o;
        sigemptyset(&s);
        sigaddset(&s, SIGUSR1);
        sigprocmask(SIG_BLOCK, &s, &o);
        sigprocmask(SIG_SETMASK, &o, NULL);
        pthread_sigmask(SIG_BLOCK, &s, &o);
        pthread_sigmask(SIG_SETMASK, &o, NULL);
    }
}

static volatile int stop;
static pthread_t first;
static void *sender(void *how) {
    for (int k = 0; k < 200; k++) {
        int before = got;
        if (how) pthread_kill(first, SIGUSR1);
        else kill(getpid(), SIGUSR1);
        while (got == before) sched_yield();
    }
    stop = 1;
    return NULL;
}
static void race(void *how) {  // each is taken, though it comes at any moment of a change
    stop = 0, got = 0;
    pthread_t thread;
    sigset_t none, block, old;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    first = pthread_self();
    int early = 0;
    struct sigaction action = {.sa_handler = count};
    sigaction(SIGUSR1, &action, NULL);
    unsigned long usr1 = bit(SIGUSR1), was;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&thread, NULL, sender, how)) exit(2);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    while (!stop) {
        change(SIG_BLOCK, &usr1, &was);
        int before = got;
        for (volatile int spin = 0; spin < 50; spin++);
        early += got != before;
        change(SIG_SETMASK, &was, NULL);
        early += was != 0;
    }
    pthread_join(thread, NULL);
    printf("early %d, all %d\n", early, got == 200);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        printf("executed %lx\n", mask());
        return 0;
    }
    unsigned long set, old;
    heat();

    // How the three ways work, what cannot be blocked, what is wrong.
    set = ~0ul;
    SAY(change(SIG_SETMASK, &set, &old));
    printf("%lx %lx\n", old, mask());
    set = bit(SIGUSR1) | bit(SIGKILL) | bit(64);
    SAY(change(SIG_UNBLOCK, &set, &old));
    printf("%lx %lx\n", old, mask());
    set = 0;
    SAY(change(SIG_SETMASK, &set, &old));
    printf("%lx %lx\n", old, mask());
    set = bit(SIGSTOP) | bit(SIGUSR1) | bit(33);
    SAY(change(SIG_BLOCK, &set, &set));
    printf("%lx %lx\n", set, mask());
    SAY(change(3, &set, &old));
    SAY(change(-1, &set, &old));
    SAY(change(3, NULL, &old));
    SAY(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, 4));
    SAY(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, 16));
    SAY(change(SIG_BLOCK, (void *)8, &old));
    SAY(change(SIG_BLOCK, (void *)-8, &old));
    set = bit(SIGUSR2);
    SAY(change(SIG_BLOCK, &set, (void *)8));
    printf("%lx\n", mask());
    SAY(change(SIG_BLOCK, NULL, (void *)8));
    SAY(change(SIG_BLOCK, NULL, NULL));
    set = 0;
    change(SIG_SETMASK, &set, NULL);
    heat();

    // Blocked ones wait, and come with the call that unblocks them.
    signal(SIGUSR1, count);
    signal(SIGUSR2, count);
    int wrong = 0;
    for (int k = 0; k < 300; k++) {
        set = bit(SIGUSR1) | bit(SIGUSR2);
        change(SIG_BLOCK, &set, &old);
        wrong += got != 3 * k;
        kill(getpid(), SIGUSR1);
        raise(SIGUSR2);
        change(SIG_BLOCK, &set, NULL);
        wrong += got != 3 * k;
        sigset_t waiting;
        sigpending(&waiting);
        wrong += !sigismember(&waiting, SIGUSR1) || !sigismember(&waiting, SIGUSR2);
        set = bit(SIGUSR2);
        change(SIG_UNBLOCK, &set, NULL);
        wrong += got != 3 * k + 1;
        change(SIG_SETMASK, &old, NULL);
        wrong += got != 3 * k + 2;
        raise(SIGUSR1);
        wrong += got != 3 * k + 3;
    }
    printf("wrong %d\n", wrong);

    // Handlers: blocked within, as before behind.
    signal(SIGUSR1, look);
    for (int k = 0; k < 300; k++) raise(SIGUSR1), wrong += mask() != 0;
    printf("wrong %d inner %d\n", wrong, (int)inner);

    // Inherited by children and programs; each has its own.
    set = bit(SIGUSR1) | bit(SIGHUP);
    change(SIG_SETMASK, &set, NULL);
    for (int k = 0; k < 20; k++) {
        pid_t child = NEED(fork());
        if (!child) {
            unsigned long now = mask();
            heat();
            set = bit(SIGHUP);
            change(SIG_UNBLOCK, &set, NULL);
            _exit(now != (bit(SIGUSR1) | bit(SIGHUP)) || mask() != bit(SIGUSR1));
        }
        int status;
        NEED(waitpid(child, &status, 0));
        wrong += status != 0 || mask() != (bit(SIGUSR1) | bit(SIGHUP));
    }
    printf("wrong %d\n", wrong);
    if (!vfork()) {
        unsigned long none = 0;
        change(SIG_SETMASK, &none, NULL);
        execl("/proc/self/exe", argv[0], "x", NULL);
        _exit(1);
    }
    NEED(wait(NULL));
    printf("%lx\n", mask());
    if (!fork()) {
        execl("/proc/self/exe", argv[0], "x", NULL);
        _exit(1);
    }
    NEED(wait(NULL));
    char status[4096] = "";
    FILE *file = fopen("/proc/self/status", "r");
    for (char line[256]; fgets(line, sizeof line, file);)
        if (!strncmp(line, "SigBlk", 6)) strcat(status, line);
    printf("%s", status);
    set = 0;
    change(SIG_SETMASK, &set, NULL);

    // Waits with masks of their own, and timers.
    signal(SIGALRM, count);
    got = 0;
    set = bit(SIGALRM);
    for (int k = 0; k < 20; k++) {
        change(SIG_BLOCK, &set, &old);
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 500}}, NULL);
        sigset_t none;
        sigemptyset(&none);
        sigsuspend(&none);
        wrong += got != k + 1 || mask() != bit(SIGALRM);
        change(SIG_SETMASK, &old, NULL);
    }
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 200}, {0, 200}}, NULL);
    for (got = 0; got < 500;) {
        change(SIG_BLOCK, &set, &old);
        int before = got;
        for (volatile int spin = 0; spin < 200; spin++);
        wrong += got != before;
        change(SIG_SETMASK, &old, NULL);
    }
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    printf("wrong %d\n", wrong);

    race(NULL);
    race("thread");
    heat();
    race(NULL);
    printf("%lx\n", mask());
    return 0;
}

// What parent and child write after fork(2) is their own, whatever the child does: it ends, it goes on, it faults, it is
// killed, it computes for long, it stops, it executes a program. Small programs and large ones, once and again.
#include "../check.h"

static int data = 1;
static char bss[70000];
static int *heap, *anonymous, *shared;
static volatile int signals;

static void on_signal(int signo) { signals += signo; }

static void change(int by) {
    volatile int local[4000]; // deeper than the stack was
    for (int k = 0; k < 4000; k++) local[k] = by;
    (void)local[by];
    data += by;
    memset(bss, 'a' + by, sizeof bss);
    for (int k = 0; k < 5000; k++) heap[k] += by;
    for (int k = 0; k < 3000; k++) anonymous[k] += by;
}

static int as_before(int value) {
    if (data != value || heap[0] != value || heap[4999] != value || anonymous[0] != value || anonymous[2999] != value)
        return 0;
    for (size_t k = 0; k < sizeof bss; k++)
        if (bss[k] != bss[0]) return 0;
    return 1;
}

static void compute(long milliseconds) {
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += milliseconds * 1000000;
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - end.tv_sec) * 1000000000 + now.tv_nsec < end.tv_nsec);
}

static int ends(pid_t child) {
    int status;
    NEED(waitpid(child, &status, 0));
    return status;
}

static void each_kind(void) {
    pid_t child;
    int status, pipes[2], marker = 5;
    char byte;

    for (int k = 0; k < 50; k++) { // it writes all over, and ends
        if (!(child = NEED(fork()))) {
            change(3);
            marker = 6;
            _exit(as_before(4) ? marker : 1);
        }
        status = ends(child);
        if (WEXITSTATUS(status) != 6 || !as_before(1) || marker != 5) printf("round %d: %#x\n", k, status);
    }

    NEED(pipe(pipes)); // it goes on: a call that the parent could wait for
    if (!(child = NEED(fork()))) {
        change(2);
        close(pipes[0]);
        NEED(write(pipes[1], "x", 1));
        change(1);
        _exit(as_before(4) ? 7 : 1);
    }
    NEED(read(pipes[0], &byte, 1));
    change(9);
    printf("goes on: %d %d\n", WEXITSTATUS(ends(child)), as_before(10));
    change(-9);

    if (!(child = NEED(fork()))) { // it computes, and so does the parent
        for (int k = 0; k < 8; k++) change(1), compute(1);
        _exit(as_before(9) ? 8 : 1);
    }
    for (int k = 0; k < 4; k++) change(2), compute(1);
    printf("computes: %d %d\n", WEXITSTATUS(ends(child)), as_before(9));
    change(-8);

    if (!(child = NEED(fork()))) { // it faults
        change(5);
        *(volatile int *)8 = 1;
        _exit(1);
    }
    printf("faults: %d %d\n", WTERMSIG(ends(child)), as_before(1));

    if (!(child = NEED(fork()))) { // it handles a signal of its own, and of another
        change(5);
        raise(SIGUSR1);
        kill(getpid(), SIGUSR2);
        _exit(signals);
    }
    printf("signals: %d %d %d\n", WEXITSTATUS(ends(child)), signals, as_before(1));

    if (!(child = NEED(fork()))) { // it stops, and is let go on
        change(1);
        raise(SIGSTOP);
        _exit(as_before(2) ? 9 : 1);
    }
    NEED(waitpid(child, &status, WUNTRACED));
    IS(WIFSTOPPED(status));
    kill(child, SIGCONT);
    printf("stops: %d %d\n", WEXITSTATUS(ends(child)), as_before(1));

    if (!(child = NEED(fork()))) { // it is killed while it computes
        change(1);
        for (;;) data++;
    }
    compute(3);
    kill(child, SIGKILL);
    printf("killed: %d %d\n", WTERMSIG(ends(child)), as_before(1));

    if (!(child = NEED(fork()))) { // a child of its own, at once
        change(1);
        pid_t grandchild = NEED(fork());
        if (!grandchild) {
            change(1);
            _exit(as_before(3) ? 10 : 1);
        }
        _exit(WEXITSTATUS(ends(grandchild)) + as_before(2));
    }
    printf("forks: %d %d\n", WEXITSTATUS(ends(child)), as_before(1));

    *shared = 0; // what is shared is
    if (!(child = NEED(fork()))) {
        *shared = getppid();
        change(1);
        _exit(0);
    }
    status = ends(child);
    printf("shared: %d %d\n", *shared == getpid(), as_before(1));

    if (!(child = NEED(fork()))) { // its descriptors, mask, directory and group are its own
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        signal(SIGUSR1, SIG_IGN);
        close(0);
        dup2(pipes[1], 5);
        NEED(chdir("/usr"));
        umask(077);
        NEED(setpgid(0, 0));
        _exit(0);
    }
    status = ends(child);
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    char folder[100];
    printf("attributes: %d %d %d %d\n", sigismember(&mask, SIGTERM), action.sa_handler == on_signal,
           fcntl(0, F_GETFD) >= 0, strcmp(getcwd(folder, sizeof folder), "/usr") != 0);

    if (!(child = NEED(fork()))) { // it executes a program, after one that is not there
        change(4);
        char *arguments[] = {"sh", "-c", "exit $((40 + 2))", NULL};
        execv("/nowhere", arguments);
        execv("/bin/sh", arguments);
        _exit(1);
    }
    printf("executes: %d %d\n", WEXITSTATUS(ends(child)), as_before(1));

    if (!(child = NEED(fork()))) { // memory of its own, given back or new
        change(1);
        int *more = (void *)NEED(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        more[0] = data;
        munmap(anonymous, 4096);
        brk((char *)sbrk(0) + 8192);
        _exit(more[0] == 2 && heap[4999] == 2 ? 11 : 1);
    }
    printf("maps: %d %d\n", WEXITSTATUS(ends(child)), as_before(1));

    if (!(child = NEED(fork()))) { // the parent's memory, seen from the child
        change(1);
        int seen = 0;
        struct iovec here = {&seen, sizeof seen}, there = {&data, sizeof data};
        NEED(process_vm_readv(getppid(), &here, 1, &there, 1, 0));
        _exit(20 + seen);
    }
    printf("looks at its parent: %d\n", WEXITSTATUS(ends(child)));
    NEED(close(pipes[0]));
    NEED(close(pipes[1]));
}

static void a_killed_parent(void) {
    int pipes[2];
    char byte = 0;
    NEED(pipe(pipes));
    *(volatile int *)shared = 0;
    pid_t parent = NEED(fork());
    if (!parent) {
        if (!NEED(fork())) {
            change(1);
            *(volatile int *)shared = 1;
            compute(20);
            byte = as_before(2) ? 'y' : 'n';
            NEED(write(pipes[1], &byte, 1));
            _exit(0);
        }
        for (;;) pause();
    }
    close(pipes[1]);
    while (!*(volatile int *)shared) sched_yield();
    kill(parent, SIGKILL);
    printf("killed parent: %d", WTERMSIG(ends(parent)));
    NEED(read(pipes[0], &byte, 1));
    printf(" %c\n", byte);
    close(pipes[0]);
}

int main(void) {
    heap = malloc(5000 * sizeof *heap);
    anonymous = (void *)NEED(mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    shared = (void *)NEED(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    for (int k = 0; k < 5000; k++) heap[k] = 1;
    for (int k = 0; k < 3000; k++) anonymous[k] = 1;
    memset(bss, 'a', sizeof bss);
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    each_kind();
    each_kind(); // after loans in vain
    a_killed_parent();
    NEED(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); // large now
    each_kind();
    a_killed_parent();
    return 0;
}

// timeout=60
// A signal that arrives at any moment of execve(2), and of the new program's first calls, does what it does elsewhere.
#include "../check.h"
#include <sys/time.h>
#include <time.h>

#define ROUNDS 150
#define STEP_NS 20000L

static const char *const SLEEP[] = {"/bin/sleep", "1000", NULL};

static void wait_ns(long ns) {
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < ns);
}

static pid_t start(long timer_ns) {
    pid_t pid = NEED(fork());
    if (pid == 0) {
        if (timer_ns) {  // what was set before goes on in the new program
            struct itimerval timer = {.it_value = {.tv_usec = timer_ns / 1000 + 1}};
            setitimer(ITIMER_REAL, &timer, NULL);
        }
        execv(SLEEP[0], (char *const *)SLEEP);
        _exit(127);
    }
    return pid;
}

// How many of the rounds ended by `signo`; the k-th is killed after k steps.
static int killed(int signo) {
    int ended = 0, status;
    for (int k = 0; k < ROUNDS; k++) {
        pid_t pid = start(0);
        wait_ns(k * STEP_NS);
        kill(pid, signo);
        if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == signo) ended++;
    }
    return ended;
}

static int stopped_first(int signo) {
    int ended = 0, status;
    for (int k = 0; k < ROUNDS; k++) {
        pid_t pid = start(0);
        wait_ns(k * STEP_NS);
        kill(pid, SIGSTOP);
        if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status)) continue;
        if (k & 1) {  // it goes on from there, for a while
            kill(pid, SIGCONT);
            if (waitpid(pid, &status, WCONTINUED) != pid || !WIFCONTINUED(status)) continue;
            wait_ns(k * STEP_NS);
        }
        kill(pid, signo);
        kill(pid, SIGCONT);
        if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == signo) ended++;
    }
    return ended;
}

static int by_timer(void) {
    int ended = 0, status;
    for (int k = 0; k < ROUNDS; k++) {
        pid_t pid = start(k * STEP_NS + 1);
        if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) ended++;
    }
    return ended;
}

static int stopped_and_goes_on(void) {
    int ended = 0, status;
    for (int k = 0; k < ROUNDS; k++) {
        pid_t pid = NEED(fork());
        if (pid == 0) {
            execl("/bin/sh", "sh", "-c", "exit 7", NULL);
            _exit(127);
        }
        wait_ns(k * STEP_NS);
        kill(pid, SIGSTOP);
        wait_ns(STEP_NS);
        kill(pid, SIGCONT);
        if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7) ended++;
    }
    return ended;
}

int main(void) {
    SAY(killed(SIGTERM));
    SAY(killed(SIGKILL));
    SAY(stopped_first(SIGTERM));
    SAY(stopped_first(SIGKILL));
    SAY(by_timer());
    SAY(stopped_and_goes_on());
    return 0;
}

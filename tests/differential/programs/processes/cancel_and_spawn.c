// pthread_cancel of a blocked and of a computing thread, cleanup handlers; posix_spawn with actions and attributes; an
// alarm that interrupts a loop of computation.
#include "../check.h"
#include <pthread.h>
#include <spawn.h>

extern char **environ;
static volatile int alarms, cleaned, running;
static void on_alarm(int signo) { alarms++; }
static void clean(void *what) { cleaned += *(int *)what; }

static void *blocked(void *fd) {
    int one = 1;
    char c;
    pthread_cleanup_push(clean, &one);
    running = 1;
    read(*(int *)fd, &c, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *computing(void *unused) {
    int ten = 10;
    pthread_cleanup_push(clean, &ten);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL); // from here on it may end at any instruction
    for (;;) running = 1;
    pthread_cleanup_pop(0);
    return unused;
}

static void cancel(const char *name, void *(*body)(void *), void *argument) {
    pthread_t thread;
    void *result;
    running = 0;
    NEED(pthread_create(&thread, NULL, body, argument));
    while (!running) sleep_ms(1);
    sleep_ms(50); // until it is blocked, or in the midst of its loop
    printf("%s: cancel %d", name, pthread_cancel(thread));
    printf(" join %d", pthread_join(thread, &result));
    printf(" canceled %d cleaned %d\n", result == PTHREAD_CANCELED, cleaned);
}

int main(void) {
    int fds[2];
    NEED(pipe(fds));
    cancel("blocked", blocked, &fds[0]);
    cancel("computing", computing, NULL);

    signal(SIGALRM, on_alarm);
    struct itimerval timer = {{0, 20000}, {0, 20000}};
    NEED(setitimer(ITIMER_REAL, &timer, NULL));
    volatile unsigned long turns = 0;
    while (alarms < 10) turns++;
    timer = (struct itimerval){{0, 0}, {0, 0}};
    NEED(setitimer(ITIMER_REAL, &timer, NULL));
    printf("alarms %d\n", alarms >= 10);

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    char *words[] = {"sh", "-c", "echo spawned; exit 6", NULL};
    pid_t pid;
    printf("spawn %d\n", posix_spawnp(&pid, "sh", &actions, &attributes, words, environ));
    reap("spawned", pid);
    char text[20] = "";
    NEED(read(fds[0], text, sizeof text - 1));
    printf("%s", text);
    printf("absent %s\n", error_name(posix_spawn(&pid, "/nowhere/x", NULL, NULL, words, environ)));
    return 0;
}

// What the C programs of this folder share: printing the outcome of a call the same way everywhere.
//
// SAY(call)  prints the call, its value, and the errno name when the value is -1
// OK(call)   the same without the value, for descriptors, pids and addresses
// IS(cond)   prints whether a relation holds
// Standard output is line-buffered, so that nothing is printed twice after a fork.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

__attribute__((constructor)) static void line_buffered(void) { setvbuf(stdout, NULL, _IOLBF, 0); }

static inline const char *error_name(int error) {
    const char *name = strerrorname_np(error);
    return error == 0 ? "0" : name ? name : "?";
}

static inline long say(const char *what, long value) {
    if (value == -1)
        printf("%s: -1 %s\n", what, error_name(errno));
    else
        printf("%s: %ld\n", what, value);
    return value;
}

static inline long ok(const char *what, long value) {
    printf("%s: %s\n", what, value == -1 ? error_name(errno) : "ok");
    return value;
}

static inline bool is(const char *what, bool value) {
    printf("%s: %s\n", what, value ? "yes" : "no");
    return value;
}

#define SAY(call) (errno = 0, say(#call, (long)(call)))
#define OK(call) (errno = 0, ok(#call, (long)(call)))
#define IS(condition) is(#condition, (condition))

// Ends the program when the set-up of a test fails.
#define NEED(call)                                                                 \
    ({                                                                             \
        errno = 0;                                                                 \
        long need_ = (long)(call);                                                 \
        if (need_ == -1) {                                                         \
            printf("cannot %s: %s\n", #call, error_name(errno));                   \
            exit(99);                                                              \
        }                                                                          \
        need_;                                                                     \
    })

static inline void say_status(const char *who, int status) {
    if (WIFEXITED(status))
        printf("%s exited %d\n", who, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        printf("%s killed by %s\n", who, sigabbrev_np(WTERMSIG(status)));
    else if (WIFSTOPPED(status))
        printf("%s stopped by %s\n", who, sigabbrev_np(WSTOPSIG(status)));
    else if (WIFCONTINUED(status))
        printf("%s continued\n", who);
    else
        printf("%s status %x\n", who, status);
}

// Waits for a child and prints how it ended.
static inline int reap(const char *who, pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) == -1)
        if (errno != EINTR) {
            printf("%s: waitpid %s\n", who, error_name(errno));
            return -1;
        }
    say_status(who, status);
    return status;
}

static inline int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline void sleep_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) == -1 && errno == EINTR)
        ;
}

// Writes a file with this content.
static inline void put_file(const char *path, const char *content) {
    int fd = NEED(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
    NEED(write(fd, content, strlen(content)));
    close(fd);
}

// Prints the content of a file.
static inline void show_file(const char *path) {
    char data[4096];
    int fd = open(path, O_RDONLY);
    if (fd == -1) {
        printf("%s: %s\n", path, error_name(errno));
        return;
    }
    ssize_t n = read(fd, data, sizeof data - 1);
    data[n < 0 ? 0 : n] = 0;
    printf("%s: [%s]\n", path, data);
    close(fd);
}

// Runs a function in a forked child and prints how it ended.
#define IN_CHILD(name, ...)               \
    do {                                  \
        pid_t child_ = NEED(fork());      \
        if (child_ == 0) {                \
            __VA_ARGS__;                  \
            _exit(0);                     \
        }                                 \
        reap(name, child_);               \
    } while (0)

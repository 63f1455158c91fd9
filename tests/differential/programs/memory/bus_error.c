// SIGBUS beyond the end of a mapped file, and after it was truncated; the tail of the last page reads as zeros.
#include "../check.h"
#include <setjmp.h>

static sigjmp_buf back;
static siginfo_t seen;

static void on(int signo, siginfo_t *info, void *context) {
    seen = *info;
    siglongjmp(back, signo);
}

static void touch(const char *what, volatile char *p) {
    int got = sigsetjmp(back, 1);
    if (got == 0)
        printf("%s: %d\n", what, *p);
    else
        printf("%s: %s code %d address right %d\n", what, sigabbrev_np(got), seen.si_code, seen.si_addr == (void *)p);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    NEED(sigaction(SIGBUS, &action, NULL));
    int fd = NEED(open("f", O_RDWR | O_CREAT, 0600));
    NEED(ftruncate(fd, 5000));
    NEED(pwrite(fd, "x", 1, 4999));
    char *map = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    touch("inside", map + 4999);
    touch("tail of the last page", map + 5001);
    touch("next page", map + 8192);
    NEED(ftruncate(fd, 100));
    touch("truncated page", map + 4999);
    touch("first page", map + 200);
    NEED(ftruncate(fd, 4 * 4096));
    touch("grown again", map + 8192);
    char data[8];
    NEED(ftruncate(fd, 100));
    SAY(write(1, "", 0));
    int p[2];
    NEED(pipe(p));
    SAY(write(p[1], map + 8192, 4));
    SAY(read(NEED(open("/dev/zero", O_RDONLY)), map + 8192, 4));
    (void)data;
    return 0;
}

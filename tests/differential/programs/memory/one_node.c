// get_mempolicy, set_mempolicy, mbind, move_pages: what holds on every machine with node 0.
#include "../check.h"
#include <sys/mman.h>
#include <sys/wait.h>

static long get(int *mode, unsigned long *nodes, unsigned long max, void *addr, unsigned flags) {
    return syscall(SYS_get_mempolicy, mode, nodes, max, addr, flags);
}

int main(void) {
    unsigned long nodes[16] = {~0ul};
    int mode = 77;
    SAY(get(&mode, nodes, 1024, NULL, 0));
    printf("mode %d nodes %lu\n", mode, nodes[0]);
    SAY(get(NULL, nodes, 1024, NULL, 4));
    printf("node 0 allowed %lu\n", nodes[0] & 1);
    SAY(get(&mode, NULL, 0, NULL, 1));
    SAY(get(&mode, NULL, 0, NULL, 8));
    SAY(get(&mode, NULL, 0, &mode, 0));
    SAY(get(&mode, NULL, 0, (void *)4096, 2));
    SAY(get((void *)8, NULL, 0, NULL, 0));
    SAY(get(&mode, NULL, 0, NULL, 5));
    nodes[0] = 1;
    SAY(syscall(SYS_set_mempolicy, 2, nodes, 64));
    SAY(get(&mode, nodes, 1024, NULL, 0));
    printf("mode %d nodes %lu\n", mode, nodes[0]);
    fflush(stdout);
    if (!fork()) {
        mode = 77;
        get(&mode, nodes, 1024, NULL, 0);
        printf("a child's mode %d nodes %lu\n", mode, nodes[0]);
        fflush(stdout);
        _exit(0);
    }
    SAY(wait(NULL) > 0);
    SAY(syscall(SYS_set_mempolicy, 2, NULL, 0));
    SAY(syscall(SYS_set_mempolicy, 0, nodes, 64));
    SAY(syscall(SYS_set_mempolicy, 99, nodes, 64));
    SAY(syscall(SYS_set_mempolicy, 2, (void *)8, 64));
    SAY(syscall(SYS_set_mempolicy, 0, NULL, 0));
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[0] = 1;
    SAY(syscall(SYS_mbind, p, 8192, 1, nodes, 64, 0));
    SAY(syscall(SYS_mbind, p + 1, 8192, 1, nodes, 64, 0));
    SAY(syscall(SYS_mbind, p, 8192, 1, nodes, 64, 64));
    SAY(munmap(p + 4096, 4096));
    SAY(syscall(SYS_mbind, p, 4096, 1, nodes, 64, 0));
    void *pages[1] = {p};
    int status[1] = {-5};
    SAY(syscall(SYS_move_pages, 0, 1, pages, NULL, status, 0));
    printf("status %d\n", status[0]);
    return 0;
}

// brk(2): growing, zeroed pages, shrinking, refusing.
#include "../check.h"

int main(void) {
    char *start = (char *)syscall(SYS_brk, 0);
    IS(start != NULL);
    char *end = (char *)syscall(SYS_brk, start + 3 * 4096);
    IS(end == start + 3 * 4096);
    start[0] = 'b';
    printf("%c %d\n", start[0], start[2 * 4096]);
    start[2 * 4096] = 'x';
    IS((char *)syscall(SYS_brk, start + 4096) == start + 4096);
    IS((char *)syscall(SYS_brk, start + 3 * 4096) == start + 3 * 4096);
    printf("shrunk and grown %d\n", start[2 * 4096]);
    IS((char *)syscall(SYS_brk, 4096) == start + 3 * 4096);
    IS((char *)syscall(SYS_brk, start + 100) == start + 100);
    IN_CHILD("child", {
        struct rlimit limit = {8192, 8192};
        NEED(setrlimit(RLIMIT_DATA, &limit));
        IS((char *)syscall(SYS_brk, start + (1 << 24)) == start + 100);
    });
    char *p = malloc(100000);
    memset(p, 1, 100000);
    free(p);
    printf("malloc works\n");
    return 0;
}

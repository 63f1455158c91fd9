// fork: many pages written by parent and child stay apart, over several generations.
#include "../check.h"

enum { PAGES = 256 };

static long sum(const unsigned char *data) {
    long total = 0;
    for (int i = 0; i < PAGES; i++) total += data[i * 4096];
    return total;
}

int main(void) {
    unsigned char *data = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < PAGES; i++) data[i * 4096] = 1;
    int p[2];
    NEED(pipe(p));
    pid_t child = NEED(fork());
    if (child == 0) {
        char c;
        close(p[1]);
        read(p[0], &c, 1);
        printf("child %ld\n", sum(data));
        for (int i = 0; i < PAGES; i += 2) data[i * 4096] = 3;
        printf("child %ld\n", sum(data));
        IN_CHILD("grandchild", { data[0] = 100; printf("grandchild %ld\n", sum(data)); });
        printf("child %ld\n", sum(data));
        _exit(0);
    }
    for (int i = 0; i < PAGES; i++) data[i * 4096] = 2;
    close(p[0]);
    NEED(write(p[1], "x", 1));
    reap("child", child);
    printf("parent %ld\n", sum(data));
    int fd = NEED(open("in", O_RDWR | O_CREAT, 0600));
    NEED(write(fd, "kernel writes too", 17));
    IN_CHILD("reader", { pread(fd, data, 17, 0); printf("[%.17s]\n", data); });
    printf("%d\n", data[0]);
    return 0;
}

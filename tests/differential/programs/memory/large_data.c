// Large tables and long copies: everything arrives where it belongs.
#include "../check.h"

static unsigned table[1 << 20];

int main(void) {
    for (unsigned i = 0; i < 1 << 20; i++) table[i] = i * 2654435761u;
    int fd = NEED(open("big", O_RDWR | O_CREAT, 0600));
    SAY(write(fd, table, sizeof table));
    memset(table, 0, sizeof table);
    SAY(pread(fd, table, sizeof table, 0));
    int bad = 0;
    for (unsigned i = 0; i < 1 << 20; i++) bad += table[i] != i * 2654435761u;
    printf("bad %d\n", bad);
    int p[2];
    NEED(pipe(p));
    pid_t child = NEED(fork());
    if (child == 0) {
        close(p[0]);
        for (size_t at = 0; at < sizeof table;) at += NEED(write(p[1], (char *)table + at, sizeof table - at));
        _exit(0);
    }
    close(p[1]);
    unsigned sum = 0, count = 0;
    static char chunk[50000];
    for (;;) {
        ssize_t n = read(p[0], chunk, sizeof chunk);
        if (n <= 0) break;
        for (ssize_t i = 0; i < n; i++) sum = sum * 31 + (unsigned char)chunk[i];
        count += n;
    }
    reap("writer", child);
    unsigned expected = 0;
    for (size_t i = 0; i < sizeof table; i++) expected = expected * 31 + ((unsigned char *)table)[i];
    printf("count %u equal %d\n", count, sum == expected);
    return 0;
}

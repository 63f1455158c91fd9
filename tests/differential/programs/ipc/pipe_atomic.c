// Writers of up to PIPE_BUF bytes never interleave.
#include "../check.h"

int main(void) {
    int p[2];
    NEED(pipe(p));
    for (int w = 0; w < 4; w++)
        if (NEED(fork()) == 0) {
            char line[512];
            memset(line, 'a' + w, sizeof line);
            for (int i = 0; i < 100; i++) write(p[1], line, sizeof line);
            _exit(0);
        }
    close(p[1]);
    int mixed = 0, blocks = 0, counts[4] = {0};
    static char data[512];
    for (;;) {
        size_t have = 0;
        ssize_t n;
        while (have < sizeof data && (n = read(p[0], data + have, sizeof data - have)) > 0) have += n;
        if (have == 0) break;
        blocks++;
        counts[data[0] - 'a']++;
        for (size_t i = 1; i < have; i++) mixed += data[i] != data[0];
    }
    while (wait(NULL) > 0) ;
    printf("blocks %d mixed %d counts %d %d %d %d\n", blocks, mixed, counts[0], counts[1], counts[2], counts[3]);
    return 0;
}

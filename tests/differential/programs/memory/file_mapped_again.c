// One file mapped again and again, as a loader does, with everything else in between: each mapping shows the right bytes.
#include "../check.h"

static char *again(int fd, char *at, int flags, off_t offset) {
    char *map = mmap(at, 4096, PROT_READ, MAP_PRIVATE | flags, fd, offset);
    if (map == MAP_FAILED) printf("mmap: %s\n", strerror(errno));
    return map;
}

int main(void) {
    char text[4096];
    int fds[2];
    for (int k = 0; k < 2; k++) {
        char name[2] = {(char)('a' + k), 0};
        fds[k] = NEED(open(name, O_RDWR | O_CREAT, 0600));
        for (int page = 0; page < 4; page++) {
            memset(text, "ABCDabcd"[k * 4 + page], sizeof text);
            NEED(write(fds[k], text, sizeof text));
        }
    }
    char *whole = mmap(NULL, 16384, PROT_READ, MAP_PRIVATE, fds[0], 0);
    again(fds[0], whole + 4096, MAP_FIXED, 12288);
    again(fds[0], whole + 8192, MAP_FIXED, 0);
    printf("own pages replaced: %c%c%c%c\n", whole[0], whole[4096], whole[8192], whole[12288]);
    again(fds[1], whole, MAP_FIXED, 4096);
    again(fds[0], whole + 12288, MAP_FIXED, 4096);
    printf("two files in turn: %c%c%c%c\n", whole[0], whole[4096], whole[8192], whole[12288]);
    IS(mmap(whole + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == whole + 4096);
    again(fds[1], whole + 8192, MAP_FIXED, 8192);
    printf("with memory between: %c%d%c\n", whole[0], whole[4096], whole[8192]);
    OK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fds[1], 1));
    again(fds[1], whole + 4096, MAP_FIXED, 12288);
    printf("after one that failed: %c\n", whole[4096]);
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
    again(fds[1], whole + 8192, MAP_FIXED, 0);
    shared[0] = '!';
    printf("shared as well: %c\n", whole[8192]);

    // The number of a closed file is soon another's.
    again(fds[0], whole, MAP_FIXED, 0);
    NEED(close(fds[0]));
    NEED(unlink("a"));
    int other = NEED(open("c", O_RDWR | O_CREAT, 0600));
    IS(other == fds[0]);
    NEED(write(other, "other", 5));
    char *third = again(other, NULL, 0, 0);
    printf("another file: %.5s, the first is still %c\n", third, whole[0]);
    IN_CHILD("a child", {
        again(other, whole, MAP_FIXED, 0);
        printf("%.5s\n", whole);
    });
    printf("its parent has %c\n", whole[0]);
    return 0;
}

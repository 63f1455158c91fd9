// mlock, mlockall, mincore: errors and limits.
#include "../check.h"

int main(void) {
    char *map = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char vec[4] = {9, 9, 9, 9};
    memset(map, 1, 4 * 4096);
    SAY(mincore(map, 4 * 4096, vec));
    printf("%d %d\n", vec[0] & 1, vec[3] & 1);
    SAY(mincore(map + 1, 4096, vec));
    SAY(mincore(map, 4096, (void *)8));
    SAY(mlock(map, 8192));
    SAY(munlock(map, 8192));
    SAY(mlock2(map, 4096, 0));
    SAY(mlock2(map, 4096, 0x10));
    SAY(mlockall(0));
    SAY(mlockall(MCL_FUTURE));
    SAY(munlockall());
    NEED(munmap(map + 4096, 4096));
    SAY(mlock(map, 4 * 4096));
    SAY(mincore(map, 4 * 4096, vec));
    return 0;
}

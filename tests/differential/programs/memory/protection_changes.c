// mprotect on parts of a mapping, code written then executed, kernel access to protected buffers.
#include "../check.h"

int main(void) {
    char *map = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(map, 'x', 4 * 4096);
    SAY(mprotect(map + 4096, 4096, PROT_NONE));
    int p[2];
    NEED(pipe(p));
    SAY(write(p[1], map + 4096 - 8, 16));
    SAY(write(p[1], map + 4096, 16));
    SAY(mprotect(map + 4096, 4096, PROT_READ));
    SAY(write(p[1], map + 4096, 16));
    SAY(read(p[0], map + 4096, 4));
    SAY(read(p[0], map, 4));
    SAY(mprotect(map, 4 * 4096, PROT_READ | PROT_WRITE));
    SAY(read(p[0], map + 4096 - 2, 4));
    unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
    memcpy(map + 8192, code, sizeof code);
    SAY(mprotect(map + 8192, 4096, PROT_READ | PROT_EXEC));
    printf("%d\n", ((int (*)(void))(map + 8192))());
    IN_CHILD("write to code", map[8192] = 0);
    IN_CHILD("execute data", ((int (*)(void))(map + 12288))());
    unsigned char again[] = {0xb8, 43, 0, 0, 0, 0xc3};
    SAY(mprotect(map + 8192, 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
    memcpy(map + 8192, again, sizeof again);
    printf("%d\n", ((int (*)(void))(map + 8192))());
    return 0;
}

// MAP_FIXED over parts of mappings: what is replaced, what stays.
#include "../check.h"

int main(void) {
    char *map = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 5; i++) map[i * 4096] = '0' + i;
    put_file("f", "from file");
    int fd = NEED(open("f", O_RDONLY));
    IS(mmap(map + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == map + 4096);
    IS(mmap(map + 3 * 4096, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == map + 3 * 4096);
    printf("%c [%s] %c %d %c\n", map[0], map + 4096, map[8192], map[12288], map[16384]);
    map[12288] = 's';
    IN_CHILD("child", { map[0] = 'p'; map[12288] = 't'; });
    printf("%c %c\n", map[0], map[12288]);
    NEED(munmap(map + 8192, 8192));
    IS(mmap(map + 8192, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == map + 8192 || 1);
    char *hint = mmap((void *)0x10000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    IS(hint == (char *)0x10000000);
    char *odd = mmap((void *)0x20000123, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    IS(((uintptr_t)odd & 4095) == 0);
    char *low = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    IS((uintptr_t)low < 1UL << 31);
    return 0;
}

// RLIMIT_AS bounds mmap, brk and the growth by mremap.
#include "../check.h"

int main(void) {
    struct rlimit limit = {256 << 20, 256 << 20};
    NEED(setrlimit(RLIMIT_AS, &limit));
    OK((long)mmap(NULL, 512 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    char *map = mmap(NULL, 100 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    IS(map != MAP_FAILED);
    OK((long)mremap(map, 100 << 20, 300 << 20, MREMAP_MAYMOVE));
    IS(malloc(400 << 20) == NULL);
    NEED(munmap(map, 100 << 20));
    IS(mmap(NULL, 150 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    return 0;
}

// mremap(2): growing, shrinking, moving, fixed targets, DONTUNMAP, errors.
#include "../check.h"

int main(void) {
    char *map = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(map, "one");
    strcpy(map + 4096, "two");
    IS(mremap(map, 4 * 4096, 2 * 4096, 0) == map);
    SAY(msync(map + 2 * 4096, 4096, MS_ASYNC));
    char *grown = mremap(map, 2 * 4096, 64 * 4096, MREMAP_MAYMOVE);
    IS(grown != MAP_FAILED);
    printf("%s %s %d\n", grown, grown + 4096, grown[63 * 4096]);
    char *blocked = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK((long)mremap(blocked, 4096, 2 * 4096, 0));
    char *target = mmap(NULL, 64 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    IS(mremap(grown, 64 * 4096, 64 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
    printf("%s %s\n", target, target + 4096);
    SAY(msync(grown, 4096, MS_ASYNC));
    OK((long)mremap(target + 1, 4096, 8192, MREMAP_MAYMOVE));
    OK((long)mremap(target, 4096, 0, MREMAP_MAYMOVE));
    OK((long)mremap(target, 4096, 8192, MREMAP_FIXED, target + 8192));
    OK((long)mremap(grown, 4096, 8192, MREMAP_MAYMOVE));
    OK((long)mremap(target, 2 * 4096, 2 * 4096, MREMAP_MAYMOVE | MREMAP_FIXED, target + 4096));
    char *left = mremap(target, 2 * 4096, 2 * 4096, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
    IS(left != MAP_FAILED && left != target);
    printf("[%s] [%s]\n", left, target);
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int *twin = mremap(shared, 0, 4096, MREMAP_MAYMOVE);
    IS(twin != MAP_FAILED);
    *shared = 42;
    printf("%d\n", *twin);
    int fd = NEED(open("f", O_RDWR | O_CREAT, 0600));
    NEED(ftruncate(fd, 8192));
    NEED(pwrite(fd, "second page", 11, 4096));
    char *file = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    file = mremap(file, 4096, 8192, MREMAP_MAYMOVE);
    printf("[%s]\n", file + 4096);
    return 0;
}

// /proc/self/maps: our own mappings with protections, sharing, offsets and names.
#include "../check.h"

static void find(void *address) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to, offset;
        char flags[8], name[256] = "";
        sscanf(line, "%lx-%lx %7s %lx %*s %*s %255[^\n]", &from, &to, flags, &offset, name);
        if ((unsigned long)address >= from && (unsigned long)address < to) {
            char *base = strrchr(name, '/');
            char *start = name;
            while (*start == ' ') start++;
            printf("size %lu %s offset %lx name [%s]\n", to - from, flags, offset, base ? base : start);
            fclose(maps);
            return;
        }
    }
    printf("not mapped\n");
    fclose(maps);
}

int main(void) {
    put_file("file", "x");
    int fd = NEED(open("file", O_RDWR));
    NEED(ftruncate(fd, 65536));
    // A frame of pages without access keeps neighbours from merging.
    char *area = mmap(NULL, 64 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED((long)mmap(area + 4096, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 4096));
    NEED((long)mmap(area + 16384, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 8192));
    NEED(mprotect(area + 32768, 4096, PROT_READ | PROT_WRITE));
    NEED(mprotect(area + 40960, 4096, PROT_READ | PROT_EXEC));
    find(area + 4096);
    find(area + 16384);
    find(area + 32768);
    find(area + 40960);
    NEED(mprotect(area + 36864, 4096, PROT_READ | PROT_WRITE));
    find(area + 32768);
    NEED(munmap(area + 36864, 4096));
    find(area + 36864);
    find(area + 32768);
    unlink("file");
    find(area + 4096);
    FILE *maps = fopen("/proc/self/maps", "r");
    int stack = 0, vdso = 0;
    for (char line[512]; fgets(line, sizeof line, maps);) {
        stack += strstr(line, "[stack]") != NULL;
        vdso += strstr(line, "[vdso]") != NULL;
    }
    printf("stack %d vdso %d\n", stack, vdso);
    return 0;
}

// mmap(2), munmap(2), mprotect(2): every argument error.
#include "../check.h"

static void map(const char *what, void *addr, size_t len, int prot, int flags, int fd, off_t off) {
    errno = 0;
    void *p = mmap(addr, len, prot, flags, fd, off);
    printf("%s: %s\n", what, p == MAP_FAILED ? error_name(errno) : "ok");
}

int main(void) {
    put_file("a", "x");
    int rw = NEED(open("a", O_RDWR)), ro = NEED(open("a", O_RDONLY)), wo = NEED(open("a", O_WRONLY)), p[2];
    int path = NEED(open("a", O_PATH)), dir = NEED(open(".", O_RDONLY));
    NEED(pipe(p));
    map("length 0", NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    map("neither shared nor private", NULL, 4096, PROT_READ, MAP_ANONYMOUS, -1, 0);
    map("bad fd", NULL, 4096, PROT_READ, MAP_PRIVATE, 99, 0);
    map("unaligned offset", NULL, 4096, PROT_READ, MAP_PRIVATE, rw, 100);
    map("unaligned fixed", (void *)0x10001, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    map("huge", NULL, 1UL << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    map("private writable of read-only", NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, ro, 0);
    map("shared writable of read-only", NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0);
    map("shared readable of write-only", NULL, 4096, PROT_READ, MAP_SHARED, wo, 0);
    map("private of write-only", NULL, 4096, PROT_READ, MAP_PRIVATE, wo, 0);
    map("O_PATH", NULL, 4096, PROT_READ, MAP_PRIVATE, path, 0);
    map("directory", NULL, 4096, PROT_READ, MAP_PRIVATE, dir, 0);
    map("pipe", NULL, 4096, PROT_READ, MAP_PRIVATE, p[0], 0);
    map("beyond the end", NULL, 4096, PROT_READ, MAP_PRIVATE, rw, 1 << 20);
    map("above user space", (void *)0x7ffffffff000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    char *page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    map("no replace over", page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    SAY(munmap(page + 1, 4096));
    SAY(munmap(page, 0));
    SAY(munmap(page + 4096, 4096));
    SAY(munmap(page + 4096, 4096));
    map("no replace in a hole", page + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    NEED(munmap(page + 4096, 4096));
    SAY(mprotect(page, 3 * 4096, PROT_READ));
    SAY(mprotect(page + 1, 4096, PROT_READ));
    SAY(mprotect(page, 4096, 0x100));
    SAY(mprotect(page, 0, PROT_READ));
    void *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 0);
    SAY(mprotect(shared, 4096, PROT_READ | PROT_WRITE));
    return 0;
}

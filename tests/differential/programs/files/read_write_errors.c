// read(2) and write(2): zero lengths, bad buffers, wrong access modes, closed descriptors, directories.
#include "../check.h"

#include <sys/uio.h>

int main(void) {
    char data[16];
    put_file("a", "0123456789");
    int r = NEED(open("a", O_RDONLY)), w = NEED(open("a", O_WRONLY)), d = NEED(open(".", O_RDONLY));
    SAY(read(w, data, 4));
    SAY(write(r, data, 4));
    SAY(read(-1, data, 4));
    SAY(read(77, data, 4));
    SAY(write(77, data, 4));
    SAY(read(d, data, 4));
    SAY(write(d, data, 4));
    SAY(read(r, NULL, 0));
    SAY(read(r, (void *)8, 4));
    SAY(write(w, (void *)8, 4));
    SAY(write(w, (void *)8, 0));
    SAY(lseek(r, 0, SEEK_CUR));
    SAY(read(r, data, sizeof data));
    SAY(read(r, data, sizeof data));
    SAY(lseek(r, 100, SEEK_SET));
    SAY(read(r, data, sizeof data));
    SAY(pread(r, data, 4, -1));
    SAY(pwrite(w, data, 4, -1));
    off_t last = 0x7fffffffffffffff;
    SAY(pread(r, data, 1, last));
    SAY(pread(r, data, 0, last));
    SAY(pread(r, data, 4, last - 4));
    SAY(pread(r, data, 5, last - 4));
    SAY(pwrite(w, data, 1, last));
    SAY(pwrite(w, data, 0, last));
    struct iovec two[2] = {{data, 1}, {data, 1}};
    SAY(preadv(r, two, 2, last - 1));
    SAY(preadv(r, two, 2, last - 2));
    SAY(pwritev(w, two, 2, last - 1));
    SAY(close(r));
    SAY(close(r));
    SAY(read(r, data, 1));
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(munmap(page + 4096, 4096));
    r = NEED(open("a", O_RDONLY));
    SAY(read(r, page + 4096 - 4, 10));
    SAY(lseek(r, 0, SEEK_CUR));
    memcpy(page + 4090, "abcdef", 6);
    SAY(write(w, page + 4090, 10));
    show_file("a");
    return 0;
}

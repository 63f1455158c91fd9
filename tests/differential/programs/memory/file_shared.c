// A shared file mapping: visible to read and write of the file, to other mappings and to other processes.
#include "../check.h"

int main(void) {
    int fd = NEED(open("f", O_RDWR | O_CREAT, 0600));
    NEED(ftruncate(fd, 8192));
    char *one = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *two = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096);
    strcpy(one + 4096, "through map");
    printf("[%s]\n", two);
    char data[32] = "";
    SAY(pread(fd, data, 11, 4096));
    printf("[%s]\n", data);
    SAY(pwrite(fd, "through file", 13, 0));
    printf("[%s]\n", one);
    IN_CHILD("child", strcpy(one, "child was here"));
    printf("[%s]\n", one);
    SAY(msync(one, 8192, MS_SYNC));
    SAY(msync(one + 1, 4096, MS_SYNC));
    SAY(msync(one, 8192, MS_SYNC | MS_ASYNC));
    SAY(msync(one, 8192, 0x100));
    NEED(munmap(one, 8192));
    SAY(msync(one, 4096, MS_SYNC));
    show_file("f");
    int again = NEED(open("f", O_RDONLY));
    char *ro = mmap(NULL, 8192, PROT_READ, MAP_SHARED, again, 0);
    SAY(pwrite(fd, "X", 1, 3));
    printf("[%.5s]\n", ro);
    return 0;
}

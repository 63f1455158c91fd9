// memfd_create(2): contents, seals, sharing, names.
#include "../check.h"

int main(void) {
    int fd = NEED(memfd_create("name", MFD_ALLOW_SEALING | MFD_CLOEXEC));
    SAY(fcntl(fd, F_GETFD));
    SAY(write(fd, "0123456789", 10));
    SAY(fcntl(fd, F_GET_SEALS));
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    SAY(ftruncate(fd, 5));
    SAY(ftruncate(fd, 20));
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    SAY(ftruncate(fd, 30));
    SAY(pwrite(fd, "abcdef", 6, 17));
    SAY(pwrite(fd, "abcdef", 6, 20));
    char *map = mmap(NULL, 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    IS(map != MAP_FAILED);
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(map, 20);
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    SAY(write(fd, "x", 1));
    OK((long)mmap(NULL, 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    IS(mmap(NULL, 20, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    SAY(fcntl(fd, F_GET_SEALS));
    int plain = NEED(memfd_create("", 0));
    SAY(fcntl(plain, F_GET_SEALS));
    SAY(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE));
    OK(memfd_create("x", 0x8000));
    char target[64] = "", path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    readlink(path, target, sizeof target - 1);
    printf("%s\n", target);
    put_file("f", "");
    int file = NEED(open("f", O_RDWR));
    SAY(fcntl(file, F_GET_SEALS));
    struct stat st;
    NEED(fstat(fd, &st));
    printf("mode %o links %ld size %ld\n", st.st_mode, (long)st.st_nlink, (long)st.st_size);
    return 0;
}

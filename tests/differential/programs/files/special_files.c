// /dev/null, /dev/zero, /dev/full, /dev/urandom, /dev/fd, mknod of devices.
#include "../check.h"
#include <sys/sysmacros.h>

int main(void) {
    char data[64];
    memset(data, 'x', sizeof data);
    int null = NEED(open("/dev/null", O_RDWR)), zero = NEED(open("/dev/zero", O_RDWR)), full = NEED(open("/dev/full", O_RDWR));
    SAY(read(null, data, 10));
    SAY(write(null, data, 10));
    SAY(lseek(null, 100, SEEK_SET));
    SAY(read(zero, data, 10));
    printf("%d %d %c\n", data[0], data[9], data[10]);
    SAY(write(zero, data, 10));
    SAY(read(full, data, 20));
    SAY(write(full, data, 10));
    SAY(write(full, data, 0));
    int random = NEED(open("/dev/urandom", O_RDONLY));
    SAY(read(random, data, 64));
    int differ = 0;
    for (int i = 1; i < 64; i++) differ += data[i] != data[0];
    IS(differ > 20);
    SAY(getrandom(data, 16, 0) == 16);
    SAY(syscall(SYS_getrandom, data, 16, 0x80));
    SAY(syscall(SYS_getrandom, (void *)8, 16, 0));
    put_file("a", "through fd");
    int a = NEED(open("a", O_RDONLY));
    char path[32];
    snprintf(path, sizeof path, "/dev/fd/%d", a);
    show_file(path);
    NEED(mknod("mynull", S_IFCHR | 0666, makedev(1, 3)));
    struct stat st;
    NEED(stat("mynull", &st));
    printf("%d,%d %d\n", major(st.st_rdev), minor(st.st_rdev), S_ISCHR(st.st_mode));
    SAY(truncate("/dev/null", 0));
    SAY(ftruncate(null, 0));
    OK(open("/dev/null", O_RDWR | O_TRUNC | O_CREAT, 0600));
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    IS(map != MAP_FAILED && *(int *)map == 0);
    SAY(ioctl(null, TCGETS, data));
    SAY(ioctl(a, TCGETS, data));
    SAY(isatty(a));
    return 0;
}

// A private file mapping: writes stay here, reads see the file until the page is touched.
#include "../check.h"

int main(void) {
    char text[8192];
    memset(text, 'a', sizeof text);
    int fd = NEED(open("f", O_RDWR | O_CREAT, 0600));
    NEED(write(fd, text, sizeof text));
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    map[0] = 'P';
    char c;
    NEED(pread(fd, &c, 1, 0));
    printf("file has %c, map has %c\n", c, map[0]);
    IN_CHILD("child", { map[1] = 'C'; printf("%c%c\n", map[0], map[1]); });
    printf("%c%c\n", map[0], map[1]);
    NEED(close(fd));
    printf("after close %c\n", map[5000]);
    NEED(unlink("f"));
    printf("after unlink %c\n", map[6000]);
    return 0;
}

// select(2): sets, the highest descriptor, exceptional conditions, bad descriptors.
#include "../check.h"
#include <sys/select.h>

int main(void) {
    int a[2], b[2];
    NEED(pipe(a));
    NEED(pipe(b));
    fd_set r, w;
    struct timeval zero = {0, 0};
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_SET(a[0], &r);
    FD_SET(b[0], &r);
    FD_SET(a[1], &w);
    SAY(select(b[1] + 1, &r, &w, NULL, &zero));
    printf("%d %d %d\n", !!FD_ISSET(a[0], &r), !!FD_ISSET(b[0], &r), !!FD_ISSET(a[1], &w));
    NEED(write(b[1], "x", 1));
    FD_SET(a[0], &r);
    FD_SET(b[0], &r);
    SAY(select(b[1] + 1, &r, &w, NULL, NULL));
    printf("%d %d %d\n", !!FD_ISSET(a[0], &r), !!FD_ISSET(b[0], &r), !!FD_ISSET(a[1], &w));
    FD_SET(b[0], &r);
    SAY(select(b[0], &r, NULL, NULL, &zero));
    FD_ZERO(&r);
    FD_SET(500, &r);
    SAY(select(501, &r, NULL, NULL, &zero));
    SAY(select(-1, NULL, NULL, NULL, &zero));
    SAY(select(0, NULL, NULL, NULL, &zero));
    SAY(select(1024, (void *)8, NULL, NULL, &zero));
    close(b[1]);
    char c;
    read(b[0], &c, 1);
    FD_ZERO(&r);
    FD_SET(b[0], &r);
    SAY(select(b[0] + 1, &r, NULL, NULL, &zero));
    printf("end of file is readable %d\n", !!FD_ISSET(b[0], &r));
    close(a[0]);
    FD_ZERO(&w);
    FD_SET(a[1], &w);
    SAY(select(a[1] + 1, NULL, &w, NULL, &zero));
    return 0;
}

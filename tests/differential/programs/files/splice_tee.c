// splice(2), tee(2), vmsplice(2) between pipes and files.
#include "../check.h"

int main(void) {
    put_file("a", "0123456789");
    int a = NEED(open("a", O_RDONLY)), b = NEED(open("b", O_RDWR | O_CREAT, 0600)), p[2], q[2];
    char data[32] = "";
    NEED(pipe(p));
    NEED(pipe(q));
    loff_t at = 1;
    SAY(splice(a, &at, p[1], NULL, 5, 0));
    printf("offset %ld\n", (long)at);
    SAY(splice(a, NULL, p[1], NULL, 2, SPLICE_F_MOVE));
    SAY(tee(p[0], q[1], 100, 0));
    SAY(tee(p[0], p[1], 100, 0));
    SAY(splice(p[0], NULL, b, NULL, 100, 0));
    show_file("b");
    SAY(splice(q[0], NULL, p[1], NULL, 3, 0));
    SAY(read(p[0], data, sizeof data));
    printf("[%s]\n", data);
    memset(data, 0, sizeof data);
    SAY(read(q[0], data, sizeof data));
    printf("[%s]\n", data);
    SAY(splice(q[0], NULL, b, NULL, 10, SPLICE_F_NONBLOCK));
    SAY(splice(a, NULL, b, NULL, 10, 0));
    SAY(splice(p[0], &at, b, NULL, 10, 0));
    SAY(tee(a, p[1], 10, 0));
    SAY(splice(a, NULL, p[1], NULL, 0, 0));
    struct iovec io[] = {{"vm", 2}, {"splice", 6}};
    SAY(vmsplice(p[1], io, 2, 0));
    memset(data, 0, sizeof data);
    SAY(read(p[0], data, sizeof data));
    printf("[%s]\n", data);
    close(q[1]);
    SAY(splice(q[0], NULL, b, NULL, 10, 0));
    close(q[0]);
    return 0;
}

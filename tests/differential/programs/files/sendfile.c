// sendfile(2): to a file, a pipe and a socket; offsets; errors.
#include "../check.h"
#include <sys/sendfile.h>

int main(void) {
    put_file("a", "0123456789");
    int a = NEED(open("a", O_RDONLY)), b = NEED(open("b", O_RDWR | O_CREAT, 0600)), p[2], s[2];
    char data[32] = "";
    NEED(pipe(p));
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    SAY(sendfile(b, a, NULL, 4));
    SAY(lseek(a, 0, SEEK_CUR));
    off_t at = 2;
    SAY(sendfile(p[1], a, &at, 3));
    printf("offset %ld\n", (long)at);
    SAY(lseek(a, 0, SEEK_CUR));
    SAY(read(p[0], data, sizeof data));
    printf("[%s]\n", data);
    memset(data, 0, sizeof data);
    SAY(sendfile(s[0], a, NULL, 100));
    SAY(read(s[1], data, sizeof data));
    printf("[%s]\n", data);
    SAY(sendfile(s[0], a, NULL, 100));
    SAY(sendfile(a, b, NULL, 1));
    SAY(sendfile(b, p[0], NULL, 1));
    SAY(sendfile(99, a, NULL, 1));
    at = -1;
    SAY(sendfile(b, a, &at, 1));
    int app = NEED(open("b", O_WRONLY | O_APPEND));
    at = 0;
    SAY(sendfile(app, a, &at, 1));
    show_file("b");
    return 0;
}

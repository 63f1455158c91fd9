// poll(2) on pipes: readable, writable, hang-up and error, in every state.
#include "../check.h"

static void look(const char *what, int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    int n = poll(&p, 1, 0);
    printf("%s: %d %02x\n", what, n, p.revents);
}

int main(void) {
    int p[2];
    NEED(pipe2(p, O_NONBLOCK));
    look("empty read end", p[0]);
    look("empty write end", p[1]);
    NEED(write(p[1], "x", 1));
    look("read end with data", p[0]);
    static char block[65536];
    while (write(p[1], block, 4096) > 0) ;
    look("full write end", p[1]);
    close(p[1]);
    look("read end, data, no writer", p[0]);
    while (read(p[0], block, sizeof block) > 0) ;
    look("read end, no data, no writer", p[0]);
    close(p[0]);
    NEED(pipe(p));
    close(p[0]);
    look("write end, no reader", p[1]);
    look("closed", p[0]);
    put_file("f", "");
    look("file", NEED(open("f", O_RDWR)));
    look("null", NEED(open("/dev/null", O_RDWR)));
    look("directory", NEED(open(".", O_RDONLY)));
    NEED(mkfifo("fifo", 0600));
    look("fifo never opened for writing", NEED(open("fifo", O_RDONLY | O_NONBLOCK)));
    struct pollfd many[3] = {{-1, POLLIN, 77}, {p[1], POLLOUT, 0}, {500, POLLIN, 0}};
    SAY(poll(many, 3, 0));
    printf("%d %x %x\n", many[0].revents, many[1].revents, many[2].revents);
    SAY(poll((void *)8, 1, 0));
    SAY(poll(NULL, 0, 0));
    struct rlimit limit = {64, 64};
    NEED(setrlimit(RLIMIT_NOFILE, &limit));
    struct pollfd lots[65];
    memset(lots, -1, sizeof lots);
    SAY(poll(lots, 65, 0));
    return 0;
}

// A pty pair: canonical input, editing, echo, output translation, raw mode, hang-up.
#include "../check.h"
#include <pty.h>
#include <termios.h>

static int m, s;

static void master_says(const char *text) { NEED(write(m, text, strlen(text))); }

static void show(const char *who, int fd) {
    char data[256];
    struct pollfd p = {fd, POLLIN, 0};
    if (poll(&p, 1, 100) == 0) {
        printf("%s: nothing\n", who);
        return;
    }
    ssize_t n = read(fd, data, sizeof data);
    // The other side's output may come in several pieces; all of it is one observation.
    while (fd == m && n > 0 && poll(&p, 1, 100) == 1 && p.revents & POLLIN) {
        ssize_t more = read(fd, data + n, sizeof data - n);
        if (more <= 0) break;
        n += more;
    }
    printf("%s: %zd [", who, n);
    for (ssize_t i = 0; i < n; i++)
        if (data[i] >= 32 && data[i] < 127)
            putchar(data[i]);
        else
            printf("\\x%02x", (unsigned char)data[i]);
    printf("]%s%s\n", n == -1 ? " " : "", n == -1 ? error_name(errno) : "");
}

int main(void) {
    NEED(openpty(&m, &s, NULL, NULL, NULL));
    IS(isatty(m) && isatty(s));
    struct termios t;
    NEED(tcgetattr(s, &t));
    printf("iflag %o oflag %o cflag %o lflag %o\n", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag);
    for (int i = 0; i < 17; i++) printf("%d ", t.c_cc[i]);
    printf("\n");
    master_says("partial");
    show("slave", s);
    show("echo", m);
    master_says("\n");
    show("slave", s);
    show("echo", m);
    master_says("abc\x7f\x7fX\n");
    show("slave", s);
    show("echo", m);
    master_says("one two\x17three\x15line\n");
    show("slave", s);
    show("echo", m);
    master_says("no newline\x04");
    show("slave", s);
    show("echo", m);
    master_says("\x04");
    show("end of file", s);
    master_says("quoted \x16\x03 char\r");
    show("slave", s);
    show("echo", m);
    NEED(write(s, "a\nb\tc\n", 6));
    show("output", m);
    master_says("two\nlines\n");
    show("first", s);
    show("second", s);
    show("echo", m);
    cfmakeraw(&t);
    NEED(tcsetattr(s, TCSANOW, &t));
    master_says("raw\x03\x04\r\n");
    show("raw", s);
    show("echo", m);
    NEED(write(s, "x\n", 2));
    show("raw output", m);
    t.c_cc[VMIN] = 0;
    t.c_cc[VTIME] = 1;
    NEED(tcsetattr(s, TCSANOW, &t));
    char c;
    SAY(read(s, &c, 1));
    master_says("flushed");
    struct pollfd arrives = {s, POLLIN, 0};
    poll(&arrives, 1, 2000);
    SAY(tcflush(s, TCIFLUSH));
    show("after flush", s);
    struct winsize w = {24, 80, 0, 0}, got;
    SAY(ioctl(m, TIOCSWINSZ, &w));
    SAY(ioctl(s, TIOCGWINSZ, &got));
    printf("%d %d\n", got.ws_row, got.ws_col);
    int n = -1;
    master_says("abc");
    poll(&arrives, 1, 2000);
    SAY(ioctl(s, FIONREAD, &n));
    printf("%d\n", n);
    close(m);
    char data[8];
    SAY(read(s, data, 8));
    SAY(read(s, data, 8));
    SAY(write(s, "x", 1));
    struct pollfd p = {s, POLLIN | POLLOUT, 0};
    SAY(poll(&p, 1, 0));
    printf("%x\n", p.revents);
    return 0;
}

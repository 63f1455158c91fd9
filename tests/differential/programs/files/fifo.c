// Named pipes: blocking opens, O_NONBLOCK opens, O_RDWR, end of file, unlinking.
#include "../check.h"

int main(void) {
    NEED(mkfifo("p", 0600));
    SAY(mkfifo("p", 0600));
    OK(open("p", O_WRONLY | O_NONBLOCK));
    int r;
    OK(r = open("p", O_RDONLY | O_NONBLOCK));
    char data[16] = "";
    SAY(read(r, data, sizeof data));
    int w = NEED(open("p", O_WRONLY | O_NONBLOCK));
    SAY(read(r, data, sizeof data));
    SAY(write(w, "one", 3));
    SAY(read(r, data, sizeof data));
    close(w);
    SAY(read(r, data, sizeof data));
    close(r);
    pid_t child = NEED(fork());
    if (child == 0) {
        int out = open("p", O_WRONLY);
        write(out, "from child", 10);
        _exit(0);
    }
    r = NEED(open("p", O_RDONLY));
    memset(data, 0, sizeof data);
    int n = 0;
    for (ssize_t got; (got = read(r, data + n, sizeof data - n)) > 0;) n += got;
    printf("[%s]\n", data);
    reap("writer", child);
    close(r);
    int both = NEED(open("p", O_RDWR));
    SAY(write(both, "self", 4));
    SAY(read(both, data, sizeof data));
    SAY(lseek(both, 0, SEEK_SET));
    SAY(unlink("p"));
    SAY(write(both, "x", 1));
    struct stat st;
    NEED(fstat(both, &st));
    IS(S_ISFIFO(st.st_mode));
    printf("links %ld\n", (long)st.st_nlink);
    return 0;
}

// The lowest free descriptor is the one used; RLIMIT_NOFILE bounds it.
#include "../check.h"

int main(void) {
    int first = NEED(open("/dev/null", O_RDONLY)), second = NEED(open("/dev/null", O_RDONLY));
    IS(second == first + 1);
    close(first);
    IS(NEED(open("/dev/null", O_RDONLY)) == first);
    struct rlimit limit = {second + 2, second + 2};
    NEED(setrlimit(RLIMIT_NOFILE, &limit));
    OK(open("/dev/null", O_RDONLY));
    OK(open("/dev/null", O_RDONLY));
    OK(dup(first));
    int p[2];
    OK(pipe(p));
    close(second);
    OK(pipe(p));
    OK(dup2(first, second + 2));
    OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(socket(AF_UNIX, SOCK_STREAM, 0));
    return 0;
}

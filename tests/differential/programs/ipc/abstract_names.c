// Abstract unix names: leading NUL, any bytes, gone with the socket, autobind.
#include "../check.h"

int main(void) {
    int server = NEED(socket(AF_UNIX, SOCK_STREAM, 0)), client = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un a = {.sun_family = AF_UNIX}, got;
    snprintf(a.sun_path + 1, 60, "sentrio-abstract-%d", getpid());
    socklen_t size = 2 + 1 + strlen(a.sun_path + 1), length = sizeof got;
    SAY(bind(server, (void *)&a, size));
    NEED(listen(server, 1));
    SAY(connect(client, (void *)&a, size + 1));
    SAY(connect(client, (void *)&a, size));
    memset(&got, 0, sizeof got);
    NEED(getpeername(client, (void *)&got, &length));
    IS(length == size && memcmp(&got, &a, size) == 0);
    int other = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    SAY(bind(other, (void *)&a, size));
    close(server);
    SAY(bind(other, (void *)&a, size));
    int automatic = NEED(socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un none = {.sun_family = AF_UNIX};
    SAY(bind(automatic, (void *)&none, 2));
    length = sizeof got;
    NEED(getsockname(automatic, (void *)&got, &length));
    printf("autobind length %d first %d\n", length, got.sun_path[0]);
    return 0;
}

// Unix stream sockets: bind, listen, accept, names, connect errors, end of file.
#include "../check.h"

static struct sockaddr_un name(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    return a;
}

int main(void) {
    int server = NEED(socket(AF_UNIX, SOCK_STREAM, 0)), client = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un a = name("sock"), got;
    socklen_t size = sizeof a, length;
    SAY(connect(client, (void *)&a, size));
    SAY(listen(server, 1));
    SAY(bind(server, (void *)&a, size));
    SAY(bind(server, (void *)&a, size));
    int other = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    SAY(bind(other, (void *)&a, size));
    SAY(connect(client, (void *)&a, size));
    SAY(accept(server, NULL, NULL));
    SAY(listen(server, 5));
    SAY(connect(client, (void *)&a, size));
    SAY(connect(client, (void *)&a, size));
    length = sizeof got;
    int conn;
    OK(conn = accept(server, (void *)&got, &length));
    printf("peer length %d family %d\n", length, got.sun_family);
    length = sizeof got;
    SAY(getsockname(server, (void *)&got, &length));
    printf("%d [%s]\n", length, got.sun_path);
    length = sizeof got;
    SAY(getpeername(client, (void *)&got, &length));
    printf("%d [%s]\n", length, got.sun_path);
    length = sizeof got;
    SAY(getsockname(client, (void *)&got, &length));
    printf("%d\n", length);
    SAY(getpeername(server, (void *)&got, &length));
    struct stat st;
    NEED(stat("sock", &st));
    printf("%o\n", st.st_mode);
    char data[16] = "";
    SAY(write(client, "hello", 5));
    SAY(read(conn, data, 16));
    printf("[%s]\n", data);
    SAY(send(conn, "reply", 5, MSG_MORE));
    SAY(recv(client, data, 2, MSG_PEEK));
    SAY(recv(client, data, 16, 0));
    close(client);
    SAY(read(conn, data, 16));
    SAY(accept4(server, NULL, NULL, 0x1));
    NEED(fcntl(server, F_SETFL, O_NONBLOCK));
    SAY(accept(server, NULL, NULL));
    close(server);
    client = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    SAY(connect(client, (void *)&a, size));
    a = name("none");
    SAY(connect(client, (void *)&a, size));
    put_file("plain", "");
    a = name("plain");
    SAY(connect(client, (void *)&a, size));
    SAY(read(client, data, 1));
    SAY(write(client, data, 1));
    a.sun_family = AF_INET;
    SAY(connect(client, (void *)&a, size));
    SAY(connect(client, (void *)&a, 1));
    OK(open("sock", O_RDWR));
    SAY(unlink("sock"));
    return 0;
}

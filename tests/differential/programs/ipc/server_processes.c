// A forking server on a unix socket with twenty clients: every one gets its answer.
#include "../check.h"

int main(void) {
    int server = NEED(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "server"};
    NEED(bind(server, (void *)&a, sizeof a));
    NEED(listen(server, 32));
    pid_t clients[20];
    for (int i = 0; i < 20; i++)
        if ((clients[i] = fork()) == 0) {
            int c = socket(AF_UNIX, SOCK_STREAM, 0), answer = 0;
            if (connect(c, (void *)&a, sizeof a) == -1) _exit(200);
            write(c, &i, sizeof i);
            read(c, &answer, sizeof answer);
            _exit(answer == i * i ? 0 : 1);
        }
    for (int i = 0; i < 20; i++) {
        int c = NEED(accept(server, NULL, NULL));
        if (fork() == 0) {
            int n;
            read(c, &n, sizeof n);
            n *= n;
            write(c, &n, sizeof n);
            _exit(50);
        }
        close(c);
    }
    int good = 0, servers = 0, status;
    for (int i = 0; i < 40; i++) {
        wait(&status);
        good += WEXITSTATUS(status) == 0;
        servers += WEXITSTATUS(status) == 50;
    }
    printf("good %d servers %d\n", good, servers);
    return 0;
}

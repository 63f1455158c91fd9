// POSIX message queues: priorities, limits, non-blocking, timeouts.
#include "../check.h"
#include <mqueue.h>

int main(void) {
    char name[40], data[64];
    unsigned prio;
    snprintf(name, sizeof name, "/sentrio-%d", getpid());
    struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 16};
    mqd_t q;
    OK(q = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &attr));
    SAY(mq_send(q, "low", 3, 1));
    SAY(mq_send(q, "high", 4, 9));
    SAY(mq_send(q, "low2", 4, 1));
    SAY(mq_send(q, "full", 4, 1));
    SAY(mq_send(q, data, 17, 1));
    SAY(mq_receive(q, data, 4, &prio));
    for (int i = 0; i < 4; i++) {
        long n = SAY(mq_receive(q, data, 16, &prio));
        if (n > 0) printf("[%.*s] %u\n", (int)n, data, prio);
    }
    SAY(mq_getattr(q, &attr));
    printf("%ld %ld %ld\n", attr.mq_maxmsg, attr.mq_msgsize, attr.mq_curmsgs);
    SAY(mq_unlink(name));
    SAY(mq_unlink(name));
    OK(mq_open("noslash", O_RDWR));
    SAY(mq_close(q));
    return 0;
}

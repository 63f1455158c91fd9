// System V semaphores with undo, and message queues by type.
#include "../check.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

union semun { int val; unsigned short *array; };

int main(void) {
    int id;
    OK(id = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600));
    SAY(semctl(id, 0, SETVAL, (union semun){.val = 1}));
    struct sembuf take = {0, -1, SEM_UNDO}, try = {0, -1, IPC_NOWAIT}, zero = {1, 0, 0};
    IN_CHILD("takes and dies", SAY(semop(id, &take, 1)));
    SAY(semctl(id, 0, GETVAL));
    SAY(semop(id, &try, 1));
    SAY(semop(id, &try, 1));
    SAY(semop(id, &zero, 1));
    pid_t pid = NEED(fork());
    if (pid == 0) {
        struct sembuf wait = {0, -2, 0};
        _exit(semop(id, &wait, 1) == 0 ? 4 : 5);
    }
    for (int i = 0; i < 100 && semctl(id, 0, GETNCNT) != 1; i++) sleep_ms(5);
    SAY(semctl(id, 0, GETNCNT));
    struct sembuf give = {0, 2, 0};
    SAY(semop(id, &give, 1));
    reap("waiter", pid);
    unsigned short values[2];
    SAY(semctl(id, 0, GETALL, (union semun){.array = values}));
    printf("%d %d\n", values[0], values[1]);
    struct timespec t = {0, 30000000};
    SAY(semtimedop(id, &take, 1, &t));
    pid = NEED(fork());
    if (pid == 0) _exit(semop(id, &(struct sembuf){0, -1, 0}, 1) == -1 && errno == EIDRM ? 6 : 7);
    for (int i = 0; i < 100 && semctl(id, 0, GETNCNT) != 1; i++) sleep_ms(5);
    SAY(semctl(id, 0, IPC_RMID));
    reap("removed under it", pid);
    struct { long type; char text[16]; } m = {3, "three"};
    int q;
    OK(q = msgget(IPC_PRIVATE, IPC_CREAT | 0600));
    SAY(msgsnd(q, &m, 6, 0));
    m.type = 1;
    strcpy(m.text, "one");
    SAY(msgsnd(q, &m, 4, 0));
    SAY(msgrcv(q, &m, 16, 1, 0));
    printf("%ld %s\n", m.type, m.text);
    SAY(msgrcv(q, &m, 2, 0, 0));
    SAY(msgrcv(q, &m, 2, 0, MSG_NOERROR));
    SAY(msgrcv(q, &m, 16, 0, IPC_NOWAIT));
    m.type = 0;
    SAY(msgsnd(q, &m, 1, 0));
    SAY(msgctl(q, IPC_RMID, NULL));
    SAY(msgrcv(q, &m, 16, 0, IPC_NOWAIT));
    return 0;
}

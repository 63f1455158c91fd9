// System V shared memory: create, attach, detach, remove, permissions, limits.
#include "../check.h"
#include <sys/ipc.h>
#include <sys/shm.h>

int main(void) {
    int id;
    OK(id = shmget(IPC_PRIVATE, 5000, IPC_CREAT | 0600));
    int *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    IS(a != (void *)-1 && b != (void *)-1 && a != b);
    a[0] = 7;
    printf("%d\n", b[0]);
    struct shmid_ds ds;
    SAY(shmctl(id, IPC_STAT, &ds));
    printf("size %zu attached %ld mode %o creator %d\n", ds.shm_segsz, (long)ds.shm_nattch, ds.shm_perm.mode, ds.shm_cpid == getpid());
    IN_CHILD("child", { printf("%d\n", a[0]); a[0] = 8; });
    printf("%d\n", a[0]);
    SAY(shmdt(b));
    SAY(shmdt(b));
    SAY(shmctl(id, IPC_RMID, NULL));
    printf("%d\n", a[0]);
    SAY(shmdt(a));
    SAY(shmctl(id, IPC_STAT, &ds));
    OK((long)shmat(id, NULL, 0));
    OK(shmget(IPC_PRIVATE, 0, IPC_CREAT));
    key_t key = 0x5e470000 + getpid();
    OK(shmget(key, 100, 0));
    OK(id = shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600));
    OK(shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600));
    IS(shmget(key, 50, 0) == id);
    OK(shmget(key, 10000, 0));
    IN_CHILD("user", { NEED(setresuid(1000, 1000, 1000)); OK((long)shmat(id, NULL, 0)); SAY(shmctl(id, IPC_RMID, NULL)); });
    SAY(shmctl(id, IPC_RMID, NULL));
    return 0;
}

"""<linux/ipc.h>, <linux/shm.h>, <linux/sem.h>, <linux/msg.h>, <linux/mqueue.h>: System V IPC and message queues."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Commands and flags of all three.
IPC_CREAT: Final[int] = 0o1000
IPC_EXCL: Final[int] = 0o2000
IPC_NOWAIT: Final[int] = 0o4000

IPC_PRIVATE: Final[int] = 0
IPC_RMID: Final[int] = 0
IPC_SET: Final[int] = 1
IPC_STAT: Final[int] = 2
IPC_INFO: Final[int] = 3

# Shared memory.
SHM_R: Final[int] = 0o400
SHM_W: Final[int] = 0o200
SHM_NORESERVE: Final[int] = 0o10000
SHM_RDONLY: Final[int] = 0o10000
SHM_RND: Final[int] = 0o20000
SHM_REMAP: Final[int] = 0o40000
SHM_EXEC: Final[int] = 0o100000
SHM_LOCK: Final[int] = 0o13
SHM_UNLOCK: Final[int] = 0o14
SHM_STAT: Final[int] = 0o15
SHM_INFO: Final[int] = 0o16
SHM_STAT_ANY: Final[int] = 0o17

# Semaphores.
SEM_UNDO: Final[int] = 4096
GETPID: Final[int] = 11
GETVAL: Final[int] = 12
GETALL: Final[int] = 13
GETNCNT: Final[int] = 14
GETZCNT: Final[int] = 15
SETVAL: Final[int] = 16
SETALL: Final[int] = 17
SEM_STAT: Final[int] = 18
SEM_INFO: Final[int] = 19
SEM_STAT_ANY: Final[int] = 20
SEMMNI: Final[int] = 32000
SEMMSL: Final[int] = 32000
SEMOPM: Final[int] = 500
SEMVMX: Final[int] = 32767

# Message queues.
MSG_STAT: Final[int] = 0o13
MSG_INFO: Final[int] = 0o14
MSG_STAT_ANY: Final[int] = 0o15
MSG_NOERROR: Final[int] = 0o10000
MSG_EXCEPT: Final[int] = 0o20000
MSG_COPY: Final[int] = 0o40000
MSGMNI: Final[int] = 0o76400
MSGMAX: Final[int] = 0o20000
MSGMNB: Final[int] = 0o40000

# struct ipc64_perm: key, uid, gid, cuid, cgid, mode, seq.
IPC64_PERM: Final = layout("struct ipc64_perm", "iIIIIIH6x16x", 48)
# struct shmid64_ds: an ipc64_perm, then shm_segsz, shm_atime, shm_dtime, shm_ctime, shm_cpid, shm_lpid, shm_nattch.
SHMID64_DS_TAIL: Final = layout("struct shmid64_ds tail", "QqqqiiQ16x", 64)
# struct semid64_ds: an ipc64_perm, then sem_otime, sem_ctime, sem_nsems.
SEMID64_DS_TAIL: Final = layout("struct semid64_ds tail", "q8xq8xQ16x", 56)
# struct msqid64_ds: an ipc64_perm, then msg_stime, msg_rtime, msg_ctime, msg_cbytes, msg_qnum, msg_qbytes, msg_lspid,
# msg_lrpid.
MSQID64_DS_TAIL: Final = layout("struct msqid64_ds tail", "qqqQQQii16x", 72)
# struct sembuf: sem_num, sem_op, sem_flg.
SEMBUF: Final = layout("struct sembuf", "Hhh", 6)
# struct mq_attr: mq_flags, mq_maxmsg, mq_msgsize, mq_curmsgs.
MQ_ATTR: Final = layout("struct mq_attr", "qqqq32x", 64)

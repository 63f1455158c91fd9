"""The host calls that a sealed router may make, one row each with its reason. At most 30 distinct calls; a test counts.

The seal comes after every link is open and before the first frame is read. There is no socket, connect, bind, open,
openat, execve, fork, clone, kill, ptrace; what needs those is done by the keeper (edge/keeper.py) and the connector
(edge/connector.py), which hand over descriptors. accept4 serves sockets that listen already. socketpair makes
pairs that reach nobody but whom one end is given to.
"""

from __future__ import annotations

from typing import Final

from protocol.sealing.rows import NOT_EXECUTABLE, Argument, Compare, Row

MAX_DISTINCT_CALLS: Final = 30

_FIONBIO: Final = 0x5421
_FIONREAD: Final = 0x541B
_SIOCGIFNAME: Final = 0x8910
_SIOCOUTQ: Final = 0x5411
_F_GET_SEALS: Final = 1034
_SOL_SOCKET: Final = 1
_AF_UNIX: Final = 1

SEALED: Final = (
    Row("readv", "frames of taps and packet sockets; the signal pipe; how long we waited for a processor"),
    Row("writev", "frames to taps and packet sockets, captures"),
    Row("recvmsg", "frames of unix links and tagged packet sockets; control requests with descriptors"),
    Row("sendmsg", "frames to unix links; control answers with descriptors"),
    Row("recvfrom", "frames of stream links; data of host sockets (slirp)"),
    Row("sendto", "control answers; data to host sockets (slirp)"),
    Row("write", "log lines, to standard error alone", (Argument(0, Compare.EQ, 2),)),
    Row("epoll_wait", "waiting"),
    Row("epoll_ctl", "what is waited for"),
    Row("accept4", "clients of the control socket, peers of listening unix links, of published ports"),
    Row("ioctl", "making an accepted socket non-blocking", (Argument(1, Compare.EQ, _FIONBIO),)),
    Row("ioctl", "whether a packet socket has one more frame", (Argument(1, Compare.EQ, _FIONREAD),)),
    Row("ioctl", "whether a client left data unread when it closed", (Argument(1, Compare.EQ, _SIOCOUTQ),)),
    Row("ioctl", "the interpreter names the interface of each tagged frame", (Argument(1, Compare.EQ, _SIOCGIFNAME),)),
    Row(
        "setsockopt",
        "buffers of a peer; a host socket that is reset",
        (Argument(1, Compare.EQ, _SOL_SOCKET),),
    ),
    Row("close", "clients that left, links that were removed"),
    Row("shutdown", "the end of a client, or of one direction of a stream"),
    Row(
        "socketpair",
        "the data sockets of clients' sockets, and their connections",
        (Argument(0, Compare.EQ, _AF_UNIX),),
    ),
    Row("getsockname", "the interpreter asks it of every descriptor that becomes a socket"),
    Row("fcntl", "whether memory that a client shares can shrink", (Argument(1, Compare.EQ, _F_GET_SEALS),)),
    Row("lseek", "how long memory is that a client shares; reading again how long we waited"),
    Row("sched_setaffinity", "we leave a processor that others use", (Argument(0, Compare.EQ, 0),)),
    Row("brk", "memory of the interpreter"),
    Row("mmap", "memory of the interpreter, and shared by clients, never executable", NOT_EXECUTABLE),
    Row("munmap", "memory of the interpreter, and shared by clients"),
    Row("mremap", "memory of the interpreter"),
    Row("madvise", "memory of the interpreter"),
    Row("futex", "locks of the interpreter; wakes a guest thread that sleeps for its ring"),
    Row("clock_gettime", "time, on hosts whose vDSO has no clock"),
    Row("restart_syscall", "a wait that the freezer or a debugger stopped goes on"),
    Row("rt_sigreturn", "return from a signal handler"),
    Row("rt_sigaction", "the end of the interpreter restores handlers"),
    Row("exit_group", "the end"),
)


def wake_by(fd: int) -> Row:
    """The row that lets the interpreter's signal handler write to the pipe that wakes the loop."""
    return Row("write", "a signal wakes the loop", (Argument(0, Compare.EQ, fd),))

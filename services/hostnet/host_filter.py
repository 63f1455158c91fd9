"""The host calls that a sealed broker may make, one row each with its reason. At most 40 distinct calls; a test counts.

It is wider than the other services' lists: making sockets of the host is what this process is for. What it may make is
bounded all the same: IPv4 and IPv6 (no packet, netlink or Unix socket; raw ones need a right that it lacks), no file
and no program.
"""

from __future__ import annotations

from typing import Final

from protocol.sealing.rows import NOT_EXECUTABLE, Argument, Compare, Row

MAX_DISTINCT_CALLS: Final = 40
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_FIONBIO: Final = 0x5421

ROWS: Final = (
    Row("socket", "the sandbox's IPv4 sockets", (Argument(0, Compare.EQ, _AF_INET),)),
    Row("socket", "the sandbox's IPv6 sockets", (Argument(0, Compare.EQ, _AF_INET6),)),
    Row("socketpair", "data sockets of datagrams", (Argument(0, Compare.EQ, _AF_UNIX),)),
    Row("bind", "addresses and ports that programs ask for"),
    Row("connect", "connections, and peers of datagram sockets"),
    Row("listen", "servers in the sandbox"),
    Row("accept4", "their connections"),
    Row("getsockname", "local addresses; the interpreter asks it of every descriptor that becomes a socket"),
    Row("getpeername", "the address of who connected"),
    Row("setsockopt", "options of the table in options.py"),
    Row("getsockopt", "the same, and how a connect ended"),
    Row("shutdown", "listeners that stop, datagram sockets"),
    Row("recvmsg", "requests; datagrams with where they came from; the error queue; news of interfaces and routes"),
    Row("recvfrom", "datagrams of the sandbox; urgent bytes"),
    Row("sendmsg", "answers with descriptors; datagrams"),
    Row("sendto", "answers; urgent bytes; questions about interfaces and routes"),
    Row("epoll_wait", "waiting"),
    Row("epoll_ctl", "what is waited for"),
    Row("ioctl", "making a socket non-blocking", (Argument(1, Compare.EQ, _FIONBIO),)),
    Row("fcntl", "a second descriptor, for a message that has to wait", (Argument(1, Compare.EQ, 1030),)),
    Row("write", "log lines, to standard error alone", (Argument(0, Compare.EQ, 2),)),
    Row("close", "sockets that were closed"),
    Row("brk", "memory of the interpreter"),
    Row("mmap", "memory of the interpreter, never executable", NOT_EXECUTABLE),
    Row("munmap", "memory of the interpreter"),
    Row("mremap", "memory of the interpreter"),
    Row("madvise", "memory of the interpreter"),
    Row("futex", "locks of the interpreter"),
    Row("clock_gettime", "time, on hosts whose vDSO has no clock"),
    Row("restart_syscall", "a wait that the freezer or a debugger stopped goes on"),
    Row("rt_sigreturn", "return from a signal handler"),
    Row("rt_sigaction", "the end of the interpreter restores handlers"),
    Row("exit_group", "the end"),
)

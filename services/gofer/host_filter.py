"""The host calls a sealed gofer may make, one row each with its reason. At most 45 distinct calls; a test counts them.

openat2's flags lie behind a pointer, which seccomp cannot look at: Landlock (`landlock_rules` of the backend) is what
confines it in depth, RESOLVE_BENEATH in the ordinary case. There is no open, openat, socket, connect, execve, fork or
kill.
"""

from __future__ import annotations

from typing import Final

from protocol.sealing.rows import NOT_EXECUTABLE, Argument, Compare, Row

MAX_DISTINCT_CALLS: Final = 45

_AT_EMPTY_PATH: Final = (Argument(3, Compare.MASKED_EQ, 0x1000, 0x1000),)


def _fcntl(command: int) -> tuple[Argument, ...]:
    return (Argument(1, Compare.EQ, command),)


READ_ONLY: Final = (
    Row("recvfrom", "requests that carry no fd"),
    Row("sendto", "replies"),
    Row("sendmsg", "replies beside which an fd is donated"),
    Row("poll", "waiting when several clients are served"),
    Row("write", "log lines, to standard error alone", (Argument(0, Compare.EQ, 2),)),
    Row("close", "fids given up"),
    Row("openat2", "every open, beneath a directory fd"),
    Row("statx", "attributes"),
    Row("readlinkat", "text of symlinks"),
    Row("getdents64", "directory listings"),
    Row("lseek", "directory positions"),
    Row("pread64", "reads of files that are not donated"),
    Row("fstatfs", "statfs"),
    Row("getxattrat", "extended attributes"),
    Row("listxattrat", "extended attributes"),
    Row("fgetxattr", "extended attributes before Linux 6.13"),
    Row("flistxattr", "extended attributes before Linux 6.13"),
    Row("fcntl", "byte-range locks", _fcntl(37)),
    Row("fcntl", "byte-range locks, asking", _fcntl(36)),
    Row("fsync", "fsync of files open for reading"),
    Row("fdatasync", "fdatasync of files open for reading"),
    Row("brk", "memory of the interpreter"),
    Row("mmap", "memory of the interpreter, never executable", NOT_EXECUTABLE),
    Row("munmap", "memory of the interpreter"),
    Row("mremap", "memory of the interpreter"),
    Row("madvise", "memory of the interpreter"),
    Row("futex", "locks of the interpreter"),
    Row("clock_gettime", "deciding whether spinning pays, on hosts whose vDSO has no clock"),
    Row("restart_syscall", "a poll that the freezer or a debugger stopped goes on"),
    Row("rt_sigreturn", "return from a signal handler"),
    Row("exit_group", "the end"),
)

READ_WRITE: Final = (
    *READ_ONLY,
    Row("pwrite64", "writes to files that are not donated"),
    Row("ftruncate", "truncation"),
    Row("mkdirat", "mkdir"),
    Row("mknodat", "mknod"),
    Row("symlinkat", "symlink"),
    Row("linkat", "link"),
    Row("unlinkat", "unlink, rmdir"),
    Row("renameat", "rename"),
    Row("fchownat", "chown of an fd", (Argument(4, Compare.MASKED_EQ, 0x1000, 0x1000),)),
    Row("fchmodat2", "chmod of an fd", _AT_EMPTY_PATH),
    Row("utimensat", "times of an fd", _AT_EMPTY_PATH),
    Row("setxattrat", "extended attributes"),
    Row("removexattrat", "extended attributes"),
    Row("fsetxattr", "extended attributes before Linux 6.13"),
    Row("fremovexattr", "extended attributes before Linux 6.13"),
)


def write_to(fd: int) -> Row:
    """The row that lets the gofer say on `fd` that it is ready."""
    return Row("write", "saying ready, once", (Argument(0, Compare.EQ, fd),))

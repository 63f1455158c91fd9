"""The host calls a sealed Sentry may make, one row each with its reason. At most 45 distinct calls; a test counts them.

There is no open, socket, connect, bind, execve, fork, clone, ptrace or mount. New guest processes come from the stub's
own clone.
"""

from __future__ import annotations

from typing import Final

from protocol.sealing.rows import NOT_EXECUTABLE, Argument, Compare, Row

__all__ = ["MAX_DISTINCT_CALLS", "ROWS"]

MAX_DISTINCT_CALLS: Final = 45
_KICK, _KILL = 23, 9


def _arg(index: int, value: int) -> tuple[Argument, ...]:
    return (Argument(index, Compare.EQ, value),)


ROWS: Final = (
    # guests
    Row("process_vm_readv", "copies from guest memory"),
    Row("process_vm_writev", "copies to guest memory"),
    Row("futex", "wakes a guest thread that sleeps on its slot; locks of the interpreter"),
    Row("ioctl", "takes a notification of a guest's posted operation", _arg(1, 0xC0502100)),
    Row("ioctl", "answers it", _arg(1, 0xC0182101)),
    Row("ioctl", "hands a donated file in for one mapping", _arg(1, 0x40182103)),
    Row("ioctl", "modes of the host terminal", _arg(1, 0x5401)),
    Row("ioctl", "modes of the host terminal, set", _arg(1, 0x5402)),
    Row("ioctl", "modes of the host terminal, set when drained", _arg(1, 0x5403)),
    Row("ioctl", "modes of the host terminal, set and flushed", _arg(1, 0x5404)),
    Row("ioctl", "size of the host terminal", _arg(1, 0x5413)),
    Row("ioctl", "how much a connection beyond the sandbox has to read", _arg(1, 0x541B)),
    Row("ioctl", "how much of what was written to it is on its way", _arg(1, 0x5411)),
    Row("tgkill", "interrupts a guest thread", _arg(2, _KICK)),
    Row("tgkill", "asks which process a new guest thread is of", _arg(2, 0)),
    Row("tgkill", "ends a guest process", _arg(2, _KILL)),
    Row("wait4", "reaps guest processes"),
    Row(
        "sched_setaffinity",
        "keeps guest threads off the processor on which we look for their events, and us off netstackd's",
    ),
    # descriptors it holds
    Row("read", "standard streams, the doorbell"),
    Row("write", "standard streams, the log, the wake-up that a signal is"),
    Row("pread64", "donated files"),
    Row("preadv", "donated files, into a buffer"),
    Row("preadv2", "the same, as the interpreter calls it"),
    Row("pwrite64", "donated files open for writing"),
    Row("lseek", "positions of inherited files, what a guest wrote of its region"),
    Row("fstat", "attributes of inherited files"),
    Row("newfstatat", "the same, as newer C libraries ask", (Argument(3, Compare.MASKED_EQ, 0x1000, 0x1000),)),
    Row("ftruncate", "sizes of memory files"),
    Row("fallocate", "holes in memory files"),
    Row("fsync", "donated files open for writing"),
    Row("fdatasync", "donated files open for writing"),
    Row("memfd_create", "memory files: tmpfs, the overlay's upper layer, guests' memfds, rings of busy connections"),
    Row("close", "donated and memory files"),
    Row("recvmsg", "the Gofer's replies with donated files"),
    Row("recvfrom", "control messages, the Gofer's replies"),
    Row("sendto", "control messages, requests to the Gofer"),
    Row("sendmsg", "requests to the Gofer, a ring for the network stack"),
    Row("shutdown", "the end of what a connection beyond the sandbox sends", _arg(1, 1)),
    Row("getsockopt", "what kind of socket the network stack donated", (*_arg(1, 1), *_arg(2, 3))),
    Row("fcntl", "flags of a descriptor", _arg(1, 3)),
    Row("fcntl", "seals of a memory file", _arg(1, 1033)),
    Row("fcntl", "a second descriptor of a memory file: the interpreter's mmap holds one", _arg(1, 1030)),
    # waiting
    Row("poll", "readiness of one descriptor"),
    Row("ppoll", "the sleep of the main loop"),
    Row("epoll_wait", "what became ready outside"),
    Row("epoll_pwait", "the same, as newer C libraries ask"),
    Row("epoll_ctl", "what is watched"),
    Row("clock_gettime", "CPU time of guest threads"),
    Row("getrusage", "whether others want the processor: then spinning stops"),
    # the interpreter
    Row("mmap", "memory, never executable", NOT_EXECUTABLE),
    Row("munmap", "memory"),
    Row("mremap", "memory"),
    Row("madvise", "memory; freed regions of the arena"),
    Row("brk", "memory"),
    Row("getrandom", "random numbers for guests"),
    Row("rt_sigaction", "handlers at the end"),
    Row("rt_sigreturn", "return from the SIGCHLD handler"),
    Row("exit_group", "the end"),
)

"""The host calls behind isolation that Python does not offer, through ctypes.

Owns: `HostCalls`, one thin method per call, no policy. `namespaces.py` and `privileges.py` get an instance passed in;
tests pass a recording one. Every method raises OSError with the call's errno. Import this only when a sandbox is
really launched: ctypes costs some milliseconds.

`clone` is why this is not os.fork and unshare(2): the child must be born as process 1 of its own PID namespace and
still be the monitor's own child, and unshare(CLONE_NEWPID) works once per process only.
"""

from __future__ import annotations

import ctypes
import os
import struct

#: Host system calls made here, for the record (the supervisor is not sealed).
HOST_SYSCALLS = (
    "clone",
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "prctl",
    "capget",
    "capset",
)

_NR_CLONE = 56
_NR_CAPGET = 125
_NR_CAPSET = 126
_NR_PIVOT_ROOT = 155
_NR_OPEN_TREE = 428
_NR_MOVE_MOUNT = 429
_NR_MOUNT_SETATTR = 442

_SIGCHLD = 17
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_PR_GET_TID_ADDRESS = 40

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_CAPABILITY_VERSION_3 = 0x20080522


class HostCalls:
    """Linux, as it is. x86-64 and 64-bit Arm share the numbers used here but those of clone, capget, capset and
    pivot_root, which `_NR_*` give for x86-64."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _syscall(self, number: int, *arguments: int | bytes) -> int:
        values = [ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_long(value) for value in arguments]
        return self._check(self._libc.syscall(ctypes.c_long(number), *values))

    def _check(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(result)

    def clone(self, flags: int) -> int:
        """clone(2) as fork(2) with CLONE_NEW* `flags`: the child's pid, 0 in the child.

        The caller has one thread. glibc's idea of the thread id is kept right, as its own fork does.
        """
        tid = ctypes.c_void_p()
        if self._libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(tid), 0, 0, 0) == 0 and tid.value:
            flags |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
        python = ctypes.pythonapi
        python.PyOS_BeforeFork()
        pid = self._libc.syscall(
            ctypes.c_long(_NR_CLONE),
            ctypes.c_ulong(flags | _SIGCHLD),
            ctypes.c_void_p(0),
            ctypes.c_void_p(0),
            tid,
            ctypes.c_void_p(0),
        )
        number = ctypes.get_errno()
        if pid == 0:
            python.PyOS_AfterFork_Child()
            return 0
        python.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(number, os.strerror(number))
        return int(pid)

    def unshare(self, flags: int) -> None:
        """unshare(2)."""
        self._check(self._libc.unshare(ctypes.c_int(flags)))

    def setns(self, fd: int, kind: int) -> None:
        """setns(2): this thread enters the namespace behind `fd`."""
        self._check(self._libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)))

    def mount(self, source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
        """mount(2)."""
        self._check(self._libc.mount(source, target, kind, ctypes.c_ulong(flags), data))

    def detach(self, target: bytes) -> None:
        """umount2(2) with MNT_DETACH."""
        self._check(self._libc.umount2(target, 2))

    def pivot_root(self, new: bytes, old: bytes) -> None:
        """pivot_root(2)."""
        self._syscall(_NR_PIVOT_ROOT, new, old)

    def clone_tree(self, path: bytes) -> int:
        """open_tree(2): a detached copy of the mounts at and below `path`, as a file descriptor (Linux 5.2)."""
        return self._syscall(_NR_OPEN_TREE, _AT_FDCWD, path, _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE)

    def attach_tree(self, tree_fd: int, target: bytes) -> None:
        """move_mount(2): mounts what `clone_tree` returned on `target`."""
        self._syscall(_NR_MOVE_MOUNT, tree_fd, b"", _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH)

    def set_tree_attributes(self, tree_fd: int, attributes: int) -> None:
        """mount_setattr(2): adds MOUNT_ATTR_* to all mounts of a tree (Linux 5.12)."""
        wanted = struct.pack("<QQQQ", attributes, 0, 0, 0)
        self._syscall(_NR_MOUNT_SETATTR, tree_fd, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, wanted, len(wanted))

    def prctl(self, option: int, value: int = 0, other: int = 0) -> int:
        """prctl(2) with integer arguments."""
        return self._check(
            self._libc.prctl(
                ctypes.c_int(option), ctypes.c_ulong(value), ctypes.c_ulong(other), ctypes.c_ulong(0), ctypes.c_ulong(0)
            )
        )

    def effective_capabilities(self) -> int:
        """capget(2): this process's effective set as a mask; /proc may be out of sight when it is asked for."""
        header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
        data = ctypes.create_string_buffer(24)
        self._check(self._libc.syscall(ctypes.c_long(_NR_CAPGET), ctypes.c_char_p(header), data))
        low, _, _, high, _, _ = struct.unpack("<IIIIII", data.raw)
        return int(low | high << 32)

    def set_capabilities(self, mask: int) -> None:
        """capset(2): `mask` becomes the effective and permitted set, the inheritable one is emptied."""
        low, high = mask & 0xFFFFFFFF, mask >> 32
        header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
        self._syscall(_NR_CAPSET, header, struct.pack("<IIIIII", low, low, 0, high, high, 0))

"""A task with fake memory on a tmpfs root: system-call handlers are called as the dispatcher would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.filesystems.tmpfs import TmpfsSuperblock
from services.sentry.kernel.clocks import HostClock
from services.sentry.kernel.credentials import Credentials
from services.sentry.kernel.fd_table import FdTable
from services.sentry.kernel.kernel import Kernel
from services.sentry.kernel.task import Task
from services.sentry.kernel.thread_group import ThreadGroup
from services.sentry.kernel.waiter import Wait
from services.sentry.syscalls.table import build
from services.sentry.vfs.fs_context import FsContext
from services.sentry.vfs.mounts import MountNamespace
from services.sentry.vfs.superblock import Superblock

FAMILIES = (
    "read_write",
    "open_close",
    "file_attributes",
    "paths",
    "fcntl_ioctl",
    "mounts",
    "xattr",
    "splice",
)
AT_FDCWD = 0xFFFFFF9C


@dataclass
class Config:
    hostname: str = "box"
    cpu_count: int = 1
    memory_bytes: int = 1 << 30


class Memory:
    """Guest memory [BASE, BASE + size), one flat bytearray; `here` hands out room."""

    BASE = 0x10000
    trapped = changes = None  # no stub answers anything

    def __init__(self, size: int = 8 << 20) -> None:
        self.data = bytearray(size)
        self.top = 0

    def here(self, data: bytes | int) -> int:
        """Store bytes (or reserve that many) at a fresh address."""
        if isinstance(data, int):
            data = bytes(data)
        at = self.top
        self.data[at : at + len(data)] = data
        self.top = at + len(data) + 1 + 15 & ~15
        return self.BASE + at

    def _check(self, addr: int, count: int) -> int:
        at = addr - self.BASE
        if at < 0 or at + count > len(self.data):
            raise LinuxError(14)
        return at

    def read(self, addr: int, count: int) -> bytes:
        if not count:
            return b""
        at = self._check(addr, count)
        return bytes(self.data[at : at + count])

    def write(self, addr: int, data: Any) -> None:
        if len(data):
            at = self._check(addr, len(data))
            self.data[at : at + len(data)] = data

    def write_some(self, addr: int, data: Any) -> int:
        room = min(len(data), self.BASE + len(self.data) - addr)
        if room <= 0 or addr < self.BASE:
            raise LinuxError(14)
        self.write(addr, data[:room])
        return room

    def read_some(self, addr: int, count: int) -> bytes:
        return self.read(addr, min(count, self.BASE + len(self.data) - addr))

    def read_into(self, addr: int, buffer: Any) -> int:
        buffer[:] = self.read(addr, len(buffer))
        return len(buffer)

    def read_cstring(self, addr: int, limit: int = 4096) -> bytes:
        at = self._check(addr, 1)
        end = self.data.find(0, at, at + limit)
        if end < 0:
            raise LinuxError(36)
        return bytes(self.data[at:end])

    def read_u32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little")

    def read_u64(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 8), "little")

    def write_u32(self, addr: int, value: int) -> None:
        self.write(addr, value.to_bytes(4, "little"))

    def write_u64(self, addr: int, value: int) -> None:
        self.write(addr, value.to_bytes(8, "little"))

    def read_iovecs(self, addr: int, count: int) -> list[tuple[int, int]]:
        if not 0 <= count <= 1024:
            raise LinuxError(22)
        raw = self.read(addr, 16 * count)
        return [
            (int.from_bytes(raw[i : i + 8], "little"), int.from_bytes(raw[i + 8 : i + 16], "little"))
            for i in range(0, len(raw), 16)
        ]


class Machine:
    """A kernel with one task; `call(name, *args)` gives the result or -errno, bytes arguments become pointers."""

    def __init__(
        self,
        *,
        uid: int = 0,
        root_options: bytes = b"mode=755",
        root: Callable[[Kernel], Superblock] | None = None,
    ) -> None:
        self.kernel = Kernel(Config(), HostClock())
        self.superblock = root(self.kernel) if root else TmpfsSuperblock(self.kernel, options=root_options)
        self.mounts = MountNamespace(self.superblock)
        top = self.mounts.root_path()
        fs = FsContext(self.mounts, top, top, 0o022)
        self.kernel.mounts = self.mounts
        self.task = self.kernel.new_init(Credentials.for_user(uid, uid), fs, FdTable(1024))
        self.memory = Memory()
        self.task.mm = self.memory  # type: ignore[assignment]
        table = build(FAMILIES)
        self.handlers: dict[str, Callable[..., Any]] = {row.name: row.handler for row in table if row}

    def other(self, uid: int = 0) -> Task:
        """A second process on the same tree."""
        fs = self.task.fs.fork()
        task = self.kernel.new_init(Credentials.for_user(uid, uid), fs, FdTable(1024))
        task.mm = self.memory  # type: ignore[assignment]
        return task

    def outcome(self, name: str, *args: int | bytes, task: Task | None = None) -> Any:
        """What the handler returns: an int, a Wait; LinuxError becomes -errno."""
        self.memory.top = 1 << 20
        values = [self.memory.here(arg + b"\0") if isinstance(arg, bytes) else arg & (1 << 64) - 1 for arg in args]
        try:
            return self.handlers[name](task or self.task, *values)
        except LinuxError as error:
            return -error.errno

    def call(self, name: str, *args: int | bytes, task: Task | None = None) -> int:
        result = self.outcome(name, *args, task=task)
        assert not isinstance(result, Wait), f"{name} blocks"
        return result if result < 1 << 63 else result - (1 << 64)

    # --- shorthands ---
    def open(self, path: bytes, flags: int = 0, mode: int = 0o666, dirfd: int = AT_FDCWD) -> int:
        return self.call("openat", dirfd, path, flags, mode)

    def write(self, fd: int, data: bytes) -> int:
        self.memory.data[: len(data)] = data
        return self.call("write", fd, Memory.BASE, len(data))

    def read(self, fd: int, count: int = 4096) -> bytes:
        done = self.call("read", fd, Memory.BASE, count)
        assert done >= 0, done
        return bytes(self.memory.data[:done])

    def make(self, path: bytes, data: bytes = b"", mode: int = 0o644) -> None:
        fd = self.open(path, 0o102, mode)
        assert fd >= 0, (path, fd)
        assert self.write(fd, data) == len(data)
        self.call("close", fd)

    def contents(self, path: bytes) -> bytes:
        fd = self.open(path)
        assert fd >= 0, (path, fd)
        data = self.read(fd, 1 << 19)
        self.call("close", fd)
        return data

    def stat(self, path: bytes, flags: int = 0) -> tuple[int, ...] | int:
        """The fields of struct stat, or -errno."""
        from protocol.abi.stat_h import STAT

        result = self.call("newfstatat", AT_FDCWD, path, Memory.BASE, flags)
        return STAT.unpack(self.memory.data[: STAT.size]) if result == 0 else result

    def names(self, path: bytes, size: int = 4096) -> list[bytes]:
        fd = self.open(path, 0o200000)
        found = []
        while (done := self.call("getdents64", fd, Memory.BASE, size)) > 0:
            at = 0
            while at < done:
                length = int.from_bytes(self.memory.data[at + 16 : at + 18], "little")
                found.append(bytes(self.memory.data[at + 19 : at + length]).split(b"\0")[0])
                at += length
        assert done == 0
        self.call("close", fd)
        return found


__all__ = ["AT_FDCWD", "Machine", "Memory", "ThreadGroup", "WouldBlock"]

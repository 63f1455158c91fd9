"""Random sequences of file calls give the same results and trees as on a host tmpfs, as root and as a user.

The host side runs in a forked child that has changed its root to a fresh directory, so that absolute paths, '..' and
symbolic links mean the same on both sides.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import random
import shutil
import struct
import tempfile
from typing import Any

import pytest

from protocol.abi.numbers_amd64 import NUMBERS
from protocol.abi.stat_h import STAT
from tests.unit.sentry.syscalls_files.harness import AT_FDCWD, Machine, Memory

Step = tuple[Any, ...]
USER = 1000


def _steps(rng: random.Random, count: int) -> list[Step]:
    names = [b"a", b"b", b"c", b"d"]

    def path() -> bytes:
        parts = [rng.choice([*names, *names, b"..", b"."]) for _ in range(rng.choice([1, 1, 2, 2, 3]))]
        return (b"/" if rng.random() < 0.2 else b"") + b"/".join(parts) + (b"/" if rng.random() < 0.08 else b"")

    def flags() -> int:
        value = rng.choice([0, 1, 2])
        for bit, chance in ((0o100, 0.5), (0o200, 0.2), (0o1000, 0.2), (0o200000, 0.1), (0o400000, 0.15)):
            if rng.random() < chance:
                value |= bit
        return value | 0o4000 | (0o10000000 if rng.random() < 0.05 else 0)  # FIFOs must not block

    def mode() -> int:
        return rng.choice([0o777, 0o755, 0o700, 0o644, 0o600, 0o500, 0o1777, 0o4755, 0o2755, 0o000])

    at = AT_FDCWD
    makers = [
        lambda: ("mkdir", path(), mode()),
        lambda: ("mkdir", path(), 0o777),
        lambda: ("rmdir", path()),
        lambda: ("unlink", path()),
        lambda: ("rename", path(), path()),
        lambda: ("renameat2", at, path(), at, path(), rng.choice([0, 1, 2])),
        lambda: ("link", path(), path()),
        lambda: ("linkat", at, path(), at, path(), 0x400),
        lambda: ("symlink", path(), path()),
        lambda: ("stat", path()),
        lambda: ("lstat", path()),
        lambda: ("readlink", path()),
        lambda: ("chmod", path(), mode()),
        lambda: ("chdir", path()),
        lambda: ("truncate", path(), rng.randrange(9000)),
        lambda: ("open", path(), flags(), mode(), rng.randbytes(rng.randrange(1, 50))),
        lambda: ("open", path(), 0o4102, 0o666, rng.randbytes(rng.randrange(1, 5000))),
        lambda: ("list", path()),
        lambda: ("getcwd",),
        lambda: ("access", path(), rng.randrange(8)),
        lambda: ("mknod", path(), rng.choice([0o100644, 0o010644]), 0),
    ]
    return [rng.choice(makers)() for _ in range(count)]


class Host:
    """The same steps by real system calls."""

    def __init__(self) -> None:
        self.syscall = ctypes.CDLL(None, use_errno=True).syscall
        self.syscall.restype = ctypes.c_long
        self.buffer = ctypes.create_string_buffer(1 << 16)

    def call(self, name: str, *args: int | bytes) -> int:
        values = [ctypes.c_char_p(arg) if isinstance(arg, bytes) else ctypes.c_long(arg) for arg in args]
        result = int(self.syscall(ctypes.c_long(NUMBERS[name]), *values))
        return -ctypes.get_errno() if result == -1 else result

    def into(self, name: str, *args: int | bytes) -> int:
        """A call whose buffer argument is written None."""
        address = ctypes.addressof(self.buffer)
        return self.call(name, *[address if arg == -7777 else arg for arg in args])

    def bytes(self, count: int) -> bytes:
        return self.buffer.raw[:count]


class Guest:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def call(self, name: str, *args: int | bytes) -> int:
        return self.machine.call(name, *args)

    def into(self, name: str, *args: int | bytes) -> int:
        return self.machine.call(name, *[Memory.BASE if arg == -7777 else arg for arg in args])

    def bytes(self, count: int) -> bytes:
        return bytes(self.machine.memory.data[:count])


def _shown(raw: bytes) -> tuple[int, ...]:
    """What must agree of a struct stat: nlink, mode, uid, gid, size, blocks."""
    fields = STAT.unpack(raw)
    return fields[2], fields[3], fields[4], fields[5], fields[7], fields[9]


def run(side: Host | Guest, step: Step) -> Any:
    kind = step[0]
    if kind in ("stat", "lstat"):
        result = side.into(kind, step[1], -7777)
        return _shown(side.bytes(STAT.size)) if result == 0 else result
    if kind == "readlink":
        result = side.into("readlink", step[1], -7777, 200)
        return side.bytes(result) if result >= 0 else result
    if kind == "getcwd":
        result = side.into("getcwd", -7777, 4000)
        return side.bytes(result) if result >= 0 else result
    if kind == "list":
        return _list(side, step[1])
    if kind == "open":
        fd = side.call("open", *step[1:4])
        if fd < 0:
            return fd
        written = side.call("write", fd, step[4], len(step[4]))
        got = side.into("pread64", fd, -7777, 6000, 0)
        data = side.bytes(got) if got > 0 else b""
        result = side.into("fstat", fd, -7777)
        shown = _shown(side.bytes(STAT.size)) if result == 0 else result
        flags = side.call("fcntl", fd, 3, 0)
        side.call("close", fd)
        return written, got, data, shown, flags
    return side.call(*step)


def _list(side: Host | Guest, path: bytes) -> Any:
    fd = side.call("open", path, 0o200000, 0)
    if fd < 0:
        return fd
    names = []
    while (done := side.into("getdents64", fd, -7777, 300)) > 0:
        raw, at = side.bytes(done), 0
        while at < done:
            length, kind = struct.unpack_from("<HB", raw, at + 16)
            names.append((raw[at + 19 : at + length].split(b"\0")[0], kind))
            at += length
    side.call("close", fd)
    return done, sorted(names)


def _host_results(steps: list[Step], uid: int) -> list[Any]:
    """All results of a child that runs the steps below a fresh root."""
    directory = tempfile.mkdtemp(dir="/dev/shm")
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receive)
            os.chmod(directory, 0o755)
            os.chown(directory, uid, uid)
            os.chroot(directory)
            os.chdir("/")
            os.umask(0o022)
            if uid:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            host = Host()
            with os.fdopen(send, "wb") as out:
                pickle.dump([run(host, step) for step in steps], out)
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as source:
        results: list[Any] = pickle.load(source)
    os.waitpid(child, 0)
    shutil.rmtree(directory)
    return results


def _compare(seed: int, uid: int, count: int = 120) -> None:
    rng = random.Random(seed)
    steps = _steps(rng, count) + [("chdir", b"/")] + [("list", name) for name in (b"/", b"/a", b"/b", b"/c", b"/d")]
    expected = _host_results(steps, uid)
    guest = Guest(Machine(uid=uid, root_options=b"mode=755,uid=%d,gid=%d" % (uid, uid)))
    for index, (step, want) in enumerate(zip(steps, expected, strict=True)):
        got = run(guest, step)
        assert got == want, f"step {index} {step}: host {want}, here {got}; before: {steps[max(0, index - 12) : index]}"


@pytest.mark.parametrize("seed", range(60))
def test_random_calls_as_root_agree_with_the_host(seed: int) -> None:
    _compare(seed, 0)


@pytest.mark.parametrize("seed", range(60))
def test_random_calls_as_a_user_agree_with_the_host(seed: int) -> None:
    _compare(seed + 1000, USER)

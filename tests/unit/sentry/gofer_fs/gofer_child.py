"""A real gofer in a forked child, and the little of a kernel that a superblock needs. For tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from services.gofer.app import serve
from services.gofer.backends.host_directory import HostDirectory
from services.sentry.filesystems.gofer.superblock import EXCLUSIVE, GoferSuperblock, make_gofer
from services.sentry.kernel.credentials import Credentials

ROOT = Credentials()


class Log:
    """Collects warnings."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, *args: object) -> None:
        self.lines.append(text % args)


class TinyKernel(SimpleNamespace):
    """clock, parts, log: what vfs/superblock.py takes from a kernel."""

    def __init__(self) -> None:
        super().__init__(clock=SimpleNamespace(realtime_ns=time.time_ns, monotonic_ns=time.monotonic_ns), log=Log())
        self.parts: dict[Any, Any] = {}

    def part(self, factory: Any) -> Any:
        if factory not in self.parts:
            self.parts[factory] = factory(self)
        return self.parts[factory]


def start_child(path: str, read_only: bool = True) -> tuple[int, socket.socket]:
    """Fork a gofer that exports `path` as b''. Returns (its pid, our end)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            status = serve(theirs, HostDirectory({b"": (path, read_only)}))
        finally:
            os._exit(status)
    theirs.close()
    return pid, ours


class Counter:
    """Counts the round trips of a client: `with Counter(gofer) as trips: ...; trips.count`."""

    def __init__(self, gofer: GoferSuperblock) -> None:
        self.client: Any = gofer.client
        self.count = 0

    def __enter__(self) -> Counter:
        original = self.client._call

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return original(*args, **kwargs)

        self.client._call = counted
        return self

    def __exit__(self, *exception: object) -> None:
        del self.client._call


@contextmanager
def gofer_of(
    path: object, *, read_only: bool = True, policy: str = EXCLUSIVE, kernel: Any = None
) -> Iterator[GoferSuperblock]:
    """A mounted gofer of a host directory; the child is gone afterwards."""
    pid, sock = start_child(str(path), read_only)
    gofer = None
    try:
        gofer = make_gofer(kernel or TinyKernel(), sock, policy=policy)
        yield gofer
    finally:
        if gofer is not None:
            gofer.release()
        sock.close()
        stop(pid)


def stop(pid: int) -> None:
    """Kill and reap one child."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass

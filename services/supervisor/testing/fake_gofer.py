"""A Gofer that serves nothing: it keeps its process, confined like the real one, until its socket closes.

On a line `list` it answers with what it can see, so that tests can look at its root.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping
from typing import Any, NoReturn


def run_in_child(
    sock: socket.socket,
    exports: Mapping[bytes, tuple[str, bool]],
    seal: bool = True,
    ready_fd: int | None = None,
    *,
    backend_name: str = "directory",
    keep_capabilities: Collection[int] = (),
) -> NoReturn:
    """The contract of services.gofer.app.run_in_child."""
    if ready_fd is not None:
        os.write(ready_fd, b"R")
        os.close(ready_fd)
    while data := sock.recv(4096):
        if data == b"list":
            sock.sendall(repr(_view(exports, keep_capabilities)).encode())
    os._exit(0)


def _view(exports: Mapping[bytes, tuple[str, bool]], kept: Collection[int]) -> dict[str, Any]:
    root, read_only = next(iter(exports.values()))
    return {
        "root": sorted(os.listdir("/"))[:40],
        "exports": {name.decode(): _entries(path) for name, (path, _) in exports.items()},
        "proc": _entries(root + "/proc"),
        "kept": sorted(kept),
        "effective": _effective(),
        "no_new_privs": _no_new_privs(),
        "pid": os.getpid(),
        "uid": os.getuid(),
        "read_only": read_only,
        "file_system_read_only": bool(os.statvfs(root).f_flag & os.ST_RDONLY),
    }


def _entries(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return [type(error).__name__]


def _effective() -> list[int]:
    from services.supervisor.launch.host_calls_unsafe import HostCalls

    mask = HostCalls().effective_capabilities()
    return [number for number in range(41) if mask >> number & 1]


def _no_new_privs() -> int:
    from services.supervisor.launch.host_calls_unsafe import HostCalls

    return HostCalls().prctl(39)  # PR_GET_NO_NEW_PRIVS

"""/proc/locks: the record locks and flocks of files that are open (proc_locks(5))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from protocol.abi.fcntl_h import F_WRLCK
from services.sentry.filesystems.proc.net import open_tables
from services.sentry.vfs.file_locks import EOF, FileLocks

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.inode import Inode

__all__ = ["locks"]


def locks(reader: Task) -> bytes:
    """One line a lock: number, kind, mode, pid, device and inode, first and last byte."""
    lines: list[str] = []
    for inode, holders in _locked_inodes(reader).items():
        device = inode.superblock.dev
        where = f"{os.major(device):02x}:{os.minor(device):02x}:{inode.ino}"
        found = inode.locks
        assert isinstance(found, FileLocks)
        for lock in found.records:
            kind = "OFDLCK" if lock.pid < 0 else "POSIX "
            mode = "WRITE" if lock.kind == F_WRLCK else "READ "
            last = "EOF" if lock.end >= EOF else str(lock.end - 1)
            lines.append(f"{kind} ADVISORY  {mode} {lock.pid} {where} {lock.start} {last}")
        for owner, exclusive in found.flocks.items():
            mode = "WRITE" if exclusive else "READ "
            lines.append(f"FLOCK  ADVISORY  {mode} {holders.get(id(owner), 0)} {where} 0 EOF")
    return "".join(f"{number}: {line}\n" for number, line in enumerate(lines, 1)).encode()


def _locked_inodes(reader: Task) -> dict[Inode, dict[int, int]]:
    """Inodes with locks -> id of an open file -> pid of a process that has it."""
    found: dict[Inode, dict[int, int]] = {}
    pids = {id(task.files): task.group.pid for task in reader.kernel.tasks.values()}
    for table in open_tables(reader.kernel):
        for _, file in table.items():
            if isinstance(file.inode.locks, FileLocks):
                found.setdefault(file.inode, {})[id(file)] = pids[id(table)]
    return found

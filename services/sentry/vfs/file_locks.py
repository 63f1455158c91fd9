"""File locks: POSIX record locks and open-file-description locks (fcntl_locking(2)), BSD locks (flock(2)).

One `FileLocks` per inode, made at the first lock and kept in `inode.locks`. A record lock belongs to a thread group's
descriptor table (POSIX: any close of the file by the process drops it) or to an open file description (OFD); a BSD lock
belongs to a description. Ranges are [start, end), `EOF` for "to the end". Waiting is the caller's: `blocker` says who
stands in the way, `queue` is woken at every release.
Deadlock (EDEADLK, POSIX locks only): `LockWaits` maps a blocked owner to the one it waits for, followed to its end.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from protocol.abi.fcntl_h import F_UNLCK, F_WRLCK
from services.sentry.errors import LinuxError
from services.sentry.kernel.waiter import WaitQueue

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["EOF", "FileLocks", "LockWaits", "RecordLock", "drop_description_locks", "drop_owner_locks", "locks_of"]

EOF: Final = 1 << 63
"""One past the last byte a lock can cover."""


class RecordLock(NamedTuple):
    """[start, end) held by `owner` (an identity); `pid` is what F_GETLK reports, -1 for a description's lock."""

    start: int
    end: int
    kind: int
    owner: Any
    pid: int


class FileLocks:
    """The locks of one inode."""

    __slots__ = ("flocks", "queue", "records")

    def __init__(self) -> None:
        self.records: list[RecordLock] = []
        self.flocks: dict[object, bool] = {}  # description -> exclusive
        self.queue = WaitQueue()

    # --- record locks ---
    def blocker(self, start: int, end: int, kind: int, owner: object) -> RecordLock | None:
        """The first lock of another owner that conflicts, or None."""
        for lock in self.records:
            if lock.owner is not owner and lock.start < end and start < lock.end and F_WRLCK in (kind, lock.kind):
                return lock
        return None

    def put(self, start: int, end: int, kind: int, owner: object, pid: int) -> None:
        """Set the owner's state of a range (F_UNLCK: none): splits and joins its other locks. No conflict stands."""
        kept: list[RecordLock] = []
        for lock in self.records:
            if lock.owner is not owner or lock.end < start or lock.start > end:
                kept.append(lock)
            elif lock.kind == kind:  # same kind, overlapping or touching: one lock
                start, end = min(start, lock.start), max(end, lock.end)
            else:
                if lock.start < start:
                    kept.append(lock._replace(end=start))
                if lock.end > end:
                    kept.append(lock._replace(start=end))
        if kind != F_UNLCK:
            kept.append(RecordLock(start, end, kind, owner, pid))
            kept.sort(key=lambda lock: lock.start)
        self.records = [lock for lock in kept if lock.start < lock.end]
        self.queue.wake()

    def drop_records(self, owner: object) -> None:
        """Everything `owner` holds goes."""
        kept = [lock for lock in self.records if lock.owner is not owner]
        if len(kept) != len(self.records):
            self.records = kept
            self.queue.wake()

    # --- flock(2) ---
    def flock_blocked(self, owner: object, exclusive: bool) -> bool:
        """Whether another description holds a conflicting BSD lock."""
        return any(held is not owner and (exclusive or mode) for held, mode in self.flocks.items())

    def flock(self, owner: object, exclusive: bool) -> None:
        weaker = self.flocks.get(owner) is True and not exclusive
        self.flocks[owner] = exclusive
        if weaker:
            self.queue.wake()

    def unflock(self, owner: object) -> None:
        if self.flocks.pop(owner, None) is not None:
            self.queue.wake()


class LockWaits:
    """One per kernel: which owner of POSIX locks waits for which (a process waits for one lock per thread at most)."""

    __slots__ = ("waiting",)

    def __init__(self, kernel: Kernel) -> None:
        self.waiting: dict[object, object] = {}

    def begin(self, owner: object, other: object) -> None:
        """Note that `owner` waits for `other`. EDEADLK: `other` waits, directly or not, for `owner`."""
        step: object | None = other
        for _ in range(len(self.waiting) + 1):
            step = self.waiting.get(step)
            if step is None:
                break
            if step is owner:
                raise LinuxError(errno.EDEADLK)
        self.waiting[owner] = other

    def end(self, owner: object) -> None:
        self.waiting.pop(owner, None)


def locks_of(inode: Inode) -> FileLocks:
    """The inode's locks, made when there are none yet."""
    locks = inode.locks
    if not isinstance(locks, FileLocks):
        locks = inode.locks = FileLocks()
    return locks


def drop_owner_locks(inode: Inode, owner: object) -> None:
    """close(2): the record locks of `owner` (a descriptor table) on this file go."""
    locks = inode.locks
    if isinstance(locks, FileLocks):
        locks.drop_records(owner)


def drop_description_locks(file: OpenFile) -> None:
    """The last reference of a description went: its OFD and BSD locks go."""
    locks = file.inode.locks
    if isinstance(locks, FileLocks):
        locks.drop_records(file)
        locks.unflock(file)

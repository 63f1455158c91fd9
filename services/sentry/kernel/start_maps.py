"""What programs map when they start: the same files each time (a dynamic linker's cache, libraries).

So their names are remembered, by the program's, and execve(2) hands these files in together with those that it maps
itself (mm/opened_file.py): one at a time later costs several times as much. Names alone, and but a guess: whoever
starts a program gets what these names lead to for him, if he may read it, and opens it himself before he knows of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from platforms.systrap.change_log import NAME_MOST, STEPS_MOST
from services.sentry.vfs.permissions import READ, allowed

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.inode import Donated, Inode

__all__ = ["FirstCalls", "StartMaps", "host_file"]

_MOST_PROGRAMS: Final = 256
_MOST_CALLS: Final = STEPS_MOST


def host_file(inode: Inode | None, cred: Credentials) -> Donated | None:
    """The host file, at hand, of a regular file that `cred` may read; None: it is none."""
    if inode is None or not inode.is_regular or not allowed(inode, cred, READ):
        return None
    return inode.donated()


class FirstCalls:
    """Of a program: the first calls that it makes with path names, as far as they are foretold (kernel/first_paths.py).

    `calls`: (number, name, flags or mode) in their order.
    """

    __slots__ = ("_settled", "calls")

    def __init__(self) -> None:
        self.calls: list[tuple[int, bytes, int]] = []
        self._settled = False

    def note(self, position: int, call: tuple[int, bytes, int]) -> bool:
        """The program made `call`, and `position` others of these before; whether that is worth to be remembered."""
        calls = self.calls
        if position < len(calls):
            if calls[position] == call:
                return True
            self.settle(position)
            return False
        if self._settled or position >= _MOST_CALLS or call[1][:1] != b"/" or len(call[1]) > NAME_MOST:
            return False
        calls.append(call)
        return True

    def settle(self, count: int) -> None:
        """Only the first `count` are the same each time."""
        del self.calls[count:]
        self._settled = True


class StartMaps:
    """The names that programs of a sandbox map, as far as is known."""

    __slots__ = ("_calls", "_names")

    def __init__(self) -> None:
        self._names: dict[bytes, list[bytes]] = {}
        self._calls: dict[bytes, FirstCalls] = {}

    def names(self, program: bytes) -> list[bytes]:
        """Of the files that `program` maps: to be added to, and taken from."""
        names = self._names.get(program)
        if names is None:
            if len(self._names) >= _MOST_PROGRAMS:
                self._names.clear()
            names = self._names[program] = []
        return names

    def first_calls(self, program: bytes) -> FirstCalls:
        """Of `program`: to be added to."""
        calls = self._calls.get(program)
        if calls is None:
            if len(self._calls) >= _MOST_PROGRAMS:
                self._calls.clear()
            calls = self._calls[program] = FirstCalls()
        return calls

    def find(self, task: Task, program: bytes) -> list[tuple[Donated, bytes]]:
        """Host files, with their names, that are at hand and that `task` could open for reading now."""
        names, fs, cred = self._names.get(program), task.fs, task.cred
        if not names or fs.cache_cred is not cred:
            return []
        found = []
        for name in names:
            entry = fs.followed.get(name)
            if entry is None:
                continue
            _, dentry, seq = entry
            host = host_file(dentry.inode, cred) if dentry.seq == seq else None
            if host is not None:
                found.append((host, name))
        return found

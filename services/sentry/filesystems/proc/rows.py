"""What a row of the tables in tree.py says about one file of procfs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["SystemRow", "TaskRow", "constant"]


class SystemRow(NamedTuple):
    """render(reader): the contents for the task that reads. store(writer, data): one write(2); None: read-only."""

    render: Callable[[Task], bytes]
    mode: int = 0o444
    store: Callable[[Task, bytes], None] | None = None


class TaskRow(NamedTuple):
    """render(reader, target): the contents about `target`. store(writer, target, data): one write(2).

    guarded: only who may ptrace the target (ptrace(2), "Ptrace access mode checking") may open it; EACCES otherwise.
    group_only: below /proc/PID but not below /proc/PID/task/TID; thread_only: the reverse.
    """

    render: Callable[[Task, Task], bytes]
    mode: int = 0o444
    guarded: bool = False
    store: Callable[[Task, Task, bytes], None] | None = None
    group_only: bool = False
    thread_only: bool = False


def constant(text: bytes) -> Callable[[Task], bytes]:
    """A render function for a file that always says the same."""

    def render(reader: Task) -> bytes:
        return text

    return render

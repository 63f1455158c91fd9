"""Lines of a system-call trace, in the manner of strace(1): `[pid] name(arguments) = result`.

Arguments are shown by the kinds that their row declares (syscalls/table.py). Guest memory is read again for what a
pointer leads to, so what a racing thread makes of it may be shown instead of what the call saw: this is for eyes only.
`Tracer` owns the calls in progress. Life: `call` when a handler returned, `end` when a call that waited has its result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi.errno_h import name_of
from protocol.abi.numbers_amd64 import NAMES
from services.sentry.errors import LinuxError, Restart
from services.sentry.kernel.waiter import NoReturn, StubOp, Wait

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.syscalls.table import Row

__all__ = ["Tracer", "argument", "result_text"]

SHOWN_BYTES: Final = 32  # of a buffer, as strace -s
SHOWN_STRINGS: Final = 16  # of argv and envp
AT_FDCWD: Final = -100
_RESTARTS: Final = (Restart.SYS, Restart.NOINTR, Restart.NOHAND, Restart.BLOCK)
_ADDRESS_RESULT: Final = frozenset(("mmap", "mremap", "brk", "shmat"))


def _quoted(data: bytes, limit: int = SHOWN_BYTES) -> str:
    text = repr(data[:limit])[1:]
    if text[0] == "'":
        text = '"' + text[1:-1].replace('"', '\\"') + '"'
    return text + "..." if len(data) > limit else text


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value


def _fd(task: Task, value: int) -> str:
    number = _signed(value)
    return "AT_FDCWD" if number == AT_FDCWD else str(number)


def _path(task: Task, value: int) -> str:
    if not value:
        return "NULL"
    try:
        return _quoted(task.mm.read_cstring(value, 4096), 4096)
    except LinuxError:
        return hex(value)


def _strings(task: Task, value: int) -> str:
    try:
        pointers = task.mm.read_pointers(value, SHOWN_STRINGS + 1)
    except LinuxError:
        return hex(value)
    shown = ", ".join(_path(task, pointer) for pointer in pointers[:SHOWN_STRINGS])
    return f"[{shown}{', ...' if len(pointers) > SHOWN_STRINGS else ''}]"


def _offset(_task: Task, value: int) -> str:
    return str(value - (1 << 64) if value >> 63 else value)


def _number(_task: Task, value: int) -> str:
    return str(_signed(value) if value < 1 << 32 or value >= (1 << 64) - (1 << 31) else value)


def _hexadecimal(_task: Task, value: int) -> str:
    return hex(value) if value else "0"


def _pointer(_task: Task, value: int) -> str:
    return hex(value) if value else "NULL"


def _mode(_task: Task, value: int) -> str:
    return f"0{value & 0xFFFFFFFF:o}"


_KINDS: Final[dict[str, Callable[[Task, int], str]]] = {
    "argv": _strings,
    "count": _number,
    "dirfd": _fd,
    "fd": _fd,
    "flags": _hexadecimal,
    "int": _number,
    "mmap_flags": _hexadecimal,
    "mode": _mode,
    "offset": _offset,
    "path": _path,
    "pid": _number,
    "prot": _hexadecimal,
    "signal": _number,
    "size": _number,
}


def argument(task: Task, kind: str, value: int, length: int) -> str:
    """One argument; `length`: how many bytes a buffer has, as far as is known."""
    if kind in ("buf", "buf_out") and value:
        try:
            data: bytes = task.mm.read(value, min(length, SHOWN_BYTES + 1))
        except LinuxError:
            return hex(value)
        return _quoted(data)
    return _KINDS.get(kind, _pointer)(task, value)


def result_text(name: str, result: int) -> str:
    """What follows the equals sign."""
    if -4096 < result < 0:
        if -result in _RESTARTS:
            return "? (to be restarted after a signal)"
        return f"-1 {name_of(-result)}"
    return hex(result) if name in _ADDRESS_RESULT else str(result)


class Tracer:
    """See the module. `write` takes one line without its end."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write

    def call(self, task: Task, row: Row | None, number: int, args: tuple[int, ...], outcome: Outcome) -> None:
        """A handler returned `outcome`."""
        name = row.name if row is not None else NAMES.get(number, f"syscall_{number:#x}")
        kinds = row.args.split() if row is not None else ["ptr"] * 6
        if isinstance(outcome, Wait):
            # what the kernel fills in is not there yet
            kinds = ["ptr" if kind == "buf_out" else kind for kind in kinds]
        shown = []
        for index, kind in enumerate(kinds):
            length = args[index + 1] if index + 1 < len(kinds) else 0
            if kind == "buf_out":
                length = outcome if isinstance(outcome, int) and outcome >= 0 else 0
            shown.append(argument(task, kind, args[index], length))
        text = f"{name}({', '.join(shown)}"
        if isinstance(outcome, int):
            self._line(task, f"{text}) = {result_text(name, outcome)}")
        elif isinstance(outcome, NoReturn):
            self._line(task, f"{text}) = ?")
        else:
            waits = not isinstance(outcome, StubOp)
            if waits:
                self._line(task, f"{text} <unfinished ...>")
            task.traced = (name, f"<... {name} resumed>)" if waits else f"{text})")

    def end(self, task: Task, outcome: Outcome) -> None:
        """A call of `task` that `call` showed as waiting ended with `outcome`."""
        if isinstance(outcome, Wait):
            return
        waiting, task.traced = task.traced, None
        if waiting is not None:
            name, text = waiting
            self._line(task, f"{text} = {result_text(name, outcome) if isinstance(outcome, int) else '0'}")

    def _line(self, task: Task, text: str) -> None:
        self.write(f"[{task.tid:5}] {text}")

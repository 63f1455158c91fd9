"""Lines of a trace: arguments by kind, results by name, calls that wait."""

from types import SimpleNamespace
from typing import Any, cast

from services.sentry.errors import LinuxError
from services.sentry.kernel.waiter import NO_RETURN, StubOp, Wait
from services.sentry.strace.format import Tracer, result_text
from services.sentry.syscalls.table import Row


class _Memory:
    data = b"\0" * 16 + b"/etc/hosts\0" + b"x" * 100

    def read(self, addr: int, count: int) -> bytes:
        if addr + count > len(self.data):
            raise LinuxError(14)
        return self.data[addr : addr + count]

    def read_cstring(self, addr: int, limit: int) -> bytes:
        return self.data[addr : self.data.index(b"\0", addr)]


class _Task(SimpleNamespace):
    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


def _traced() -> tuple[Tracer, Any, list[str]]:
    lines: list[str] = []
    return Tracer(lines.append), cast(Any, _Task(tid=7, mm=_Memory())), lines


def _row(name: str, args: str) -> Row:
    return Row(name, lambda *_: 0, args)


def test_path_and_failure_are_shown_by_name() -> None:
    tracer, task, lines = _traced()
    tracer.call(task, _row("openat", "fd path flags mode"), 257, (0xFFFFFF9C, 16, 0x80000, 0o644, 0, 0), -2)
    assert lines == ['[    7] openat(AT_FDCWD, "/etc/hosts", 0x80000, 0644) = -1 ENOENT']


def test_buffer_shows_what_was_transferred() -> None:
    tracer, task, lines = _traced()
    tracer.call(task, _row("read", "fd buf_out count"), 0, (3, 17, 4096, 0, 0, 0), 3)
    tracer.call(task, _row("write", "fd buf count"), 1, (3, 27, 50, 0, 0, 0), 50)
    assert lines[0] == '[    7] read(3, "etc", 4096) = 3'
    assert lines[1] == f'[    7] write(3, "{"x" * 32}"..., 50) = 50'


def test_waiting_call_is_shown_twice_and_posted_operation_once() -> None:
    tracer, task, lines = _traced()
    tracer.call(task, _row("pause", ""), 34, (0,) * 6, Wait())
    tracer.end(task, -512)
    tracer.call(task, _row("munmap", "ptr size"), 11, (0x1000, 4096, 0, 0, 0, 0), StubOp(lambda _: None))
    tracer.end(task, 0)
    tracer.end(task, 0)  # nothing is waiting any more
    assert lines == [
        "[    7] pause( <unfinished ...>",
        "[    7] <... pause resumed>) = ? (to be restarted after a signal)",
        "[    7] munmap(0x1000, 4096) = 0",
    ]


def test_unknown_call_and_call_without_return() -> None:
    tracer, task, lines = _traced()
    tracer.call(task, None, 9999, (1, 0, 0, 0, 0, 0), -38)
    tracer.call(task, _row("exit_group", "int"), 231, (0xFFFFFFFFFFFFFFFF, 0, 0, 0, 0, 0), NO_RETURN)
    assert lines == [
        "[    7] syscall_0x270f(0x1, NULL, NULL, NULL, NULL, NULL) = -1 ENOSYS",
        "[    7] exit_group(-1) = ?",
    ]


def test_addresses_are_hexadecimal() -> None:
    assert result_text("mmap", 0x7000) == "0x7000"
    assert result_text("read", 0x7000) == "28672"

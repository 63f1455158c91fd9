"""Small copies out: only what lies in plain writable memory travels with the answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from services.sentry.errors import LinuxError
from services.sentry.mm.user_memory import CARRIED_MAX, UserMemory


class Windows(UserMemory):
    """Two areas, [0x1000, 0x2000) and [0x8000, 0x9000); `asked` counts how often they are looked up."""

    AREAS = ((0x1000, 0x2000), (0x8000, 0x9000))

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.fast: Any = SimpleNamespace()
        self.flushed: list[tuple[int, bytes]] = []

    def _open_window(self, addr: int, count: int) -> bool:
        self.asked += 1
        for low, high in self.AREAS:
            if low <= addr and addr + count <= high:
                self.window_low, self.window_high = low, high
                return True
        return False

    def flush(self) -> None:
        assert self.pending is not None
        self.flushed.append((self.pending_addr, self.pending))
        self.pending = None


def test_two_windows_are_used_by_turns_without_asking() -> None:
    mm = Windows()
    for turn in range(6):
        mm.write(0x1100 if turn % 2 else 0x8100, b"abc")
    assert mm.asked == 2
    assert (mm.pending_addr, mm.pending) == (0x1100, b"abc")
    assert len(mm.flushed) == 5


def test_a_change_of_the_mappings_closes_both() -> None:
    mm = Windows()
    mm.write(0x1100, b"abc")
    mm.write(0x8100, b"abc")
    mm.close_windows()
    mm.write(0x1100, b"abc")
    mm.write(0x8100, b"abc")
    assert mm.asked == 4


def test_the_answer_to_a_trapped_call_carries_a_copy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    mm = Windows()
    mm.trapped, mm.fast = mm.fast, None
    mm.write(0x1100, b"abc")
    assert (mm.pending_addr, mm.pending) == (0x1100, b"abc")
    mm.write(0x1200, b"def")
    assert mm.flushed == [(0x1100, b"abc")]
    mm.space = SimpleNamespace(vm_pid=-1)
    for read in (lambda: mm.read(0x1200, 3), lambda: mm.read_cstring(0x1200)):  # they would see it
        mm.write(0x1200, b"def")
        mm.flushed.clear()
        with pytest.raises(LinuxError):
            read()
        assert mm.flushed == [(0x1200, b"def")]


def test_what_ends_beyond_the_window_or_is_large_does_not_wait() -> None:
    mm = Windows()
    mm.write(0x1100, b"x")
    assert mm.pending == b"x"
    mm.pending = None
    mm.space = SimpleNamespace(vm_pid=-1)  # there is no such process: a host copy fails
    for addr, count in ((0x1FFF, 2), (0x1100, CARRIED_MAX + 1), (0x3000, 1)):
        with pytest.raises(LinuxError):
            mm.write(addr, bytes(count))
        assert mm.pending is None

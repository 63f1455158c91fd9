"""What a patched call site brought along: taken from its slot only for what it is, else from guest memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from services.sentry.mm import user_memory
from services.sentry.mm.user_memory import UserMemory

BUFFER, PATH = 0x5000, 0x6000


class Memory(UserMemory):
    """Guest memory is all 'g'."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
        super().__init__()
        slot = bytearray(64)
        slot[8 : 8 + len(data)] = data
        u64: Any = [len(data), PATH, BUFFER]
        self.fast = SimpleNamespace(u64=u64, in_length_i=0, args_i=1, in_at=8, arena_map=bytes(slot))
        self.space = SimpleNamespace(vm_pid=0)
        self.brought = BUFFER

        def vm_read(pid: int, addr: int, target: Any, count: int) -> int:
            user_memory._scratch[:count] = (b"g" * (count - 1) + b"\0")[:count]
            return count

        monkeypatch.setattr(user_memory, "_vm_read", vm_read)


def test_the_buffer_that_was_brought_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Memory(monkeypatch, b"abc").read(BUFFER, 3) == b"abc"


@pytest.mark.parametrize(("addr", "count"), [(BUFFER, 2), (BUFFER, 4), (BUFFER + 1, 3)])
def test_what_was_not_brought_is_fetched(monkeypatch: pytest.MonkeyPatch, addr: int, count: int) -> None:
    assert b"a" not in Memory(monkeypatch, b"abc").read(addr, count)


def test_what_an_earlier_call_brought_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, b"abc\0")
    memory.brought = -1
    assert b"a" not in memory.read(BUFFER, 4)
    assert b"a" not in memory.read_cstring(PATH)


@pytest.mark.parametrize("addr", [PATH, BUFFER])
def test_a_path_is_the_first_or_second_argument(monkeypatch: pytest.MonkeyPatch, addr: int) -> None:
    assert Memory(monkeypatch, b"abc\0").read_cstring(addr) == b"abc"


def test_a_path_that_is_neither_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert b"a" not in Memory(monkeypatch, b"abc\0").read_cstring(BUFFER + 8)


@pytest.mark.parametrize("size", [4, 8])
def test_a_number_that_was_brought_is_not_fetched(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    data = b"abcdefgh"[:size]
    memory = Memory(monkeypatch, data)
    read = memory.read_u32 if size == 4 else memory.read_u64
    assert read(BUFFER) == int.from_bytes(data, "little")
    assert read(BUFFER + 1) == int.from_bytes((b"g" * size)[:-1], "little")
    memory.fast = None
    assert read(BUFFER) == int.from_bytes((b"g" * size)[:-1], "little")

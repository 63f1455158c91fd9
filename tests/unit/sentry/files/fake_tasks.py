"""A kernel with a virtual clock, tasks with flat memory, and calls driven as the dispatcher drives them."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.clocks import VirtualClock
from services.sentry.kernel.kernel import Kernel
from services.sentry.kernel.waiter import Outcome, Wait

MEMORY = 1 << 20


class Config:
    hostname = "test"
    cpu_count = 2
    memory_bytes = 1 << 30


class FlatMemory:
    """Addresses 4096..1 MiB are mapped; the rest is EFAULT."""

    fast: Any = None  # no call comes from a patched site

    def __init__(self) -> None:
        self.bytes = bytearray(MEMORY)

    def _check(self, addr: int, count: int) -> None:
        if addr < 4096 or addr + count > MEMORY:
            raise LinuxError(errno.EFAULT)

    def read(self, addr: int, count: int) -> bytes:
        self._check(addr, count)
        return bytes(self.bytes[addr : addr + count])

    def write(self, addr: int, data: bytes | memoryview) -> None:
        self._check(addr, len(data))
        self.bytes[addr : addr + len(data)] = data

    def read_together(self, pieces: Sequence[tuple[int, int]]) -> list[bytes]:
        return [self.read(addr, count) for addr, count in pieces]

    def write_together(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        for addr, data in pieces:
            self.write(addr, data)

    def read_into(self, addr: int, buffer: memoryview) -> int:
        buffer[:] = self.read(addr, len(buffer))
        return len(buffer)

    def read_u32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little")

    def read_u64(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 8), "little")

    def write_u32(self, addr: int, value: int) -> None:
        self.write(addr, value.to_bytes(4, "little"))

    def write_u64(self, addr: int, value: int) -> None:
        self.write(addr, value.to_bytes(8, "little"))

    def read_iovecs(self, addr: int, count: int) -> list[tuple[int, int]]:
        return [(self.read_u64(addr + 16 * i), self.read_u64(addr + 16 * i + 8)) for i in range(count)]


class Guest:
    """One task and a bump allocator in its memory. Calls give a result, a negative errno, or None while they wait."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel = kernel or Kernel(Config(), VirtualClock())
        self.task: Any = self.kernel.new_init()
        self.mm = FlatMemory()
        self.task.mm = self.mm
        self.next = 8192
        self.result: int | None = None

    def alloc(self, size: int) -> int:
        at = self.next
        self.next += (size + 15) & ~15
        if self.next > MEMORY:
            self.next = 8192
            return self.alloc(size)
        return at

    def put(self, data: bytes) -> int:
        at = self.alloc(len(data) or 1)
        self.mm.write(at, data)
        return at

    def get(self, at: int, count: int) -> bytes:
        return self.mm.read(at, count)

    def call(self, handler: Any, *args: int) -> int | None:
        """Run a handler; None: it waits (then see `wake`)."""
        self.result = None
        self._take(lambda: handler(self.task, *(arg & 0xFFFFFFFFFFFFFFFF for arg in args)))
        return self.result

    def _take(self, thunk: Any) -> None:
        try:
            outcome: Outcome = thunk()
        except LinuxError as error:
            self.result = -error.errno
            return
        if isinstance(outcome, Wait):
            self.kernel.park(self.task, outcome)
        else:
            assert isinstance(outcome, int)
            self.result = outcome

    def wake(self) -> int | None:
        """What the dispatcher does with a task that was woken; None: it waits on."""
        self.kernel.timers.run(self.kernel.clock.monotonic_ns())
        wait = self.task.wait
        if wait is None or not self.task.queued:
            return None
        self.task.queued = False
        self.kernel.runnable.remove(self.task)
        if wait.retries:
            try:
                outcome = wait.retry()
            except WouldBlock:
                pass
            except LinuxError as error:
                self.kernel.unpark(self.task)
                self.result = -error.errno
                return self.result
            else:
                self.kernel.unpark(self.task)
                self.result = outcome
                return self.result
        if self.task.timed_out:
            self.kernel.unpark(self.task)
            self._take(wait.on_timeout)
        return self.result

    def interrupt(self) -> int:
        """A signal ends the wait: a partial result, or minus the restart code."""
        wait = self.task.wait
        self.kernel.unpark(self.task)
        result = wait.on_signal()
        return -(wait.restart or errno.EINTR) if result is None else result

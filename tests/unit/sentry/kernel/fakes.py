"""A machine for the kernel's unit tests: memory, a context, a driver that parks and wakes as the dispatcher does."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from services.sentry.errors import LinuxError, Restart, WouldBlock
from services.sentry.kernel.clocks import VirtualClock
from services.sentry.kernel.kernel import Kernel
from services.sentry.kernel.signal_delivery import deliver
from services.sentry.kernel.task import Task
from services.sentry.kernel.waiter import NO_RETURN, Outcome, Wait

BASE = 0x10000
SIZE = 0x100000
STACK_TOP = BASE + SIZE - 0x100


class FakeMemory:
    """One mapped range, BASE..BASE + SIZE; all of it private."""

    def __init__(self) -> None:
        self.data = bytearray(SIZE)
        self.fast = self.trapped = self.pending = None
        self.users = 1
        self.is_seen_by_others = lambda: True
        self.released = self.awaited = 0
        self.total_pages = SIZE // 4096
        self.auxv = b"auxv"
        self.published = None
        self.local_maps = None
        self.changes = None
        self.loan = self.lent_to = None

    def unpublish(self) -> None:
        pass

    def await_contents(self) -> None:
        self.awaited += 1

    def read(self, addr: int, count: int) -> bytes:
        if addr < BASE or addr + count > BASE + SIZE:
            raise LinuxError(errno.EFAULT)
        return bytes(self.data[addr - BASE : addr - BASE + count])

    def write(self, addr: int, data: bytes) -> None:
        if addr < BASE or addr + len(data) > BASE + SIZE:
            raise LinuxError(errno.EFAULT)
        self.data[addr - BASE : addr - BASE + len(data)] = data

    def read_u32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little")

    def read_u64(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 8), "little")

    def flush(self) -> None:
        """Nothing travels with an answer."""

    def write_u32(self, addr: int, value: int) -> None:
        self.write(addr, value.to_bytes(4, "little"))

    def write_u64(self, addr: int, value: int) -> None:
        self.write(addr, value.to_bytes(8, "little"))

    def read_cstring(self, addr: int, limit: int = 4096) -> bytes:
        raw = self.read(addr, min(limit, BASE + SIZE - addr))
        if b"\0" not in raw:
            raise LinuxError(errno.ENAMETOOLONG)
        return raw[: raw.index(b"\0")]

    def read_iovecs(self, addr: int, count: int, *, ours: bool = True) -> list[tuple[int, int]]:
        return [(self.read_u64(addr + 16 * at), self.read_u64(addr + 16 * at + 8)) for at in range(count)]

    def futex_key(self, addr: int) -> tuple[object, int]:
        self.read(addr, 4)
        return self, addr

    def fork(self) -> FakeMemory:
        child = FakeMemory()
        child.data[:] = self.data
        return child

    def release(self) -> None:
        self.released += 1


class FakeRegisters:
    def __init__(self) -> None:
        for name in "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx".split():
            setattr(self, name, 0)
        self.rsp = STACK_TOP
        self.rip = 0x401002
        self.eflags = 0x202
        self.cs = 0x33

    def values(self) -> dict[str, int]:
        return dict(vars(self))


class FakeContext:
    """Counts what is asked of it. `image` is the XSAVE image: 512 legacy bytes and nothing more."""

    def __init__(self) -> None:
        self.regs: Any = FakeRegisters()
        self.fs_base = 0
        self.orig_rax = 0
        self.interrupts = 0
        self.killed = 0
        self.parked = 0
        self.image = bytes(512)
        self.loaded: bytes | None = None
        self.cpu_ns = 0
        self.in_guest = False
        self.has_full_frame = True
        self.published = (0, 0, 0)

    def publish(self, pid: int, tid: int, ppid: int) -> None:
        self.published = (pid, tid, ppid)

    def file_rows(self) -> None:
        """There is no stub here that would use them."""

    def map_log(self) -> None:
        """Nor map by itself."""

    def change_log(self) -> None:
        """Nor change what is mapped."""

    def can_save(self) -> bool:
        """Nor save memory."""
        return False

    def let_tell(self, traps: int | None = None) -> bool:
        """Nor be told anything."""
        return False

    def share_mask(self, mask: int, traps: bool, altstack: tuple[int, int, int]) -> bool:
        """Nor change a mask."""
        return False

    def use_rows(self, allowed: bool) -> None:
        """Nor this."""

    def interrupt(self) -> None:
        self.interrupts += 1

    def park(self) -> None:
        self.parked += 1

    def kill(self) -> None:
        self.killed += 1

    def fpstate(self) -> bytes:
        return self.image

    def fpstate_size(self) -> int:
        return len(self.image)

    def set_fpstate(self, image: bytes) -> None:
        self.loaded = image

    def cpu_time_ns(self, patience_ns: int = 0) -> int:
        return self.cpu_ns

    def sleeps(self) -> int:
        return 0


class Config:
    hostname = "box"
    cpu_count = 2
    memory_bytes = 1 << 30


class Machine:
    """A kernel with init, on virtual time. `call` runs a handler as a call; `results` holds what tasks returned."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.kernel = Kernel(Config(), self.clock)
        self.init = self.kernel.new_init()
        self.equip(self.init)
        self.results: dict[Task, int] = {}

    def equip(self, task: Task, memory: FakeMemory | None = None) -> Task:
        task.mm = memory or FakeMemory()  # type: ignore[assignment]
        task.context = FakeContext()
        return task

    def start_child(
        self, parent: Task, child: Task, *, share_vm: bool, finish: Callable[[int], Outcome], **_: Any
    ) -> Any:
        """Stands in for guest_ops.start_child."""
        memory: Any = parent.mm
        if share_vm:
            memory.users += 1
        self.equip(child, memory if share_vm else memory.fork())
        child.context.regs.__dict__.update(parent.context.regs.__dict__)
        return finish(0)

    # --- the dispatcher's part ---
    def call(self, task: Task, handler: Callable[..., Outcome], *args: int) -> int | None:
        """Run a call; its result (negative errno on failure), or None while the task is parked, stopped or gone."""
        self.results.pop(task, None)
        self._complete(task, lambda: handler(task, *args))
        self.run()
        return self.results.get(task)

    def run(self) -> None:
        """Serve every runnable task until none is left."""
        while self.kernel.runnable:
            task = self.kernel.runnable.popleft()
            task.queued = False
            if not task.exiting:
                self._wake(task)

    def advance(self, ns: int) -> None:
        self.clock.advance(ns)
        self.kernel.timers.run(self.clock.now_ns)
        self.run()

    def check(self, task: Task) -> None:
        """The task came out of guest code without a call."""
        if task.signal_pending:
            deliver(task, None)
            self.run()

    def _complete(self, task: Task, thunk: Callable[[], Outcome]) -> None:
        try:
            outcome = thunk()
        except LinuxError as failure:
            outcome = -failure.errno
        if isinstance(outcome, Wait):
            self.kernel.park(task, outcome)
            return
        if outcome is NO_RETURN:
            if not task.exiting and task.signal_pending:
                deliver(task, None)
            return
        assert isinstance(outcome, int)
        self._finish(task, outcome)

    def _finish(self, task: Task, result: int) -> None:
        if task.signal_pending and not deliver(task, result):
            return
        self.results[task] = result

    def _wake(self, task: Task) -> None:
        wait = task.wait
        if wait is None:
            if not task.in_stop and task.signal_pending:
                deliver(task, None)
            return
        if wait.retries:
            try:
                outcome = wait.retry()
            except WouldBlock:
                pass
            except LinuxError as failure:
                self.kernel.unpark(task)
                self._finish(task, -failure.errno)
                return
            else:
                self.kernel.unpark(task)
                self._complete(task, lambda: outcome)
                return
        if task.timed_out:
            self.kernel.unpark(task)
            self._complete(task, wait.on_timeout)
        elif task.signal_pending and (not wait.uninterruptible or task.group.exiting or task.zapped):
            self.kernel.unpark(task)
            result = wait.on_signal()
            if result is None:
                result = -(wait.restart or errno.EINTR)
                if wait.restart == Restart.BLOCK:
                    task.restart_call = wait.restart_call
            self._finish(task, result)

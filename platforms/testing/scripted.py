"""The scripted platform: guests are Python generators, memory is bytearrays, all of it inside the test process.

A guest program is a generator function of its context that yields what it does (`Call`, `Fault`, `Spin`, `Die`) and is
sent the result register when it goes on:

    def program(context):
        pid = yield Call(39)
        yield Call(231, (0,))

Guests move only when the Sentry's side looks (`collect`, or `busy` as the dispatcher's loop asks it), so a test is
deterministic. `log` records what the Sentry's side did: ("resume", name, result), ("ops", name, ops), ("exit", name)…
The events lie in an arena laid out as systrap's slots are, because the dispatcher's hot path reads slots itself.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final, NamedTuple

from platforms.base import AddressSpace, Context, Kind, Op
from platforms.systrap import layout

__all__ = ["Call", "Die", "Fault", "ScriptedContext", "ScriptedPlatform", "ScriptedSpace", "Spin"]

_PAGE: Final = 4096
_EVENT: Final = struct.Struct("<I7Q")  # KIND, NR, ARGS, as systrap lays them out
_SLOT: Final = 0x1000
_CONTEXTS: Final = 256
_MMAP, _MPROTECT, _MUNMAP, _MREMAP, _MADVISE = 9, 10, 11, 25, 28
_READ, _WRITE = 1, 2
_SHARED: Final = 1
_DONTNEED: Final = 4
_REGISTERS: Final = (
    "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags err trapno oldmask cr2".split()
)


class Call(NamedTuple):
    """A system call; `fast`: from a patched site, so that the full register file is not there."""

    nr: int
    args: tuple[int, ...] = ()
    fast: bool = False


class Fault(NamedTuple):
    signo: int
    code: int
    addr: int


class Spin(NamedTuple):
    """Guest code that makes no call: goes on when it was interrupted and resumed."""


class Die(NamedTuple):
    """The host process ends unasked."""


Step = Call | Fault | Spin | Die
Program = Callable[["ScriptedContext"], Generator[Step, int, None]]


class _Page:
    __slots__ = ("data", "prot", "shared")

    def __init__(self, prot: int, shared: bool) -> None:
        self.data = bytearray(_PAGE)
        self.prot = prot
        self.shared = shared


class ScriptedSpace(AddressSpace):
    """Pages by number; `read_into` and `write_from` stop at the first that is not there or not to be read (written)."""

    def __init__(self) -> None:
        self.pages: dict[int, _Page] = {}
        self.contexts: dict[ScriptedContext, None] = {}
        self.released = False
        self.vm_pid = 0
        self.shares = True  # tests look at what a program left here

    def copy(self) -> ScriptedSpace:
        made = ScriptedSpace()
        for number, page in self.pages.items():
            if page.shared:
                made.pages[number] = page
                continue
            made.pages[number] = twin = _Page(page.prot, False)
            twin.data[:] = page.data
        return made

    def read_into(self, addr: int, buffer: Any, length: int) -> int:
        return self._copy(addr, length, _READ, lambda data, at, done: _put(buffer, done, data[at : at + 1]))

    def write_from(self, addr: int, buffer: Any, length: int) -> int:
        view = memoryview(buffer)
        return self._copy(addr, length, _WRITE, lambda data, at, done: _put(data, at, view[done : done + 1]))

    def _copy(self, addr: int, length: int, needed: int, move: Callable[[bytearray, int, int], None]) -> int:
        done = 0
        while done < length:
            number, at = divmod(addr + done, _PAGE)
            page = self.pages.get(number)
            if page is None or not page.prot & needed:
                break
            move(page.data, at, done)
            done += 1
        return done if done or not length else -errno.EFAULT

    def release(self) -> None:
        self.released = True
        for context in list(self.contexts):
            context.dead = True
            context.platform.active.pop(context, None)
        self.contexts.clear()
        self.pages.clear()

    # --- operations ---
    def apply(self, op: Op) -> int:
        addr, length, third, fourth, *_ = op.args
        first, count = addr // _PAGE, (length + _PAGE - 1) // _PAGE
        numbers = range(first, first + count)
        if addr % _PAGE or not length:
            return -errno.EINVAL
        if op.nr == _MMAP:
            for number in numbers:
                self.pages[number] = _Page(third, fourth & 3 == _SHARED)
            return addr
        if op.nr == _MUNMAP:
            for number in numbers:
                self.pages.pop(number, None)
            return 0
        if any(number not in self.pages for number in numbers):
            return -errno.EFAULT if op.nr == _MREMAP else -errno.ENOMEM
        if op.nr == _MPROTECT:
            for number in numbers:
                self.pages[number].prot = third
        elif op.nr == _MADVISE and third == _DONTNEED:
            for number in numbers:
                self.pages[number].data[:] = bytes(_PAGE)
        elif op.nr == _MREMAP:
            moved = [self.pages.pop(number) for number in numbers]
            target = op.args[4] // _PAGE if fourth & 2 else first
            for k in range((third + _PAGE - 1) // _PAGE):
                self.pages[target + k] = moved[k] if k < count else _Page(moved[0].prot, moved[0].shared)
            return target * _PAGE
        elif op.nr != _MADVISE:
            return -errno.ENOSYS
        return 0


def _put(target: Any, at: int, byte: Any) -> None:
    target[at : at + 1] = bytes(byte)


class _Registers:
    def __init__(self) -> None:
        for name in _REGISTERS:
            setattr(self, name, 0)
        self.rip = 0x401000
        self.eflags = 0x202
        self.rax = 0


class ScriptedContext(Context):
    """One guest thread: `program` says what it does. Attributes as the kernel and the dispatcher use them."""

    def __init__(self, platform: ScriptedPlatform, space: ScriptedSpace, program: Program | None, name: str) -> None:
        self.platform = platform
        self.space = space
        self.name = name
        self.steps = program(self) if program is not None else None
        self.step: Step | None = None
        self.index = platform.next_index()
        self.at = self.index * _SLOT
        self.state_i = (self.at + layout.STATE) // 4
        self.waiting_i = (self.at + layout.WAITING) // 4
        self.result_i = (self.at + layout.RESULT) // 8
        self.copy_at = self.at + layout.COPY_RESULT
        self.event_at = self.at + layout.KIND
        self.rip_i = (self.at + layout.REGS) // 8 + 16
        self.tid = self.tgid = platform.next_pid()
        self.kind = 0
        self.nr = self.orig_rax = -1
        self.args = ()
        self.fault = (0, 0, 0)
        self.owner = None
        self._regs: Any = _Registers()  # the dispatcher's hot path drops it; see `regs`
        self._kept: Any = self._regs
        self.base = 0
        self.image = bytes(512)
        self.has_full_frame = True
        self.in_guest = self.dead = self.killed = False
        self.parked = True
        self.awaiting = self.kept = 0
        self.interrupted = False
        self.published = (0, 0, 0)
        space.contexts[self] = None

    @property
    def regs(self) -> Any:
        return self._kept

    @property
    def fs_base(self) -> int:
        return self.base

    @fs_base.setter
    def fs_base(self, value: int) -> None:
        self.base = value

    def forget_registers(self) -> None:
        self._regs = None

    def fpstate(self) -> bytes:
        return self.image

    def fpstate_size(self) -> int:
        return len(self.image)

    def set_fpstate(self, image: bytes) -> None:
        self.image = image or bytes(512)

    def clear_fpstate(self) -> None:
        self.image = bytes(512)

    # --- answers ---
    def _go(self, result: int) -> None:
        if self.dead:
            return
        self.in_guest = True
        self.parked = False
        self.platform.active[self] = None
        self.platform.i64[self.result_i] = result
        self.platform.u32[self.state_i] = layout.RETURN_NOW

    def resume(self, result: int) -> None:
        self.platform.log.append(("resume", self.name, result))
        self._kept.rax = result & 0xFFFFFFFFFFFFFFFF
        self._go(result)

    def resume_with_copy(self, result: int, addr: int, data: bytes) -> None:
        """There is no guest memory: what would be copied is in the log."""
        self.platform.log.append(("copy", self.name, (addr, data)))
        self.resume(result)

    def resume_registers(self) -> None:
        rax = self._kept.rax
        result = rax - (1 << 64) if rax >> 63 else rax
        self.platform.log.append(("registers", self.name, result))
        self._go(result)

    def park(self) -> None:
        if not self.parked:
            self.parked = True
            self.platform.log.append(("park", self.name, 0))
            self.platform.u32[self.state_i] = layout.BLOCKED
            self.platform.active.pop(self, None)

    def run_ops(self, ops: Sequence[Op], done: Callable[[list[int]], None]) -> None:
        self.platform.log.append(("ops", self.name, tuple(ops)))

        def carry_out() -> None:
            results: list[int] = []
            for op in ops:
                results.append(self.space.apply(op) if not self.dead else -errno.ENOMEM)
                if -4096 < results[-1] < 0:
                    break
            done(results)

        self.platform.later.append(carry_out)

    def take_frame(self, done: Callable[[], None]) -> None:
        def taken() -> None:
            self.has_full_frame = True
            done()

        self.platform.later.append(taken)

    # --- the rest ---
    def others(self) -> list[Context]:
        return [each for each in self.space.contexts if each is not self]

    def interrupt(self) -> None:
        if self.in_guest and not self.dead:
            self.interrupted = True

    def exit(self) -> None:
        if not self.dead:
            self.dead = True
            self.platform.log.append(("exit", self.name, 0))
            self.platform.active.pop(self, None)
            self.space.contexts.pop(self, None)

    def kill(self) -> None:
        self.owner = None
        if self.in_guest:
            self.killed = self.interrupted = True
        else:
            self.exit()

    def destroy(self, why: str) -> None:
        self.platform.log.append(("destroy", self.name, why))
        self.platform.lose(self)

    def abandon(self) -> None:
        self.dead = True

    def publish(self, pid: int, tid: int, ppid: int) -> None:
        self.published = (pid, tid, ppid)

    def return_in_child(self, stack: int, fs_base: int | None) -> None:
        self._kept.rax = 0
        if stack:
            self._kept.rsp = stack
        if fs_base is not None:
            self.fs_base = fs_base

    def enter_program(self, rip: int, rsp: int) -> None:
        self._kept.rip, self._kept.rsp = rip, rsp
        self.fs_base = 0

    def cpu_time_ns(self, patience_ns: int = 0) -> int:
        return 0


class ScriptedPlatform:
    """See the module. `programs`: what new threads and processes run, in order of their making."""

    event = staticmethod(_EVENT.unpack_from)
    posted = 0  # operations are carried out by `busy`
    wanting: Sequence[Any] = ()  # every context has its thread

    def __init__(self) -> None:
        self.arena_map = bytearray(_SLOT * _CONTEXTS)
        view = memoryview(self.arena_map)
        self.u32, self.u64, self.i64 = view.cast("I"), view.cast("Q"), view.cast("q")
        self.active: dict[ScriptedContext, None] = {}
        self.lost: list[ScriptedContext] = []
        self.later: deque[Callable[[], None]] = deque()
        self.programs: deque[tuple[str, Program]] = deque()
        self.log: list[tuple[str, str, Any]] = []
        self._made = 0

    def next_index(self) -> int:
        self._made += 1
        return self._made

    def next_pid(self) -> int:
        return 10_000 + self._made

    # --- making ---
    def start_guest(self, name: str, program: Program, space: ScriptedSpace | None = None) -> ScriptedContext:
        """A held context that runs `program` when it is resumed for the first time."""
        return ScriptedContext(self, space or ScriptedSpace(), program, name)

    def new_space(self, finish: Callable[[Any, int], None]) -> None:
        context = self._next(ScriptedSpace())
        self.later.append(lambda: finish(context, 0))

    def tidy(self) -> None:
        """As the platform's: nothing is put off here."""

    def prepare_space(self) -> None:
        """Nothing is made ahead."""

    def fork_space(
        self, parent: ScriptedContext, finish: Callable[[int], None], *, held: bool = False, copy_frame: bool = False
    ) -> ScriptedContext:
        return self._child(parent, parent.space.copy(), finish)

    def add_thread(self, parent: ScriptedContext, finish: Callable[[int], None]) -> ScriptedContext:
        return self._child(parent, parent.space, finish)

    def reuse_thread(self, parent: ScriptedContext) -> ScriptedContext | None:
        return None

    def _next(self, space: ScriptedSpace) -> ScriptedContext:
        name, program = self.programs.popleft()
        return ScriptedContext(self, space, program, name)

    def _child(self, parent: ScriptedContext, space: ScriptedSpace, finish: Callable[[int], None]) -> ScriptedContext:
        made = self._next(space)
        vars(made.regs).update(vars(parent.regs))
        made.fs_base, made.image = parent.fs_base, parent.image
        self.later.append(lambda: finish(made.tid))
        return made

    # --- moving ---
    def pump(self) -> None:
        """Let every guest that was answered do its next step, and operations that were posted be done."""
        while self.later:
            self.later.popleft()()
        for context in list(self.active):
            if context.in_guest and self.u32[context.state_i] != layout.READY:
                self._advance(context)

    def _advance(self, context: ScriptedContext) -> None:
        if self.u32[context.state_i] == layout.COPY_NOW:
            copy_i = context.copy_at // 8
            self.u64[context.result_i] = self.u64[copy_i]
            addr, length = self.u64[copy_i + 1], self.u64[copy_i + 2]
            data = context.at + layout.COPY_DATA
            context.space.write_from(addr, self.arena_map[data : data + length], length)
            self.u32[context.state_i] = layout.RETURN_NOW
        if self.u32[context.state_i] == layout.RETURN_NOW:
            self.u32[context.state_i] = layout.RUNNING
            context.step = self._next_step(context)
        step = context.step
        if isinstance(step, Call) and self.u32[context.state_i] != layout.READY:
            self._post(context, Kind.SYSCALL_FAST if step.fast else Kind.SYSCALL, step.nr, step.args)
        elif isinstance(step, Fault):
            struct.pack_into("<IIQ", self.arena_map, context.at + layout.SIGNO, *step)
            self._post(context, Kind.FAULT)
        elif isinstance(step, Die) or step is None:
            self.lose(context)
        elif context.interrupted:
            context.interrupted = False
            self._post(context, Kind.INTERRUPTED)

    def _next_step(self, context: ScriptedContext) -> Step | None:
        assert context.steps is not None
        try:
            if context.step is None:
                return next(context.steps)
            return context.steps.send(self.i64[context.result_i])
        except StopIteration:
            return None

    def _post(self, context: ScriptedContext, kind: int, nr: int = 0, args: Sequence[int] = ()) -> None:
        context.interrupted = False
        padded = [value & 0xFFFFFFFFFFFFFFFF for value in (*args, 0, 0, 0, 0, 0, 0)][:6]
        _EVENT.pack_into(self.arena_map, context.event_at, kind, nr & 0xFFFFFFFFFFFFFFFF, *padded)
        self.u32[context.state_i] = layout.READY

    def lose(self, context: ScriptedContext) -> None:
        self.active.pop(context, None)
        if not context.dead:
            context.dead = True
            context.space.contexts.pop(context, None)
            self.lost.append(context)

    # --- what the Sentry's loop asks ---
    @property
    def is_asked(self) -> bool:
        """As the platform's: by operations alone."""
        return self.busy

    @property
    def busy(self) -> bool:
        """Whether anything is under way. Looking is what makes the guests move."""
        self.pump()
        return bool(self.later) or any(self.u32[c.state_i] == layout.READY and c.in_guest for c in self.active)

    def serve_notifications(self) -> None:
        """Nothing: there is no listener here."""

    def scan(self) -> list[ScriptedContext]:
        return [c for c in self.active if self.u32[c.state_i] == layout.READY and c.in_guest]

    def take(self, stopped: Iterable[ScriptedContext]) -> list[ScriptedContext]:
        events = []
        for context in stopped:
            kind, nr, *args = _EVENT.unpack_from(self.arena_map, context.event_at)
            context.in_guest = False
            if context.killed:
                context.exit()
                continue
            context.kind, context.nr, context.args = kind, nr, tuple(args)
            context.has_full_frame = Kind.SYSCALL_FAST < kind < Kind.RING_MOVED
            if kind == Kind.FAULT:
                context.fault = struct.unpack_from("<IIQ", self.arena_map, context.at + layout.SIGNO)
            if Kind.SYSCALL < kind < Kind.RING_MOVED:
                context.nr = -1
            events.append(context)
        return events

    def collect(self, spin_ns: int) -> list[ScriptedContext]:
        for _ in range(3):
            self.pump()
            ready = self.scan()
            if ready:
                return self.take(ready)
        return []

    def wake(self, context: ScriptedContext) -> None:
        """Nothing sleeps here."""

    def reap(self) -> None:
        """`lost` is filled as guests die."""

    def settle(self, processors: frozenset[int]) -> None:
        pass

    def arm(self) -> None:
        """Nothing rings here."""

    def disarm(self, rung: bool = True) -> None:
        """As `arm`."""

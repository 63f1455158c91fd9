"""The dispatcher on the scripted platform, with system calls of the test's own: no guest, no host process."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest

from platforms.systrap import layout
from platforms.systrap.patcher import Patches
from platforms.testing.scripted import Call, Die, Fault, ScriptedContext, ScriptedPlatform, Spin
from protocol.abi import poll_h as po
from protocol.abi import signal_h as sg
from services.sentry.edge.host_poll import HostPoll
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel import dispatcher, faults
from services.sentry.kernel.dispatcher import Dispatcher
from services.sentry.kernel.signals import SigAction, SigInfo, send_signal_group
from services.sentry.kernel.task import Task
from services.sentry.kernel.waiter import ANY, NO_RETURN, NoReturn, ReadWait, StubOp, Wait, WaitEntry, WaitQueue
from services.sentry.syscalls.blocking import wait_to_read
from services.sentry.syscalls.table import SIZE, Row
from tests.unit.sentry.kernel.fakes import FakeMemory, Machine

ADD, PARK, JUMP, DENY, BUG, OP, LARGE = 1, 2, 3, 4, 5, 6, 7
HANDLER, RESTORER, STACK = 0x400100, 0x400200, 0x18000


class Box:
    """A machine whose init runs a scripted program."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.kernel = self.machine.kernel
        self.platform = ScriptedPlatform()
        self.queue = WaitQueue()
        self.ready: list[int] = []
        self.results: list[int] = []
        self.on_retry = lambda: None
        self.oopses: list[BaseException] = []
        rows: list[Row | None] = [None] * SIZE
        rows[ADD] = Row("getppid", lambda task, a, b: a + b, "int int")
        rows[PARK] = Row("read", self.park)
        rows[JUMP] = Row("rt_sigreturn", self.jump)
        rows[DENY] = Row("write", self.deny)
        rows[BUG] = Row("close", self.bug)
        rows[OP] = Row("munmap", self.op)
        rows[LARGE] = Row("brk", lambda task: 1 << 63)
        self.dispatcher = Dispatcher(self.kernel, self.platform, rows)
        self.dispatcher.oops = lambda task, error: self.oopses.append(error)

    # --- system calls ---
    def park(self, task: Task) -> Wait:
        def retry() -> int:
            self.on_retry()
            if not self.ready:
                raise WouldBlock
            return self.ready.pop()

        return Wait(retry, ((self.queue, ANY),))

    def jump(self, task: Task) -> Any:
        task.context.regs.rax = 4321
        return NO_RETURN

    def deny(self, task: Task) -> int:
        raise LinuxError(errno.EACCES, "no")

    def bug(self, task: Task) -> int:
        raise KeyError("bug")

    def op(self, task: Task) -> StubOp:
        context: Any = task.context
        ops: list[Any] = []
        return StubOp(lambda complete: context.run_ops(ops, lambda results: complete(lambda: 77 + len(results))))

    # --- running ---
    def start(self, *steps: Any) -> Task:
        def program(context: ScriptedContext) -> Generator[Any, int, None]:
            for step in steps:
                self.results.append((yield step))
            while True:
                yield Spin()

        task = self.machine.init
        memory: Any = FakeMemory()
        memory.patcher, memory.fast, memory.pending = Patches(), None, None
        memory.release = lambda: None
        task.mm = memory
        context: Any = self.platform.start_guest("init", program, SimpleNamespace(contexts={}, vm_pid=0))  # type: ignore
        task.context = context
        context.owner = task
        context.regs.rsp = STACK
        context.resume(0)
        self.run()
        return task

    def run(self) -> None:
        for _ in range(20):
            self.dispatcher.burst(0)


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.mark.parametrize("fast", [False, True])
def test_call_gets_its_result(box: Box, fast: bool) -> None:
    box.start(Call(ADD, (40, 2), fast), Call(DENY, (), fast), Call(400, (), fast))
    assert box.results == [42, -errno.EACCES, -errno.ENOSYS]


@pytest.mark.parametrize(
    ("kind", "brought"),
    [
        (layout.SYSCALL_FAST, -1),
        (layout.SYSCALL_BROUGHT, 2),
        (layout.STRUCT_BROUGHT, 1),
        (layout.STRUCT_BROUGHT + 1, 2),
        (layout.STRUCT_BROUGHT_LAST, 6),
    ],
)
def test_call_that_brought_something_along(box: Box, kind: int, brought: int) -> None:
    seen: list[Any] = []
    task = box.start(Call(PARK))
    memory: Any = task.mm
    box.dispatcher.rows[ADD] = Row("getppid", lambda task, a, b: seen.append(memory.brought) or a + b, "int int")
    box.dispatcher.trace = None
    memory.brought = 77
    let_do(box, task, Call(ADD, (1, 2, 3, 4, 5, 6), True))
    context: Any = task.context
    box.platform.u32[(context.at + layout.KIND) // 4] = kind
    box.dispatcher.burst(0)
    assert box.platform.i64[context.result_i] == 3
    assert seen == [brought]


@pytest.mark.parametrize(
    ("name", "users", "carries"), [("getppid", 1, True), ("getppid", 2, False), ("clone", 1, False)]
)
def test_the_answer_to_a_trapped_call_carries_a_copy_where_nobody_can_take_the_memory_away(
    box: Box, name: str, users: int, carries: bool
) -> None:
    carriers: list[Any] = []
    written: list[Any] = []

    def handler(task: Task, a: int, b: int) -> int:
        memory: Any = task.mm
        carriers.append(memory.trapped)
        if memory.trapped is not None:
            memory.pending, memory.pending_addr = b"abcd", 0x5000
        return a + b

    box.dispatcher.rows[ADD] = Row(name, handler, "int int")
    box.dispatcher.rows[BUG] = Row("close", lambda task: carriers.append(task.mm.trapped) or 1 // 0)
    box.dispatcher.trace = None
    box.dispatcher.handlers[ADD] = handler
    task = box.start(Call(PARK), Call(ADD, (1, 2)), Call(PARK), Call(BUG))
    context: Any = task.context
    memory: Any = task.mm
    memory.users = users
    context.space.write_from = lambda addr, data, length: written.append((addr, bytes(data)))
    for _ in range(2):
        box.ready.append(1)
        box.queue.wake(ANY)
        box.run()
    assert box.results == [1, 3, 1]
    assert carriers == [context if carries else None, context if users == 1 else None]
    assert written == ([(0x5000, b"abcd")] if carries else [])
    assert (memory.trapped, memory.pending) == (None, None)


@pytest.mark.parametrize(
    ("traps", "vain", "site", "stops"),
    [(191, 0, True, False), (192, 0, True, True), (192, 1, True, False), (384, 1, True, True), (192, 0, False, False)],
)
def test_other_threads_are_stopped_for_a_site_that_is_very_hot(
    box: Box, monkeypatch: pytest.MonkeyPatch, traps: int, vain: int, site: bool, stops: bool
) -> None:
    begun: list[Any] = []

    class Stop:
        def __init__(self, *_: Any) -> None:
            begun.append(self)

        def look(self) -> bool:
            return False

    monkeypatch.setattr(dispatcher, "others_at_large", lambda context: True)
    monkeypatch.setattr(dispatcher, "find_site", lambda mm, rip, nr: object() if site else None)
    monkeypatch.setattr(dispatcher, "PatchStop", Stop)
    task = box.start(Call(PARK))
    context: Any = task.context
    context.space.contexts = {context: None, object(): None}
    patcher: Any = task.mm.patcher
    patcher.vain_stops = vain
    patcher.seen[0x1000] = traps
    assert box.dispatcher._patch_when_hot(task, context, 0x1000, ADD) is stops
    assert bool(begun) is stops
    assert patcher.seen[0x1000] == (0 if stops or not site else traps)
    if stops:  # one at a time
        patcher.seen[0x2000] = 1 << 20
        assert not box.dispatcher._patch_when_hot(task, context, 0x2000, ADD)


def test_event_of_a_kind_that_is_none_is_not_served(box: Box) -> None:
    task = box.start(Call(PARK))
    let_do(box, task, Call(ADD, (1, 2), True))
    context: Any = task.context
    box.platform.u32[(context.at + layout.KIND) // 4] = layout.STRUCT_BROUGHT_LAST + 1
    before = box.platform.i64[context.result_i]
    box.dispatcher.burst(0)
    assert box.platform.i64[context.result_i] == before


def test_number_beyond_every_table_is_enosys(box: Box) -> None:
    box.start(Call(1 << 40), Call(-1), Call(0x40000000 | ADD))
    assert box.results == [-errno.ENOSYS] * 3


def test_parked_call_goes_on_when_woken(box: Box) -> None:
    task = box.start(Call(PARK))
    assert box.results == []
    assert task.wait is not None
    box.queue.wake(ANY)
    box.run()
    assert box.results == []  # woken for nothing
    box.ready.append(5)
    box.queue.wake(ANY)
    box.run()
    assert box.results == [5]
    assert task.wait is None


KEY = 900  # a word of the platform's memory that is nobody's


def stand(box: Box) -> None:
    """An answer stands, as if the last call had given it."""
    assert box.platform.u64[KEY] == 0
    box.kernel.standing.live.append(KEY)
    box.platform.u64[KEY] = 1


def let_do(box: Box, task: Task, step: Any) -> None:
    """The parked guest goes on, and has posted `step`."""
    box.ready.append(1)
    box.queue.wake(ANY)
    box.run()
    context: Any = task.context
    context.step = step
    box.platform.pump()


@pytest.mark.parametrize(
    "what", ["call", "fast call", "fault", "woken task", "timer", "ended process", "notification", "outside"]
)
def test_whatever_happens_takes_the_standing_answer_back(box: Box, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    stood: list[int] = []

    def look(*_: Any) -> int:
        stood.append(box.platform.u64[KEY])
        return 0

    box.dispatcher.rows[ADD] = Row("getppid", look, "int int")
    box.dispatcher.trace = None  # makes the hot path anew
    task = box.start(Call(PARK))
    stand(box)
    box.run()
    assert box.platform.u64[KEY] == 1  # nothing happened
    box.dispatcher.withdraw()
    if what in ("call", "fast call"):
        let_do(box, task, Call(ADD, (1, 2), what == "fast call"))
    elif what == "fault":
        monkeypatch.setattr(faults, "handle", look)
        let_do(box, task, Fault(sg.SIGSEGV, 1, 0x1234))
    stand(box)
    if what == "woken task":
        box.on_retry = look  # type: ignore[assignment]
        box.queue.wake(ANY)
    elif what == "timer":
        box.kernel.timers.call_at(0, look)
    elif what == "ended process":
        monkeypatch.setattr(box.platform, "reap", look)
        box.dispatcher.reap_wanted = True
    elif what == "notification":
        monkeypatch.setattr(ScriptedPlatform, "busy", property(lambda self: not stood))
        monkeypatch.setattr(box.platform, "serve_notifications", look)
    elif what == "outside":
        reader, writer = os.pipe()
        outside = HostPoll()
        outside.before = box.dispatcher.withdraw
        outside.watch(reader, 1, look)
        outside.dispatch()
        assert box.platform.u64[KEY] == 1
        os.write(writer, b"x")
        outside.dispatch()
        os.close(reader)
        os.close(writer)
    box.dispatcher.burst(0)
    assert stood and not any(stood)
    assert box.platform.u64[KEY] == 0
    assert not box.kernel.standing.live


def test_a_call_that_ends_otherwise_than_plainly_leaves_no_answer(box: Box) -> None:
    def gives(task: Task, a: int, b: int) -> int:
        stand(box)
        send_signal_group(task.group, SigInfo(sg.SIGUSR1, 0, pid=1))
        return 1

    box.dispatcher.rows[ADD] = Row("getppid", gives, "int int")
    box.dispatcher.trace = None
    box.machine.init.group.sighand.set(sg.SIGUSR1, SigAction(HANDLER, sg.SA_RESTORER, RESTORER))
    box.start(Call(ADD, (1, 2), True))
    assert box.platform.u64[KEY] == 0
    assert not box.kernel.standing.live


def test_signal_interrupts_a_parked_call(box: Box) -> None:
    task = box.start(Call(PARK), Call(ADD, (1, 2)))
    task.group.sighand.set(sg.SIGUSR1, SigAction(HANDLER, sg.SA_RESTORER, RESTORER))
    send_signal_group(task.group, SigInfo(sg.SIGUSR1, 0, pid=1))
    box.run()
    context: Any = task.context
    assert task.wait is None
    assert context.regs.rip == HANDLER
    assert context.regs.rdi == sg.SIGUSR1
    assert context.regs.rsp < STACK
    assert ("park", "init", 0) in box.platform.log


def test_spinning_guest_takes_its_signal(box: Box) -> None:
    task = box.start(Call(ADD, (1, 2)))
    task.group.sighand.set(sg.SIGUSR1, SigAction(HANDLER, sg.SA_RESTORER, RESTORER))
    send_signal_group(task.group, SigInfo(sg.SIGUSR1, 0, pid=1))
    box.run()
    assert task.context.regs.rip == HANDLER


@pytest.mark.parametrize("fast", [False, True])
def test_no_return_leaves_the_registers_as_they_were_set(box: Box, fast: bool) -> None:
    box.start(Call(JUMP, (), fast))
    assert box.results == [4321]
    assert ("registers", "init", 4321) in box.platform.log


@pytest.mark.parametrize("signalled", [False, True])
def test_what_need_not_be_waited_for_is_done_when_the_thread_is_on_its_way(box: Box, signalled: bool) -> None:
    seen: list[bool] = []

    def jump(task: Task) -> NoReturn:
        context: Any = task.context
        context.regs.rax = 4321
        if signalled:
            send_signal_group(task.group, SigInfo(sg.SIGUSR1))
            task.group.sighand.set(sg.SIGUSR1, SigAction(sg.SIG_DFL))
            task.group.is_init = False
        return NoReturn(beside=lambda: seen.append(context.in_guest))

    box.dispatcher.rows[JUMP] = Row("rt_sigreturn", jump)
    box.dispatcher.trace = None
    box.dispatcher.handlers[JUMP] = jump
    task = box.start(Call(JUMP))
    assert seen == [not signalled]
    assert task.exiting is signalled
    assert box.results == ([] if signalled else [4321])


def test_stub_operation_ends_the_call_when_it_is_done(box: Box) -> None:
    box.start(Call(OP))
    assert box.results == [77]


def test_bug_in_a_handler_ends_that_process_and_is_reported(box: Box) -> None:
    task = box.start(Call(BUG))
    assert task.exiting
    assert isinstance(box.oopses[0], KeyError)
    assert box.kernel.exit_status is not None


@pytest.mark.parametrize("fast", [True, False])
def test_a_result_that_fits_no_register_ends_that_process(box: Box, fast: bool) -> None:
    task = box.start(Call(LARGE, (), fast))
    assert task.exiting and box.kernel.exit_status == sg.SIGSYS
    assert len(box.oopses) == 1


def test_a_bug_in_what_a_signal_does_to_a_wait_ends_that_process(box: Box) -> None:
    def broken() -> int:
        raise KeyError("bug")

    task = box.start(Call(PARK))
    assert isinstance(task.wait, Wait)
    task.wait = task.wait.wrapped(task.wait.retry, task.wait.on_timeout, broken)
    task.group.sighand.set(sg.SIGUSR1, SigAction(HANDLER, sg.SA_RESTORER, RESTORER))
    send_signal_group(task.group, SigInfo(sg.SIGUSR1, 0, pid=1))
    box.run()
    assert task.exiting and isinstance(box.oopses[0], KeyError)


@pytest.mark.parametrize("step", ["unpublish", "release"])
def test_a_bug_in_the_end_of_a_task_is_not_kept_silent(box: Box, step: str) -> None:
    """Whoever waits for that process would wait for ever."""

    def broken() -> None:
        raise KeyError("bug")

    task = box.start(Call(ADD, (1, 2)))
    memory: Any = task.mm
    setattr(memory, step, broken)
    send_signal_group(task.group, SigInfo(sg.SIGKILL, 0, pid=1))
    with pytest.raises(KeyError):
        box.run()
    assert task.exiting
    assert bool(box.oopses) == (step == "unpublish")  # what is released is nobody's any more


def test_a_bug_that_is_nobodys_is_raised(box: Box) -> None:
    box.start(Call(ADD, (1, 2)))

    def broken() -> None:
        raise KeyError("bug")

    box.platform.reap = broken  # type: ignore[method-assign]
    box.dispatcher.reap_wanted = True
    with pytest.raises(KeyError):
        box.run()
    assert not box.oopses


def test_fault_becomes_a_fatal_signal(box: Box) -> None:
    task = box.start(Fault(sg.SIGSEGV, 1, 0x1234))
    assert task.exiting
    assert box.kernel.exit_status is not None and box.kernel.exit_status & 0x7F == sg.SIGSEGV


def test_host_process_that_dies_takes_its_task_along(box: Box) -> None:
    task = box.start(Die())
    assert not task.exiting
    box.dispatcher.reap_wanted = True
    box.run()
    assert task.exiting


def test_ended_host_processes_are_left_until_guests_ask_for_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    reaped: list[int] = []
    monkeypatch.setattr(box.platform, "reap", lambda: reaped.append(len(box.results)))
    task = box.start(Call(PARK), *[Call(ADD, (1, 2))] * 5)
    box.ready.append(1)
    box.queue.wake(ANY)
    box.dispatcher.reap_wanted = True
    box.dispatcher.burst(0)
    assert reaped == [6]
    assert not box.dispatcher.reap_wanted
    assert not task.exiting


def test_ended_host_processes_are_reaped_within_a_burst_of_calls(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    reaped: list[int] = []
    monkeypatch.setattr(box.platform, "reap", lambda: reaped.append(len(box.results)))
    box.start(Call(PARK), *[Call(ADD, (1, 2), True)] * 100_000)
    box.ready.append(1)
    box.queue.wake(ANY)
    box.dispatcher.reap_wanted = True
    box.dispatcher.burst(1 << 40)
    assert reaped and reaped[0] < 100_000  # after some turns, or when its time was over


def test_ended_host_processes_are_reaped_while_operations_are_under_way(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    reaped: list[int] = []
    monkeypatch.setattr(box.platform, "reap", lambda: reaped.append(1))
    box.start(Call(PARK))
    box.dispatcher.reap_wanted = True
    now = time.monotonic_ns()
    monkeypatch.setattr(box.platform, "posted", 1)
    box.dispatcher.burst(1 << 40)
    assert reaped == [1]
    assert time.monotonic_ns() - now < 1 << 40


def test_parked_call_is_answered_at_once(box: Box) -> None:
    task = box.start(Call(PARK))
    assert box.kernel.answer(task, 9)
    assert task.wait is None
    assert not box.queue.entries
    box.run()
    assert box.results == [9]


@pytest.mark.parametrize("why", ["signal_pending", "exiting", "queued"])
def test_parked_call_is_not_answered_at_once_when_something_else_is_to_be_looked_at(box: Box, why: str) -> None:
    task = box.start(Call(PARK))
    wait = task.wait
    setattr(task, why, True)
    assert not box.kernel.answer(task, 9)
    assert task.wait is wait
    assert box.results == []


@pytest.mark.parametrize("fast", [False, True])
def test_a_woken_call_of_a_patched_site_may_carry_a_copy_again(box: Box, fast: bool) -> None:
    carriers: list[Any] = []
    task = box.start(Call(PARK, (), fast))
    memory: Any = task.mm
    box.on_retry = lambda: carriers.append(memory.fast)
    box.queue.wake(ANY)
    box.run()
    box.ready.append(5)
    box.queue.wake(ANY)
    box.run()
    assert box.results == [5]
    assert carriers == [task.context if fast else None] * 2
    assert memory.fast is None


class Source:
    """A file whose reads give what `left` says, one after another: a count, None, or what is raised."""

    flags = receive_timeout_ns = 0

    def __init__(self, box: Box) -> None:
        self.queue = WaitQueue()
        self.left: list[Any] = [None]
        self.carriers: list[Any] = []
        box.dispatcher.rows[ADD] = Row("getppid", lambda task, a, b: wait_to_read(task, self, a, b), "buf count")  # type: ignore[arg-type]
        box.dispatcher.trace = None  # makes the hot path anew

    def read_user(self, mm: Any, addr: int, count: int) -> int | None:
        assert (addr, count) == (0x5000, 64)
        self.carriers.append(mm.fast)
        result = self.left.pop(0)
        if isinstance(result, bytes):
            mm.pending, mm.pending_addr = result, addr
            return len(result)
        if isinstance(result, BaseException):
            raise result
        return result  # type: ignore[no-any-return]


@pytest.fixture(params=[False, True])
def reader(box: Box, request: pytest.FixtureRequest) -> tuple[Source, Task]:
    """A guest that waits in a read, called from a patched site or by a trap."""
    source = Source(box)
    task = box.start(Call(ADD, (0x5000, 64), request.param), Call(DENY))
    assert box.results == []
    assert type(task.wait) is ReadWait
    assert (task.state, task.nvcsw) == ("S", 1)
    assert task.context.parked  # type: ignore[attr-defined]
    return source, task


def saved_rax(task: Task) -> int:
    """What the frame of the handler that is about to run gives back as the call's result, or its number."""
    uc = task.context.regs.rsp + 8
    return struct.unpack("<Q", task.mm.read(uc + sg.UCONTEXT_HEAD.size + 13 * 8, 8))[0]  # type: ignore[no-any-return]


def wake(box: Box, source: Source, *left: Any) -> None:
    source.left = list(left)
    source.queue.wake(po.POLLIN)
    box.run()


def test_a_read_that_waits_is_tried_at_each_wake_up_and_answered(box: Box, reader: tuple[Source, Task]) -> None:
    source, task = reader
    wake(box, source, None)
    wake(box, source, WouldBlock())
    assert box.results == [] and list(source.queue.entries) == [task]
    source.queue.wake(po.POLLOUT)
    box.run()  # not what it waits for: the Source would fail
    wake(box, source, 7)
    assert box.results == [7, -errno.EACCES]
    assert (task.wait, task.waited_queue, task.state) == (None, None, "R")
    assert not source.queue.entries


def test_what_a_woken_read_copies_travels_with_its_answer(box: Box, reader: tuple[Source, Task]) -> None:
    source, task = reader
    memory: Any = task.mm
    wake(box, source, b"abc")
    assert box.results == [3, -errno.EACCES]
    assert ("copy", "init", (0x5000, b"abc")) in box.platform.log
    assert source.carriers[-1] in (task.context, None)
    assert (memory.pending, memory.fast) == (None, None)


def test_a_woken_read_that_fails_gives_its_error(box: Box, reader: tuple[Source, Task]) -> None:
    source, _ = reader
    wake(box, source, LinuxError(errno.ECONNRESET))
    assert box.results == [-errno.ECONNRESET, -errno.EACCES]


def test_a_bug_in_a_woken_read_ends_that_process(box: Box, reader: tuple[Source, Task]) -> None:
    source, task = reader
    wake(box, source, KeyError("bug"))
    assert task.exiting
    assert isinstance(box.oopses[0], KeyError)


def test_a_signal_ends_a_read_that_waits_and_has_it_begun_anew(box: Box, reader: tuple[Source, Task]) -> None:
    source, task = reader
    task.group.sighand.set(sg.SIGUSR1, SigAction(HANDLER, sg.SA_RESTORER | sg.SA_RESTART, RESTORER))
    source.left = [None]
    send_signal_group(task.group, SigInfo(sg.SIGUSR1, 0, pid=1))
    box.run()
    context: Any = task.context
    assert context.regs.rip == HANDLER
    assert saved_rax(task) == ADD
    assert task.wait is None and not source.queue.entries


def test_a_read_that_was_woken_gives_its_bytes_though_a_signal_came_too(box: Box, reader: tuple[Source, Task]) -> None:
    source, task = reader
    task.group.sighand.set(sg.SIGUSR1, SigAction(HANDLER, sg.SA_RESTORER, RESTORER))
    source.left = [7]
    source.queue.wake(po.POLLIN)
    send_signal_group(task.group, SigInfo(sg.SIGUSR1, 0, pid=1))
    box.run()
    context: Any = task.context
    assert context.regs.rip == HANDLER
    assert saved_rax(task) == 7


@pytest.mark.parametrize("found", [None, b"abc"])
def test_a_signal_that_comes_of_the_woken_read_itself_is_taken(
    box: Box, reader: tuple[Source, Task], found: bytes | None
) -> None:
    source, task = reader
    memory: Any = task.mm
    task.group.sighand.set(sg.SIGTTIN, SigAction(HANDLER, sg.SA_RESTORER, RESTORER))
    flushed: list[Any] = []
    memory.flush = lambda: flushed.append(memory.pending) or setattr(memory, "pending", None)

    class Sends(list):  # type: ignore[type-arg]
        def pop(self, _: Any = 0) -> Any:
            send_signal_group(task.group, SigInfo(sg.SIGTTIN, 0, pid=1))
            return found

    source.left = Sends()
    source.queue.wake(po.POLLIN)
    box.run()
    context: Any = task.context
    assert context.regs.rip == HANDLER
    assert flushed == ([found] if found else [])
    assert task.wait is None and not source.queue.entries


def test_one_entry_may_take_itself_from_the_queue_while_it_is_woken() -> None:
    queue = WaitQueue()
    seen: list[int] = []

    def leave(mask: int) -> None:
        seen.append(mask)
        queue.remove(entry)
        queue.add(WaitEntry(seen.append))

    entry = WaitEntry(leave, po.POLLIN)
    queue.add(entry)
    queue.wake(po.POLLOUT)
    assert seen == []
    queue.wake(po.POLLIN)
    assert seen == [po.POLLIN]
    queue.wake(po.POLLIN)
    assert seen == [po.POLLIN] * 2

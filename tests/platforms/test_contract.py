"""Every platform passes the conformance suite. systrap's checks run in forked processes: it reaps all children."""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import pytest

from platforms._host import ffi
from platforms.base import Op
from platforms.systrap import layout
from platforms.testing import contract
from platforms.testing.scripted import Call, Fault, ScriptedContext, ScriptedPlatform, Spin

CODE = 0x2000_0000
_ANON = 0x32


class ScriptedHarness:
    executes = False

    def __init__(self) -> None:
        self.platform: Any = ScriptedPlatform()

    def _program(self, steps: tuple[Any, ...]) -> Callable[[ScriptedContext], Generator[Any, int, None]]:
        def program(context: ScriptedContext) -> Generator[Any, int, None]:
            for step in steps:
                if not isinstance(step, Spin):
                    yield step
            while True:
                yield Spin()

        return program

    def guest(self, *steps: Any) -> Any:
        return self.platform.start_guest("guest", self._program(steps))

    def child_steps(self, *steps: Any) -> None:
        self.platform.programs.append(("child", self._program(steps)))


class SystrapHarness:
    """Steps become machine code; the result of a call is kept in rbx for the next stop."""

    executes = True

    def __init__(self) -> None:
        from platforms.systrap import systrap_platform

        self.platform: Any = systrap_platform.SystrapPlatform()
        self.platform.start()
        space = systrap_platform.SystrapAddressSpace
        read, write = space.read_into, space.write_from
        space.read_into = lambda self, addr, buffer, n: read(self, addr, ffi.from_buffer(buffer), n)  # type: ignore
        space.write_from = lambda self, addr, buffer, n: write(self, addr, ffi.from_buffer(buffer), n)  # type: ignore

    def guest(self, *steps: Any) -> Any:
        made: list[Any] = []
        self.platform.new_space(lambda context, result: made.append(context))
        contract._pump(self, lambda: bool(made))
        context = made[0]
        code = assemble(steps)
        pages = (len(code) + 4095) // 4096
        assert contract.ops(self, context, contract.mmap_op(CODE, pages)) == [CODE]
        assert contract.write(context, CODE, code) == len(code)
        assert contract.ops(self, context, Op(10, (CODE, pages * 4096, 5, 0, 0, 0))) == [0]
        context.regs.rip = CODE
        context.regs.rsp = CODE + 64
        return context

    def child_steps(self, *steps: Any) -> None:
        """The child of a clone goes on in its parent's code, where a call follows."""


def assemble(steps: tuple[Any, ...]) -> bytes:
    code = b""
    for step in steps:
        if isinstance(step, Call):
            loads = ((0x48, 0xBF), (0x48, 0xBE), (0x48, 0xBA), (0x49, 0xBA), (0x49, 0xB8), (0x49, 0xB9))
            for (rex, op), value in zip(loads, (*step.args, 0, 0, 0, 0, 0, 0), strict=False):
                code += bytes([rex, op]) + struct.pack("<Q", value)
            code += b"\xb8" + struct.pack("<I", step.nr) + b"\x90\x0f\x05" + b"\x48\x89\xc3"
        elif isinstance(step, Fault):
            code += b"\x48\xb8" + struct.pack("<Q", step.addr) + b"\x8a\x00"
        elif isinstance(step, Spin):
            code += b"\xeb\xfe"
    return code + b"\xeb\xfe"


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_scripted(check: Callable[[Any], None]) -> None:
    check(ScriptedHarness())


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_systrap(check: Callable[[Any], None]) -> None:
    run_apart(check)


def run_apart(check: Callable[[Any], None]) -> None:
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        harness: Any = None
        try:
            harness = SystrapHarness()
            check(harness)
            status = 0
        except BaseException:
            os.write(theirs, traceback.format_exc().encode()[-4000:])
        finally:
            for process in harness.platform.spaces_by_pid if harness else ():
                with suppress(
                    ProcessLookupError
                ):  # held, or kept for another program: nobody tells it anything any more
                    os.kill(process, signal.SIGKILL)
            os._exit(status)
    os.close(theirs)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(ours, "rb") as pipe:
        os.set_blocking(pipe.fileno(), False)
        said = pipe.read() or b""
    assert status == 0, said.decode()


# --- systrap's own: address spaces made ahead, whose process waits in its first call ---
def made_ahead(harness: Any) -> Any:
    """The spare's context, when it is there."""
    platform = harness.platform
    platform.prepare_space()
    platform.prepare_space()  # there is one already, or it is being made
    contract._pump(harness, lambda: any(not spare.dead for spare in platform.spares))
    return platform.spares[-1]


def taken(harness: Any) -> Any:
    made: list[Any] = []
    harness.platform.new_space(lambda context, result: made.append(context))
    assert made, "it is not there at once"
    return made[0]


def file_with(text: bytes) -> int:
    fd = os.memfd_create("file")
    os.write(fd, text)
    return fd


def map_file(addr: int, fd: int) -> Op:
    return Op(9, (addr, 4096, 1, 0x12, 0, 0), fd)


def spare_is_taken_at_once_and_gets_its_files(harness: Any) -> None:
    before = harness.platform.counts()
    spare = made_ahead(harness)
    assert harness.platform.counts() == before
    assert taken(harness) is spare
    assert harness.platform.counts()["processes"] == before["processes"] + 1
    files = [map_file(CODE, file_with(b"one")), map_file(CODE + 4096, file_with(b"two"))]
    assert contract.ops(harness, spare, *files) == [CODE, CODE + 4096]
    assert contract.read(spare, CODE, 3) == (3, b"one")
    assert contract.read(spare, CODE + 4096, 3) == (3, b"two")
    later = contract.ops(harness, spare, Op(9, (CODE, 4096, 1, 0x12, layout.DONATED_FD, 0)))
    assert later == [-errno.EBADF]  # nothing stays handed in
    spare.exit()


def request_takes_the_spare_that_is_being_made(harness: Any) -> None:
    platform = harness.platform
    platform.prepare_space()
    made: list[Any] = []
    platform.new_space(lambda context, result: made.append(context))
    platform.new_space(lambda context, result: made.append(context))
    contract._pump(harness, lambda: len(made) == 2)
    assert not platform.spares
    assert platform.counts()["processes"] == 3  # the pristine one and these
    for context in made:
        assert contract.ops(harness, context, contract.mmap_op(CODE)) == [CODE]
    contract.write(made[0], CODE, b"mine")
    assert contract.read(made[1], CODE, 4) == (4, bytes(4))


def spare_that_died_is_replaced(harness: Any) -> None:
    platform = harness.platform
    spare = made_ahead(harness)
    os.kill(spare.tgid, 9)
    for _ in range(1000):
        platform.reap()
        if spare.dead:
            break
        time.sleep(0.001)
    while platform.lost:
        platform.lost.pop().abandon()
    assert platform.counts()["processes"] == 1
    another = made_ahead(harness)
    assert another is not spare
    assert contract.ops(harness, taken(harness), contract.mmap_op(CODE)) == [CODE]


def spare_that_ends_unused_leaves_nothing(harness: Any) -> None:
    made_ahead(harness)
    context = taken(harness)
    context.exit()
    context.space.release()
    for _ in range(1000):
        harness.platform.reap()
        if harness.platform.counts()["processes"] == 1:
            return
        time.sleep(0.001)
    raise AssertionError("its process is still there")


# --- systrap's own: host threads that wait for another task ---
def ended_thread_is_the_next_one(harness: Any) -> None:
    parent = contract.begin(harness, Call(56), Call(39))
    done: list[int] = []
    first = harness.platform.add_thread(parent, done.append)
    contract._pump(harness, lambda: bool(done))
    first.owner = "first"
    first.kill()
    assert first.dead
    assert harness.platform.counts()["contexts"] == 2  # this process and the pristine one: it is nobody's
    again = None
    for _ in range(1000):
        again = harness.platform.reuse_thread(parent)
        if again is not None:
            break
        time.sleep(0.001)  # it leaves its frames first
    assert again is first
    assert (again.dead, again.owner, again.tid) == (False, None, done[0])
    again.return_in_child(CODE + 160, CODE)
    again.resume_registers()
    assert contract.collect(harness) is again
    assert (again.nr, again.regs.rbx, again.regs.rsp, again.fs_base) == (39, 0, CODE + 160, CODE)
    parent.resume(7)
    assert contract.collect(harness) is parent
    assert (parent.nr, parent.regs.rbx, parent.regs.rsp) == (39, 7, CODE + 64)
    again.exit()
    parent.exit()


def _with_an_idle_thread(harness: Any, *steps: Any) -> tuple[Any, int]:
    """A held context, and the id of a host thread of the same process that waits for a task."""
    parent = contract.begin(harness, *steps)
    done: list[int] = []
    first = harness.platform.add_thread(parent, done.append)
    contract._pump(harness, lambda: bool(done))
    first.kill()
    return parent, done[0]


def _handed_over(harness: Any, parent: Any) -> Any:
    """A context that runs in the thread of `parent`, which is answered with 7 and has none."""
    tid = parent.tid
    context = harness.platform.hand_thread_over(parent)
    assert (context.tid, context.tgid, parent.tid) == (tid, parent.tgid, 0)
    context.return_in_child(CODE + 160, CODE)
    context.resume_registers()
    parent.resume(7)
    return context


def thread_that_was_handed_over_comes_back(harness: Any) -> None:
    parent, _ = _with_an_idle_thread(harness, Call(56), Call(56), Call(39))
    tid, base = parent.tid, parent.fs_base
    contexts = []
    for _ in range(2):
        context = _handed_over(harness, parent)
        contexts.append(context)
        assert contract.collect(harness) is context
        assert (context.regs.rbx, context.regs.rsp, context.fs_base) == (0, CODE + 160, CODE)
        context.exit()
        assert contract.collect(harness) is parent
        assert (parent.tid, context.tid) == (tid, 0)
        assert (parent.regs.rbx, parent.regs.rsp, parent.fs_base) == (7, CODE + 64, base)
    assert contexts[0] is contexts[1]
    assert parent.nr == 39
    parent.exit()


def thread_that_is_away_for_long_is_replaced(harness: Any) -> None:
    parent, idle = _with_an_idle_thread(harness, Call(56), Call(39), Call(40))
    tid = parent.tid
    platform = harness.platform
    context = _handed_over(harness, parent)
    assert contract.collect(harness) is context
    for _ in range(1000):  # it leaves the parent's slot first, and the idle one its frames
        platform.give_threads(time.monotonic_ns() + 1_000_000_000)
        if parent.tid:
            break
        time.sleep(0.001)
    assert contract.collect(harness) is parent
    assert (parent.tid, parent.nr, parent.regs.rbx, context.tid) == (idle, 39, 7, tid)
    assert not platform.wanting
    context.resume(3)
    assert contract.collect(harness) is context
    assert (context.nr, context.regs.rbx) == (40, 3)
    context.exit()
    assert [platform.hand_thread_over(parent) for _ in range(4)] == [None] * 4  # it was in vain
    assert platform.hand_thread_over(parent) is not None
    parent.exit()


def _waits_in_the_thread_of_its_parent(harness: Any, parent: Any, idle: int) -> Any:
    """A context that was handed the thread of `parent`, and waits in it: that one has `idle` instead, and is held."""
    time.sleep(0.01)  # for the idle one to leave its frames
    context = _handed_over(harness, parent)
    assert contract.collect(harness) is context
    context.park()
    assert contract.collect(harness) is parent
    assert parent.tid == idle
    return context


def who_waits_gives_its_parent_another_thread(harness: Any) -> None:
    parent, idle = _with_an_idle_thread(harness, Call(56), Call(39))
    context = _waits_in_the_thread_of_its_parent(harness, parent, idle)
    parent.exit()
    context.exit()


def who_handed_its_thread_over_can_end(harness: Any) -> None:
    parent, _ = _with_an_idle_thread(harness, Call(56), Call(39))
    context = _handed_over(harness, parent)
    parent.kill()
    assert parent.dead
    assert not harness.platform.wanting
    assert contract.collect(harness) is context
    context.park()
    context.exit()
    assert harness.platform.counts()["contexts"] == 1


def the_first_thread_does_not_come_back_to_who_gave_another_away(harness: Any) -> None:
    parent, idle = _with_an_idle_thread(harness, Call(56), Call(56), Call(39))
    platform = harness.platform
    first = _waits_in_the_thread_of_its_parent(harness, parent, idle)
    first.resume(3)
    assert contract.collect(harness) is first
    done: list[int] = []
    another = platform.add_thread(first, done.append)
    contract._pump(harness, lambda: bool(done))
    another.kill()
    time.sleep(0.01)
    second = platform.hand_thread_over(parent)
    first.exit()  # the other thread is still in its parent's slot
    assert (second.tid, parent.tid) == (idle, 0)
    second.return_in_child(CODE + 160, CODE)
    second.resume_registers()
    parent.resume(7)
    assert contract.collect(harness) is second
    assert (second.regs.rbx, second.regs.rsp) == (0, CODE + 160)
    second.exit()
    assert contract.collect(harness) is parent
    assert (parent.tid, parent.nr, parent.regs.rbx, parent.regs.rsp) == (idle, 39, 7, CODE + 64)
    assert parent.space.promises == 0
    parent.exit()


def a_handover_that_is_never_begun_changes_nothing(harness: Any) -> None:
    parent, _ = _with_an_idle_thread(harness, Call(56), Call(39))
    tid = parent.tid
    context = harness.platform.hand_thread_over(parent)
    context.exit()
    assert (parent.tid, parent.space.promises) == (tid, 0)
    parent.resume(7)
    assert contract.collect(harness) is parent
    assert (parent.nr, parent.regs.rbx) == (39, 7)
    parent.exit()


def a_copy_travels_with_the_answer_to_a_trapped_call(harness: Any) -> None:
    context = contract.begin(harness, Call(39), Call(40), Call(41))
    assert contract.ops(harness, context, contract.mmap_op(CODE + 0x10000, 2)) == [CODE + 0x10000]
    context.resume_with_copy(11, CODE + 0x10FFE, b"over")
    assert contract.collect(harness) is context
    assert (context.nr, context.regs.rbx) == (40, 11)
    assert contract.read(context, CODE + 0x10FFD, 6) == (6, b"\0over\0")
    context.park()
    context.resume_with_copy(12, CODE + 0x10000, bytes(range(200)))  # when it sleeps, too
    assert contract.collect(harness) is context
    assert (context.nr, context.regs.rbx) == (41, 12)
    assert contract.read(context, CODE + 0x10000, 200) == (200, bytes(range(200)))
    context.exit()


def a_copy_travels_with_the_first_step_of_a_forked_child(harness: Any) -> None:
    parent = contract.begin(harness, Call(57), Call(39))
    assert contract.ops(harness, parent, contract.mmap_op(CODE + 0x10000)) == [CODE + 0x10000]
    contract.write(parent, CODE + 0x10000, b"old")
    done: list[int] = []
    child = harness.platform.fork_space(parent, done.append, held=True, copy_frame=True)
    contract._pump(harness, lambda: bool(done))
    child.return_in_child(0, None)
    child.resume_with_copy(0, CODE + 0x10000, b"new")
    assert contract.collect(harness) is child
    assert (child.nr, child.regs.rbx, child.regs.rsp) == (39, 0, CODE + 64)
    assert contract.read(child, CODE + 0x10000, 3) == (3, b"new")
    assert contract.read(parent, CODE + 0x10000, 3) == (3, b"old")
    child.exit()
    parent.exit()


def cpu_time_is_looked_at_when_the_last_look_is_too_old(harness: Any) -> None:
    context = contract.begin(harness, Call(39), Spin())
    context.resume(0)
    space, tgid = context.space, context.tgid
    space.account_cpu(tgid, 1)
    time.sleep(0.02)
    before = context.cpu_ns
    space.account_cpu(tgid, 10_000_000_000)
    assert context.cpu_ns == before
    assert context.cpu_time_ns() > before
    before = context.cpu_ns
    time.sleep(0.02)
    space.account_cpu(tgid, 1_000_000)
    assert context.cpu_ns > before
    context.interrupt()
    assert contract.collect(harness) is context
    context.exit()


def a_guest_does_not_spin_for_a_sentry_that_is_not_woken(harness: Any) -> None:
    """Its ring may have woken the Sentry on its own processor. In processor time, to which no other load adds."""
    platform = harness.platform
    context = contract.begin(harness, *[Call(39)] * 3)
    waiting = (context.at + layout.WAITING) // 4
    platform.set_spin(10_000_000, 0)

    def spun() -> int:
        before = context.cpu_time_ns()
        context.resume(0)
        end = time.monotonic() + 60
        while platform.u32[context.state_i] != layout.READY or not platform.u32[waiting]:
            assert time.monotonic() < end
            time.sleep(0.001)
        assert contract.collect(harness) is context
        return int(context.cpu_time_ns() - before)

    platform.arm()
    asleep = spun()
    platform.disarm()
    awake = spun()
    platform.set_spin(100, 0)
    context.exit()
    assert 0 < asleep * 3 < awake


OWN = (
    a_guest_does_not_spin_for_a_sentry_that_is_not_woken,
    a_copy_travels_with_the_answer_to_a_trapped_call,
    a_copy_travels_with_the_first_step_of_a_forked_child,
    ended_thread_is_the_next_one,
    thread_that_was_handed_over_comes_back,
    thread_that_is_away_for_long_is_replaced,
    who_waits_gives_its_parent_another_thread,
    who_handed_its_thread_over_can_end,
    the_first_thread_does_not_come_back_to_who_gave_another_away,
    a_handover_that_is_never_begun_changes_nothing,
    cpu_time_is_looked_at_when_the_last_look_is_too_old,
    spare_is_taken_at_once_and_gets_its_files,
    request_takes_the_spare_that_is_being_made,
    spare_that_died_is_replaced,
    spare_that_ends_unused_leaves_nothing,
)


@pytest.mark.parametrize("check", OWN, ids=lambda check: check.__name__)
def test_systrap_alone(check: Callable[[Any], None]) -> None:
    run_apart(check)

"""futex(2): every operation, with hypothesis against a list model of waiters."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.abi import futex_h as fh
from protocol.abi import sched_h as sc
from protocol.abi import signal_h as sg
from protocol.abi import time_h as th
from services.sentry.errors import Restart
from services.sentry.kernel.signals import SigAction, SigInfo, send_signal_task
from services.sentry.kernel.task import Task
from services.sentry.syscalls import processes as pc
from services.sentry.syscalls.futexes import sys_futex, sys_futex_waitv
from tests.unit.sentry.kernel.fakes import BASE, Machine

A, B = BASE + 0x100, BASE + 0x200
P = fh.FUTEX_PRIVATE_FLAG
THREAD = sc.CLONE_VM | sc.CLONE_FS | sc.CLONE_FILES | sc.CLONE_SIGHAND | sc.CLONE_THREAD


def thread(machine: Machine) -> Task:
    tid = machine.call(machine.init, pc.sys_clone, THREAD, 0, 0, 0, 0)
    return machine.kernel.tasks[tid or 0]


def waiters(machine: Machine, count: int, addr: int = A, op: int = fh.FUTEX_WAIT | P, value3: int = 0) -> list[Task]:
    made = [thread(machine) for _ in range(count)]
    for task in made:
        assert machine.call(task, sys_futex, addr, op, task.mm.read_u32(addr), 0, 0, value3) is None
    return made


def test_wait_on_a_changed_word_is_eagain(machine: Machine) -> None:
    machine.init.mm.write_u32(A, 1)
    assert machine.call(machine.init, sys_futex, A, P, 2, 0, 0, 0) == -errno.EAGAIN


@pytest.mark.parametrize(
    ("addr", "op", "expected"),
    [
        (A + 1, fh.FUTEX_WAKE | P, -errno.EINVAL),
        (1 << 50, fh.FUTEX_WAKE | P, -errno.EFAULT),
        (8, fh.FUTEX_WAIT | P, -errno.EFAULT),
        (8, fh.FUTEX_WAKE, -errno.EFAULT),
        (A, fh.FUTEX_LOCK_PI, -errno.ENOSYS),
        (A, 99, -errno.ENOSYS),
        (A, fh.FUTEX_WAKE | fh.FUTEX_CLOCK_REALTIME, -errno.ENOSYS),
        (A, fh.FUTEX_WAIT_BITSET, -errno.EINVAL),
        (A, fh.FUTEX_WAKE_BITSET, -errno.EINVAL),
        (A, fh.FUTEX_WAKE | P, 0),
    ],
)
def test_futex_errors(machine: Machine, addr: int, op: int, expected: int) -> None:
    assert machine.call(machine.init, sys_futex, addr, op, 1, 0, 0, 0) == expected


def test_wake_is_in_order_of_arrival_and_counts(machine: Machine) -> None:
    tasks = waiters(machine, 3)
    assert machine.call(machine.init, sys_futex, A, fh.FUTEX_WAKE | P, 2, 0, 0, 0) == 2
    assert [machine.results.get(task) for task in tasks] == [0, 0, None]
    assert machine.call(machine.init, sys_futex, A, fh.FUTEX_WAKE | P, 2, 0, 0, 0) == 1
    assert not machine.kernel.futexes.waiters


def test_bitset_wakes_only_those_that_meet(machine: Machine) -> None:
    low = waiters(machine, 1, op=fh.FUTEX_WAIT_BITSET | P, value3=1)[0]
    high = waiters(machine, 1, op=fh.FUTEX_WAIT_BITSET | P, value3=2)[0]
    assert machine.call(machine.init, sys_futex, A, fh.FUTEX_WAKE_BITSET | P, 9, 0, 0, 2) == 1
    assert (machine.results.get(low), machine.results.get(high)) == (None, 0)


def test_wait_without_a_time_limit_may_name_the_wall_clock_if_it_is_a_bitset_wait(machine: Machine) -> None:
    op = fh.FUTEX_WAIT_BITSET | fh.FUTEX_CLOCK_REALTIME | P  # pthread_join(3)
    task = waiters(machine, 1, op=op, value3=fh.FUTEX_BITSET_MATCH_ANY)[0]
    assert machine.call(machine.init, sys_futex, A, fh.FUTEX_WAKE_BITSET | P, 1, 0, 0, 1 << 31) == 1
    assert machine.results.get(task) == 0
    op = fh.FUTEX_WAIT | fh.FUTEX_CLOCK_REALTIME | P
    assert machine.call(task, sys_futex, A, op, 0, 0, 0, fh.FUTEX_BITSET_MATCH_ANY) == -errno.ENOSYS


def test_timeouts_relative_absolute_and_realtime(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, th.timespec_of(500))
    assert machine.call(task, sys_futex, A, fh.FUTEX_WAIT | P, 0, BASE, 0, 0) is None
    machine.advance(500)
    assert machine.results[task] == -errno.ETIMEDOUT
    for op, now in ((0, machine.clock.monotonic_ns()), (fh.FUTEX_CLOCK_REALTIME, machine.clock.realtime_ns())):
        task.mm.write(BASE, th.timespec_of(now + 700 if not op else machine.clock.realtime_ns() + 700))
        op |= fh.FUTEX_WAIT_BITSET | P
        assert machine.call(task, sys_futex, A, op, 0, BASE, 0, fh.FUTEX_BITSET_MATCH_ANY) is None
        machine.advance(699)
        assert task not in machine.results
        machine.advance(1)
        assert machine.results[task] == -errno.ETIMEDOUT
    assert not machine.kernel.futexes.waiters
    task.mm.write(BASE, th.TIMESPEC.pack(0, 10**9))
    assert machine.call(task, sys_futex, A, fh.FUTEX_WAIT | P, 0, BASE, 0, 0) == -errno.EINVAL


def test_signal_ends_a_wait_and_leaves_no_waiter(machine: Machine) -> None:
    task = waiters(machine, 1)[0]
    task.group.sighand.set(sg.SIGUSR1, SigAction(0x1234, sg.SA_RESTORER, 0x99))
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    machine.run()
    assert machine.results[task] == -Restart.SYS
    assert not machine.kernel.futexes.waiters


def test_woken_and_signalled_at_once_is_a_success(machine: Machine) -> None:
    task = waiters(machine, 1)[0]
    task.group.sighand.set(sg.SIGUSR1, SigAction(0x1234, sg.SA_RESTORER, 0x99))
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    machine.kernel.futexes.wake((task.mm, A), 1)
    machine.run()
    assert machine.results[task] == 0


def test_requeue_moves_the_rest_to_the_second_word(machine: Machine) -> None:
    tasks = waiters(machine, 4)
    assert machine.call(machine.init, sys_futex, A, fh.FUTEX_CMP_REQUEUE | P, 1, 2, B, 5) == -errno.EAGAIN
    assert machine.call(machine.init, sys_futex, A, fh.FUTEX_CMP_REQUEUE | P, 1, 2, B, 0) == 3
    assert [machine.results.get(task) for task in tasks] == [0, None, None, None]
    assert machine.call(machine.init, sys_futex, B, fh.FUTEX_WAKE | P, 9, 0, 0, 0) == 2
    assert machine.call(machine.init, sys_futex, A, fh.FUTEX_WAKE | P, 9, 0, 0, 0) == 1


def test_requeued_waiter_times_out_from_its_new_queue(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, th.timespec_of(500))
    assert machine.call(task, sys_futex, A, fh.FUTEX_WAIT | P, 0, BASE, 0, 0) is None
    other = thread(machine) if task.wait is None else None
    assert other is None
    machine.kernel.futexes.requeue((task.mm, A), (task.mm, B), 0, 1)
    machine.advance(500)
    assert machine.results[task] == -errno.ETIMEDOUT
    assert not machine.kernel.futexes.waiters


@pytest.mark.parametrize(
    ("op", "operand", "old", "new"),
    [(0, 7, 3, 7), (1, 7, 3, 10), (2, 4, 3, 7), (3, 1, 3, 2), (4, 1, 3, 2), (8, 5, 3, 32), (1, 0xFFF, 3, 2)],
)
def test_wake_op_changes_the_word_and_compares_the_old(
    machine: Machine, op: int, operand: int, old: int, new: int
) -> None:
    task = machine.init
    first = waiters(machine, 1)[0]
    second = waiters(machine, 1, B)[0]
    task.mm.write_u32(B, old)
    encoded = op << 28 | fh.FUTEX_OP_CMP_EQ << 24 | operand << 12 | old
    assert machine.call(task, sys_futex, A, fh.FUTEX_WAKE_OP | P, 1, 1, B, encoded) == 2
    assert task.mm.read_u32(B) == new
    assert (machine.results[first], machine.results[second]) == (0, 0)


def test_shared_and_private_keys_meet_in_private_memory(machine: Machine) -> None:
    waiters(machine, 1, op=fh.FUTEX_WAIT)
    assert machine.call(machine.init, sys_futex, A, fh.FUTEX_WAKE, 1, 0, 0, 0) == 1


def test_waitv_answers_with_the_index_that_was_awakened(machine: Machine) -> None:
    task = thread(machine)
    entry = fh.FUTEX_WAITV_ENTRY.pack
    flags = fh.FUTEX_32 | fh.FUTEX2_PRIVATE
    task.mm.write(BASE, entry(0, A, flags, 0) + entry(0, B, flags, 0))
    assert machine.call(task, sys_futex_waitv, BASE, 2, 0, 0, 0) is None
    assert machine.call(machine.init, sys_futex, B, fh.FUTEX_WAKE | P, 1, 0, 0, 0) == 1
    assert machine.results[task] == 1
    assert not machine.kernel.futexes.waiters
    task.mm.write_u32(A, 4)
    assert machine.call(task, sys_futex_waitv, BASE, 2, 0, 0, 0) == -errno.EAGAIN


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("wkr"), st.booleans(), st.integers(0, 3), st.integers(0, 3)), max_size=25))
def test_random_wait_wake_requeue_agree_with_a_model(machine: Machine, steps: list[tuple[str, bool, int, int]]) -> None:
    model: dict[int, list[Task]] = {A: [], B: []}
    machine.kernel.futexes.waiters.clear()
    for kind, second, one, two in steps:
        addr = B if second else A
        if kind == "w":
            model[addr] += waiters(machine, 1, addr)
        elif kind == "k":
            count = max(1, one)
            expected, model[addr] = model[addr][:count], model[addr][count:]
            assert machine.call(machine.init, sys_futex, addr, fh.FUTEX_WAKE | P, one, 0, 0, 0) == len(expected)
            assert all(machine.results[task] == 0 for task in expected)
        else:
            target = A if second else B
            woken, rest = model[addr][:one], model[addr][one:]
            moved, model[addr] = rest[:two], rest[two:]
            model[target] += moved
            op = fh.FUTEX_REQUEUE | P
            assert machine.call(machine.init, sys_futex, addr, op, one, two, target, 0) == len(woken) + len(moved)
    table = machine.kernel.futexes.waiters.items()
    held = {key[1]: [w.task for w in queue] for key, queue in table}  # type: ignore[index]
    assert held == {addr: tasks for addr, tasks in model.items() if tasks}


class Carrier:
    """A context whose patched call brought the word along, as long as no wake-up was served."""

    def __init__(self, machine: Machine, word: int) -> None:
        self.word: int | None = word
        machine.kernel.futexes.note_wake = self.forget

    def forget(self) -> None:
        self.word = None

    def brought_word(self) -> int | None:
        return self.word


@pytest.mark.parametrize(
    ("op", "value", "addr2"),
    [
        (fh.FUTEX_WAKE, 1, 0),
        (fh.FUTEX_WAKE_BITSET, 1, 0),
        (fh.FUTEX_WAKE_OP, 1, B),
        (fh.FUTEX_REQUEUE, 0, B),
        (fh.FUTEX_CMP_REQUEUE, 0, B),
    ],
)
@pytest.mark.parametrize("wait_op", [fh.FUTEX_WAIT, fh.FUTEX_WAIT_BITSET])
def test_a_word_brought_along_decides_until_a_wake_up_is_served(
    machine: Machine, op: int, value: int, addr2: int, wait_op: int
) -> None:
    waiter = thread(machine)
    carrier: Any = Carrier(machine, 5)
    waiter.mm.fast = carrier
    assert machine.call(waiter, sys_futex, A, wait_op | P, 7, 0, 0, fh.FUTEX_BITSET_MATCH_ANY) == -errno.EAGAIN
    assert machine.call(waiter, sys_futex, A, wait_op | P, 0, 0, 0, fh.FUTEX_BITSET_MATCH_ANY) == -errno.EAGAIN
    value3 = fh.FUTEX_BITSET_MATCH_ANY if op == fh.FUTEX_WAKE_BITSET else 0
    machine.call(machine.init, sys_futex, A, op | P, value, 1, addr2, value3)
    assert machine.call(waiter, sys_futex, A, wait_op | P, 0, 0, 0, fh.FUTEX_BITSET_MATCH_ANY) is None


def test_one_waiter_is_answered_at_once_if_nothing_else_is_to_be_looked_at(machine: Machine) -> None:
    answers: list[tuple[Task, int]] = []

    def answer(task: Task, result: int) -> bool:
        machine.kernel.unpark(task)
        answers.append((task, result))
        return True

    (waiter,) = waiters(machine, 1)
    machine.kernel.answer = answer
    assert machine.call(machine.init, sys_futex, A, fh.FUTEX_WAKE | P, 1, 0, 0, 0) == 1
    assert answers == [(waiter, 0)]
    assert not machine.kernel.runnable
    assert not machine.kernel.futexes.waiters


def test_one_waiter_of_several_words_is_not_answered_by_the_word_alone(machine: Machine) -> None:
    waiter = thread(machine)
    entry = fh.FUTEX_WAITV_ENTRY.pack
    words = entry(0, A, fh.FUTEX_32 | fh.FUTEX2_PRIVATE, 0) + entry(0, B, fh.FUTEX_32 | fh.FUTEX2_PRIVATE, 0)
    waiter.mm.write(BASE + 0x400, words)
    assert machine.call(waiter, sys_futex_waitv, BASE + 0x400, 2, 0, 0, 0) is None
    machine.kernel.answer = lambda task, result: pytest.fail("its index is still to be found")
    assert machine.call(machine.init, sys_futex, B, fh.FUTEX_WAKE | P, 1, 0, 0, 0) == 1
    assert machine.results[waiter] == 1

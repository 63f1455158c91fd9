"""The signal mask while a guest's stub may change it: the Sentry always knows what it is, and no signal is missed."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.abi import sched_h as sc
from protocol.abi import signal_h as sg
from services.sentry.kernel.signal_delivery import deliver, set_altstack
from services.sentry.kernel.signals import SigAction, SigInfo, force_signal, send_signal_group, send_signal_task
from services.sentry.kernel.task import Task
from services.sentry.syscalls import processes as pc
from services.sentry.syscalls import signals as ss
from tests.unit.sentry.kernel.fakes import BASE, FakeContext, Machine

USR1, USR2 = 1 << (sg.SIGUSR1 - 1), 1 << (sg.SIGUSR2 - 1)
THREAD = sc.CLONE_VM | sc.CLONE_FS | sc.CLONE_FILES | sc.CLONE_SIGHAND | sc.CLONE_THREAD


class Stubbed(FakeContext):
    """A context whose stub changes the mask by itself; `word` is None while it has to ask."""

    def __init__(self) -> None:
        super().__init__()
        self.word: int | None = None
        self.traps = False
        self.told = (0, 0, 0)
        self.dead = False

    def share_mask(self, mask: int, traps: bool, altstack: tuple[int, int, int]) -> bool:
        assert not self.in_guest
        self.word, self.traps, self.told = mask, traps, altstack
        return True

    def shared_mask(self) -> int:
        assert self.word is not None and not self.in_guest
        return self.word

    def take_mask(self) -> int:
        assert self.word is not None
        word, self.word = self.word, None
        return word


def stubbed(task: Task) -> Stubbed:
    context = Stubbed()
    task.context = context
    return context


def ask(machine: Machine, task: Task, how: int, mask: int) -> None:
    """rt_sigprocmask(2) the long way."""
    task.mm.write_u64(BASE, mask)
    assert machine.call(task, ss.sys_rt_sigprocmask, how, BASE, 0, 8) == 0


def thread_of(machine: Machine) -> Task:
    tid = machine.call(machine.init, pc.sys_clone, THREAD, 0, 0, 0, 0)
    assert tid is not None
    return machine.kernel.tasks[tid]


def test_after_a_change_the_stub_makes_the_next_ones(machine: Machine) -> None:
    context = stubbed(machine.init)
    ask(machine, machine.init, sg.SIG_BLOCK, USR1)
    assert (context.word, context.traps) == (USR1, False)
    context.word = USR2
    assert machine.init.signal_mask == USR2  # as long as the thread is held the stub may go on
    assert context.word == USR2


def test_who_looks_at_a_running_thread_takes_the_mask_back(machine: Machine) -> None:
    context = stubbed(machine.init)
    ask(machine, machine.init, sg.SIG_SETMASK, 0)
    context.in_guest = True
    context.word = USR2
    assert machine.init.signal_mask == USR2
    assert context.word is None
    assert machine.init.signal_mask == USR2
    context.in_guest = False
    ask(machine, machine.init, sg.SIG_BLOCK, USR1)
    assert context.word == USR1 | USR2


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("send", [send_signal_task, lambda task, info: send_signal_group(task.group, info)])
def test_blocked_signal_is_found_by_the_call_that_unblocks_it(machine: Machine, running: bool, send: Any) -> None:
    init = machine.init
    init.group.sighand.set(sg.SIGUSR1, SigAction(0x400100, sg.SA_RESTORER, 0x400200, 0))
    context = stubbed(init)
    ask(machine, init, sg.SIG_SETMASK, 0)
    context.word = USR1  # blocked by the stub
    context.in_guest = running
    send(init, SigInfo(sg.SIGUSR1))
    assert not init.signal_pending
    assert context.word is None  # so whoever unblocks it has to ask
    context.in_guest = False
    init.mm.write_u64(BASE, USR1)
    ss.sys_rt_sigprocmask(init, sg.SIG_BLOCK, BASE, 0, 8)
    assert context.word is None  # and goes on having to
    init.mm.write_u64(BASE, 0)
    ss.sys_rt_sigprocmask(init, sg.SIG_SETMASK, BASE, 0, 8)
    assert init.signal_pending
    assert context.word is None


def test_signal_of_the_process_ends_it_for_all_its_threads(machine: Machine) -> None:
    init = machine.init
    init.group.sighand.set(sg.SIGUSR1, SigAction(0x400100, sg.SA_RESTORER, 0x400200, 0))
    other = thread_of(machine)
    contexts = stubbed(init), stubbed(other)
    for task, context in zip((init, other), contexts, strict=True):
        ask(machine, task, sg.SIG_SETMASK, 0)
        assert context.traps  # in a program with threads calls that trap are answered too
        context.word = USR1
        context.in_guest = True
    send_signal_group(init.group, SigInfo(sg.SIGUSR1))
    assert [context.word for context in contexts] == [None, None]
    assert [task.signal_mask for task in (init, other)] == [USR1, USR1]


def test_signal_of_one_thread_leaves_the_others_alone(machine: Machine) -> None:
    other = thread_of(machine)
    contexts = stubbed(machine.init), stubbed(other)
    for task in (machine.init, other):
        ask(machine, task, sg.SIG_SETMASK, USR1)
    send_signal_task(other, SigInfo(sg.SIGUSR1))
    assert [context.word for context in contexts] == [USR1, None]


def test_fault_takes_it_back(machine: Machine) -> None:
    context = stubbed(machine.init)
    ask(machine, machine.init, sg.SIG_SETMASK, 0)
    context.word = 1 << (sg.SIGSEGV - 1)
    force_signal(machine.init, SigInfo(sg.SIGSEGV))
    assert context.word is None
    assert machine.init.signal_mask == 0  # a blocked fault kills


def test_not_while_calls_must_be_seen_or_another_mask_is_in_force(machine: Machine) -> None:
    context = stubbed(machine.init)
    machine.kernel.tracing = True
    ask(machine, machine.init, sg.SIG_SETMASK, 0)
    assert context.word is None
    machine.kernel.tracing = False
    machine.init.saved_mask = 0
    ask(machine, machine.init, sg.SIG_SETMASK, 0)
    assert context.word is None


def test_mask_outlives_the_context_it_was_in(machine: Machine) -> None:
    context = stubbed(machine.init)
    ask(machine, machine.init, sg.SIG_SETMASK, 0)
    context.word = USR1
    machine.init.keep_mask()
    context.dead = True
    stubbed(machine.init)
    assert machine.init.signal_mask == USR1


def test_slot_of_a_dead_context_is_not_looked_at(machine: Machine) -> None:
    context = stubbed(machine.init)
    ask(machine, machine.init, sg.SIG_SETMASK, USR2)
    context.word, context.dead = USR1, True  # another's by now
    assert machine.init.signal_mask == USR2
    machine.init.signal_mask = 0
    assert context.word == USR1


def enter_handler(machine: Machine) -> Stubbed:
    """Init is in a handler of SIGUSR1, whose frame the Sentry built."""
    init = machine.init
    context = stubbed(init)
    init.group.sighand.set(sg.SIGUSR1, SigAction(0x400100, sg.SA_RESTORER | sg.SA_ONSTACK, 0x400200, 0))
    send_signal_group(init.group, SigInfo(sg.SIGUSR1))
    assert deliver(init, 0)
    return context


def test_stub_may_return_from_a_handler_that_was_entered(machine: Machine) -> None:
    init = machine.init
    stack = BASE + 0x2000, 0, 0x4000
    set_altstack(init, stack[0], stack[1], stack[2])
    context = enter_handler(machine)
    assert (context.word, context.told) == (USR1, stack)
    context.word = 0  # it did
    assert init.signal_mask == 0


def test_stub_may_not_return_from_a_handler_while_another_signal_waits(machine: Machine) -> None:
    machine.init.signal_mask = USR2
    send_signal_group(machine.init.group, SigInfo(sg.SIGUSR2))
    assert enter_handler(machine).word is None


@pytest.mark.parametrize("change", [lambda task: set_altstack(task, BASE, 0, 0x4000), Task.reset_altstack])
def test_another_altstack_is_for_the_sentry_to_give_back(machine: Machine, change: Any) -> None:
    context = enter_handler(machine)
    assert context.word is not None
    change(machine.init)
    assert context.word is None
    assert machine.init.signal_mask == USR1

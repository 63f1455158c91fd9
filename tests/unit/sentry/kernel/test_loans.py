"""kernel/loans.py: which memory fork(2) lends, what of it is saved, and that a loan in vain is not repeated at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from platforms.systrap.layout import LOAN_MOST, LOAN_RANGES_MOST
from protocol.abi import mman_h as mm_h
from services.sentry.kernel import exits
from services.sentry.kernel.loans import Loan, after_loan, what_to_lend
from services.sentry.kernel.waiter import Wait, WaitQueue
from services.sentry.mm.vma_set import Vma

RW = mm_h.PROT_READ | mm_h.PROT_WRITE
STACK = 0x7000_0000


class Memory(SimpleNamespace):
    def __init__(self, *areas: Vma) -> None:
        super().__init__(users=1, lent_to=None, loan=None, loans_to_skip=0, vain_loans=0, local_maps=None)
        self.vmas = SimpleNamespace(areas=areas)
        self.written: list[int] = []

    def add_user(self) -> None:
        self.users += 1

    def release(self) -> None:
        self.users -= 1


class Context(SimpleNamespace):
    def __init__(self) -> None:
        super().__init__(has_full_frame=True, can_save=lambda: True, regs=SimpleNamespace(rsp=STACK + 0x8008))
        self.back: list[Any] = []

    def put_memory_back(self, done: Any) -> None:
        self.back.append(done)


def task(*areas: Vma) -> Any:
    timers = SimpleNamespace(call_at=lambda when, action: SimpleNamespace(cancel=lambda: None))
    kernel = SimpleNamespace(tracing=False, timers=timers, clock=SimpleNamespace(monotonic_ns=lambda: 0))
    group = SimpleNamespace(tasks={1: None}, dumpable=1)
    return SimpleNamespace(mm=Memory(*areas), context=Context(), group=group, kernel=kernel, loan=None)


def test_what_is_private_and_writable_is_saved_but_for_the_unused_end_of_the_stack() -> None:
    parent = task(
        Vma(0x10000, 0x12000, mm_h.PROT_READ),
        Vma(0x12000, 0x14000, RW),
        Vma(0x20000, 0x21000, RW, shared=True),
        Vma(0x30000, 0x31000, mm_h.PROT_WRITE),
        Vma(0x40000, 0x41000, RW, reserved=True),
        Vma(STACK, STACK + 0x10000, RW),
    )
    low = STACK + 0x8008 - 128 & -64  # the red zone is in use
    assert what_to_lend(parent) == [(0x12000, 0x2000), (0x30000, 0x1000), (low, STACK + 0x10000 - low)]


def test_there_is_a_limit() -> None:
    assert what_to_lend(task(Vma(0x10000, 0x10000 + LOAN_MOST, RW))) is not None
    assert what_to_lend(task(Vma(0x10000, 0x11000 + LOAN_MOST, RW))) is None
    many = [Vma(0x10000 * k, 0x10000 * k + 0x1000, RW) for k in range(1, LOAN_RANGES_MOST + 1)]
    assert what_to_lend(task(*many)) is not None
    assert what_to_lend(task(*many, Vma(0x1000_0000, 0x1000_1000, RW))) is None


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("mm", "users", 2),
        ("mm", "lent_to", object()),
        ("group", "tasks", {1: None, 2: None}),
        ("group", "dumpable", 0),
        ("kernel", "tracing", True),
        ("context", "has_full_frame", False),
        ("context", "can_save", lambda: False),
    ],
)
def test_memory_that_others_use_or_may_not_write_to_is_not_lent(where: str, name: str, value: Any) -> None:
    parent = task(Vma(0x12000, 0x14000, RW))
    assert what_to_lend(parent)
    setattr(getattr(parent, where), name, value)
    assert what_to_lend(parent) is None


@pytest.mark.parametrize("attribute", ["dont_fork", "locked"])
def test_what_a_child_does_not_have_as_its_parent_has_it_is_copied(attribute: str) -> None:
    area = Vma(0x12000, 0x14000, RW)
    setattr(area, attribute, True)
    assert what_to_lend(task(area)) is None


def lend(parent: Any) -> Any:
    child = task()
    child.vfork_done = WaitQueue()
    return Loan(parent, child)


def give_back(loan: Any, returned: Any = lambda: None) -> None:
    loan.give_back(returned)
    loan.context.back.pop()([])


def test_after_loans_in_vain_ever_more_forks_copy() -> None:
    parent = task(Vma(0x12000, 0x14000, RW))
    for skipped in (1, 3, 7):
        loan = lend(parent)
        loan.in_vain = True
        give_back(loan)
        assert [bool(what_to_lend(parent)) for _ in range(skipped + 1)] == [False] * skipped + [True]
    give_back(lend(parent))
    assert what_to_lend(parent)


def test_the_parent_goes_on_when_its_memory_is_its_own_again() -> None:
    parent = task()
    loan = lend(parent)
    assert (parent.mm.users, parent.mm.lent_to) == (2, loan.child)
    told: list[int] = []
    loan.give_back(lambda: told.append(parent.mm.users))
    loan.give_back(lambda: told.append(0))  # under way
    assert not told
    assert parent.mm.lent_to is loan.child
    parent.context.back.pop()([])
    assert told == [2]
    assert (parent.mm.users, parent.mm.lent_to, loan.child.loan) == (1, None, None)
    assert not parent.context.back


def test_who_copies_from_lent_memory_waits() -> None:
    parent = task()
    assert after_loan(parent.mm, lambda: 5) == 5
    loan = lend(parent)
    outcome = after_loan(parent.mm, lambda: 6)
    assert isinstance(outcome, Wait)
    assert [queue for queue, _ in outcome.sources()] == [loan.child.vfork_done]
    give_back(loan)
    assert outcome.retry() == 6


def test_a_parent_that_is_killed_meanwhile_writes_nothing() -> None:
    """Its thread ids and robust list are where the child's are."""
    killed: Any = SimpleNamespace(take_told=lambda: (0x1000, 0x2000), vfork_done=None, loan=None)
    memory: Any = SimpleNamespace(users=2, lent_to=object(), is_seen_by_others=lambda: True)
    exits._leave_memory(killed, memory)  # it would look up what is not there

"""set_robust_list(2) and set_tid_address(2) as a guest's stub is told them: the task says what was said last."""

from __future__ import annotations

from services.sentry.kernel.task import Task
from services.sentry.syscalls import futexes as ft
from services.sentry.syscalls import task_control as tc
from tests.unit.sentry.kernel.fakes import BASE, FakeContext, Machine


class Stubbed(FakeContext):
    """A context whose stub is told; `robust`, `tid` as `SystrapContext.told` gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.robust: int | None = None
        self.tid: int | None = None
        self.allowed = 0
        self.traps: int | None = None
        self.dead = False

    def let_tell(self, traps: int | None = None) -> bool:
        assert not self.in_guest
        self.robust = self.tid = None
        self.allowed += 1
        if traps is not None:
            self.traps = traps
        return True

    def told(self) -> tuple[int | None, int | None]:
        return self.robust, self.tid


def stubbed(task: Task) -> Stubbed:
    context = Stubbed()
    task.context = context
    task.let_tell(5)
    return context


def test_what_the_stub_was_told_is_the_tasks_at_any_time(machine: Machine) -> None:
    context = stubbed(machine.init)
    assert context.traps == 5
    assert machine.init.robust_list == machine.init.clear_child_tid == 0
    context.in_guest = True
    context.robust = BASE
    assert machine.init.robust_list == BASE
    context.robust, context.tid = BASE + 8, BASE + 16
    assert (machine.init.robust_list, machine.init.clear_child_tid) == (BASE + 8, BASE + 16)


def test_what_is_asked_for_takes_the_place_of_what_was_told(machine: Machine) -> None:
    context = stubbed(machine.init)
    context.robust, context.tid = BASE, BASE + 8
    machine.call(machine.init, ft.sys_set_robust_list, BASE + 24, 24)
    assert (machine.init.robust_list, machine.init.clear_child_tid) == (BASE + 24, BASE + 8)
    machine.call(machine.init, tc.sys_set_tid_address, BASE + 32)
    assert (machine.init.robust_list, machine.init.clear_child_tid) == (BASE + 24, BASE + 32)
    assert context.traps == 5
    context.robust = BASE + 40  # it may be told again
    assert machine.init.robust_list == BASE + 40


def test_it_stays_when_the_context_goes(machine: Machine) -> None:
    context = stubbed(machine.init)
    context.robust = BASE
    machine.init.keep_told()
    context.robust = 1  # another task's
    assert machine.init.robust_list == BASE


def test_dead_context_is_not_looked_at(machine: Machine) -> None:
    context = stubbed(machine.init)
    context.dead, context.robust = True, BASE
    assert machine.init.robust_list == 0


def test_nothing_is_told_to_the_stub_while_calls_are_traced(machine: Machine) -> None:
    machine.kernel.tracing = True
    context = stubbed(machine.init)
    assert not context.allowed

"""Signals: sending, masks, default actions, job control, frames, restarts, waiting for them."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.abi import resource_h as rh
from protocol.abi import sched_h as sc
from protocol.abi import signal_h as sg
from protocol.abi import time_h as th
from protocol.abi import wait_h as wh
from protocol.abi.numbers_amd64 import NR_restart_syscall
from services.sentry.errors import LinuxError, Restart
from services.sentry.kernel.credentials import Credentials
from services.sentry.kernel.signal_delivery import deliver, sigreturn
from services.sentry.kernel.signals import (
    PendingSignals,
    SigAction,
    SigInfo,
    SignalHandlers,
    force_signal,
    send_signal_group,
    send_signal_task,
    set_blocked,
    start_group_exit,
)
from services.sentry.kernel.task import Task
from services.sentry.kernel.waiter import StubOp, Wait
from services.sentry.syscalls import clocks_timers as ct
from services.sentry.syscalls import processes as pc
from services.sentry.syscalls import signals as ss
from tests.unit.sentry.kernel.fakes import BASE, SIZE, STACK_TOP, FakeContext, Machine

HANDLER = 0x400100
RESTORER = 0x400200
THREAD = sc.CLONE_VM | sc.CLONE_FS | sc.CLONE_FILES | sc.CLONE_SIGHAND | sc.CLONE_THREAD


def catch(task: Task, signo: int, flags: int = 0, mask: int = 0) -> None:
    task.group.sighand.set(signo, SigAction(HANDLER, flags | sg.SA_RESTORER, RESTORER, mask))


def child_of(machine: Machine, parent: Task, flags: int = 0) -> Task:
    tid = machine.call(parent, pc.sys_clone, flags | (0 if flags & sc.CLONE_THREAD else sg.SIGCHLD), 0, 0, 0, 0)
    assert tid is not None
    return machine.kernel.tasks[tid]


# --- dispositions ---
def test_fork_copies_dispositions_and_neither_side_sees_the_others_changes() -> None:
    first = SignalHandlers()
    first.set(sg.SIGUSR1, SigAction(HANDLER))
    second = first.copy()
    third = second.copy()
    second.set(sg.SIGUSR1, SigAction(sg.SIG_IGN))
    first.set(sg.SIGUSR2, SigAction(HANDLER))
    assert [each.actions[sg.SIGUSR1].handler for each in (first, second, third)] == [HANDLER, sg.SIG_IGN, HANDLER]
    assert [each.is_caught(sg.SIGUSR2) for each in (first, second, third)] == [True, False, False]
    assert [bool(each.ignored >> (sg.SIGUSR1 - 1) & 1) for each in (first, second, third)] == [False, True, False]
    assert SignalHandlers().masks() == (0, 0)


def test_execve_keeps_what_is_ignored_and_resets_the_rest() -> None:
    handlers = SignalHandlers()
    handlers.set(sg.SIGHUP, SigAction(sg.SIG_IGN, sg.SA_RESTART))
    handlers.set(sg.SIGCHLD, SigAction(sg.SIG_IGN))
    handlers.set(sg.SIGURG, SigAction(HANDLER))  # ignored by default
    handlers.set(sg.SIGTERM, SigAction(HANDLER))
    handlers.set(64, SigAction(sg.SIG_IGN))
    kept = handlers.copy().reset_for_exec()
    ignored = (1 << (sg.SIGHUP - 1)) | (1 << (sg.SIGCHLD - 1)) | (1 << 63)
    assert kept.masks() == (ignored, 0)
    assert kept.ignored == ignored | SignalHandlers().ignored
    assert kept.actions[sg.SIGHUP].flags == 0
    assert kept.reset_for_exec().masks() == (ignored, 0)


# --- queues ---
@given(st.lists(st.integers(1, 64), max_size=40), st.integers(0, (1 << 64) - 1))
def test_pending_take_gives_faults_then_lowest_then_arrival(signals: list[int], mask: int) -> None:
    pending = PendingSignals()
    for at, signo in enumerate(signals):
        pending.add(SigInfo(signo, value=at))
    faults = {sg.SIGSEGV, sg.SIGBUS, sg.SIGILL, sg.SIGTRAP, sg.SIGFPE, sg.SIGSYS}
    wanted = sorted(((signo not in faults, signo, at) for at, signo in enumerate(signals) if mask >> (signo - 1) & 1))
    taken = []
    while (info := pending.take(mask)) is not None:
        taken.append((info.signo not in faults, info.signo, info.value))
    assert taken == wanted
    assert pending.signals & mask == 0
    assert sorted(i.signo for i in pending.infos()) == sorted(s for s in signals if not mask >> (s - 1) & 1)


def test_standard_signals_merge_and_realtime_queue(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, sg.SIGSET_MASK)
    for value in range(3):
        send_signal_group(task.group, SigInfo(sg.SIGUSR1, sg.SI_QUEUE, 1, 0, value=value))
        send_signal_group(task.group, SigInfo(40, sg.SI_QUEUE, 1, 0, value=value))
    assert [i.value for i in task.group.shared_pending.infos()] == [0, 0, 1, 2]
    assert not task.signal_pending


def test_realtime_signal_beyond_the_limit_gives_eagain_and_a_standard_one_does_not(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, sg.SIGSET_MASK)
    task.group.rlimits[rh.RLIMIT_SIGPENDING] = (2, 2)
    for _ in range(2):
        send_signal_task(task, SigInfo(40, sg.SI_QUEUE, 1))
    with pytest.raises(LinuxError) as failure:
        send_signal_task(task, SigInfo(40, sg.SI_QUEUE, 1))
    assert failure.value.errno == errno.EAGAIN
    assert send_signal_task(task, SigInfo(sg.SIGTERM, sg.SI_QUEUE, 1))
    task.group.sighand.set(40, SigAction(sg.SIG_IGN))
    machine.call(task, ss.sys_rt_sigaction, 40, 0, 0, 8)
    assert machine.kernel.queued_signals == {0: 2}
    ss.flush_signals(task, 40)
    assert machine.kernel.queued_signals == {}


def test_ignored_signal_is_dropped_unless_blocked(machine: Machine) -> None:
    task = machine.init
    task.group.sighand.set(sg.SIGUSR1, SigAction(sg.SIG_IGN))
    assert not send_signal_task(task, SigInfo(sg.SIGUSR1))
    set_blocked(task, 1 << (sg.SIGUSR1 - 1))
    assert send_signal_task(task, SigInfo(sg.SIGUSR1))
    assert task.pending.signals == 1 << (sg.SIGUSR1 - 1)


# --- delivery ---
def frame_words(task: Task, offset: int, count: int) -> list[int]:
    return [task.mm.read_u64(task.context.regs.rsp + offset + 8 * at) for at in range(count)]


def test_handler_frame_is_laid_out_as_linux_does_and_sigreturn_restores_all(machine: Machine) -> None:
    task = machine.init
    regs = task.context.regs
    for at, name in enumerate("r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx".split()):
        setattr(regs, name, 0x1111 * (at + 1))
    regs.eflags = 0x202 | 0x400 | 0x1
    before = regs.values()
    catch(task, sg.SIGUSR1, sg.SA_SIGINFO, mask=1 << (sg.SIGUSR2 - 1))
    send_signal_task(task, SigInfo(sg.SIGUSR1, sg.SI_TKILL, 7, 8))
    assert deliver(task, None)
    frame = regs.rsp
    assert frame % 16 == 8
    assert frame + 440 + 512 <= STACK_TOP - 128
    assert frame_words(task, 0, 1) == [RESTORER]
    assert (regs.rdi, regs.rsi, regs.rdx, regs.rax, regs.rip) == (sg.SIGUSR1, frame + 312, frame + 8, 0, HANDLER)
    assert regs.eflags & 0x400 == 0
    flags, link, sp, ss_flags, size = frame_words(task, 8, 5)
    assert (flags, link, sp, ss_flags, size) == (7, 0, 0, 0, 0)
    context = frame_words(task, 48, 23)
    assert context[:8] == [before[f"r{n}"] for n in range(8, 16)]
    assert context[15:18] == [before["rsp"], before["rip"], before["eflags"]]
    fpstate = context[22] if len(context) > 22 else 0
    fpstate = task.mm.read_u64(frame + 48 + 184)
    assert fpstate % 64 == 0
    assert fpstate >= frame + 440
    signo, _, code = sg.SIGINFO_HEADER.unpack(task.mm.read(frame + 312, 16))
    assert (signo, code) == (sg.SIGUSR1, sg.SI_TKILL)
    assert task.signal_mask == 1 << (sg.SIGUSR1 - 1) | 1 << (sg.SIGUSR2 - 1)
    for name in "r8 r12 rbx rdi rsi rdx rax".split():
        setattr(regs, name, 0xDEAD)
    regs.rsp += 8  # the handler's ret took pretcode
    sigreturn(task)
    assert regs.values() == before
    assert task.signal_mask == 0


def test_frame_without_an_fpu_image_says_so_and_is_restored(machine: Machine) -> None:
    task = machine.init
    context = task.context
    assert isinstance(context, FakeContext)
    context.image = b""
    before = context.regs.values()
    catch(task, sg.SIGUSR1)
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    deliver(task, None)
    assert frame_words(task, 48 + 184, 1) == [0]
    context.regs.rsp += 8
    sigreturn(task)
    assert context.regs.values() == before
    assert context.loaded == b""


def test_sigreturn_from_a_bad_frame_kills_with_sigsegv(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    task.context.regs.rsp = 0x10
    sigreturn(task)
    machine.check(task)
    assert task.group.is_zombie
    assert task.group.exit_status == sg.SIGSEGV


def test_sigreturn_does_not_take_privileged_flags(machine: Machine) -> None:
    task = machine.init
    catch(task, sg.SIGUSR1)
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    deliver(task, None)
    regs = task.context.regs
    regs.rsp += 8
    task.mm.write_u64(regs.rsp + 40 + 17 * 8, 0xFFFFFFFF)
    sigreturn(task)
    assert regs.eflags & 0x3000 == 0  # IOPL
    assert regs.eflags & 0x200


def test_sigreturn_with_a_bad_mxcsr_kills(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    catch(task, sg.SIGUSR1)
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    deliver(task, None)
    regs = task.context.regs
    fpstate = task.mm.read_u64(regs.rsp + 48 + 184)
    task.mm.write_u32(fpstate + 24, 0xFFFFFFFF)
    regs.rsp += 8
    sigreturn(task)
    machine.check(task)
    assert task.group.is_zombie


def test_frame_that_cannot_be_written_is_sigsegv(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    catch(task, sg.SIGUSR1)
    task.context.regs.rsp = BASE + 100
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    assert not deliver(task, None)
    assert task.group.exit_status == sg.SIGSEGV


def test_altstack_is_entered_nested_frames_stay_on_it_and_overflow_kills(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    low = BASE + 0x2000
    task.mm.write(BASE, sg.STACK_T.pack(low, 0, 0x1000))
    assert machine.call(task, ss.sys_sigaltstack, BASE, 0) == 0
    catch(task, sg.SIGUSR1, sg.SA_ONSTACK | sg.SA_NODEFER)
    regs = task.context.regs
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    deliver(task, None)
    assert low < regs.rsp < low + 0x1000
    assert machine.call(task, ss.sys_sigaltstack, BASE, 0) == -errno.EPERM
    machine.call(task, ss.sys_sigaltstack, 0, BASE + 64)
    assert sg.STACK_T.unpack(task.mm.read(BASE + 64, 24)) == (low, sg.SS_ONSTACK, 0x1000)
    first = regs.rsp
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    deliver(task, None)
    assert low < regs.rsp < first
    regs.rsp = low + 300
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    assert not deliver(task, None)
    assert task.group.exit_status == sg.SIGSEGV


def test_altstack_autodisarm_is_given_back_by_sigreturn(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, sg.STACK_T.pack(BASE + 0x2000, sg.SS_AUTODISARM - (1 << 32), 0x4000))
    assert machine.call(task, ss.sys_sigaltstack, BASE, 0) == 0
    catch(task, sg.SIGUSR1, sg.SA_ONSTACK)
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    deliver(task, None)
    assert task.altstack == (0, sg.SS_DISABLE, 0)
    task.context.regs.rsp += 8
    sigreturn(task)
    assert task.altstack == (BASE + 0x2000, sg.SS_AUTODISARM, 0x4000)


@pytest.mark.parametrize(
    ("size", "flags", "expected"), [(2047, 0, -errno.ENOMEM), (4096, 4, -errno.EINVAL), (0, sg.SS_DISABLE, 0)]
)
def test_sigaltstack_checks_its_argument(machine: Machine, size: int, flags: int, expected: int) -> None:
    machine.init.mm.write(BASE, sg.STACK_T.pack(BASE, flags, size))
    assert machine.call(machine.init, ss.sys_sigaltstack, BASE, 0) == expected


def test_resethand_and_nodefer(machine: Machine) -> None:
    task = machine.init
    catch(task, sg.SIGUSR1, sg.SA_RESETHAND | sg.SA_NODEFER)
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    deliver(task, None)
    assert task.group.sighand.actions[sg.SIGUSR1].handler == sg.SIG_DFL
    assert task.signal_mask == 0


@pytest.mark.parametrize(
    ("code", "flags", "restarts"),
    [
        (Restart.SYS, 0, False),
        (Restart.SYS, sg.SA_RESTART, True),
        (Restart.NOINTR, 0, True),
        (Restart.NOHAND, sg.SA_RESTART, False),
        (Restart.BLOCK, sg.SA_RESTART, False),
    ],
)
def test_interrupted_call_with_handler(machine: Machine, code: int, flags: int, restarts: bool) -> None:
    task = machine.init
    catch(task, sg.SIGUSR1, flags)
    task.context.orig_rax = 35
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    rip = task.context.regs.rip
    deliver(task, -code)
    saved_rax, saved_rip = frame_words(task, 48 + 13 * 8, 1)[0], frame_words(task, 48 + 16 * 8, 1)[0]
    assert (saved_rax, saved_rip) == ((35, rip - 2) if restarts else (-errno.EINTR & sg.SIGSET_MASK, rip))


@pytest.mark.parametrize("code", [Restart.SYS, Restart.NOINTR, Restart.NOHAND, Restart.BLOCK])
def test_interrupted_call_without_handler_restarts(machine: Machine, code: int) -> None:
    task = machine.init
    task.context.orig_rax = 35
    rip = task.context.regs.rip
    assert deliver(task, -code)
    assert task.context.regs.rip == rip - 2
    assert task.context.regs.rax == (NR_restart_syscall if code == Restart.BLOCK else 35)


def test_two_pending_signals_stack_two_frames(machine: Machine) -> None:
    task = machine.init
    catch(task, sg.SIGUSR1)
    catch(task, sg.SIGUSR2)
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    send_signal_task(task, SigInfo(sg.SIGUSR2))
    deliver(task, 5)
    assert task.context.regs.rdi == sg.SIGUSR2
    assert frame_words(task, 48 + 16 * 8, 1) == [HANDLER]
    assert not task.signal_pending


# --- default actions ---
def test_fatal_signal_ends_every_thread_with_its_status(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    other = child_of(machine, task, THREAD)
    assert machine.call(other, ss.sys_pause) is None
    assert machine.call(machine.init, ss.sys_kill, task.group.pid, sg.SIGTERM) == 0
    machine.check(task)
    assert task.group.is_zombie
    assert task.group.exit_status == sg.SIGTERM
    assert other.exiting


def test_core_signal_sets_the_flag_only_with_a_core_limit(machine: Machine) -> None:
    for limit, status in ((0, sg.SIGQUIT), (1, sg.SIGQUIT | 0x80)):
        task = child_of(machine, machine.init)
        task.group.rlimits[rh.RLIMIT_CORE] = (limit, limit)
        send_signal_group(task.group, SigInfo(sg.SIGQUIT))
        machine.check(task)
        assert task.group.exit_status == status


def test_init_ignores_defaults_of_members_but_not_its_own_nor_outside(machine: Machine) -> None:
    child = child_of(machine, machine.init)
    for signo in (sg.SIGTERM, sg.SIGKILL, sg.SIGSTOP):
        assert machine.call(child, ss.sys_kill, 1, signo) == 0
    assert not machine.init.signal_pending
    send_signal_group(machine.init.group, SigInfo(sg.SIGTERM, outside=True))
    machine.check(machine.init)
    assert machine.kernel.exit_status == sg.SIGTERM


def test_forced_signal_that_is_blocked_or_ignored_kills(machine: Machine) -> None:
    for ignored in (True, False):
        task = child_of(machine, machine.init)
        if ignored:
            task.group.sighand.set(sg.SIGSEGV, SigAction(sg.SIG_IGN))
        else:
            catch(task, sg.SIGSEGV)
            set_blocked(task, 1 << (sg.SIGSEGV - 1))
        force_signal(task, SigInfo(sg.SIGSEGV, sg.SEGV_MAPERR, addr=0x123))
        assert not deliver(task, None)
        assert task.group.exit_status == sg.SIGSEGV


def test_forced_signal_with_a_handler_shows_its_address(machine: Machine) -> None:
    task = machine.init
    catch(task, sg.SIGSEGV, sg.SA_SIGINFO)
    force_signal(task, SigInfo(sg.SIGSEGV, sg.SEGV_MAPERR, addr=0x123))
    assert deliver(task, None)
    assert task.mm.read_u64(task.context.regs.rsi + 16) == 0x123


# --- job control ---
def stopped_child(machine: Machine) -> Task:
    task = child_of(machine, machine.init)
    machine.call(task, ss.sys_kill, task.group.pid, sg.SIGSTOP)
    assert task.in_stop
    return task


def test_a_fatal_signal_before_the_first_program_is_there_is_not_lost(machine: Machine) -> None:
    task = machine.init
    task.context_or_none = None
    starting = task.wait = StubOp(lambda complete: None)
    start_group_exit(task.group, sg.SIGINT)
    assert task.signal_pending
    assert task.wait is starting  # the dispatcher looks at the flag when that is over


def test_stop_holds_the_result_until_continue(machine: Machine) -> None:
    task = stopped_child(machine)
    assert (task.state, task.group.stopped) == ("T", True)
    machine.call(machine.init, ss.sys_kill, task.group.pid, sg.SIGCONT)
    assert not task.in_stop
    assert task.context.regs.rax == 0
    assert not task.signal_pending


def test_stop_waits_for_every_thread(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    other = child_of(machine, task, THREAD)
    machine.call(machine.init, ss.sys_kill, task.group.pid, sg.SIGSTOP)
    machine.check(task)
    assert not task.group.stopped
    assert other.context.interrupts == 1
    machine.check(other)
    assert task.group.stopped


def test_stopped_process_dies_of_sigkill(machine: Machine) -> None:
    task = stopped_child(machine)
    machine.call(machine.init, ss.sys_kill, task.group.pid, sg.SIGKILL)
    assert task.group.is_zombie
    assert task.group.exit_status == sg.SIGKILL


def test_sigcont_discards_pending_stops_and_the_reverse(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    catch(task, sg.SIGCONT)
    set_blocked(task, sg.SIGSET_MASK)
    send_signal_group(task.group, SigInfo(sg.SIGTSTP))
    send_signal_group(task.group, SigInfo(sg.SIGCONT))
    assert task.group.shared_pending.signals == 1 << (sg.SIGCONT - 1)
    send_signal_task(task, SigInfo(sg.SIGTSTP))
    assert task.group.shared_pending.signals == 0


def test_terminal_stop_in_an_orphaned_group_is_ignored(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    machine.call(task, ss.sys_kill, 0, 0)
    from services.sentry.syscalls.identity import sys_setsid

    assert machine.call(task, sys_setsid) == task.group.pid
    send_signal_group(task.group, SigInfo(sg.SIGTSTP, sg.SI_KERNEL))
    machine.check(task)
    assert not task.in_stop


# --- masks and waiting ---
def test_sigprocmask_unblocking_delivers_and_kill_stays_out(machine: Machine) -> None:
    task = machine.init
    task.mm.write_u64(BASE, sg.SIGSET_MASK)
    assert machine.call(task, ss.sys_rt_sigprocmask, sg.SIG_SETMASK, BASE, 0, 8) == 0
    assert task.signal_mask == sg.SIGSET_MASK & ~(1 << 8 | 1 << 18)
    catch(task, sg.SIGUSR1)
    send_signal_group(task.group, SigInfo(sg.SIGUSR1))
    assert not task.signal_pending
    machine.call(task, ss.sys_rt_sigprocmask, sg.SIG_UNBLOCK, BASE, BASE + 8, 8)
    assert task.context.regs.rdi == sg.SIGUSR1
    assert task.mm.read_u64(BASE + 8) == sg.SIGSET_MASK & ~(1 << 8 | 1 << 18)
    assert machine.call(task, ss.sys_rt_sigprocmask, 9, BASE, 0, 8) == -errno.EINVAL
    assert machine.call(task, ss.sys_rt_sigprocmask, 0, BASE, 0, 4) == -errno.EINVAL


def test_blocking_a_shared_signal_hands_it_to_another_thread(machine: Machine) -> None:
    task = machine.init
    catch(task, sg.SIGUSR1)
    other = child_of(machine, task, THREAD)
    assert machine.call(other, ss.sys_pause) is None
    send_signal_group(task.group, SigInfo(sg.SIGUSR1))
    assert (task.signal_pending, other.signal_pending) == (True, False)
    set_blocked(task, 1 << (sg.SIGUSR1 - 1))
    machine.run()
    assert other.context.regs.rdi == sg.SIGUSR1
    assert not task.signal_pending


def test_sigsuspend_ends_with_eintr_and_the_old_mask_in_the_frame(machine: Machine) -> None:
    task = machine.init
    catch(task, sg.SIGUSR1)
    set_blocked(task, 1 << (sg.SIGUSR1 - 1))
    task.mm.write_u64(BASE, 1 << (sg.SIGUSR2 - 1))
    assert machine.call(task, ss.sys_rt_sigsuspend, BASE, 8) is None
    assert task.wait is not None
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    machine.run()
    assert frame_words(task, 48 + 13 * 8, 1) == [-errno.EINTR & sg.SIGSET_MASK]
    assert task.mm.read_u64(task.context.regs.rsp + 8 + 296) == 1 << (sg.SIGUSR1 - 1)
    assert task.signal_mask == 1 << (sg.SIGUSR2 - 1) | 1 << (sg.SIGUSR1 - 1)


def test_sigtimedwait_takes_a_pending_one_waits_and_times_out(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, 1 << (sg.SIGUSR1 - 1))
    task.mm.write_u64(BASE, 1 << (sg.SIGUSR1 - 1))
    task.mm.write(BASE + 16, th.timespec_of(1000))
    assert machine.call(task, ss.sys_rt_sigtimedwait, BASE, 0, BASE + 16, 8) is None
    machine.advance(1000)
    assert machine.results[task] == -errno.EAGAIN
    assert machine.call(task, ss.sys_rt_sigtimedwait, BASE, BASE + 64, 0, 8) is None
    send_signal_task(task, SigInfo(sg.SIGUSR1, sg.SI_QUEUE, 3, 4, value=5))
    machine.run()
    assert machine.results[task] == sg.SIGUSR1
    assert sg.SIGINFO_QUEUE.unpack(task.mm.read(BASE + 64, 128)) == (sg.SIGUSR1, 0, sg.SI_QUEUE, 3, 4, 5)
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    assert machine.call(task, ss.sys_rt_sigtimedwait, BASE, 0, 0, 8) == sg.SIGUSR1


def test_sigtimedwait_of_an_unblocked_signal_takes_it_instead_of_dying(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    task.mm.write_u64(BASE, 1 << (sg.SIGTERM - 1))
    assert machine.call(task, ss.sys_rt_sigtimedwait, BASE, 0, 0, 8) is None
    send_signal_task(task, SigInfo(sg.SIGTERM))
    machine.run()
    assert machine.results[task] == sg.SIGTERM
    assert task.signal_mask == 0


def test_nanosleep_stopped_and_continued_goes_on_to_the_same_moment(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    task.mm.write(BASE, th.timespec_of(1000))
    assert machine.call(task, ct.sys_nanosleep, BASE, BASE + 32) is None
    machine.clock.advance(400)
    machine.call(machine.init, ss.sys_kill, task.group.pid, sg.SIGSTOP)
    assert task.in_stop
    assert th.TIMESPEC.unpack(task.mm.read(BASE + 32, 16)) == (0, 600)
    machine.call(machine.init, ss.sys_kill, task.group.pid, sg.SIGCONT)
    assert task.context.regs.rax == NR_restart_syscall
    assert machine.call(task, ss.sys_restart_syscall) is None
    machine.advance(600)
    assert machine.results[task] == 0


def test_parking_with_a_signal_already_there_is_interrupted_at_once(machine: Machine) -> None:
    task = machine.init
    catch(task, sg.SIGUSR1)
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    machine.kernel.park(task, Wait())
    machine.run()
    assert task.wait is None
    assert machine.results[task] == -Restart.SYS
    assert frame_words(task, 48 + 13 * 8, 1) == [-errno.EINTR & sg.SIGSET_MASK]


# --- who may ---
def test_kill_permission_follows_ids_capability_and_session(machine: Machine) -> None:
    sender, target = child_of(machine, machine.init), child_of(machine, machine.init)
    target.cred = Credentials.for_user(1000, 1000)
    sender.cred = Credentials.for_user(1001, 1001)
    pid = target.group.pid
    assert machine.call(sender, ss.sys_kill, pid, 0) == -errno.EPERM
    assert machine.call(sender, ss.sys_kill, pid, sg.SIGCONT) == 0
    sender.cred = Credentials(1001, 1000, 1001, 1000)
    assert machine.call(sender, ss.sys_kill, pid, 0) == 0
    sender.cred = Credentials.for_user(1001, 1001, capabilities=1 << 5)
    assert machine.call(sender, ss.sys_kill, pid, 0) == 0


@pytest.mark.parametrize(
    ("pid", "signo", "expected"),
    [(999, 0, -errno.ESRCH), (1, 65, -errno.EINVAL), (-999, 0, -errno.ESRCH), (0, 0, 0), (-(1 << 31), 0, -errno.ESRCH)],
)
def test_kill_errors(machine: Machine, pid: int, signo: int, expected: int) -> None:
    assert machine.call(machine.init, ss.sys_kill, pid & sg.SIGSET_MASK, signo) == expected


def test_kill_everyone_with_nobody_else_is_esrch(machine: Machine) -> None:
    assert machine.call(machine.init, ss.sys_kill, -1 & sg.SIGSET_MASK, 0) == -errno.ESRCH


def test_tgkill_of_the_wrong_process_is_esrch(machine: Machine) -> None:
    child = child_of(machine, machine.init)
    assert machine.call(machine.init, ss.sys_tgkill, 1, child.tid, 0) == -errno.ESRCH
    assert machine.call(machine.init, ss.sys_tgkill, child.tid, child.tid, 0) == 0
    assert machine.call(machine.init, ss.sys_tkill, 0, 0) == -errno.EINVAL


def test_sigqueueinfo_to_another_may_not_pretend_to_be_kill(machine: Machine) -> None:
    child = child_of(machine, machine.init)
    set_blocked(child, sg.SIGSET_MASK)
    task = machine.init
    for code, expected in ((sg.SI_USER, -errno.EPERM), (sg.SI_TKILL, -errno.EPERM), (sg.SI_QUEUE, 0)):
        task.mm.write(BASE, sg.SIGINFO_QUEUE.pack(99, 0, code, 1, 2, 3))
        assert machine.call(task, ss.sys_rt_sigqueueinfo, child.tid, 40, BASE) == expected
    (info,) = child.group.shared_pending.infos()
    assert sg.SIGINFO_QUEUE.unpack(info.pack()) == (40, 0, sg.SI_QUEUE, 1, 2, 3)


def test_sigaction_setting_ignore_discards_what_is_pending(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, sg.SIGSET_MASK)
    send_signal_group(task.group, SigInfo(sg.SIGUSR1))
    task.mm.write(BASE, sg.SIGACTION.pack(sg.SIG_IGN, 0, 0, 0))
    assert machine.call(task, ss.sys_rt_sigaction, sg.SIGUSR1, BASE, BASE + 64, 8) == 0
    assert task.group.shared_pending.signals == 0
    assert machine.call(task, ss.sys_rt_sigaction, sg.SIGKILL, BASE, 0, 8) == -errno.EINVAL
    assert machine.call(task, ss.sys_rt_sigaction, sg.SIGKILL, 0, BASE, 8) == 0


def test_sigaction_drops_unsupported_flags(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, sg.SIGACTION.pack(HANDLER, sg.SA_UNSUPPORTED | sg.SA_EXPOSE_TAGBITS | 1 << 40, 0, 0))
    machine.call(task, ss.sys_rt_sigaction, sg.SIGUSR1, BASE, 0, 8)
    machine.call(task, ss.sys_rt_sigaction, sg.SIGUSR1, 0, BASE, 8)
    assert sg.SIGACTION.unpack(task.mm.read(BASE, 32))[1] == sg.SA_EXPOSE_TAGBITS


def test_sigpending_shows_blocked_only(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, 1 << (sg.SIGUSR1 - 1))
    send_signal_group(task.group, SigInfo(sg.SIGUSR1))
    assert machine.call(task, ss.sys_rt_sigpending, BASE, 8) == 0
    assert task.mm.read_u64(BASE) == 1 << (sg.SIGUSR1 - 1)


def test_frames_need_a_restorer(machine: Machine) -> None:
    task = child_of(machine, machine.init)
    task.group.sighand.set(sg.SIGUSR1, SigAction(HANDLER))
    send_signal_task(task, SigInfo(sg.SIGUSR1))
    assert not deliver(task, None)
    assert task.group.exit_status == sg.SIGSEGV
    assert wh.status_signaled(sg.SIGSEGV) == sg.SIGSEGV
    assert BASE + SIZE > STACK_TOP

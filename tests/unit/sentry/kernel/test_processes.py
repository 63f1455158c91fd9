"""clone, exit, wait, process groups and sessions, execve's share, pidfds."""

from __future__ import annotations

import errno
import gc
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi import resource_h as rh
from protocol.abi import sched_h as sc
from protocol.abi import signal_h as sg
from protocol.abi import wait_h as wh
from services.sentry.errors import LinuxError
from services.sentry.kernel import exits
from services.sentry.kernel.credentials import Credentials
from services.sentry.kernel.signals import SigAction, SigInfo, send_signal_group
from services.sentry.kernel.task import Task
from services.sentry.kernel.thread_group import ThreadGroup
from services.sentry.syscalls import futexes as ft
from services.sentry.syscalls import identity as idn
from services.sentry.syscalls import processes as pc
from services.sentry.syscalls import signals as ss
from services.sentry.syscalls import task_control as tc
from tests.unit.sentry.kernel.fakes import BASE, FakeContext, FakeMemory, Machine

U64 = (1 << 64) - 1
THREAD = sc.CLONE_VM | sc.CLONE_FS | sc.CLONE_FILES | sc.CLONE_SIGHAND | sc.CLONE_THREAD


def fork(machine: Machine, parent: Task) -> Task:
    tid = machine.call(parent, pc.sys_fork)
    assert tid is not None and tid > 0
    return machine.kernel.tasks[tid]


def thread(machine: Machine, parent: Task, flags: int = 0, child_tid: int = 0) -> Task:
    tid = machine.call(parent, pc.sys_clone, THREAD | flags, 0, 0, child_tid, 0)
    assert tid is not None and tid > 0
    return machine.kernel.tasks[tid]


def wait4(machine: Machine, task: Task, pid: int = -1, options: int = 0) -> int | None:
    return machine.call(task, pc.sys_wait4, pid & U64, BASE, options, 0)


def status(task: Task) -> int:
    return task.mm.read_u32(BASE)


# --- clone ---
@pytest.mark.parametrize(
    "flags",
    [
        sc.CLONE_THREAD,
        sc.CLONE_SIGHAND,
        sc.CLONE_THREAD | sc.CLONE_SIGHAND,
        sc.CLONE_FS | sc.CLONE_NEWNS,
        sc.CLONE_NEWUTS,
        sc.CLONE_NEWUSER,
        sc.CLONE_PARENT,
        sc.CLONE_PIDFD | sc.CLONE_PARENT_SETTID,
        sc.CLONE_PIDFD | sc.CLONE_DETACHED,
        THREAD | sc.CLONE_PIDFD,
    ],
)
def test_clone_flags_that_exclude_each_other_are_einval(machine: Machine, flags: int) -> None:
    assert machine.call(machine.init, pc.sys_clone, flags, 0, 0, 0, 0) == -errno.EINVAL


def test_clone_namespaces_without_capability_is_eperm(machine: Machine) -> None:
    machine.init.cred = Credentials.for_user(1, 1)
    assert machine.call(machine.init, pc.sys_clone, sc.CLONE_NEWPID, 0, 0, 0, 0) == -errno.EPERM


def test_fork_copies_what_a_process_has_and_clears_what_it_has_not(machine: Machine) -> None:
    task = machine.init
    task.signal_mask = 5
    task.comm = b"sh"
    task.altstack_size = 4096
    task.group.sighand.set(sg.SIGUSR1, SigAction(0x1234))
    task.group.rlimits[rh.RLIMIT_CORE] = (7, 7)
    task.pending.add(ss.SigInfo(sg.SIGHUP))
    child = fork(machine, task)
    assert (child.signal_mask, child.comm, child.altstack_size) == (5, b"sh", 4096)
    assert child.group.sighand is not task.group.sighand
    assert child.group.sighand.actions[sg.SIGUSR1].handler == 0x1234
    assert child.group.rlimits[rh.RLIMIT_CORE] == (7, 7)
    assert child.pending.signals == 0
    assert child.group.parent is task.group
    assert child.group.process_group is task.group.process_group
    assert machine.call(child, idn.sys_getppid) == 1
    assert child.files is not task.files


def test_thread_shares_group_files_and_memory_and_writes_tids(machine: Machine) -> None:
    task = machine.init
    flags = THREAD | sc.CLONE_PARENT_SETTID | sc.CLONE_CHILD_SETTID | sc.CLONE_CHILD_CLEARTID
    tid = machine.call(task, pc.sys_clone, flags, 0, BASE, BASE + 4, 0)
    child = machine.kernel.tasks[tid or 0]
    assert child.group is task.group
    assert child.files is task.files
    assert (task.mm.read_u32(BASE), task.mm.read_u32(BASE + 4)) == (tid, tid)
    assert child.clear_child_tid == BASE + 4
    assert (machine.call(child, idn.sys_getpid), machine.call(child, idn.sys_gettid)) == (1, tid)


def test_free_memory_is_counted_without_a_task_that_has_none_yet(machine: Machine) -> None:
    before = machine.kernel.free_memory_bytes()
    child = fork(machine, machine.init)
    child.mm_or_none = None
    assert machine.kernel.free_memory_bytes() == before


def test_fork_beyond_rlimit_nproc_is_eagain(machine: Machine) -> None:
    task = machine.init
    task.group.rlimits[rh.RLIMIT_NPROC] = (1, 1)
    assert (machine.call(task, pc.sys_fork) or 0) > 0
    machine.kernel.move_charge(0, 1000)
    task.cred = Credentials.for_user(1000, 1000)
    assert machine.call(task, pc.sys_fork) == -errno.EAGAIN


def test_clone_failed_by_the_platform_leaves_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(parent: Task, child: Task, *, finish: Any, **_: Any) -> Any:
        return finish(-errno.ENOMEM)

    monkeypatch.setattr("services.sentry.kernel.clone.start_child", refuse)
    assert machine.call(machine.init, pc.sys_clone, sc.CLONE_FILES | sg.SIGCHLD, 0, 0, 0, 0) == -errno.ENOMEM
    assert list(machine.kernel.tasks) == [1]
    assert machine.kernel.processes_of == {0: 1}
    assert machine.init.files.users == 1
    assert not machine.init.group.children


def test_vfork_parent_waits_for_exec_or_exit(machine: Machine) -> None:
    for end in (lambda child: exits.complete_vfork(child), lambda child: exits.exit_group(child, 0)):
        task = machine.init
        assert machine.call(task, pc.sys_vfork) is None
        child = machine.kernel.tasks[max(machine.kernel.tasks)]
        assert task.wait is not None and task.wait.uninterruptible
        machine.call(child, ss.sys_kill, 1, sg.SIGUSR1)
        assert task.wait is not None
        end(child)
        machine.run()
        assert machine.results[task] == child.tid


def clone3(machine: Machine, task: Task, size: int = 88, **fields: int) -> int | None:
    names = "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup".split()
    task.mm.write(BASE, sc.CLONE_ARGS.pack(*(fields.get(name, 0) for name in names)))
    return machine.call(task, pc.sys_clone3, BASE, size)


def test_clone3_checks_its_structure(machine: Machine) -> None:
    task = machine.init
    assert clone3(machine, task, size=60) == -errno.EINVAL
    assert clone3(machine, task, size=5000) == -errno.E2BIG
    task.mm.write(BASE + 88, b"\1")
    assert clone3(machine, task, size=96) == -errno.E2BIG
    assert clone3(machine, task, stack=5) == -errno.EINVAL
    assert clone3(machine, task, exit_signal=65) == -errno.EINVAL
    assert clone3(machine, task, flags=sc.CLONE_DETACHED) == -errno.EINVAL
    assert clone3(machine, task, flags=THREAD, exit_signal=sg.SIGCHLD) == -errno.EINVAL
    assert clone3(machine, task, flags=1 << 40) == -errno.EINVAL


def test_clone3_set_tid_gives_that_pid_once(machine: Machine) -> None:
    task = machine.init
    task.mm.write_u32(BASE + 256, 777)
    assert clone3(machine, task, set_tid=BASE + 256, set_tid_size=1, exit_signal=sg.SIGCHLD) == 777
    assert clone3(machine, task, set_tid=BASE + 256, set_tid_size=1) == -errno.EEXIST


def test_clone3_clear_sighand_keeps_ignored(machine: Machine) -> None:
    task = machine.init
    task.group.sighand.set(sg.SIGUSR1, SigAction(0x1234))
    task.group.sighand.set(sg.SIGUSR2, SigAction(sg.SIG_IGN))
    tid = clone3(machine, task, flags=sc.CLONE_CLEAR_SIGHAND, exit_signal=sg.SIGCHLD)
    actions = machine.kernel.tasks[tid or 0].group.sighand.actions
    assert (actions[sg.SIGUSR1].handler, actions[sg.SIGUSR2].handler) == (sg.SIG_DFL, sg.SIG_IGN)


# --- exit and wait ---
def test_wait_blocks_until_a_child_exits_and_reaps_it(machine: Machine) -> None:
    task = machine.init
    child = fork(machine, task)
    assert wait4(machine, task) is None
    machine.call(child, pc.sys_exit_group, 7)
    machine.run()
    assert machine.results[task] == child.tid
    assert status(task) == 7 << 8
    assert child.tid not in machine.kernel.tasks
    assert wait4(machine, task) == -errno.ECHILD
    assert machine.kernel.processes_of == {0: 1}


def test_wait_nohang_with_a_running_child_is_zero(machine: Machine) -> None:
    fork(machine, machine.init)
    assert wait4(machine, machine.init, options=wh.WNOHANG) == 0


def test_wait_matches_pid_and_group(machine: Machine) -> None:
    task = machine.init
    one, two = fork(machine, task), fork(machine, task)
    assert machine.call(task, idn.sys_setpgid, two.tid, 0) == 0
    machine.call(one, pc.sys_exit_group, 1)
    machine.call(two, pc.sys_exit_group, 2)
    assert wait4(machine, task, pid=-two.tid, options=wh.WNOHANG) == two.tid
    assert wait4(machine, task, pid=two.tid, options=wh.WNOHANG) == -errno.ECHILD
    assert wait4(machine, task, pid=0) == one.tid
    assert wait4(machine, task, pid=-(1 << 31)) == -errno.ESRCH
    assert wait4(machine, task, options=1 << 20) == -errno.EINVAL


def test_wait_sees_stops_and_continues(machine: Machine) -> None:
    task = machine.init
    child = fork(machine, task)
    machine.call(task, ss.sys_kill, child.tid, sg.SIGSTOP)
    machine.check(child)
    assert wait4(machine, task, options=wh.WNOHANG) == 0
    assert wait4(machine, task, options=wh.WUNTRACED) == child.tid
    assert status(task) == wh.status_stopped(sg.SIGSTOP)
    assert wait4(machine, task, options=wh.WUNTRACED | wh.WNOHANG) == 0
    machine.call(task, ss.sys_kill, child.tid, sg.SIGCONT)
    assert wait4(machine, task, options=wh.WCONTINUED) == child.tid
    assert status(task) == 0xFFFF


def test_waitid_nowait_leaves_the_zombie_and_writes_six_fields(machine: Machine) -> None:
    task = machine.init
    child = fork(machine, task)
    machine.call(child, ss.sys_kill, child.tid, sg.SIGKILL)
    options = wh.WEXITED | wh.WNOWAIT
    for _ in range(2):
        task.mm.write(BASE, b"\xff" * 128)
        assert machine.call(task, pc.sys_waitid, wh.P_PID, child.tid, BASE, options, 0) == 0
        raw = task.mm.read(BASE, 128)
        signo, _, code, pid, uid, value, *_ = sg.SIGINFO_CHILD.unpack(raw)
        assert (signo, code, pid, uid, value) == (sg.SIGCHLD, sg.CLD_KILLED, child.tid, 0, sg.SIGKILL)
        assert raw[28:] == b"\xff" * 100
    assert machine.call(task, pc.sys_waitid, wh.P_ALL, 0, 0, wh.WEXITED, 0) == 0
    assert machine.call(task, pc.sys_waitid, wh.P_ALL, 0, 0, wh.WEXITED, 0) == -errno.ECHILD
    assert machine.call(task, pc.sys_waitid, wh.P_ALL, 0, 0, wh.WNOHANG, 0) == -errno.EINVAL
    assert machine.call(task, pc.sys_waitid, 9, 0, 0, wh.WEXITED, 0) == -errno.EINVAL


def test_wait_is_interrupted_by_sigchld_handler_only_if_nothing_was_collected(machine: Machine) -> None:
    task = machine.init
    child = fork(machine, task)
    task.group.sighand.set(sg.SIGCHLD, SigAction(0x1234, sg.SA_RESTORER, 0x99))
    assert wait4(machine, task) is None
    machine.call(child, pc.sys_exit_group, 0)
    machine.run()
    assert machine.results[task] == child.tid
    assert task.context.regs.rdi == sg.SIGCHLD


@pytest.mark.parametrize("flags", [None, sg.SA_NOCLDWAIT])
def test_ignored_sigchld_reaps_at_once_and_wait_ends_with_echild(machine: Machine, flags: int | None) -> None:
    task = machine.init
    action = SigAction(sg.SIG_IGN) if flags is None else SigAction(sg.SIG_DFL, flags)
    task.group.sighand.set(sg.SIGCHLD, action)
    child = fork(machine, task)
    assert wait4(machine, task) is None
    machine.call(child, pc.sys_exit_group, 0)
    machine.run()
    assert machine.results[task] == -errno.ECHILD
    assert child.tid not in machine.kernel.tasks


def test_leader_that_exits_first_is_a_zombie_until_the_last_thread_goes(machine: Machine) -> None:
    task = machine.init
    leader = fork(machine, task)
    other = thread(machine, leader)
    machine.call(leader, pc.sys_exit, 3)
    assert leader.state == "Z"
    assert wait4(machine, task, options=wh.WNOHANG) == 0
    machine.call(other, pc.sys_exit, 4)
    assert wait4(machine, task) == leader.tid
    assert status(task) == 3 << 8


def test_exit_group_by_a_thread_ends_the_others_with_its_status(machine: Machine) -> None:
    leader = fork(machine, machine.init)
    other = thread(machine, leader)
    assert machine.call(leader, ss.sys_pause) is None
    machine.call(other, pc.sys_exit_group, 9)
    assert leader.exiting and other.exiting
    assert wait4(machine, machine.init) == leader.tid
    assert status(machine.init) == 9 << 8


def test_memory_and_context_of_the_dead_go_behind_those_who_waited(machine: Machine) -> None:
    child = fork(machine, machine.init)
    memory: Any = child.mm
    context: Any = child.context
    machine.call(child, pc.sys_exit_group, 0)
    assert child.mm_or_none is None
    assert child.group.is_zombie
    assert (memory.released, context.killed) == (0, 0)
    assert machine.kernel.leaving == [(memory, context)]


def test_orphans_go_to_the_nearest_subreaper_else_init(machine: Machine) -> None:
    reaper = fork(machine, machine.init)
    assert machine.call(reaper, tc.sys_prctl, 36, 1, 0, 0, 0) == 0
    middle = fork(machine, reaper)
    orphan = fork(machine, middle)
    machine.call(middle, pc.sys_exit_group, 0)
    assert orphan.group.parent is reaper.group
    machine.call(reaper, pc.sys_exit_group, 0)
    assert orphan.group.parent is machine.init.group


def test_zombie_children_of_the_dying_are_handed_over_and_reported(machine: Machine) -> None:
    middle = fork(machine, machine.init)
    orphan = fork(machine, middle)
    machine.call(orphan, pc.sys_exit_group, 5)
    machine.call(middle, pc.sys_exit_group, 0)
    collected = {wait4(machine, machine.init), wait4(machine, machine.init)}
    assert collected == {middle.tid, orphan.tid}


def test_parent_death_signal_comes_when_the_making_thread_exits(machine: Machine) -> None:
    parent = fork(machine, machine.init)
    maker = thread(machine, parent)
    child = fork(machine, maker)
    assert machine.call(child, tc.sys_prctl, 1, sg.SIGTERM, 0, 0, 0) == 0
    machine.call(maker, pc.sys_exit, 0)
    machine.check(child)
    assert child.group.exit_status == sg.SIGTERM


def test_init_exit_ends_the_sandbox(machine: Machine) -> None:
    ended: list[int] = []
    machine.kernel.on_exit.append(ended.append)
    machine.call(machine.init, pc.sys_exit_group, 6)
    assert machine.kernel.exit_status == 6 << 8
    assert ended == [6 << 8]


def test_clear_child_tid_is_written_and_its_waiter_awakened(machine: Machine) -> None:
    task = machine.init
    other = thread(machine, task, sc.CLONE_CHILD_CLEARTID | sc.CLONE_CHILD_SETTID, BASE + 512)
    assert machine.call(task, ft.sys_futex, BASE + 512, 0, other.tid, 0, 0, 0) is None
    machine.call(other, pc.sys_exit, 0)
    machine.run()
    assert machine.results[task] == 0
    assert task.mm.read_u32(BASE + 512) == 0


def test_robust_list_marks_held_words_and_wakes(machine: Machine) -> None:
    task = machine.init
    other = thread(machine, task)
    mm = task.mm
    head, node, lock = BASE + 0x100, BASE + 0x200, BASE + 0x210
    mm.write_u64(head, node)
    mm.write_u64(head + 8, 0x10)
    mm.write_u64(head + 16, 0)
    mm.write_u64(node, head)
    mm.write_u32(lock, other.tid | 0x80000000)
    assert machine.call(other, ft.sys_set_robust_list, head, 24) == 0
    assert machine.call(task, ft.sys_futex, lock, 0, other.tid | 0x80000000, 0, 0, 0) is None
    machine.call(other, pc.sys_exit, 0)
    machine.run()
    assert machine.results[task] == 0
    assert mm.read_u32(lock) == 0xC0000000


@pytest.mark.parametrize("seen", [True, False])
def test_robust_list_of_memory_that_nobody_else_sees_is_not_followed(machine: Machine, seen: bool) -> None:
    task = machine.init
    mm: Any = task.mm
    mm.is_seen_by_others = lambda: seen
    head, node, lock = BASE + 0x100, BASE + 0x200, BASE + 0x210
    for at, value in ((head, node), (head + 8, 0x10), (head + 16, 0), (node, head)):
        mm.write_u64(at, value)
    mm.write_u32(lock, task.tid)
    assert machine.call(task, ft.sys_set_robust_list, head, 24) == 0
    machine.call(task, pc.sys_exit, 0)
    assert mm.read_u32(lock) == (0x40000000 if seen else task.tid)


def test_robust_list_that_never_ends_is_left_after_its_limit(machine: Machine) -> None:
    other = thread(machine, machine.init)
    mm = other.mm
    mm.write_u64(BASE + 0x200, BASE + 0x200)
    mm.write_u64(BASE + 0x100, BASE + 0x200)
    machine.call(other, ft.sys_set_robust_list, BASE + 0x100, 24)
    machine.call(other, pc.sys_exit, 0)
    assert other.exiting


def test_cpu_time_of_a_child_reaches_the_parent_when_it_is_waited_for(machine: Machine) -> None:
    task = machine.init
    child = fork(machine, task)
    other = thread(machine, child)
    for member, used in ((child, 70), (other, 5)):
        context = member.context
        assert isinstance(context, FakeContext)
        context.cpu_ns = used
    exits.begin_exec(child)
    machine.equip(child)
    machine.call(other, pc.sys_exit, 0)
    assert child.group.cpu_time_ns() == 75
    machine.call(child, pc.sys_exit_group, 0)
    assert wait4(machine, task) == child.tid
    assert task.group.children_cpu_ns == 75


def test_reaped_process_and_ended_thread_leave_no_ring_of_references(machine: Machine) -> None:
    task = machine.init
    gc.disable()
    try:
        child = fork(machine, task)
        other = thread(machine, child)
        left = {id(each) for each in (child, child.group, other)}
        machine.call(other, pc.sys_exit, 0)
        machine.call(child, pc.sys_exit_group, 0)
        group = child.group
        assert wait4(machine, task) == child.tid
        assert group.live_task() is None
        assert not send_signal_group(group, SigInfo(sg.SIGTERM))
        machine.results.clear()
        del child, other, group
        assert not left & {id(each) for each in gc.get_objects() if type(each) in (Task, ThreadGroup)}
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("handler", "blocked", "queued"),
    [
        (sg.SIG_DFL, False, False),
        (sg.SIG_DFL, True, True),  # it may be waited for, or be given a handler
        (sg.SIG_IGN, True, False),  # exit_notify sends none then, whatever is blocked
        (0x1234, False, True),
    ],
)
def test_sigchld_of_an_exit_is_queued_unless_nobody_can_see_it(
    machine: Machine, handler: int, blocked: bool, queued: bool
) -> None:
    task = machine.init
    task.group.sighand.set(sg.SIGCHLD, SigAction(handler, sg.SA_RESTORER, 0x99))
    task.signal_mask = 1 << (sg.SIGCHLD - 1) if blocked else 0
    machine.call(fork(machine, task), pc.sys_exit_group, 3)
    assert bool(task.group.shared_pending.signals >> (sg.SIGCHLD - 1) & 1) == queued
    assert task.signal_pending == (queued and not blocked)


# --- execve's share ---
def test_exec_by_a_thread_takes_the_leaders_number(machine: Machine) -> None:
    leader = fork(machine, machine.init)
    task = thread(machine, leader)
    old_tid = task.tid
    assert machine.call(leader, ss.sys_pause) is None
    done: list[int] = []
    result = machine.call(task, lambda t: exits.kill_other_threads(t, lambda: done.append(t.tid) or 0))
    assert result == 0
    assert done == [leader.group.pid]
    assert machine.kernel.tasks[leader.group.pid] is task
    assert old_tid not in machine.kernel.tasks
    assert list(task.group.tasks.values()) == [task]
    assert machine.kernel.processes_of == {0: 2}
    machine.call(task, pc.sys_exit_group, 0)
    assert wait4(machine, machine.init) == task.tid


def test_exec_resets_handlers_names_and_close_on_exec(machine: Machine) -> None:
    task = fork(machine, machine.init)
    task.group.sighand.set(sg.SIGUSR1, SigAction(0x1234))
    task.group.sighand.set(sg.SIGUSR2, SigAction(sg.SIG_IGN))
    task.altstack_size = 1
    exits.begin_exec(task)
    exits.complete_exec(task, task.cred, b"a-very-long-program-name")
    actions = task.group.sighand.actions
    assert (actions[sg.SIGUSR1].handler, actions[sg.SIGUSR2].handler) == (sg.SIG_DFL, sg.SIG_IGN)
    assert task.comm == b"a-very-long-pro"
    assert task.altstack[2] == 0
    assert machine.call(machine.init, idn.sys_setpgid, task.tid, 0) == -errno.EACCES


# --- process groups and sessions ---
def test_setpgid_rules(machine: Machine) -> None:
    task = machine.init
    child = fork(machine, task)
    assert machine.call(task, idn.sys_setpgid, 0, 0) == -errno.EPERM
    assert machine.call(task, idn.sys_setpgid, 99, 0) == -errno.ESRCH
    assert machine.call(child, idn.sys_setpgid, 0, -1 & U64) == -errno.EINVAL
    assert machine.call(child, idn.sys_setpgid, 0, 55) == -errno.EPERM
    assert machine.call(child, idn.sys_setpgid, 0, 0) == 0
    assert machine.call(task, idn.sys_getpgid, child.tid) == child.tid
    assert machine.call(child, idn.sys_setsid) == -errno.EPERM
    assert machine.call(child, idn.sys_setpgid, 0, 1) == 0
    assert child.tid not in machine.kernel.process_groups
    assert machine.call(child, idn.sys_setsid) == child.tid
    assert machine.call(task, idn.sys_setpgid, child.tid, 1) == -errno.EPERM


def test_newly_orphaned_group_with_a_stopped_member_gets_hup_and_cont(machine: Machine) -> None:
    shell = fork(machine, machine.init)
    machine.call(shell, idn.sys_setsid)
    job = fork(machine, shell)
    machine.call(job, idn.sys_setpgid, 0, 0)
    machine.call(job, ss.sys_kill, job.tid, sg.SIGSTOP)
    assert job.group.stopped
    machine.call(shell, pc.sys_exit_group, 0)
    machine.run()
    assert job.group.exit_status == sg.SIGHUP


# --- pidfds ---
def test_pidfd_polls_when_the_process_ends_and_waits_for_it(machine: Machine) -> None:
    task = machine.init
    child = fork(machine, task)
    fd = machine.call(task, pc.sys_pidfd_open, child.tid, fc.O_NONBLOCK)
    assert fd == 0
    file = task.files.get(0)
    assert file.poll() == 0
    assert machine.call(task, pc.sys_waitid, wh.P_PIDFD, 0, 0, wh.WEXITED, 0) == -errno.EAGAIN
    assert machine.call(task, pc.sys_pidfd_send_signal, 0, sg.SIGKILL, 0, 0) == 0
    machine.check(child)
    assert file.poll() & po.POLLIN
    assert machine.call(task, pc.sys_waitid, wh.P_PIDFD, 0, 0, wh.WEXITED, 0) == 0
    assert machine.call(task, pc.sys_pidfd_send_signal, 0, 0, 0, 0) == -errno.ESRCH


def test_pidfd_open_of_a_thread_or_nobody_fails(machine: Machine) -> None:
    other = thread(machine, machine.init)
    assert machine.call(machine.init, pc.sys_pidfd_open, 99, 0) == -errno.ESRCH
    assert machine.call(machine.init, pc.sys_pidfd_open, 0, 0) == -errno.EINVAL
    assert machine.call(machine.init, pc.sys_pidfd_open, other.tid, 0) == -errno.ENOENT


def test_clone_pidfd_writes_a_close_on_exec_descriptor(machine: Machine) -> None:
    task = machine.init
    tid = machine.call(task, pc.sys_clone, sc.CLONE_PIDFD | sg.SIGCHLD, 0, BASE + 64, 0, 0)
    fd = task.mm.read_u32(BASE + 64)
    file, cloexec = task.files.get_slot(fd)
    assert cloexec
    assert getattr(file, "group").pid == tid  # noqa: B009


def test_pidfd_getfd_copies_a_descriptor_and_checks_access(machine: Machine) -> None:
    task = machine.init
    child = fork(machine, task)
    theirs = machine.call(child, pc.sys_pidfd_open, child.tid, 0)
    mine = machine.call(task, pc.sys_pidfd_open, child.tid, 0)
    got = machine.call(task, pc.sys_pidfd_getfd, mine or 0, theirs or 0, 0)
    assert task.files.get(got or 0) is child.files.get(theirs or 0)
    assert machine.call(task, pc.sys_pidfd_getfd, mine or 0, 77, 0) == -errno.EBADF
    child.cred = Credentials.for_user(5, 5)
    task.cred = Credentials.for_user(6, 6)
    assert machine.call(task, pc.sys_pidfd_getfd, mine or 0, theirs or 0, 0) == -errno.EPERM


# --- other memory ---
def test_process_vm_readv_moves_bytes_across_vectors(machine: Machine) -> None:
    task = machine.init
    child = fork(machine, task)
    child.mm.write(BASE + 0x3000, bytes(range(200)))
    mm = task.mm
    for at, (base, length) in enumerate([(BASE + 0x5000, 50), (BASE + 0x6000, 100), (BASE + 0x3000, 120), (5, 80)]):
        mm.write_u64(BASE + 16 * at, base)
        mm.write_u64(BASE + 16 * at + 8, length)
    assert machine.call(task, pc.sys_process_vm_readv, child.tid, BASE, 2, BASE + 32, 2, 0) == 120
    assert child.mm.awaited == 1  # what a new program's own thread writes is there
    assert mm.read(BASE + 0x5000, 50) == bytes(range(50))
    assert mm.read(BASE + 0x6000, 70) == bytes(range(50, 120))
    assert machine.call(task, pc.sys_process_vm_readv, child.tid, BASE, 1, BASE + 48, 1, 0) == -errno.EFAULT
    assert machine.call(task, pc.sys_process_vm_readv, 99, BASE, 1, BASE + 48, 1, 0) == -errno.ESRCH


def test_memory_fork_is_a_copy() -> None:
    memory = FakeMemory()
    memory.write(BASE, b"a")
    child = memory.fork()
    child.write(BASE, b"b")
    assert memory.read(BASE, 1) == b"a"
    with pytest.raises(LinuxError):
        memory.read(0, 1)


def test_vfork_parent_goes_on_while_its_child_still_ends(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    task = machine.init
    order: list[tuple[str, int]] = []

    def answer(parent: Task, result: int) -> bool:
        assert parent is task
        order.append(("parent", result))
        machine.kernel.unpark(parent)
        return True

    machine.kernel.answer = answer
    notify = exits._notify_of_exit
    monkeypatch.setattr(exits, "_notify_of_exit", lambda group: (order.append(("zombie", group.pid)), notify(group)))
    assert machine.call(task, pc.sys_vfork) is None
    child = machine.kernel.tasks[max(machine.kernel.tasks)]
    exits.exit_group(child, 0)
    assert order == [("parent", child.tid), ("zombie", child.tid)]
    assert not task.queued


def test_who_copies_itself_or_ends_gives_its_processor_away_first(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = machine.init
    context: Any = task.context
    parked: list[int] = []
    start_child = machine.start_child

    def starts(*arguments: Any, **how: Any) -> Any:
        parked.append(context.parked)
        return start_child(*arguments, **how)

    monkeypatch.setattr("services.sentry.kernel.clone.start_child", starts)
    child = fork(machine, task)
    assert parked == [1]
    other = thread(machine, task)
    assert parked == [1, 1]  # a thread is there before a spin is over
    context = other.context
    exits.do_exit(other, 0)
    assert context.parked == 0  # and the next one soon after its end
    ended: Any = child.context
    memory = SimpleNamespace(
        users=1, unpublish=lambda: parked.append(ended.parked), total_pages=0, changes=None, lent_to=None, loan=None
    )
    monkeypatch.setattr(child, "mm", memory)
    exits.exit_group(child, 0)
    assert parked == [1, 1, 1]


def test_vfork_parent_with_a_signal_is_left_to_its_turn(machine: Machine) -> None:
    task = machine.init
    machine.kernel.answer = lambda parent, result: False
    assert machine.call(task, pc.sys_vfork) is None
    child = machine.kernel.tasks[max(machine.kernel.tasks)]
    exits.exit_group(child, 0)
    assert task.queued
    machine.run()
    assert machine.results[task] == child.tid

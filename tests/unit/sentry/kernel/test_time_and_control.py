"""Clocks, timers, limits, scheduling, prctl and the system-wide calls."""

from __future__ import annotations

import errno

import pytest

from protocol.abi import capability_h as ch
from protocol.abi import prctl_h as pr
from protocol.abi import resource_h as rh
from protocol.abi import sched_h as sc
from protocol.abi import signal_h as sg
from protocol.abi import sysinfo_h as si
from protocol.abi import time_h as th
from services.sentry.kernel.credentials import Credentials
from services.sentry.kernel.signals import SigAction, set_blocked
from services.sentry.kernel.task import Task
from services.sentry.syscalls import clocks_timers as ct
from services.sentry.syscalls import identity as idn
from services.sentry.syscalls import limits as lm
from services.sentry.syscalls import scheduling as sd
from services.sentry.syscalls import signals as ss
from services.sentry.syscalls import system as sy
from services.sentry.syscalls import task_control as tc
from services.sentry.syscalls.table import build
from tests.unit.sentry.kernel.fakes import BASE, FakeContext, Machine

NS = th.NSEC_PER_SEC
U64 = (1 << 64) - 1
ALARM = 1 << (sg.SIGALRM - 1)


def context(task: Task) -> FakeContext:
    found = task.context
    assert isinstance(found, FakeContext)
    return found


# --- clocks and sleeping ---
def test_clock_gettime_reads_wall_and_cpu_clocks(machine: Machine) -> None:
    task = machine.init
    context(task).cpu_ns = 2 * NS + 5
    for clock, expected in (
        (th.CLOCK_MONOTONIC, machine.clock.monotonic_ns()),
        (th.CLOCK_REALTIME, machine.clock.realtime_ns()),
        (th.CLOCK_PROCESS_CPUTIME_ID, 2 * NS + 5),
        (th.CLOCK_THREAD_CPUTIME_ID, 2 * NS + 5),
        ((~1 << 3 | 2) & U64, 2 * NS + 5),
        ((~1 << 3 | 6) & U64, 2 * NS + 5),
    ):
        assert machine.call(task, ct.sys_clock_gettime, clock, BASE) == 0
        assert th.TIMESPEC.unpack(task.mm.read(BASE, 16)) == divmod(expected, NS)
    for clock in (99, (~77 << 3 | 2) & U64, (~1 << 3 | 3) & U64):
        assert machine.call(task, ct.sys_clock_gettime, clock, BASE) == -errno.EINVAL
    assert machine.call(task, ct.sys_clock_gettime, 0, 0) == -errno.EFAULT
    assert machine.call(task, ct.sys_clock_settime, 0, BASE) == -errno.EPERM


def test_absolute_sleep_of_the_past_ends_at_once_and_bad_times_fail(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, th.timespec_of(1))
    assert machine.call(task, ct.sys_clock_nanosleep, th.CLOCK_MONOTONIC, 1, BASE, 0) is None
    machine.advance(0)
    assert machine.results[task] == 0
    task.mm.write(BASE, th.TIMESPEC.pack(0, -1))
    assert machine.call(task, ct.sys_nanosleep, BASE, 0) == -errno.EINVAL
    task.mm.write(BASE, th.timespec_of(5))
    assert machine.call(task, ct.sys_clock_nanosleep, th.CLOCK_THREAD_CPUTIME_ID, 0, BASE, 0) == -errno.EOPNOTSUPP
    assert machine.call(task, ct.sys_clock_nanosleep, th.CLOCK_MONOTONIC_RAW, 0, BASE, 0) == -errno.EOPNOTSUPP


def test_sleep_on_cpu_time_ends_when_it_was_used(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, th.timespec_of(10_000_000))
    assert machine.call(task, ct.sys_clock_nanosleep, th.CLOCK_PROCESS_CPUTIME_ID, 0, BASE, 0) is None
    machine.advance(10_000_000)
    assert task not in machine.results
    context(task).cpu_ns = 10_000_000
    machine.advance(10_000_000)
    assert machine.results[task] == 0


# --- interval timers ---
def test_alarm_fires_and_reports_what_was_left(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, ALARM)
    assert machine.call(task, ct.sys_alarm, 10) == 0
    machine.advance(int(2.6 * NS))
    assert machine.call(task, ct.sys_alarm, 1) == 7
    machine.advance(NS)
    assert task.group.shared_pending.signals == ALARM
    assert machine.call(task, ct.sys_alarm, 0) == 0


def test_setitimer_repeats_and_getitimer_shows_the_rest(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, ALARM)
    task.mm.write(BASE, th.itimerval_of(2 * NS, NS))
    assert machine.call(task, ct.sys_setitimer, th.ITIMER_REAL, BASE, 0) == 0
    for _ in range(3):
        machine.advance(2 * NS)
        assert task.group.shared_pending.take(ALARM) is not None
    assert machine.call(task, ct.sys_getitimer, th.ITIMER_REAL, BASE + 64) == 0
    assert th.ITIMERVAL.unpack(task.mm.read(BASE + 64, 32)) == (2, 0, 1, 0)
    assert machine.call(task, ct.sys_setitimer, 7, BASE, 0) == -errno.EINVAL


def test_virtual_timer_runs_on_cpu_time(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, 1 << (sg.SIGVTALRM - 1))
    task.mm.write(BASE, th.itimerval_of(0, NS))
    machine.call(task, ct.sys_setitimer, th.ITIMER_VIRTUAL, BASE, 0)
    machine.advance(5 * NS)
    assert not task.group.shared_pending.signals
    context(task).cpu_ns = NS
    machine.advance(NS)
    assert task.group.shared_pending.signals


# --- POSIX timers ---
def new_timer(machine: Machine, notify: int = sg.SIGEV_SIGNAL, tid: int = 0) -> int:
    task = machine.init
    task.mm.write(BASE, sg.SIGEVENT.pack(0xABC, 40, notify, tid))
    assert machine.call(task, ct.sys_timer_create, th.CLOCK_MONOTONIC, BASE, BASE + 64) == 0
    return task.mm.read_u32(BASE + 64)


def test_posix_timer_counts_overruns_until_its_signal_is_taken(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, 1 << 39)
    timer = new_timer(machine)
    task.mm.write(BASE, th.itimerspec_of(100, 100))
    assert machine.call(task, ct.sys_timer_settime, timer, 0, BASE, 0) == 0
    machine.advance(100)
    machine.advance(350)
    (info,) = task.group.shared_pending.infos()
    task.group.sighand.set(40, SigAction(0x1234, sg.SA_RESTORER | sg.SA_SIGINFO, 0x99))
    set_blocked(task, 0)
    machine.check(task)
    signo, _, code, number, overrun, value = sg.SIGINFO_TIMER.unpack(task.mm.read(task.context.regs.rsi, 128))
    assert (signo, code, number, overrun, value) == (40, sg.SI_TIMER, timer, 3, 0xABC)
    assert machine.call(task, ct.sys_timer_getoverrun, timer) == 3
    assert info.timer is not None


def test_posix_timer_for_a_thread_absolute_and_deleted(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, 1 << 39)
    timer = new_timer(machine, sg.SIGEV_THREAD_ID, task.tid)
    task.mm.write(BASE, th.itimerspec_of(0, machine.clock.now_ns + 50))
    machine.call(task, ct.sys_timer_settime, timer, th.TIMER_ABSTIME, BASE, 0)
    machine.call(task, ct.sys_timer_gettime, timer, BASE + 64)
    assert th.ITIMERSPEC.unpack(task.mm.read(BASE + 64, 32)) == (0, 0, 0, 50)
    machine.advance(50)
    assert task.pending.signals == 1 << 39
    assert machine.call(task, ct.sys_timer_delete, timer) == 0
    assert task.pending.signals == 0
    assert machine.call(task, ct.sys_timer_delete, timer) == -errno.EINVAL
    assert machine.kernel.timers.next_deadline() is None


def test_posix_timer_sends_again_after_its_signal_was_discarded(machine: Machine) -> None:
    task = machine.init
    set_blocked(task, 1 << 39)
    timer = new_timer(machine)
    task.mm.write(BASE, th.itimerspec_of(100, 100))
    machine.call(task, ct.sys_timer_settime, timer, 0, BASE, 0)
    machine.advance(100)
    task.mm.write(BASE, sg.SIGACTION.pack(sg.SIG_IGN, 0, 0, 0))
    assert machine.call(task, ss.sys_rt_sigaction, 40, BASE, 0, 8) == 0
    assert not task.group.shared_pending.signals
    machine.advance(100)
    assert task.group.shared_pending.signals == 1 << 39


@pytest.mark.parametrize(
    ("clock", "notify", "signo", "tid", "expected"),
    [
        (99, 0, 40, 0, -errno.EINVAL),
        (th.CLOCK_MONOTONIC_RAW, 0, 40, 0, -errno.EOPNOTSUPP),
        (1, 0, 65, 0, -errno.EINVAL),
        (1, 3, 40, 0, -errno.EINVAL),
        (1, 4, 40, 99, -errno.EINVAL),
        (1, 1, 99, 0, 0),
    ],
)
def test_timer_create_checks(machine: Machine, clock: int, notify: int, signo: int, tid: int, expected: int) -> None:
    machine.init.mm.write(BASE, sg.SIGEVENT.pack(0, signo, notify, tid))
    assert machine.call(machine.init, ct.sys_timer_create, clock, BASE, BASE + 64) == expected


# --- limits and usage ---
def test_prlimit_sets_and_refuses(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, rh.RLIMIT.pack(10, 20))
    assert machine.call(task, lm.sys_prlimit64, 0, rh.RLIMIT_NOFILE, BASE, BASE + 32) == 0
    assert rh.RLIMIT.unpack(task.mm.read(BASE + 32, 16)) == (1024, 1048576)
    assert task.files.limit == 10
    task.cred = Credentials.for_user(1, 1)
    task.mm.write(BASE, rh.RLIMIT.pack(10, 21))
    assert machine.call(task, lm.sys_prlimit64, 0, rh.RLIMIT_NOFILE, BASE, 0) == -errno.EPERM
    task.mm.write(BASE, rh.RLIMIT.pack(11, 10))
    assert machine.call(task, lm.sys_setrlimit, rh.RLIMIT_NOFILE, BASE) == -errno.EINVAL
    assert machine.call(task, lm.sys_getrlimit, 16, BASE) == -errno.EINVAL
    assert machine.call(task, lm.sys_prlimit64, 99, 0, 0, 0) == -errno.ESRCH


def test_rusage_and_times_show_cpu_time(machine: Machine) -> None:
    task = machine.init
    context(task).cpu_ns = 3 * NS + 4000
    task.group.children_cpu_ns = NS
    machine.advance(NS // 2)
    assert machine.call(task, lm.sys_getrusage, 0, BASE) == 0
    assert rh.RUSAGE.unpack(task.mm.read(BASE, 144))[:2] == (3, 4)
    assert machine.call(task, lm.sys_times, BASE) == 50
    assert th.TMS.unpack(task.mm.read(BASE, 32)) == (300, 0, 100, 0)
    assert machine.call(task, lm.sys_getrusage, 5, BASE) == -errno.EINVAL


# --- scheduling ---
def test_nice_and_priorities(machine: Machine) -> None:
    task = machine.init
    assert machine.call(task, sd.sys_setpriority, 0, 0, 100) == 0
    assert machine.call(task, sd.sys_getpriority, 0, 0) == 1
    task.cred = Credentials.for_user(1, 1)
    assert machine.call(task, sd.sys_setpriority, 0, 0, 0) == -errno.EACCES
    assert machine.call(task, sd.sys_getpriority, 3, 0) == -errno.EINVAL
    assert machine.call(task, sd.sys_getpriority, 0, 99) == -errno.ESRCH


def test_scheduler_policies(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, sc.SCHED_PARAM.pack(5))
    assert machine.call(task, sd.sys_sched_setscheduler, 0, sc.SCHED_FIFO | sc.SCHED_RESET_ON_FORK, BASE) == 0
    assert machine.call(task, sd.sys_sched_getscheduler, 0) == sc.SCHED_FIFO | sc.SCHED_RESET_ON_FORK
    assert machine.call(task, sd.sys_sched_setscheduler, 0, 0, BASE) == -errno.EINVAL
    assert machine.call(task, sd.sys_sched_get_priority_max, sc.SCHED_RR) == 99
    assert machine.call(task, sd.sys_sched_getattr, 0, BASE, 48, 0) == 0
    assert sc.SCHED_ATTR.unpack(task.mm.read(BASE, 56))[:2] == (48, sc.SCHED_FIFO)
    task.cred = Credentials.for_user(1, 1)
    task.mm.write(BASE, sc.SCHED_PARAM.pack(6))
    assert machine.call(task, sd.sys_sched_setparam, 0, BASE) == -errno.EPERM


def test_affinity_is_within_the_sandbox_cpus(machine: Machine) -> None:
    task = machine.init
    assert machine.call(task, sd.sys_sched_getaffinity, 0, 128, BASE) == 8
    assert task.mm.read_u64(BASE) == 3
    task.mm.write_u64(BASE, 6)
    assert machine.call(task, sd.sys_sched_setaffinity, 0, 8, BASE) == 0
    assert task.affinity == 2
    task.mm.write_u64(BASE, 4)
    assert machine.call(task, sd.sys_sched_setaffinity, 0, 8, BASE) == -errno.EINVAL
    assert machine.call(task, sd.sys_sched_getaffinity, 0, 7, BASE) == -errno.EINVAL
    assert machine.call(task, sd.sys_getcpu, BASE, BASE + 4, 0) == 0
    assert (task.mm.read_u32(BASE), task.mm.read_u32(BASE + 4)) == (1, 0)


# --- prctl and capabilities ---
def prctl(machine: Machine, option: int, a: int = 0, b: int = 0) -> int | None:
    return machine.call(machine.init, tc.sys_prctl, option, a, b, 0, 0)


def test_prctl_everyday_options(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, b"a-name-that-is-too-long\0")
    assert prctl(machine, pr.PR_SET_NAME, BASE) == 0
    assert prctl(machine, pr.PR_GET_NAME, BASE + 64) == 0
    assert task.mm.read(BASE + 64, 16) == b"a-name-that-is-\0"
    assert prctl(machine, pr.PR_SET_NO_NEW_PRIVS) == -errno.EINVAL
    assert prctl(machine, pr.PR_SET_NO_NEW_PRIVS, 1) == 0
    assert prctl(machine, pr.PR_GET_NO_NEW_PRIVS) == 1
    assert prctl(machine, pr.PR_SET_DUMPABLE, 2) == -errno.EINVAL
    assert prctl(machine, pr.PR_SET_TIMERSLACK, 7) == 0
    assert prctl(machine, pr.PR_GET_TIMERSLACK) == 7
    assert prctl(machine, pr.PR_SET_SECCOMP, 1) == -errno.EINVAL
    assert prctl(machine, pr.PR_SET_MM, 1) == -errno.EPERM
    assert prctl(machine, pr.PR_SET_PDEATHSIG, 65) == -errno.EINVAL
    assert prctl(machine, 0x7FFFFFFF) == -errno.EINVAL


def test_prctl_capability_sets(machine: Machine) -> None:
    assert prctl(machine, pr.PR_CAPBSET_READ, 5) == 1
    assert prctl(machine, pr.PR_CAPBSET_DROP, 5) == 0
    assert prctl(machine, pr.PR_CAPBSET_READ, 5) == 0
    assert prctl(machine, pr.PR_CAPBSET_READ, 41) == -errno.EINVAL
    assert prctl(machine, pr.PR_CAP_AMBIENT, pr.PR_CAP_AMBIENT_RAISE, 3) == -errno.EPERM
    assert prctl(machine, pr.PR_SET_SECUREBITS, 0x2F) == 0
    assert prctl(machine, pr.PR_SET_SECUREBITS, 0) == -errno.EPERM
    assert prctl(machine, pr.PR_SET_KEEPCAPS, 1) == -errno.EPERM


def test_capget_and_capset_round_trip(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, ch.CAP_HEADER.pack(ch.CAPABILITY_VERSION_3, 0))
    assert machine.call(task, idn.sys_capget, BASE, BASE + 16) == 0
    assert ch.CAP_DATA.unpack(task.mm.read(BASE + 16, 12))[:2] == (0xFFFFFFFF, 0xFFFFFFFF)
    task.mm.write(BASE + 16, ch.CAP_DATA.pack(1, 3, 0) + ch.CAP_DATA.pack(0, 0, 0))
    assert machine.call(task, idn.sys_capset, BASE, BASE + 16) == 0
    assert (task.cred.cap_effective, task.cred.cap_permitted) == (1, 3)
    task.mm.write(BASE + 16, ch.CAP_DATA.pack(4, 4, 0) + ch.CAP_DATA.pack(0, 0, 0))
    assert machine.call(task, idn.sys_capset, BASE, BASE + 16) == -errno.EPERM
    task.mm.write(BASE, ch.CAP_HEADER.pack(0, 0))
    assert machine.call(task, idn.sys_capget, BASE, 0) == 0
    assert task.mm.read_u32(BASE) == ch.CAPABILITY_VERSION_3
    task.mm.write(BASE, ch.CAP_HEADER.pack(0, 0))
    assert machine.call(task, idn.sys_capget, BASE, BASE + 16) == -errno.EINVAL


def test_change_of_ids_clears_dumpable_and_death_signal(machine: Machine) -> None:
    task = machine.init
    task.parent_death_signal = 9
    assert machine.call(task, idn.sys_setresuid, 5, 5, 5) == 0
    assert (task.dumpable, task.parent_death_signal) == (0, 0)
    assert machine.kernel.processes_of == {5: 1}
    assert machine.call(task, idn.sys_setuid, 0) == -errno.EPERM
    assert machine.call(task, idn.sys_setfsuid, 7) == 5


def test_groups_are_sorted_and_bounded(machine: Machine) -> None:
    task = machine.init
    task.mm.write_u32(BASE, 9)
    task.mm.write_u32(BASE + 4, 3)
    assert machine.call(task, idn.sys_setgroups, 2, BASE) == 0
    assert machine.call(task, idn.sys_getgroups, 1, BASE) == -errno.EINVAL
    assert machine.call(task, idn.sys_getgroups, 0, 0) == 2
    assert machine.call(task, idn.sys_getgroups, 5, BASE + 64) == 2
    assert (task.mm.read_u32(BASE + 64), task.mm.read_u32(BASE + 68)) == (3, 9)


def test_arch_prctl_sets_fs_only(machine: Machine) -> None:
    task = machine.init
    assert machine.call(task, tc.sys_arch_prctl, pr.ARCH_SET_FS, 0x1234) == 0
    assert machine.call(task, tc.sys_arch_prctl, pr.ARCH_GET_FS, BASE) == 0
    assert task.mm.read_u64(BASE) == 0x1234
    assert machine.call(task, tc.sys_arch_prctl, pr.ARCH_SET_FS, 1 << 50) == -errno.EPERM
    assert machine.call(task, tc.sys_arch_prctl, pr.ARCH_CET_STATUS_LEGACY, 0) == -errno.EINVAL


def test_membarrier_expedited_needs_registration(machine: Machine) -> None:
    task = machine.init
    assert machine.call(task, tc.sys_membarrier, 8, 0, 0) == -errno.EPERM
    assert machine.call(task, tc.sys_membarrier, 16, 0, 0) == 0
    assert machine.call(task, tc.sys_membarrier, 8, 0, 0) == 0
    assert machine.call(task, tc.sys_membarrier, 0, 0, 0) & 24 == 24
    assert machine.call(task, tc.sys_membarrier, 1 << 20, 0, 0) == -errno.EINVAL


# --- the system ---
def test_uname_and_sethostname(machine: Machine) -> None:
    task = machine.init
    task.mm.write(BASE, b"newname")
    assert machine.call(task, sy.sys_sethostname, BASE, 7) == 0
    assert machine.call(task, sy.sys_uname, BASE) == 0
    raw = task.mm.read(BASE, 390)
    names = [raw[65 * at :].split(b"\0")[0] for at in range(6)]
    assert names == [b"Linux", b"newname", b"6.12.0", b"#1 SMP PREEMPT_DYNAMIC sentrio", b"x86_64", b"(none)"]
    assert machine.call(task, sy.sys_sethostname, BASE, 65) == -errno.EINVAL
    task.cred = Credentials.for_user(1, 1)
    assert machine.call(task, sy.sys_sethostname, BASE, 1) == -errno.EPERM


def test_sysinfo_and_getrandom(machine: Machine) -> None:
    task = machine.init
    machine.advance(3 * NS)
    assert machine.call(task, sy.sys_sysinfo, BASE) == 0
    fields = si.SYSINFO.unpack(task.mm.read(BASE, 112))
    assert (fields[0], fields[4], fields[10]) == (3, 1 << 30, 1)
    assert machine.call(task, sy.sys_getrandom, BASE, 64, 0) == 64
    assert task.mm.read(BASE, 64) != bytes(64)
    assert machine.call(task, sy.sys_getrandom, BASE, 1, 8) == -errno.EINVAL
    assert machine.call(task, sy.sys_getrandom, BASE, 1, 6) == -errno.EINVAL
    assert machine.call(task, sy.sys_getrandom, 0, 1, 0) == -errno.EFAULT


def test_tables_of_the_kernel_families_join_without_clash() -> None:
    families = (
        "clocks_timers",
        "futexes",
        "identity",
        "limits",
        "processes",
        "scheduling",
        "signals",
        "system",
        "task_control",
    )
    rows = [row for row in build(families) if row is not None]
    assert len(rows) >= 120
    for row in rows:
        assert row.handler.__code__.co_argcount == 1 + len(row.args.split()), row.name

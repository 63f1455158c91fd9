"""A thread group: what Linux and everybody else calls a process.

Owns what its threads share apart from memory, files and file-system context: pid, family, process group and session,
signal dispositions and the shared queue, limits, interval timers, accounting, and how it ended. `notify_parent` is
the one place that tells a parent of a change of a child (SIGCHLD and wait(2)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.abi import signal_h as sg
from protocol.abi import time_h as th
from services.sentry.kernel.signals import PendingSignals, SigInfo, SignalHandlers, send_signal_group
from services.sentry.kernel.waiter import ANY, WaitQueue

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.limits import Limit
    from services.sentry.kernel.posix_timers import CpuLimit, IntervalTimer, PosixTimer
    from services.sentry.kernel.sessions import ProcessGroup, Session
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.path_walk import Path

__all__ = ["ThreadGroup"]

_TICK_NS = th.NSEC_PER_SEC // th.USER_HZ


class ThreadGroup:
    """A process. `exit_status` is a wait(2) status word, true once `exiting` or `is_zombie`."""

    __slots__ = (
        "child_wait",
        "children",
        "children_cpu_ns",
        "children_maxrss_kib",
        "continue_report",
        "cpu_limit",
        "dead_cpu_ns",
        "did_exec",
        "dumpable",
        "exec_path",
        "exit_signal",
        "exit_status",
        "exiting",
        "huge_pages_off",
        "is_init",
        "is_reaped",
        "is_zombie",
        "itimers",
        "kernel",
        "leader",
        "maxrss_kib",
        "membarrier",
        "oom_score_adj",
        "parent",
        "parent_thread",
        "personality",
        "pid",
        "pidfd_queue",
        "posix_timers",
        "process_group",
        "rlimits",
        "session",
        "shared_pending",
        "sighand",
        "signal_wait",
        "start_time_ns",
        "stop_count",
        "stop_report",
        "stop_signal",
        "stopped",
        "subreaper",
        "tasks",
        "thread_gone",
    )

    __deletable__ = ("leader",)  # what mypyc allows `del` of

    leader: Task  # until it is reaped
    session: Session

    def __init__(self, kernel: Kernel, pid: int, sighand: SignalHandlers, rlimits: list[Limit]) -> None:
        self.kernel = kernel
        self.pid = pid
        self.tasks: dict[int, Task] = {}
        self.parent: ThreadGroup | None = None
        self.parent_thread: Task | None = None  # the thread that made it (PR_SET_PDEATHSIG, __WNOTHREAD)
        self.children: dict[int, ThreadGroup] = {}
        self.process_group: ProcessGroup | None = None
        self.sighand = sighand
        self.shared_pending = PendingSignals()
        self.signal_wait = WaitQueue()  # signalfd(2) and rt_sigtimedwait(2): a signal was queued in this group
        self.exit_signal = sg.SIGCHLD
        self.exit_status = 0
        self.exiting = False  # every thread is to die with `exit_status`
        self.is_zombie = False  # all threads are gone; wait(2) may collect it
        self.is_reaped = False
        self.is_init = False
        self.did_exec = False
        self.exec_path: Path | None = None
        self.thread_gone = WaitQueue()  # a thread ended (execve(2) waits for the others)
        self.subreaper = False
        self.child_wait = WaitQueue()
        self.pidfd_queue = WaitQueue()  # awakened once, when it became a zombie
        self.rlimits = rlimits
        # Job control.
        self.stopped = False
        self.stop_count = 0  # threads that have still to stop
        self.stop_signal = 0
        self.stop_report = 0  # the stop signal that wait(2) has not reported yet
        self.continue_report = False
        # Time.
        self.start_time_ns = kernel.clock.monotonic_ns()
        self.itimers: list[IntervalTimer | None] = [None, None, None]
        self.cpu_limit: CpuLimit | None = None
        self.posix_timers: dict[int, PosixTimer] = {}
        self.dead_cpu_ns = 0  # of threads that are gone
        self.children_cpu_ns = 0  # of children that were waited for
        self.children_maxrss_kib = 0
        self.maxrss_kib = 0  # of memory that was left (exit, execve)
        self.personality = 0
        self.dumpable = 1
        self.membarrier = 0
        self.oom_score_adj = 0
        self.huge_pages_off = False

    @property
    def is_dead(self) -> bool:
        return self.is_zombie or self.is_reaped

    def cpu_time_ns(self) -> int:
        """CPU time of all threads, those that are gone included."""
        total = self.dead_cpu_ns
        for task in self.tasks.values():
            total += task.cpu_time_ns()
        return total

    def note_maxrss(self, mm: AddressSpace) -> None:
        """A task of this process leaves `mm` for good."""
        pages = mm.total_pages if mm.changes is None else mm.changes.total_pages()
        self.maxrss_kib = max(self.maxrss_kib, pages * 4)

    def live_task(self) -> Task | None:
        """A thread that is not exiting: the leader if it can be."""
        if self.is_reaped:
            return None
        if not self.leader.exiting:
            return self.leader
        for task in self.tasks.values():
            if not task.exiting:
                return task
        return None

    def is_ancestor_of(self, other: ThreadGroup) -> bool:
        walk = other.parent
        while walk is not None:
            if walk is self:
                return True
            walk = walk.parent
        return False

    def child_info(self, code: int, status: int, signo: int = sg.SIGCHLD) -> SigInfo:
        """siginfo of SIGCHLD about this process: `status` an exit code or a signal number."""
        ticks = (self.cpu_time_ns() + self.children_cpu_ns) // _TICK_NS
        return SigInfo(signo, code, self.pid, self.leader.cred.ruid, status=status, utime=ticks)

    def notify_parent(self, code: int, status: int) -> None:
        """CLD_STOPPED or CLD_CONTINUED (status: the signal): SIGCHLD unless SA_NOCLDSTOP, and wait(2) callers look."""
        parent = self.parent
        if parent is None:
            return
        action = parent.sighand.actions[sg.SIGCHLD]
        if action.handler != sg.SIG_IGN and not action.flags & sg.SA_NOCLDSTOP:
            send_signal_group(parent, self.child_info(code, status))
        parent.child_wait.wake(ANY)

    def __repr__(self) -> str:
        return f"ThreadGroup({self.pid})"

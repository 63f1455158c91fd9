"""The kernel object: every table that is one per sandbox, and nothing that is one per process.

There is no global state: a test may make as many kernels as it likes. Made from a config-like object and a clock; the
modules that need a per-sandbox object of their own keep it with `part()`, so that this class does not know them all.

The dispatcher's side of it: `runnable` holds tasks to look at, `park`/`unpark` register and remove what a Wait waits
for, `timers.run(now)` fires deadlines, `exit_status` is set once init is gone.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from protocol.abi import limits as lim
from protocol.abi.mman_h import PAGE_SIZE
from protocol.abi.utsname_h import UTS_LEN
from protocol.logs import Log
from services.sentry.errors import LinuxError
from services.sentry.kernel.credentials import Credentials
from services.sentry.kernel.fd_table import FdTable
from services.sentry.kernel.futex import FutexTable
from services.sentry.kernel.limits import default_limits
from services.sentry.kernel.sessions import new_session
from services.sentry.kernel.signals import SigInfo, SignalHandlers
from services.sentry.kernel.standing_answers import StandingAnswers
from services.sentry.kernel.start_maps import StartMaps
from services.sentry.kernel.task import Task
from services.sentry.kernel.thread_group import ThreadGroup
from services.sentry.kernel.timers import Timers
from services.sentry.kernel.uts import UtsNamespace, uuid_text
from services.sentry.kernel.waiter import WaitEntry

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.kernel.clocks import Clock
    from services.sentry.kernel.sessions import ProcessGroup, Session
    from services.sentry.kernel.waiter import Wait
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.fs_context import FsContext

__all__ = ["Kernel", "KernelConfig"]

_EAGAIN = 11
_FIRST_REUSED_PID = 300  # Linux RESERVED_PIDS: where numbers begin again after a wrap

_Part = TypeVar("_Part")


def _not_now(_task: Task, _result: int) -> bool:
    return False


class KernelConfig(Protocol):
    """What the kernel reads of the sandbox's configuration."""

    @property
    def hostname(self) -> str: ...
    @property
    def cpu_count(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...


class Kernel:
    """See the module. `config` is kept as given, for modules that read more of it."""

    def __init__(self, config: KernelConfig, clock: Clock, log: Log | None = None) -> None:
        self.config = config
        self.clock = clock
        self.log = log or Log("sentry")
        self.timers = Timers()
        self.runnable: deque[Task] = deque()
        self.leaving: list[tuple[AddressSpace, Context | None]] = []  # of ended tasks, to be released
        self.tasks: dict[int, Task] = {}
        self.groups: dict[int, ThreadGroup] = {}
        self.process_groups: dict[int, ProcessGroup] = {}
        self.sessions: dict[int, Session] = {}
        self.futexes = FutexTable()
        self._init_group: ThreadGroup | None = None
        self.exit_status: int | None = None  # init's wait status, once it is gone
        self.on_exit: list[Callable[[int], None]] = []
        self.cpu_count = max(1, config.cpu_count)
        self.all_cpus = (1 << self.cpu_count) - 1
        self.memory_bytes = config.memory_bytes
        self.uts = UtsNamespace(config.hostname.encode()[:UTS_LEN])
        self.answer: Callable[[Task, int], bool] = _not_now  # the dispatcher's `answer`
        self.standing = StandingAnswers()
        self.start_maps = StartMaps()
        self.boot_id = uuid_text(os.urandom(16))
        self.boot_monotonic_ns = clock.monotonic_ns()
        self.boot_realtime_ns = clock.realtime_ns()
        self.random: Callable[[int], bytes] = os.urandom
        self.missed: Counter[str] = Counter()
        self.queued_signals: dict[int, int] = {}  # uid -> signals queued (RLIMIT_SIGPENDING)
        self.processes_of: dict[int, int] = {}  # uid -> tasks (RLIMIT_NPROC)
        self.forks = 0  # since start (/proc/stat)
        self.pid_max = lim.PID_MAX_LIMIT
        self.threads_max = 65_536
        self.tracing = False  # every call must be seen: nothing is answered in advance
        self._last_tid = 0
        self._parts: dict[object, object] = {}
        # Given by the modules that own them, at start.
        self.mounts: Any = None
        self.anonymous: Any = None
        self.host_poll: Any = None
        self.console: Any = None  # the host terminal that the sandbox was given, if it was
        self.files_lost: Callable[[], bool] = lambda: False  # whether the Gofer is known to be gone
        self.lingering: Any = None  # the socket that the close(2) under way has to wait for (SO_LINGER)
        self.network_restarted: Callable[[int], None] | None = None  # takes the successor's connection (netstack/)
        self.faults: Any = None
        self.platform: Any = None

    # --- names and numbers ---
    @property
    def hostname(self) -> bytes:
        return self.uts.hostname

    @property
    def init_group(self) -> ThreadGroup:
        """Pid 1. Exists before any guest runs."""
        group = self._init_group
        assert group is not None
        return group

    def uptime_ns(self) -> int:
        """Time since the sandbox started."""
        return self.clock.monotonic_ns() - self.boot_monotonic_ns

    def free_memory_bytes(self) -> int:
        """What is left of the sandbox's memory, if every mapped page were there (sysinfo(2), /proc/meminfo)."""
        spaces = {id(task.mm_or_none): task.mm_or_none for task in self.tasks.values()}  # None: not yet, or no more
        used = sum(mm.total_pages for mm in spaces.values() if mm is not None) * PAGE_SIZE
        return max(self.memory_bytes - used, self.memory_bytes // 8)

    def new_tid(self) -> int:
        """The next free number for a task. EAGAIN: all are in use."""
        for _ in range(self.pid_max):
            self._last_tid += 1
            if self._last_tid >= self.pid_max:
                self._last_tid = min(_FIRST_REUSED_PID, self.pid_max - 1)
            if self.tid_is_free(self._last_tid):
                return self._last_tid
        raise LinuxError(_EAGAIN, "no pid is free")

    def tid_is_free(self, tid: int) -> bool:
        """No task, process, process group or session has this number."""
        return not (tid in self.tasks or tid in self.groups or tid in self.process_groups or tid in self.sessions)

    def part(self, factory: Callable[[Kernel], _Part]) -> _Part:
        """The one object that `factory(kernel)` makes for this kernel, made on first use."""
        found = self._parts.get(factory)
        if found is None:
            found = self._parts[factory] = factory(self)
        return cast("_Part", found)

    # --- running and waiting ---
    def mark_runnable(self, task: Task) -> None:
        """The dispatcher is to look at `task` (it clears `task.queued` when it takes it)."""
        if not task.queued:
            task.queued = True
            self.runnable.append(task)

    def park(self, task: Task, wait: Wait) -> None:
        """Register `wait` for `task`: entries on its queues, its deadline. A signal already there wakes at once."""
        task.wait = wait
        task.timed_out = False
        task.nvcsw += 1
        task.state = "D" if wait.uninterruptible else "S"
        queues = wait.sources()
        if queues:
            queue, mask = queues[0]
            task.mask = mask
            queue.entries[task] = None
            task.waited_queue = queue
            if len(queues) > 1:
                task.extra_entries = [(queue, WaitEntry(task.callback, mask)) for queue, mask in queues[1:]]
                for queue, entry in task.extra_entries:
                    queue.entries[entry] = None
        if wait.deadline_ns is not None:
            task.deadline_handle = self.timers.call_at(wait.deadline_ns, task.deadline_passed)
        if task.signal_pending and (not wait.uninterruptible or task.group.exiting):
            self.mark_runnable(task)

    def unpark(self, task: Task) -> None:
        """Undo `park`: no entry and no deadline is left, `task.wait` is None."""
        task.wait = None
        task.state = "R"
        queue = task.waited_queue
        if queue is not None:
            queue.entries.pop(task, None)
            task.waited_queue = None
            if task.extra_entries:
                for queue, entry in task.extra_entries:
                    queue.entries.pop(entry, None)
                task.extra_entries = ()
        handle = task.deadline_handle
        if handle is not None:
            handle.cancel()
            task.deadline_handle = None

    # --- tasks ---
    def new_init(
        self,
        cred: Credentials | None = None,
        fs: FsContext | None = None,
        files: FdTable | None = None,
        rlimits: dict[int, tuple[int, int]] | None = None,
    ) -> Task:
        """The first process (pid 1 of a new kernel), leader of its own session, without memory, context, files yet."""
        tid = self.new_tid()
        limits = default_limits()
        for resource, limit in (rlimits or {}).items():
            limits[resource] = limit
        group = ThreadGroup(self, tid, SignalHandlers(), limits)
        table = files if files is not None else FdTable()
        table.limit = limits[7][0]
        task = Task(self, tid, group, cred or Credentials.for_user(0, 0), table, fs, self.uts)
        group.leader = task
        group.tasks[tid] = task
        init = self._init_group
        if init is None:
            self._init_group = group
            group.is_init = True
        else:
            # A process entered from outside (exec into a sandbox): init adopts it, as it does orphans.
            group.parent = init
            group.parent_thread = init.leader
            init.children[tid] = group
        self.add_task(task)
        self.groups[tid] = group
        new_session(self, group)
        return task

    def add_task(self, task: Task) -> None:
        self.tasks[task.tid] = task
        uid = task.cred.ruid
        self.processes_of[uid] = self.processes_of.get(uid, 0) + 1

    def remove_task(self, task: Task) -> None:
        if self.tasks.pop(task.tid, None) is not None:
            self.uncharge_process(task.cred.ruid)

    def uncharge_process(self, uid: int) -> None:
        left = self.processes_of.get(uid, 0) - 1
        if left > 0:
            self.processes_of[uid] = left
        else:
            self.processes_of.pop(uid, None)

    def move_charge(self, old_uid: int, new_uid: int) -> None:
        """A task changed its real uid (setuid(2)): it counts for the other user now."""
        if old_uid != new_uid:
            self.uncharge_process(old_uid)
            self.processes_of[new_uid] = self.processes_of.get(new_uid, 0) + 1

    def uncharge_signals(self, infos: Iterable[SigInfo]) -> None:
        """Queued signals went: give back what they count towards RLIMIT_SIGPENDING."""
        for info in infos:
            uid = info.charged_uid
            if uid is not None:
                info.charged_uid = None
                left = self.queued_signals.get(uid, 0) - 1
                if left > 0:
                    self.queued_signals[uid] = left
                else:
                    self.queued_signals.pop(uid, None)

    def finished(self, status: int) -> None:
        """Init is gone: the sandbox ends with its wait status."""
        if self.exit_status is None:
            self.exit_status = status
            for callback in self.on_exit:
                callback(status)

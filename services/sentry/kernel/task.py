"""A task: one guest thread as the kernel sees it.

Owns a thread's own state only; what threads share stands in thread_group.py (process), fd_table.py, credentials.py
and the address space. Tasks are made by clone.py (and by Kernel.new_init for the first), ended by exits.py.

Run states, seen from here: in guest code or being served (`wait` None, `in_stop` False); parked (`wait` set); stopped
by job control (`in_stop`, `wait` None, the result of the interrupted call in `held_result`); exiting; gone (not in
kernel.tasks).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from protocol.abi import signal_h as sg
from services.sentry.kernel.signals import PendingSignals, SigInfo, recalculate
from services.sentry.kernel.waiter import WaitEntry, WaitQueue

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.fd_table import FdTable
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.loans import Loan
    from services.sentry.kernel.thread_group import ThreadGroup
    from services.sentry.kernel.timers import TimerHandle
    from services.sentry.kernel.uts import UtsNamespace
    from services.sentry.kernel.waiter import Outcome, ReadWait, Wait
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.fs_context import FsContext

__all__ = ["Task"]


class Task(WaitEntry):
    """See the module. `signal_pending` is what the dispatcher tests; signals.py says when it is true.

    A task is its own entry on the first queue that it waits on: nothing is made to wait, and no ring of references is
    left of it when it ends.
    """

    __slots__ = (
        "affinity",
        "altstack_flags",
        "altstack_size",
        "altstack_sp",
        "comm",
        "context_or_none",
        "cred",
        "deadline_handle",
        "exit_code",
        "exiting",
        "extra_entries",
        "fault_address",
        "fault_error",
        "fault_trap",
        "files",
        "forced",
        "fs",
        "group",
        "held_result",
        "in_stop",
        "ioprio",
        "kernel",
        "loan",
        "mempolicy",
        "mm_or_none",
        "nice",
        "no_new_privs",
        "nvcsw",
        "parent_death_signal",
        "past_cpu_ns",
        "pending",
        "queued",
        "read_wait",
        "restart_call",
        "saved_mask",
        "sched_policy",
        "sched_priority",
        "sched_reset_on_fork",
        "_clear_child_tid",
        "_robust_list",
        "_signal_mask",
        "_mask_with",
        "_told_to",
        "signal_pending",
        "start_time_ns",
        "state",
        "stop_pending",
        "syscall_count",
        "tid",
        "timed_out",
        "timer_slack_ns",
        "traced",
        "tsc_mode",
        "uts",
        "vfork_done",
        "vfork_parent",
        "wait",
        "waited_queue",
        "zapped",
    )

    def __init__(
        self,
        kernel: Kernel,
        tid: int,
        group: ThreadGroup,
        cred: Credentials,
        files: FdTable,
        fs: FsContext | None,
        uts: UtsNamespace,
    ) -> None:
        self.kernel = kernel
        self.tid = tid
        self.group = group
        self.cred = cred
        self.files = files
        self.fs: FsContext = fs  # type: ignore[assignment]  # only tests leave it None
        self.uts = uts
        self.mm_or_none: AddressSpace | None = None  # guest_ops or execve gives it; None again at exit
        self.context_or_none: Context | None = None  # the platform side gives it
        # Signals.
        self._signal_mask = 0
        self._mask_with: Context | None = None  # the context whose stub may change the mask
        self.signal_pending = False
        self.pending = PendingSignals()
        self.saved_mask: int | None = None  # to restore when the call ends (rt_sigsuspend(2), ppoll(2)...)
        self.stop_pending = False  # must take part in a group stop
        self.in_stop = False
        self.held_result: int | None = None  # the result of the call that a stop interrupted
        self.forced = 0  # signal that the task's own fault raised, taken before all others
        self.zapped = False  # another thread does execve(2): this one ends
        self.fault_address = 0  # cr2, trap number and error code of the last fault, shown in signal frames
        self.fault_trap = 0
        self.fault_error = 0
        self.altstack_sp = 0
        self.altstack_size = 0
        self.altstack_flags = 0
        self.parent_death_signal = 0
        # Blocking.
        self.wait: Wait | None = None
        self.timed_out = False
        self.queued = False
        self.read_wait: ReadWait | None = None  # made at the first read that waits
        self.restart_call: Callable[[], Outcome] | None = None
        self.waited_queue: WaitQueue | None = None
        self.extra_entries: Sequence[tuple[WaitQueue, WaitEntry]] = ()  # on the others
        self.deadline_handle: TimerHandle | None = None
        self.vfork_done: WaitQueue | None = None  # the parent in vfork(2) waits here for exec or exit,
        self.vfork_parent: Task | None = None  # this one
        self.loan: Loan | None = None  # its memory is its parent's so far
        # Life.
        self.exiting = False
        self.exit_code = 0  # wait status of this thread
        self.state = "R"
        self.start_time_ns = kernel.clock.monotonic_ns()
        self._clear_child_tid = 0
        self._robust_list = 0
        self._told_to: Context | None = None  # the context whose stub may have been told others
        # Attributes.
        self.comm = b""
        self.no_new_privs = False
        self.timer_slack_ns = 50_000
        self.tsc_mode = 1
        self.nice = 0
        self.ioprio = 0
        self.sched_policy = 0
        self.sched_priority = 0
        self.sched_reset_on_fork = False
        self.affinity = kernel.all_cpus
        self.nvcsw = 0  # parks, shown as voluntary context switches
        self.past_cpu_ns = 0  # used by contexts it no longer has (execve(2), exit)
        self.syscall_count = 0
        self.mempolicy: tuple[int, int] | None = None  # mode with its flags, mask of nodes; None: the default
        self.traced: tuple[str, str] | None = None  # the call it waits in, for strace/format.py

    def inherit(self, parent: Task) -> None:
        """What a new task has of the one that made it (clone(2)), beside what clone's flags say."""
        self.comm = parent.comm
        self._signal_mask = parent.signal_mask if parent.saved_mask is None else parent.saved_mask
        self.no_new_privs = parent.no_new_privs
        self.timer_slack_ns = parent.timer_slack_ns
        self.tsc_mode = parent.tsc_mode
        self.ioprio = parent.ioprio
        self.affinity = parent.affinity
        self.mempolicy = parent.mempolicy
        if parent.sched_reset_on_fork:
            self.nice = max(0, parent.nice)
        else:
            self.nice = parent.nice
            self.sched_policy = parent.sched_policy
            self.sched_priority = parent.sched_priority

    # --- what is the group's but reads as the task's ---
    @property
    def personality(self) -> int:
        return self.group.personality

    @property
    def dumpable(self) -> int:
        return self.group.dumpable

    @dumpable.setter
    def dumpable(self, value: int) -> None:
        self.group.dumpable = value

    @property
    def altstack(self) -> tuple[int, int, int]:
        """(sp, flags, size) as sigaltstack(2) took them."""
        return self.altstack_sp, self.altstack_flags, self.altstack_size

    # --- where it runs, which the end takes away ---
    @property
    def mm(self) -> AddressSpace:
        """Its memory. RuntimeError (a bug): it has none, see `mm_or_none`."""
        mm = self.mm_or_none
        if mm is None:
            raise RuntimeError("a task without memory is asked for it")
        return mm

    @mm.setter
    def mm(self, mm: AddressSpace) -> None:
        self.mm_or_none = mm

    @property
    def context(self) -> Context:
        """The platform's side of it. RuntimeError (a bug): it has none, see `context_or_none`."""
        context = self.context_or_none
        if context is None:
            raise RuntimeError("a task without a context is asked for it")
        return context

    @context.setter
    def context(self, context: Context) -> None:
        self.context_or_none = context

    def cpu_time_ns(self) -> int:
        """CPU time this thread used, as far as the platform counts it."""
        context = self.context_or_none  # None at its end
        return self.past_cpu_ns + (context.cpu_time_ns() if context is not None else 0)

    # --- sleep in its stub (a ring without a byte to read): nobody told us of it ---
    def current_state(self) -> str:
        """`state`, or S while the stub sleeps."""
        context = self.context_or_none
        if self.state == "R" and context is not None and context.in_guest and context.sleeps() & 1:
            return "S"
        return self.state

    def voluntary_switches(self) -> int:
        """`nvcsw`, and how often the stub slept."""
        context = self.context_or_none
        return self.nvcsw + ((context.sleeps() + 1) // 2 if context is not None else 0)

    # --- what its stub may be told (set_robust_list(2), set_tid_address(2)), for it only matters later ---
    def let_tell(self, traps: int = 0) -> None:
        """From now on the stub may be told, and answer `traps` calls that trap. The thread must be held, and has a
        context of its own for the first time.
        """
        context = self.context
        if not self.kernel.tracing and context.let_tell(traps):
            self._told_to = context

    def _ask_stub(self) -> None:
        context = self._told_to
        if context is not None and not context.dead:
            robust, tid = context.told()
            if robust is not None:
                self._robust_list = robust
            if tid is not None:
                self._clear_child_tid = tid

    def keep_told(self) -> None:
        """The context is to be given up: what its stub was told stays the task's."""
        self._ask_stub()
        self._told_to = None

    def _tell_stub(self) -> None:
        """What the stub was told before no longer counts. The thread must be held."""
        self._ask_stub()
        context = self._told_to
        if context is not None and not context.dead:
            context.let_tell()

    def take_told(self) -> tuple[int, int]:
        """The task, which is held, leaves its memory: `robust_list` and `clear_child_tid`, which are 0 from now on."""
        self._tell_stub()
        found = self._robust_list, self._clear_child_tid
        self._robust_list = self._clear_child_tid = 0
        return found

    @property
    def robust_list(self) -> int:
        """Address of the list head, 0: none."""
        self._ask_stub()
        return self._robust_list

    @robust_list.setter
    def robust_list(self, head: int) -> None:
        self._tell_stub()
        self._robust_list = head

    @property
    def clear_child_tid(self) -> int:
        """Address of the word that is cleared when the task ends, 0: none."""
        self._ask_stub()
        return self._clear_child_tid

    @clear_child_tid.setter
    def clear_child_tid(self, addr: int) -> None:
        self._tell_stub()
        self._clear_child_tid = addr

    # --- masks ---
    @property
    def signal_mask(self) -> int:
        """The blocked signals. While its stub may change them (share_mask), what they are now: a thread that runs then
        has to ask again, so that what the caller makes of it stays true.
        """
        context = self._mask_with
        if context is not None and not context.dead:
            if context.in_guest:
                self._mask_with = None
                self._signal_mask = context.take_mask()
            else:
                self._signal_mask = context.shared_mask()
        return self._signal_mask

    @signal_mask.setter
    def signal_mask(self, mask: int) -> None:
        if self._mask_with is not None:
            self.keep_mask()
        self._signal_mask = mask

    def keep_mask(self) -> None:
        """The stub is to ask for a new mask from now on: a signal is to be queued, or the context to be given up."""
        context, self._mask_with = self._mask_with, None
        if context is not None and not context.dead:
            self._signal_mask = context.take_mask()

    def leave_context(self) -> None:
        """The task ended. Its context may be another's from now on, and that one's mask is not ours."""
        self._mask_with = self._told_to = None
        self.context_or_none = None

    def share_mask(self) -> None:
        """Let the stub answer rt_sigprocmask(2), and rt_sigreturn(2) where that is no more, if nothing is pending.

        The thread must be held.
        """
        context = self.context_or_none
        if (
            self._mask_with is None
            and context is not None
            and not (self.pending.signals or self.group.shared_pending.signals or self.signal_pending)
            and self.saved_mask is None
            and not self.kernel.tracing
            and context.share_mask(
                self._signal_mask,
                len(self.group.tasks) > 1,
                (self.altstack_sp, self.altstack_flags, self.altstack_size),
            )
        ):
            self._mask_with = context

    def replace_mask_until_return(self, mask: int) -> None:
        """Use `mask` until this call ended (rt_sigsuspend(2), ppoll(2)); deliver() puts the old one back."""
        if self.saved_mask is None:
            self.saved_mask = self.signal_mask
        self.signal_mask = mask & ~_UNBLOCKABLE & sg.SIGSET_MASK
        recalculate(self)

    def restore_mask(self) -> None:
        """The call ended without a signal: put the mask back now."""
        if self.saved_mask is not None:
            self.signal_mask = self.saved_mask
            self.saved_mask = None
            recalculate(self)

    # --- waking ---
    exclusive = False

    def callback(self, mask: int) -> None:
        """A queue that the task waits on was awakened."""
        if not self.queued:
            self.queued = True
            self.kernel.runnable.append(self)

    def deadline_passed(self) -> None:
        self.timed_out = True
        self.kernel.mark_runnable(self)

    def reset_altstack(self) -> None:
        """SS_AUTODISARM took effect, or a thread starts with its parent's memory."""
        self.keep_mask()  # the stub was told of the old one
        self.altstack_sp = self.altstack_size = 0
        self.altstack_flags = sg.SS_DISABLE

    def sender_info(self, signo: int, code: int = sg.SI_USER) -> SigInfo:
        """The siginfo of a signal that this task sends."""
        return SigInfo(signo, code, self.group.pid, self.cred.ruid)

    def __repr__(self) -> str:
        return f"Task({self.tid}, {self.comm.decode(errors='replace')!r})"


_UNBLOCKABLE = 1 << (sg.SIGKILL - 1) | 1 << (sg.SIGSTOP - 1)

"""Signals: what is pending where, who may send, and how sending wakes (signal(7), kill(2), sigqueue(3)).

Owns `SigInfo`, `PendingSignals`, `SigAction`, `SignalHandlers` and every way to send. Taking a signal and acting on
it is signal_delivery.py's. One rule ties the two: `task.signal_pending` is true whenever `deliver` would have
something to do for the task (a deliverable signal, a stop to take part in, a group exit); whoever changes a mask, a
queue or a stop state here keeps it so, and `kick`s the task. It may be true for nothing (another thread took the
signal).

Life of a signal: `send_*` -> `_prepare` (stop and SIGCONT side effects, ignored ones dropped) -> a pending queue ->
`_wake_receiver` picks a thread and kicks it (a fatal one begins the group's exit at once) -> deliver.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Protocol

from protocol.abi import capability_h as ch
from protocol.abi import resource_h as rh
from protocol.abi import signal_h as sg
from services.sentry.errors import LinuxError
from services.sentry.kernel.waiter import StubOp

if TYPE_CHECKING:
    from services.sentry.kernel.sessions import ProcessGroup
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup

__all__ = [
    "PendingSignals",
    "SigAction",
    "SigInfo",
    "SignalHandlers",
    "check_kill_permission",
    "dequeue",
    "drops",
    "flush_signals",
    "force_signal",
    "kick",
    "pending_for",
    "recalculate",
    "send_signal_group",
    "send_signal_pgrp",
    "send_signal_task",
    "set_blocked",
    "start_group_exit",
]


def _set(*signals: int) -> int:
    mask = 0
    for signo in signals:
        mask |= 1 << (signo - 1)
    return mask


STOP_SIGNALS: Final = _set(sg.SIGSTOP, sg.SIGTSTP, sg.SIGTTIN, sg.SIGTTOU)
CONT: Final = _set(sg.SIGCONT)
IGNORED_BY_DEFAULT: Final = _set(sg.SIGCONT, sg.SIGCHLD, sg.SIGWINCH, sg.SIGURG)
CORE_SIGNALS: Final = _set(
    sg.SIGQUIT,
    sg.SIGILL,
    sg.SIGTRAP,
    sg.SIGABRT,
    sg.SIGFPE,
    sg.SIGSEGV,
    sg.SIGBUS,
    sg.SIGSYS,
    sg.SIGXCPU,
    sg.SIGXFSZ,
)
SYNCHRONOUS: Final = _set(sg.SIGSEGV, sg.SIGBUS, sg.SIGILL, sg.SIGTRAP, sg.SIGFPE, sg.SIGSYS)
UNBLOCKABLE: Final = _set(sg.SIGKILL, sg.SIGSTOP)
_FAULTS: Final = frozenset({sg.SIGILL, sg.SIGFPE, sg.SIGSEGV, sg.SIGBUS, sg.SIGTRAP})
_ALL: Final = sg.SIGSET_MASK


class SigInfo:
    """What a signal says beside its number: the parts of siginfo_t (sigaction(2)) that its kind uses.

    `value` is 64 bits; pid 0 is the kernel. `outside`: the supervisor sent it, so that even init's defaults apply.
    `raw`: the 128 bytes a guest gave to rt_sigqueueinfo(2). `timer`: the POSIX timer that owns it (re-armed on
    delivery).
    """

    __slots__ = (
        "addr",
        "addr_lsb",
        "arch",
        "band",
        "charged_uid",
        "code",
        "errno",
        "fd",
        "lower",
        "outside",
        "overrun",
        "pid",
        "raw",
        "signo",
        "status",
        "stime",
        "syscall",
        "timer",
        "timer_id",
        "uid",
        "upper",
        "utime",
        "value",
    )

    def __init__(
        self,
        signo: int,
        code: int = sg.SI_USER,
        pid: int = 0,
        uid: int = 0,
        *,
        addr: int = 0,
        value: int = 0,
        status: int = 0,
        utime: int = 0,
        stime: int = 0,
        band: int = 0,
        fd: int = 0,
        errno: int = 0,
        addr_lsb: int = 0,
        lower: int = 0,
        upper: int = 0,
        syscall: int = 0,
        arch: int = 0,
        timer_id: int = 0,
        overrun: int = 0,
        raw: bytes | None = None,
        outside: bool = False,
    ) -> None:
        self.signo = signo
        self.code = code
        self.pid = pid
        self.uid = uid
        self.addr = addr
        self.value = value
        self.status = status
        self.utime = utime
        self.stime = stime
        self.band = band
        self.fd = fd
        self.errno = errno
        self.addr_lsb = addr_lsb
        self.lower = lower
        self.upper = upper
        self.syscall = syscall
        self.arch = arch
        self.timer_id = timer_id
        self.overrun = overrun
        self.raw = raw
        self.outside = outside
        self.timer: PosixTimerLike | None = None
        self.charged_uid: int | None = None

    def copy(self) -> SigInfo:
        """The same for another receiver, charged to nobody yet."""
        made = SigInfo(
            self.signo,
            self.code,
            self.pid,
            self.uid,
            addr=self.addr,
            value=self.value,
            status=self.status,
            utime=self.utime,
            stime=self.stime,
            band=self.band,
            fd=self.fd,
            errno=self.errno,
            addr_lsb=self.addr_lsb,
            lower=self.lower,
            upper=self.upper,
            syscall=self.syscall,
            arch=self.arch,
            timer_id=self.timer_id,
            overrun=self.overrun,
            raw=self.raw,
            outside=self.outside,
        )
        made.timer = self.timer
        return made

    def pack(self) -> bytes:
        """The 128 bytes of siginfo_t."""
        signo, code = self.signo, self.code
        if self.raw is not None:
            return self.raw
        if code == sg.SI_TIMER:
            return sg.pack_siginfo_timer(signo, self.timer_id, self.overrun, self.value)
        if code in (sg.SI_USER, sg.SI_KERNEL):
            return sg.pack_siginfo_kill(signo, code, self.pid, self.uid)
        if code == sg.SI_SIGIO:
            return sg.pack_siginfo_poll(signo, code, self.band, self.fd)
        if code < 0:
            return sg.pack_siginfo_queue(signo, code, self.pid, self.uid, self.value)
        if signo == sg.SIGCHLD:
            return sg.pack_siginfo_child(signo, code, self.pid, self.uid, self.status, self.utime, self.stime)
        if signo in _FAULTS:
            return sg.pack_siginfo_fault(signo, code, self.addr, self.addr_lsb, self.lower, self.upper)
        if signo == sg.SIGSYS:
            return sg.pack_siginfo_syscall(signo, code, self.addr, self.syscall, self.arch, self.errno)
        if code <= sg.POLL_HUP:
            return sg.pack_siginfo_poll(signo, code, self.band, self.fd)
        return sg.pack_siginfo_kill(signo, code, self.pid, self.uid)

    def __repr__(self) -> str:
        return f"SigInfo({self.signo}, {self.code}, {self.pid}, {self.uid})"


class PosixTimerLike(Protocol):
    """What delivery asks of the timer behind a SI_TIMER signal (posix_timers.py has it)."""

    def delivered(self, info: SigInfo) -> None:
        """The signal was taken from its queue: write the overrun count into `info`."""


class PendingSignals:
    """Signals sent and not yet taken. `signals` is the mask of those queued; hot paths read only that."""

    __slots__ = ("_queues", "signals")

    def __init__(self) -> None:
        self.signals = 0
        self._queues: dict[int, list[SigInfo]] = {}

    def add(self, info: SigInfo) -> None:
        self.signals |= 1 << (info.signo - 1)
        queue = self._queues.get(info.signo)
        if queue is None:
            self._queues[info.signo] = [info]
        else:
            queue.append(info)

    def take(self, mask: int) -> SigInfo | None:
        """Remove and return the next signal in `mask`: synchronous ones first, then the lowest number, then arrival."""
        ready = self.signals & mask
        if not ready:
            return None
        if ready & SYNCHRONOUS:
            ready &= SYNCHRONOUS
        return self._take_number((ready & -ready).bit_length())

    def take_fault(self, mask: int) -> SigInfo | None:
        """The first synchronous signal in `mask` that the task's own instruction raised (code above SI_USER)."""
        ready = self.signals & mask & SYNCHRONOUS
        while ready:
            lowest = ready & -ready
            signo = lowest.bit_length()
            queue = self._queues[signo]
            for at, info in enumerate(queue):
                if info.code > sg.SI_USER:
                    del queue[at]
                    if not queue:
                        del self._queues[signo]
                        self.signals &= ~lowest
                    return info
            ready &= ~lowest
        return None

    def _take_number(self, signo: int) -> SigInfo:
        queue = self._queues[signo]
        info = queue.pop(0)
        if not queue:
            del self._queues[signo]
            self.signals &= ~(1 << (signo - 1))
        return info

    def infos(self) -> list[SigInfo]:
        """All of them, by number."""
        return [info for signo in sorted(self._queues) for info in self._queues[signo]]

    def discard(self, mask: int) -> list[SigInfo]:
        """Forget the signals in `mask`; those dropped."""
        dropped: list[SigInfo] = []
        hit = self.signals & mask
        while hit:
            lowest = hit & -hit
            dropped += self._queues.pop(lowest.bit_length())
            hit &= ~lowest
        self.signals &= ~mask
        return dropped

    def discard_timer(self, timer: PosixTimerLike) -> None:
        """Forget what `timer` queued (timer_delete(2))."""
        for signo, queue in list(self._queues.items()):
            kept = [info for info in queue if info.timer is not timer]
            if kept:
                self._queues[signo] = kept
            else:
                del self._queues[signo]
                self.signals &= ~(1 << (signo - 1))


class SigAction:
    """One disposition as rt_sigaction(2) keeps it; immutable by convention."""

    __slots__ = ("flags", "handler", "mask", "restorer")

    def __init__(self, handler: int = sg.SIG_DFL, flags: int = 0, restorer: int = 0, mask: int = 0) -> None:
        self.handler = handler
        self.flags = flags
        self.restorer = restorer
        self.mask = mask


_DEFAULT: Final = SigAction()


_ALL_DEFAULT: Final = [_DEFAULT] * (sg.NSIG + 1)


class SignalHandlers:
    """Dispositions of signals 1..64 (index 0 unused), shared by threads and by CLONE_SIGHAND processes.

    `ignored`: mask of signals whose action is SIG_IGN, or SIG_DFL where that means nothing happens. `changed`: of those
    that were given an action ever. Copies share `actions` until one of them changes.
    """

    __slots__ = ("_shared", "actions", "changed", "ignored")

    def __init__(self) -> None:
        self.actions = _ALL_DEFAULT
        self.ignored = IGNORED_BY_DEFAULT
        self.changed = 0
        self._shared = True

    def set(self, signo: int, action: SigAction) -> None:
        if self._shared:
            self._shared = False
            self.actions = self.actions.copy()
        self.actions[signo] = action
        mask = 1 << (signo - 1)
        self.changed |= mask
        if action.handler == sg.SIG_IGN or (action.handler == sg.SIG_DFL and mask & IGNORED_BY_DEFAULT):
            self.ignored |= mask
        else:
            self.ignored &= ~mask

    def copy(self) -> SignalHandlers:
        made = SignalHandlers()
        made.actions = self.actions
        made.ignored = self.ignored
        made.changed = self.changed
        self._shared = True
        return made

    def reset_for_exec(self) -> SignalHandlers:
        """A copy in which handlers became defaults and what was ignored stays so (execve(2))."""
        made = SignalHandlers()
        left = self.changed & self.ignored
        while left:
            signo = (left & -left).bit_length()
            left &= left - 1
            if self.actions[signo].handler == sg.SIG_IGN:
                made.set(signo, SigAction(sg.SIG_IGN))
        return made

    def is_caught(self, signo: int) -> bool:
        return self.actions[signo].handler > sg.SIG_IGN

    def masks(self) -> tuple[int, int]:
        """(ignored, caught) as /proc/PID/status shows them: SIG_IGN set explicitly, handlers."""
        ignored = caught = 0
        for signo in range(1, sg.NSIG + 1):
            handler = self.actions[signo].handler
            if handler == sg.SIG_IGN:
                ignored |= 1 << (signo - 1)
            elif handler != sg.SIG_DFL:
                caught |= 1 << (signo - 1)
        return ignored, caught


_INSIST_NS: Final = 10_000_000  # doubled each time, up to 32 times it
_PATIENCE: Final = 6  # times, about a second
_MORE_PATIENCE: Final = 14  # about four: here the whole process dies for one of its threads


# --- waking -----------------------------------------------------------------------------------------------------------
def kick(task: Task, fatal: bool = False) -> None:
    """Make `task` come to `deliver`: end its wait, or interrupt its guest code. `signal_pending` must be set already.

    Uninterruptible waits are left alone but for a fatal signal; a stopped task only wakes when `fatal`.
    """
    wait = task.wait
    if wait is not None:
        # What the platform is carrying out ends by itself, and the dispatcher looks at the flag then.
        if not wait.uninterruptible or (fatal and not isinstance(wait, StubOp)):
            task.kernel.mark_runnable(task)
        elif fatal:
            _insist(task)
        return
    if task.in_stop:
        if fatal:
            task.in_stop = False
            task.state = "R"
            task.kernel.mark_runnable(task)
        return
    context = task.context_or_none
    if context is not None:
        context.interrupt()
        if context.in_guest:
            _insist(task)


def _insist(task: Task, times: int = 0) -> None:
    """Look again later whether `task`, which was interrupted in guest code, came to `deliver`.

    An interrupt may fall into the moment in which a patched call goes back to its program, and a hostile program can
    keep it from being seen: it is sent again, and a process that is to die and does not stop is destroyed.
    """
    context = task.context_or_none
    if context is None:  # the first program's is being made: it comes to `deliver` then
        return
    kernel = task.kernel

    def look() -> None:
        stuck = context.in_guest or isinstance(task.wait, StubOp)
        if task.exiting or task.context_or_none is not context or not stuck or not task.signal_pending:
            return
        if (task.group.exiting and times >= _PATIENCE) or (task.zapped and times >= _MORE_PATIENCE):
            context.destroy("it is to end and does not stop")
        elif times < _MORE_PATIENCE:
            context.interrupt()
            _insist(task, times + 1)

    kernel.timers.call_at(kernel.clock.monotonic_ns() + (_INSIST_NS << min(times, 5)), look)


def recalculate(task: Task) -> None:
    """Bring `task.signal_pending` up to date after a change of mask, queue or state."""
    group = task.group
    task.signal_pending = (
        bool((task.pending.signals | group.shared_pending.signals) & ~task.signal_mask)
        or task.stop_pending
        or group.exiting
        or task.zapped
    )


def set_blocked(task: Task, mask: int) -> None:
    """Replace the signal mask (never with SIGKILL, SIGSTOP); newly blocked shared signals go to other threads."""
    mask &= ~UNBLOCKABLE & _ALL
    group = task.group
    if task.signal_pending and len(group.tasks) > 1:
        retarget = group.shared_pending.signals & mask & ~task.signal_mask
        if retarget:
            _retarget_shared(task, retarget)
    task.signal_mask = mask
    recalculate(task)


def _retarget_shared(task: Task, which: int) -> None:
    """Another thread that can take `which` of the shared signals must look (task is exiting or has blocked them)."""
    for other in task.group.tasks.values():
        if other is task or other.exiting:
            continue
        takes = which & ~other.signal_mask
        if not takes:
            continue
        which &= ~takes
        if not other.signal_pending:
            other.signal_pending = True
            kick(other)
        if not which:
            return


def retarget_on_exit(task: Task) -> None:
    """`task` is leaving: shared signals it could have taken are for the others."""
    which = task.group.shared_pending.signals & ~task.signal_mask
    if which:
        _retarget_shared(task, which)


# --- sending ----------------------------------------------------------------------------------------------------------
def _is_ignored(task: Task, group: ThreadGroup, info: SigInfo) -> bool:
    """Whether the signal is dropped at once: ignored and not blocked, or meant for init by another inside."""
    signo = info.signo
    bit = 1 << (signo - 1)
    if task.signal_mask & bit:
        return False  # a blocked signal may be unblocked with another action, or be fetched by sigwait(3)
    if group.sighand.ignored & bit:
        return True
    return (
        group.is_init
        and group.sighand.actions[signo].handler == sg.SIG_DFL
        and not info.outside
        and info.code <= sg.SI_USER
        and info.pid != 0
        and info.pid != group.pid
    )


def _prepare(task: Task, group: ThreadGroup, info: SigInfo) -> bool:
    """Side effects of generation; False: the signal goes nowhere (Linux kernel/signal.c, prepare_signal)."""
    signo = info.signo
    if group.exiting:
        return False
    bit = 1 << (signo - 1)
    if bit & STOP_SIGNALS:
        _discard_everywhere(group, CONT)
    elif signo == sg.SIGCONT:
        _discard_everywhere(group, STOP_SIGNALS)
        _continue_group(group)
    return not _is_ignored(task, group, info)


def _discard_everywhere(group: ThreadGroup, mask: int) -> None:
    dropped: list[SigInfo] = []
    if group.shared_pending.signals & mask:
        dropped += group.shared_pending.discard(mask)
    for task in group.tasks.values():
        if task.pending.signals & mask:
            dropped += task.pending.discard(mask)
    if dropped:
        group.kernel.uncharge_signals(dropped)
        for info in dropped:
            if info.timer is not None:
                info.timer.delivered(info)  # it may send again


def _continue_group(group: ThreadGroup) -> None:
    """SIGCONT's effect, whatever its disposition: stopped threads run, the parent hears of it."""
    was_stopped = group.stopped
    was_stopping = group.stop_count > 0
    for task in group.tasks.values():
        task.stop_pending = False
        if task.in_stop:
            task.signal_pending = True  # deliver() takes up the result it holds
            task.in_stop = False
            task.state = "R"
            group.kernel.mark_runnable(task)
    group.stop_count = 0
    group.stopped = False
    if was_stopped:
        group.stop_report = 0
        group.continue_report = True
        group.notify_parent(sg.CLD_CONTINUED, sg.SIGCONT)
    elif was_stopping:
        group.notify_parent(sg.CLD_STOPPED, group.stop_signal)


def _queue(task: Task, pending: PendingSignals, info: SigInfo) -> None:
    """Put `info` in the queue. EAGAIN: the user's RLIMIT_SIGPENDING, for a real-time signal that carries data."""
    kernel = task.kernel
    uid = task.cred.ruid
    limit = task.group.rlimits[rh.RLIMIT_SIGPENDING][0]
    charged = kernel.queued_signals.get(uid, 0)
    always = info.signo < sg.SIGRTMIN and (info.code >= 0 or info.pid == 0)
    if charged >= limit and not always:
        if info.signo >= sg.SIGRTMIN and info.code != sg.SI_USER:
            raise LinuxError(errno.EAGAIN, "too many queued signals")
        if pending.signals >> (info.signo - 1) & 1:
            return  # delivered without information: one bit is all that is kept
        info = SigInfo(info.signo)
    else:
        kernel.queued_signals[uid] = charged + 1
        info.charged_uid = uid
    pending.add(info)


def _send(task: Task, group: ThreadGroup, info: SigInfo, shared: bool) -> bool:
    """Generate the signal for `task`, or for its group; False when it was dropped as ignored."""
    if not _prepare(task, group, info):
        return False
    pending = group.shared_pending if shared else task.pending
    signo = info.signo
    for each in group.tasks.values() if shared else (task,):
        each.keep_mask()  # whoever unblocks it must come here
    if signo < sg.SIGRTMIN and pending.signals >> (signo - 1) & 1:
        return True  # standard signals do not queue
    if signo == sg.SIGKILL:
        pending.add(info)
    else:
        _queue(task, pending, info)
    if group.signal_wait.entries:
        group.signal_wait.wake()
    _wake_receiver(task, group, info, shared)
    return True


def _wants(task: Task, bit: int) -> bool:
    if task.exiting or task.signal_mask & bit:
        return False
    if bit & _KILL:
        return True
    return not task.in_stop and not task.signal_pending


_KILL: Final = _set(sg.SIGKILL)


def _wake_receiver(task: Task, group: ThreadGroup, info: SigInfo, shared: bool) -> None:
    """Choose the thread that acts on it (Linux complete_signal): the addressed one, else any that has it unblocked."""
    bit = 1 << (info.signo - 1)
    chosen: Task | None = None
    if _wants(task, bit):
        chosen = task
    elif shared and len(group.tasks) > 1:
        for other in group.tasks.values():
            if _wants(other, bit):
                chosen = other
                break
    if chosen is None:
        if not task.signal_mask & bit and not task.exiting:
            task.signal_pending = True
        return
    signo = info.signo
    if not bit & CORE_SIGNALS and _is_fatal(group, signo):
        start_group_exit(group, signo)
        return
    chosen.signal_pending = True
    kick(chosen, signo == sg.SIGKILL)


def _is_fatal(group: ThreadGroup, signo: int) -> bool:
    action = group.sighand.actions[signo].handler
    return action == sg.SIG_DFL and not 1 << (signo - 1) & (IGNORED_BY_DEFAULT | STOP_SIGNALS)


def start_group_exit(group: ThreadGroup, status: int, caller: Task | None = None) -> None:
    """Every thread of `group` dies with wait status `status`; each does so when it comes to `deliver`, but `caller`,
    which is about to end by itself.
    """
    if group.exiting:
        return
    group.exiting = True
    group.exit_status = status
    group.stop_count = 0
    group.stopped = False
    for task in group.tasks.values():
        if task.exiting:
            continue
        task.stop_pending = False
        task.signal_pending = True
        if task is not caller:
            kick(task, fatal=True)


def send_signal_task(task: Task, info: SigInfo) -> bool:
    """Send to one thread (tgkill(2)). False: ignored. EAGAIN: the queue of real-time signals is full."""
    if task.exiting:
        return False
    return _send(task, task.group, info, shared=False)


def send_signal_group(group: ThreadGroup, info: SigInfo) -> bool:
    """Send to a process (kill(2)). False: ignored or a zombie. EAGAIN as above."""
    task = group.live_task()
    return task is not None and _send(task, group, info, shared=True)


def drops(group: ThreadGroup, signo: int) -> bool:
    """Whether a signal without other effects, sent to the process, would be dropped as ignored."""
    bit = 1 << (signo - 1)
    if not group.sighand.ignored & bit:
        return False
    task = group.live_task()
    return task is None or not task.signal_mask & bit


def send_signal_pgrp(pgrp: ProcessGroup, info: SigInfo) -> int:
    """Send to every member of a process group, without permission checks; the number of members."""
    members = list(pgrp.members.values())
    for member in members:
        try:
            send_signal_group(member, info.copy())
        except LinuxError:  # a full queue of one member is not the others' business
            continue
    return len(members)


def force_signal(task: Task, info: SigInfo, *, reset: bool = False) -> None:
    """A fault of `task` itself: blocked, ignored or `reset`, it kills (Linux force_sig_info)."""
    group = task.group
    bit = 1 << (info.signo - 1)
    action = group.sighand.actions[info.signo]
    task.keep_mask()
    if reset or task.signal_mask & bit or action.handler == sg.SIG_IGN:
        group.sighand.set(info.signo, SigAction(sg.SIG_DFL, action.flags, action.restorer, action.mask))
        task.signal_mask &= ~bit
    if not task.pending.signals & bit:
        task.pending.add(info)
    task.forced = info.signo
    task.signal_pending = True
    kick(task)


# --- permission -------------------------------------------------------------------------------------------------------
def check_kill_permission(sender: Task, group: ThreadGroup, signo: int) -> None:
    """kill(2)'s rule. EPERM: neither CAP_KILL, nor matching ids, nor SIGCONT within the session."""
    if group is sender.group:
        return
    cred = sender.cred
    target = group.leader.cred
    if cred.euid in (target.suid, target.ruid) or cred.ruid in (target.suid, target.ruid):
        return
    if cred.has_cap(ch.CAP_KILL):
        return
    if signo == sg.SIGCONT and sender.group.session is group.session:
        return
    raise LinuxError(errno.EPERM)


# --- taking -----------------------------------------------------------------------------------------------------------
def pending_for(task: Task, mask: int) -> int:
    """The signals of `mask` that wait for `task` or its group (signalfd(2), sigpending(2))."""
    return (task.pending.signals | task.group.shared_pending.signals) & mask


def dequeue(task: Task, mask: int) -> SigInfo | None:
    """Take the next signal of `mask`: the thread's own first. Updates `signal_pending`."""
    info = task.pending.take(mask)
    if info is None:
        info = task.group.shared_pending.take(mask)
        if info is None:
            return None
    if info.charged_uid is not None:
        task.kernel.uncharge_signals((info,))
    if info.timer is not None:
        info.timer.delivered(info)
    recalculate(task)
    return info


def flush_signals(task: Task, signo: int) -> None:
    """Forget `signo` everywhere in the group: its action became "ignore" (sigaction(2))."""
    _discard_everywhere(task.group, 1 << (signo - 1))

"""signalfd(2): pending signals read as struct signalfd_siginfo.

Owns the signal set. Which thread's signals are read is the reader's matter in Linux; here the file is bound to the task
that made it or last polled it (`bind`), and a read from another address space binds it to a task of that one.
Wake-ups: an entry on the bound group's `signal_wait` forwards to `queue`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi import signal_h as sg
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.waiter import WaitEntry
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.kernel.signals import SigInfo
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.inode import Inode

__all__ = ["SignalFile", "pack_signalfd_siginfo"]

_IN: Final = po.POLLIN
_SIZE: Final = sg.SIGNALFD_SIGINFO.size
_NEVER: Final = sg.bit(sg.SIGKILL) | sg.bit(sg.SIGSTOP)


class SignalFile(OpenFile):
    """`signals` is the set it takes, bit (signo - 1); SIGKILL and SIGSTOP never are in it."""

    __slots__ = ("dequeue", "entry", "signals", "task")

    pollable = True

    def __init__(
        self, inode: Inode, task: Task, signals: int, flags: int, dequeue: Callable[[Task, int], SigInfo | None]
    ) -> None:
        """`dequeue(task, mask)` takes the next signal of a task (kernel/signals.py); `flags`: SFD_NONBLOCK."""
        super().__init__(inode, fc.O_RDWR | (flags & fc.O_NONBLOCK))
        self.signals = signals & ~_NEVER
        self.task = task
        self.dequeue = dequeue
        self.entry = WaitEntry(self._on_signal)
        task.group.signal_wait.add(self.entry)

    def set_signals(self, signals: int) -> None:
        """signalfd(2) on an existing one."""
        self.signals = signals & ~_NEVER
        self._on_signal(_IN)

    def bind(self, task: Task) -> None:
        """Signals of `task` count from now on: it polls or watches this file."""
        if task.group is not self.task.group:
            self.task.group.signal_wait.remove(self.entry)
            task.group.signal_wait.add(self.entry)
        self.task = task

    def _on_signal(self, mask: int) -> None:
        if self.queue.entries:
            self.queue.wake(_IN)

    def release(self) -> None:
        self.task.group.signal_wait.remove(self.entry)

    # --- data ---
    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        if self.task.mm_or_none is not mm:
            for task in self.task.kernel.tasks.values():
                if task.mm_or_none is mm:
                    self.bind(task)
                    break
        data = self.read(count)
        mm.write(addr, data)
        return len(data)

    def read(self, count: int) -> bytes:
        """As many 128-byte records as fit and are pending. EINVAL: count < 128; WouldBlock: none."""
        if count < _SIZE:
            raise LinuxError(errno.EINVAL)
        records: list[bytes] = []
        while len(records) < count // _SIZE:
            info = self._take()
            if info is None:
                break
            records.append(pack_signalfd_siginfo(info))
        if not records:
            raise WouldBlock
        return b"".join(records)

    def _take(self) -> SigInfo | None:
        """The bound task's next signal, else one sent to another thread of its group."""
        info = self.dequeue(self.task, self.signals)
        if info is None:
            for task in self.task.group.tasks.values():
                if task is not self.task and task.pending.signals & self.signals:
                    return self.dequeue(task, self.signals)
        return info

    def poll(self) -> int:
        group = self.task.group
        if (self.task.pending.signals | group.shared_pending.signals) & self.signals:
            return _IN
        return _IN if any(task.pending.signals & self.signals for task in group.tasks.values()) else 0

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2) does nothing here (fs/read_write.c noop_llseek)."""
        return 0

    def proc_link(self) -> bytes:
        return b"anon_inode:[signalfd]"

    def fdinfo(self) -> bytes:
        return b"sigmask:\t%016x\n" % self.signals


def pack_signalfd_siginfo(info: SigInfo) -> bytes:
    """The struct signalfd_siginfo of `info`, fields by kind of sender (fs/signalfd.c signalfd_copyinfo)."""
    pid, uid, value, code = info.pid, info.uid, info.value, info.code
    if info.raw is not None:
        _, _, code, pid, uid, value = sg.SIGINFO_QUEUE.unpack(info.raw)
    signed = (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)
    return sg.SIGNALFD_SIGINFO.pack(
        info.signo,
        info.errno,
        code,
        pid & 0xFFFFFFFF,
        uid & 0xFFFFFFFF,
        info.fd,
        info.timer_id & 0xFFFFFFFF,
        info.band & 0xFFFFFFFF,
        info.overrun & 0xFFFFFFFF,
        0,
        info.status,
        signed,
        value & 0xFFFFFFFFFFFFFFFF,
        info.utime & 0xFFFFFFFFFFFFFFFF,
        info.stime & 0xFFFFFFFFFFFFFFFF,
        info.addr & 0xFFFFFFFFFFFFFFFF,
        info.addr_lsb & 0xFFFF,
        info.syscall,
        0,
        info.arch & 0xFFFFFFFF,
    )

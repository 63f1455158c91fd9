"""Pseudo-terminal pairs (pty(7)): a Terminal whose hardware is a program that holds the master side.

Life: opening ptmx makes the pair; the slave may be opened and closed any number of times once it is unlocked; closing
the master hangs the slave up for good. The devpts instance lists the slave as long as the master is open.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import ioctl_h as io
from protocol.abi import poll_h as po
from protocol.abi import signal_h as sg
from services.sentry.devices.terminal import terminal_ioctls
from services.sentry.devices.terminal.terminal import READABLE, WRITABLE, Terminal
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.kernel.waiter import WaitQueue
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.devices.terminal.terminal_file import TerminalFile
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.inode import Inode

__all__ = ["MasterFile", "PtyPair", "SLAVE_MAJOR"]

SLAVE_MAJOR: Final = 136
#: Signals that TIOCSIG may send (ioctl_tty(2)).
_ALLOWED_SIGNALS: Final = (sg.SIGINT, sg.SIGQUIT, sg.SIGTSTP)


class PtyPair(Terminal):
    """The slave's terminal, and what the master needs of it.

    hidden()    is called when the master is closed: the slave's name goes.
    gone(pair)  is called when neither side is open any more: its number is free.
    """

    __slots__ = ("gone", "hidden", "index", "locked", "master_open", "master_queue", "packet", "slave_was_closed")

    def __init__(self, kernel: Kernel, index: int, gone: Callable[[PtyPair], None]) -> None:
        super().__init__(kernel, os.makedev(SLAVE_MAJOR, index))
        self.index = index
        self.gone = gone
        self.hidden: Callable[[], None] = lambda: None
        self.locked = True  # until unlockpt(3)
        self.packet = False
        self.master_open = True
        self.master_queue = WaitQueue()
        self.slave_was_closed = False  # it was open, and its last file was closed

    # --- slave side ---
    def check_open(self, task: Task) -> None:
        if self.locked or not self.master_open:
            raise LinuxError(errno.EIO, "pty is locked or its master closed")
        super().check_open(task)

    def opened(self, file: TerminalFile) -> None:
        super().opened(file)
        self.slave_was_closed = False

    def closed(self, file: TerminalFile) -> None:
        super().closed(file)
        if self.files:
            return
        self.slave_was_closed = True
        self.master_queue.wake(READABLE | po.POLLHUP)
        if not self.master_open:
            self.gone(self)

    def output_ready(self) -> None:
        if self.master_queue.entries:
            self.master_queue.wake(self.master_bits())

    def input_drained(self) -> None:
        if self.master_queue.entries:
            self.master_queue.wake(self.master_bits())

    # --- master side ---
    def master_bits(self) -> int:
        discipline = self.discipline
        ready = READABLE if discipline.output.pending else 0
        if self.packet and discipline.packet_status:
            ready |= READABLE | po.POLLPRI
        if self.slave_was_closed:
            ready |= po.POLLHUP
        if discipline.incoming_room:
            ready |= WRITABLE
        return ready

    def master_read(self, count: int) -> bytes:
        """What the slave wrote; in packet mode a status byte first (ioctl_tty(2) TIOCPKT). EIO: the slave is closed."""
        discipline = self.discipline
        if count == 0:
            return b""
        if self.packet and discipline.packet_status:
            status, discipline.packet_status = discipline.packet_status, 0
            return bytes((status,))
        output = discipline.output
        if not output.pending:
            if self.slave_was_closed:
                raise LinuxError(errno.EIO, "pty slave is closed")
            raise WouldBlock
        data = b"\0" + output.take(count - 1) if self.packet else output.take(count)
        output.process_echoes()
        if self.queue.entries:
            self.queue.wake(WRITABLE)
        return data

    def master_write(self, data: bytes | memoryview) -> int:
        taken = self.accept(data)
        if taken == 0 and len(data):
            raise WouldBlock
        return taken

    def set_packet(self, on: bool) -> None:
        if on and not self.packet:
            self.discipline.packet_status = 0
        self.packet = on

    def close_master(self) -> None:
        """The last descriptor of the master went: the slave hangs up."""
        self.master_open = False
        self.hidden()
        self.hang_up()
        if not self.files:
            self.gone(self)


class MasterFile(OpenFile):
    """An open master: made by opening ptmx, never opened by name again."""

    __slots__ = ("open_peer", "pair")
    pollable = True
    writes_all = True

    def __init__(self, inode: Inode, flags: int, pair: PtyPair, open_peer: Callable[[Task, int], OpenFile]) -> None:
        super().__init__(inode, flags)
        self.pair = pair
        self.open_peer = open_peer
        self.queue = pair.master_queue

    def release(self) -> None:
        self.pair.close_master()

    def read(self, count: int) -> bytes:
        return self.pair.master_read(count)

    def write(self, data: bytes | memoryview) -> int:
        return self.pair.master_write(data)

    def poll(self) -> int:
        return self.pair.master_bits()

    def fdinfo(self) -> bytes:
        return b"tty-index:\t%d\n" % self.pair.index

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        """The master's own requests; the rest act on the slave's line (ioctl_tty(2))."""
        pair = self.pair
        mm = task.mm
        if request == io.TIOCGPTN:
            mm.write_u32(arg, pair.index)
        elif request == io.TIOCSPTLCK:
            pair.locked = bool(mm.read_u32(arg))
        elif request == io.TIOCGPTLCK:
            mm.write_u32(arg, int(pair.locked))
        elif request == io.TIOCPKT:
            pair.set_packet(bool(mm.read_u32(arg)))
        elif request == io.TIOCGPKT:
            mm.write_u32(arg, int(pair.packet))
        elif request == io.TIOCGPTPEER:
            return task.files.allocate(self.open_peer(task, arg), bool(arg & fc.O_CLOEXEC))
        elif request == io.TIOCINQ:
            mm.write_u32(arg, len(pair.discipline.output.pending))
        elif request == io.TIOCSTI:
            raise LinuxError(errno.EIO)
        elif request == io.TIOCSIG:
            if arg not in _ALLOWED_SIGNALS:
                raise LinuxError(errno.EINVAL)
            pair.signal_foreground(arg)
        else:
            return terminal_ioctls.run(pair, self, task, request, arg)
        return 0

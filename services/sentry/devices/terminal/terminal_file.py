"""Open terminals: the file behind a descriptor of /dev/pts/N, /dev/tty and the console."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from protocol.abi import ioctl_h as io
from protocol.abi import termios_h as tm
from services.sentry.devices.terminal import terminal_ioctls
from services.sentry.devices.terminal.terminal import DEAD, Terminal
from services.sentry.errors import LinuxError
from services.sentry.vfs.open_file import OpenFile

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.inode import Inode

__all__ = ["TerminalFile", "open_terminal"]


class TerminalFile(OpenFile):
    """`dead`: the terminal was hung up while this was open; reads give end of file, writes EIO, for good."""

    __slots__ = ("dead", "terminal")
    pollable = True
    writes_all = True

    def __init__(self, inode: Inode, flags: int, terminal: Terminal) -> None:
        super().__init__(inode, flags)
        self.terminal = terminal
        self.queue = terminal.queue
        self.dead = False
        terminal.opened(self)

    def release(self) -> None:
        self.terminal.closed(self)

    def read(self, count: int) -> bytes:
        if self.dead:
            return b""
        return self.terminal.read(self, count)

    def write(self, data: bytes | memoryview) -> int:
        if self.dead:
            raise LinuxError(errno.EIO, "terminal was hung up")
        return self.terminal.write(data)

    def read_user(self, mm: AddressSpace, addr: int, count: int) -> int | None:
        """EIO: a background read that does not stop the reader."""
        task = self.terminal.background_task(mm)
        if task is not None and not self.dead:
            self.terminal.check_background_read(task)
        return super().read_user(mm, addr, count)

    def write_user(self, mm: AddressSpace, addr: int, count: int) -> int:
        """EIO: an orphaned background group, with TOSTOP."""
        terminal = self.terminal
        if terminal.discipline.modes.lflag & tm.TOSTOP and not self.dead:
            terminal.check_change(terminal.background_task(mm))
        return super().write_user(mm, addr, count)

    def poll(self) -> int:
        return DEAD if self.dead else self.terminal.poll_bits()

    def ioctl(self, task: Task, request: int, arg: int) -> Outcome:
        if self.dead:
            raise LinuxError(errno.ENOTTY if request == io.TIOCSPGRP else errno.EIO, "terminal was hung up")
        return terminal_ioctls.run(self.terminal, self, task, request, arg)


def open_terminal(inode: Inode, flags: int, task: Task, terminal: Terminal) -> TerminalFile:
    """open(2) of a terminal. EIO: locked or hung up; EBUSY: exclusive."""
    terminal.check_open(task)
    file = TerminalFile(inode, flags, terminal)
    terminal.acquire_at_open(task, flags, file.readable)
    return file

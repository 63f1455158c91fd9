"""The sandbox's console: a guest terminal whose hardware is the terminal that the sandbox was started from.

The host's terminal is put in raw mode and only moves bytes; editing, echo, signals and job control are done by our own
line discipline, so nothing of the host's session is involved. Output is written to the host fd only as far as poll(2)
says that it will not block; the rest waits for `kernel.host_poll`.

Life: `attach` before the Sentry is sealed (it reads and sets host modes), `start` once `kernel.host_poll` works,
`resize` by the control plane, `restore` at the end (the monitor restores the modes as well, should the Sentry die).
"""

from __future__ import annotations

import errno
import os
import select
import termios as host_termios
from fcntl import ioctl as host_ioctl
from typing import TYPE_CHECKING, Any, Final

from protocol.abi import ioctl_h as io
from protocol.abi import poll_h as po
from protocol.abi import termios_h as tm
from services.sentry.devices.terminal.pty_pair import SLAVE_MAJOR
from services.sentry.devices.terminal.terminal import Terminal
from services.sentry.devices.terminal.terminal_file import TerminalFile, open_terminal
from services.sentry.devices.terminal.terminals import Terminals
from services.sentry.devices.terminal.termios import Termios
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.vfs.anonymous import anon_inode

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task

__all__ = ["HostTerminal", "attach", "open_standard_stream"]

CHUNK: Final = 1024  # written per host call: little enough not to block once poll(2) said that there is room
READ_SIZE: Final = 4096
_KEPT_INPUT: Final = tm.IUTF8 | tm.ICRNL | tm.IXON | tm.IXANY | tm.INLCR | tm.IGNCR


class HostTerminal(Terminal):
    """`fd`: the host's terminal, open for reading and writing, held for good; `saved`: its modes as they were.

    `ours`: the supervisor's job has the terminal. Without it the host's modes are left alone and nothing is read;
    a guest that would read calls `wanted`, and the supervisor stops as a job that reads does.
    """

    __slots__ = ("_poller", "_reader_waits", "_watched", "fd", "ours", "saved", "wanted")

    def __init__(self, kernel: Kernel, fd: int) -> None:
        super().__init__(kernel, os.makedev(SLAVE_MAJOR, 0))
        self.fd = fd
        self.saved: list[Any] | None = None
        self.ours = False
        self.wanted: Callable[[], None] = lambda: None
        self._reader_waits = False
        self._watched = 0  # poll bits that host_poll waits for
        self._poller = select.poll()
        self._poller.register(fd, select.POLLOUT)

    # --- life ---
    def start(self) -> None:
        """Begin to take input."""
        self._watch()

    def restore(self) -> None:
        """Write what is left and give the host's terminal its modes back. Never raises."""
        self.output_ready()
        if self.saved is not None:
            try:
                host_termios.tcsetattr(self.fd, host_termios.TCSADRAIN, self.saved)
            except host_termios.error:
                self.kernel.log.warning("console: the modes of the host's terminal could not be restored")
            self.saved = None

    def set_foreground(self, foreground: bool) -> None:
        """The supervisor's job got the terminal, or lost it (whoever has it now set its modes)."""
        if foreground == self.ours:
            if not foreground and self._reader_waits:
                self.wanted()
            return
        self.ours = foreground
        if foreground:
            self._reader_waits = False
            self.take_over()
        else:
            self.saved = None
        self._watch()

    def take_over(self) -> None:
        """Set the host's terminal to raw; the guest's begins with the modes that it had."""
        saved = host_termios.tcgetattr(self.fd)
        raw: list[Any] = [
            saved[0] & tm.IUTF8,
            saved[1] & ~tm.OPOST,
            saved[2] & ~(tm.CSIZE | tm.PARENB) | tm.CS8,
            0,
            saved[4],
            saved[5],
            [*saved[6]],
        ]
        raw[6][tm.VMIN], raw[6][tm.VTIME] = b"\x01", b"\x00"
        host_termios.tcsetattr(self.fd, host_termios.TCSADRAIN, raw)
        self.saved = saved
        characters = bytes(char if isinstance(char, int) else char[0] for char in saved[6][: tm.NCCS])
        if saved[3] & tm.ICANON:  # VMIN and VTIME share no place with other characters on x86
            modes = Termios(saved[0] & _KEPT_INPUT, saved[1], saved[2], saved[3], 0, characters)
            self.discipline.set_modes(modes.with_speeds_of_flags(38400))

    # --- programs ---
    def read(self, file: TerminalFile, count: int) -> bytes:
        try:
            return super().read(file, count)
        except WouldBlock:
            if not self.ours and not self._reader_waits:
                self._reader_waits = True
                self.wanted()
            raise

    # --- hardware ---
    def output_ready(self) -> None:
        """Hand pending output over as far as the host takes it now."""
        self.discipline.packet_status = 0
        output = self.discipline.output
        while output.pending:
            try:
                if not self._poller.poll(0):
                    break
                written = os.write(self.fd, output.pending[:CHUNK])
            except BlockingIOError:
                break
            except OSError:
                self._lost()
                return
            output.take(written)
        output.process_echoes()
        self._watch()

    def input_drained(self) -> None:
        self._watch()

    def _watch(self) -> None:
        """Keep host_poll's interest equal to what there is to do."""
        wanted = 0
        if not self.hung_up:
            if self.ours and self.discipline.incoming_room:
                wanted |= po.POLLIN
            if self.discipline.output.pending:
                wanted |= po.POLLOUT
        if wanted == self._watched or self.kernel.host_poll is None:
            return
        if self._watched:
            self.kernel.host_poll.unwatch(self.fd)
        if wanted:
            self.kernel.host_poll.watch(self.fd, wanted, self._ready)
        self._watched = wanted

    def _ready(self, mask: int = po.POLLIN) -> None:
        """host_poll's callback."""
        if mask & (po.POLLIN | po.POLLHUP | po.POLLERR):
            self._take_input()
        if not self.hung_up and self.discipline.output.pending:
            self.output_ready()
            self.queue.wake(self.poll_bits())

    def _take_input(self) -> None:
        room = self.discipline.incoming_room
        if room:
            try:
                data = os.read(self.fd, min(room, READ_SIZE))
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lost()
                return
            self.accept(data)
        self._watch()

    def _lost(self) -> None:
        """The host's terminal is gone."""
        self.hang_up()
        self._watch()


def attach(kernel: Kernel, fd: int, foreground: bool = True) -> HostTerminal:
    """Make the host terminal `fd` the sandbox's console: `kernel.console`, /dev/console and /dev/pts/0.

    Call before sealing and before any pty is opened. The guest's terminal starts with the host's modes and window; the
    host's is set to raw, if it is the supervisor's (`foreground`). OSError, termios.error: `fd` is no terminal.
    """
    terminal = HostTerminal(kernel, fd)
    window = host_ioctl(fd, io.TIOCGWINSZ, bytes(tm.WINSIZE.size))
    terminal.ours = foreground
    if foreground:
        terminal.take_over()
    terminal.window = window
    terminals = kernel.part(Terminals)
    terminals.console = terminal
    if terminals.devpts is not None:
        terminals.devpts.show(0, terminal, 0, 0)
    kernel.console = terminal
    return terminal


def open_standard_stream(task: Task, flags: int) -> TerminalFile:
    """An open file of the console for a standard stream; named /dev/pts/0 where devpts is mounted there.

    The first one opened by a session leader makes it the controlling terminal. ENODEV: the sandbox has no console.
    """
    from services.sentry.vfs.path_walk import walk

    console = task.kernel.part(Terminals).console
    if console is None:
        raise LinuxError(errno.ENODEV, "no console")
    try:
        path = walk(task, task.fs.root, b"/dev/pts/0")
    except LinuxError:
        path = None
    inode = None if path is None else path.dentry.inode
    if path is None or inode is None or inode.rdev != console.number:
        return open_terminal(anon_inode(task.kernel), flags, task, console)
    file = open_terminal(inode, flags, task, console)
    file.path = path
    return file

"""A terminal as programs have it open: discipline, window, session and foreground group, job control, hangup.

Owns everything of a terminal but what is behind it: a subclass moves bytes between the discipline and its hardware (the
master of a pty, the host's terminal) through `output_ready` and `accept`. Life: made with its hardware, opened any
number of times (`TerminalFile`), hung up once, at the latest when the hardware goes, and then it never comes back.

Sources: ioctl_tty(2), termios(3), credentials(7) "Sessions"; Linux drivers/tty/tty_jobctrl.c for the order of checks.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi import signal_h as sg
from protocol.abi import termios_h as tm
from services.sentry.devices.terminal.line_discipline import LineDiscipline
from services.sentry.errors import LinuxError, Restart, WouldBlock
from services.sentry.kernel.sessions import is_orphaned
from services.sentry.kernel.signals import SigInfo, send_signal_group, send_signal_pgrp
from services.sentry.kernel.waiter import WaitQueue

if TYPE_CHECKING:
    from services.sentry.devices.terminal.terminal_file import TerminalFile
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.sessions import ProcessGroup, Session
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.timers import TimerHandle
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["Terminal", "controlling_terminal"]

READABLE: Final = po.POLLIN | po.POLLRDNORM
WRITABLE: Final = po.POLLOUT | po.POLLWRNORM
DEAD: Final = READABLE | WRITABLE | po.POLLERR | po.POLLHUP
DECISECOND_NS: Final = 100_000_000


def controlling_terminal(session: Session | None) -> Terminal | None:
    """The terminal that controls `session`, unless it was hung up."""
    terminal = None if session is None else session.terminal
    if isinstance(terminal, Terminal) and terminal.session is session:
        return terminal
    return None


class Terminal:
    """See the module. `number` is the device number, `window` a struct winsize."""

    __slots__ = (
        "discipline",
        "exclusive",
        "files",
        "foreground",
        "hung_up",
        "kernel",
        "locked_modes",
        "number",
        "queue",
        "session",
        "timed_out",
        "timer",
        "window",
    )

    def __init__(self, kernel: Kernel, number: int) -> None:
        self.kernel = kernel
        self.number = number
        self.discipline = LineDiscipline()
        self.queue = WaitQueue()
        self.window = bytes(tm.WINSIZE.size)
        self.session: Session | None = None
        self.foreground: ProcessGroup | None = None
        self.files: set[TerminalFile] = set()
        self.exclusive = False
        self.hung_up = False
        self.locked_modes = bytes(tm.TERMIOS.size)
        self.timer: TimerHandle | None = None  # of VTIME
        self.timed_out = False

    # --- what a subclass adds ---
    def output_ready(self) -> None:
        """The discipline has output pending, or its packet status changed: hand it to the hardware."""

    def input_drained(self) -> None:
        """A read made room: the hardware may deliver more."""

    def check_open(self, task: Task) -> None:
        """Whether open(2) may succeed. EIO: locked or hung up; EBUSY: exclusive."""
        if self.hung_up:
            raise LinuxError(errno.EIO, "terminal was hung up")
        if self.exclusive and not task.cred.has_cap(21):  # CAP_SYS_ADMIN
            raise LinuxError(errno.EBUSY, "terminal is in exclusive mode")

    def opened(self, file: TerminalFile) -> None:
        self.files.add(file)

    def closed(self, file: TerminalFile) -> None:
        self.files.discard(file)

    # --- input from the hardware ---
    def accept(self, data: bytes | memoryview) -> int:
        """Bytes typed; how many were taken."""
        taken = self.discipline.receive(data)
        if self.timer is not None and not self.discipline.canonical and self.discipline.modes.cc[tm.VMIN]:
            self._arm_timer()  # the time between two bytes starts anew (termios(3), MIN > 0, TIME > 0)
        self.after_change()
        return taken

    def after_change(self) -> None:
        """Carry out what the discipline left to do: signals, output, wake-ups."""
        discipline = self.discipline
        if discipline.signals:
            signals, discipline.signals = discipline.signals, []
            for signo in signals:
                self.signal_foreground(signo)
        if discipline.output.pending or discipline.packet_status:
            self.output_ready()
        if self.queue.entries:
            self.queue.wake(self.poll_bits())

    def signal_foreground(self, signo: int) -> None:
        if self.foreground is not None:
            send_signal_pgrp(self.foreground, SigInfo(signo, sg.SI_KERNEL))

    # --- programs ---
    def read(self, file: TerminalFile, count: int) -> bytes:
        """read(2) with canonical and VMIN/VTIME rules."""
        if count == 0:
            return b""
        discipline = self.discipline
        if discipline.canonical:
            ready = discipline.readable
        else:
            ready = self._raw_ready(len(discipline.buffer), count, bool(file.flags & fc.O_NONBLOCK))
        if not ready:
            raise WouldBlock
        self._disarm_timer()
        data = discipline.read(count)
        self.input_drained()
        if discipline.output.pending or discipline.signals:
            self.after_change()
        return data

    def _raw_ready(self, have: int, count: int, nonblocking: bool) -> bool:
        """termios(3), "Canonical and noncanonical mode": the four cases of MIN and TIME."""
        cc = self.discipline.modes.cc
        minimum, wait = cc[tm.VMIN], cc[tm.VTIME]
        if self.timed_out or (minimum == 0 and wait == 0) or have >= max(1, min(minimum, count)):
            return True
        if nonblocking:
            return have > 0
        if wait and (minimum == 0 or have) and self.timer is None:
            self._arm_timer()
        return False

    def _arm_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        delay_ns = self.discipline.modes.cc[tm.VTIME] * DECISECOND_NS
        self.timer = self.kernel.timers.call_at(self.kernel.clock.monotonic_ns() + delay_ns, self._time_passed)

    def _disarm_timer(self) -> None:
        self.timed_out = False
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _time_passed(self) -> None:
        self.timer = None
        if self.queue.entries:  # otherwise the reader went away, with a signal
            self.timed_out = True
            self.queue.wake(READABLE)

    def write(self, data: bytes | memoryview) -> int:
        """write(2). WouldBlock: stopped or no room."""
        taken = self.discipline.write(data)
        if taken == 0 and len(data):
            raise WouldBlock
        self.output_ready()
        return taken

    def poll_bits(self) -> int:
        if self.hung_up:
            return DEAD
        discipline = self.discipline
        cc = discipline.modes.cc
        if discipline.canonical or cc[tm.VTIME] or not cc[tm.VMIN]:
            ready = READABLE if discipline.readable else 0
        else:
            ready = READABLE if len(discipline.buffer) >= cc[tm.VMIN] else 0
        if self.timed_out:
            ready |= READABLE
        if discipline.output.room > 0:
            ready |= WRITABLE
        return ready

    # --- job control ---
    def background_task(self, mm: AddressSpace) -> Task | None:
        """The task of this session that runs in `mm`, if it is in the background."""
        session, foreground = self.session, self.foreground
        if session is None or foreground is None or _member_with(foreground, mm) is not None:
            return None
        for process_group in session.groups:
            found = None if process_group is foreground else _member_with(process_group, mm)
            if found is not None:
                return found
        return None

    def check_background_read(self, task: Task) -> None:
        """SIGTTIN for a background task (termios(3), "Job control"). EIO: it is ignored, blocked, or orphaned."""
        if _is_refused(task, sg.SIGTTIN):
            raise LinuxError(errno.EIO, "background read with SIGTTIN ignored")
        self._stop_background(task, sg.SIGTTIN)

    def check_change(self, task: Task | None) -> None:
        """SIGTTOU for a background group that changes the terminal. EIO: orphaned. Fine where SIGTTOU is ignored."""
        if task is None or not self._in_background(task) or _is_refused(task, sg.SIGTTOU):
            return
        self._stop_background(task, sg.SIGTTOU)

    def _in_background(self, task: Task) -> bool:
        group = task.group
        return (
            self.session is not None
            and group.session is self.session
            and self.foreground is not None
            and group.process_group is not self.foreground
        )

    def _stop_background(self, task: Task, signo: int) -> None:
        process_group = task.group.process_group
        if process_group is None or is_orphaned(process_group):
            raise LinuxError(errno.EIO, "orphaned background group")
        send_signal_pgrp(process_group, SigInfo(signo, sg.SI_KERNEL))
        raise LinuxError(Restart.SYS, "background access")

    # --- sessions ---
    def is_controlling(self, task: Task) -> bool:
        return self.session is not None and task.group.session is self.session

    def become_controlling(self, task: Task) -> None:
        """Make this the controlling terminal of the task's session, its group the foreground (the caller checked)."""
        if self.session is not None:
            self.session.terminal = None
        self.session = task.group.session
        self.session.terminal = self
        self.foreground = task.group.process_group

    def acquire_at_open(self, task: Task, flags: int, readable: bool) -> None:
        """open(2) without O_NOCTTY by a session leader that has no terminal acquires one that is free."""
        group = task.group
        if flags & fc.O_NOCTTY or self.session is not None or not readable:
            return
        if group.session.leader is group and controlling_terminal(group.session) is None:
            self.become_controlling(task)

    def disassociate(self, *, leader_exits: bool) -> None:
        """The session leader exits or gives the terminal up (TIOCNOTTY): SIGHUP (and SIGCONT) to the foreground."""
        session, self.session = self.session, None
        foreground, self.foreground = self.foreground, None
        if session is not None:
            session.terminal = None
        if foreground is not None:
            send_signal_pgrp(foreground, SigInfo(sg.SIGHUP, sg.SI_KERNEL))
            if not leader_exits or self.hung_up:
                send_signal_pgrp(foreground, SigInfo(sg.SIGCONT, sg.SI_KERNEL))

    def leader_exited(self) -> None:
        """Called when the leader of the session whose `terminal` this is exits (also one that was hung up before)."""
        self.disassociate(leader_exits=True)

    def hang_up(self) -> None:
        """The line is gone: every open file of it is dead, the session leader gets SIGHUP and SIGCONT.

        The foreground group follows when the leader exits, as on Linux (`leader_exited`).
        """
        if self.hung_up:
            return
        self.hung_up = True
        self._disarm_timer()
        session, self.session = self.session, None
        if session is not None and session.leader is not None:
            for signo in (sg.SIGHUP, sg.SIGCONT):
                send_signal_group(session.leader, SigInfo(signo, sg.SI_KERNEL))
        for file in list(self.files):
            file.dead = True
        self.queue.wake(DEAD)

    # --- window ---
    def set_window(self, window: bytes) -> None:
        """TIOCSWINSZ: struct winsize; SIGWINCH to the foreground group if it changed."""
        if window != self.window:
            self.window = window
            self.signal_foreground(sg.SIGWINCH)

    def resize(self, rows: int, columns: int) -> None:
        """The window has a new size in characters."""
        self.set_window(tm.WINSIZE.pack(rows & 0xFFFF, columns & 0xFFFF, 0, 0))

    @property
    def major_minor(self) -> tuple[int, int]:
        return os.major(self.number), os.minor(self.number)


def _member_with(process_group: ProcessGroup, mm: AddressSpace) -> Task | None:
    for member in process_group.members.values():
        task = member.live_task()
        if task is not None and task.mm_or_none is mm:
            return task
    return None


def _is_refused(task: Task, signo: int) -> bool:
    """The signal is blocked or ignored, so that sending it would do nothing."""
    return bool(task.signal_mask >> (signo - 1) & 1) or task.group.sighand.actions[signo].handler == sg.SIG_IGN

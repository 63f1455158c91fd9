"""ioctl(2) of terminals (ioctl_tty(2)): one literal table, request -> function.

A function gets (terminal, file, task, arg) and returns the result. `terminal` is always the line itself: on a pty
master the requests that Linux redirects act on the slave's line (`file` tells which side it was). ENOTTY: no such
request.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as cap
from protocol.abi import ioctl_h as io
from protocol.abi import termios_h as tm
from services.sentry.devices.terminal.terminal import Terminal, controlling_terminal
from services.sentry.devices.terminal.termios import Termios
from services.sentry.errors import LinuxError
from services.sentry.syscalls.arguments import s32

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["run"]

Handler = Callable[[Terminal, "OpenFile", "Task", int], int]


def run(terminal: Terminal, file: OpenFile, task: Task, request: int, arg: int) -> Outcome:
    """Carry out `request`. ENOTTY: terminals do not know it; EFAULT: `arg` is no address."""
    handler = TABLE.get(request & 0xFFFFFFFF)
    if handler is None:
        raise LinuxError(errno.ENOTTY, f"terminal ioctl {request:#x}")
    return handler(terminal, file, task, arg)


def on_own_side(terminal: Terminal, file: OpenFile) -> bool:
    """`file` is the line itself, not the master of a pty."""
    return getattr(file, "terminal", None) is terminal


# --- modes ---
def _get_modes(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    task.mm.write(arg, terminal.discipline.modes.pack())
    return 0


def _get_modes2(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    task.mm.write(arg, terminal.discipline.modes.pack2())
    return 0


def _get_modes_old(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    task.mm.write(arg, terminal.discipline.modes.pack_old())
    return 0


def _setter(size: int, decode: Callable[[Termios, bytes], Termios], *, flush: bool) -> Handler:
    """TCSETS and its relatives. Output is handed over at once, so waiting for it (…W, …F) takes no time."""

    def set_modes(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
        terminal.check_change(task)
        discipline = terminal.discipline
        new = decode(discipline.modes, task.mm.read(arg, size))
        if flush:
            _drop_input(terminal)
        discipline.set_modes(_keep_locked(terminal, new))
        terminal.after_change()
        return 0

    return set_modes


def _keep_locked(terminal: Terminal, new: Termios) -> Termios:
    """Bits that TIOCSLCKTRMIOS locked keep their old value."""
    if not any(terminal.locked_modes):
        return new
    lock = Termios(*tm.TERMIOS.unpack(terminal.locked_modes))
    old = terminal.discipline.modes
    was, now, mask = old[:4], new[:4], lock[:4]
    flags = [was[word] & mask[word] | now[word] & ~mask[word] for word in range(4)]
    line = old.line if lock.line else new.line
    cc = bytes(was if mask else now for was, now, mask in zip(old.cc, new.cc, lock.cc, strict=True))
    return new._replace(iflag=flags[0], oflag=flags[1], cflag=flags[2], lflag=flags[3], line=line, cc=cc)


def _get_locked(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    task.mm.write(arg, terminal.locked_modes)
    return 0


def _set_locked(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    _need_admin(task)
    terminal.locked_modes = task.mm.read(arg, tm.TERMIOS.size)
    return 0


# --- queues and flow ---
def _drop_input(terminal: Terminal) -> None:
    terminal.discipline.incoming.clear()
    terminal.discipline.flush_input()
    terminal.input_drained()


def _flush(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TCFLSH (tcflush(3)). From the master the two directions are swapped."""
    terminal.check_change(task)
    if arg not in (tm.TCIFLUSH, tm.TCOFLUSH, tm.TCIOFLUSH):
        raise LinuxError(errno.EINVAL)
    own = on_own_side(terminal, file)
    if arg == tm.TCIOFLUSH or (arg == tm.TCIFLUSH) == own:
        _drop_input(terminal)
    if arg == tm.TCIOFLUSH or (arg == tm.TCOFLUSH) == own:
        if own:
            terminal.discipline.flush_output()
        else:
            terminal.discipline.output.pending.clear()
    terminal.after_change()
    return 0


def _flow(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TCXONC (tcflow(3))."""
    terminal.check_change(task)
    discipline = terminal.discipline
    output = discipline.output
    if arg == tm.TCOOFF:
        if not output.tco_stopped:
            output.tco_stopped = True
            discipline.stop()
    elif arg == tm.TCOON:
        if output.tco_stopped:
            output.tco_stopped = False
            discipline.start()
    elif arg in (tm.TCIOFF, tm.TCION):
        char = discipline.modes.cc[tm.VSTOP if arg == tm.TCIOFF else tm.VSTART]
        if char:
            output.pending.append(char)
    else:
        raise LinuxError(errno.EINVAL)
    terminal.after_change()
    return 0


def _break(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TCSBRK, TCSBRKP, TIOCSBRK: no line to break, and output never has to drain."""
    terminal.check_change(task)
    return 0


def _input_size(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    task.mm.write_u32(arg, terminal.discipline.queued)
    return 0


def _zero(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TIOCOUTQ, TIOCGETD: always 0."""
    task.mm.write_u32(arg, 0)
    return 0


def _set_discipline(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TIOCSETD: there is N_TTY and nothing else."""
    terminal.check_change(task)
    if task.mm.read_u32(arg) != io.N_TTY:
        raise LinuxError(errno.EINVAL, "line discipline")
    return 0


def _simulate_input(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TIOCSTI. EIO without CAP_SYS_ADMIN, as with dev.tty.legacy_tiocsti=0."""
    if not task.cred.has_cap(cap.CAP_SYS_ADMIN):
        raise LinuxError(errno.EIO, "simulated input")
    terminal.accept(task.mm.read(arg, 1))
    return 0


# --- window ---
def _get_window(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    task.mm.write(arg, terminal.window)
    return 0


def _set_window(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    terminal.set_window(task.mm.read(arg, tm.WINSIZE.size))
    return 0


# --- sessions and process groups ---
def _set_controlling(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TIOCSCTTY. EPERM: no session leader, it has a terminal, or this one is another session's (arg 1 steals it)."""
    group = task.group
    session = group.session
    leads = session.leader is group
    if leads and terminal.session is session:
        return 0
    if not leads or controlling_terminal(session) is not None:
        raise LinuxError(errno.EPERM)
    admin = task.cred.has_cap(cap.CAP_SYS_ADMIN)
    if terminal.session is not None and not (arg == 1 and admin):
        raise LinuxError(errno.EPERM, "terminal belongs to another session")
    if not file.readable and not admin:
        raise LinuxError(errno.EPERM)
    terminal.become_controlling(task)
    return 0


def _give_up(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TIOCNOTTY. ENOTTY: not the caller's terminal. For a member that is no leader nothing changes."""
    if not on_own_side(terminal, file) or not terminal.is_controlling(task):
        raise LinuxError(errno.ENOTTY)
    if task.group.session.leader is task.group:
        terminal.disassociate(leader_exits=False)
    return 0


def _get_foreground(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TIOCGPGRP: 0 where there is none. ENOTTY: not the caller's terminal (the master may always ask)."""
    if on_own_side(terminal, file) and not terminal.is_controlling(task):
        raise LinuxError(errno.ENOTTY)
    task.mm.write_u32(arg, terminal.foreground.id if terminal.foreground is not None else 0)
    return 0


def _set_foreground(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TIOCSPGRP. ENOTTY: not the caller's terminal; EINVAL: negative; ESRCH: no such group; EPERM: another's."""
    try:
        terminal.check_change(task)
    except LinuxError as error:
        raise LinuxError(errno.ENOTTY) if error.errno == errno.EIO else error from None
    if not terminal.is_controlling(task):
        raise LinuxError(errno.ENOTTY)
    number = s32(task.mm.read_u32(arg))
    if number < 0:
        raise LinuxError(errno.EINVAL)
    process_group = task.kernel.process_groups.get(number)
    if process_group is None:
        raise LinuxError(errno.ESRCH)
    if process_group.session is not task.group.session:
        raise LinuxError(errno.EPERM)
    terminal.foreground = process_group
    return 0


def _get_session(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TIOCGSID. ENOTTY: not the caller's terminal, or nobody's."""
    session = terminal.session
    if session is None or (on_own_side(terminal, file) and not terminal.is_controlling(task)):
        raise LinuxError(errno.ENOTTY)
    task.mm.write_u32(arg, session.id)
    return 0


def _hang_up(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    _need_admin(task)
    terminal.hang_up()
    return 0


# --- exclusive mode, identity ---
def _set_exclusive(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    terminal.exclusive = True
    return 0


def _clear_exclusive(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    terminal.exclusive = False
    return 0


def _get_exclusive(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    task.mm.write_u32(arg, int(terminal.exclusive))
    return 0


def _get_device(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    """TIOCGDEV: the device number in the 32-bit encoding (linux/kdev_t.h new_encode_dev)."""
    major, minor = terminal.major_minor
    task.mm.write_u32(arg, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12)
    return 0


def _get_soft_carrier(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    task.mm.write_u32(arg, int(bool(terminal.discipline.modes.cflag & tm.CLOCAL)))
    return 0


def _set_soft_carrier(terminal: Terminal, file: OpenFile, task: Task, arg: int) -> int:
    terminal.check_change(task)
    local = tm.CLOCAL if task.mm.read_u32(arg) else 0
    modes = terminal.discipline.modes
    terminal.discipline.set_modes(modes._replace(cflag=modes.cflag & ~tm.CLOCAL | local))
    return 0


def _need_admin(task: Task) -> None:
    if not task.cred.has_cap(cap.CAP_SYS_ADMIN):
        raise LinuxError(errno.EPERM)


def _from_termios(old: Termios, data: bytes) -> Termios:
    return Termios.unpack(data)


def _from_termios2(old: Termios, data: bytes) -> Termios:
    return Termios.unpack2(data)


_SIZE, _SIZE2, _SIZE_OLD = tm.TERMIOS.size, tm.TERMIOS2.size, tm.TERMIO.size
TCGETS2, TCSETS2, TCSETSW2, TCSETSF2 = 0x802C542A, 0x402C542B, 0x402C542C, 0x402C542D

TABLE: Final[Mapping[int, Handler]] = {
    io.TCGETS: _get_modes,
    io.TCSETS: _setter(_SIZE, _from_termios, flush=False),
    io.TCSETSW: _setter(_SIZE, _from_termios, flush=False),
    io.TCSETSF: _setter(_SIZE, _from_termios, flush=True),
    TCGETS2: _get_modes2,
    TCSETS2: _setter(_SIZE2, _from_termios2, flush=False),
    TCSETSW2: _setter(_SIZE2, _from_termios2, flush=False),
    TCSETSF2: _setter(_SIZE2, _from_termios2, flush=True),
    io.TCGETA: _get_modes_old,
    io.TCSETA: _setter(_SIZE_OLD, Termios.merge_old, flush=False),
    io.TCSETAW: _setter(_SIZE_OLD, Termios.merge_old, flush=False),
    io.TCSETAF: _setter(_SIZE_OLD, Termios.merge_old, flush=True),
    io.TIOCGLCKTRMIOS: _get_locked,
    io.TIOCSLCKTRMIOS: _set_locked,
    io.TCFLSH: _flush,
    io.TCXONC: _flow,
    io.TCSBRK: _break,
    io.TCSBRKP: _break,
    io.TIOCSBRK: _break,
    io.TIOCCBRK: _break,
    io.TIOCINQ: _input_size,
    io.TIOCOUTQ: _zero,
    io.TIOCGETD: _zero,
    io.TIOCSETD: _set_discipline,
    io.TIOCSTI: _simulate_input,
    io.TIOCGWINSZ: _get_window,
    io.TIOCSWINSZ: _set_window,
    io.TIOCSCTTY: _set_controlling,
    io.TIOCNOTTY: _give_up,
    io.TIOCGPGRP: _get_foreground,
    io.TIOCSPGRP: _set_foreground,
    io.TIOCGSID: _get_session,
    io.TIOCVHANGUP: _hang_up,
    io.TIOCEXCL: _set_exclusive,
    io.TIOCNXCL: _clear_exclusive,
    io.TIOCGEXCL: _get_exclusive,
    io.TIOCGDEV: _get_device,
    io.TIOCGSOFTCAR: _get_soft_carrier,
    io.TIOCSSOFTCAR: _set_soft_carrier,
}

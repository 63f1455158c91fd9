"""Pty pairs, devpts, job control, hangup, ioctls: through open files, on a kernel without a guest."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any, cast

import pytest

from protocol.abi import fcntl_h as fc
from protocol.abi import ioctl_h as io
from protocol.abi import poll_h as po
from protocol.abi import signal_h as sg
from protocol.abi import termios_h as tm
from services.sentry.devices.terminal.pty_pair import MasterFile
from services.sentry.devices.terminal.terminal_file import TerminalFile
from services.sentry.errors import LinuxError, Restart
from services.sentry.kernel.signals import SigAction
from services.sentry.kernel.task import Task
from services.sentry.kernel.waiter import WaitEntry
from tests.unit.sentry.proc.machine import BASE, Machine, blocks, errno_of

NOCTTY = fc.O_RDWR | fc.O_NOCTTY


class Pty:
    """A pair with both sides open; `shell` leads the session that the slave controls."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.master = cast(MasterFile, machine.open(b"/dev/ptmx", NOCTTY))
        self.call(self.master, io.TIOCSPTLCK, 0)
        self.index = self.ask(self.master, io.TIOCGPTN)
        self.name = b"/dev/pts/%d" % self.index
        self.shell = machine.new_process()
        self.slave = cast(TerminalFile, machine.open(self.name, fc.O_RDWR, self.shell))
        self.job = machine.new_process(of=self.shell, own_group=True)

    def call(self, file: Any, request: int, value: int | bytes, task: Task | None = None) -> int:
        """An ioctl with a pointer to `value`."""
        task = task or self.machine.task
        task.mm.write(BASE, value if isinstance(value, bytes) else value.to_bytes(4, "little"))
        return cast(int, file.ioctl(task, request, BASE))

    def ask(self, file: Any, request: int, task: Task | None = None) -> int:
        task = task or self.machine.task
        file.ioctl(task, request, BASE)
        return task.mm.read_u32(BASE)

    def set_flags(self, **changes: int) -> None:
        modes = self.slave.terminal.discipline.modes
        self.call(self.slave, io.TCSETS, modes._replace(**changes).pack(), self.shell)


@pytest.fixture
def pty() -> Pty:
    return Pty(Machine())


def pending(task: Task) -> list[int]:
    mask = task.group.shared_pending.signals
    return [signo for signo in range(1, 65) if mask >> (signo - 1) & 1]


def catch_all(task: Task) -> None:
    """Give every signal a handler, so that sending it leaves it pending."""
    for signo in range(1, 32):
        if signo not in (sg.SIGKILL, sg.SIGSTOP):
            task.group.sighand.set(signo, SigAction(0x1000, 0, 0, 0))


def test_slave_appears_with_the_opener_as_owner_and_goes_with_the_master(pty: Pty) -> None:
    machine = pty.machine
    assert machine.names(b"/dev/pts") == [b"ptmx", b"0"]
    inode = pty.slave.inode
    assert (inode.mode, inode.rdev) == (stat.S_IFCHR | 0o600, os.makedev(136, 0))
    second = machine.open(b"/dev/pts/ptmx", NOCTTY)
    assert machine.names(b"/dev/pts") == [b"ptmx", b"0", b"1"]
    second.close_reference()
    pty.master.close_reference()
    assert machine.names(b"/dev/pts") == [b"ptmx"]
    assert errno_of(machine.open, pty.name) == errno.ENOENT
    pty.slave.close_reference()
    assert cast(MasterFile, machine.open(b"/dev/ptmx", NOCTTY)).pair.index == 0


def test_locked_slave_cannot_be_opened() -> None:
    machine = Machine()
    machine.open(b"/dev/ptmx", NOCTTY)
    assert errno_of(machine.open, b"/dev/pts/0", NOCTTY) == errno.EIO


def test_a_line_goes_through_with_echo(pty: Pty) -> None:
    assert blocks(pty.slave.read, 10)
    assert pty.master.write(b"hi\r") == 3
    assert pty.master.read(100) == b"hi\r\n"
    assert pty.slave.poll() & po.POLLIN
    assert pty.slave.read(100) == b"hi\n"
    pty.slave.write(b"out\n")
    assert pty.master.read(100) == b"out\r\n"
    assert blocks(pty.master.read, 1)


def test_a_session_leader_acquires_the_terminal_and_dev_tty_leads_to_it(pty: Pty) -> None:
    terminal = pty.slave.terminal
    assert terminal.session is pty.shell.group.session
    assert pty.ask(pty.slave, io.TIOCGPGRP, pty.shell) == pty.shell.group.pid
    assert pty.ask(pty.slave, io.TIOCGSID, pty.shell) == pty.shell.group.session.id
    assert cast(TerminalFile, pty.machine.open(b"/dev/tty", 2, pty.job)).terminal is terminal
    assert errno_of(pty.machine.open, b"/dev/tty", 2) == errno.ENXIO
    assert pty.machine.read(b"/proc/self/stat", pty.shell).split()[6] == b"%d" % (136 << 8)


def test_interrupt_goes_to_the_foreground_group_and_flushes(pty: Pty) -> None:
    catch_all(pty.job)
    catch_all(pty.shell)
    pty.call(pty.slave, io.TIOCSPGRP, pty.job.group.pid, pty.shell)
    pty.master.write(b"half a line\x03")
    assert pending(pty.job) == [sg.SIGINT]
    assert pending(pty.shell) == []
    assert pty.ask(pty.slave, io.FIONREAD, pty.shell) == 0
    pty.master.write(b"\x1a")
    assert pending(pty.job) == [sg.SIGINT, sg.SIGTSTP]


def test_background_read_stops_with_sigttin(pty: Pty) -> None:
    catch_all(pty.job)
    with pytest.raises(LinuxError) as caught:
        pty.slave.read_user(pty.job.mm, BASE, 10)
    assert caught.value.errno == Restart.SYS
    assert pending(pty.job) == [sg.SIGTTIN]
    pty.job.signal_mask = 1 << (sg.SIGTTIN - 1)
    assert errno_of(pty.slave.read_user, pty.job.mm, BASE, 10) == errno.EIO
    assert blocks(pty.slave.read_user, pty.shell.mm, BASE, 10)


def test_background_write_is_stopped_only_with_tostop(pty: Pty) -> None:
    catch_all(pty.job)
    assert pty.slave.write_user(pty.job.mm, BASE, 3) == 3
    pty.set_flags(lflag=tm.ISIG | tm.ICANON | tm.TOSTOP)
    assert errno_of(pty.slave.write_user, pty.job.mm, BASE, 3) == Restart.SYS
    assert pending(pty.job) == [sg.SIGTTOU]
    pty.job.signal_mask = 1 << (sg.SIGTTOU - 1)
    assert pty.slave.write_user(pty.job.mm, BASE, 3) == 3


def test_an_orphaned_background_group_gets_eio(pty: Pty) -> None:
    catch_all(pty.job)
    pty.job.group.parent = None
    assert errno_of(pty.slave.read_user, pty.job.mm, BASE, 10) == errno.EIO
    assert errno_of(pty.call, pty.slave, io.TCSETS, pty.slave.terminal.discipline.modes.pack(), pty.job) == errno.EIO


def test_window_changes_are_signalled_once(pty: Pty) -> None:
    catch_all(pty.shell)
    size = tm.WINSIZE.pack(24, 80, 0, 0)
    pty.call(pty.master, io.TIOCSWINSZ, size)
    assert pending(pty.shell) == [sg.SIGWINCH]
    pty.shell.group.shared_pending.take(sg.SIGSET_MASK)
    pty.call(pty.master, io.TIOCSWINSZ, size)
    assert pending(pty.shell) == []
    pty.slave.ioctl(pty.shell, io.TIOCGWINSZ, BASE)
    assert pty.shell.mm.read(BASE, 8) == size


def test_closing_the_master_hangs_up(pty: Pty) -> None:
    catch_all(pty.shell)
    pty.master.close_reference()
    assert pending(pty.shell) == [sg.SIGHUP, sg.SIGCONT]
    assert pty.slave.read(10) == b""
    assert errno_of(pty.slave.write, b"x") == errno.EIO
    assert errno_of(pty.ask, pty.slave, io.TCGETS) == errno.EIO
    assert pty.slave.poll() & (po.POLLHUP | po.POLLERR) == po.POLLHUP | po.POLLERR
    assert errno_of(pty.machine.open, b"/dev/tty", 2, pty.shell) == errno.ENXIO


def test_the_leaders_exit_frees_the_terminal_and_hangs_up_the_foreground(pty: Pty) -> None:
    catch_all(pty.job)
    pty.call(pty.slave, io.TIOCSPGRP, pty.job.group.pid, pty.shell)
    pty.slave.terminal.leader_exited()
    assert pending(pty.job) == [sg.SIGHUP]
    assert pty.slave.terminal.session is None
    other = pty.machine.new_process()
    assert pty.slave.ioctl(other, io.TIOCSCTTY, 0) == 0
    assert errno_of(pty.slave.ioctl, pty.machine.new_process(), io.TIOCSCTTY, 0) == errno.EPERM


def test_closing_the_slave_ends_the_masters_reading_after_what_was_written(pty: Pty) -> None:
    pty.slave.write(b"last")
    pty.slave.close_reference()
    assert pty.master.poll() & po.POLLHUP
    assert pty.master.read(10) == b"last"
    assert errno_of(pty.master.read, 10) == errno.EIO
    pty.machine.open(pty.name, NOCTTY)
    assert blocks(pty.master.read, 10)


def test_packet_mode_reports_flow_and_flushes(pty: Pty) -> None:
    pty.call(pty.master, io.TIOCPKT, 1)
    pty.slave.write(b"data")
    assert pty.master.read(10) == b"\0data"
    pty.slave.ioctl(pty.shell, io.TCXONC, tm.TCOOFF)
    assert pty.master.poll() & po.POLLPRI
    assert pty.master.read(10) == bytes((tm.TIOCPKT_STOP,))
    assert blocks(pty.slave.write, b"x")
    pty.slave.ioctl(pty.shell, io.TCXONC, tm.TCOON)
    assert pty.master.read(10) == bytes((tm.TIOCPKT_START,))
    pty.slave.ioctl(pty.shell, io.TCFLSH, tm.TCIFLUSH)
    assert pty.master.read(10) == bytes((tm.TIOCPKT_FLUSHREAD,))


def test_raw_reads_keep_vmin_and_vtime(pty: Pty) -> None:
    machine = pty.machine
    cc = bytearray(tm.INIT_C_CC)
    cc[tm.VMIN], cc[tm.VTIME] = 3, 0
    pty.set_flags(lflag=0, iflag=0, cc=bytes(cc))
    pty.master.write(b"ab")
    assert not pty.slave.poll() & po.POLLIN
    assert blocks(pty.slave.read, 10)
    pty.master.write(b"c")
    assert pty.slave.read(10) == b"abc"

    cc[tm.VMIN], cc[tm.VTIME] = 0, 2
    pty.set_flags(lflag=0, iflag=0, cc=bytes(cc))
    assert blocks(pty.slave.read, 10)
    pty.slave.queue.add(WaitEntry(lambda mask: None))
    machine.clock.advance(200_000_000)
    machine.kernel.timers.run(machine.clock.monotonic_ns())
    assert pty.slave.read(10) == b""


def test_modes_are_shared_by_both_sides(pty: Pty) -> None:
    pty.set_flags(lflag=tm.ICANON)
    pty.master.ioctl(pty.machine.task, io.TCGETS, BASE)
    assert tm.TERMIOS.unpack(pty.machine.task.mm.read(BASE, tm.TERMIOS.size))[3] == tm.ICANON
    assert errno_of(pty.master.ioctl, pty.machine.task, 0xDEAD, BASE) == errno.ENOTTY


def test_exclusive_mode_keeps_others_out(pty: Pty) -> None:
    pty.slave.ioctl(pty.shell, io.TIOCEXCL, 0)
    pty.slave.inode.mode |= 0o666
    assert errno_of(pty.machine.open, pty.name, NOCTTY, pty.machine.new_process(uid=1000)) == errno.EBUSY
    pty.machine.open(pty.name, NOCTTY)


def test_peer_is_opened_through_the_master(pty: Pty) -> None:
    fd = pty.master.ioctl(pty.machine.task, io.TIOCGPTPEER, NOCTTY)
    assert isinstance(fd, int)
    assert pty.machine.readlink(b"/proc/self/fd/%d" % fd) == pty.name

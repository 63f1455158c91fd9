"""Inherited host descriptors: pipes, files and terminals of the host as the guest's standard streams."""

from __future__ import annotations

import errno
import os
import select
import stat
import termios
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from protocol.abi import poll_h as po
from protocol.abi import signal_h as sg
from services.sentry.devices.terminal import host_terminal
from services.sentry.files.host_file import open_host_file
from services.sentry.kernel.waiter import WaitEntry
from tests.unit.sentry.proc.machine import Machine, blocks, errno_of
from tests.unit.sentry.terminal.test_pty_sessions import catch_all, pending


class FakeHostPoll:
    """Watches as edge/host_poll.py does; `turn` runs the callbacks of what is ready now."""

    def __init__(self) -> None:
        self.watched: dict[int, tuple[int, Callable[[int], None]]] = {}

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        self.watched[fd] = (mask, callback)

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def turn(self) -> None:
        poller = select.poll()
        for fd, (mask, _) in self.watched.items():
            poller.register(fd, mask)
        for fd, bits in poller.poll(100):
            if fd in self.watched:
                self.watched[fd][1](bits)


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    made.kernel.host_poll = FakeHostPoll()
    return made


def test_a_pipe_never_blocks_the_kernel_and_keeps_its_flags(machine: Machine) -> None:
    read_end, write_end = os.pipe()
    source = open_host_file(machine.kernel, read_end).add_reference()
    sink = open_host_file(machine.kernel, write_end).add_reference()
    assert stat.S_ISFIFO(source.inode.mode)
    assert (source.readable, source.writable) == (True, False)
    assert blocks(source.read, 10)
    assert source.poll() == 0
    total = 0
    while sink.poll() & po.POLLOUT:
        total += sink.write(b"x" * 8192)
    assert total == 65536
    assert blocks(sink.write, b"x")
    assert os.get_blocking(write_end)
    woken: list[int] = []
    source.queue.add(WaitEntry(woken.append))
    cast(FakeHostPoll, machine.kernel.host_poll).turn()
    assert woken and woken[0] & po.POLLIN
    assert len(source.read(1 << 20)) == 65536
    sink.close_reference()
    assert source.poll() & po.POLLHUP
    assert source.read(10) == b""
    source.close_reference()
    with pytest.raises(OSError):
        os.fstat(read_end)


def test_a_broken_pipe_is_epipe(machine: Machine) -> None:
    read_end, write_end = os.pipe()
    sink = open_host_file(machine.kernel, write_end)
    os.close(read_end)
    assert errno_of(sink.write, b"x") == errno.EPIPE


def test_a_regular_file_shares_the_hosts_position_and_can_be_reopened(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    file = open_host_file(machine.kernel, fd)
    number = machine.task.files.allocate(file)
    assert file.read(4) == b"0123"
    assert os.lseek(fd, 0, os.SEEK_CUR) == 4
    assert file.seek(-2, os.SEEK_END) == 8
    assert file.mmap_backing().host_fd == fd
    again = machine.open(b"/proc/self/fd/%d" % number)
    assert again.pread(3, 0) == b"012"
    machine.task.files.close(number, machine.task)
    assert again.pread(3, 0) == b"012"
    assert errno_of(machine.open, b"/dev/stdin", 1) == errno.ENOENT


def test_the_host_terminal_becomes_the_controlling_terminal(machine: Machine) -> None:
    outside, inside = os.openpty()
    before = termios.tcgetattr(inside)
    os.set_blocking(outside, False)
    terminal = host_terminal.attach(machine.kernel, inside)
    terminal.start()
    shell = machine.new_process()
    file = host_terminal.open_standard_stream(shell, os.O_RDWR).add_reference()
    assert machine.names(b"/dev/pts") == [b"ptmx", b"0"]
    shell.files.install(0, file)
    assert machine.readlink(b"/proc/self/fd/0", shell) == b"/dev/pts/0"
    assert terminal.session is shell.group.session

    os.write(outside, b"hello\r")
    cast(FakeHostPoll, machine.kernel.host_poll).turn()
    assert os.read(outside, 100) == b"hello\r\n"
    assert file.read(100) == b"hello\n"
    file.write(b"answer\n")
    assert os.read(outside, 100) == b"answer\r\n"

    catch_all(shell)
    os.write(outside, b"\x03")
    cast(FakeHostPoll, machine.kernel.host_poll).turn()
    terminal.resize(50, 132)
    assert pending(shell) == [sg.SIGINT, sg.SIGWINCH]
    terminal.restore()
    assert termios.tcgetattr(inside) == before
    os.close(outside)
    cast(FakeHostPoll, machine.kernel.host_poll).turn()
    assert file.read(10) == b""

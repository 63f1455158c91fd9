"""The line discipline against the host kernel's: the same modes and bytes give the same echo and the same reads."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from protocol.abi import ioctl_h as io
from protocol.abi import termios_h as tm
from services.sentry.devices.terminal.line_discipline import LineDiscipline
from services.sentry.devices.terminal.termios import INITIAL, Termios

Operation = tuple[str, bytes | int | Termios]

INPUT_FLAGS = (
    tm.ICRNL, tm.INLCR, tm.IGNCR, tm.IUCLC, tm.ISTRIP, tm.IXON, tm.IXANY, tm.IUTF8, tm.PARMRK,
)  # fmt: skip
OUTPUT_FLAGS = (tm.OPOST, tm.ONLCR, tm.OCRNL, tm.ONOCR, tm.ONLRET, tm.XTABS, tm.OLCUC)
LOCAL_FLAGS = (
    tm.ICANON, tm.ECHO, tm.ECHOE, tm.ECHOK, tm.ECHONL, tm.ECHOCTL, tm.ECHOKE, tm.ECHOPRT, tm.ISIG, tm.NOFLSH, tm.IEXTEN,
)  # fmt: skip


class HostPty:
    """A pty of the host without a session, driven step by step."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        os.set_blocking(self.master, False)
        os.set_blocking(self.slave, False)

    def close(self) -> None:
        os.close(self.slave)
        os.close(self.master)

    def settle(self) -> None:
        """Let the kernel's worker deliver: poll(2) waits for it, but only where nothing can be read yet."""
        for _ in range(2):
            for fd in (self.slave, self.master):
                poller = select.poll()
                poller.register(fd, select.POLLIN | select.POLLOUT)
                if any(mask & select.POLLIN for _, mask in poller.poll(0)):
                    time.sleep(0.0005)

    def output(self) -> bytes:
        self.settle()
        return _drain(self.master)

    def run(self, operation: Operation) -> object:
        kind, value = operation
        if kind == "type":
            assert isinstance(value, bytes)
            os.write(self.master, value)
        elif kind == "print":
            assert isinstance(value, bytes)
            try:
                return os.write(self.slave, value)
            except BlockingIOError:
                return 0
        elif kind == "read":
            assert isinstance(value, int)
            self.settle()
            try:
                return os.read(self.slave, value)
            except BlockingIOError:
                return None
        elif kind == "modes":
            assert isinstance(value, Termios)
            fcntl.ioctl(self.slave, io.TCSETS, value.pack())
        elif kind == "flush":
            assert isinstance(value, int)
            termios.tcflush(self.slave, value)
        self.settle()
        return self.queued()

    def queued(self) -> int:
        return int(struct.unpack("i", fcntl.ioctl(self.slave, io.FIONREAD, bytes(4)))[0])


class OurPty:
    def __init__(self) -> None:
        self.discipline = LineDiscipline()

    def output(self) -> bytes:
        return self.discipline.output.take(1 << 20)

    def run(self, operation: Operation) -> object:
        kind, value = operation
        discipline = self.discipline
        if kind == "type":
            assert isinstance(value, bytes)
            discipline.receive(value)
        elif kind == "print":
            assert isinstance(value, bytes)
            return discipline.write(value)
        elif kind == "read":
            assert isinstance(value, int)
            return discipline.read(value) if discipline.readable else None
        elif kind == "modes":
            assert isinstance(value, Termios)
            discipline.set_modes(value)
        elif kind == "flush":
            if value in (tm.TCIFLUSH, tm.TCIOFLUSH):
                discipline.incoming.clear()
                discipline.flush_input()
            if value in (tm.TCOFLUSH, tm.TCIOFLUSH):
                discipline.flush_output()
        return discipline.queued


def _drain(fd: int) -> bytes:
    found = b""
    while True:
        try:
            found += os.read(fd, 65536)
        except BlockingIOError:
            return found


@contextmanager
def host_pty() -> Iterator[HostPty]:
    pty = HostPty()
    try:
        yield pty
    finally:
        pty.close()


def compare(operations: list[Operation]) -> None:
    with host_pty() as host:
        ours = OurPty()
        for number, operation in enumerate(operations):
            expected = host.run(operation), host.output()
            found = ours.run(operation), ours.output()
            for _ in range(50):  # the worker may still be on its way
                if found == expected:
                    break
                time.sleep(0.002)
                first = expected[0] if operation[0] in ("read", "print") else host.queued()
                expected = first, expected[1] + host.output()
            assert found == expected, (number, operation)
        for count in (7, 4096, 4096, 4096):
            assert ours.run(("read", count)) == host.run(("read", count))


def flags_of(choices: tuple[int, ...]) -> st.SearchStrategy[int]:
    return st.sets(st.sampled_from(choices)).map(lambda chosen: sum(chosen))


MODES = st.builds(
    lambda iflag, oflag, lflag, cc: INITIAL._replace(iflag=iflag, oflag=oflag, lflag=lflag, cc=cc),
    flags_of(INPUT_FLAGS),
    flags_of(OUTPUT_FLAGS),
    st.one_of(flags_of(LOCAL_FLAGS), flags_of(LOCAL_FLAGS).map(lambda flags: flags | tm.ICANON | tm.ECHO | tm.IEXTEN)),
    st.sampled_from(
        (
            tm.INIT_C_CC,
            tm.INIT_C_CC[:11] + b"!" + tm.INIT_C_CC[12:16] + b"@" + tm.INIT_C_CC[17:],
            tm.INIT_C_CC[:8] + b"\x00\x00" + tm.INIT_C_CC[10:],
        )
    ),
)
CHARACTERS = st.sampled_from(
    b"aZ_ 9\t\t\n\r\x08\x7f\x7f\x15\x17\x04\x11\x13\x16\x12\x00\x01\x1b!@\xc3\xa4\xe2\x82\xff\xd7"
)
# A flush racing with the kernel's worker has no one answer, so signal characters come alone.
SIGNALLING = st.sampled_from((b"\x03", b"\x1c", b"\x1a"))
TYPED = st.lists(CHARACTERS, min_size=1, max_size=24).map(bytes)
OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("type"), TYPED),
    st.tuples(st.just("type"), TYPED),
    st.tuples(st.just("type"), SIGNALLING),
    st.tuples(st.just("print"), TYPED),
    st.tuples(st.just("read"), st.integers(1, 40)),
    st.tuples(st.just("modes"), MODES),
    st.tuples(st.just("flush"), st.sampled_from((tm.TCIFLUSH, tm.TCOFLUSH, tm.TCIOFLUSH))),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(MODES, st.lists(OPERATIONS, min_size=1, max_size=10))
@example(INITIAL, [("type", b"abc\x7f\td\x7f\x7f\x17one two\x17\x15x\x04\x04"), ("read", 1), ("read", 5), ("read", 5)])
def test_modes_and_bytes_behave_as_on_the_host(modes: Termios, operations: list[Operation]) -> None:
    compare([("modes", modes), *operations])


@pytest.mark.parametrize("canonical", [True, False])
def test_a_line_longer_than_the_buffer_is_cut_as_on_the_host(canonical: bool) -> None:
    lflag = tm.ICANON if canonical else 0
    modes = INITIAL._replace(lflag=lflag, iflag=0)
    pieces: list[Operation] = [("type", bytes([65 + index]) * 1000) for index in range(6)]
    compare([("modes", modes), *pieces, ("type", b"\nafter\n"), ("read", 4096), ("read", 4096), ("read", 4096)])


def test_an_end_of_file_behind_a_full_read_is_swallowed_as_on_the_host() -> None:
    compare([("type", b"abcd\x04"), ("read", 4), ("type", b"x\n"), ("read", 10)])
    compare([("type", b"abcd\x04\x04"), ("read", 4), ("read", 4), ("read", 4)])


def test_long_output_with_tabs_keeps_its_columns_as_on_the_host() -> None:
    modes = INITIAL._replace(oflag=tm.OPOST | tm.ONLCR | tm.XTABS)
    text = b"".join(b"%d\tcolumn\twide\n" % number for number in range(60))
    compare([("modes", modes), ("print", text), ("print", b"ab"), ("type", b"c\td\x7f\x7f")])

"""Pipes and FIFOs: atomicity, ends that close, packets, capacity, faults, the rendezvous of open(2)."""

from __future__ import annotations

import errno
import os
import random
import select

import pytest

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from services.sentry.errors import LinuxError, WouldBlock
from services.sentry.files.pipe import PipeFile, make_pipe, open_fifo
from services.sentry.vfs.anonymous import pipe_inode
from tests.unit.sentry.files.fake_tasks import Guest


def _pair(flags: int = 0) -> tuple[PipeFile, PipeFile]:
    reader, writer = make_pipe(pipe_inode(Guest().kernel), flags)
    reader.add_reference()
    writer.add_reference()
    return reader, writer


def _errno(call: object, *args: object) -> int:
    with pytest.raises(LinuxError) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.errno


def test_bytes_come_out_in_order_across_chunks() -> None:
    reader, writer = _pair()
    writer.write(b"abc")
    writer.write(b"defg")
    assert reader.read(5) == b"abcde"
    assert reader.read(100) == b"fg"
    with pytest.raises(WouldBlock):
        reader.read(1)


def test_small_write_is_all_or_nothing_large_write_takes_what_fits() -> None:
    reader, writer = _pair()
    assert writer.write(b"x" * 65000) == 65000
    with pytest.raises(WouldBlock):
        writer.write(b"y" * 1000)
    assert writer.write(b"y" * 5000) == 536
    with pytest.raises(WouldBlock):
        writer.write(b"z")
    assert reader.read(70000) == b"x" * 65000 + b"y" * 536


def test_closed_ends_give_end_of_file_and_epipe() -> None:
    reader, writer = _pair()
    writer.write(b"last")
    writer.close_reference()
    assert reader.poll() == po.POLLIN | po.POLLRDNORM | po.POLLHUP
    assert reader.read(10) == b"last"
    assert reader.read(10) == b""
    reader, writer = _pair()
    reader.close_reference()
    assert _errno(writer.write, b"x") == errno.EPIPE
    assert writer.write(b"") == 0
    assert writer.poll() & po.POLLERR


def test_packets_keep_their_boundaries() -> None:
    reader, writer = _pair(fc.O_DIRECT)
    writer.write(b"first packet")
    writer.write(b"second")
    assert reader.read(5) == b"first"
    assert reader.read(100) == b"second"
    assert writer.write(b"x" * 5000) == 5000
    assert len(reader.read(9000)) == 4096
    assert len(reader.read(9000)) == 904
    for _ in range(16):
        writer.write(b"p")
    with pytest.raises(WouldBlock):
        writer.write(b"p")


def test_capacity_is_rounded_and_not_cut_below_the_contents() -> None:
    _reader, writer = _pair()
    assert writer.get_capacity() == 65536
    assert writer.set_capacity(5000) == 8192
    writer.write(b"x" * 8000)
    assert _errno(writer.set_capacity, 4096) == errno.EBUSY
    assert _errno(writer.set_capacity, 1 << 21) == errno.EPERM
    assert _errno(writer.set_capacity, 0) == errno.EINVAL
    assert writer.set_capacity(1 << 20) == 1 << 20


def test_read_to_a_bad_address_loses_nothing() -> None:
    reader, writer = _pair()
    guest = Guest()
    writer.write(b"precious")
    writer.write(b"more")
    assert _errno(reader.read_user, guest.mm, 0, 8) == errno.EFAULT
    assert _errno(reader.read_user, guest.mm, 0, 100) == errno.EFAULT
    assert reader.read(100) == b"preciousmore"


def test_pread_is_espipe() -> None:
    reader, _writer = _pair()
    assert _errno(reader.pread, 1, 0) == errno.ESPIPE
    assert _errno(reader.seek, 0, 0) == errno.ESPIPE


def test_fifo_reader_and_writer_wait_for_each_other() -> None:
    inode = pipe_inode(Guest().kernel)
    inode.pipe = None
    assert _errno(open_fifo, inode, fc.O_WRONLY | fc.O_NONBLOCK) == errno.ENXIO
    reader = open_fifo(inode, fc.O_RDONLY)
    reader.add_reference()
    assert reader.open_pending()
    writer = open_fifo(inode, fc.O_WRONLY)
    writer.add_reference()
    assert not writer.open_pending()
    assert not reader.open_pending()
    writer.write(b"hi")
    writer.close_reference()
    assert reader.read(9) == b"hi"
    assert reader.read(9) == b""
    reader.close_reference()
    assert inode.pipe is None


def test_fifo_reader_notices_a_writer_that_came_and_went() -> None:
    inode = pipe_inode(Guest().kernel)
    inode.pipe = None
    reader = open_fifo(inode, fc.O_RDONLY)
    reader.add_reference()
    writer = open_fifo(inode, fc.O_WRONLY).add_reference()
    writer.close_reference()
    assert not reader.open_pending()


def test_nonblocking_fifo_reader_sees_no_hangup_before_the_first_writer() -> None:
    inode = pipe_inode(Guest().kernel)
    inode.pipe = None
    reader = open_fifo(inode, fc.O_RDONLY | fc.O_NONBLOCK)
    reader.add_reference()
    assert reader.poll() == 0
    writer = open_fifo(inode, fc.O_WRONLY).add_reference()
    writer.close_reference()
    assert reader.poll() == po.POLLHUP


@pytest.mark.parametrize("seed", range(20))
def test_random_traffic_equals_the_hosts_pipe(seed: int) -> None:
    """Page-multiple traffic, where Linux's page slots and a byte count agree exactly."""
    rng = random.Random(seed)
    reader, writer = _pair()
    host_reader, host_writer = os.pipe2(os.O_NONBLOCK)
    poller = select.poll()
    poller.register(host_reader)
    poller.register(host_writer)
    try:
        for _ in range(200):
            count = rng.choice([4096, 8192, 20480, 69632])
            if rng.random() < 0.5:
                data = rng.randbytes(count)
                try:
                    expected = os.write(host_writer, data)
                except BlockingIOError:
                    expected = -1
                try:
                    got = writer.write(data)
                except WouldBlock:
                    got = -1
                assert got == expected
            else:
                try:
                    want: bytes | None = os.read(host_reader, count)
                except BlockingIOError:
                    want = None
                try:
                    have: bytes | None = reader.read(count)
                except WouldBlock:
                    have = None
                assert have == want
            ready = dict(poller.poll(0))
            mask = po.POLLIN | po.POLLOUT
            assert reader.poll() & mask == ready.get(host_reader, 0)
            assert writer.poll() & mask == ready.get(host_writer, 0)
    finally:
        os.close(host_reader)
        os.close(host_writer)

"""A busy connection's rings, against a fake socket service: when they come, both directions, waiting, ends, lies."""

from __future__ import annotations

import errno
import os
import random
import socket
from typing import Any, cast

import pytest

from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from protocol.rings import CONSUMER_WAITS, DATA, HEAD, SLEEPS, TAIL
from services.sentry.files.epoll import EpollFile
from services.sentry.kernel.waiter import WaitEntry
from services.sentry.sockets.inet.netstack import streams
from services.sentry.sockets.inet.netstack.stream_rings import (
    BUSY_BYTES,
    BUSY_READS,
    QUIET_TX_BYTES,
    RX_BYTES,
    TX_BYTES,
    StreamRings,
)
from services.sentry.syscalls import sockets as sk
from services.sentry.syscalls.read_write import sys_read, sys_write
from services.sentry.vfs.anonymous import anon_inode
from tests.futex_waiter import FutexWaiter
from tests.unit.sentry.sockets.fake_service import FarGuest, Rings

CHUNK = 32768
EPOLLET = 1 << 31


def busy(guest: FarGuest) -> tuple[int, socket.socket, int, Rings]:
    """A connection that has received enough: (guest's descriptor, the service's end of its data, id, rings)."""
    fd, ours, number = guest.connected(so.SOCK_NONBLOCK)
    left = BUSY_BYTES
    while left:
        guest.forget_memory()
        left -= ours.send(bytes(min(left, CHUNK)))
        guest.news()
        if not left:
            guest.service.delivered = BUSY_BYTES
        while isinstance(got := guest.receive(fd, CHUNK), bytes) and got:
            pass
    guest.news()
    return fd, ours, number, guest.service.rings[number]


def deliver(guest: FarGuest, ours: socket.socket, rings: Rings, data: bytes) -> None:
    rings.out.write(data)
    if rings.out.take_waiting():
        ours.send(b"!")
    guest.news()


def test_a_quiet_connection_has_none() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected(so.SOCK_NONBLOCK)
    ours.send(b"hello")
    guest.news()
    assert guest.receive(fd, 100) == b"hello"
    assert guest.service.asked("rings") == []


@pytest.mark.parametrize("sending", [False, True])
def test_a_connection_gets_them_once_when_it_is_busy(sending: bool) -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected(so.SOCK_NONBLOCK)
    asked = []
    for _ in range(20):
        guest.forget_memory()
        if sending:
            assert guest.send(fd, bytes(CHUNK)) == CHUNK
            while number not in guest.service.rings and _took(ours):
                pass
        else:
            guest.service.delivered += CHUNK if number not in guest.service.rings else 0
            if number in guest.service.rings:
                break
            ours.send(bytes(CHUNK))
            guest.news()
            assert guest.receive(fd, CHUNK) == bytes(CHUNK)
        asked += guest.service.asked("rings")
    assert len(asked) == 1
    assert asked[0][1][:4] == [
        number,
        RX_BYTES,
        TX_BYTES if sending else QUIET_TX_BYTES,
        BUSY_BYTES if sending else 0,
    ]


def _took(ours: socket.socket) -> bool:
    try:
        return bool(ours.recv(CHUNK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("what", ["alone", "others", "watched", "nonblocking", "limited"])
def test_a_connection_that_is_read_often_gets_them_if_its_program_can_use_them_and_wait(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(streams, "is_alone", lambda mm, file: what != "others")
    guest = FarGuest()
    fd, ours, number = guest.connected(so.SOCK_NONBLOCK)
    file = guest.file(fd)
    if what != "nonblocking":
        file.set_flags(file.flags & ~so.SOCK_NONBLOCK)
    if what == "watched":
        EpollFile(anon_inode(guest.kernel)).add(fd, file, po.POLLIN, 7)
    if what == "limited":
        assert guest.option(fd, so.SOL_SOCKET, so.SO_RCVTIMEO_NEW, (1).to_bytes(8, "little") + bytes(8)) == 0
    for turn in range(BUSY_READS + 3):
        assert (number in guest.service.rings) == (turn >= BUSY_READS and what == "alone")
        if number in guest.service.rings:
            deliver(guest, ours, guest.service.rings[number], b"x")
        else:
            guest.service.delivered = turn + 1
            ours.send(b"x")
            guest.news()
        addr = guest.alloc(8)
        assert sys_read(guest.task, fd, addr, 8) == 1 and guest.get(addr, 1) == b"x"
    assert len(guest.service.asked("rings")) == (what == "alone")


def test_a_service_without_them_is_not_asked() -> None:
    guest = FarGuest(rings=False)
    fd, ours, _ = guest.connected(so.SOCK_NONBLOCK)
    for _ in range(8):
        guest.forget_memory()
        ours.send(bytes(CHUNK))
        guest.news()
        assert guest.receive(fd, CHUNK) == bytes(CHUNK)
    assert guest.service.asked("rings") == []


def test_a_refusal_leaves_the_host_socket() -> None:
    guest = FarGuest()
    guest.service.refuse["rings"] = errno.ENOSPC
    fd, ours, _ = guest.connected(so.SOCK_NONBLOCK)
    for _ in range(8):
        guest.forget_memory()
        ours.send(bytes(CHUNK))
        guest.news()
        assert guest.receive(fd, CHUNK) == bytes(CHUNK)
    assert guest.send(fd, b"still here") == 10
    assert ours.recv(100) == b"still here"
    assert len(guest.service.asked("rings")) == 1


def test_bytes_that_were_under_way_come_before_the_ring() -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected(so.SOCK_NONBLOCK)
    for _ in range(BUSY_BYTES // CHUNK - 1):
        ours.send(bytes(CHUNK))
        guest.news()
        assert guest.receive(fd, CHUNK) == bytes(CHUNK)
    ours.send(bytes(CHUNK) + b"last in the socket")
    guest.service.delivered = BUSY_BYTES + 18
    guest.news()
    assert guest.receive(fd, CHUNK) == bytes(CHUNK)
    rings = guest.service.rings[number]
    rings.out.write(b"first in the ring")
    ours.send(b"!")
    guest.news()
    assert guest.poll(fd) & po.POLLIN
    assert guest.receive(fd, 100) == b"last in the socket"
    assert guest.receive(fd, 100) == b"first in the ring"
    assert guest.receive(fd, 100) == -errno.EAGAIN and not guest.poll(fd) & po.POLLIN


def test_what_comes_wakes_a_reader_and_arrives_in_order() -> None:
    guest = FarGuest()
    fd, ours, _, rings = busy(guest)
    chance = random.Random(1)
    sent, got = bytearray(), bytearray()
    for _ in range(400):
        guest.forget_memory()
        data = chance.randbytes(min(chance.randrange(1, 40_000), rings.out.room()))
        sent += data
        deliver(guest, ours, rings, data)
        assert guest.poll(fd) & po.POLLIN
        read = guest.receive(fd, chance.randrange(1, 60_000))
        assert isinstance(read, bytes)
        got += read
    while isinstance(read := guest.receive(fd, 50_000), bytes):
        got += read
        guest.forget_memory()
    assert read == -errno.EAGAIN and got == sent
    assert not guest.poll(fd) & po.POLLIN


def test_a_sleeping_reader_is_woken_by_the_doorbell() -> None:
    guest = FarGuest()
    fd, ours, _, rings = busy(guest)
    guest.file(fd).flags &= ~so.SOCK_NONBLOCK
    at = guest.alloc(100)
    assert guest.call(sys_read, fd, at, 100) is None
    deliver(guest, ours, rings, b"good morning")
    assert guest.wake() == 12 and guest.get(at, 12) == b"good morning"


def test_who_waits_while_rings_are_made_hears_of_what_comes_by_them() -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected(so.SOCK_NONBLOCK)
    file = guest.file(fd)
    assert not guest.poll(fd) & po.POLLIN
    seen: list[int] = []
    file.queue.add(WaitEntry(lambda mask: seen.append(file.poll() & po.POLLIN), po.POLLIN))
    while not guest.service.asked("rings"):
        guest.forget_memory()
        guest.send(fd, bytes(CHUNK))
        _took(ours)
        guest.news()
    rings = guest.service.rings[number]
    assert seen == [0]
    deliver(guest, ours, rings, b"an answer")
    assert seen[-1] == po.POLLIN


def test_a_lower_mark_wakes_who_waits() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected(so.SOCK_NONBLOCK)
    file = guest.file(fd)
    assert guest.option(fd, so.SOL_SOCKET, so.SO_RCVLOWAT, 10) == 0
    ours.send(b"hello")
    guest.news()
    assert not guest.poll(fd) & po.POLLIN
    seen: list[int] = []
    file.queue.add(WaitEntry(lambda mask: seen.append(file.poll() & po.POLLIN), po.POLLIN))
    assert guest.option(fd, so.SOL_SOCKET, so.SO_RCVLOWAT, 5) == 0
    assert seen == [po.POLLIN]


def test_the_service_is_told_of_room_when_half_is_free() -> None:
    guest = FarGuest()
    fd, ours, _, rings = busy(guest)
    deliver(guest, ours, rings, bytes(RX_BYTES))
    assert rings.out.arm()
    assert guest.receive(fd, RX_BYTES // 4) == bytes(RX_BYTES // 4)
    assert not _took(ours)
    assert guest.receive(fd, RX_BYTES // 4) == bytes(RX_BYTES // 4)
    assert _took(ours)


def test_what_goes_arrives_in_order_and_a_full_ring_blocks() -> None:
    guest = FarGuest()
    fd, ours, _, rings = busy(guest)
    chance = random.Random(2)
    sent, got = bytearray(), bytearray()
    for _ in range(300):
        guest.forget_memory()
        data = chance.randbytes(chance.randrange(1, 60_000))
        at = guest.put(data)
        done = guest.call(sys_write, fd, at, len(data))
        assert done is not None
        if done == -errno.EAGAIN:
            assert not guest.poll(fd) & po.POLLOUT
            got += rings.take()
            assert rings.came.take_waiting()
            ours.send(b"!")
            guest.news()
            assert guest.poll(fd) & po.POLLOUT
            continue
        assert done > 0
        sent += data[:done]
    got += rings.take()
    assert got == sent


def test_a_sleeping_writer_is_woken_by_the_doorbell() -> None:
    guest = FarGuest()
    fd, ours, _, rings = busy(guest)
    guest.file(fd).flags &= ~so.SOCK_NONBLOCK
    at = guest.put(bytes(CHUNK))
    for _ in range(QUIET_TX_BYTES // CHUNK):
        assert guest.call(sys_write, fd, at, CHUNK) == CHUNK
    assert guest.call(sys_write, fd, at, CHUNK) is None
    assert len(rings.take()) == QUIET_TX_BYTES and rings.came.take_waiting()
    ours.send(b"!")
    guest.news()
    assert guest.wake() == CHUNK and rings.take() == bytes(CHUNK)


def test_a_sleeping_service_is_woken() -> None:
    guest = FarGuest()
    fd, ours, _, rings = busy(guest)
    assert guest.send(fd, b"one") == 3 and not _took(ours)
    assert rings.take() == b"one" and rings.came.arm()
    assert guest.send(fd, b"two") == 3 and _took(ours)
    assert rings.take() == b"two"


def test_a_buffer_that_ends_before_the_count_gives_efault_and_loses_nothing() -> None:
    guest = FarGuest()
    fd, ours, _, rings = busy(guest)
    deliver(guest, ours, rings, b"kept")
    assert guest.call(sys_read, fd, 8, 100) == -errno.EFAULT
    assert guest.call(sys_write, fd, 8, 100_000) == -errno.EFAULT
    assert guest.receive(fd, 100) == b"kept" and rings.take() == b""


def test_the_end_comes_behind_what_is_in_the_ring() -> None:
    guest = FarGuest()
    fd, ours, _, rings = busy(guest)
    rings.out.write(b"last words")
    ours.shutdown(socket.SHUT_WR)
    guest.news()
    assert guest.receive(fd, 4) == b"last"
    assert guest.receive(fd, 100) == b" words"
    assert guest.receive(fd, 100) == b""
    assert guest.poll(fd) & po.POLLRDHUP


def test_a_reset_leaves_what_came_before_it() -> None:
    guest = FarGuest()
    fd, ours, number, rings = busy(guest)
    rings.out.write(b"before")
    guest.service.say("error", number, errno.ECONNRESET)
    ours.close()
    guest.news()
    assert guest.receive(fd, 100) == b"before"
    assert guest.receive(fd, 100) == -errno.ECONNRESET


def test_an_urgent_byte_has_its_place_in_the_ring() -> None:
    guest = FarGuest()
    fd, ours, number, rings = busy(guest)
    deliver(guest, ours, rings, b"before")
    guest.service.say("urgent", number, ord("!"), BUSY_BYTES + 6)
    deliver(guest, ours, rings, b"after")
    assert guest.poll(fd) & po.POLLPRI
    assert guest.receive(fd, 100) == b"before"
    assert guest.receive(fd, 100, so.MSG_OOB) == b"!"
    assert guest.receive(fd, 100) == b"after"


@pytest.mark.parametrize(("word", "index"), [(TAIL, 0), (HEAD, 1)])
def test_positions_that_cannot_be_reset_the_connection_alone(word: int, index: int) -> None:
    guest = FarGuest()
    fd, ours, number, rings = busy(guest)
    rings.memory[index * 256 : index * 256 + 256].cast("Q")[word // 8] = 1 << 40
    ours.send(b"!")
    guest.news()
    got = guest.receive(fd, 100) if word == TAIL else guest.send(fd, b"x")
    assert got in (-errno.ECONNRESET, -errno.EPIPE)
    assert ("abort", [number]) in guest.service.asked("abort")
    other, theirs, _ = guest.connected(so.SOCK_NONBLOCK)
    theirs.send(b"fine")
    guest.news()
    assert guest.receive(other, 10) == b"fine"


def test_closing_gives_all_descriptors_back() -> None:
    guest = FarGuest()
    before = guest.provider.room
    fd, _, number, _ = busy(guest)
    guest.close(fd)
    assert guest.provider.room == before
    assert guest.service.asked("close") == [("close", [number])]


# --- a guest's stub that reads and writes by itself ---
def shared(guest: FarGuest) -> tuple[int, socket.socket, int, Rings]:
    """As `busy`, and the guest's stub could be given the rings."""
    fd, ours, number, rings = busy(guest)
    deliver(guest, ours, rings, b"plain")
    assert guest.receive(fd, 100) == b"plain"
    assert guest.file(fd).ring_end is not None
    return fd, ours, number, rings


def by_stub(rings: Rings, *, read: int = 0, written: bytes = b"") -> None:
    """What a stub does: it moves the guest's positions and nothing else."""
    words = rings.memory.cast("Q")
    words[HEAD // 8] += read
    tail = words[(256 + TAIL) // 8]
    at = DATA + RX_BYTES + tail % QUIET_TX_BYTES
    rings.memory[at : at + len(written)] = written
    words[(256 + TAIL) // 8] += len(written)


def test_what_a_stub_read_and_wrote_is_known_at_the_next_call() -> None:
    guest = FarGuest()
    fd, ours, _, rings = shared(guest)
    deliver(guest, ours, rings, b"by the stub, by the Sentry")
    by_stub(rings, read=13, written=b"one, ")
    assert guest.receive(fd, 100) == b"by the Sentry"
    assert guest.send(fd, b"two") == 3
    assert rings.take() == b"one, two"
    assert not guest.poll(fd) & po.POLLIN


def test_a_service_that_waits_is_woken_for_the_stub() -> None:
    guest = FarGuest()
    fd, ours, _, rings = shared(guest)
    assert rings.came.arm()
    by_stub(rings, written=b"data")
    guest.file(fd).ring_end.moved()
    assert _took(ours) and rings.take() == b"data"
    deliver(guest, ours, rings, bytes(RX_BYTES))
    assert rings.out.arm()
    by_stub(rings, read=RX_BYTES // 2)
    guest.file(fd).ring_end.moved()
    assert _took(ours)


def test_a_stub_that_lies_is_answered_by_a_reset_of_its_connection() -> None:
    guest = FarGuest()
    fd, _, number, rings = shared(guest)
    by_stub(rings, read=1 << 30)
    guest.file(fd).ring_end.moved()
    assert ("abort", [number]) in guest.service.asked("abort")
    assert guest.receive(fd, 100) == -errno.ECONNRESET


def test_an_epoll_takes_the_rings_from_the_stub() -> None:
    guest = FarGuest()
    fd, ours, _, rings = shared(guest)
    epoll = EpollFile(anon_inode(guest.kernel))
    epoll.add(fd, guest.file(fd), po.POLLIN | EPOLLET, 7)
    assert guest.file(fd).ring_end is None
    deliver(guest, ours, rings, b"edge")
    assert guest.receive(fd, 100) == b"edge" and guest.file(fd).ring_end is None


@pytest.mark.parametrize("what", ["shutdown", "fin", "urgent", "peek", "option"])
def test_whatever_is_special_takes_the_rings_from_the_stub(what: str) -> None:
    guest = FarGuest()
    fd, ours, number, rings = shared(guest)
    deliver(guest, ours, rings, b"abcdef")
    by_stub(rings, read=2)
    if what == "shutdown":
        assert guest.call(sk.sys_shutdown, fd, so.SHUT_WR) == 0
    elif what == "fin":
        ours.shutdown(socket.SHUT_WR)
        guest.news()
    elif what == "urgent":
        guest.service.say("urgent", number, ord("!"), BUSY_BYTES + 5 + 6)
        guest.news()
    elif what == "peek":
        assert guest.receive(fd, 100, so.MSG_PEEK) == b"cdef"
    else:
        assert guest.option(fd, so.SOL_SOCKET, so.SO_RCVLOWAT, 2) == 0
    assert guest.file(fd).ring_end is None
    assert guest.receive(fd, 100) == b"cdef"


# --- a stub that sleeps for what comes ---
def test_a_stub_may_sleep_unless_a_read_has_a_time_limit() -> None:
    guest = FarGuest()
    fd, _, _, _ = shared(guest)
    end = guest.file(fd).ring_end
    assert end.may_wait()
    assert guest.option(fd, so.SOL_SOCKET, so.SO_RCVTIMEO_NEW, (1).to_bytes(8, "little") + bytes(8)) == 0
    assert guest.file(fd).ring_end is None and not end.may_wait()


@pytest.mark.parametrize("armed", [0, 1])
def test_a_sleeping_stub_is_woken_when_the_rings_are_taken_from_it(armed: int) -> None:
    guest = FarGuest()
    fd, _, _, rings = shared(guest)
    words = rings.memory[:256].cast("I")
    words[CONSUMER_WAITS // 4] = SLEEPS | armed
    waiter = FutexWaiter(rings.memory, CONSUMER_WAITS, SLEEPS | armed)
    guest.file(fd).ring_end.withdrawn()
    assert waiter.woken.wait(30)
    assert words[CONSUMER_WAITS // 4] == armed


def test_the_memory_stays_open_while_a_guest_may_be_handed_it() -> None:
    """Another file would have its number, and the guest would be handed that."""
    rings = StreamRings(0)
    fd, end = rings.fd, streams.FarEnd(cast(Any, None), rings)
    del rings
    os.fstat(fd)
    del end
    with pytest.raises(OSError):
        os.fstat(fd)

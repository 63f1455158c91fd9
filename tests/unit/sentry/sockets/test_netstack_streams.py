"""TCP beyond the loopback, against a fake socket service: connecting, data, readiness, ends, listeners, restarts."""

from __future__ import annotations

import errno
import gc
import os
import socket

import pytest

from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from protocol.rpc import codec
from services.sentry.files.epoll import EpollFile
from services.sentry.sockets.inet.netstack.stream_rings import BUSY_BYTES
from services.sentry.syscalls import sockets as sk
from services.sentry.syscalls.open_close import sys_close
from tests.unit.sentry.sockets.fake_service import OWN, PEER, FarGuest

NONBLOCK = so.SOCK_NONBLOCK
LOOPBACK = bytes((127, 0, 0, 1))


# --- connecting ---
def test_connect_opens_says_its_name_and_waits() -> None:
    guest = FarGuest()
    fd = guest.socket()
    assert guest.connect(fd) is None
    calls = guest.service.asked()
    port = guest.file(fd).local_port
    number = calls[0][1][0]
    assert calls == [
        ("open", [number, so.AF_INET, so.SOCK_STREAM, 6]),
        ("prefer", [number, [OWN, port, 0]]),
        ("connect", [number, [PEER, 80, 0]]),
    ]
    assert guest.file(fd).state == tcp.TCP_SYN_SENT and not guest.poll(fd) & po.POLLOUT
    guest.service.connect(number, [OWN, port, 0], [PEER, 80, 0])
    guest.news()
    assert guest.wake() == 0
    assert guest.poll(fd) == po.POLLOUT | po.POLLWRNORM
    assert guest.file(fd).peer_address()[4:8] == PEER and guest.file(fd).local_address()[4:8] == OWN


def test_a_chosen_port_that_is_in_use_out_there_gives_way_to_another() -> None:
    """A connection that we have forgotten may still have it."""
    guest = FarGuest()
    fd = guest.socket()
    assert guest.connect(fd) is None
    (number,) = guest.provider.sockets
    port = guest.file(fd).local_port
    guest.service.connect(number, [OWN, port ^ 1, 0], [PEER, 80, 0])
    guest.news()
    assert guest.wake() == 0 and guest.file(fd).local_port == port ^ 1
    again = guest.socket()
    assert guest.bind(again, port) == 0, "it was given back"


def test_a_port_that_a_program_asked_for_is_bound_out_there() -> None:
    guest = FarGuest()
    fd = guest.socket()
    assert guest.bind(fd, 40001) == 0 and guest.connect(fd) is None
    (number,) = guest.provider.sockets
    assert guest.service.asked("bind", "prefer") == [("bind", [number, [OWN, 40001, 0]])]
    guest.service.say("error", number, errno.EADDRINUSE)
    guest.news()
    assert guest.wake() == -errno.EADDRINUSE


def test_connect_without_blocking_ends_in_readiness() -> None:
    guest = FarGuest()
    fd = guest.socket(flags=NONBLOCK)
    assert guest.connect(fd) == -errno.EINPROGRESS
    assert guest.connect(fd) == -errno.EALREADY
    (number,) = guest.provider.sockets
    guest.service.connect(number, [OWN, 1, 0], [PEER, 80, 0])
    guest.news()
    assert guest.poll(fd) & po.POLLOUT
    assert guest.connect(fd) == 0 and guest.connect(fd) == -errno.EISCONN


@pytest.mark.parametrize("error", [errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH])
def test_a_connect_that_fails_gives_the_reason_and_may_be_tried_again(error: int) -> None:
    guest = FarGuest()
    fd = guest.socket()
    assert guest.connect(fd) is None
    (number,) = guest.provider.sockets
    guest.service.say("error", number, error)
    guest.news()
    assert guest.wake() == -error
    assert guest.service.asked("close") == [("close", [number])]
    assert guest.connect(fd) is None
    assert guest.service.asked("connect")[0][1][0] != number


def test_a_connect_that_takes_too_long_is_given_up_on_both_sides() -> None:
    guest = FarGuest()
    fd = guest.socket()
    assert guest.connect(fd) is None
    (number,) = guest.provider.sockets
    guest.kernel.clock.advance(127_000_000_001)
    assert guest.wake() == -errno.ETIMEDOUT
    assert guest.service.asked("abort") == [("abort", [number])]


def test_own_addresses_are_the_loopback() -> None:
    guest = FarGuest()
    listener, _ = guest.listening()
    client = guest.socket()
    assert guest.connect(client, 8080, OWN) == 0
    assert guest.service.asked("connect") == []
    assert guest.file(client).local_address()[4:8] == OWN
    assert guest.call(sk.sys_accept, listener, 0, 0) >= 0


def test_own_addresses_that_are_shared_are_asked_for_outside() -> None:
    guest = FarGuest(shared=True)
    guest.listening()
    assert guest.connect(guest.socket(), 8080, OWN) is None
    assert guest.service.asked("connect")[0][1][1] == [OWN, 8080, 0]
    assert guest.connect(guest.socket(flags=NONBLOCK), 8080, LOOPBACK) == -errno.EINPROGRESS
    assert guest.service.asked("connect") == []


def test_no_route_is_no_connection() -> None:
    guest = FarGuest()
    guest.service.snapshot["routes"] = []
    guest.service.say("network", guest.service.snapshot)
    guest.news()
    assert guest.connect(guest.socket()) == -errno.ENETUNREACH


# --- data ---
def test_bytes_go_both_ways() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected()
    assert guest.send(fd, b"request") == 7
    assert ours.recv(100) == b"request"
    ours.send(b"response")
    guest.news()
    assert guest.poll(fd) & po.POLLIN
    assert guest.receive(fd, 4) == b"resp"
    assert guest.receive(fd, 100) == b"onse"
    assert guest.receive(fd, 100) is None
    ours.send(b"more")
    guest.news()
    assert guest.wake() == 4


def test_a_read_takes_what_is_in_the_inbox_and_beyond_it() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected()
    ours.send(b"a" * 1000)
    guest.news()
    assert guest.receive(fd, 10, so.MSG_PEEK) == b"a" * 10
    ours.send(b"b" * 10)
    guest.news()
    assert guest.receive(fd, 1010, so.MSG_WAITALL) == b"a" * 1000 + b"b" * 10


def test_a_fault_loses_no_bytes() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected()
    ours.send(b"precious")
    guest.news()
    assert guest.call(sk.sys_recvfrom, fd, 0, 100, 0, 0, 0) == -errno.EFAULT
    assert guest.receive(fd, 100) == b"precious"


def test_readiness_is_exact_and_a_quiet_connection_asks_the_host_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected()
    assert not guest.poll(fd) & po.POLLIN
    reads: list[int] = []
    real = os.read
    monkeypatch.setattr(os, "read", lambda number, count: reads.append(number) or real(number, count))
    for _ in range(5):
        assert not guest.poll(fd) & po.POLLIN
    assert reads == []
    ours.send(b"x")
    guest.news()
    assert guest.poll(fd) & po.POLLIN and guest.receive(fd, 10) == b"x"
    assert not guest.poll(fd) & po.POLLIN
    assert len(reads) == 1  # one read for a message, with all that readiness needs


def test_a_full_connection_blocks_until_the_service_reads() -> None:
    guest = FarGuest(rings=False)
    fd, ours, _ = guest.connected(NONBLOCK)
    piece = bytes(60_000)
    sent = 0
    while (got := guest.send(fd, piece)) != -errno.EAGAIN:
        assert got is not None and got > 0
        sent += got
    assert sent > 100_000 and not guest.poll(fd) & po.POLLOUT
    guest.news()
    assert not guest.poll(fd) & po.POLLOUT
    taken = 0
    while taken < sent:
        taken += len(ours.recv(1 << 20))
    guest.news()
    assert guest.poll(fd) & po.POLLOUT and guest.send(fd, piece) == 60_000


def test_poll_finds_a_full_buffer_that_no_write_met() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected(NONBLOCK)
    far = guest.file(fd).far
    while True:  # fill it behind the socket's back
        try:
            os.write(far.fd, bytes(4096))
        except BlockingIOError:
            break
    far.unasked = 1 << 20
    assert not guest.poll(fd) & po.POLLOUT
    while far.blocked:
        ours.recv(1 << 20)
        guest.news()
    assert guest.poll(fd) & po.POLLOUT


def test_epoll_tells_of_data_and_of_room() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected(NONBLOCK)
    file = EpollFile(guest.file(fd).inode)
    file.add(fd, guest.file(fd), po.POLLIN | po.POLLRDHUP, 7)
    assert file.collect(4) == b""
    ours.send(b"x")
    guest.news()
    assert len(file.collect(4)) == 12
    assert guest.receive(fd, 10) == b"x" and file.collect(4) == b""
    ours.shutdown(socket.SHUT_WR)
    guest.news()
    assert int.from_bytes(file.collect(4)[:4], "little") == po.POLLIN | po.POLLRDHUP


# --- ends ---
def test_a_fin_is_an_end_of_file_after_the_data() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected()
    ours.send(b"last words")
    ours.shutdown(socket.SHUT_WR)
    guest.news()
    file = guest.file(fd)
    assert guest.poll(fd) & (po.POLLIN | po.POLLRDHUP) == po.POLLIN | po.POLLRDHUP
    assert file.state == tcp.TCP_CLOSE_WAIT
    assert guest.receive(fd, 100) == b"last words" and guest.receive(fd, 100) == b""
    assert guest.send(fd, b"but I go on") == 11
    assert ours.recv(100) == b"but I go on"
    assert not guest.poll(fd) & po.POLLHUP


def test_our_fin_comes_behind_our_data() -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected()
    assert guest.send(fd, b"bye") == 3
    assert guest.call(sk.sys_shutdown, fd, so.SHUT_WR) == 0
    assert ours.recv(100) == b"bye" and ours.recv(100) == b""
    assert guest.send(fd, b"x", so.MSG_NOSIGNAL) == -errno.EPIPE
    ours.send(b"still heard")
    ours.shutdown(socket.SHUT_WR)
    guest.news()
    assert guest.receive(fd, 100) == b"still heard" and guest.receive(fd, 100) == b""
    assert guest.poll(fd) & po.POLLHUP
    guest.close(fd)
    assert guest.service.asked("close", "abort") == [("close", [number])]


@pytest.mark.parametrize("error", [errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE])
def test_a_reset_gives_what_came_before_and_then_its_reason(error: int) -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected()
    ours.send(b"data")
    guest.service.say("error", number, error)
    ours.close()
    guest.news()
    assert guest.poll(fd) & (po.POLLHUP | po.POLLERR) == po.POLLHUP | po.POLLERR
    assert guest.receive(fd, 100) == b"data"
    assert guest.receive(fd, 100) == -error
    assert guest.receive(fd, 100) == b""


def test_the_reason_is_looked_for_when_a_write_fails_first() -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected()
    guest.service.say("error", number, errno.ETIMEDOUT)
    ours.close()  # nothing was dispatched yet
    assert guest.send(fd, b"x", so.MSG_NOSIGNAL) == -errno.ETIMEDOUT


def test_the_reason_is_looked_for_when_a_read_ends_first() -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected()
    guest.service.say("error", number, errno.ECONNRESET)
    ours.close()
    guest.file(fd).far.unsure = True  # as after an edge that came just before
    assert guest.receive(fd, 10) == -errno.ECONNRESET


def test_close_says_so_and_gives_the_host_socket_back() -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected()
    held = guest.file(fd).far.fd
    assert guest.send(fd, b"end") == 3
    guest.close(fd)
    assert guest.service.asked() == [("close", [number])]
    assert ours.recv(10) == b"end" and ours.recv(10) == b""
    with pytest.raises(OSError):
        os.fstat(held)
    guest.service.say("gone", number)
    guest.news()
    assert number not in guest.provider.sockets


@pytest.mark.parametrize("unread", [True, False])
def test_close_resets_with_unread_data_or_no_time_to_linger(unread: bool) -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected()
    if unread:
        ours.send(b"never read")
        guest.news()
        assert guest.poll(fd) & po.POLLIN
    else:
        assert guest.option(fd, so.SOL_SOCKET, so.SO_LINGER, so.LINGER.pack(1, 0)) == 0
    guest.close(fd)
    assert guest.service.asked() == [("abort", [number])]
    assert not guest.provider.network.connections


def test_close_lingers_until_the_service_has_nothing_left() -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected()
    assert guest.option(fd, so.SOL_SOCKET, so.SO_LINGER, so.LINGER.pack(1, 5)) == 0
    assert guest.send(fd, b"end") == 3
    assert guest.call(sys_close, fd) is None
    assert guest.service.asked() == [("close", [number])]
    guest.service.say("gone", number)
    guest.news()
    assert guest.wake() == 0


def test_close_lingers_no_longer_than_it_was_told() -> None:
    guest = FarGuest()
    fd, _, _ = guest.connected()
    assert guest.option(fd, so.SOL_SOCKET, so.SO_LINGER, so.LINGER.pack(1, 5)) == 0
    assert guest.call(sys_close, fd) is None
    guest.kernel.clock.advance(5_000_000_001)
    assert guest.wake() == 0


def test_a_data_socket_that_ends_both_ways_is_a_death_and_no_fin() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected()
    ours.close()
    guest.news()
    assert guest.poll(fd) & po.POLLERR and guest.receive(fd, 10) == -errno.ECONNRESET


def test_a_write_that_meets_the_death_first_is_a_reset() -> None:
    guest = FarGuest()
    fd, ours, _ = guest.connected()
    ours.close()  # nothing was dispatched yet
    assert guest.send(fd, b"x", so.MSG_NOSIGNAL) == -errno.ECONNRESET
    assert guest.send(fd, b"x", so.MSG_NOSIGNAL) == -errno.EPIPE


# --- urgent data ---
def test_an_urgent_byte_has_its_place_in_the_stream() -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected()
    ours.send(b"before")
    guest.service.say("urgent", number, ord("!"), 6)
    ours.send(b"after")
    guest.news()
    assert guest.poll(fd) & po.POLLPRI
    assert guest.receive(fd, 100) == b"before"
    assert guest.file(fd).at_mark()
    assert guest.receive(fd, 1, so.MSG_OOB) == b"!"
    assert guest.receive(fd, 100) == b"after"


def test_urgent_data_is_sent_with_its_place() -> None:
    guest = FarGuest()
    fd, ours, number = guest.connected()
    assert guest.send(fd, b"abc") == 3
    assert guest.send(fd, b"de!", so.MSG_OOB) == 3
    assert guest.service.asked() == [("urgent", [number, ord("!"), 5])]
    assert ours.recv(100) == b"abcde"


# --- listening ---
def test_a_listener_takes_connections_of_both_worlds() -> None:
    guest = FarGuest()
    listener, number = guest.listening()
    assert guest.poll(listener) == 0
    client = guest.socket()
    assert guest.connect(client, 8080, LOOPBACK) == 0
    far, ours = guest.service.accept(number, [OWN, 8080, 0], [PEER, 5555, 0])
    guest.news()
    assert guest.poll(listener) & po.POLLIN
    local = guest.call(sk.sys_accept, listener, 0, 0)
    room = guest.put((16).to_bytes(4, "little"))
    at = guest.alloc(16)
    outside = guest.call(sk.sys_accept, listener, at, room)
    assert local is not None and outside is not None and outside >= 0
    assert guest.get(at + 2, 6) == (5555).to_bytes(2, "big") + PEER
    assert guest.poll(listener) == 0
    assert guest.service.asked() == []  # there is room for more than enough of them
    ours.send(b"hello")
    guest.news()
    assert guest.receive(outside, 10) == b"hello"
    assert guest.file(outside).local_address()[4:8] == OWN
    guest.close(outside)
    assert guest.service.asked("close") == [("close", [far])]


def accepted(guest: FarGuest) -> tuple[int, socket.socket, int]:
    """A connection of PEER's: (guest's descriptor, the service's end of its data, the id)."""
    listener, number = guest.listening()
    far, ours = guest.service.accept(number, [OWN, 8080, 0], [PEER, 5555, 0])
    guest.news()
    fd = guest.call(sk.sys_accept, listener, 0, 0)
    assert fd is not None and fd >= 0
    guest.service.asked()
    return fd, ours, far


def test_nobody_waits_for_the_end_of_an_accepted_connection_whose_peer_has_ended() -> None:
    guest = FarGuest()
    fd, ours, far = accepted(guest)
    held = guest.file(fd).far.fd
    assert guest.send(fd, b"answer") == 6
    ours.shutdown(socket.SHUT_WR)
    guest.news()
    assert guest.receive(fd, 10) == b""
    guest.close(fd)
    assert guest.service.asked() == [("leave", [far])]
    assert far not in guest.provider.sockets and not guest.provider.network.connections
    assert ours.recv(10) == b"answer" and ours.recv(10) == b""
    with pytest.raises(OSError):
        os.fstat(held)


@pytest.mark.parametrize("lingers", [True, False])
def test_the_end_of_an_accepted_connection_is_waited_for_where_it_matters(lingers: bool) -> None:
    guest = FarGuest()
    fd, ours, far = accepted(guest)
    if lingers:
        assert guest.option(fd, so.SOL_SOCKET, so.SO_LINGER, so.LINGER.pack(1, 5)) == 0
        ours.shutdown(socket.SHUT_WR)
        guest.news()
        assert guest.call(sys_close, fd) is None
    else:  # the peer's FIN is still to come
        guest.close(fd)
    assert guest.service.asked() == [("close", [far])]
    assert far in guest.provider.sockets
    guest.service.say("gone", far)
    guest.news()
    assert far not in guest.provider.sockets
    assert not lingers or guest.wake() == 0


_NODELAY = [6, 1, 1]  # IPPROTO_TCP, TCP_NODELAY, on


def test_a_first_small_answer_does_not_wait_for_tcp_nodelay_to_be_told() -> None:
    guest = FarGuest()
    fd, ours, far = accepted(guest)
    assert guest.option(fd, 6, 1, 1) == 0
    assert guest.send(fd, b"first") == 5
    assert guest.service.asked("hint") == []
    assert ours.recv(10) == b"first"
    assert guest.send(fd, b"second") == 6
    guest.service.about_to_serve = lambda: None  # nothing is put off
    assert guest.service.asked("hint") == [("hint", [far, *_NODELAY])]
    assert ours.recv(10) == b"second"


def test_tcp_nodelay_is_told_before_a_first_answer_of_several_segments() -> None:
    guest = FarGuest()
    fd, _, far = accepted(guest)
    assert guest.option(fd, 6, 1, 1) == 0
    assert guest.send(fd, bytes(537)) == 537
    guest.service.about_to_serve = lambda: None
    assert guest.service.asked("hint") == [("hint", [far, *_NODELAY])]


def test_tcp_nodelay_is_told_soon_behind_an_answer() -> None:
    guest = FarGuest()
    fd, _, far = accepted(guest)
    assert guest.send(fd, b"x") == 1
    assert guest.option(fd, 6, 1, 1) == 0
    assert guest.service.asked("hint") == [("hint", [far, *_NODELAY])]


def test_tcp_nodelay_is_not_told_when_nothing_comes_behind_the_first_answer() -> None:
    guest = FarGuest()
    fd, _, far = accepted(guest)
    assert guest.option(fd, 6, 1, 1) == 0
    assert guest.send(fd, b"all") == 3
    guest.close(fd)
    assert guest.service.asked("hint", "close") == [("close", [far])]


def test_tcp_nodelay_is_told_before_a_byte_out_of_band() -> None:
    guest = FarGuest()
    fd, _, far = accepted(guest)
    assert guest.option(fd, 6, 1, 1) == 0
    assert guest.send(fd, b"!", so.MSG_OOB) == 1
    assert [call for call, _ in guest.service.asked("hint", "urgent")] == ["hint", "urgent"]


def test_tcp_nodelay_is_told_before_rings_are_asked_for() -> None:
    guest = FarGuest()
    fd, ours, far = accepted(guest)
    assert guest.option(fd, 6, 1, 1) == 0
    guest.service.delivered = BUSY_BYTES
    left = BUSY_BYTES
    while left:
        left -= ours.send(bytes(min(left, 1 << 16)))
        guest.news()
        got = guest.receive(fd, 1 << 16)
        assert isinstance(got, bytes) and got
        guest.forget_memory()
    while isinstance(guest.receive(fd, 1 << 16), bytes):
        guest.forget_memory()
    assert [call for call, _ in guest.service.asked("hint", "rings")] == ["hint", "rings"]


@pytest.mark.parametrize(("backlog", "told"), [(1, [1] * 6), (2, [1] * 6), (4, [2, 2, 2]), (5, [3, 3]), (100, [])])
def test_the_service_is_told_of_accepted_connections_by_halves_of_the_queue(backlog: int, told: list[int]) -> None:
    guest = FarGuest()
    listener, number = guest.listening(backlog=backlog)
    for port in range(6):
        guest.service.accept(number, [OWN, 8080, 0], [PEER, 5000 + port, 0])
        guest.news()
        accepted = guest.call(sk.sys_accept, listener, 0, 0)
        assert accepted is not None and accepted >= 0
    guest.news()
    assert guest.service.asked("taken") == [("taken", [number, count]) for count in told]


def test_listening_asks_with_options_first() -> None:
    guest = FarGuest()
    fd = guest.socket(domain=so.AF_INET6)
    assert guest.option(fd, so.SOL_SOCKET, so.SO_REUSEADDR, 1) == 0
    assert guest.bind(fd, 8080, bytes(16)) == 0
    assert guest.call(sk.sys_listen, fd, 9) == 0
    calls = guest.service.asked("open", "hint", "bind", "listen")
    number = calls[0][1][0]
    assert calls == [
        ("open", [number, so.AF_INET6, so.SOCK_STREAM, 6]),
        ("hint", [number, 41, 26, 0]),
        ("hint", [number, so.SOL_SOCKET, so.SO_REUSEADDR, 1]),
        ("bind", [number, [b"", 8080, 0]]),
        ("listen", [number, 9]),
    ]
    assert guest.call(sk.sys_listen, fd, 20) == 0
    assert guest.service.asked() == [("listen", [number, 20])]


def test_a_listener_on_the_loopback_stays_there() -> None:
    guest = FarGuest()
    fd = guest.socket()
    assert guest.bind(fd, 8080, LOOPBACK) == 0 and guest.call(sk.sys_listen, fd, 5) == 0
    assert guest.service.asked() == []


def test_listening_fails_when_the_service_refuses() -> None:
    guest = FarGuest()
    fd = guest.socket()
    assert guest.bind(fd, 8080) == 0
    guest.service.refuse["listen"] = errno.EADDRINUSE
    assert guest.call(sk.sys_listen, fd, 5) == -errno.EADDRINUSE
    assert not guest.file(fd).is_listening() and not guest.provider.network.listeners


def test_who_is_not_accepted_is_reset_with_the_listener() -> None:
    guest = FarGuest()
    listener, number = guest.listening()
    far, _ = guest.service.accept(number, [OWN, 8080, 0], [PEER, 5555, 0])
    guest.news()
    guest.close(listener)
    assert sorted(guest.service.asked()) == [("abort", [far]), ("close", [number])]


def test_more_connections_than_the_backlog_are_sent_away() -> None:
    guest = FarGuest()
    listener, number = guest.listening(backlog=1)
    made = [guest.service.accept(number, [OWN, 8080, 0], [PEER, 5000 + each, 0])[0] for each in range(4)]
    guest.news()
    assert len(guest.file(listener).pending) == 2
    assert guest.service.asked() == [("abort", [made[2]]), ("abort", [made[3]])]


# --- the service goes and comes ---
def test_a_restart_resets_connections_and_listens_again() -> None:
    guest = FarGuest()
    fd, _, _ = guest.connected()
    listener, _ = guest.listening()
    guest.service.asked()
    guest.restart()
    assert guest.poll(fd) & po.POLLHUP and guest.receive(fd, 10) == -errno.ECONNRESET
    calls = guest.service.asked("open", "bind", "listen")
    number = calls[0][1][0]
    assert calls[1:] == [("bind", [number, [b"", 8080, 0]]), ("listen", [number, 5])]
    guest.service.accept(number, [OWN, 8080, 0], [PEER, 5555, 0])
    guest.news()
    assert guest.call(sk.sys_accept, listener, 0, 0) >= 0
    guest.close(fd)
    assert guest.connected()[0] >= 0


def test_without_the_service_there_is_no_way_out() -> None:
    guest = FarGuest()
    connecting = guest.socket()
    assert guest.connect(connecting) is None
    guest.service.close()
    guest.news()
    assert guest.wake() == -errno.ENETUNREACH
    assert guest.connect(guest.socket()) == -errno.ENETUNREACH
    (eth0,) = guest.provider.interfaces
    assert not eth0.flags & 1
    client = guest.socket()
    listener = guest.socket()
    assert guest.bind(listener, 9, LOOPBACK) == 0 and guest.call(sk.sys_listen, listener, 1) == 0
    assert guest.connect(client, 9, LOOPBACK) == 0


def test_a_service_that_does_not_answer_counts_as_gone() -> None:
    guest = FarGuest()
    fd = guest.socket()
    assert guest.bind(fd, 8080) == 0
    guest.service.silent = True
    assert guest.call(sk.sys_listen, fd, 5) == -errno.ENETDOWN
    assert guest.provider.client is None


# --- what is not to be trusted ---
def test_wrong_descriptors_are_closed() -> None:
    guest = FarGuest()
    fd = guest.socket()
    assert guest.connect(fd) is None
    (number,) = guest.provider.sockets
    gc.collect()  # what other tests left is not closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    blocking, other = socket.socketpair()
    wrong, another = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for each in (blocking, wrong):
        guest.service.say("connected", number, [OWN, 1, 0], [PEER, 80, 0], codec.Fd(each.fileno()))
    guest.news()
    for each in (blocking, other, wrong, another):
        each.close()
    assert guest.file(fd).state == tcp.TCP_SYN_SENT
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_more_descriptors_are_taken_than_there_is_room_for() -> None:
    guest = FarGuest()
    guest.provider.room = 2
    fd, _, _ = guest.connected()
    listener, number = guest.listening()
    made = [guest.service.accept(number, [OWN, 8080, 0], [PEER, 5000 + each, 0])[0] for each in range(2)]
    guest.news()
    assert len(guest.file(listener).pending) == 1
    assert guest.service.asked() == [("abort", [made[1]])]
    assert guest.connect(guest.socket()) == -errno.ENOBUFS
    datagrams = guest.socket(so.SOCK_DGRAM)
    assert guest.bind(datagrams, 5000) == -errno.ENOBUFS
    guest.close(fd)
    assert guest.bind(datagrams, 5000) == 0


@pytest.mark.parametrize(
    "message",
    [
        ("connected", [1, [OWN, 1, 0], [PEER, 80, 0], 5]),
        ("accepted", [1, 2, [OWN, 1, 0], [PEER, 80, 0], None]),
        ("error", [1, "x"]),
        ("urgent", [1, 256, 0]),
        ("network", [{}]),
        ("nonsense", []),
    ],
)
def test_nonsense_ends_the_conversation(message: tuple[str, list[object]]) -> None:
    guest = FarGuest()
    fd = guest.socket()
    assert guest.connect(fd) is None
    assert list(guest.provider.sockets) == [1]
    guest.service.say(message[0], *message[1])
    guest.news()
    assert guest.provider.client is None
    assert guest.wake() == -errno.ENETUNREACH


def test_descriptors_nobody_asked_for_are_closed() -> None:
    gc.collect()  # what other tests left is not closed meanwhile
    guest = FarGuest()
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    guest.service.answers["shutdown"] = codec.Fd(os.dup(theirs.fileno()))
    fd = guest.socket(so.SOCK_DGRAM)
    assert guest.connect(fd) == 0
    assert guest.call(sk.sys_shutdown, fd, 2) == 0
    guest.service.asked()
    (data,) = guest.service.data.values()
    guest.news()
    guest.close(fd)
    guest.service.asked()
    for each in (ours, theirs, data):
        each.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_events_about_strangers_change_nothing() -> None:
    guest = FarGuest()
    for message in (("error", 77, 5), ("gone", 77), ("urgent", 77, 1, 1)):
        guest.service.say(*message)
    number, ours = guest.service.accept(77, [OWN, 1, 0], [PEER, 2, 0])
    guest.news()
    assert guest.provider.client is not None
    assert ours.recv(1) == b"" and guest.service.asked() == [("abort", [number])]

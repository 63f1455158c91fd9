"""Accepted connections whose bytes come in messages at first, against a fake socket service that may say anything."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from protocol.abi import tcp_h as tcp
from protocol.netstack.messages import MAX_CARRIED, SHUT_WR
from protocol.rpc import codec
from services.sentry.errors import WouldBlock
from services.sentry.files.epoll import EpollFile
from services.sentry.sockets.inet.netstack.carried_stream import MOST_CARRIED
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.sockets.fake_service import OWN, PEER, FarGuest


class Carried(FarGuest):
    """A guest with a listener that carries. `number`: the id of the connection that `accepted` made."""

    def __init__(self) -> None:
        super().__init__()
        self.provider.has_carries = True
        self.listener, self.far_listener = self.listening()
        self.number = 0x80000000

    def offer(self, first: bytes = b"") -> None:
        self.service.say("accepted", self.far_listener, self.number, [OWN, 8080, 0], [PEER, 999, 0], first)

    def accepted(self, first: bytes = b"", flags: int = 0) -> int:
        self.offer(first)
        self.news()
        fd = self.call(sk.sys_accept4, self.listener, 0, 0, flags)
        assert fd is not None and fd >= 0
        self.service.asked()
        return fd

    def data(self, data: bytes) -> None:
        self.service.say("data", self.number, data)
        self.news()

    def give_socket(self) -> socket.socket:
        """What `socket` is answered from now on: our end of it."""
        ours, theirs = socket.socketpair()
        self.service.answers["socket"] = codec.Fd(self.service._keep(self.number, ours, theirs))
        return ours

    def is_cut_off(self) -> bool:
        self.news()
        return self.provider.client is None


def test_a_listener_asks_for_it_only_of_a_service_that_can() -> None:
    guest = FarGuest()
    guest.listening()
    assert guest.service.asked("carry") == []
    guest.provider.has_carries = True
    fd = guest.socket()
    assert guest.bind(fd, 8081) == 0 and guest.call(sk.sys_listen, fd, 5) == 0
    assert [call[0] for call in guest.service.asked()] == ["open", "bind", "carry", "listen"]


def test_request_and_answer_need_no_host_socket() -> None:
    guest = Carried()
    room = guest.provider.room
    fd = guest.accepted(b"req")
    assert guest.receive(fd, 100) == b"req" and guest.receive(fd, 100) is None
    guest.data(b"uest")
    assert guest.wake() == 4
    assert guest.option(fd, 6, tcp.TCP_NODELAY, 1) == 0
    assert guest.send(fd, b"answer") == 6
    guest.data(b"")
    assert guest.poll(fd) & (po.POLLIN | po.POLLRDHUP) == po.POLLIN | po.POLLRDHUP
    assert guest.receive(fd, 100) == b"" and guest.file(fd).state == tcp.TCP_CLOSE_WAIT
    guest.close(fd)
    number = guest.number
    assert guest.service.asked() == [("send", [number, b"answer"]), ("finish", [number, 7, 0])]
    assert guest.provider.room == room and number not in guest.provider.sockets


def test_a_half_close_is_told_and_the_end_that_is_waited_for() -> None:
    guest = Carried()
    fd = guest.accepted()
    assert guest.send(fd, b"all") == 3 and guest.call(sk.sys_shutdown, fd, so.SHUT_WR) == 0
    assert guest.send(fd, b"x", so.MSG_NOSIGNAL) == -errno.EPIPE
    guest.data(b"still comes")
    assert guest.receive(fd, 100) == b"still comes"
    guest.close(fd)
    number = guest.number
    assert guest.service.asked() == [
        ("send", [number, b"all"]),
        ("shutdown", [number, SHUT_WR]),
        ("finish", [number, 11, 1]),
    ]
    guest.service.say("gone", number)
    assert not guest.is_cut_off()


def test_unread_bytes_make_a_reset() -> None:
    guest = Carried()
    fd = guest.accepted(b"unread")
    guest.close(fd)
    assert guest.service.asked() == [("abort", [guest.number])]


def test_what_is_on_its_way_when_it_is_closed_is_not_counted_as_taken() -> None:
    guest = Carried()
    fd = guest.accepted()
    guest.service.say("data", guest.number, b"too late")
    guest.close(fd)
    guest.news()
    assert guest.service.asked() == [("finish", [guest.number, 0, 1])]
    assert not guest.is_cut_off()


def test_a_conversation_goes_on_with_a_host_socket() -> None:
    guest = Carried()
    ours = guest.give_socket()
    fd = guest.accepted()
    for turn in range(MOST_CARRIED // 2):
        guest.data(b"ask%d" % turn)
        assert guest.receive(fd, 100) == b"ask%d" % turn
        assert guest.send(fd, b"say%d" % turn) == 4
    assert guest.service.asked("socket") == []
    guest.data(b"?")
    assert len(guest.service.asked("socket")) == 1 and guest.receive(fd, 1) == b"?"
    ours.send(b"by socket")
    guest.news()
    assert guest.poll(fd) & po.POLLIN and guest.receive(fd, 100) == b"by socket"
    assert guest.send(fd, b"answer") == 6 and ours.recv(100) == b"answer"
    guest.close(fd)
    assert [call[0] for call in guest.service.asked()][-1] == "close"


@pytest.mark.parametrize("size", [MAX_CARRIED + 1, 100_000])
def test_a_long_answer_goes_by_the_host_socket_behind_what_was_carried(size: int) -> None:
    guest = Carried()
    ours = guest.give_socket()
    fd = guest.accepted(flags=so.SOCK_NONBLOCK)
    assert guest.send(fd, b"head") == 4
    data = bytes(size)
    sent = guest.send(fd, data)
    assert sent is not None and sent > MAX_CARRIED
    assert guest.service.asked() == [("send", [guest.number, b"head"]), ("socket", [guest.number])]
    assert len(ours.recv(1 << 20, socket.MSG_DONTWAIT)) == sent


def test_much_that_comes_asks_for_the_host_socket_also_when_nobody_reads() -> None:
    guest = Carried()
    ours = guest.give_socket()
    fd = guest.accepted()
    guest.service.say("data", guest.number, b"a" * (MAX_CARRIED // 2 + 1))
    guest.data(b"b" * (MAX_CARRIED // 2 - 1))
    assert len(guest.service.asked("socket")) == 1
    ours.send(b"c")
    guest.news()
    got = guest.receive(fd, 1 << 16)
    assert got == b"a" * (MAX_CARRIED // 2 + 1) + b"b" * (MAX_CARRIED // 2 - 1) + b"c"


def test_an_edge_is_told_for_all_that_comes() -> None:
    guest = Carried()
    fd = guest.accepted(flags=so.SOCK_NONBLOCK)
    epoll = EpollFile(guest.file(fd).inode)
    epoll.add(fd, guest.file(fd), po.POLLIN | 1 << 31, 7)
    for part in (b"one", b"two"):
        guest.data(part)
        assert len(epoll.collect(4)) == 12 and epoll.collect(4) == b""
    guest.data(b"")
    assert len(epoll.collect(4)) == 12
    assert guest.receive(fd, 10) == b"onetwo"


def test_an_error_comes_behind_what_came() -> None:
    guest = Carried()
    fd = guest.accepted(b"last")
    guest.service.say("error", guest.number, errno.ECONNRESET)
    guest.news()
    assert guest.receive(fd, 10) == b"last" and guest.receive(fd, 10) == -errno.ECONNRESET
    assert guest.send(fd, b"x", so.MSG_NOSIGNAL) == -errno.EPIPE
    guest.close(fd)
    assert guest.service.asked() == [("finish", [guest.number, 4, 1])]


def test_urgent_bytes_have_their_place() -> None:
    guest = Carried()
    fd = guest.accepted()
    guest.service.say("urgent", guest.number, ord("!"), 3)
    guest.data(b"abc")
    guest.data(b"def")
    assert guest.poll(fd) & po.POLLPRI and guest.receive(fd, 1, so.MSG_OOB) == b"!"
    assert guest.receive(fd, 10) == b"abc" and guest.receive(fd, 10) == b"def"
    assert guest.send(fd, b"12?", so.MSG_OOB) == 3
    assert guest.service.asked() == [("send", [guest.number, b"12"]), ("urgent", [guest.number, ord("?"), 2])]


def test_the_death_of_the_service_resets_it() -> None:
    guest = Carried()
    fd = guest.accepted(b"read me")
    guest.service.close()
    guest.news()
    assert guest.receive(fd, 10) == b"read me" and guest.receive(fd, 10) == -errno.ECONNRESET


def test_a_host_socket_that_is_refused_leaves_what_was_said_to_tell_why() -> None:
    guest = Carried()
    guest.service.refuse["socket"] = errno.ENOTCONN
    fd = guest.accepted()
    guest.service.say("error", guest.number, errno.ETIMEDOUT)
    assert guest.send(fd, bytes(MAX_CARRIED + 1), so.MSG_NOSIGNAL) == -errno.ETIMEDOUT
    assert not guest.is_cut_off()


def test_without_room_for_its_host_socket_a_connection_is_reset() -> None:
    guest = Carried()
    guest.give_socket()
    fd = guest.accepted()
    guest.provider.room = 0
    assert guest.send(fd, bytes(MAX_CARRIED + 1), so.MSG_NOSIGNAL) == -errno.ENOBUFS
    assert guest.service.asked() == [("socket", [guest.number]), ("abort", [guest.number])]
    assert guest.provider.room == 0 and not guest.is_cut_off()


def test_without_room_at_the_service_it_is_as_well_when_it_is_read() -> None:
    guest = Carried()
    guest.service.refuse["socket"] = errno.EMFILE
    fd = guest.accepted()
    guest.data(bytes(MAX_CARRIED - 1))
    assert guest.service.asked() == [("socket", [guest.number]), ("abort", [guest.number])]
    assert guest.receive(fd, MAX_CARRIED) == bytes(MAX_CARRIED - 1)
    assert guest.receive(fd, 1) == -errno.ENOBUFS


# --- hostile ---
def test_bytes_for_a_listener_that_did_not_ask_cut_the_service_off() -> None:
    guest = Carried()
    guest.provider.has_carries = False
    guest.offer(b"x")
    assert guest.is_cut_off()


@pytest.mark.parametrize(
    "said",
    [
        [bytes(MAX_CARRIED), b"x"],
        [bytes(MAX_CARRIED + 1)],
        [b"", b""],
        [b"", b"x"],
        ["text"],
        [None],
    ],
)
def test_what_cannot_be_carried_cuts_the_service_off(said: list[Any]) -> None:
    guest = Carried()
    guest.accepted()
    far: Any = guest.provider.sockets[guest.number]
    far.leaving = True  # it is not asked to
    for each in said:
        guest.service.say("data", guest.number, each)
    assert guest.is_cut_off()


def test_data_for_what_has_a_host_socket_cuts_the_service_off() -> None:
    guest = FarGuest()
    _, _, number = guest.connected()
    guest.service.say("data", number, b"x")
    guest.news()
    assert guest.provider.client is None


def test_bytes_beyond_an_urgent_one_that_was_not_reached_cut_the_service_off() -> None:
    guest = Carried()
    guest.accepted()
    guest.service.say("urgent", guest.number, 1, 2)
    guest.service.say("data", guest.number, b"abc")
    assert guest.is_cut_off()


@pytest.mark.parametrize("answer", [None, 7, b"fd", "pipe"])
def test_a_wrong_answer_to_socket_ends_the_connection(answer: Any) -> None:
    guest = Carried()
    fd = guest.accepted()
    if answer == "pipe":
        there, end = os.pipe()
        os.close(end)
        answer = codec.Fd(there)
    guest.service.answers["socket"] = answer
    sent = guest.send(fd, bytes(MAX_CARRIED + 1), so.MSG_NOSIGNAL)
    assert sent is not None and sent < 0


def test_a_number_that_is_in_use_is_not_taken_twice() -> None:
    guest = Carried()
    fd = guest.accepted(b"first")
    guest.offer(b"second")
    guest.news()
    assert guest.receive(fd, 100) == b"first"
    with pytest.raises(WouldBlock):
        guest.file(guest.listener).accept(guest.task, so.SOCK_NONBLOCK)

"""UDP beyond the loopback, against a fake socket service: who is told of which port, headers, errors, groups."""

from __future__ import annotations

import errno
import struct

import pytest

from protocol.abi import in_h
from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from protocol.netstack import datagrams as dg
from services.sentry.sockets.inet.netstack import datagrams as far_datagrams
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.sockets.fake_service import GATEWAY, OWN, OWN6, PEER, FarGuest

DGRAM = so.SOCK_DGRAM
LOOPBACK = bytes((127, 0, 0, 1))
GROUP = bytes((239, 1, 2, 3))


def opened(guest: FarGuest, fd: int) -> int:
    """The id of a socket that is open at the service."""
    far = guest.file(fd).far
    assert far is not None and far.alive
    return int(far.number)


def sent(guest: FarGuest, number: int) -> dg.Datagram:
    return dg.parse_untrusted(guest.service.data[number].recv(70_000))


def arrive(guest: FarGuest, number: int, payload: bytes, source: bytes = PEER, port: int = 53, **more: object) -> None:
    values: dict[str, object] = {"ttl": 57, "interface": 2, "pktinfo": OWN}
    message = dg.Datagram(payload, source, port, **(values | more))  # type: ignore[arg-type]
    guest.service.data[number].send(message.header() + payload)


def receive_message(guest: FarGuest, fd: int, flags: int = 0) -> tuple[bytes, bytes, int, list[tuple[int, int, bytes]]]:
    """recvmsg(2): (data, address, flags, control messages)."""
    data, name, control = guest.alloc(2000), guest.alloc(128), guest.alloc(512)
    iov = guest.put(struct.pack("<QQ", data, 2000))
    header = guest.put(so.MSGHDR.pack(name, 128, iov, 1, control, 512, 0))
    got = guest.call(sk.sys_recvmsg, fd, header, flags)
    assert got is not None and got >= 0, got
    _, name_length, _, _, _, control_length, marks = so.MSGHDR.unpack(guest.get(header, so.MSGHDR.size))
    raw = guest.get(control, control_length)
    found = []
    at = 0
    while at + 16 <= len(raw):
        length, level, kind = so.CMSGHDR.unpack_from(raw, at)
        found.append((level, kind, raw[at + 16 : at + length]))
        at += so.cmsg_align(length)
    return guest.get(data, got), guest.get(name, name_length), marks, found


def send_message(guest: FarGuest, fd: int, data: bytes, to: bytes, control: tuple[int, int, bytes]) -> int | None:
    level, kind, payload = control
    raw = so.CMSGHDR.pack(16 + len(payload), level, kind) + payload
    name, length = guest.name(53, to)
    iov = guest.put(struct.pack("<QQ", guest.put(data), len(data)))
    header = guest.put(so.MSGHDR.pack(name, length, iov, 1, guest.put(raw), so.cmsg_align(len(raw)), 0))
    return guest.call(sk.sys_sendmsg, fd, header, 0)


# --- who is told ---
def test_a_query_and_its_answer() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert guest.service.asked() == []
    assert guest.send(fd, b"query", to=(53, PEER)) == 5
    number, port = opened(guest, fd), guest.file(fd).local_port
    assert guest.service.asked() == [
        ("open", [number, so.AF_INET, DGRAM, 17]),
        ("bind", [number, [b"", port, 0]]),
    ]
    out = sent(guest, number)
    assert (out.payload, out.address, out.port, out.ttl, out.pktinfo) == (b"query", PEER, 53, 64, OWN)
    assert guest.poll(fd) & (po.POLLIN | po.POLLOUT) == po.POLLOUT
    assert guest.receive(fd, 100) is None
    arrive(guest, number, b"answer")
    guest.news()
    assert guest.wake() == 6
    arrive(guest, number, b"another")
    guest.news()
    assert guest.poll(fd) & po.POLLIN
    data, name, _, _ = receive_message(guest, fd)
    assert data == b"another" and name[:8] == struct.pack("<H", 2) + b"\0\x35" + PEER


def test_connect_tells_the_peer_and_disconnect_dissolves_it() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert guest.connect(fd, 53) == 0
    number, port = opened(guest, fd), guest.file(fd).local_port
    assert guest.service.asked("bind", "connect") == [
        ("bind", [number, [OWN, port, 0]]),
        ("connect", [number, [PEER, 53, 0]]),
    ]
    assert guest.connect(fd, 54, GATEWAY) == 0
    assert guest.service.asked() == [("connect", [number, [GATEWAY, 54, 0]])]
    assert guest.send(fd, b"x") == 1 and sent(guest, number).address == GATEWAY
    unspec = guest.put(bytes(16))
    assert guest.call(sk.sys_connect, fd, unspec, 16) == 0
    assert ("close", [number]) in guest.service.asked()


def test_a_wildcard_port_is_in_both_worlds_and_one_on_the_loopback_is_not() -> None:
    guest = FarGuest()
    both, local, client = guest.socket(DGRAM), guest.socket(DGRAM), guest.socket(DGRAM)
    assert guest.bind(both, 5000) == 0 and guest.bind(local, 5001, LOOPBACK) == 0
    number = opened(guest, both)
    assert guest.file(local).far is None
    assert guest.send(client, b"near", to=(5000, LOOPBACK)) == 4
    arrive(guest, number, b"far")
    guest.news()
    assert [guest.receive(both, 10), guest.receive(both, 10)] == [b"near", b"far"]
    assert guest.send(client, b"self", to=(5000, OWN)) == 4
    assert guest.receive(both, 10) == b"self"


def test_bind_fails_when_the_service_refuses() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    guest.service.refuse["bind"] = errno.EADDRINUSE
    assert guest.bind(fd, 5000) == -errno.EADDRINUSE
    assert not guest.provider.network.udp.owners and not guest.provider.sockets
    del guest.service.refuse["bind"]
    assert guest.bind(fd, 5000) == 0
    guest.close(fd)
    assert guest.service.asked("close")[-1][0] == "close" and not guest.provider.sockets


# --- headers ---
def test_control_messages_choose_hops_class_source_and_interface() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert send_message(guest, fd, b"x", PEER, (0, in_h.IP_TTL, (3).to_bytes(4, "little"))) == 1
    number = opened(guest, fd)
    assert sent(guest, number).ttl == 3
    assert send_message(guest, fd, b"x", PEER, (0, in_h.IP_TOS, b"\x10")) == 1
    out = sent(guest, number)
    assert out.tos == 0x10 and out.flags & dg.SET_TOS and out.ttl == 64
    info = in_h.IN_PKTINFO.pack(2, OWN, bytes(4))
    assert send_message(guest, fd, b"x", PEER, (0, in_h.IP_PKTINFO, info)) == 1
    out = sent(guest, number)
    assert (out.interface, out.pktinfo) == (2, OWN)
    stranger = in_h.IN_PKTINFO.pack(0, PEER, bytes(4))
    assert send_message(guest, fd, b"x", PEER, (0, in_h.IP_PKTINFO, stranger)) == -errno.EINVAL


def test_what_a_datagram_came_with_is_told() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    for name in (in_h.IP_PKTINFO, in_h.IP_RECVTTL, in_h.IP_RECVTOS):
        assert guest.option(fd, 0, name, 1) == 0
    assert guest.bind(fd, 5000) == 0
    arrive(guest, opened(guest, fd), b"x", tos=8)
    guest.news()
    _, _, _, control = receive_message(guest, fd)
    assert control == [
        (0, in_h.IP_PKTINFO, in_h.IN_PKTINFO.pack(2, OWN, OWN)),
        (0, in_h.IP_TTL, (57).to_bytes(4, "little")),
        (0, in_h.IP_TOS, b"\x08"),
    ]


def test_a_socket_of_both_families_speaks_mapped_to_the_service() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM, domain=so.AF_INET6)
    mapped = bytes(10) + b"\xff\xff" + PEER
    assert guest.send(fd, b"four", to=(53, mapped)) == 4
    number = opened(guest, fd)
    assert sent(guest, number).address == mapped
    six = OWN6[:15] + b"\x77"
    assert guest.send(fd, b"six", to=(53, six)) == 3
    out = sent(guest, number)
    assert out.address == six and out.pktinfo == OWN6
    arrive(guest, number, b"x", mapped, pktinfo=bytes(10) + b"\xff\xff" + OWN)
    guest.news()
    _, name, _, _ = receive_message(guest, fd)
    assert name[8:24] == mapped


def test_link_local_goes_by_its_scope() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM, domain=so.AF_INET6)
    neighbour = bytes.fromhex("fe80") + bytes(13) + b"\x99"
    name, length = guest.name(5000, neighbour, 2)
    assert guest.call(sk.sys_sendto, fd, guest.put(b"x"), 1, 0, name, length) == 1
    out = sent(guest, opened(guest, fd))
    assert (out.scope, out.interface, out.pktinfo[:2]) == (2, 2, b"\xfe\x80")


def test_broadcast_needs_its_option() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert guest.send(fd, b"x", to=(67, b"\xff" * 4)) == -errno.EACCES
    assert guest.send(fd, b"x", to=(67, bytes((10, 0, 2, 255)))) == -errno.EACCES
    assert guest.option(fd, so.SOL_SOCKET, so.SO_BROADCAST, 1) == 0
    assert guest.send(fd, b"x", to=(67, b"\xff" * 4)) == 1
    assert sent(guest, opened(guest, fd)).address == b"\xff" * 4


def test_groups_are_joined_by_the_route_and_told() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert guest.bind(fd, 5000) == 0
    number = opened(guest, fd)
    guest.service.asked("hint")
    assert guest.option(fd, 0, in_h.IP_ADD_MEMBERSHIP, GROUP + bytes(4)) == 0
    value = in_h.IP_MREQN.pack(GROUP, bytes(4), 2)
    assert guest.service.asked("hint") == [("hint", [number, 0, in_h.IP_ADD_MEMBERSHIP, value])]
    assert guest.send(fd, b"x", to=(5000, GROUP)) == 1
    out = sent(guest, number)
    assert out.ttl == 1 and out.interface == 2
    arrive(guest, number, b"heard", pktinfo=GROUP, flags=dg.MULTICAST)
    guest.news()
    assert guest.receive(fd, 10) == b"heard"
    assert guest.option(fd, 0, in_h.IP_DROP_MEMBERSHIP, GROUP + bytes(4)) == 0
    assert guest.service.asked("hint") == [("hint", [number, 0, in_h.IP_DROP_MEMBERSHIP, value])]
    late = guest.socket(DGRAM)
    assert guest.option(late, 0, in_h.IP_ADD_MEMBERSHIP, GROUP + bytes(4)) == 0
    assert guest.bind(late, 5001) == 0
    assert guest.service.asked("hint") == [("hint", [opened(guest, late), 0, in_h.IP_ADD_MEMBERSHIP, value])]


def test_options_set_before_and_after_opening_are_told() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert guest.option(fd, 0, in_h.IP_TTL, 9) == 0
    assert guest.option(fd, so.SOL_SOCKET, so.SO_BINDTODEVICE, b"eth0\0") == 0
    assert guest.option(fd, so.SOL_SOCKET, so.SO_BINDTODEVICE, b"eth9") == -errno.ENODEV
    assert guest.bind(fd, 5000) == 0
    number = opened(guest, fd)
    assert guest.service.asked("hint") == [
        ("hint", [number, so.SOL_SOCKET, so.SO_BINDTODEVICE, b"eth0"]),
        ("hint", [number, 0, in_h.IP_TTL, 9]),
    ]
    assert guest.option(fd, 0, in_h.IP_TTL, 10) == 0
    assert guest.service.asked("hint") == [("hint", [number, 0, in_h.IP_TTL, 10])]


# --- errors ---
def test_an_asynchronous_error_is_told_once() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert guest.connect(fd, 53) == 0
    guest.service.say("error", opened(guest, fd), errno.ECONNREFUSED)
    guest.news()
    assert guest.poll(fd) & po.POLLERR
    assert guest.receive(fd, 10, so.MSG_DONTWAIT) == -errno.ECONNREFUSED
    assert guest.receive(fd, 10, so.MSG_DONTWAIT) == -errno.EAGAIN


def test_the_error_queue_has_what_the_service_quotes() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert guest.option(fd, 0, in_h.IP_RECVERR, 1) == 0
    assert guest.send(fd, b"probe", to=(33434, PEER)) == 5
    number = opened(guest, fd)
    extended = dg.EXTENDED_ERROR.pack(errno.EHOSTUNREACH, 2, 11, 0, 0, 0, 0)
    payload = extended + GATEWAY + bytes(12) + b"probe"
    arrive(guest, number, payload, PEER, 33434, flags=dg.ERROR_QUEUE)
    guest.news()
    assert guest.poll(fd) & po.POLLERR
    data, name, marks, control = receive_message(guest, fd, so.MSG_ERRQUEUE)
    assert data == b"probe" and marks & so.MSG_ERRQUEUE and name[4:8] == PEER
    ((level, kind, told),) = control
    assert (level, kind) == (0, in_h.IP_RECVERR)
    assert told[:16] == extended and told[16:24] == struct.pack("<H", 2) + bytes(2) + GATEWAY
    assert not guest.poll(fd) & po.POLLERR


@pytest.mark.parametrize("raw", [b"", b"x" * 47, bytes((9,)) + bytes(47), bytes((4, 0)) + bytes(2) + b"\xff" * 44])
def test_messages_that_make_no_sense_are_dropped(raw: bytes) -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert guest.bind(fd, 5000) == 0
    number = opened(guest, fd)
    if raw:
        guest.service.data[number].send(raw)
    arrive(guest, number, b"good")
    guest.news()
    assert guest.receive(fd, 10) == b"good"


def test_a_filter_decides_what_comes_in_and_how_much_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_datagrams, "_MOST", 32)
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    # bytes to `take` if the first byte behind the UDP header is 'y'
    program = struct.pack("<HBBI", 0x30, 0, 0, 8) + struct.pack("<HBBI", 0x15, 0, 1, ord("y"))
    program += struct.pack("<HBBI", 0x06, 0, 0, 8 + 3) + struct.pack("<HBBI", 0x06, 0, 0, 0)
    value = struct.pack("<H6xQ", 4, guest.put(program))
    assert guest.option(fd, so.SOL_SOCKET, so.SO_DETACH_FILTER, 0) == -errno.ENOENT
    assert guest.option(fd, so.SOL_SOCKET, so.SO_ATTACH_FILTER, value) == 0
    assert guest.bind(fd, 5000) == 0
    number = opened(guest, fd)
    assert guest.receive(fd, 100) is None
    for _ in range(100):
        arrive(guest, number, b"no")
    arrive(guest, number, b"yes, some")
    guest.news()
    assert [guest.wake() for _ in range(4)] == [None, None, None, 3]  # others are served in between
    arrive(guest, number, b"yes, more")
    guest.news()
    assert guest.poll(fd) & po.POLLIN and guest.receive(fd, 100) == b"yes"
    assert not guest.poll(fd) & po.POLLIN
    assert guest.option(fd, so.SOL_SOCKET, so.SO_DETACH_FILTER, 0) == 0
    arrive(guest, number, b"no")
    guest.news()
    assert guest.receive(fd, 100) == b"no"


def test_a_full_way_out_blocks_until_the_service_reads() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM, so.SOCK_NONBLOCK)
    count = 0
    while (got := guest.send(fd, bytes(1000), to=(53, PEER))) == 1000:
        count += 1
    assert got == -errno.EAGAIN and count > 5 and not guest.poll(fd) & po.POLLOUT
    for _ in range(count):
        sent(guest, opened(guest, fd))
    guest.news()
    assert guest.poll(fd) & po.POLLOUT and guest.send(fd, b"x", to=(53, PEER)) == 1


def test_what_nobody_asks_for_stays_with_the_service() -> None:
    guest = FarGuest()
    fd = guest.socket(DGRAM)
    assert guest.bind(fd, 5000) == 0
    number = opened(guest, fd)
    came = 0
    while True:
        try:
            arrive(guest, number, bytes(1000))
        except BlockingIOError:
            break
        came += 1
    guest.news()
    taken = 0
    while guest.receive(fd, 2000, so.MSG_DONTWAIT) != -errno.EAGAIN:
        taken += 1
    assert taken == came > 10


def test_a_restart_opens_datagram_sockets_again() -> None:
    guest = FarGuest()
    fd, talks = guest.socket(DGRAM), guest.socket(DGRAM)
    assert guest.bind(fd, 5000) == 0 and guest.connect(talks, 53) == 0
    guest.restart()
    ports = sorted(call[1][1][1] for call in guest.service.asked("bind"))
    assert ports == sorted((5000, guest.file(talks).local_port))
    arrive(guest, opened(guest, fd), b"again")
    guest.news()
    assert guest.receive(fd, 10) == b"again"

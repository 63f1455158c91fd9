"""Datagram, raw, ping and packet sockets through the service."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from protocol.netstack import datagrams as d
from tests.netstack.socket_service.client import Client, Refused, World, address

DGRAM = (socket.AF_INET, socket.SOCK_DGRAM, 0)
SERVER = bytes((10, 0, 2, 15))
CLIENT = bytes((10, 0, 2, 16))


def opened(client: Client, number: int, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Open a socket; its data socket."""
    return client.open_data(client.call("open", number, family, kind, protocol), socket.SOCK_SEQPACKET)


def message(world: World, sock: socket.socket) -> d.Datagram:
    """The next message of a data socket."""

    def read() -> bytes:
        try:
            return sock.recv(70000)
        except BlockingIOError:
            return b""

    return d.parse_untrusted(world.until(read))


@pytest.fixture
def server(world: World) -> Client:
    return world.client(world.namespace("server"))


@pytest.fixture
def client(world: World, server: Client) -> Client:
    return world.client(world.namespace("client"))


def test_datagrams_carry_addresses_and_what_the_packet_said(world: World, server: Client, client: Client) -> None:
    there = opened(server, 1, *DGRAM)
    assert server.call("bind", 1, address("0.0.0.0", 53)) == [bytes(4), 53, 0]
    here = opened(client, 1, *DGRAM)
    here.send(d.Datagram(b"", SERVER, 53, tos=0x20, ttl=9, flags=d.SET_TOS).header() + b"question")
    got = message(world, there)
    assert (bytes(got.payload), got.address, got.tos, got.ttl) == (b"question", CLIENT, 0x20, 9)
    assert (got.pktinfo, got.interface) == (SERVER, 2)
    there.send(d.Datagram(b"", got.address, got.port).header() + b"answer")
    back = message(world, here)
    assert (bytes(back.payload), back.address, back.port) == (b"answer", SERVER, 53)


def test_connected_socket_sends_to_its_peer_and_is_told_of_refusal(
    world: World, server: Client, client: Client
) -> None:
    here = opened(client, 1, *DGRAM)
    local = client.call("connect", 1, [SERVER, 9, 0])
    assert local[0] == CLIENT
    here.send(d.TO_PEER + b"anyone?")
    assert client.event("error") == [1, errno.ECONNREFUSED]
    client.call("connect", 1, None)
    here.send(d.TO_PEER + b"whom?")
    assert client.event("error") == [1, errno.EDESTADDRREQ]


def test_refusal_comes_in_the_error_queue_when_asked_for(world: World, server: Client, client: Client) -> None:
    here = opened(client, 1, *DGRAM)
    client.call("set", 1, socket.IPPROTO_IP, 11, 1)
    here.send(d.Datagram(b"", SERVER, 9).header() + b"anyone?")
    got = message(world, here)
    assert got.flags & d.ERROR_QUEUE
    assert (got.address, got.port) == (SERVER, 9)
    number, origin, kind, code, _, _, _ = d.EXTENDED_ERROR.unpack_from(got.payload)
    assert (number, origin, kind, code) == (errno.ECONNREFUSED, 2, 3, 3)
    assert bytes(got.payload[16:20]) == SERVER
    assert bytes(got.payload[d.ERROR_BYTES :]) == b"anyone?"


def test_large_datagram_passes_and_a_longer_one_is_an_error(world: World, server: Client, client: Client) -> None:
    there = opened(server, 1, *DGRAM)
    server.call("bind", 1, address("0.0.0.0", 53))
    here = opened(client, 1, *DGRAM)
    data = bytes(range(256)) * 255
    here.send(d.Datagram(b"", SERVER, 53).header() + data)
    assert bytes(message(world, there).payload) == data
    here.send(d.Datagram(b"", SERVER, 53).header() + bytes(65530))
    assert client.event("error") == [1, errno.EMSGSIZE]


def test_reader_that_does_not_read_loses_datagrams_and_nothing_else(
    world: World, server: Client, client: Client
) -> None:
    there = opened(server, 1, *DGRAM)
    server.call("bind", 1, address("0.0.0.0", 53))
    here = opened(client, 1, *DGRAM)
    for number in range(3000):
        here.send(d.Datagram(b"", SERVER, 53).header() + struct.pack("!I", number) + bytes(1000))
        world.turn(2)
    assert world.router.loop._timeout() != 0, "the loop would spin"
    got = []
    quiet = 0
    while quiet < 5:
        try:
            got.append(struct.unpack_from("!I", there.recv(2000), d.HEADER_BYTES)[0])
            quiet = 0
        except BlockingIOError:
            world.turn(3)
            quiet += 1
    assert 100 < len(got) < 3000
    assert got == list(range(len(got)))
    assert server.call("sockets")[0]["receive_queue"] == 0


def test_dual_socket_speaks_both_versions(world: World, server: Client, client: Client) -> None:
    there = opened(server, 1, socket.AF_INET6, socket.SOCK_DGRAM)
    server.call("bind", 1, address("::", 53))
    here = opened(client, 1, socket.AF_INET6, socket.SOCK_DGRAM)
    for host in (SERVER, socket.inet_pton(socket.AF_INET6, "fd00:2::1")):
        here.send(d.Datagram(b"", host, 53).header() + b"hello")
        got = message(world, there)
        assert len(got.address) == len(host)
        assert got.version == (4 if len(host) == 4 else 6)


def test_multicast_reaches_members(world: World, server: Client, client: Client) -> None:
    group = bytes((239, 1, 2, 3))
    there = opened(server, 1, *DGRAM)
    server.call("bind", 1, address("0.0.0.0", 5000))
    server.call("set", 1, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + bytes(4) + struct.pack("=i", 2))
    here = opened(client, 1, *DGRAM)
    here.send(d.Datagram(b"", group, 5000).header() + b"to all")
    got = message(world, there)
    assert got.flags & d.MULTICAST
    assert got.pktinfo == group


def test_ping_and_raw_sockets_reach_the_gateway(world: World, client: Client) -> None:
    gateway = bytes((10, 0, 2, 2))
    here = opened(client, 1, socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    here.send(d.Datagram(b"", gateway).header() + b"\x08\0\0\0\0\0\0\x05payload")
    assert bytes(message(world, here).payload[8:]) == b"payload"
    raw = opened(client, 2, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    here.send(d.Datagram(b"", gateway).header() + b"\x08\0\0\0\0\0\0\x06payload")
    got = message(world, raw)
    assert got.payload[0] >> 4 == 4
    assert got.address == gateway


def test_packet_socket_sees_and_sends_frames(world: World, server: Client, client: Client) -> None:
    tap = opened(server, 1, socket.AF_PACKET, socket.SOCK_RAW, 3)
    here = opened(client, 1, *DGRAM)
    here.send(d.Datagram(b"", SERVER, 9).header() + b"look")
    kinds: set[tuple[int, int]] = set()
    while not kinds >= {(0x0800, 0), (0x0806, 1)}:  # IPv6 has frames of its own meanwhile
        got = message(world, tap)
        assert got.version == d.PACKET
        protocol, hatype, kind, length, link = d.LINK_TAIL.unpack(got.address)
        assert (hatype, length, got.scope) == (1, 6, 2)
        kinds.add((protocol, kind))
    frame = b"\xff" * 6 + bytes(6) + b"\x88\xb5" + b"hello"
    listener = opened(client, 2, socket.AF_PACKET, socket.SOCK_DGRAM, 0x88B5)
    tap.send(d.Datagram(b"", scope=2).header() + frame)
    assert bytes(message(world, listener).payload) == b"hello"


def test_close_sends_what_was_written_before(world: World, server: Client, client: Client) -> None:
    there = opened(server, 1, *DGRAM)
    server.call("bind", 1, address("0.0.0.0", 53))
    here = opened(client, 1, *DGRAM)
    here.send(d.Datagram(b"", SERVER, 53).header() + b"last")
    client.notify("close", 1)
    here.close()
    assert bytes(message(world, there).payload) == b"last"
    assert client.event("gone") == [1]


def test_message_without_a_header_ends_the_conversation(world: World, client: Client) -> None:
    here = opened(client, 1, *DGRAM)
    here.send(b"short")
    world.turn(5)
    client.read()
    assert client.ended


def test_stream_methods_are_refused(world: World, client: Client) -> None:
    opened(client, 1, *DGRAM)
    for method, params in (("listen", (1, 5)), ("taken", (1, 1)), ("urgent", (1, 1, 0))):
        with pytest.raises(Refused) as refused:
            client.call(method, *params)
        assert refused.value.errno == errno.EOPNOTSUPP

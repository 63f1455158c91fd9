"""Raw, ping and packet sockets, and 802.1Q interfaces."""

from __future__ import annotations

import errno

import pytest

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.network.interface import VLAN, Interface
from services.netstackd.sockets import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    PacketSocket,
    PingSocket,
    RawSocket,
    get_option,
    open_socket,
    set_option,
)
from services.netstackd.storage.packet import Packet
from services.netstackd.wire import ethernet, icmpv4, icmpv6, ipv4
from services.netstackd.wire.checksum import verify
from services.netstackd.wire.numbers import ETHERTYPE_IPV4
from tests.netstack.unit.hosts import Host, Pair, default, ip, received

A, B = ip("10.0.0.1"), ip("10.0.0.2")
A6, B6 = ip("fd00::1"), ip("fd00::2")


def ready() -> Pair:
    pair = Pair()
    pair.run(12)
    pair.world.frames.clear()
    return pair


def raw(host: Host, family: int, protocol: int) -> RawSocket:
    socket = open_socket(host.stack, family, SOCK_RAW, protocol)
    assert isinstance(socket, RawSocket)
    return socket


def test_raw_ipv4_sees_the_header_and_sends_without_one() -> None:
    pair = ready()
    one, two = raw(pair.a, AF_INET, 253), raw(pair.b, AF_INET, 253)
    one.send(b"payload", (B, 0, 0))
    pair.settle()
    message = two.receive()
    assert message.data[20:] == b"payload" and message.data[9] == 253 and verify(message.data[:20])
    assert message.address == (A, 0, 0)
    assert pair.b.count("IpInUnknownProtos") == 0  # a raw socket took it
    assert not list(pair.world.sent(pair.b, ETHERTYPE_IPV4))


def test_raw_header_included_is_completed() -> None:
    pair = ready()
    sender, receiver = raw(pair.a, AF_INET, 255), raw(pair.b, AF_INET, 254)
    header = bytearray(ipv4.header(0, B, 254, 0, ttl=9))
    header[2:4] = header[10:12] = b"\0\0"
    sender.send(bytes(header) + b"data", (B, 0, 0))
    pair.settle()
    data = receiver.receive().data
    assert verify(data[:20]) and data[12:16] == A.to_bytes(4, "big") and data[2:4] == b"\0\x18"
    assert data[4:6] != b"\0\0" and data[8] == 9
    for wrong in (b"\x45" + bytes(10), b"\x60" + bytes(30), b"\x4f" + bytes(30)):
        with pytest.raises(NetError) as refused:
            sender.send(wrong, (B, 0, 0))
        assert refused.value.errno == errno.EINVAL
    with pytest.raises(NetError) as long:
        sender.send(bytes(header) + bytes(1481), (B, 0, 0))
    assert long.value.errno == errno.EMSGSIZE


def test_raw_icmp_filter_hides_types() -> None:
    pair = ready()
    socket = raw(pair.b, AF_INET, 1)
    set_option(socket, 255, 1, (1 << 8).to_bytes(4, "little"))  # not echo requests
    ping = open_socket(pair.a.stack, AF_INET, SOCK_DGRAM, 1)
    assert isinstance(ping, PingSocket)
    ping.send(icmpv4.echo(8, 0, 1, b"x"), (B, 0, 0))
    pair.settle()
    with pytest.raises(WouldBlock):
        socket.receive()
    assert get_option(socket, 255, 1) == (1 << 8).to_bytes(4, "little")
    set_option(socket, 255, 1, bytes(4))
    ping.send(icmpv4.echo(8, 0, 2, b"x"), (B, 0, 0))
    pair.settle()
    assert socket.receive().data[20] == 8
    assert len(ping.queue) == 2  # and the stack answered all the same


def test_raw_icmpv6_has_its_checksum_made_and_header_hidden() -> None:
    pair = ready()
    one, two = raw(pair.a, AF_INET6, 58), raw(pair.b, AF_INET6, 58)
    set_option(two, 58, 1, ((1 << 256) - 1 ^ 1 << 128).to_bytes(32, "little"))
    one.send(bytes((128, 0, 0, 0, 0, 5, 0, 6)) + b"data", (B6, 0, 0))
    pair.settle()
    data = two.receive().data
    assert data[:2] == bytes((128, 0)) and data[2:4] != b"\0\0"
    assert pair.b.count("Icmp6InCsumErrors") == 0


def test_raw_ipv6_checksum_option_verifies_what_comes() -> None:
    pair = ready()
    one, two = raw(pair.a, AF_INET6, 253), raw(pair.b, AF_INET6, 253)
    set_option(one, 41, 7, 2)
    set_option(two, 41, 7, 2)
    one.send(b"ab\0\0cd", (B6, 0, 0))
    set_option(one, 41, 7, -1)
    one.send(b"ab\0\0cd", (B6, 0, 0))
    pair.settle()
    assert len(two.queue) == 1
    with pytest.raises(NetError):
        set_option(one, 41, 7, 2)
        one.send(b"a", (B6, 0, 0))


def test_raw_bound_and_connected_take_their_own_alone() -> None:
    pair = ready()
    pair.b.address(pair.ib, "10.0.0.22/24")
    bound, connected, closed = (raw(pair.b, AF_INET, 253) for _ in range(3))
    bound.bind((ip("10.0.0.22"), 0, 0))
    connected.connect((ip("10.0.0.9"), 0, 0))
    closed.close()
    raw(pair.a, AF_INET, 253).send(b"x", (B, 0, 0))
    pair.settle()
    assert not bound.queue and not connected.queue
    assert pair.b.count("IpInUnknownProtos") == 1  # nobody took it after all


@pytest.mark.parametrize(("family", "to", "kind"), [(AF_INET, B, 8), (AF_INET6, B6, 128)], ids=["v4", "v6"])
def test_ping_socket_fills_in_its_identifier_and_takes_its_own_replies(family: int, to: int, kind: int) -> None:
    pair = ready()
    protocol = 1 if family == AF_INET else 58
    sockets = [open_socket(pair.a.stack, family, SOCK_DGRAM, protocol) for _ in range(2)]
    for number, socket in enumerate(sockets):
        assert isinstance(socket, PingSocket)
        socket.send(bytes((kind, 0, 0, 0, 9, 9, 0, number)) + b"data", (to, 0, 0))
    pair.settle()
    for number, socket in enumerate(sockets):
        assert isinstance(socket, PingSocket)
        assert len(socket.queue) == 1
        data = socket.receive().data
        assert data[4:6] == socket.local_port.to_bytes(2, "big") and data[6:8] == bytes((0, number))
    first = sockets[0]
    assert isinstance(first, PingSocket)
    for wrong in (bytes((kind, 1)) + bytes(6), bytes(8) + b"\1", b"\x08"):
        with pytest.raises(NetError) as refused:
            first.send(wrong, (to, 0, 0))
        assert refused.value.errno == errno.EINVAL


def test_ping_socket_identifier_in_use_is_refused() -> None:
    pair = ready()
    first, second = (open_socket(pair.a.stack, AF_INET, SOCK_DGRAM, 1) for _ in range(2))
    assert isinstance(first, PingSocket) and isinstance(second, PingSocket)
    first.bind((A, 77, 0))
    with pytest.raises(NetError) as taken:
        second.bind((0, 77, 0))
    assert taken.value.errno == errno.EADDRINUSE
    first.close()
    second.bind((0, 77, 0))


def test_ping_unreachable_host_is_told_in_the_error_queue() -> None:
    pair = ready()
    socket = open_socket(pair.a.stack, AF_INET, SOCK_DGRAM, 1)
    assert isinstance(socket, PingSocket)
    set_option(socket, 0, 11, 1)
    socket.send(icmpv4.echo(8, 0, 1, b"x"), (ip("10.0.0.77"), 0, 0))
    pair.run(4)
    message = socket.receive(flags=0x2000)
    assert message.error is not None and message.error.errno == errno.EHOSTUNREACH
    assert message.data[:2] == b"\x08\0"


def packet_socket(host: Host, kind: int, protocol: int) -> PacketSocket:
    socket = open_socket(host.stack, AF_PACKET, kind, protocol)
    assert isinstance(socket, PacketSocket)
    return socket


def test_packet_socket_for_everything_sees_both_ways() -> None:
    pair = ready()
    socket = packet_socket(pair.b, SOCK_RAW, 3)
    arp_only = packet_socket(pair.b, SOCK_DGRAM, 0x806)
    server = pair.b.udp(4, 7)
    client = pair.a.udp()
    client.send(b"x", (B, 7, 0))
    pair.settle()
    server.send(b"y", server.receive().address)
    pair.settle()
    seen = []
    while socket.poll() & 1:
        frame, (ethertype, index, kind, link), _ = socket.receive()
        seen.append((ethertype, kind, link))
        assert index == pair.ib.index and len(frame) >= 14
    assert (ETHERTYPE_IPV4, 0, pair.ia.mac) in seen and (ETHERTYPE_IPV4, 4, pair.ia.mac) in seen
    assert (0x806, 1, pair.ia.mac) in seen
    frame, (ethertype, _, kind, _), _ = arp_only.receive()
    assert ethertype == 0x806 and len(frame) == 28 and kind == 1
    socket.close()
    arp_only.close()
    assert not pair.b.stack.taps


def test_packet_socket_sends_frames_and_is_bounded() -> None:
    pair = ready()
    sender = packet_socket(pair.a, SOCK_DGRAM, 0x88B5)
    receiver = packet_socket(pair.b, SOCK_RAW, 0x88B5)
    receiver.bind(0, pair.ib)
    assert sender.send(b"hello", pair.ia, link=pair.ib.mac) == 5
    pair.settle()
    frame, address, _ = receiver.receive(16)
    assert frame == pair.ib.mac + pair.ia.mac + b"\x88\xb5" + b"he" and address[2] == 0
    receiver.rcvbuf = 2000
    for _ in range(5):
        sender.send(bytes(400), pair.ia, link=pair.ib.mac)
    pair.settle()
    assert (len(receiver.queue), receiver.drops) == (2, 3)
    for data, iface, number in ((bytes(1501), pair.ia, errno.EMSGSIZE), (b"x", None, errno.ENXIO)):
        with pytest.raises(NetError) as refused:
            sender.send(data, iface)
        assert refused.value.errno == number


@pytest.mark.parametrize(
    ("family", "kind", "protocol", "number"),
    [
        (99, SOCK_DGRAM, 0, errno.EAFNOSUPPORT),
        (AF_INET, SOCK_STREAM, 17, errno.EPROTONOSUPPORT),
        (AF_INET, SOCK_DGRAM, 6, errno.EPROTONOSUPPORT),
        (AF_INET, SOCK_RAW, 0, errno.EPROTONOSUPPORT),
        (AF_INET, 9, 0, errno.ESOCKTNOSUPPORT),
        (AF_PACKET, SOCK_STREAM, 0, errno.ESOCKTNOSUPPORT),
    ],
)
def test_socket_of_a_kind_that_is_not_there(family: int, kind: int, protocol: int, number: int) -> None:
    with pytest.raises(NetError) as refused:
        open_socket(ready().a.stack, family, kind, protocol)
    assert refused.value.errno == number


def vlan(host: Host, parent: Interface, number: int, address: str) -> Interface:
    iface = Interface(f"{parent.name}.{number}", VLAN, parent.mac, parent.mtu)
    iface.parent = parent
    iface.vlan_id = number
    host.stack.add_interface(iface)
    return host.up(iface, address)


def test_vlan_interfaces_speak_to_each_other_in_tagged_frames_alone() -> None:
    pair = ready()
    va = vlan(pair.a, pair.ia, 5, "10.5.0.1/24")
    vb = vlan(pair.b, pair.ib, 5, "10.5.0.2/24")
    vlan(pair.b, pair.ib, 6, "10.6.0.2/24")
    pair.run(3)
    pair.world.frames.clear()
    server = pair.b.udp(4, 7)
    client = pair.a.udp()
    client.send(b"x", (ip("10.5.0.2"), 7, 0))
    pair.settle()
    message = server.receive()
    assert message.packet is not None and message.packet.iface is vb
    assert all(f.data[12:16] == b"\x81\0\0\x05" for f in pair.world.frames)
    assert va.device is pair.ia and vb.rx_packets > 0
    with pytest.raises(NetError):
        vlan(pair.a, pair.ia, 5, "10.5.0.9/24")
    pair.b.stack.remove_interface(vb)
    client.send(b"y", (ip("10.5.0.2"), 7, 0))
    pair.settle()
    assert received(server) == [] and pair.b.count("DropEthernetUnknownVlan") > 0


def test_vlan_priority_tag_is_taken_off() -> None:
    pair = ready()
    echo = icmpv4.echo(8, 1, 1, b"x")
    packet = ipv4.header(A, B, 1, len(echo)) + echo
    frame = ethernet.header(pair.ib.mac, pair.ia.mac, ETHERTYPE_IPV4, tag=0xE000) + packet
    pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
    assert pair.b.count("IcmpInEchos") == 1


def test_vlan_forwarded_packet_gets_room_for_its_tag() -> None:
    pair = ready()
    third = pair.world.host("c")
    trunk = pair.b.interface("trunk")
    end = third.up(third.interface())
    pair.b.up(trunk)
    pair.world.join((pair.b, trunk), (third, end))
    vlan(pair.b, trunk, 9, "10.9.0.1/24")
    vlan(third, end, 9, "10.9.0.2/24")
    pair.b.stack.configure(pair.ib, forwarding4=1)
    default(pair.a, pair.ia, "10.0.0.2")
    far = third.stack.interface("eth0.9")
    assert far is not None
    default(third, far, "10.9.0.1")
    pair.run(3)
    server = third.udp(4, 7)
    pair.a.udp().send(b"x", (ip("10.9.0.2"), 7, 0))
    pair.run(0.1)
    assert received(server) == [b"x"]


def test_icmpv6_echo_built_has_the_pseudo_header_in_its_checksum() -> None:
    message = icmpv6.echo(A6, B6, 128, 1, 2, b"x")
    assert (A6 + B6 + 58 + len(message) + int.from_bytes(message + b"\0", "big")) % 65535 == 0

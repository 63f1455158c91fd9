"""The internet layer, UDP and ICMP against the kernel's: both directions, both versions."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from services.netstackd.errors import NetError
from services.netstackd.network import neighbours as nud
from services.netstackd.network.routes import NextHop, Route
from services.netstackd.sockets import (
    AF_INET,
    AF_INET6,
    SOCK_DGRAM,
    PingSocket,
    UdpSocket,
    open_socket,
    set_option,
)
from tests.netstack.kernel_interop.kernel import FAMILY, OURS, THEIRS, Kernel, connected, exchange, ip

VERSIONS = (4, 6)
SIZES = (0, 1, 1400, 1472, 1473, 8000, 65000)


def udp(kernel: Kernel, version: int, port: int = 0) -> UdpSocket:
    made = open_socket(kernel.stack, FAMILY[version], SOCK_DGRAM)
    assert isinstance(made, UdpSocket)
    if port:
        made.bind((0, port, 0))
    return made


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [56, 1472, 3000, 60000])
def test_kernel_pings_us(kernel: Kernel, version: int, size: int) -> None:
    out = kernel.talk("ping", f"-{version}", "-c", "3", "-i", "0.25", "-W", "5", "-s", str(size), OURS[version])
    assert "3 received" in out and "0% packet loss" in out


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [0, 1464, 5000, 60000])
def test_we_ping_the_kernel(kernel: Kernel, version: int, size: int) -> None:
    made = open_socket(kernel.stack, FAMILY[version], SOCK_DGRAM, 1 if version == 4 else 58)
    assert isinstance(made, PingSocket)
    data = os.urandom(size)
    made.send(bytes((8 if version == 4 else 128, 0, 0, 0, 0, 0, 0, 1)) + data, (ip(THEIRS[version]), 0, 0))
    message = kernel.take(made.receive)
    assert message.data[8:] == data and message.address == (ip(THEIRS[version]), 0, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_datagrams_of_every_size_pass_both_ways(kernel: Kernel, version: int) -> None:
    ours = udp(kernel, version, 5000)
    theirs = kernel.socket(FAMILY[version], socket.SOCK_DGRAM)
    theirs.bind((THEIRS[version], 6000))
    for size in SIZES:
        data = os.urandom(size)
        ours.send(data, (ip(THEIRS[version]), 6000, 0))
        assert kernel.take(lambda: theirs.recvfrom(70000))[0] == data
        theirs.sendto(data[::-1], (OURS[version], 5000))
        message = kernel.take(ours.receive)
        assert message.data == data[::-1] and message.address == (ip(THEIRS[version]), 6000, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_neighbours_are_known_to_both_and_stay_reachable(plain: Kernel, version: int) -> None:
    plain.talk("ping", f"-{version}", "-c", "1", OURS[version])
    neighbours = plain.stack.neighbours4 if version == 4 else plain.stack.neighbours6
    shown = plain.run("ip", "neigh", "show", OURS[version], "dev", "tap0")
    assert plain.iface.mac.hex(":") in shown and "FAILED" not in shown
    found = neighbours.find(plain.iface, ip(THEIRS[version]))
    assert found is not None
    mac = plain.run("cat", "/sys/class/net/tap0/address").strip()
    assert found.link.hex(":") == mac
    udp(plain, version).send(b"x", (ip(THEIRS[version]), 9, 0))
    plain.until(lambda: found.state in (nud.REACHABLE, nud.PROBE, nud.DELAY))
    plain.until(lambda: found.state == nud.REACHABLE)  # the kernel answered the probe


@pytest.mark.parametrize("version", VERSIONS)
def test_port_unreachable_reaches_the_sender_on_both_sides(plain: Kernel, version: int) -> None:
    ours = udp(plain, version)
    ours.connect((ip(THEIRS[version]), 9, 0))
    ours.send(b"anybody?")
    plain.until(lambda: ours.error != 0)
    with pytest.raises(NetError) as refused:
        ours.receive()
    assert refused.value.errno == errno.ECONNREFUSED
    theirs = plain.socket(FAMILY[version], socket.SOCK_DGRAM)
    theirs.connect((OURS[version], 9))
    theirs.send(b"anybody?")

    def told() -> bool:
        try:
            theirs.recv(1)
        except BlockingIOError:
            return False
        except ConnectionRefusedError:
            return True
        return False

    plain.until(told)


def behind(kernel: Kernel) -> None:
    """A network behind the kernel, of a smaller MTU: 10.8.0.0/24 and fd08::/64."""
    kernel.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    kernel.run("ip", "link", "add", "far", "type", "veth", "peer", "name", "farther")
    for end in ("far", "farther"):
        kernel.run("ip", "link", "set", end, "mtu", "1300", "up")
    kernel.run("ip", "addr", "add", "10.8.0.1/24", "dev", "far")
    kernel.run("ip", "addr", "add", "fd08::1/64", "dev", "far", "nodad")
    kernel.run("ip", "neigh", "add", "10.8.0.9", "lladdr", "02:00:00:00:00:09", "dev", "far")
    kernel.run("ip", "neigh", "add", "fd08::9", "lladdr", "02:00:00:00:00:09", "dev", "far")
    for version, prefix, length in ((4, "10.8.0.0", 24), (6, "fd08::", 64)):
        kernel.stack.add_route(Route(version, ip(prefix), length, (NextHop(kernel.iface, ip(THEIRS[version])),)))


FAR = {4: "10.8.0.9", 6: "fd08::9"}


@pytest.mark.parametrize("version", VERSIONS)
def test_kernel_router_teaches_us_the_path_mtu(plain: Kernel, version: int) -> None:
    behind(plain)
    ours = udp(plain, version)
    ours.connect((ip(FAR[version]), 7, 0))
    ours.pmtu_discover, ours.dont_fragment6 = 2, True
    ours.send(bytes(1400))
    plain.until(lambda: plain.stack.routing(version).output(ip(FAR[version])).mtu == 1300)
    assert ours.take_error() == errno.EMSGSIZE


@pytest.mark.parametrize("version", VERSIONS)
def test_kernel_router_says_that_the_time_is_over(plain: Kernel, version: int) -> None:
    behind(plain)
    ours = udp(plain, version)
    set_option(ours, *((0, 11) if version == 4 else (41, 25)), 1)
    ours.send(b"x", (ip(FAR[version]), 7, 0), ttl=1)
    plain.until(lambda: bool(ours.errors))
    error = ours.receive(flags=0x2000).error
    assert error is not None and error.errno == errno.EHOSTUNREACH
    assert (error.type, error.code) == ((11, 0) if version == 4 else (3, 0))
    assert error.offender == ip(THEIRS[version])


def second(kernel: Kernel) -> None:
    """We are a router to 10.9.0.0/24 and fd09::/64, on a link of MTU 1300."""
    kernel.stack.configure(kernel.iface, forwarding4=True, forwarding6=True)
    out = kernel.attach("tap1", 2, True)
    kernel.stack.set_mtu(out, 1300)
    kernel.address(out, 4, "10.9.0.1", 24)
    kernel.address(out, 6, "fd09::1", 64)
    kernel.stack.neighbours4.set_permanent(out, ip("10.9.0.9"), b"\2\0\0\0\0\x09")
    kernel.stack.neighbours6.set_permanent(out, ip("fd09::9"), b"\2\0\0\0\0\x09")
    kernel.run("ip", "route", "add", "10.9.0.0/24", "via", OURS[4])
    kernel.run("ip", "-6", "route", "add", "fd09::/64", "via", OURS[6])


@pytest.mark.parametrize("version", VERSIONS)
def test_we_teach_the_kernel_the_path_mtu(plain: Kernel, version: int) -> None:
    second(plain)
    theirs = plain.socket(FAMILY[version], socket.SOCK_DGRAM)
    level, discover, mtu = (0, 10, 14) if version == 4 else (41, 23, 24)
    theirs.setsockopt(level, discover, 2)
    theirs.connect(("10.9.0.9" if version == 4 else "fd09::9", 7))
    theirs.send(bytes(1400))

    def learned() -> bool:
        try:
            theirs.recv(1)
        except OSError:
            pass
        return theirs.getsockopt(level, mtu) == 1300

    plain.until(learned)


@pytest.mark.parametrize("version", VERSIONS)
def test_we_tell_the_kernel_that_the_time_is_over_or_nobody_is_there(plain: Kernel, version: int) -> None:
    second(plain)
    for target, ttl, number, kind in (
        ("10.9.0.9" if version == 4 else "fd09::9", 1, errno.EHOSTUNREACH, (11, 0) if version == 4 else (3, 0)),
        ("10.9.0.77" if version == 4 else "fd09::77", 9, errno.EHOSTUNREACH, (3, 1) if version == 4 else (1, 3)),
    ):
        theirs = plain.socket(FAMILY[version], socket.SOCK_DGRAM)
        level, hops, receive_errors = (0, 2, 11) if version == 4 else (41, 16, 25)
        theirs.setsockopt(level, hops, ttl)
        theirs.setsockopt(level, receive_errors, 1)
        theirs.sendto(b"x", (target, 7))
        _, control, _, _ = plain.take(lambda made=theirs: made.recvmsg(512, 512, socket.MSG_ERRQUEUE))
        code, origin, icmp_type, icmp_code = struct.unpack_from("=IBBB", control[0][2])
        assert (code, origin, (icmp_type, icmp_code)) == (number, 2 if version == 4 else 3, kind)


def test_we_give_up_an_ipv6_address_that_the_kernel_has(plain: Kernel) -> None:
    plain.run("ip", "addr", "add", "fd07::55/64", "dev", "tap0")
    plain.address(plain.iface, 6, "fd07::55", 64, detect=True)
    entry = plain.stack.addresses.on_interface(plain.iface, 6, ip("fd07::55"))
    assert entry is not None
    plain.until(lambda: entry.dad_failed)


def test_the_kernel_gives_up_an_ipv6_address_that_we_have(plain: Kernel) -> None:
    plain.run("sysctl", "-qw", "net.ipv6.conf.tap0.accept_dad=1", "net.ipv6.conf.tap0.dad_transmits=1")
    plain.run("ip", "addr", "add", "fd07::1/64", "dev", "tap0")
    plain.until(lambda: "dadfailed" in plain.run("ip", "-6", "addr", "show", "dev", "tap0"))


def test_we_give_up_an_ipv4_address_that_the_kernel_has(plain: Kernel) -> None:
    plain.address(plain.iface, 4, "10.7.0.2", 24, detect=True)
    entry = plain.stack.addresses.on_interface(plain.iface, 4, ip("10.7.0.2"))
    assert entry is not None
    plain.until(lambda: entry.dad_failed)


@pytest.mark.parametrize("version", VERSIONS)
def test_multicast_passes_both_ways(plain: Kernel, version: int) -> None:
    group = "239.7.7.7" if version == 4 else "ff05::777"
    ours = udp(plain, version, 5000)
    set_option(ours, *((0, 35) if version == 4 else (41, 20)), (ip(group), plain.iface.index))
    ours.multicast_device = plain.iface
    theirs = plain.socket(FAMILY[version], socket.SOCK_DGRAM)
    theirs.bind(("", 6000))
    index = int(plain.run("cat", "/sys/class/net/tap0/ifindex"))
    if version == 4:
        mreq = socket.inet_aton(group) + socket.inet_aton(THEIRS[4]) + struct.pack("=i", index)
        theirs.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq)
        theirs.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreq)
    else:
        joined = socket.inet_pton(AF_INET6, group) + struct.pack("=i", index)
        theirs.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
        theirs.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    ours.send(b"from us", (ip(group), 6000, 0))
    assert plain.take(lambda: theirs.recv(100)) == b"from us"
    theirs.sendto(b"from the kernel", (group, 5000))
    assert plain.take(ours.receive).data == b"from the kernel"


def test_broadcast_passes_both_ways(plain: Kernel) -> None:
    ours = udp(plain, 4, 5000)
    ours.broadcast = True
    theirs = plain.socket(AF_INET, socket.SOCK_DGRAM)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    theirs.bind(("", 6000))
    ours.send(b"from us", (ip("10.7.0.255"), 6000, 0))
    assert plain.take(lambda: theirs.recv(100)) == b"from us"
    theirs.sendto(b"from the kernel", ("10.7.0.255", 5000))
    assert plain.take(ours.receive).data == b"from the kernel"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("we_connect", [True, False], ids=["out", "in"])
def test_tcp_passes_every_byte_both_ways(kernel: Kernel, version: int, we_connect: bool) -> None:
    ours, theirs = connected(kernel, version, we_connect)
    with theirs:
        exchange(kernel, ours, theirs, 1 << 20)

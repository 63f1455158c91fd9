"""The network behind the socket service as programs see and change it: routes, netlink, ioctls, /proc/net."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.abi import ioctl_h as io
from protocol.abi import netlink_h as nl
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.errors import ProtocolViolation
from services.sentry.errors import LinuxError
from services.sentry.filesystems.proc import net as devices
from services.sentry.filesystems.proc.net import inet as proc
from services.sentry.filesystems.registry import make_superblock
from services.sentry.sockets.inet.netstack.routing import Network
from services.sentry.sockets.netlink.messages import attribute, attributes_untrusted
from services.sentry.syscalls import fcntl_ioctl as fi
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.sockets.fake_service import GATEWAY, MAC, OWN, OWN6, PEER, FarGuest, snapshot

LINK_LOCAL = bytes.fromhex("fe80") + bytes(13)


def test_a_sandbox_without_a_network_imports_nothing_of_it(tmp_path: Path) -> None:
    names = "[name for name in sys.modules if 'netstack' in name or name.endswith(('inet.raw', 'packet.endpoint'))]"
    script = (
        f"import sys, services.sentry.app; from services.sentry.syscalls import table; table.build(); print({names})"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout == "[]\n"


# --- routes ---
def route(destination: bytes, length: int, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "gateway": None, "interface": 2, "metric": 0, "table": 254, "source": None, "type": 1, "scope": 0,
    }  # fmt: skip
    return values | {"protocol": 3} | {"destination": destination, "length": length} | more


def network(*routes: dict[str, Any]) -> Network:
    return Network.from_snapshot_untrusted(snapshot(routes=list(routes)))


def test_the_longest_prefix_wins_then_the_lowest_metric() -> None:
    ten = bytes((10, 0, 0, 0))
    view = network(
        route(bytes(4), 0, gateway=bytes((10, 0, 2, 1))),
        route(ten, 8, gateway=bytes((10, 0, 2, 8)), metric=5),
        route(ten, 8, gateway=bytes((10, 0, 2, 9)), metric=4),
        route(bytes((10, 7, 128, 0)), 17, gateway=bytes((10, 0, 2, 17))),
        route(bytes((10, 7, 255, 0)), 24, gateway=bytes((10, 0, 2, 99)), table=100),
    )

    def gateway(*address: int) -> int:
        hop = view.hop(bytes(address), 0)
        assert hop is not None and hop.source == OWN
        return hop.gateway[3]

    assert [gateway(8, 8, 8, 8), gateway(10, 1, 1, 1), gateway(10, 7, 127, 1), gateway(10, 7, 255, 1)] == [1, 9, 9, 17]


@pytest.mark.parametrize(("kind", "error"), [(6, errno.EINVAL), (7, errno.EHOSTUNREACH), (8, errno.EACCES)])
def test_routes_that_refuse_say_so(kind: int, error: int) -> None:
    view = network(route(bytes(4), 0, gateway=GATEWAY), route(PEER, 32, type=kind, interface=0))
    with pytest.raises(LinuxError) as caught:
        view.hop(PEER, 0)
    assert caught.value.errno == error


def test_source_addresses_follow_the_route_the_link_and_the_scope() -> None:
    view = network(
        route(bytes(4), 0, gateway=GATEWAY, source=bytes((10, 0, 2, 77))),
        route(OWN6[:8] + bytes(8), 64),
        route(bytes(16), 0, gateway=LINK_LOCAL + b"\1"),
    )
    assert [view.hop(each, 0).source for each in (PEER, OWN6[:15] + b"\x63")] == [bytes((10, 0, 2, 77)), OWN6]
    assert view.hop(LINK_LOCAL + b"\x63", 2).source == LINK_LOCAL + b"\x15"
    assert view.hop(bytes.fromhex("20010db8") + bytes(12), 0).source == OWN6
    assert view.hop(PEER, 3) is None
    assert network().hop(PEER, 0) is None
    assert network().hop(PEER, 2).interface.name == b"eth0"  # bound to the device: on its link


@pytest.mark.parametrize("wrong", [None, [], {}, {"interfaces": [1]}, snapshot(routes=[{}]), snapshot(servers=[b"x"])])
def test_snapshots_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(ProtocolViolation):
        Network.from_snapshot_untrusted(wrong)


# --- netlink ---
class Netlink(FarGuest):
    """A guest with a NETLINK_ROUTE socket."""

    def __init__(self) -> None:
        super().__init__()
        self.fd = self.socket(so.SOCK_RAW, domain=so.AF_NETLINK)

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[tuple[int, bytes]]:
        """The messages that answer: (type, body)."""
        raw = nl.NLMSGHDR.pack(16 + len(body), kind, nl.NLM_F_REQUEST | flags, 1, 0) + body
        assert self.send(self.fd, raw) == len(raw)
        return self.told()

    def told(self) -> list[tuple[int, bytes]]:
        found = []
        while isinstance(got := self.receive(self.fd, 65_000, so.MSG_DONTWAIT), bytes):
            at = 0
            while at + 16 <= len(got):
                length, kind, *_ = nl.NLMSGHDR.unpack_from(got, at)
                found.append((kind, got[at + 16 : at + length]))
                at += (length + 3) & ~3
        return found

    def dump(self, kind: int, body: bytes = bytes(16)) -> list[bytes]:
        return [body for kind, body in self.ask(kind, body, nl.NLM_F_DUMP) if kind != nl.NLMSG_DONE]

    def change(self, kind: int, body: bytes, flags: int = 0) -> int:
        """The errno of the acknowledgement."""
        ((answer, raw),) = self.ask(kind, body, flags | nl.NLM_F_ACK)
        assert answer == nl.NLMSG_ERROR
        return -struct.unpack_from("<i", raw)[0]

    def configured(self) -> list[tuple[str, dict[str, Any]]]:
        return [tuple(call[1]) for call in self.service.asked("configure")]


def test_links_addresses_and_routes_are_those_of_the_service() -> None:
    guest = Netlink()
    links = {rt.IFINFOMSG.unpack_from(body)[2]: attributes_untrusted(body[16:]) for body in guest.dump(rt.RTM_GETLINK)}
    assert links[1][rt.IFLA_IFNAME] == b"lo\0" and links[2][rt.IFLA_IFNAME] == b"eth0\0"
    assert links[2][rt.IFLA_ADDRESS] == MAC and links[2][rt.IFLA_OPERSTATE] == b"\6"
    own = [attributes_untrusted(body[8:]) for body in guest.dump(rt.RTM_GETADDR)]
    assert [each[rt.IFA_ADDRESS] for each in own if rt.IFA_BROADCAST in each] == [OWN]
    routes = [
        (body[1], attributes_untrusted(body[12:])) for body in guest.dump(rt.RTM_GETROUTE, bytes((2,)) + bytes(11))
    ]
    main = [(length, each) for length, each in routes if each[rt.RTA_TABLE] == struct.pack("<I", 254)]
    assert [(length, each.get(rt.RTA_GATEWAY), each[rt.RTA_OIF][0]) for length, each in main] == [
        (0, GATEWAY, 2),
        (24, None, 2),
    ]
    assert {each[rt.RTA_DST] for length, each in routes if each[rt.RTA_TABLE][0] == 255} >= {
        OWN,
        bytes((10, 0, 2, 255)),
    }


def test_route_get_names_gateway_interface_and_source() -> None:
    guest = Netlink()
    body = rt.RTMSG.pack(so.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0) + attribute(rt.RTA_DST, PEER)
    ((_, raw),) = guest.ask(rt.RTM_GETROUTE, body)
    found = attributes_untrusted(raw[12:])
    assert (found[rt.RTA_GATEWAY], found[rt.RTA_PREFSRC], found[rt.RTA_OIF][0]) == (GATEWAY, OWN, 2)


def test_neighbours_are_asked_for() -> None:
    guest = Netlink()
    guest.service.answers["neighbours"] = [[2, GATEWAY, b"\2\0\0\0\0\2", 2], ["nonsense"], [2, PEER, b"", 0x20]]
    found = [(body[8], attributes_untrusted(body[12:])) for body in guest.dump(rt.RTM_GETNEIGH)]
    assert found == [(2, {1: GATEWAY, 2: b"\2\0\0\0\0\2"}), (0x20, {1: PEER})]
    assert proc.FILES[b"arp"](guest.task).splitlines()[1:] == [
        b"10.0.2.2         0x1         0x2         02:00:00:00:00:02     *        eth0",
        b"93.184.216.34    0x1         0x0         00:00:00:00:00:00     *        eth0",
    ]


def test_counters_are_asked_for() -> None:
    guest = Netlink()
    guest.service.answers["counters"] = [[2, 1 << 33, 2, 3, 4, 5, 6, 7, 8], [2], ["nonsense"] * 9, 7]
    links = {rt.IFINFOMSG.unpack_from(body)[2]: attributes_untrusted(body[16:]) for body in guest.dump(rt.RTM_GETLINK)}
    assert struct.unpack("<25Q", links[2][rt.IFLA_STATS64])[:9] == (2, 6, 1 << 33, 5, 3, 7, 4, 8, 0)
    assert struct.unpack("<24I", links[2][rt.IFLA_STATS])[:8] == (2, 6, 0, 5, 3, 7, 4, 8)
    assert not any(links[1][rt.IFLA_STATS64])
    eth0 = devices.FILES[b"dev"](guest.task).splitlines()[3].split()
    assert eth0[:5] + eth0[9:13] == [b"eth0:", b"%d" % (1 << 33), b"2", b"3", b"4", b"5", b"6", b"7", b"8"]


def test_sysfs_shows_the_interfaces_there_are_now() -> None:
    guest = Netlink()
    guest.service.answers["counters"] = [[2, 11, 12, 13, 14, 15, 16, 17, 18]]
    top = make_superblock(guest.kernel, b"sysfs", b"sysfs", 0, b"").root.inode
    assert top is not None

    def find(path: bytes) -> Any:
        node = top
        for name in path.split(b"/"):
            node = node.lookup(name)
        return node

    def text(name: bytes) -> Any:
        return find(b"devices/virtual/net/eth0/" + name).text(guest.task)

    def names(path: bytes) -> list[bytes]:
        return [entry[0] for _, entry in find(path).entries(0)]

    assert names(b"class/net") == names(b"devices/virtual/net") == [b"lo", b"eth0"]
    assert find(b"class/net/eth0").readlink() == b"../../devices/virtual/net/eth0"
    assert (text(b"address"), text(b"mtu"), text(b"flags")) == (MAC.hex(":").encode() + b"\n", b"1500\n", b"0x1003\n")
    assert (text(b"statistics/rx_packets"), text(b"statistics/tx_dropped")) == (b"12\n", b"18\n")
    mtu = find(b"devices/virtual/net/eth0/mtu")
    guest.service.say("network", snapshot(interfaces=[], routes=[]))
    guest.news()
    assert names(b"class/net") == [b"lo"]
    with pytest.raises(LinuxError) as caught:
        mtu.text(guest.task)
    assert caught.value.errno == errno.EINVAL
    for path in (b"class/net/eth0", b"devices/virtual/net/eth0"):
        with pytest.raises(LinuxError) as caught:
            find(path)
        assert caught.value.errno == errno.ENOENT


def test_changes_go_to_the_service() -> None:
    guest = Netlink()
    new = bytes((10, 0, 2, 99))
    address = attribute(rt.IFA_LOCAL, new) + attribute(rt.IFA_ADDRESS, new)
    message = rt.IFADDRMSG.pack(so.AF_INET, 24, 0, 0, 2) + address
    assert guest.change(rt.RTM_NEWADDR, message) == 0
    assert guest.change(rt.RTM_DELADDR, message) == 0
    to = attribute(rt.RTA_DST, bytes((10, 9))) + attribute(rt.RTA_GATEWAY, GATEWAY)
    to += attribute(rt.RTA_OIF, struct.pack("<I", 2)) + attribute(rt.RTA_PRIORITY, struct.pack("<I", 7))
    head = rt.RTMSG.pack(so.AF_INET, 16, 0, 0, 254, 3, 0, 1, 0)
    assert guest.change(rt.RTM_NEWROUTE, head + to, nl.NLM_F_CREATE | nl.NLM_F_REPLACE) == 0
    assert guest.change(rt.RTM_DELROUTE, head + to) == 0
    link = rt.IFINFOMSG.pack(0, 0, 2, 0, rt.IFF_UP) + attribute(rt.IFLA_MTU, struct.pack("<I", 1400))
    assert guest.change(rt.RTM_NEWLINK, link) == 0
    neighbour = struct.pack("<B3xiHBB", 2, 2, 0x80, 0, 0) + attribute(1, GATEWAY) + attribute(2, MAC)
    assert guest.change(rt.RTM_NEWNEIGH, neighbour) == 0
    routed = {"destination": bytes((10, 9, 0, 0)), "length": 16, "gateway": GATEWAY, "interface": 2, "metric": 7}
    assert guest.configured() == [
        ("address_add", {"interface": 2, "address": new, "length": 24, "scope": 0}),
        ("address_delete", {"interface": 2, "address": new, "length": 24}),
        ("route_add", routed | {"table": 254, "type": 1, "scope": 0, "protocol": 3, "replace": 1}),
        ("route_delete", routed | {"table": 254, "type": 1}),
        ("link_set", {"interface": 2, "up": 0, "mtu": 1400}),
        ("neighbour_set", {"interface": 2, "address": GATEWAY, "mac": MAC, "state": 0x80}),
    ]
    guest.service.refuse["configure"] = errno.EEXIST
    assert guest.change(rt.RTM_NEWADDR, message) == errno.EEXIST


def test_changes_need_the_capability_and_the_loopback_stays() -> None:
    guest = Netlink()
    up = rt.IFINFOMSG.pack(0, 0, 1, rt.IFF_UP, rt.IFF_UP)
    down = rt.IFINFOMSG.pack(0, 0, 1, 0, rt.IFF_UP)
    assert guest.change(rt.RTM_NEWLINK, up) == 0
    assert guest.change(rt.RTM_NEWLINK, down) == errno.EOPNOTSUPP
    assert guest.change(rt.RTM_NEWLINK, rt.IFINFOMSG.pack(0, 0, 9, 0, 0)) == errno.ENODEV
    guest.task.cred = guest.task.cred.__class__.for_user(1000, 1000)
    assert guest.change(rt.RTM_NEWLINK, up) == errno.EPERM
    assert guest.configured() == []


def test_groups_are_told_what_changed() -> None:
    guest = Netlink()
    groups = rt.RTMGRP_LINK | rt.RTMGRP_IPV4_IFADDR | rt.RTMGRP_IPV4_ROUTE
    raw = guest.put(nl.SOCKADDR_NL.pack(so.AF_NETLINK, 0, groups))
    assert guest.call(sk.sys_bind, guest.fd, raw, 12) == 0
    changed = snapshot()
    eth0 = changed["interfaces"][0]
    eth0["mtu"] = 9000
    eth0["addresses"] = [[bytes((10, 0, 2, 99)), 24, 0, rt.IFA_F_PERMANENT, None], *eth0["addresses"][1:]]
    del changed["routes"][0]
    guest.service.say("network", changed)
    guest.news()
    assert [kind for kind, _ in guest.told()] == [rt.RTM_DELADDR, rt.RTM_NEWLINK, rt.RTM_NEWADDR, rt.RTM_DELROUTE]
    guest.service.say("network", changed)
    guest.news()
    assert guest.told() == []
    guest.service.close()
    guest.news()
    lost = [kind for kind, _ in guest.told()]
    assert lost.count(rt.RTM_NEWLINK) == 1 and rt.RTM_DELROUTE in lost
    guest.restart()
    assert [kind for kind, _ in guest.told()].count(rt.RTM_NEWROUTE) == 2
    guest.close(guest.fd)
    guest.service.say("network", changed)
    guest.news()


# --- ioctls and /proc ---
def request(guest: FarGuest, number: int, value: bytes = b"", name: bytes = b"eth0") -> bytes | int | None:
    fd = guest.socket(so.SOCK_DGRAM)
    at = guest.put(name.ljust(16, b"\0") + value.ljust(24, b"\0"))
    got = guest.call(fi.sys_ioctl, fd, number, at)
    return guest.get(at + 16, 24) if got == 0 else got


def test_ioctls_show_and_change_the_interface() -> None:
    guest = FarGuest()
    shown = request(guest, io.SIOCGIFADDR), request(guest, io.SIOCGIFBRDADDR), request(guest, io.SIOCGIFHWADDR)
    assert [raw[4:8] for raw in shown[:2] if isinstance(raw, bytes)] == [OWN, bytes((10, 0, 2, 255))]
    assert isinstance(shown[2], bytes) and shown[2][2:8] == MAC
    assert request(guest, io.SIOCSIFMTU, struct.pack("<i", 1300)) == struct.pack("<i", 1300) + bytes(20)
    assert request(guest, io.SIOCSIFADDR, struct.pack("<HH4s", 2, 0, PEER))
    mask = struct.pack("<HH4s", 2, 0, bytes((255, 255, 0, 0)))
    assert request(guest, io.SIOCSIFNETMASK, mask)
    assert [tuple(call[1]) for call in guest.service.asked("configure")] == [
        ("link_set", {"interface": 2, "mtu": 1300}),
        ("address_delete", {"interface": 2, "address": OWN, "length": 24}),
        ("address_add", {"interface": 2, "address": PEER, "length": 24}),
        ("address_delete", {"interface": 2, "address": OWN, "length": 24}),
        ("address_add", {"interface": 2, "address": OWN, "length": 16}),
    ]
    assert request(guest, io.SIOCSIFNETMASK, struct.pack("<HH4s", 2, 0, bytes((255, 0, 255, 0)))) == -errno.EINVAL
    assert request(guest, io.SIOCSIFMTU, bytes(4), b"eth7") == -errno.ENODEV


def test_proc_has_the_routes() -> None:
    guest = FarGuest()
    rows = [line.split() for line in proc.FILES[b"route"](guest.task).splitlines()[1:]]
    assert rows == [
        [b"eth0", b"00000000", b"0202000A", b"0003", b"0", b"0", b"100", b"00000000", b"0", b"0", b"0"],
        [b"eth0", b"0002000A", b"00000000", b"0001", b"0", b"0", b"0", b"00FFFFFF", b"0", b"0", b"0"],
    ]
    six = [line.split() for line in proc.FILES[b"ipv6_route"](guest.task).splitlines()]
    assert [b"0" * 32, b"00", b"0" * 32, b"00", (OWN6[:15] + b"\2").hex().encode(), b"00000400"] in [
        line[:6] for line in six if line[-1] == b"eth0"
    ]
    assert OWN6.hex().encode() in proc.FILES[b"if_inet6"](guest.task)


# --- processors ---
def test_the_sentry_stays_on_the_processors_that_the_service_leaves_to_it() -> None:
    guest = FarGuest()
    stays: list[frozenset[int]] = []
    guest.kernel.platform = SimpleNamespace(settle=stays.append)
    guest.service.say("apart", [1, 0])
    guest.service.say("apart", [])
    guest.news()
    assert stays == [frozenset((0, 1)), frozenset()]


def test_a_service_that_names_nonsense_as_processors_is_left() -> None:
    for nonsense in ([-1], ["0"], list(range(65)), 3):
        guest = FarGuest()
        guest.service.say("apart", nonsense)
        guest.news()
        assert guest.provider.client is None

"""The host's interfaces, addresses and routes as the socket service's snapshot, by rtnetlink(7).

Owns: `HostNetwork`: two netlink sockets, made before the seal; one asks, the other hears that something changed. The
loopback is left out: a sandbox has its own.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final

from protocol.abi import rtnetlink_h as rt
from protocol.netstack.messages import COUNTERS

_NETLINK_ROUTE: Final = 0
#: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_HEADER: Final = Struct("=IHHII")  # struct nlmsghdr
_IFINFO: Final = Struct("=BxHiII")  # struct ifinfomsg
_IFADDR: Final = Struct("=BBBBI")  # struct ifaddrmsg
_RTMSG: Final = Struct("=BBBBBBBBI")  # struct rtmsg
_ATTRIBUTE: Final = Struct("=HH")
_NEXT_HOP: Final = Struct("=HBBi")  # struct rtnexthop
_STATS64: Final = Struct("=8Q")  # struct rtnl_link_stats64 begins with these
_STATS64_NAMES: Final = (
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped",
)  # fmt: skip
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_RTA_MULTIPATH: Final = 9
_ARPHRD_LOOPBACK: Final = 772
_BUFFER_BYTES: Final = 1 << 16
_MAX_ROUTES: Final = 4000
_MAX_INTERFACES: Final = 250


class HostNetwork:
    """`snapshot()` asks; `fileno()` is readable when something may have changed, and `drain()` forgets that."""

    def __init__(self) -> None:
        self._asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._hearing = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._hearing.setblocking(False)
        self._hearing.bind((0, _GROUPS))
        self._sequence = 0
        self._names, self._servers = _resolver()

    def fileno(self) -> int:
        """The one that hears."""
        return self._hearing.fileno()

    def descriptors(self) -> set[int]:
        """What the seal keeps."""
        return {self._asking.fileno(), self._hearing.fileno()}

    def close(self) -> None:
        """Both sockets."""
        self._asking.close()
        self._hearing.close()

    def drain(self) -> None:
        """Read the news away: they say that, `snapshot` says what."""
        while True:
            try:
                self._hearing.recvmsg(_BUFFER_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # ENOBUFS: more came than was read, which is news as well

    def snapshot(self) -> dict[str, Any]:
        """As protocol/netstack/messages.py says. OSError."""
        interfaces: dict[int, dict[str, Any]] = {}
        for body in self._dump(rt.RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            _, kind, index, flags, _ = _IFINFO.unpack_from(body)
            if kind == _ARPHRD_LOOPBACK or len(interfaces) >= _MAX_INTERFACES:
                continue
            found = _attributes(body, _IFINFO.size)
            interfaces[index] = {
                "index": index,
                "name": found.get(rt.IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace") or f"if{index}",
                "kind": kind,
                "flags": flags,
                "mtu": int.from_bytes(found.get(rt.IFLA_MTU, b""), "little"),
                "mac": found.get(rt.IFLA_ADDRESS, b"")[:32],
                "addresses": [],
            }
        for body in self._dump(rt.RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
            family, length, flags, scope, index = _IFADDR.unpack_from(body)
            found = _attributes(body, _IFADDR.size)
            address = found.get(rt.IFA_LOCAL) or found.get(rt.IFA_ADDRESS)
            if index not in interfaces or address is None or family not in _SIZES:
                continue
            flags = int.from_bytes(found.get(rt.IFA_FLAGS, bytes((flags,))), "little")
            interfaces[index]["addresses"].append([address, length, scope, flags, found.get(rt.IFA_BROADCAST)])
        routes = [route for body in self._dump(rt.RTM_GETROUTE, _RTMSG.pack(*bytes(9))) for route in _route(body)]
        return {
            "interfaces": list(interfaces.values()),
            "routes": [route for route in routes if route["interface"] in (0, *interfaces)][:_MAX_ROUTES],
            "names": self._names,
            "servers": self._servers,
        }

    def counters(self) -> list[list[int]]:
        """[index, what has passed] of every interface, as protocol/netstack/messages.py says. OSError."""
        found: list[list[int]] = []
        for body in self._dump(rt.RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            _, kind, index, _, _ = _IFINFO.unpack_from(body)
            raw = _attributes(body, _IFINFO.size).get(rt.IFLA_STATS64, b"")
            if kind != _ARPHRD_LOOPBACK and len(raw) >= _STATS64.size:
                named = dict(zip(_STATS64_NAMES, _STATS64.unpack_from(raw), strict=True))
                found.append([index, *(named[name] for name in COUNTERS)])
        return found

    def _dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The bodies of the answers to a dump request."""
        self._sequence += 1
        self._asking.send(_HEADER.pack(_HEADER.size + len(body), kind, _DUMP, self._sequence, 0) + body)
        while True:
            data = self._asking.recv(_BUFFER_BYTES)
            at = 0
            while at + _HEADER.size <= len(data):
                length, answer, _, sequence, _ = _HEADER.unpack_from(data, at)
                if length < _HEADER.size:
                    return
                if sequence == self._sequence:
                    if answer in (_DONE, _ERROR):
                        return
                    yield data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3


_SIZES: Final = {socket.AF_INET: 4, socket.AF_INET6: 16}


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _route(body: bytes) -> Iterator[dict[str, Any]]:
    family, length, _, _, table, protocol, scope, kind, flags = _RTMSG.unpack_from(body)
    found = _attributes(body, _RTMSG.size)
    table = int.from_bytes(found.get(rt.RTA_TABLE, bytes((table,))), "little")
    if family not in _SIZES or flags & rt.RTM_F_CLONED or table == rt.RT_TABLE_LOCAL:
        return
    hop = found
    interface = int.from_bytes(found.get(rt.RTA_OIF, b""), "little")
    if _RTA_MULTIPATH in found and len(found[_RTA_MULTIPATH]) >= _NEXT_HOP.size:  # the first of several ways
        size, _, _, interface = _NEXT_HOP.unpack_from(found[_RTA_MULTIPATH])
        hop = _attributes(found[_RTA_MULTIPATH][:size], _NEXT_HOP.size)
    yield {
        "destination": found.get(rt.RTA_DST, bytes(_SIZES[family])),
        "length": length,
        "gateway": hop.get(rt.RTA_GATEWAY),
        "interface": interface,
        "metric": int.from_bytes(found.get(rt.RTA_PRIORITY, b""), "little"),
        "table": table,
        "source": found.get(rt.RTA_PREFSRC),
        "type": kind,
        "scope": scope,
        "protocol": protocol,
    }


def _resolver() -> tuple[list[str], list[bytes]]:
    """Search domains and servers of the host's resolv.conf(5)."""
    names: list[str] = []
    servers: list[bytes] = []
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 16).splitlines()
    except OSError:
        return names, servers
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] in ("search", "domain"):
            names = words[1:7]
        elif len(words) > 1 and words[0] == "nameserver":
            for family in _SIZES:
                try:
                    servers.append(socket.inet_pton(family, words[1].partition("%")[0]))
                except OSError:
                    continue
    return names, servers

"""Network interfaces and routes as values, for those who list them: ioctl(2), netlink(7), /proc/net, /sys/class/net."""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol.abi import rtnetlink_h as rt

__all__ = ["NOTHING_COUNTED", "Interface", "InterfaceAddress", "LinkCounters", "Neighbour", "RouteEntry"]


class InterfaceAddress(NamedTuple):
    """An address of an interface. scope: RT_SCOPE_*; flags: IFA_F_*; broadcast: b"" when it has none."""

    address: bytes
    prefix: int
    scope: int
    flags: int = rt.IFA_F_PERMANENT
    broadcast: bytes = b""


class Neighbour(NamedTuple):
    """Who has which link-layer address (arp(7)). state: NUD_*."""

    interface: int
    address: bytes
    hardware: bytes
    state: int


class LinkCounters(NamedTuple):
    """What has passed through an interface; in the order of protocol.netstack.messages.COUNTERS."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


NOTHING_COUNTED: Final = LinkCounters()


class RouteEntry(NamedTuple):
    """One entry of a routing table. gateway, source: b"" for none; kind: RTN_*; scope: RT_SCOPE_*."""

    destination: bytes
    length: int
    interface: int
    gateway: bytes = b""
    metric: int = 0
    table: int = rt.RT_TABLE_MAIN
    source: bytes = b""
    kind: int = rt.RTN_UNICAST
    scope: int = rt.RT_SCOPE_UNIVERSE
    protocol: int = rt.RTPROT_BOOT


class Interface(NamedTuple):
    """A network interface as ioctl(2), netlink(7) and /proc show it. flags: IFF_*; kind: ARPHRD_*."""

    ifindex: int
    name: bytes
    flags: int
    kind: int
    mtu: int
    hardware: bytes
    addresses: tuple[InterfaceAddress, ...]

"""/proc/PID/net: the tables of IPv4 and IPv6, from the sandbox's live network, as functions `(reader) -> bytes`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.abi import tcp_h
from services.sentry.sockets.inet.addresses import full6
from services.sentry.sockets.inet.network import InetNetwork
from services.sentry.sockets.inet.tables import SocketRow, counts, ping_rows, raw_rows, tcp_rows, udp_rows

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["FILES"]

_SOCKET: Final = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
_SOCKET6: Final = (
    b"  sl  local_address                         remote_address                        st tx_queue rx_queue "
    b"tr tm->when retrnsmt   uid  timeout inode"
)
_DROPS: Final = b" ref pointer drops"
_TCP_WIDTH: Final = 149
_UDP_WIDTH: Final = 127
#: tm->when counts these (USER_HZ).
_TICK_MS: Final = 10
_TIME_WAIT_TIMER: Final = 3


def _network(reader: Task) -> InetNetwork:
    return reader.kernel.part(InetNetwork)


# --- sockets ---
def _words(address: bytes) -> bytes:
    """An address as Linux prints it: 32-bit words in the order of the processor."""
    return b"".join(b"%08X" % word for word in struct.unpack(f"<{len(address) // 4}I", address))


def _ends(row: SocketRow, six: bool) -> bytes:
    local, remote = (full6(row.local), full6(row.remote)) if six else (row.local, row.remote)
    return b"%b:%04X %b:%04X" % (_words(local), row.local_port, _words(remote), row.remote_port)


def _tcp_line(number: int, row: SocketRow, six: bool) -> bytes:
    timer = _TIME_WAIT_TIMER if row.socket is None else 0
    listening = row.state == tcp_h.TCP_LISTEN
    waiting, sending = row.unread, 0 if listening else row.unsent
    line = b"%4d: %b %02X %08X:%08X %02X:%08X %08X %5d %8d %d" % (
        number, _ends(row, six), row.state, sending, waiting, timer, row.expires_ms // _TICK_MS, 0, row.uid, 0,
        row.inode,
    )  # fmt: skip
    if row.socket is None:
        return line + b" 3 %016x" % 0
    last = b" 100 0 0 10 0" if listening else b" 20 4 0 10 -1"
    return line + b" 1 %016x" % 0 + last


def _tcp_table(domain: int, header: bytes, width: int) -> Callable[[Task], bytes]:
    def render(reader: Task) -> bytes:
        six = domain == so.AF_INET6
        lines = [header.ljust(width)]
        lines += [
            _tcp_line(number, row, six).ljust(width) for number, row in enumerate(tcp_rows(_network(reader), domain))
        ]
        return b"\n".join(lines) + b"\n"

    return render


def _udp_table(
    domain: int, header: bytes, width: int, rows: Callable[[InetNetwork, int], Iterable[SocketRow]] = udp_rows
) -> Callable[[Task], bytes]:
    def render(reader: Task) -> bytes:
        six = domain == so.AF_INET6
        lines = [header.ljust(width)]
        for number, row in enumerate(rows(_network(reader), domain)):
            line = b"%5d: %b %02X %08X:%08X 00:00000000 00000000 %5d %8d %d 2 %016x 0" % (
                number, _ends(row, six), row.state, 0, row.unread, row.uid, 0, row.inode, 0,
            )  # fmt: skip
            lines.append(line.ljust(width))
        return b"\n".join(lines) + b"\n"

    return render


# --- interfaces and routes ---
def _interface_addresses6(reader: Task) -> bytes:
    lines = []
    for interface in _network(reader).interfaces():
        for own in interface.addresses:
            if len(own.address) == 16:
                scope = 0x10 if own.scope == rt.RT_SCOPE_HOST else 0x20 if own.scope == rt.RT_SCOPE_LINK else 0
                lines.append(
                    b"%b %02x %02x %02x %02x %8s\n"
                    % (
                        own.address.hex().encode(),
                        interface.ifindex,
                        own.prefix,
                        scope,
                        own.flags & 0xFF,
                        interface.name,
                    )
                )
    return b"".join(lines)


_RTF_UP: Final = 1
_RTF_GATEWAY: Final = 2
_RTF_HOST: Final = 4
_RTF_REJECT: Final = 0x200
_UNREACHABLE: Final = 7  # RTN_UNREACHABLE, RTN_PROHIBIT
_PROHIBIT: Final = 8
_NUD_NOARP: Final = 0x40
_NUD_PERMANENT: Final = 0x80
_NUD_UNKNOWN: Final = 0x21  # NUD_INCOMPLETE, NUD_FAILED


def _routes6(reader: Task) -> bytes:
    """The main table, then the local one between two entries that reject everything (net/ipv6/route.c)."""
    nothing = b"0" * 32
    line = b"%b %02x %b 00 %b %08x %08x %08x %08x %8s\n"
    null = line % (nothing, 0, nothing, nothing, 0xFFFFFFFF, 1, 0, 0x00200200, b"lo")
    local = [
        line % (own.address.hex().encode(), 128, nothing, nothing, 0, 2, 0, 0x80200001, interface.name)
        for interface in _network(reader).interfaces()
        for own in interface.addresses
        if len(own.address) == 16
    ]
    main = [
        line
        % (
            route.destination.hex().encode(),
            route.length,
            nothing,
            route.gateway.hex().encode() or nothing,
            route.metric,
            1,
            0,
            _RTF_UP | (_RTF_GATEWAY if route.gateway else 0),
            _name_of(reader, route.interface),
        )
        for route in _network(reader).routes()
        if len(route.destination) == 16 and route.table != rt.RT_TABLE_LOCAL
    ]
    return b"".join((*main, null, *local, null))


def _name_of(reader: Task, index: int) -> bytes:
    found = _network(reader).interface(index)
    return found.name if found is not None else b"*"


_ROUTE_HEADER: Final = b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"


def _routes4(reader: Task) -> bytes:
    """The main table (net/ipv4/fib_trie.c fib_route_seq_show)."""
    lines = [_ROUTE_HEADER.ljust(_UDP_WIDTH)]
    for route in _network(reader).routes():
        if len(route.destination) != 4 or route.table not in (rt.RT_TABLE_MAIN, rt.RT_TABLE_DEFAULT):
            continue
        flags = _RTF_UP | (_RTF_GATEWAY if route.gateway else 0) | (_RTF_HOST if route.length == 32 else 0)
        if route.kind in (_UNREACHABLE, _PROHIBIT):
            flags |= _RTF_REJECT
        mask = ((0xFFFFFFFF << (32 - route.length)) & 0xFFFFFFFF).to_bytes(4, "big")
        fields = (
            _name_of(reader, route.interface), _words(route.destination), _words(route.gateway or bytes(4)),
            flags, 0, 0, route.metric, _words(mask), 0, 0, 0,
        )  # fmt: skip
        lines.append((b"%b\t%b\t%b\t%04X\t%d\t%d\t%d\t%b\t%d\t%d\t%d" % fields).ljust(_UDP_WIDTH))
    return b"\n".join(lines) + b"\n"


def _arp(reader: Task) -> bytes:
    lines = [b"IP address       HW type     Flags       HW address            Mask     Device\n"]
    for each in _network(reader).neighbours():
        if len(each.address) != 4 or each.state & _NUD_NOARP:
            continue
        flags = 0 if not each.hardware or each.state & _NUD_UNKNOWN else 6 if each.state & _NUD_PERMANENT else 2
        hardware = b":".join(b"%02x" % byte for byte in (each.hardware or bytes(6)))
        address = b".".join(b"%d" % byte for byte in each.address)
        fields = (address, rt.ARPHRD_ETHER, flags, hardware, _name_of(reader, each.interface))
        lines.append(b"%-16b 0x%-10x0x%-10x%-17b     *        %b\n" % fields)
    return b"".join(lines)


def _groups4(reader: Task) -> bytes:
    network = _network(reader)
    lines = [b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"]
    for interface in network.interfaces():
        joined = {group: users for (group, index), users in network.groups.items() if index == interface.ifindex}
        groups = {b"\xe0\0\0\1": 1} | {group: users for group, users in joined.items() if len(group) == 4}
        lines.append(b"%d\t%-10s: %5d %7s\n" % (interface.ifindex, interface.name, len(groups), b"V3"))
        lines += [b"\t\t\t\t%b %5d 0:00000000\t\t0\n" % (_words(group), users) for group, users in groups.items()]
    return b"".join(lines)


def _groups6(reader: Task) -> bytes:
    network = _network(reader)
    lines = []
    for interface in network.interfaces():
        groups = {bytes.fromhex("ff02" + "0" * 27 + "1"): 1, bytes.fromhex("ff01" + "0" * 27 + "1"): 1}
        for (group, index), users in network.groups.items():
            if index == interface.ifindex and len(group) == 16:
                groups[group] = users
        lines += [
            b"%-4d %-15s %b %5d %08X 0\n" % (interface.ifindex, interface.name, group.hex().encode(), users, 8)
            for group, users in groups.items()
        ]
    return b"".join(lines)


# --- counters ---
_IP_NAMES: Final = (
    "Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers "
    "OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates "
    "OutTransmits"
)
_ICMP_NAMES: Final = (
    "InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps "
    "InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost "
    "OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps "
    "OutTimestampReps OutAddrMasks OutAddrMaskReps"
)
_TCP_NAMES: Final = (
    "RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs "
    "RetransSegs InErrs OutRsts InCsumErrors"
)
_UDP_NAMES: Final = (
    "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors"
)


def snmp(reader: Task) -> bytes:
    """What sockets count; packets are not, because there are none on the loopback."""
    network = _network(reader)
    known = dict(network.counted)
    known["CurrEstab"] = sum(counts(network, family)["established"] for family in (so.AF_INET, so.AF_INET6))
    known |= {"Forwarding": 2, "DefaultTTL": 64, "RtoAlgorithm": 1, "RtoMin": 200, "RtoMax": 120_000, "MaxConn": -1}
    parts = []
    for kind, names in (
        ("Ip", _IP_NAMES), ("Icmp", _ICMP_NAMES), ("IcmpMsg", ""), ("Tcp", _TCP_NAMES), ("Udp", _UDP_NAMES),
        ("UdpLite", _UDP_NAMES),
    ):  # fmt: skip
        if kind == "UdpLite":
            known = {}
        values = " ".join(str(known.get(name, 0)) for name in names.split())
        parts.append(f"{kind}: {names}\n{kind}: {values}\n")
    return "".join(parts).encode()


def sockstat(reader: Task) -> bytes:
    network = _network(reader)
    four, six = counts(network, so.AF_INET), counts(network, so.AF_INET6)
    used = sum(network.sockets.values())
    return (
        b"sockets: used %d\nTCP: inuse %d orphan %d tw %d alloc %d mem 0\nUDP: inuse %d mem 0\nUDPLITE: inuse 0\n"
        b"RAW: inuse %d\nFRAG: inuse 0 memory 0\n"
        % (
            used,
            four["TCP"],
            four["orphan"] + six["orphan"],
            four["tw"] + six["tw"],
            network.sockets["TCP"] + network.sockets["TCPv6"],
            four["UDP"],
            four["RAW"],
        )
    )


def sockstat6(reader: Task) -> bytes:
    six = counts(_network(reader), so.AF_INET6)
    return b"TCP6: inuse %d\nUDP6: inuse %d\nUDPLITE6: inuse 0\nRAW6: inuse %d\nFRAG6: inuse 0 memory 0\n" % (
        six["TCP"],
        six["UDP"],
        six["RAW"],
    )


#: name, size of its struct sock, memory pages, pressure, header bytes, what it can do (net/core/sock.c proto_seq_show).
_PROTOCOLS: Final = (
    (b"UDPv6", 1472, b"0", b"NI", 0, b"y  y  y  n  y  y  y  n  y  y  y  y  n  n  y  y  y  n"),
    (b"TCPv6", 2432, b"0", b"no", 192, b"y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y"),
    (b"UNIX-STREAM", 1152, b"-1", b"NI", 0, b"y  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n"),
    (b"UNIX", 1152, b"-1", b"NI", 0, b"y  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n"),
    (b"UDP", 1344, b"0", b"NI", 0, b"y  y  y  n  y  y  y  n  y  y  y  y  n  n  y  y  y  n"),
    (b"TCP", 2304, b"0", b"no", 192, b"y  y  y  y  y  y  y  y  y  y  y  y  n  y  y  y  y  y"),
    (b"PING", 1088, b"-1", b"NI", 0, b"y  y  y  n  n  y  n  n  y  y  y  y  n  y  y  y  y  n"),
    (b"RAW", 1096, b"-1", b"NI", 0, b"y  y  y  n  y  y  y  n  y  y  y  y  n  y  y  y  y  n"),
    (b"NETLINK", 1096, b"-1", b"NI", 0, b"n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n  n"),
)


def protocols(reader: Task) -> bytes:
    """The protocols there are; the sockets of the inet ones are counted."""
    lines = [
        b"protocol  size sockets  memory press maxhdr  slab module     "
        b"cl co di ac io in de sh ss gs se re bi br ha uh gp em\n"
    ]
    sockets = _network(reader).sockets
    for name, size, memory, pressure, header, can in _PROTOCOLS:
        count = sockets[name.decode()]
        lines.append(
            b"%-9s %4d %6d  %6s   %-3s %6d   %-3s  %-10s %b\n"
            % (name, size, count, memory, pressure, header, b"yes", b"kernel", b" " + can)
        )
    return b"".join(lines)


def _empty(header: bytes, width: int = 0) -> Callable[[Task], bytes]:
    """A table of things that are not there."""
    text = header.ljust(width) + b"\n" if header else b""
    return lambda reader: text


FILES: Final[dict[bytes, Callable[[Task], bytes]]] = {
    b"arp": _arp,
    b"icmp": _udp_table(so.AF_INET, b" " + _SOCKET + _DROPS, _UDP_WIDTH, ping_rows),
    b"icmp6": _udp_table(so.AF_INET6, _SOCKET6 + _DROPS, 0, ping_rows),
    b"if_inet6": _interface_addresses6,
    b"igmp": _groups4,
    b"igmp6": _groups6,
    b"ipv6_route": _routes6,
    b"protocols": protocols,
    b"raw": _udp_table(so.AF_INET, _SOCKET + _DROPS, 0, raw_rows),
    b"raw6": _udp_table(so.AF_INET6, _SOCKET6 + _DROPS, 0, raw_rows),
    b"route": _routes4,
    b"snmp": snmp,
    b"sockstat": sockstat,
    b"sockstat6": sockstat6,
    b"tcp": _tcp_table(so.AF_INET, _SOCKET, _TCP_WIDTH),
    b"tcp6": _tcp_table(so.AF_INET6, _SOCKET6, 0),
    b"udp": _udp_table(so.AF_INET, b" " + _SOCKET + _DROPS, _UDP_WIDTH),
    b"udp6": _udp_table(so.AF_INET6, _SOCKET6 + _DROPS, 0),
    b"udplite": _empty(b" " + _SOCKET + _DROPS, _UDP_WIDTH),
    b"udplite6": _empty(_SOCKET6 + _DROPS),
}

"""/proc/PID/net: tables of the network, as functions `(reader) -> bytes` (proc_pid_net(5)).

Addresses, routes and inet sockets come from whatever network the sandbox has: an object with the methods of
`NetworkView` as `kernel.network_view`. Without one there is a loopback device and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from services.sentry.filesystems.proc.access import files_of
from services.sentry.sockets.unix.endpoint import CONNECTED, LISTENING, UnixSocket

if TYPE_CHECKING:
    from services.sentry.kernel.fd_table import FdTable
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task

__all__ = ["FILES", "Device", "NetworkView", "devices_of", "open_tables"]


class Device(NamedTuple):
    """One network device with its eight receive and eight transmit counters, in the order of /proc/net/dev."""

    name: bytes
    received: tuple[int, ...] = (0,) * 8
    sent: tuple[int, ...] = (0,) * 8


class NetworkView(Protocol):
    """What a network stack tells. `lines(name)`: the lines of the table `name` (b'tcp'...) below its header."""

    def devices(self) -> Iterable[Device]: ...

    def lines(self, name: bytes) -> Iterable[bytes]: ...


def open_tables(kernel: Kernel) -> list[FdTable]:
    """Every descriptor table in use, once."""
    found = {id(task.files): files_of(task) for task in kernel.tasks.values()}
    return [table for table in found.values() if table is not None]


def _view(kernel: Kernel) -> NetworkView | None:
    return getattr(kernel, "network_view", None)


def devices_of(kernel: Kernel) -> list[Device]:
    """The devices, the loopback first."""
    view = _view(kernel)
    return list(view.devices()) if view is not None else [Device(b"lo")]


def dev(reader: Task) -> bytes:
    head = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast"
        "|bytes    packets errs drop fifo colls carrier compressed\n"
    )
    lines = []
    for device in devices_of(reader.kernel):
        received = "{:8d} {:7d} {:4d} {:4d} {:4d} {:5d} {:10d} {:9d}".format(*device.received)
        sent = "{:8d} {:7d} {:4d} {:4d} {:4d} {:5d} {:7d} {:10d}".format(*device.sent)
        lines.append(f"{device.name.decode():>6}: {received} {sent}\n")
    return (head + "".join(lines)).encode()


_ACCEPTS: Final = 0x10000  # __SO_ACCEPTCON
_SOCKET: Final = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
_SOCKET6: Final = (
    b"  sl  local_address                         remote_address                        st tx_queue rx_queue "
    b"tr tm->when retrnsmt   uid  timeout inode"
)
_DROPS: Final = b" ref pointer drops"
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
_FIRST: Final = {"Ip": ["2", "64"], "Tcp": ["1", "200", "120000", "-1"]}


def snmp(reader: Task) -> bytes:
    parts = []
    for kind, names in (
        ("Ip", _IP_NAMES), ("Icmp", _ICMP_NAMES), ("IcmpMsg", ""), ("Tcp", _TCP_NAMES), ("Udp", _UDP_NAMES),
        ("UdpLite", _UDP_NAMES),
    ):  # fmt: skip
        count = len(names.split())
        values = _FIRST.get(kind, [])
        values = values + ["0"] * (count - len(values))
        parts.append(f"{kind}: {names}\n{kind}: {' '.join(values)}\n")
    return "".join(parts).encode()


def sockstat(reader: Task) -> bytes:
    return (
        b"sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nUDPLITE: inuse 0\n"
        b"RAW: inuse 0\nFRAG: inuse 0 memory 0\n"
    )


def unix(reader: Task) -> bytes:
    """The unix sockets that some task has open, with the name they are bound to (unix(7))."""
    lines = [b"Num       RefCount Protocol Flags    Type St Inode Path\n"]
    seen: set[int] = set()
    for descriptors in open_tables(reader.kernel):
        for _, file in descriptors.items():
            if not isinstance(file, UnixSocket) or id(file) in seen:
                continue
            seen.add(id(file))
            flags = _ACCEPTS if file.state == LISTENING else 0
            state = 3 if file.state == CONNECTED else 1
            row = (0, file.refs + 1, 0, flags, file.kind, state, file.inode.ino, _unix_name(file.address))
            lines.append(b"%016x: %08X %08X %08X %04X %02X %5d%b\n" % row)
    return b"".join(lines)


def _unix_name(address: bytes) -> bytes:
    """A blank and the path, or @name for an abstract one; nothing for an unbound socket."""
    name = address[2:]
    if not name:
        return b""
    return b" " + (name.replace(b"\0", b"@") if name[0] == 0 else name.rstrip(b"\0"))


def table(name: bytes, header: bytes, pad: int = 0) -> Callable[[Task], bytes]:
    """A table with a header line (padded with spaces to `pad`); its lines come from the network view."""

    def render(reader: Task) -> bytes:
        view = _view(reader.kernel)
        lines = b"".join(line + b"\n" for line in view.lines(name)) if view is not None else b""
        return (header.ljust(pad) + b"\n" if header else b"") + lines

    return render


def _loopback6(reader: Task) -> bytes:
    view = _view(reader.kernel)
    if view is None:
        return b"00000000000000000000000000000001 01 80 10 80       lo\n"
    return b"".join(line + b"\n" for line in view.lines(b"if_inet6"))


def softnet(reader: Task) -> bytes:
    return (b" ".join([b"00000000"] * 15) + b"\n") * reader.kernel.cpu_count


def _constant(text: bytes) -> Callable[[Task], bytes]:
    return lambda reader: text


FILES: Final[dict[bytes, Callable[[Task], bytes]]] = {
    b"arp": table(b"arp", b"IP address       HW type     Flags       HW address            Mask     Device"),
    b"dev": dev,
    b"dev_mcast": table(b"dev_mcast", b""),
    b"icmp": table(b"icmp", _SOCKET + _DROPS, 127),
    b"icmp6": table(b"icmp6", _SOCKET6 + _DROPS),
    b"if_inet6": _loopback6,
    b"igmp": table(b"igmp", b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter"),
    b"ipv6_route": table(b"ipv6_route", b""),
    b"netlink": table(
        b"netlink", b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode"
    ),
    b"netstat": _constant(b"TcpExt: SyncookiesSent\nTcpExt: 0\nIpExt: InNoRoutes\nIpExt: 0\n"),
    b"packet": table(b"packet", b"sk               RefCnt Type Proto  Iface R Rmem   User   Inode"),
    b"protocols": table(
        b"protocols",
        b"protocol  size sockets  memory press maxhdr  slab module     "
        b"cl co di ac io in de sh ss gs se re bi br ha uh gp em",
    ),
    b"psched": _constant(b"000003e8 00000040 000f4240 3b9aca00\n"),
    b"ptype": table(b"ptype", b"Type Device      Function"),
    b"raw": table(b"raw", _SOCKET + _DROPS),
    b"raw6": table(b"raw6", _SOCKET6 + _DROPS),
    b"route": table(
        b"route", b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT", 127
    ),
    b"snmp": snmp,
    b"snmp6": _constant(b"Ip6InReceives                   \t0\n"),
    b"sockstat": sockstat,
    b"sockstat6": _constant(
        b"TCP6: inuse 0\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n"
    ),
    b"softnet_stat": softnet,
    b"tcp": table(b"tcp", _SOCKET, 149),
    b"tcp6": table(b"tcp6", _SOCKET6),
    b"udp": table(b"udp", b" " + _SOCKET + _DROPS, 127),
    b"udp6": table(b"udp6", _SOCKET6 + _DROPS),
    b"udplite": table(b"udplite", b" " + _SOCKET + _DROPS, 127),
    b"udplite6": table(b"udplite6", _SOCKET6 + _DROPS),
    b"unix": unix,
    b"wireless": _constant(
        b"Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n"
        b" face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"
    ),
}

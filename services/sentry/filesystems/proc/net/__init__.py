"""/proc/PID/net: tables of the network, as functions `(reader) -> bytes` (proc_pid_net(5)). IP's are in inet.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.sentry.filesystems.proc.access import files_of
from services.sentry.filesystems.proc.net import inet
from services.sentry.sockets.inet.interfaces import NOTHING_COUNTED
from services.sentry.sockets.inet.network import InetNetwork
from services.sentry.sockets.unix.endpoint import CONNECTED, LISTENING, UnixSocket

if TYPE_CHECKING:
    from services.sentry.kernel.fd_table import FdTable
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task

__all__ = ["FILES", "open_tables"]


def open_tables(kernel: Kernel) -> list[FdTable]:
    """Every descriptor table in use, once."""
    found = {id(task.files): files_of(task) for task in kernel.tasks.values()}
    return [table for table in found.values() if table is not None]


def dev(reader: Task) -> bytes:
    head = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast"
        "|bytes    packets errs drop fifo colls carrier compressed\n"
    )
    lines = []
    network = reader.kernel.part(InetNetwork)
    counters = network.counters()
    for interface in network.interfaces():
        of = counters.get(interface.ifindex, NOTHING_COUNTED)
        received = (
            f"{of.rx_bytes:8d} {of.rx_packets:7d} {of.rx_errors:4d} {of.rx_dropped:4d}    0     0          0         0"
        )
        sent = f"{of.tx_bytes:8d} {of.tx_packets:7d} {of.tx_errors:4d} {of.tx_dropped:4d}    0     0       0          0"
        lines.append(f"{interface.name.decode():>6}: {received} {sent}\n")
    return (head + "".join(lines)).encode()


_ACCEPTS: Final = 0x10000  # __SO_ACCEPTCON


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


def packet(reader: Task) -> bytes:
    """The packet sockets (net/packet/af_packet.c packet_seq_show)."""
    lines = [b"sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"]
    for socket in reader.kernel.part(InetNetwork).packets:
        row = (0, socket.refs + 2, socket.kind, socket.ethertype, socket.interface, 1, socket.inbox_bytes)
        lines.append(b"%016x %-6d %-4d %04x   %-5d %1d %-6d " % row)
        lines.append(b"%-6d %-6d\n" % (socket.inode.uid, socket.inode.ino))
    return b"".join(lines)


def softnet(reader: Task) -> bytes:
    return (b" ".join([b"00000000"] * 15) + b"\n") * reader.kernel.cpu_count


def _constant(text: bytes) -> Callable[[Task], bytes]:
    return lambda reader: text


FILES: Final[dict[bytes, Callable[[Task], bytes]]] = inet.FILES | {
    b"dev": dev,
    b"dev_mcast": _constant(b""),
    b"netlink": _constant(
        b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
    ),
    b"netstat": _constant(b"TcpExt: SyncookiesSent\nTcpExt: 0\nIpExt: InNoRoutes\nIpExt: 0\n"),
    b"packet": packet,
    b"psched": _constant(b"000003e8 00000040 000f4240 3b9aca00\n"),
    b"ptype": _constant(b"Type Device      Function\n"),
    b"snmp6": _constant(b"Ip6InReceives                   \t0\n"),
    b"softnet_stat": softnet,
    b"unix": unix,
    b"wireless": _constant(
        b"Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n"
        b" face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"
    ),
}

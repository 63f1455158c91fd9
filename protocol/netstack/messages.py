"""The socket service: methods, parameters, what comes back, and in which order.

Transport: MessagePack-RPC with descriptors beside messages (protocol/rpc/codec.py, extension 0x46) over a Unix stream
socket. One connection is one client, attached to exactly one network namespace of netstackd. Requests may be pipelined;
netstackd serves the messages of a connection strictly in order. Any method may be sent as a notification; its failure
then comes as `error [id, errno]`. Errors of requests are `[errno, why]`. A message whose parameters have the wrong type
ends the connection: `check_call_untrusted`.

Values
    id       1 .. MAX_CLIENT_ID is the client's to choose, MIN_SERVER_ID .. MAX_ID netstackd's (accepted connections)
    addr     [address, port, scope]: address of 4 or 16 bytes in network order, b"" for any; scope: interface index or
             0. Sockets of AF_INET6 speak to IPv4 too: such addresses have 4 bytes there as well (16 bytes of a mapped
             address are understood, never sent). Packet sockets: [link address, ethertype, interface index]
    value    int or bytes as setsockopt(2) takes it: bytes are the C structure of amd64 Linux

Client to netstackd (R: the answer of a request)
    hello [version, namespace | nil]    first. R {"version": 1, "namespace": name}. nil: the one this connection is for.
                                        "shared": true beside it when the namespace's addresses are other programs' too,
                                        "rings": true when `rings` is served, "carries": true when `carry` is
    network []                          R snapshot; from then on `network [snapshot]` comes when anything in it changed
    neighbours []                       R [[interface, address, mac, state NUD_*]]
    counters []                         R [[interface, *COUNTERS]]: what has passed through its interfaces until now
    open [id, family, type, protocol]   R nil for a stream, else Fd of the data socket
    bind [id, addr]                     R local addr
    prefer [id, addr]                   R nil. Of a stream, before `connect`, in place of `bind`: the connection comes
                                        from this address, and from this port unless someone has that pair of ends or is
                                        bound to the port: then from another (`connected` says which). EADDRNOTAVAIL,
                                        EINVAL
    connect [id, addr | nil]            stream: R nil at once, then `connected` or `error`. Datagram: R local addr; nil
                                        dissolves the association. After a failed connect a stream socket can only be
                                        closed: open another one
    listen [id, backlog]                R local addr; may be repeated to change the backlog
    carry [listener id]                 R nil. The connections that it accepts from now on are carried (below)
    send [id, bytes]                    R nil. The next bytes of a carried stream. ENOTCONN; EMSGSIZE: more than
                                        MAX_CARRIED in all
    socket [id]                         R Fd. A carried stream goes on with this data socket. ENOTCONN
    finish [id, received, told]         `close` (told 1) or `leave` (0) of a carried stream of which the client took so
                                        many bytes: when more were told, it is reset, as by unread data
    taken [listener id, n]              n `accepted` connections left the client's queue: at most backlog + 1 are
                                        outstanding
    shutdown [id, how]                  of a listener (SHUT_RD: it stops listening), a datagram socket or a carried
                                        stream; other connected streams are shut down on their data socket
    set [id, level, name, value]        R nil
    hint [id, level, name, value]       as `set`, without an answer and without `error`: who does not know it ignores it
    get [id, level, name]               R int, bytes, str (names of devices and algorithms) or map (TCP_INFO: field to
                                        number, times in microseconds)
    urgent [id, byte, offset]           R nil when it has its place: send no further data before that. offset: bytes of
                                        the stream written before it. EPIPE, ENOTCONN
    rings [id, rx size, tx size, sent, Fd]
                                        R delivered. A connected stream's bytes move through a memory file from now on
                                        (below). ENOTCONN, EALREADY; EINVAL: sent or file; ENOSPC: do without
    close [id]                          no more use: what is in the data socket is still sent, then FIN. Set SO_LINGER
                                        to a time of 0 before for a reset. A data socket closed with unread data in it
                                        resets the connection, as close(2) does
    leave [id]                          `close` of a connection that was accepted, about which nothing is asked any
                                        more: no `gone` comes, and what else comes of it is to be ignored. (An id of the
                                        client's could not be used again, for nothing says when.)
    abort [id]                          reset, now
    sockets []                          R list of maps: id family type protocol state local remote receive_queue
                                        send_queue backlog
    configure [verb, map]               R nil. EPERM unless the namespace is the client's own. See CONFIGURE

netstackd to client, notifications
    connected [id, local, remote, Fd]   the stream is established; Fd is its data socket
    accepted [listener id, id, local, remote, Fd | bytes]
                                        bytes: it is carried, and these are its first
    data [id, bytes]                    the next bytes of a carried stream; none: a FIN
    error [id, errno]                   of a stream: connect failed, or the connection is dead; sent before its data
                                        socket is closed. Of a datagram socket: SO_ERROR, or what became of a send
    urgent [id, byte, offset]           offset: bytes of the stream delivered before it
    gone [id]                           after `close`, `abort` or the loss of the namespace: the connection has sent all
                                        it had and our FIN is acknowledged, or it is over. The id may be used again
    network [snapshot]
    apart [processors]                  netstackd waited for these processors too long, of which one runs the client, as
                                        it seems: it runs on others from now on, and the client does well to stay there.
                                        []: both run where the host puts them

Data socket of a stream: AF_UNIX SOCK_STREAM, non-blocking at both ends. shutdown(SHUT_WR) of either end is a FIN in
that direction, in order with the data. End of file without a preceding `error` is an orderly FIN, and netstackd keeps
its end open until `close`. The end of the control connection is ECONNRESET for every stream; as the sockets of a
process that dies close in any order, an end of file with POLLHUP is to be believed only when the control connection
still answers (or, while the client has not shut down its own direction, not at all). netstackd leaves data where it
is when it has no room: back-pressure and readiness are those of the host's socket.

Carried streams: a short connection's data socket costs more than what passes by it. So a listener's connections may do
without one: their first MAX_CARRIED bytes in each direction come and go within messages, in order with all others. What
is beyond that waits until the client asks for the `socket`. A direction that has ended by then has ended there as well.

Rings of a stream (protocol/rings.py): the client makes the memory file, sealed against changes of its size, of
`mapping_bytes(rx size, tx size)` bytes; its first ring is what netstackd delivers, its second what the client sends.
`sent` bytes of the stream the client had written to the data socket before, `delivered` netstackd: each side reads that
many from there, the rest from the ring. After these, bytes on the data socket are doorbells, of any value: look at the
rings. One that finds no room there need not be repeated. A thread of the client's may sleep in futex(2) on the first
ring's flag (SLEEPS): netstackd wakes it there, and rings only if the flag says more. A FIN is still the data socket's,
behind what is in the ring; so is the difference between a FIN and a death. `close` with bytes unread in the first ring
resets. What the client sends stays where it is until it is acknowledged: who changes it changes what is sent. Words of
a ring that cannot be true end its stream: ECONNRESET.

Data socket of everything else: AF_UNIX SOCK_SEQPACKET, each message with the header of datagrams.py in front. What a
client sends on it netstackd sends out at once; an error of that sending (EACCES, ENETUNREACH, EMSGSIZE, EPERM) comes as
`error`. Closing it closes nothing: `close` does.

Snapshot: {"interfaces": [{"index", "name", "kind" (ARPHRD_*), "flags" (IFF_*), "mtu", "mac" (bytes), "addresses":
[[address, prefix length, scope RT_SCOPE_*, flags IFA_F_*, broadcast | nil]]}], "routes": [{"destination" (bytes),
"length", "gateway" (bytes | nil), "interface" (index, 0: none), "metric", "table", "source" (bytes | nil), "type"
(RTN_*), "scope" (RT_SCOPE_*), "protocol" (RTPROT_*)}], "names": [search domains], "servers": [addresses of DNS
servers]}. The loopback is not in it: 127/8 and ::1 are the client's own business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from protocol.errors import ProtocolViolation
from protocol.rings import is_ring_size

VERSION: Final = 1
MAX_CLIENT_ID: Final = 0x7FFFFFFF
MIN_SERVER_ID: Final = 0x80000000
MAX_ID: Final = 0xFFFFFFFF
MAX_NAME_BYTES: Final = 64  # of a namespace
MAX_OPTION_BYTES: Final = 4096
MAX_OFFSET: Final = (1 << 63) - 1
MAX_CARRIED: Final = 4096  # bytes of a stream in each direction
MAX_PROCESSORS: Final = 64  # named at a time

SHUT_RD: Final = 0
SHUT_WR: Final = 1
SHUT_RDWR: Final = 2

Address = tuple[bytes, int, int]
Check = Callable[[Any], bool]


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> bool:
        return type(value) is int and low <= value <= high

    return check


def is_address(value: Any) -> bool:
    """Whether a received value is an addr."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and isinstance(value[0], bytes)
        and len(value[0]) <= 16
        and type(value[1]) is int
        and 0 <= value[1] <= 0xFFFF
        and type(value[2]) is int
        and 0 <= value[2] <= 0x7FFFFFFF
    )


def _name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_BYTES


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _option(value: Any) -> bool:
    if type(value) is int:
        return -(1 << 31) <= value < 1 << 32
    return isinstance(value, bytes) and len(value) <= MAX_OPTION_BYTES


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _anything(value: Any) -> bool:
    return True  # a descriptor: the codec has made sure of it, or the receiver looks


def _carried(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) <= MAX_CARRIED


_ID: Final = _integer(1, MAX_ID)
_CLIENT_ID: Final = _integer(1, MAX_CLIENT_ID)
_SERVER_ID: Final = _integer(MIN_SERVER_ID, MAX_ID)
_INT: Final = _integer(-(1 << 31), (1 << 31) - 1)
_NUMBER: Final = _integer(0, (1 << 31) - 1)
_BYTE: Final = _integer(0, 255)
_OFFSET: Final = _integer(0, MAX_OFFSET)
_PROCESSORS: Final[Check] = lambda value: (  # noqa: E731
    isinstance(value, (list, tuple)) and len(value) <= MAX_PROCESSORS and all(map(_NUMBER, value))
)
_RING: Final[Check] = lambda value: type(value) is int and is_ring_size(value)  # noqa: E731

#: What a client may send: method to the checks of its parameters.
CALLS: Final[dict[str, tuple[Check, ...]]] = {
    "hello": (_NUMBER, _optional(_name)),
    "network": (),
    "neighbours": (),
    "counters": (),
    "open": (_CLIENT_ID, _NUMBER, _NUMBER, _NUMBER),
    "bind": (_ID, is_address),
    "prefer": (_ID, is_address),
    "connect": (_ID, _optional(is_address)),
    "listen": (_ID, _INT),
    "carry": (_ID,),
    "send": (_ID, _carried),
    "socket": (_ID,),
    "finish": (_ID, _OFFSET, _integer(0, 1)),
    "taken": (_ID, _NUMBER),
    "shutdown": (_ID, _integer(SHUT_RD, SHUT_RDWR)),
    "set": (_ID, _NUMBER, _NUMBER, _option),
    "hint": (_ID, _NUMBER, _NUMBER, _option),
    "get": (_ID, _NUMBER, _NUMBER),
    "urgent": (_ID, _BYTE, _OFFSET),
    "rings": (_ID, _RING, _RING, _OFFSET, _anything),
    "close": (_ID,),
    "leave": (_ID,),
    "abort": (_ID,),
    "sockets": (),
    "configure": (_name, _mapping),
}

#: What netstackd sends of itself.
EVENTS: Final[dict[str, tuple[Check, ...]]] = {
    "connected": (_ID, is_address, is_address, _anything),
    "accepted": (_ID, _SERVER_ID, is_address, is_address, _anything),
    "data": (_ID, _carried),
    "error": (_ID, _NUMBER),
    "urgent": (_ID, _BYTE, _OFFSET),
    "gone": (_ID,),
    "network": (_mapping,),
    "apart": (_PROCESSORS,),
}

#: Methods whose first parameter is the socket that they are about.
ABOUT_SOCKET: Final = frozenset(CALLS) - {"hello", "network", "neighbours", "counters", "sockets", "configure"}

#: Of each interface in the answer to `counters`, in this order; named as in struct rtnl_link_stats64 (linux/if_link.h).
COUNTERS: Final = (
    "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped",
)  # fmt: skip

_BYTES: Final[Check] = lambda value: isinstance(value, bytes) and len(value) in (4, 16)  # noqa: E731
_LENGTH: Final = _integer(0, 128)

#: Verbs of `configure`: key to check; those of the second table may be left out.
CONFIGURE: Final[dict[str, tuple[dict[str, Check], dict[str, Check]]]] = {
    "address_add": (
        {"interface": _NUMBER, "address": _BYTES, "length": _LENGTH},
        {"broadcast": _optional(_BYTES), "peer": _optional(_BYTES), "scope": _BYTE},
    ),
    "address_delete": ({"interface": _NUMBER, "address": _BYTES, "length": _LENGTH}, {}),
    "route_add": (
        {"destination": _BYTES, "length": _LENGTH},
        {
            "interface": _NUMBER,
            "gateway": _optional(_BYTES),
            "metric": _integer(0, 0xFFFFFFFF),
            "table": _integer(0, 0xFFFFFFFF),
            "source": _optional(_BYTES),
            "type": _BYTE,
            "scope": _BYTE,
            "protocol": _BYTE,
            "replace": _integer(0, 1),
        },
    ),
    "route_delete": (
        {"destination": _BYTES, "length": _LENGTH},
        {
            "interface": _NUMBER,
            "gateway": _optional(_BYTES),
            "metric": _integer(0, 0xFFFFFFFF),
            "table": _integer(0, 0xFFFFFFFF),
            "type": _BYTE,
        },
    ),
    "link_set": (
        {"interface": _NUMBER},
        {
            "up": _integer(0, 1),
            "mtu": _NUMBER,
            "mac": lambda value: isinstance(value, bytes) and len(value) == 6,
        },
    ),
    "neighbour_set": (
        {
            "interface": _NUMBER,
            "address": _BYTES,
            "mac": lambda value: isinstance(value, bytes) and len(value) == 6,
        },
        {"state": _integer(0, 0xFFFF)},
    ),
    "neighbour_delete": ({"interface": _NUMBER, "address": _BYTES}, {}),
}


def check_call_untrusted(method: str, params: Sequence[Any]) -> None:
    """That a message of a client has the shape of the table. ProtocolViolation."""
    _check(CALLS, method, params)
    if method == "configure":
        _check_configure(params[0], params[1])


def check_event_untrusted(method: str, params: Sequence[Any]) -> None:
    """The same for a notification of netstackd."""
    _check(EVENTS, method, params)


def _check(table: Mapping[str, tuple[Check, ...]], method: str, params: Sequence[Any]) -> None:
    checks = table.get(method)
    if checks is None:
        raise ProtocolViolation(f"{method[:32]}: no such method")
    if len(params) != len(checks):
        raise ProtocolViolation(f"{method}: {len(params)} parameters, not {len(checks)}")
    for position, check in enumerate(checks):
        if not check(params[position]):
            raise ProtocolViolation(f"{method}: parameter {position + 1} is wrong")


def _check_configure(verb: str, given: Mapping[str, Any]) -> None:
    rows = CONFIGURE.get(verb)
    if rows is None:
        raise ProtocolViolation(f"configure: no verb {verb[:32]}")
    needed, optional = rows
    for key, check in needed.items():
        if key not in given or not check(given[key]):
            raise ProtocolViolation(f"configure {verb}: {key} is missing or wrong")
    for key, value in given.items():
        if key not in needed and (key not in optional or not optional[key](value)):
            raise ProtocolViolation(f"configure {verb}: {key[:32]} is unknown or wrong")


_INTERFACE_KEYS: Final[dict[str, Check]] = {
    "index": _integer(1, 0x7FFFFFFF),
    "name": _name,
    "kind": _integer(0, 0xFFFF),
    "flags": _integer(0, 0xFFFFFFFF),
    "mtu": _NUMBER,
    "mac": lambda value: isinstance(value, bytes) and len(value) <= 32,
}
_ROUTE_KEYS: Final[dict[str, Check]] = {
    "destination": _BYTES,
    "length": _LENGTH,
    "gateway": _optional(_BYTES),
    "interface": _NUMBER,
    "metric": _integer(0, 0xFFFFFFFF),
    "table": _integer(0, 0xFFFFFFFF),
    "source": _optional(_BYTES),
    "type": _BYTE,
    "scope": _BYTE,
    "protocol": _BYTE,
}


def _is_interface_address(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 5
        and _BYTES(value[0])
        and _LENGTH(value[1])
        and _BYTE(value[2])
        and _integer(0, 0xFFFFFFFF)(value[3])
        and (value[4] is None or _BYTES(value[4]))
    )


def check_snapshot_untrusted(snapshot: Any) -> None:
    """That a snapshot has the shape that the module describes. ProtocolViolation."""
    if not _mapping(snapshot):
        raise ProtocolViolation("snapshot: not a map")
    for key in ("interfaces", "routes", "names", "servers"):
        if not isinstance(snapshot.get(key), list):
            raise ProtocolViolation(f"snapshot: {key} is no list")
    for iface in snapshot["interfaces"]:
        _check_map("interface", iface, _INTERFACE_KEYS)
        addresses = iface.get("addresses")
        if not isinstance(addresses, list) or not all(_is_interface_address(one) for one in addresses):
            raise ProtocolViolation("snapshot: addresses of an interface are wrong")
    for route in snapshot["routes"]:
        _check_map("route", route, _ROUTE_KEYS)
    if not all(isinstance(name, str) for name in snapshot["names"]):
        raise ProtocolViolation("snapshot: a search domain is no text")
    if not all(_BYTES(server) for server in snapshot["servers"]):
        raise ProtocolViolation("snapshot: a server is no address")


def _check_map(what: str, value: Any, keys: Mapping[str, Check]) -> None:
    if not _mapping(value):
        raise ProtocolViolation(f"snapshot: {what} is not a map")
    for key, check in keys.items():
        if key not in value or not check(value[key]):
            raise ProtocolViolation(f"snapshot: {key} of {what} is missing or wrong")

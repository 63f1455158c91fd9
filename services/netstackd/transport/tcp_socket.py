"""TcpSocket: what a user of TCP holds, over an Endpoint or a Listener of transport/tcp.

    closed -- bind --> bound -- listen --> listening -- accept --> (new sockets)
                            \\- connect --> connecting --> connected

The socket owns the claim to its port; the protocol owns everything else. After `close` the connection goes on by itself
until it is over.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from select import POLLERR, POLLHUP, POLLOUT
from typing import TYPE_CHECKING, Final

from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.network.routes import BROADCAST, MULTICAST
from services.netstackd.storage.packet import Packet, Payload
from services.netstackd.transport.base import (
    AF_INET6,
    MAPPED,
    MSG_OOB,
    MSG_PEEK,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SOCK_STREAM,
    SOL_SOCKET,
    SOL_TCP,
    Socket,
    SocketAddress,
)
from services.netstackd.transport.options import (
    SO_KEEPALIVE,
    SO_LINGER,
    SO_OOBINLINE,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_SNDBUF,
    OptionValue,
    as_int,
    get_option,
    set_option,
)
from services.netstackd.transport.ports import Binding
from services.netstackd.transport.tcp import states
from services.netstackd.transport.tcp.congestion.registry import ALGORITHMS
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.listen import Listener
from services.netstackd.transport.tcp.parameters import SECOND, Options
from services.netstackd.transport.tcp.time_wait import TimeWait
from services.netstackd.transport.tcp_path import TcpPath, flow_bytes, flow_of
from services.netstackd.wire.numbers import PROTO_TCP, is_link_local_v6, is_multicast

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

# tcp(7)
TCP_NODELAY: Final = 1
TCP_MAXSEG: Final = 2
TCP_CORK: Final = 3
TCP_KEEPIDLE: Final = 4
TCP_KEEPINTVL: Final = 5
TCP_KEEPCNT: Final = 6
TCP_SYNCNT: Final = 7
TCP_LINGER2: Final = 8
TCP_DEFER_ACCEPT: Final = 9
TCP_WINDOW_CLAMP: Final = 10
TCP_INFO: Final = 11
TCP_QUICKACK: Final = 12
TCP_CONGESTION: Final = 13
TCP_USER_TIMEOUT: Final = 18
TCP_FASTOPEN: Final = 23
TCP_NOTSENT_LOWAT: Final = 25
TCP_FASTOPEN_CONNECT: Final = 30

MAX_KEEPIDLE: Final = 32767
MAX_KEEPINTVL: Final = 32767
MAX_KEEPCNT: Final = 127
MAX_SYNCNT: Final = 127

# Options that are a field of tcp/parameters.Options: (field, unit in nanoseconds or 1, lowest, highest).
_FIELDS: Final[dict[tuple[int, int], tuple[str, int, int, int]]] = {
    (SOL_SOCKET, SO_KEEPALIVE): ("keepalive", 0, 0, 0),
    (SOL_SOCKET, SO_OOBINLINE): ("oobinline", 0, 0, 0),
    (SOL_SOCKET, SO_RCVLOWAT): ("rcvlowat", 1, 0, 1 << 31),
    (SOL_TCP, TCP_NODELAY): ("nodelay", 0, 0, 0),
    (SOL_TCP, TCP_CORK): ("cork", 0, 0, 0),
    (SOL_TCP, TCP_MAXSEG): ("maxseg", 1, 88, 32767),
    (SOL_TCP, TCP_KEEPIDLE): ("keepalive_idle", SECOND, 1, MAX_KEEPIDLE),
    (SOL_TCP, TCP_KEEPINTVL): ("keepalive_interval", SECOND, 1, MAX_KEEPINTVL),
    (SOL_TCP, TCP_KEEPCNT): ("keepalive_probes", 1, 1, MAX_KEEPCNT),
    (SOL_TCP, TCP_SYNCNT): ("syncnt", 1, 1, MAX_SYNCNT),
    (SOL_TCP, TCP_LINGER2): ("linger2", SECOND, -1, 120),
    (SOL_TCP, TCP_DEFER_ACCEPT): ("defer_accept", SECOND, 0, 1 << 20),
    (SOL_TCP, TCP_WINDOW_CLAMP): ("window_clamp", 1, 0, 1 << 30),
    (SOL_TCP, TCP_QUICKACK): ("quickack", 1, 0, 1),
    (SOL_TCP, TCP_USER_TIMEOUT): ("user_timeout", 1_000_000, 0, 1 << 31),
    (SOL_TCP, TCP_FASTOPEN): ("fastopen", 1, 0, 1 << 16),
    (SOL_TCP, TCP_FASTOPEN_CONNECT): ("fastopen_connect", 0, 0, 0),
    (SOL_TCP, TCP_NOTSENT_LOWAT): ("notsent_lowat", 1, 0, 1 << 32),
}


class TcpSocket(Socket):
    """See the module. NetErrors are those of tcp(7)."""

    type = SOCK_STREAM

    def __init__(self, stack: Stack, family: int, protocol: int = PROTO_TCP, options: Options | None = None) -> None:
        super().__init__(stack, family, protocol)
        self.tcp_options: Options = Options(stack.tcp.context.parameters) if options is None else options
        self.binding: Binding | None = None
        self.endpoint: Endpoint | None = None
        self.listener: Listener | None = None
        self.local = 0
        self.local_port = 0
        self.preferred_port = 0
        self.remote: SocketAddress | None = None
        self.v6only = False
        self.freebind = False
        self.tos = 0
        self.ttl = -1
        self.min_ttl = 0
        self.pmtu_discover = 1
        self._announced = False  # the outcome of connect was told

    # -- names --

    def bind(self, address: SocketAddress) -> None:
        """bind(2); port 0 chooses one. NetError: EINVAL, EADDRNOTAVAIL, EADDRINUSE."""
        self.require_open()
        if self.binding is not None or self.endpoint is not None:
            raise NetError(errno.EINVAL, "already bound")
        value, port, scope = address
        version, wire = self._own_address(value, scope)
        binding = self._new_binding(version, wire, port)
        ports = self.stack.tcp.ports
        if not port:
            port = ports.choose_any(lambda candidate: self._is_free(binding, candidate))
            if not port:
                raise NetError(errno.EADDRINUSE, "no port is free")
            binding.port = port
        elif port in self.stack.tcp.port_use and not (self.reuse_address or self.reuse_port) and not ports.on(port):
            raise NetError(errno.EADDRINUSE, f"a connection still uses port {port}")
        if not ports.add(binding):
            raise NetError(errno.EADDRINUSE, f"port {port} is in use")
        self.binding = binding
        self.local = value
        self.local_port = port

    def prefer(self, address: SocketAddress) -> None:
        """A name for `connect`: the address, and the port if it is free then for such a connection, as though connect
        had chosen it (bind(2) would take it from everybody). NetError: EINVAL (has a name), EADDRNOTAVAIL."""
        self.require_open()
        if self.binding is not None or self.endpoint is not None:
            raise NetError(errno.EINVAL, "already bound")
        value, port, scope = address
        self._own_address(value, scope)
        self.local = value
        self.preferred_port = port

    def _own_address(self, value: int, scope: int) -> tuple[int, int]:
        """Version and value on the wire of an address of this host. NetError EADDRNOTAVAIL: it is none."""
        version, wire = self.to_wire(value)
        if wire and not self.freebind and not self.stack.is_local(version, wire, scope):
            raise NetError(errno.EADDRNOTAVAIL, "not an address of this host")
        return version, wire

    def _new_binding(self, version: int, address: int, port: int) -> Binding:
        return Binding(
            version,
            address,
            port,
            device=self.device,
            reuse_address=self.reuse_address,
            reuse_port=self.reuse_port,
            v6only=self.v6only,
            owner=self,
        )

    def _is_free(self, binding: Binding, port: int) -> bool:
        binding.port = port
        tcp = self.stack.tcp
        return port not in tcp.port_use and not any(binding.overlaps(other) for other in tcp.ports.on(port))

    def name(self) -> SocketAddress:
        """getsockname(2)."""
        return (self.local, self.local_port, 0)

    def peer(self) -> SocketAddress:
        """getpeername(2). NetError: ENOTCONN."""
        endpoint = self.endpoint
        if self.remote is None or endpoint is None or endpoint.state in (states.SYN_SENT, states.CLOSED):
            raise NetError(errno.ENOTCONN, "not connected")
        return self.remote

    # -- connecting --

    def connect(self, address: SocketAddress, data: bytes = b"") -> None:
        """connect(2), `data` by fast open. Raises EINPROGRESS the first time, as nothing has come of it yet; later
        EALREADY, EISCONN, or the error that ended it. NetError also: ENETUNREACH, EADDRNOTAVAIL, EADDRINUSE."""
        self.require_open()
        if self.listener is not None:
            raise NetError(errno.EISCONN, "a listening socket")
        endpoint = self.endpoint
        if endpoint is not None:
            self._connect_again(endpoint)
            return
        stack = self.stack
        value, port, scope = address
        version, destination = self.to_wire(value)
        if version == 4 and self.family == AF_INET6 and self.v6only:
            raise NetError(errno.ENETUNREACH, "an IPv4 destination on an IPv6-only socket")
        if destination == 0:
            destination = 0x7F000001 if version == 4 else 1
            value = self.from_wire(version, destination)
        device = self.device or (stack.interfaces.get(scope) if scope else None)
        own, source = self.to_wire(self.local) if self.local else (version, 0)
        if own != version:
            raise NetError(errno.EINVAL, "bound to an address of the other version")
        way = stack.routing(version).output(destination, source, device, self.mark, self.tos)
        if way.error:
            raise NetError(way.error, "no route")
        if way.kind in (BROADCAST, MULTICAST) or is_multicast(version, destination):
            raise NetError(errno.ENETUNREACH, "not a unicast destination")
        source = source or way.source
        local_port = self._port_for(version, source, destination, port)
        path = TcpPath(
            stack,
            version,
            source,
            local_port,
            destination,
            port,
            device=device,
            mark=self.mark,
            tos=self.tos & 0xFC,
            ttl=max(self.ttl, 0),
        )
        path.pmtu_discover = self.pmtu_discover != 0
        flow = flow_bytes(version, source, local_port, destination, port)
        endpoint = Endpoint(stack.tcp.context, path, flow, self.tcp_options)
        self._adopt(endpoint)
        self.local = self.from_wire(version, source)
        self.local_port = local_port
        self.remote = (value, port, scope)
        key = (destination, source, port, local_port)
        before = stack.tcp.find(version, key)
        stack.tcp.enter(version, key, endpoint)
        endpoint.connect(stack.now, data, before if isinstance(before, TimeWait) else None)
        raise NetError(errno.EINPROGRESS, "connecting")

    def _connect_again(self, endpoint: Endpoint) -> None:
        if endpoint.state == states.SYN_SENT or (endpoint.state == states.SYN_RECEIVED and not self._announced):
            raise NetError(errno.EALREADY, "still connecting")
        if endpoint.state == states.CLOSED:
            number = endpoint.take_error()
            if number:
                raise NetError(number, "could not connect")
            raise NetError(errno.ECONNABORTED, "the connection is over")
        if self._announced:
            raise NetError(errno.EISCONN, "connected")
        self._announced = True

    def _port_for(self, version: int, source: int, destination: int, port: int) -> int:
        """The local port: the bound one, if that pair is free, the preferred one, or a new one (RFC 6056)."""
        tcp = self.stack.tcp
        if self.local_port:
            present = tcp.find(version, (destination, source, port, self.local_port))
            if present is not None and not self._may_reuse(present):
                raise NetError(errno.EADDRNOTAVAIL, "there is such a connection")
            return self.local_port

        def is_free(candidate: int) -> bool:
            present = tcp.find(version, (destination, source, port, candidate))
            if present is not None:
                return self._may_reuse(present)
            return not any(
                other.listening or not other.reuse_address
                for other in tcp.ports.on(candidate)
                if other.address in (0, source)
            )

        if self.preferred_port and is_free(self.preferred_port):
            return self.preferred_port
        chosen = tcp.ports.choose(source, destination, port, is_free)
        if not chosen:
            raise NetError(errno.EADDRNOTAVAIL, "no port is free")
        return chosen

    def _may_reuse(self, present: Endpoint | TimeWait) -> bool:
        mode = self.stack.tcp.context.parameters.tw_reuse
        if not isinstance(present, TimeWait) or not mode:
            return False
        path = present.route
        local = isinstance(path, TcpPath) and path.on_loopback
        return (mode == 1 or local) and present.may_reuse(self.stack.now)

    def _adopt(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        endpoint.owner = self
        endpoint.on_event = self._on_event

    def _on_event(self, endpoint: Endpoint, mask: int) -> None:
        self.wake(mask)

    # -- listening --

    def listen(self, backlog: int) -> None:
        """listen(2); a socket that is not bound gets a port. NetError: EINVAL (connected), EADDRINUSE."""
        self.require_open()
        if self.endpoint is not None:
            raise NetError(errno.EINVAL, "connected")
        if self.listener is not None:
            self.listener.set_backlog(backlog)
            return
        if self.binding is None:
            self.bind((0, 0, 0))
        binding = self.binding
        assert binding is not None
        binding.listening = True
        if self.stack.tcp.ports.conflict(binding):
            binding.listening = False
            raise NetError(errno.EADDRINUSE, "another socket listens there")
        self.listener = Listener(self.stack.tcp.context, self.tcp_options, backlog)
        self.listener.owner = self
        self.listener.on_event = self._on_listener_event

    def _on_listener_event(self, listener: Listener, mask: int) -> None:
        self.wake(mask)

    def path_for(self, version: int, packet: Packet) -> TcpPath:
        """See demux.ListenerOwner."""
        scoped = version == 6 and packet.src >> 118 == 0x3FA
        path = TcpPath(
            self.stack,
            version,
            packet.dst,
            packet.dport,
            packet.src,
            packet.sport,
            device=packet.iface if scoped else self.device,
            mark=self.mark,
            tos=self.tos & 0xFC,
            ttl=max(self.ttl, 0),
        )
        path.pmtu_discover = self.pmtu_discover != 0
        return path

    def accept(self) -> TcpSocket:
        """accept(2). NetError: EINVAL (not listening); WouldBlock."""
        self.require_open()
        if self.listener is None:
            raise NetError(errno.EINVAL, "not listening")
        endpoint = self.listener.accept()
        if endpoint is None:
            raise WouldBlock("no connection to accept")
        child = TcpSocket.of_endpoint(self.stack, self.family, endpoint)
        child.device, child.mark, child.priority = self.device, self.mark, self.priority
        child.tos, child.ttl, child.v6only = self.tos, self.ttl, self.v6only
        child.min_ttl = self.min_ttl
        child.reuse_address, child.reuse_port = self.reuse_address, self.reuse_port
        return child

    @classmethod
    def of_endpoint(cls, stack: Stack, family: int, endpoint: Endpoint) -> TcpSocket:
        """The socket over a connection that came in."""
        child = cls(stack, family, options=endpoint.options)
        child._adopt(endpoint)
        child._announced = True
        version, local, local_port, remote, remote_port = flow_of(endpoint.flow)
        scope = 0
        if version == 6:
            path = endpoint.route
            if is_link_local_v6(remote) and isinstance(path, TcpPath) and path.device is not None:
                scope = path.device.index
        elif family == AF_INET6:
            local, remote = MAPPED | local, MAPPED | remote
        child.local, child.local_port = local, local_port
        child.remote = (remote, remote_port, scope)
        return child

    # -- data --

    def _connected(self) -> Endpoint:
        endpoint = self.endpoint
        self.require_open()
        if endpoint is None:
            raise NetError(errno.ENOTCONN, "not connected")
        return endpoint

    def send(self, data: Payload, flags: int = 0) -> int:
        """send(2): how many bytes were taken. NetError: EPIPE, ENOTCONN, the connection's error; WouldBlock."""
        endpoint = self.endpoint
        if endpoint is None:
            self.require_open()
            raise NetError(errno.EPIPE, "not connected")
        if endpoint.state == states.SYN_SENT or endpoint.state == states.SYN_RECEIVED:
            if not endpoint.error and not endpoint.send_shutdown:
                raise WouldBlock("still connecting")
        taken = endpoint.write(data, is_urgent=bool(flags & MSG_OOB))
        if taken > 0:
            return taken
        if taken == 0:
            if not len(data):
                return 0
            raise WouldBlock("no room")
        raise NetError(-taken, "could not be sent")

    def receive(self, limit: int, flags: int = 0) -> bytes:
        """recv(2); b"" at the end of the stream. NetError: ENOTCONN, the connection's error; WouldBlock."""
        endpoint = self._connected()
        if flags & MSG_OOB:
            value = endpoint.read_urgent(peek=bool(flags & MSG_PEEK))
            if value >= 0:
                return bytes((value,))
            if value == -errno.EAGAIN:
                raise WouldBlock("the urgent byte is not here yet")
            raise NetError(-value, "no urgent data")
        data = endpoint.read(limit, peek=bool(flags & MSG_PEEK))
        if isinstance(data, int):
            if data == -errno.EAGAIN:
                raise WouldBlock("nothing to read")
            raise NetError(-data, "could not be read")
        return data

    def shutdown(self, how: int) -> None:
        """shutdown(2); SHUT_RD of a listener stops it. NetError: ENOTCONN."""
        if self.listener is not None:
            if how in (SHUT_RD, SHUT_RDWR):
                self._stop_listening()
            return
        endpoint = self._connected()
        if endpoint.state == states.CLOSED:
            raise NetError(errno.ENOTCONN, "not connected")
        if how in (SHUT_RD, SHUT_RDWR):
            endpoint.shutdown_read()
        if how in (SHUT_WR, SHUT_RDWR):
            number = endpoint.shutdown_write(self.stack.now)
            if number:
                raise NetError(-number, "not connected")

    def _stop_listening(self) -> None:
        listener = self.listener
        if listener is None:
            return
        self.listener = None
        if self.binding is not None:
            self.stack.tcp.forget_listener(listener, self.binding)
        listener.close(self.stack.now)

    def close(self) -> None:
        """See Socket. The connection ends in its own time; a linger of 0 resets it."""
        if self.closed:
            return
        self.closed = True
        self._subscriber = None
        self._stop_listening()
        if self.endpoint is not None:
            self.endpoint.close(self.stack.now)
        if self.binding is not None:
            self.stack.tcp.ports.remove(self.binding)
            self.binding = None

    def poll(self) -> int:
        """See Socket."""
        if self.listener is not None:
            return self.listener.readiness()
        if self.endpoint is not None:
            return self.endpoint.readiness() | (POLLERR if self.error else 0)
        return POLLOUT | POLLHUP

    def take_error(self) -> int:
        """See Socket."""
        if self.endpoint is not None:
            return self.endpoint.take_error()
        return super().take_error()

    # -- options --

    def get_option(self, level: int, name: int) -> OptionValue | dict[str, int]:
        """getsockopt(2). TCP_INFO gives a dict of the fields of struct tcp_info."""
        options = self.tcp_options
        field = _FIELDS.get((level, name))
        if field is not None:
            attribute, unit, _, _ = field
            value = int(getattr(options, attribute))
            return value // unit if unit and value >= 0 else value
        reader = _TCP_READERS.get((level, name))
        if reader is not None:
            return reader(self)
        return get_option(self, level, name)

    def set_option(self, level: int, name: int, value: OptionValue) -> None:
        """setsockopt(2)."""
        field = _FIELDS.get((level, name))
        if field is not None:
            attribute, unit, low, high = field
            number = as_int(value)
            if not unit:
                self._apply(attribute, int(bool(number)))
                return
            if not low <= number <= high:
                raise NetError(errno.EINVAL, f"{number} is out of range")
            self._apply(attribute, number * unit)
            return
        writer = _TCP_WRITERS.get((level, name))
        if writer is not None:
            writer(self, value)
            return
        set_option(self, level, name, value)
        if self.min_ttl:
            self.stack.tcp.guards_ttl = True
        self._settings_changed()

    def _apply(self, attribute: str, value: int) -> None:
        if self.endpoint is not None:
            self.endpoint.set_option(attribute, value, self.stack.now)
        else:
            self.tcp_options.change(attribute, value)

    def _settings_changed(self) -> None:
        """What is a property of the packets goes to the path of a connection that runs."""
        endpoint = self.endpoint
        path = endpoint.route if endpoint is not None else None
        if isinstance(path, TcpPath):
            path.tos = self.tos & 0xFC
            path.ttl = max(self.ttl, 0)
            path.mark = self.mark
            path.pmtu_discover = self.pmtu_discover != 0
            path.refresh()


def _set_linger(socket: TcpSocket, value: OptionValue) -> None:
    """(on, seconds)"""
    if not isinstance(value, tuple) or len(value) != 2:
        raise NetError(errno.EINVAL, "SO_LINGER takes two numbers")
    socket._apply("linger", value[1] * SECOND if value[0] else -1)


def _get_linger(socket: TcpSocket) -> OptionValue:
    linger = socket.tcp_options.linger
    return (0, 0) if linger < 0 else (1, linger // SECOND)


def _set_congestion(socket: TcpSocket, value: OptionValue) -> None:
    name = value.decode("ascii", "replace").rstrip("\0") if isinstance(value, bytes) else str(value)
    try:
        if socket.endpoint is not None:
            socket.endpoint.set_congestion(name)
        else:
            socket.tcp_options.congestion = ALGORITHMS[name].name
    except KeyError as unknown:
        raise NetError(errno.ENOENT, f"no congestion control named {name}") from unknown


def _get_info(socket: TcpSocket) -> dict[str, int]:
    if socket.endpoint is None:
        return {"state": states.LISTEN if socket.listener is not None else states.CLOSED}
    return socket.endpoint.info(socket.stack.now)


def _set_buffer(name: str, attribute: str) -> Callable[[TcpSocket, OptionValue], None]:
    def change(socket: TcpSocket, value: OptionValue) -> None:
        set_option(socket, SOL_SOCKET, SO_RCVBUF if name == "rcvbuf" else SO_SNDBUF, value)
        socket._apply(attribute, getattr(socket, name))

    return change


def _get_buffer(name: str) -> Callable[[TcpSocket], OptionValue]:
    def read(socket: TcpSocket) -> OptionValue:
        endpoint = socket.endpoint
        chosen = int(getattr(socket.tcp_options, name))
        if chosen:
            return chosen
        parameters = socket.stack.tcp.context.parameters
        initial = parameters.rmem[1] if name == "rcvbuf" else parameters.wmem[1]
        return int(getattr(endpoint, name)) if endpoint is not None else initial

    return read


_TCP_READERS: Final[dict[tuple[int, int], Callable[[TcpSocket], OptionValue | dict[str, int]]]] = {
    (SOL_SOCKET, SO_LINGER): _get_linger,
    (SOL_SOCKET, SO_RCVBUF): _get_buffer("rcvbuf"),
    (SOL_SOCKET, SO_SNDBUF): _get_buffer("sndbuf"),
    (SOL_TCP, TCP_CONGESTION): lambda socket: socket.tcp_options.congestion,
    (SOL_TCP, TCP_INFO): _get_info,
}
_TCP_WRITERS: Final[dict[tuple[int, int], Callable[[TcpSocket, OptionValue], None]]] = {
    (SOL_SOCKET, SO_LINGER): _set_linger,
    (SOL_SOCKET, SO_RCVBUF): _set_buffer("rcvbuf", "rcvbuf"),
    (SOL_SOCKET, SO_SNDBUF): _set_buffer("sndbuf", "sndbuf"),
    (SOL_TCP, TCP_CONGESTION): _set_congestion,
}

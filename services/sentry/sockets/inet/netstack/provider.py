"""The provider for addresses beyond this host: what the socket service's namespace has, and which socket is which id.

Owns the connection to the service and the objects that stand for sockets there (`Far`s), by their ids. Life: `join` ->
sockets use it -> the connection ends (`_lost`: every connection is reset, no route is left) -> `restarted` with a new
one (listeners and datagram sockets are opened there again).
"""

from __future__ import annotations

import errno
import os
import resource
import select
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.control.msgpack_subset import Fd
from protocol.errors import ProtocolViolation
from protocol.netstack.messages import COUNTERS, MAX_CLIENT_ID, VERSION
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.addresses import Endpoint, is_multicast
from services.sentry.sockets.inet.interfaces import LinkCounters, Neighbour
from services.sentry.sockets.inet.netstack.channel_unsafe import Channel, is_usable
from services.sentry.sockets.inet.netstack.client import FIRST_PATIENCE_NS, Client, Transport, close_fds
from services.sentry.sockets.inet.netstack.datagrams import FarDatagrams
from services.sentry.sockets.inet.netstack.listeners import FarListener
from services.sentry.sockets.inet.netstack.packets import FarPackets
from services.sentry.sockets.inet.netstack.routing import NOWHERE, Network
from services.sentry.sockets.inet.netstack.streams import FarStream
from services.sentry.sockets.inet.network import Makers
from services.sentry.sockets.inet.provider import Route
from services.sentry.sockets.inet.raw import PingSocket, RawSocket
from services.sentry.sockets.packet.endpoint import create as create_packet_socket
from services.sentry.sockets.registry import Family, SocketFamilies

if TYPE_CHECKING:
    from services.sentry.sockets.inet.interfaces import Interface, RouteEntry
    from services.sentry.sockets.inet.network import InetNetwork
    from services.sentry.sockets.inet.tcp import TcpSocket
    from services.sentry.sockets.inet.udp import Datagram, UdpSocket
    from services.sentry.sockets.packet.endpoint import PacketSocket

__all__ = ["NetstackProvider"]

_MAPPED: Final = bytes(10) + b"\xff\xff"
_MAX_NEIGHBOURS: Final = 4096
_MAX_INTERFACES: Final = 256
_MAX_COUNTER: Final = (1 << 64) - 1
#: What is left to files, and to connections that arrive while there is no room for them.
_OTHER_DESCRIPTORS: Final = 512

FarSocket = FarStream | FarListener | FarDatagrams


class NetstackProvider:
    """See the module. client: None while there is no connection; sockets: id -> what stands for a socket there.

    flushes_soon: something is asked that was not written yet; it is written before any data. room: how many host
    sockets may still be taken in. Beyond that the host would drop descriptors on their way, and
    with them the sense of what the service says.
    """

    def __init__(self, network: InetNetwork, channel: Callable[[int], Transport] = Channel) -> None:
        self.network = network
        self._channel = channel
        self.kernel = network.kernel
        self.client: Client | None = None
        self.view: Network = NOWHERE
        self.shared = False
        self.has_rings = self.has_carries = False
        self.sockets: dict[int, FarSocket] = {}
        self.room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_DESCRIPTORS
        self._last_id = 0
        self._watching_room = False
        self.flushes_soon = False

    # --- the connection ---
    def join(self, fd: int) -> None:
        """Speak to the service on `fd`: greetings and the first snapshot. OSError: it does not answer as it should."""
        client = self.client = Client(self._channel(fd), self._event, self._lost)
        greeting, asked = client.request("hello", VERSION, None), client.request("network")
        try:
            greeted = client.answer(greeting, FIRST_PATIENCE_NS)
            self.shared = isinstance(greeted, dict) and greeted.get("shared") is True
            self.has_rings = isinstance(greeted, dict) and greeted.get("rings") is True
            self.has_carries = isinstance(greeted, dict) and greeted.get("carries") is True
            self.view = Network.from_snapshot_untrusted(client.answer(asked, FIRST_PATIENCE_NS))
        except (LinuxError, ProtocolViolation) as error:
            client.end()
            raise OSError(errno.EPROTO, f"the network stack does not answer: {error}") from None
        if self not in self.network.providers:
            self.network.providers.append(self)
            self.network.makers = Makers(PingSocket, RawSocket)
            families = self.kernel.part(SocketFamilies).rows
            families[so.AF_PACKET] = Family(create_packet_socket, None)
        self.network.changed()
        self._watch()

    def restarted(self, fd: int) -> None:
        """A new service is at the other end of `fd`. Listeners and datagram sockets are opened there anew."""
        if self.client is not None:
            self.client.end()
        try:
            self.join(fd)
        except OSError as error:
            self.kernel.log.error("no network any more", exc_info=error)
            return
        for listeners in list(self.network.listeners.values()):
            for listener in listeners:
                self._again(self.listen, listener)
        for owner in self.network.all_datagram_sockets():
            self._again(self.bound, owner)
        for packet in list(self.network.packets):
            self._again(self.open_packet, packet)

    def _again(self, open_: Any, socket: Any) -> None:
        try:
            open_(socket)
        except LinuxError as error:
            socket.error = error.errno
            socket.queue.wake()

    def _watch(self) -> None:
        client = self.client
        if client is None or self.kernel.host_poll is None:
            return
        self._watching_room = client.has_unsent
        mask = select.POLLIN | (select.POLLOUT if self._watching_room else 0)
        self.kernel.host_poll.watch(client.transport.fd, mask, self._ready)

    def _ready(self, bits: int) -> None:
        """host_poll's callback for the connection."""
        client = self.client
        if client is None:
            return
        client.receive_some()
        self.flush()

    def flush_soon(self) -> None:
        """As `flush`, when guests have nothing to ask for a moment: what is asked until then goes with it."""
        host_poll = self.kernel.host_poll
        if host_poll is None:
            self.flush()
        elif not self.flushes_soon:
            self.flushes_soon = True
            host_poll.defer(self.flush)

    def flush(self) -> None:
        """Write what was asked of the service, now or when it has room."""
        self.flushes_soon = False
        client = self.client
        if client is not None:
            client.flush()
            if client.has_unsent != self._watching_room and client.alive:
                self._watch()

    def _lost(self) -> None:
        client, self.client = self.client, None
        if client is not None and self.kernel.host_poll is not None:
            self.kernel.host_poll.unwatch(client.transport.fd)
        self.view = self.view.without_links()
        sockets, self.sockets = self.sockets, {}
        for each in sockets.values():
            each.lost()
        self.network.changed()

    @property
    def connection(self) -> Client:
        """ENETDOWN: there is none."""
        if self.client is None:
            raise LinuxError(errno.ENETDOWN)
        return self.client

    # --- what it says ---
    def _event(self, method: str, params: Sequence[Any]) -> None:
        if method == "network":
            self.view = Network.from_snapshot_untrusted(params[0])
            self.network.changed()
            return
        if method == "apart":
            self.kernel.platform.settle(frozenset(params[0]))
            return
        found = self.sockets.get(params[0])
        if found is not None and method == "error":
            found.failed(params[1] or errno.EIO)
            return
        match method, found:
            case "connected", FarStream():
                found.connected(as_endpoint(params[1]), self.descriptor(params[3]))
            case "accepted", FarListener():
                ends = as_endpoint(params[2]), as_endpoint(params[3])
                if isinstance(params[4], bytes):
                    found.accepted_carried(params[1], *ends, params[4])
                else:
                    found.accepted(params[1], *ends, self.descriptor(params[4]))
            case "accepted", _:  # it does not listen any more
                close_fds(list(params))
                self.notify("abort", params[1])
                self.flush()
            case "data", FarStream():
                found.arrived(params[1])
            case "urgent", FarStream():
                found.urgent(params[1], params[2])
            case "gone", FarStream():
                del self.sockets[params[0]]
                found.gone()
            case _:  # about what is closed here
                close_fds(list(params))

    @staticmethod
    def descriptor(value: object) -> int:
        """The number of a donated descriptor. ProtocolViolation: something else."""
        if not isinstance(value, Fd):
            raise ProtocolViolation("netstack: no descriptor")
        return value.number

    # --- host sockets ---
    def accepts(self, fd: int, kind: int) -> bool:
        """Whether a descriptor that came is to be kept: a socket of that type, and there is room. Else it is closed."""
        if self.room > 0 and is_usable(fd, kind):
            self.room -= 1
            return True
        os.close(fd)
        return False

    def give_back(self, fd: int) -> None:
        """Close a descriptor that was kept."""
        self.room += 1
        if self.kernel.host_poll is not None:
            self.kernel.host_poll.forget(fd)
        os.close(fd)

    # --- ids ---
    def new_id(self, far: FarSocket) -> int:
        """A number for `far`, from which on it gets what is said about it."""
        number = self._last_id
        while True:
            number = number + 1 if number < MAX_CLIENT_ID else 1
            if number not in self.sockets:
                break
        self._last_id = number
        self.sockets[number] = far
        return number

    def notify(self, method: str, *params: object) -> None:
        """As Client.notify; nothing when there is no connection."""
        if self.client is not None:
            self.client.notify(method, *params)

    def hint(self, number: int, level: int, name: int, value: object) -> None:
        """Set an option of a socket there. The service may not know it: nothing comes of that."""
        self.notify("hint", number, level, name, value)

    def attempt(self, method: str, *params: object) -> None:
        """Ask for what may fail without consequence."""
        if self.client is not None:
            self.client.forget(self.client.request(method, *params))

    # --- Provider ---
    @property
    def interfaces(self) -> tuple[Interface, ...]:
        return self.view.interfaces

    @property
    def routes(self) -> tuple[RouteEntry, ...]:
        return self.view.routes

    def kind_of(self, address: bytes) -> int:
        return self.view.kind_of(address)

    def lookup(self, destination: bytes, interface: int) -> Route | None:
        hop = self.view.hop(destination, interface)
        if hop is None:
            return None
        kind = self.network.kind_of(destination) or rt.RTN_UNICAST
        return Route(hop.source, kind, self, hop.interface, hop.gateway)

    def open_packet(self, socket: PacketSocket) -> None:
        if self.client is not None:
            FarPackets(self, socket).bind()

    def neighbours(self) -> list[Neighbour]:
        """Asked for each time: they change too often to be kept."""
        if self.client is None:
            return []
        try:
            return [Neighbour(*each) for each in _neighbours_untrusted(self.client.call("neighbours"))]
        except LinuxError:
            return []

    def counters(self) -> dict[int, LinkCounters]:
        """Asked for each time, as neighbours are."""
        if self.client is None:
            return {}
        try:
            return _counters_untrusted(self.client.call("counters"))
        except LinuxError:
            return {}

    def configure(self, verb: str, values: dict[str, object]) -> None:
        self.connection.call("configure", verb, values)
        self.connection.receive()

    def connect(self, socket: TcpSocket, destination: Endpoint) -> None:
        if self.client is None:
            socket.reset(errno.ENETUNREACH)
            return
        if self.room <= 0:
            socket.reset(errno.ENOBUFS)
            return
        FarStream(self, socket).connect(destination)
        self.flush()

    def listen(self, socket: TcpSocket) -> None:
        if self.client is not None and self.concerns(socket.claim):
            if isinstance(socket.far, FarListener) and socket.far.alive:
                socket.far.resize()
            else:
                FarListener(self, socket).listen()

    def bound(self, socket: UdpSocket) -> None:
        if self.client is not None:
            far = socket.far
            if self.concerns(socket.claim):
                if far is None or not far.alive:
                    far = FarDatagrams(self, socket)
                far.bind()
            elif far is not None:
                far.close()

    def send(self, socket: UdpSocket, datagram: Datagram, destination: Endpoint) -> bool:
        far = socket.far
        if far is None or not far.alive:
            far = FarDatagrams(self, socket)
            far.bind()
        far.send(datagram, destination)
        return True

    def concerns(self, claim: bytes) -> bool:
        """Whether what comes from outside can be for the owner of `claim`."""
        return not any(claim) or is_multicast(claim) or self.view.kind_of(claim) != rt.RTN_UNSPEC


def _neighbours_untrusted(value: object) -> list[tuple[int, bytes, bytes, int]]:
    """The answer to `neighbours`; what makes no sense is left out."""
    found: list[tuple[int, bytes, bytes, int]] = []
    for each in value if isinstance(value, list) else ():
        match each:
            case [int() as index, bytes() as address, bytes() as hardware, int() as state] if len(address) in (4, 16):
                found.append((index, address, hardware[:32], state & 0xFFFF))
    return found[:_MAX_NEIGHBOURS]


def _counters_untrusted(value: object) -> dict[int, LinkCounters]:
    """The answer to `counters`; what makes no sense is left out, and numbers are those of 64 bits."""
    found: dict[int, LinkCounters] = {}
    for each in value[:_MAX_INTERFACES] if isinstance(value, list) else ():
        if isinstance(each, list) and len(each) == 1 + len(COUNTERS) and all(type(number) is int for number in each):
            found[each[0]] = LinkCounters(*(number & _MAX_COUNTER for number in each[1:]))
    return found


def as_endpoint(value: Sequence[Any]) -> Endpoint:
    """An addr of the protocol, mapped addresses as IPv4."""
    address = bytes(value[0])
    if address[:12] == _MAPPED:
        address = address[12:]
    return Endpoint(address, value[1], value[2])

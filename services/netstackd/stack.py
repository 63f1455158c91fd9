"""Stack: one TCP/IP stack. It owns interfaces, addresses, routes, neighbours, sockets and timers, and does no I/O.

Whoever drives it (edge/loop.py, a test) calls, with `now` in nanoseconds of one monotonic clock:

    receive(iface, packets, now)    a batch of frames that came in on one interface
    advance(now)                    fire the timers that are due
    flush(now)                      let everyone say what is due now; then iface.tx holds what must go out
    next_deadline()                 when `advance` wants to be called next, or None

and drains `tx` of every interface in `take_sending()` after a flush. A flush is also due after calls of sockets and of
the configuration.

Hooks (filter/ sets them; None costs one test). Each is called with the packet and returns whether it goes on; one that
returns False has counted why, or keeps the packet:

    prerouting    received, before it is known whether it is for us; may change addresses and ports
    input         for a socket or service of ours
    forward       for someone else; `packet.out` is where it will leave
    output        made here, routed; the packet is routed again when the hook has changed its destination or mark
    postrouting   about to leave, `packet.out` says where

Events: `subscribe(callback)` is told (kind, object) of what changes: "interface" and "interface-gone" (Interface),
"address" and "address-gone" (Address), "route" and "route-gone" (Route), "neighbour" (Neighbour),
"router-advertisement" (Interface).
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Final

from services.netstackd.counters import COUNTER, Counters
from services.netstackd.errors import NetError
from services.netstackd.network.addresses import (
    ORIGIN_LINK_LOCAL,
    ORIGIN_SLAAC,
    ORIGIN_STATIC,
    SCOPE_HOST,
    Address,
    Addresses,
)
from services.netstackd.network.arp import Arp
from services.netstackd.network.dad import Dad
from services.netstackd.network.forwarding import Forwarding
from services.netstackd.network.fragments import Reassembly
from services.netstackd.network.icmp import Icmp, IcmpError
from services.netstackd.network.icmpv4 import Icmp4
from services.netstackd.network.icmpv6 import Icmp6
from services.netstackd.network.interface import ETHERNET, LOOPBACK, Interface
from services.netstackd.network.ipv4 import Ipv4
from services.netstackd.network.ipv6 import Ipv6
from services.netstackd.network.link_output import LinkOutput
from services.netstackd.network.multicast import Multicast
from services.netstackd.network.ndp import Ndp
from services.netstackd.network.neighbours import Neighbour, Neighbours
from services.netstackd.network.routes import BROADCAST, LOCAL, Key, Route, Rule
from services.netstackd.network.routing import Routing
from services.netstackd.network.slaac import Slaac
from services.netstackd.storage.packet import (
    CSUM_NONE,
    CSUM_VALID,
    LOOPED,
    TO_BROADCAST,
    TO_MULTICAST,
    TO_OTHER_HOST,
    Packet,
)
from services.netstackd.storage.timers import Timers
from services.netstackd.transport.demux import Demux
from services.netstackd.transport.packet_tap import PacketSocket, describe
from services.netstackd.transport.ping import Ping
from services.netstackd.transport.raw import Raw
from services.netstackd.transport.tcp.context import TcpContext
from services.netstackd.transport.tcp.parameters import Parameters
from services.netstackd.transport.tcp_frames import MIN_BYTES, TcpFrames
from services.netstackd.transport.udp import Udp
from services.netstackd.wire.ethernet import BROADCAST as LINK_BROADCAST
from services.netstackd.wire.ethernet import HEADER as LINK_HEADER
from services.netstackd.wire.numbers import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_QINQ,
    ETHERTYPE_VLAN,
    IPV4_ALL_SYSTEMS,
    IPV4_BROADCAST,
    IPV4_LOOPBACK,
    IPV6_ALL_NODES,
    IPV6_LOOPBACK,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_IGMP,
    PROTO_TCP,
    PROTO_UDP,
    is_link_local_v6,
)

# Packets that wait to be received again (loopback, own multicast), and how often a flush goes round for them.
LOOP_LIMIT: Final = 4096
LOOP_ROUNDS: Final = 64
INTERFACE_LIMIT: Final = 4096

_SHORT: Final = COUNTER["DropEthernetShort"]
_OTHER_HOST: Final = COUNTER["DropEthernetOtherHost"]
_UNKNOWN_TYPE: Final = COUNTER["DropEthernetUnknownType"]
_UNKNOWN_VLAN: Final = COUNTER["DropEthernetUnknownVlan"]
_DOWN: Final = COUNTER["DropInterfaceDown"]
_LOOP_FULL: Final = COUNTER["DropLinkQueueFull"]
_IPV4_VERSION: Final = COUNTER["DropIpv4Version"]

Hook = Callable[[Packet], bool]
Listener = Callable[[str, object], None]


class Hooks:
    """The five places where a filter looks at packets, and what it needs from the stack."""

    __slots__ = ("defragment", "forward", "input", "output", "postrouting", "prerouting")

    def __init__(self) -> None:
        self.prerouting: Hook | None = None
        self.input: Hook | None = None
        self.forward: Hook | None = None
        self.output: Hook | None = None
        self.postrouting: Hook | None = None
        self.defragment = False  # put fragments together before prerouting (connection tracking needs ports)


class Stack:
    """See the module. `rng` must not be seeded where others can guess it; `secret` keys hashes (32 bytes)."""

    def __init__(self, rng: random.Random, secret: bytes, now: int = 0, tcp: Parameters | None = None) -> None:
        self.rng = rng
        self.secret = secret
        self.now = now
        self.flow_seed = rng.getrandbits(32)
        self.counters: Final = Counters()
        self._count = self.counters.values
        self.timers: Final = Timers()
        self.hooks: Final = Hooks()
        self.interfaces: Final[dict[int, Interface]] = {}
        self.loopback: Interface | None = None
        self.taps: list[PacketSocket] = []
        self._listeners: list[Listener] = []
        self._looped: list[Packet] = []
        self.sending: dict[Interface, None] = {}  # interfaces whose `tx` may hold something
        self._next_index = 1
        self._broadcasts: frozenset[int] | None = None
        self._expiry = self.timers.new(self._expire)

        self.routing4: Final = Routing(self, 4)
        self.routing6: Final = Routing(self, 6)
        self.neighbours4: Final = Neighbours(self, 4)
        self.neighbours6: Final = Neighbours(self, 6)
        self.link_output: Final = LinkOutput(self)
        self.forwarding: Final = Forwarding(self)
        self.reassembly: Final = Reassembly(self)
        self.raw: Final = Raw(self)
        self.ipv4: Final = Ipv4(self)
        self.ipv6: Final = Ipv6(self)
        self.icmp4: Final = Icmp4(self)
        self.icmp6: Final = Icmp6(self)
        self.arp: Final = Arp(self)
        self.ndp: Final = Ndp(self)
        self.addresses: Final = Addresses(self)
        self.dad: Final = Dad(self)
        self.slaac: Final = Slaac(self)
        self.multicast4: Final = Multicast(self, 4)
        self.multicast6: Final = Multicast(self, 6)
        self.udp: Final = Udp(self)
        self.ping: Final = Ping(self)
        self.tcp: Final = Demux(self, TcpContext(rng, secret, self.counters, tcp))
        self._tcp_frames: Final = TcpFrames(self)

        self.neighbours4.solicitor = self.arp
        self.neighbours6.solicitor = self.ndp
        self.neighbours4.on_change = self.neighbours6.on_change = self._neighbour_changed
        for handlers, icmp in ((self.ipv4.handlers, PROTO_ICMP), (self.ipv6.handlers, PROTO_ICMPV6)):
            handlers[PROTO_TCP] = self.tcp.input
            handlers[PROTO_UDP] = self.udp.input
            handlers[icmp] = self.icmp4.input if icmp == PROTO_ICMP else self.icmp6.input
        self.ipv4.handlers[PROTO_IGMP] = self.multicast4.input

    # -- driving --

    def receive(self, iface: Interface, packets: list[Packet], now: int) -> None:
        """Take in a batch that arrived on `iface`. Each packet lies wholly in its head, from offset 0 (l2)."""
        self.now = now
        count = self._count
        if not iface.up:
            count[_DOWN] += len(packets)
            iface.rx_dropped += len(packets)
            return
        if iface.kind != ETHERNET:
            for packet in packets:
                packet.iface = iface
                if self.taps:
                    self._tap_input(packet, iface)
                self._receive_ip(packet)
            return
        mac = iface.mac
        unpack = LINK_HEADER.unpack_from
        ipv4_input = self.ipv4.input
        take = self._tcp_frames.take if self._tcp_frames.ready() else None
        for packet in packets:
            if take is not None and packet.end >= MIN_BYTES and take(packet, iface, now):
                continue
            if packet.end < 14:
                count[_SHORT] += 1
                iface.rx_errors += 1
                continue
            packet.iface = iface
            destination, packet.link_src, ethertype = unpack(packet.head)
            packet.link_dst = destination
            packet.l3 = 14
            if self.taps:
                self._tap_input(packet, iface)
            if destination != mac and not self._accept(packet, iface, destination):
                continue
            if ethertype == ETHERTYPE_IPV4:
                packet.ethertype = ethertype
                ipv4_input(packet)
            else:
                self._receive_other(packet, iface, ethertype)

    def _accept(self, packet: Packet, iface: Interface, destination: bytes) -> bool:
        """A frame to another address than ours: set its kind; False for one that is for another host."""
        if destination == LINK_BROADCAST:
            packet.kind = TO_BROADCAST
        elif destination[0] & 1:
            packet.kind = TO_MULTICAST
            iface.multicast += 1
        else:
            packet.kind = TO_OTHER_HOST
            self._count[_OTHER_HOST] += 1
            return False
        return True

    def _receive_other(self, packet: Packet, iface: Interface, ethertype: int) -> None:
        """Everything but untagged IPv4."""
        packet.ethertype = ethertype
        if ethertype == ETHERTYPE_IPV6:
            if iface.ipv6_enabled:
                self.ipv6.input(packet)
        elif ethertype == ETHERTYPE_ARP:
            self.arp.input(packet)
        elif ethertype == ETHERTYPE_VLAN or ethertype == ETHERTYPE_QINQ:
            self._receive_tagged(packet, iface)
        elif ethertype == ETHERTYPE_IPV4:
            self.ipv4.input(packet)
        else:
            self._count[_UNKNOWN_TYPE] += 1

    def _receive_tagged(self, packet: Packet, iface: Interface) -> None:
        """Take one 802.1Q tag off and go on with the VLAN's interface; VLAN 0 is a priority tag (802.1Q 6.9.1)."""
        l3 = packet.l3
        if packet.end < l3 + 4:
            self._count[_SHORT] += 1
            return
        head = packet.head
        tag = head[l3] << 8 | head[l3 + 1]
        ethertype = head[l3 + 2] << 8 | head[l3 + 3]
        packet.l3 = l3 + 4
        packet.vlan = tag
        if tag & 0xFFF:
            vlan = iface.vlans.get(tag & 0xFFF)
            if vlan is None or not vlan.up:
                self._count[_UNKNOWN_VLAN] += 1
                return
            vlan.rx_packets += 1
            vlan.rx_bytes += packet.end - packet.l3
            packet.iface = iface = vlan
            if self.taps:
                self._tap_input(packet, vlan)
        elif ethertype == ETHERTYPE_VLAN:
            self._count[_UNKNOWN_VLAN] += 1
            return
        self._receive_other(packet, iface, ethertype)

    def _receive_ip(self, packet: Packet) -> None:
        """A packet that begins with its IP header at l3."""
        if packet.end <= packet.l3:
            self._count[_SHORT] += 1
            return
        version = packet.head[packet.l3] >> 4
        if version == 6:
            packet.ethertype = ETHERTYPE_IPV6
            self.ipv6.input(packet)
        elif version == 4:
            packet.ethertype = ETHERTYPE_IPV4
            self.ipv4.input(packet)
        else:
            self._count[_IPV4_VERSION] += 1

    def loop_back(self, iface: Interface, packet: Packet) -> None:
        """A packet of ours is to be received again on `iface` (loopback, or a group that we are in), at the next
        flush."""
        if len(self._looped) >= LOOP_LIMIT:
            self._count[_LOOP_FULL] += 1
            return
        head = packet.head
        if packet.body is not None:
            head = bytes(memoryview(head)[: packet.end]) + bytes(packet.body)
            twin = Packet(head, len(head), iface)
        else:
            twin = Packet(head, packet.end, iface)
        twin.l2 = twin.l3 = packet.l3
        twin.csum = CSUM_NONE if packet.csum == CSUM_NONE and iface.kind != LOOPBACK else CSUM_VALID
        if iface.kind != LOOPBACK:
            twin.kind = LOOPED
        twin.gso_size = packet.gso_size
        twin.gso_type = packet.gso_type
        twin.mark = packet.mark
        self._looped.append(twin)

    def advance(self, now: int) -> None:
        """Fire what is due at `now`."""
        self.now = now
        self.timers.advance(now)

    def is_holding(self) -> bool:
        """Whether packets wait for the next flush, or for the link address of a neighbour."""
        if any(iface.tx for iface in self.interfaces.values()):
            return True
        return self.neighbours4.is_holding() or self.neighbours6.is_holding()

    def has_to_flush(self) -> bool:
        """Whether a flush, or whoever drains `tx`, would find anything."""
        return bool(self.tcp.context.pending or self._looped or self.sending)

    def take_sending(self) -> list[Interface]:
        """The interfaces whose `tx` may hold something, to be drained now."""
        found = list(self.sending)
        self.sending.clear()
        return found

    def next_deadline(self) -> int | None:
        """When `advance` has something to do; the present when a flush has."""
        if self._looped or self.tcp.context.pending:
            return self.now
        return self.timers.next_deadline()

    def flush(self, now: int) -> None:
        """Let everyone who has something to say put it into `tx` of its interface, and receive what is looped back.

        Bounded: after LOOP_ROUNDS rounds the rest waits for the next flush, which `next_deadline` then asks for.
        """
        self.now = now
        context = self.tcp.context
        for _ in range(LOOP_ROUNDS):
            if context.pending:
                context.flush(now)
            if not self._looped:
                if not context.pending:
                    return
                continue
            batch, self._looped = self._looped, []
            for packet in batch:
                iface = packet.iface
                assert iface is not None
                if iface.kind == LOOPBACK:
                    iface.rx_packets += 1
                    iface.tx_packets += 1
                    if self.taps:
                        self._tap_input(packet, iface)
                if iface.up:
                    self._receive_ip(packet)

    # -- packet sockets --

    def _tap_input(self, packet: Packet, iface: Interface) -> None:
        frame, ethertype, kind, link = describe(packet, iface, outgoing=False)
        for tap in list(self.taps):
            tap.tap(packet, iface, frame, ethertype, kind, link)

    def tap_output(self, packet: Packet, iface: Interface) -> None:
        """Show a packet that leaves to the packet sockets."""
        frame, ethertype, kind, link = describe(packet, iface, outgoing=True)
        for tap in list(self.taps):
            tap.tap(packet, iface, frame, ethertype, kind, link)

    # -- events --

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of every change from now on."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """No more."""
        self._listeners.remove(listener)

    def tell(self, kind: str, thing: object) -> None:
        """Something changed."""
        for listener in list(self._listeners):
            listener(kind, thing)

    def _neighbour_changed(self, neighbour: Neighbour) -> None:
        if self._listeners:
            self.tell("neighbour", neighbour)

    # -- interfaces --

    def add_interface(self, iface: Interface) -> Interface:
        """Take `iface` in, down, with the next free index. NetError: EEXIST (name or VLAN), ENFILE."""
        if len(self.interfaces) >= INTERFACE_LIMIT:
            raise NetError(errno.ENFILE, "too many interfaces")
        if self.interface(iface.name) is not None:
            raise NetError(errno.EEXIST, f"there is an interface {iface.name}")
        parent = iface.parent
        if parent is not None:
            if iface.vlan_id in parent.vlans:
                raise NetError(errno.EEXIST, f"VLAN {iface.vlan_id} is in use on {parent.name}")
            parent.vlans[iface.vlan_id] = iface
            iface.parent = parent  # follows its state from now on
        iface.index = self._next_index
        self._next_index += 1
        self.interfaces[iface.index] = iface
        if iface.kind == LOOPBACK and self.loopback is None:
            self.loopback = iface
        self.tell("interface", iface)
        return iface

    def remove_interface(self, iface: Interface) -> None:
        """Forget `iface` with its VLANs, addresses, routes and neighbours."""
        for vlan in list(iface.vlans.values()):
            self.remove_interface(vlan)
        self.set_up(iface, False)
        for address in list(iface.addresses):
            if address in iface.addresses:
                self.addresses.remove(address)
        for neighbours in (self.neighbours4, self.neighbours6):
            neighbours.flush(iface, permanent=True)
        self.multicast4.forget_interface(iface)
        self.multicast6.forget_interface(iface)
        if iface.parent is not None:
            iface.parent.vlans.pop(iface.vlan_id, None)
        if iface is self.loopback:
            self.loopback = None
        del self.interfaces[iface.index]
        self.tell("interface-gone", iface)

    def interface(self, name: str) -> Interface | None:
        """By name."""
        return next((iface for iface in self.interfaces.values() if iface.name == name), None)

    def set_up(self, iface: Interface, up: bool) -> None:
        """Set the administrative state. Up: addresses begin to work, IPv6 looks for its link-local address and routers.
        Down: routes over it go, neighbours are forgotten, and what SLAAC made is removed."""
        if iface.up == up:
            return
        iface.up = up
        self.routes_changed()
        if up:
            self._bring_up(iface)
        else:
            self._bring_down(iface)
        self.tell("interface", iface)

    def _bring_up(self, iface: Interface) -> None:
        if iface.kind == LOOPBACK:
            for version, value, length in ((4, IPV4_LOOPBACK, 8), (6, IPV6_LOOPBACK, 128)):
                if self.addresses.on_interface(iface, version, value) is None:
                    self.add_address(iface, version, value, length, scope=SCOPE_HOST)
        else:
            self.multicast4.join(iface, IPV4_ALL_SYSTEMS)
            if iface.ipv6_enabled:
                self.multicast6.join(iface, IPV6_ALL_NODES)
        for address in list(iface.addresses):
            if not self._active(address):
                self.addresses.activate(address)
        if iface.ipv6_enabled and not self.addresses.link_local(iface):
            self.addresses.make_link_local(iface)
        self.multicast4.interface_up(iface)
        self.multicast6.interface_up(iface)

    def _active(self, address: Address) -> bool:
        """Whether it was brought to work when it was added just now (loopback's own)."""
        found = self.routing(address.version).routes.lookup(Key(address.address, 0, address.iface))
        return found.kind == LOCAL and address.usable

    def _bring_down(self, iface: Interface) -> None:
        self.slaac.stop(iface)
        for address in list(iface.addresses):
            if address not in iface.addresses:
                continue  # went with the one it belonged to
            if address.origin in (ORIGIN_SLAAC, ORIGIN_LINK_LOCAL):
                self.addresses.remove(address)
            else:
                self.addresses.deactivate(address)
        self.routing4.routes.forget_interface(iface)
        self.routing6.routes.forget_interface(iface)
        self.neighbours4.flush(iface)
        self.neighbours6.flush(iface)
        iface.tx.clear()

    def set_carrier(self, iface: Interface, carrier: bool) -> None:
        """The link says whether somebody is at the other end."""
        if iface.carrier == carrier:
            return
        iface.carrier = carrier
        self.routes_changed()
        if carrier and iface.up:
            self.slaac.start(iface)
        self.tell("interface", iface)

    def set_mac(self, iface: Interface, mac: bytes) -> None:
        """Change the link address: neighbours are told (RFC 5227 section 2.3, RFC 4861 section 7.2.6)."""
        iface.mac = mac
        for neighbours in (self.neighbours4, self.neighbours6):
            neighbours.flush(iface)
        for address in iface.addresses:
            if iface.running and address.usable:
                if address.version == 4:
                    self.arp.announce(iface, address.address)
                else:
                    self.ndp.announce(iface, address.address)
        self.tell("interface", iface)

    def set_mtu(self, iface: Interface, mtu: int) -> None:
        """Change the MTU. NetError: EINVAL below 68 (RFC 791)."""
        if mtu < 68:
            raise NetError(errno.EINVAL, f"an MTU of {mtu}")
        iface.mtu = mtu
        if iface.mtu6 > mtu:
            iface.mtu6 = 0
        self.routes_changed()
        self.tell("interface", iface)

    def configure(self, iface: Interface, **settings: bool | int) -> None:
        """Change settings of an interface (the attributes that interface.py lists as net.ipv4 and net.ipv6 ones).

        NetError: ENOENT for one that there is not.
        """
        for name, value in settings.items():
            old = getattr(iface, name, None)
            if not isinstance(old, int):
                raise NetError(errno.ENOENT, f"no setting {name}")
            if isinstance(old, bool):
                setattr(iface, name, bool(value))
            else:
                setattr(iface, name, value)
        self.routes_changed()
        self.tell("interface", iface)

    # -- addresses (version 4 or 6, as ints) --

    def add_address(
        self,
        iface: Interface,
        version: int,
        address: int,
        prefix_length: int,
        *,
        detect: bool | None = None,
        broadcast: int | None = None,
        peer: int | None = None,
        scope: int | None = None,
        origin: str = ORIGIN_STATIC,
        valid_until: int | None = None,
        preferred_until: int | None = None,
        prefix_route: bool = True,
    ) -> Address:
        """Give `iface` an address: local and connected routes, and with `detect` a look for others that have it first
        (by default for IPv6 where the interface does so, and not for IPv4). NetError: EEXIST, EINVAL."""
        entry = Address(
            iface,
            version,
            address,
            prefix_length,
            broadcast=broadcast,
            peer=peer,
            scope=scope,
            origin=origin,
            valid_until=valid_until,
            preferred_until=preferred_until,
            prefix_route=prefix_route,
        )
        usual = version == 6 and iface.dad_transmits > 0 and iface.device.kind == ETHERNET
        entry.detect = usual if detect is None else detect
        return self.addresses.add(entry)

    def remove_address(self, iface: Interface, version: int, address: int) -> None:
        """Take it away. NetError: EADDRNOTAVAIL."""
        entry = self.addresses.on_interface(iface, version, address)
        if entry is None:
            raise NetError(errno.EADDRNOTAVAIL, "the interface has no such address")
        self.addresses.remove(entry)

    def interface_of(self, version: int, address: int) -> Interface | None:
        """The interface that answers for an address of ours; None for all others."""
        return self.addresses.interface_of(version, address)

    def is_local(self, version: int, address: int, scope: int = 0) -> bool:
        """Whether sockets may be bound to it."""
        oif = self.interfaces.get(scope) if scope and version == 6 and is_link_local_v6(address) else None
        return self.routing(version).routes.lookup(Key(address, 0, oif)).kind == LOCAL

    def is_broadcast(self, address: int) -> bool:
        """Whether an IPv4 address is a broadcast address here."""
        broadcasts = self._broadcasts
        if broadcasts is None:
            broadcasts = self._broadcasts = frozenset(
                route.prefix for route in self.routing4.routes.all() if route.kind == BROADCAST
            )
        return address == IPV4_BROADCAST or address in broadcasts

    def address_confirmed(self, address: Address) -> None:
        """It works from now on (called by Addresses)."""
        if address.version == 6 and is_link_local_v6(address.address):
            self.slaac.start(address.iface)
        self.tell("address", address)

    def address_failed(self, address: Address) -> None:
        """Somebody else has it (called by Addresses)."""
        self.tell("address", address)
        self.slaac.detection_failed(address)

    # -- routes --

    def routing(self, version: int) -> Routing:
        """Tables, rules and decisions of a version."""
        return self.routing4 if version == 4 else self.routing6

    def ip(self, version: int) -> Ipv4 | Ipv6:
        """IP of a version."""
        return self.ipv4 if version == 4 else self.ipv6

    def icmp(self, version: int) -> Icmp:
        """ICMP of a version."""
        return self.icmp4 if version == 4 else self.icmp6

    def add_route(self, route: Route, *, replace: bool = False) -> None:
        """Add a route. NetError: EEXIST, EINVAL, ENETDOWN (an interface is down), ENETUNREACH (a gateway is not on the
        link, and the way does not say `onlink`)."""
        for hop in route.next_hops:
            if not hop.iface.up:
                raise NetError(errno.ENETDOWN, f"{hop.iface.name} is down")
            if hop.gateway and not hop.onlink and not self._on_link(route.version, hop.gateway, hop.iface):
                raise NetError(errno.ENETUNREACH, "the gateway is not on the link")
        self.routing(route.version).routes.add(route, replace=replace)
        if route.expires is not None:
            self.schedule_expiry()
        self.tell("route", route)

    def _on_link(self, version: int, gateway: int, iface: Interface) -> bool:
        if version == 6 and is_link_local_v6(gateway):
            return True
        found = self.routing(version).routes.lookup(Key(gateway, 0, iface))
        return found.out is iface and found.next_hop == gateway

    def remove_route(self, route: Route, *, missing_ok: bool = False) -> None:
        """Remove a route. NetError: ESRCH."""
        try:
            self.routing(route.version).routes.remove(route)
        except NetError:
            if not missing_ok:
                raise
        else:
            self.tell("route-gone", route)

    def add_rule(self, version: int, rule: Rule) -> None:
        """Add a policy rule."""
        self.routing(version).routes.add_rule(rule)

    def remove_rule(self, version: int, rule: Rule) -> None:
        """Remove it. NetError: ENOENT."""
        self.routing(version).routes.remove_rule(rule)

    def routes_changed(self, version: int = 0) -> None:
        """Decisions that were made may be wrong now; version 0 for both."""
        self._broadcasts = None
        if version != 6:
            self.routing4.changed()
        if version != 4:
            self.routing6.changed()

    def schedule_expiry(self) -> None:
        """Something with a lifetime was added or changed: look soon when the next one ends."""
        self._expiry.set(self.now)

    def _expire(self, now: int) -> None:
        times = [
            when
            for routing in (self.routing4, self.routing6)
            for when in (routing.routes.expire(now), routing.path_mtu.expire(now))
            if when is not None
        ]
        if times:
            self._expiry.set(min(times))

    def router_lost(self, iface: Interface, address: int) -> None:
        """A neighbour says that it is no router any more."""
        self.slaac.router_lost(iface, address)

    # -- errors from the network --

    def icmp_error(self, error: IcmpError) -> None:
        """Something became of a packet of ours: tell its transport, and remember a smaller path MTU when there is
        somebody who can have sent that packet."""
        if error.proto == PROTO_TCP:
            self.tcp.input_error(error)
            known = False  # it has looked closer than we could here
        elif error.proto == PROTO_UDP:
            known = self.udp.input_error(error)
        elif error.proto in (PROTO_ICMP, PROTO_ICMPV6):
            known = self.ping.input_error(error)
        else:
            known = False
        if self.raw.input_error(error):
            known = True
        if known and error.too_big:
            self.learn_path_mtu(error)

    def learn_path_mtu(self, error: IcmpError) -> None:
        """RFC 1191 section 6.1, RFC 8201 section 4."""
        routing = self.routing(error.version)
        way = routing.output(error.dst)
        if not way.error:
            routing.path_mtu.learn(error.dst, error.info, self.now, way.mtu)
            self.schedule_expiry()

    # -- for filters --

    def send_error(self, packet: Packet, kind: int, code: int) -> None:
        """The ICMP error for a packet that a rule rejects, of the packet's own version."""
        self.icmp(packet.version).send_error(packet, kind, code, 0)

    def send_unreachable(self, packet: Packet, codes: tuple[int, int]) -> None:
        """Tell the sender of `packet` that it cannot go on: by one of the codes (ICMP, ICMPv6) that mean the same."""
        self.icmp(packet.version).send_unreachable(packet, codes[packet.version == 6])

    def send_reset(self, packet: Packet) -> None:
        """The TCP reset for a segment that a rule rejects, also when it was to be forwarded."""
        self.tcp.send_reset(packet)

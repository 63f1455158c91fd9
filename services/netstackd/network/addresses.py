"""Addresses of interfaces: what a stack answers to, and with which source it may speak.

An Address belongs to one interface. The stack-wide table says in one look-up whether a destination is ours: IPv4
addresses and IPv6 addresses of more than link scope are ours on every interface (the weak host model, as in Linux),
link-local ones on theirs alone.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from hashlib import blake2s
from typing import TYPE_CHECKING, Final

from services.netstackd.errors import NetError
from services.netstackd.network.interface import ETHERNET, LOOPBACK
from services.netstackd.network.routes import BROADCAST, LOCAL, TABLE_LOCAL, NextHop, Route
from services.netstackd.storage.timers import Timer
from services.netstackd.wire.numbers import (
    IPV6_LINK_LOCAL,
    is_link_local_v6,
    is_loopback,
    is_multicast,
    mask,
    solicited_node,
)

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack

# rtnetlink scopes (RT_SCOPE_*).
SCOPE_GLOBAL: Final = 0
SCOPE_SITE: Final = 200
SCOPE_LINK: Final = 253
SCOPE_HOST: Final = 254
SCOPE_NOWHERE: Final = 255

# Where an address came from (Address.origin).
ORIGIN_STATIC: Final = "static"
ORIGIN_DHCP: Final = "dhcp"
ORIGIN_SLAAC: Final = "slaac"
ORIGIN_LINK_LOCAL: Final = "link-local"


class Address:
    """One address with its prefix. Times are nanoseconds of the stack's clock; None is for ever."""

    __slots__ = (
        "address",
        "broadcast",
        "conflicts",
        "created",
        "dad_failed",
        "deprecated",
        "detect",
        "iface",
        "managed",
        "origin",
        "peer",
        "preferred_until",
        "prefix_length",
        "prefix_route",
        "scope",
        "temporary",
        "tentative",
        "valid_until",
        "version",
    )

    def __init__(
        self,
        iface: Interface,
        version: int,
        address: int,
        prefix_length: int,
        *,
        broadcast: int | None = None,
        peer: int | None = None,
        scope: int | None = None,
        origin: str = ORIGIN_STATIC,
        valid_until: int | None = None,
        preferred_until: int | None = None,
        prefix_route: bool = True,
    ) -> None:
        self.iface = iface
        self.version = version
        self.address = address
        self.prefix_length = prefix_length
        self.peer = peer
        if broadcast is None and version == 4 and prefix_length < 31:
            broadcast = address | ~mask(4, prefix_length) & 0xFFFFFFFF
        self.broadcast = broadcast if version == 4 else None
        self.scope = default_scope(version, address) if scope is None else scope
        self.origin = origin
        self.valid_until = valid_until
        self.preferred_until = preferred_until
        self.prefix_route = prefix_route  # make the connected route for it
        self.tentative = False  # duplicate address detection has not ended
        self.detect = version == 6  # look for duplicates before use
        self.dad_failed = False
        self.conflicts = 0  # how often detection failed for the prefix (RFC 7217's DAD_Counter)
        self.deprecated = False
        self.temporary = False  # RFC 8981
        self.managed: Address | None = None  # the public address that a temporary one goes with
        self.created = 0

    @property
    def prefix(self) -> int:
        """The network part."""
        return (self.address if self.peer is None else self.peer) & mask(self.version, self.prefix_length)

    @property
    def usable(self) -> bool:
        """May be spoken from and answered for."""
        return not (self.tentative or self.dad_failed)


def default_scope(version: int, address: int) -> int:
    """The scope an address has by itself."""
    if is_loopback(version, address):
        return SCOPE_HOST
    if version == 6:
        return SCOPE_LINK if is_link_local_v6(address) else SCOPE_GLOBAL
    return SCOPE_LINK if address >> 16 == 0xA9FE else SCOPE_GLOBAL


def interface_identifier(link: bytes) -> int:
    """The modified EUI-64 identifier of a link address (RFC 4291 appendix A)."""
    eui = bytes((link[0] ^ 2,)) + link[1:3] + b"\xff\xfe" + link[3:6]
    return int.from_bytes(eui, "big")


def stable_identifier(secret: bytes, prefix: int, iface: Interface, counter: int) -> int:
    """A stable, opaque identifier (RFC 7217 section 5): another one in each prefix, the same when we come back.

    Reserved identifiers (RFC 5453) are passed over.
    """
    while True:
        seed = prefix.to_bytes(16, "big") + iface.mac + iface.name.encode() + counter.to_bytes(4, "big")
        identifier = int.from_bytes(blake2s(seed, key=secret[:32], digest_size=8, person=b"rfc7217").digest(), "big")
        if not is_reserved_identifier(identifier):
            return identifier
        counter += 1


def is_reserved_identifier(identifier: int) -> bool:
    """RFC 5453: the subnet-router anycast address, IANA's Ethernet block, the reserved anycast addresses."""
    return (
        identifier == 0
        or identifier >> 24 == 0x02005EFFFE
        or identifier >= 0xFDFFFFFFFFFFFF80
        and (identifier <= 0xFDFFFFFFFFFFFFFF)
    )


class Addresses:
    """All addresses of a stack: adding and removing them, with everything that hangs on them."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._owners: dict[tuple[int, int], list[Address]] = {}
        self._timer: Timer = stack.timers.new(self._expire)

    def __iter__(self) -> Iterator[Address]:
        for owners in list(self._owners.values()):
            yield from owners

    def owner(self, version: int, address: int) -> Address | None:
        """Who has `address`, in whatever state."""
        owners = self._owners.get((version, address))
        return owners[0] if owners else None

    def interface_of(self, version: int, address: int) -> Interface | None:
        """The interface that answers for `address`: None for those that are not (or not yet) ours."""
        for owner in self._owners.get((version, address), ()):
            if owner.usable:
                return owner.iface
        return None

    def on_interface(self, iface: Interface, version: int, address: int) -> Address | None:
        """The address of this interface, in whatever state."""
        for owner in self._owners.get((version, address), ()):
            if owner.iface is iface:
                return owner
        return None

    def add(self, address: Address) -> Address:
        """Give an interface an address; it works once the interface is up and, with `detect`, nobody else has it.

        NetError: EEXIST (it has it), EINVAL (no address that an interface could have).
        """
        iface, version, value = address.iface, address.version, address.address
        width = 32 if version == 4 else 128
        if value == 0 or is_multicast(version, value) or not 0 <= address.prefix_length <= width:
            raise NetError(errno.EINVAL, "not an address that an interface can have")
        if self.on_interface(iface, version, value) is not None:
            raise NetError(errno.EEXIST, "the interface has this address")
        address.created = self._stack.now
        if iface.kind == LOOPBACK:
            address.detect = False
        address.tentative = address.detect
        iface.addresses.append(address)
        self._owners.setdefault((version, value), []).append(address)
        self._schedule()
        if iface.up:
            self.activate(address)
        self._stack.routes_changed(version)
        self._stack.tell("address", address)
        return address

    def remove(self, address: Address) -> None:
        """Take an address away, and the temporary ones that go with it. NetError: EADDRNOTAVAIL."""
        iface = address.iface
        if address not in iface.addresses:
            raise NetError(errno.EADDRNOTAVAIL, "the interface has no such address")
        self.deactivate(address)
        iface.addresses.remove(address)
        owners = self._owners[address.version, address.address]
        owners.remove(address)
        if not owners:
            del self._owners[address.version, address.address]
        for other in list(iface.addresses):
            if other.managed is address:
                self.remove(other)
        self._stack.routes_changed(address.version)
        self._stack.tell("address-gone", address)

    def set_lifetimes(self, address: Address, valid_until: int | None, preferred_until: int | None) -> None:
        """Change until when an address may be used, and preferred."""
        address.valid_until = valid_until
        address.preferred_until = preferred_until
        address.deprecated = preferred_until is not None and preferred_until <= self._stack.now
        self._schedule()
        self._stack.routes_changed(address.version)

    # -- the life of an address --

    def activate(self, address: Address) -> None:
        """Its interface is up: look for duplicates where that is wanted, then make it work."""
        stack = self._stack
        if address.version == 6 and address.iface.kind != LOOPBACK:
            stack.multicast6.join(address.iface, solicited_node(address.address))
        if address.prefix_route:
            self._add_prefix_route(address)
        if address.detect:
            address.tentative = True
            stack.dad.start(address)
        else:
            self.confirmed(address)

    def confirmed(self, address: Address) -> None:
        """Nobody else has it: packets for it are ours from now on."""
        address.tentative = False
        address.dad_failed = False
        for route in self._own_routes(address):
            self._stack.routing(address.version).routes.add(route, replace=True)
        self._stack.routes_changed(address.version)
        self._stack.address_confirmed(address)

    def failed(self, address: Address) -> None:
        """Somebody else has it (RFC 4862 section 5.4.5): it is kept to be seen, and never used."""
        address.tentative = False
        address.dad_failed = True
        for route in self._own_routes(address):
            self._discard(route)
        self._stack.routes_changed(address.version)
        self._stack.address_failed(address)

    def deactivate(self, address: Address) -> None:
        """Undo `activate`."""
        stack = self._stack
        stack.dad.stop(address)
        for route in self._own_routes(address):
            self._discard(route)
        if address.version == 6 and address.iface.kind != LOOPBACK:
            stack.multicast6.leave(address.iface, solicited_node(address.address))
        connected = self._prefix_route(address) if address.prefix_route else None
        if connected is None:
            return
        heirs = [
            other
            for other in address.iface.addresses
            if other is not address
            and other.prefix_route
            and (other.version, other.prefix, other.prefix_length)
            == (address.version, address.prefix, address.prefix_length)
        ]
        for present in stack.routing(address.version).routes.all():
            if (
                present.protocol == "kernel"
                and present.table == connected.table
                and present.same_place(connected)
                and present.ways() == connected.ways()
            ):
                if not heirs:
                    self._discard(present)
                elif present.source == address.address:
                    present.source = heirs[0].address

    def _discard(self, route: Route) -> None:
        try:
            self._stack.routing(route.version).routes.remove(route)
        except NetError:
            pass  # it went with its interface, or somebody removed it by hand

    def _own_routes(self, address: Address) -> list[Route]:
        """The entries of the local table: the address itself, and the broadcast addresses of its subnet."""
        version, iface = address.version, address.iface
        way = (NextHop(iface),)
        width = 32 if version == 4 else 128
        routes = [Route(version, address.address, width, way, kind=LOCAL, table=TABLE_LOCAL, protocol="kernel")]
        if version == 4:
            if iface.kind == LOOPBACK and address.prefix_length < 32:
                routes.append(
                    Route(
                        4, address.prefix, address.prefix_length, way, kind=LOCAL, table=TABLE_LOCAL, protocol="kernel"
                    )
                )
            elif address.broadcast is not None and address.prefix_length < 31:
                routes.extend(
                    Route(
                        4,
                        value,
                        32,
                        way,
                        kind=BROADCAST,
                        table=TABLE_LOCAL,
                        protocol="kernel",
                        source=address.address,
                    )
                    for value in {address.broadcast, address.prefix | ~mask(4, address.prefix_length) & 0xFFFFFFFF}
                )
        return routes

    def _prefix_route(self, address: Address) -> Route | None:
        width = 32 if address.version == 4 else 128
        if address.iface.kind == LOOPBACK or (address.prefix_length == width and address.peer is None):
            return None
        return Route(
            address.version,
            address.prefix,
            address.prefix_length,
            (NextHop(address.iface),),
            metric=0 if address.version == 4 else 256,
            source=address.address if address.version == 4 else 0,
            protocol="kernel",
            scope=SCOPE_LINK if address.version == 4 else SCOPE_GLOBAL,
        )

    def _add_prefix_route(self, address: Address) -> None:
        route = self._prefix_route(address)
        if route is None:
            return
        routes = self._stack.routing(address.version).routes
        for present in routes.all():
            if present.protocol == "kernel" and present.table == route.table and present.same_place(route):
                if present.ways() == route.ways():
                    return  # a second address of the same subnet
        routes.add(route, append=True)

    def make_link_local(self, iface: Interface, counter: int = 0) -> Address | None:
        """The link-local address of an interface that is to have one (RFC 4862 section 5.3)."""
        if iface.kind == LOOPBACK or not iface.ipv6_enabled or iface.addr_gen_mode == 1:
            return None
        if iface.device.kind != ETHERNET or iface.addr_gen_mode == 2:
            identifier = stable_identifier(self._stack.secret, IPV6_LINK_LOCAL, iface, counter)
        else:
            identifier = interface_identifier(iface.mac)
        if self.on_interface(iface, 6, IPV6_LINK_LOCAL | identifier) is not None:
            return None
        address = Address(iface, 6, IPV6_LINK_LOCAL | identifier, 64, origin=ORIGIN_LINK_LOCAL)
        address.conflicts = counter
        address.detect = iface.dad_transmits > 0 and iface.device.kind == ETHERNET
        return self.add(address)

    def link_local(self, iface: Interface) -> int:
        """A link-local address of `iface` that may be spoken from, 0 when there is none."""
        for address in iface.addresses:
            if address.version == 6 and address.usable and is_link_local_v6(address.address):
                return address.address
        return 0

    # -- lifetimes --

    def _schedule(self) -> None:
        times = [
            when
            for address in self
            for when in (address.valid_until, None if address.deprecated else address.preferred_until)
            if when is not None
        ]
        if times:
            self._timer.set(min(times))
        else:
            self._timer.cancel()

    def _expire(self, now: int) -> None:
        """RFC 4862 section 5.5.4: past the preferred time deprecated, past the valid time gone."""
        for address in list(self):
            if address.valid_until is not None and address.valid_until <= now:
                if address in address.iface.addresses:
                    self.remove(address)
            elif address.preferred_until is not None and address.preferred_until <= now and not address.deprecated:
                address.deprecated = True
                self._stack.routes_changed(address.version)
                self._stack.tell("address", address)
        self._schedule()

"""The network behind the socket service as a value: interfaces, routes, and what follows from them for a destination.

Made from a snapshot (protocol/netstack/messages.py) and never changed: another snapshot makes another one. The stack
routes packets by itself; here is decided what programs see without asking it: whether there is a route, the source
address, the interface. Longest prefix, then lowest metric (ip-route(8)); source addresses as RFC 6724, section 5.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from protocol.abi import rtnetlink_h as rt
from protocol.errors import ProtocolViolation
from protocol.netstack.messages import check_snapshot_untrusted
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.addresses import is_link_local6, is_multicast
from services.sentry.sockets.inet.interfaces import Interface, InterfaceAddress, RouteEntry
from services.sentry.sockets.inet.loopback import LOOPBACK_INDEX

__all__ = ["NOWHERE", "Hop", "Network"]

_MAX_INTERFACES: Final = 256
_MAX_ROUTES: Final = 4096
_MAX_CACHED: Final = 1024
_BROADCAST: Final = b"\xff" * 4
_UNUSABLE: Final = rt.IFA_F_TENTATIVE | rt.IFA_F_DADFAILED
_REFUSALS: Final = {6: errno.EINVAL, 7: errno.EHOSTUNREACH, 8: errno.EACCES}  # RTN_BLACKHOLE, _UNREACHABLE, _PROHIBIT
_TABLES: Final = (rt.RT_TABLE_MAIN, rt.RT_TABLE_DEFAULT, rt.RT_TABLE_UNSPEC)
_SIOCGIF_FLAGS: Final = rt.IFF_UP | rt.IFF_RUNNING | rt.IFF_LOWER_UP


class Hop(NamedTuple):
    """Where packets to a destination go first."""

    source: bytes
    interface: Interface
    gateway: bytes


def _matches(address: bytes, prefix: bytes, length: int) -> bool:
    if len(address) != len(prefix):
        return False
    whole, rest = divmod(length, 8)
    if address[:whole] != prefix[:whole]:
        return False
    return not rest or not (address[whole] ^ prefix[whole]) >> (8 - rest)


def _common_bits(one: bytes, other: bytes) -> int:
    differ = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return len(one) * 8 - differ.bit_length()


class Network:
    """interfaces, routes: in the snapshot's order; domains, servers: for whoever writes resolv.conf(5)."""

    __slots__ = ("_by_index", "_cache", "_kinds", "_sorted", "domains", "interfaces", "routes", "servers")

    def __init__(
        self,
        interfaces: tuple[Interface, ...] = (),
        routes: tuple[RouteEntry, ...] = (),
        servers: tuple[bytes, ...] = (),
        domains: tuple[str, ...] = (),
    ) -> None:
        self.interfaces = interfaces
        self.routes = routes
        self.servers = servers
        self.domains = domains
        self._by_index = {each.ifindex: each for each in interfaces}
        self._sorted = sorted(
            (route for route in routes if route.table in _TABLES), key=lambda route: (-route.length, route.metric)
        )
        self._kinds: dict[bytes, int] = {}
        for each in interfaces:
            for own in each.addresses:
                self._kinds[own.address] = rt.RTN_LOCAL
                if own.broadcast:
                    self._kinds.setdefault(own.broadcast, rt.RTN_BROADCAST)
        self._cache: dict[tuple[bytes, int], Hop | None] = {}

    @classmethod
    def from_snapshot_untrusted(cls, snapshot: Any) -> Network:
        """ProtocolViolation: it is not one. What is the loopback's is left out."""
        check_snapshot_untrusted(snapshot)
        if len(snapshot["interfaces"]) > _MAX_INTERFACES or len(snapshot["routes"]) > _MAX_ROUTES:
            raise ProtocolViolation("snapshot: too many interfaces or routes")
        interfaces = tuple(
            _interface(each)
            for each in snapshot["interfaces"]
            if each["index"] != LOOPBACK_INDEX and each["kind"] != rt.ARPHRD_LOOPBACK
        )
        known = {each.ifindex for each in interfaces}
        routes = tuple(
            _route(each) for each in snapshot["routes"] if each["interface"] in known or not each["interface"]
        )
        return cls(interfaces, routes, tuple(snapshot["servers"]), tuple(snapshot["names"]))

    def kind_of(self, address: bytes) -> int:
        """RTN_LOCAL, RTN_BROADCAST, or RTN_UNSPEC for what is not one of its own."""
        return self._kinds.get(address, rt.RTN_UNSPEC)

    def hop(self, destination: bytes, interface: int) -> Hop | None:
        """The first hop to `destination`, by `interface` unless it is 0; None: no route. Errors of one that refuses."""
        key = (destination, interface)
        if key in self._cache:
            return self._cache[key]
        found = self._find(destination, interface)
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[key] = found
        return found

    def _find(self, destination: bytes, interface: int) -> Hop | None:
        wanted = self._by_index.get(interface)
        if interface and wanted is None:
            return None
        on_link = destination == _BROADCAST or is_multicast(destination) or is_link_local6(destination)
        if wanted is not None and on_link:
            return self._hop(wanted, destination, b"", b"")
        for route in self._sorted:
            if interface not in (0, route.interface) or not _matches(destination, route.destination, route.length):
                continue
            if route.kind in _REFUSALS:
                raise LinuxError(_REFUSALS[route.kind])
            leaves = self._by_index.get(route.interface)
            if route.kind != rt.RTN_UNICAST or leaves is None or not leaves.flags & rt.IFF_UP:
                continue
            return self._hop(leaves, destination, route.gateway, route.source)
        if wanted is not None and wanted.flags & rt.IFF_UP:  # bound to a device: as if it were on the link
            return self._hop(wanted, destination, b"", b"")
        if on_link:
            # Nothing says which: the first that is up, as Linux takes the device of the default route or any.
            for each in self.interfaces:
                if each.flags & rt.IFF_UP:
                    return self._hop(each, destination, b"", b"")
        return None

    def _hop(self, interface: Interface, destination: bytes, gateway: bytes, preferred: bytes) -> Hop | None:
        source = preferred or self._source(interface, gateway or destination, destination)
        return Hop(source, interface, gateway) if source else None

    def _source(self, interface: Interface, near: bytes, destination: bytes) -> bytes:
        """The address that packets come from which leave by `interface`; b"": it has none (then any other's)."""
        own = [each for each in interface.addresses if len(each.address) == len(near) and not each.flags & _UNUSABLE]
        if not own:
            own = [
                each
                for each in self._usable(len(near))
                if each.scope == rt.RT_SCOPE_UNIVERSE and not is_link_local6(each.address)
            ]
            return own[0].address if own else b""
        if len(near) == 4:
            near_one = next((each for each in own if _matches(near, each.address, each.prefix)), None)
            return (near_one or own[0]).address
        link = is_link_local6(destination)

        def rank(each: InterfaceAddress) -> tuple[bool, bool, int]:
            return (
                is_link_local6(each.address) == link,
                not each.flags & rt.IFA_F_DEPRECATED,
                _common_bits(each.address, destination),
            )

        return max(own, key=rank).address

    def _usable(self, family: int) -> Iterator[InterfaceAddress]:
        for interface in self.interfaces:
            for each in interface.addresses:
                if len(each.address) == family and not each.flags & _UNUSABLE:
                    yield each

    def without_links(self) -> Network:
        """What is left of it when the stack is gone: its interfaces, down, with their addresses; no route."""
        return Network(
            tuple(each._replace(flags=each.flags & ~_SIOCGIF_FLAGS) for each in self.interfaces),
            (),
            self.servers,
            self.domains,
        )


def _interface(value: dict[str, Any]) -> Interface:
    return Interface(
        ifindex=value["index"],
        name=value["name"].encode("utf-8", "surrogateescape")[: rt.IFNAMSIZ - 1],
        flags=value["flags"],
        kind=value["kind"],
        mtu=value["mtu"],
        hardware=value["mac"],
        addresses=tuple(
            InterfaceAddress(address, length, scope, flags, broadcast or b"")
            for address, length, scope, flags, broadcast in value["addresses"]
        ),
    )


def _route(value: dict[str, Any]) -> RouteEntry:
    return RouteEntry(
        value["destination"],
        min(value["length"], len(value["destination"]) * 8),
        value["interface"],
        value["gateway"] or b"",
        value["metric"],
        value["table"],
        value["source"] or b"",
        value["type"],
        value["scope"],
        value["protocol"],
    )


#: Before there is a snapshot.
NOWHERE: Final = Network()

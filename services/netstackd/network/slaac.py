"""Router discovery and stateless address autoconfiguration (RFC 4861 section 6.3, RFC 4862 section 5.5).

What a router advertisement may bring: the default router with its preference, hop limit, timers and MTU; on-link
prefixes; addresses, stable (EUI-64 or RFC 7217) and temporary (RFC 8981); more specific routes (RFC 4191); DNS
servers and search list (RFC 8106), which are kept here for whoever wants them. Bounded: PREFIX_LIMIT addresses and
SERVER_LIMIT servers per interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.errors import NetError
from services.netstackd.network.addresses import (
    ORIGIN_LINK_LOCAL,
    ORIGIN_SLAAC,
    Address,
    interface_identifier,
    is_reserved_identifier,
    stable_identifier,
)
from services.netstackd.network.interface import ETHERNET, LOOPBACK, Interface
from services.netstackd.network.neighbours import SECOND
from services.netstackd.network.routes import NextHop, Route
from services.netstackd.storage.packet import Packet
from services.netstackd.storage.timers import Timer
from services.netstackd.wire import icmpv6, ndp
from services.netstackd.wire.ipv6 import MIN_MTU
from services.netstackd.wire.numbers import IPV6_ALL_ROUTERS, is_link_local_v6, mask

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

PREFIX_LIMIT: Final = 16  # net.ipv6.conf.*.max_addresses
SERVER_LIMIT: Final = 8
METRIC: Final = 1024  # IP6_RT_PRIO_USER, as Linux gives routes of router advertisements
TWO_HOURS: Final = 7200 * SECOND

# RFC 4861 section 10
SOLICIT_DELAY: Final = SECOND
SOLICIT_INTERVAL: Final = 4 * SECOND

# RFC 8981 section 3.8
TEMP_VALID: Final = 2 * 86400 * SECOND
TEMP_PREFERRED: Final = 86400 * SECOND
TEMP_RETRIES: Final = 3
DESYNC_SHARE: Final = 0.4  # of the preferred lifetime
STABLE_RETRIES: Final = 3  # RFC 7217 section 6, IDGEN_RETRIES

_MALFORMED: Final = COUNTER["DropNdpMalformed"]
_NOT_FOR_US: Final = COUNTER["DropNdpNotForUs"]


class LinkConfiguration:
    """What routers said about one link."""

    __slots__ = ("flags", "regenerate", "routers", "search", "servers", "solicit", "solicitations")

    def __init__(self, solicit: Timer, regenerate: Timer) -> None:
        self.flags = 0  # RA_MANAGED, RA_OTHER: whether there is DHCPv6
        self.routers: set[int] = set()
        self.servers: dict[int, int] = {}  # DNS server: expiry (ns)
        self.search: dict[str, int] = {}
        self.solicit = solicit
        self.solicitations = 0
        self.regenerate = regenerate


class Slaac:
    """One per stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self._links: dict[int, LinkConfiguration] = {}

    def link(self, iface: Interface) -> LinkConfiguration:
        """What is known of the link of `iface`."""
        found = self._links.get(iface.index)
        if found is None:
            timers = self._stack.timers
            found = self._links[iface.index] = LinkConfiguration(
                timers.new(lambda now: self._solicit(iface, now)),
                timers.new(lambda now: self._regenerate(iface, now)),
            )
        return found

    def servers(self, iface: Interface) -> list[int]:
        """The DNS servers told by routers whose time is not over."""
        return [server for server, expires in self.link(iface).servers.items() if expires > self._stack.now]

    # -- soliciting --

    def start(self, iface: Interface) -> None:
        """The interface has a link-local address: ask for routers (RFC 4861 section 6.3.7)."""
        if not self._listens(iface) or iface.kind == LOOPBACK:
            return
        link = self.link(iface)
        link.solicitations = iface.router_solicitations
        if link.solicitations:
            link.solicit.set(self._stack.now + self._stack.rng.randrange(SOLICIT_DELAY))

    def stop(self, iface: Interface) -> None:
        """The interface goes down: nothing that was learned holds any more."""
        link = self._links.pop(iface.index, None)
        if link is not None:
            link.solicit.cancel()
            link.regenerate.cancel()

    @staticmethod
    def _listens(iface: Interface) -> bool:
        return iface.ipv6_enabled and (iface.accept_ra == 2 or (iface.accept_ra == 1 and not iface.forwarding6))

    def _solicit(self, iface: Interface, now: int) -> None:
        link = self.link(iface)
        if not link.solicitations or not iface.up:
            return
        link.solicitations -= 1
        source = self._stack.addresses.link_local(iface)
        body = ndp.option(ndp.SOURCE_LINK, iface.mac) if source and iface.device.kind == ETHERNET else b""
        self._stack.ndp.send(iface, source, IPV6_ALL_ROUTERS, icmpv6.ROUTER_SOLICITATION, 0, body)
        if link.solicitations:
            link.solicit.set(now + SOLICIT_INTERVAL)

    # -- advertisements --

    def input(self, packet: Packet, message: bytes) -> None:
        """A router advertisement (RFC 4861 section 6.3.4)."""
        iface = packet.iface
        assert iface is not None
        if not is_link_local_v6(packet.src):
            self._count[_MALFORMED] += 1
            return
        told = ndp.parse_router_advertisement_untrusted(message)
        if told is None:
            self._count[_MALFORMED] += 1
            return
        if not self._listens(iface):
            self._count[_NOT_FOR_US] += 1
            return
        stack = self._stack
        link = self.link(iface)
        link.solicitations = 0
        link.solicit.cancel()
        link.flags = told.flags & (ndp.RA_MANAGED | ndp.RA_OTHER)
        if told.link is not None and iface.device.kind == ETHERNET:
            stack.neighbours6.heard_solicitation(iface, packet.src, told.link).router = True
        if told.hop_limit:
            iface.hop_limit6 = told.hop_limit
        if told.reachable_ms and told.reachable_ms <= 3_600_000:
            stack.neighbours6.reachable_time[iface.index] = told.reachable_ms * 1_000_000
        if 0 < told.retrans_ms <= 60_000:
            stack.neighbours6.retrans_time[iface.index] = max(told.retrans_ms, 10) * 1_000_000
        if iface.accept_ra_mtu and MIN_MTU <= told.mtu <= iface.mtu and told.mtu != iface.effective_mtu6:
            iface.mtu6 = told.mtu if told.mtu < iface.mtu else 0
            stack.routing6.changed()
        self._default_route(iface, packet.src, told)
        if iface.accept_ra_pinfo:
            for prefix, length, flags, valid, preferred in told.prefixes:
                self._prefix(iface, prefix & mask(6, length), length, flags, valid, preferred)
        for prefix, length, preference, seconds in told.routes:
            if length <= iface.accept_ra_rt_info_max_plen:
                self._route(iface, packet.src, prefix, length, preference, seconds)
        self._servers(link, told)
        stack.tell("router-advertisement", iface)

    def _expiry(self, seconds: int) -> int | None:
        return None if seconds == ndp.INFINITE else self._stack.now + seconds * SECOND

    def _default_route(self, iface: Interface, router: int, told: ndp.RouterAdvertisement) -> None:
        """RFC 4861 section 6.3.4; a lifetime of 0 says that it is no default router (any more)."""
        if iface.accept_ra_defrtr:
            if told.lifetime_s:
                self.link(iface).routers.add(router)
            else:
                self.link(iface).routers.discard(router)
            self._route(iface, router, 0, 0, told.preference, told.lifetime_s)

    def _route(self, iface: Interface, router: int, prefix: int, length: int, preference: int, seconds: int) -> None:
        """Add, refresh or (lifetime 0) remove a route by `router` (RFC 4191 section 3.1)."""
        stack = self._stack
        for present in stack.routing6.routes.table(254):
            if (
                present.protocol == "ra"
                and (present.prefix, present.prefix_length) == (prefix, length)
                and present.ways() == [(iface.index, router)]
            ):
                if seconds and present.preference == preference:
                    present.expires = self._expiry(seconds)
                    stack.schedule_expiry()
                    return
                stack.remove_route(present, missing_ok=True)
        if seconds:
            way = (NextHop(iface, router),)
            stack.add_route(
                Route(
                    6,
                    prefix,
                    length,
                    way,
                    metric=METRIC,
                    protocol="ra",
                    expires=self._expiry(seconds),
                    preference=preference,
                )
            )

    def router_lost(self, iface: Interface, router: int) -> None:
        """It says that it is no router (RFC 4861 section 7.2.5), so nothing goes by it any more."""
        for route in list(self._stack.routing6.routes.table(254)):
            if route.protocol == "ra" and route.ways() == [(iface.index, router)]:
                self._stack.remove_route(route, missing_ok=True)
        self.link(iface).routers.discard(router)

    def _servers(self, link: LinkConfiguration, told: ndp.RouterAdvertisement) -> None:
        for server, seconds in told.servers:
            link.servers.pop(server, None)
            if seconds and len(link.servers) < SERVER_LIMIT:
                link.servers[server] = self._expiry(seconds) or 1 << 62
        for name, seconds in told.search:
            link.search.pop(name, None)
            if seconds and len(link.search) < SERVER_LIMIT:
                link.search[name] = self._expiry(seconds) or 1 << 62

    # -- prefixes and addresses --

    def _prefix(self, iface: Interface, prefix: int, length: int, flags: int, valid: int, preferred: int) -> None:
        """One prefix information option."""
        if is_link_local_v6(prefix):
            return
        if flags & ndp.PREFIX_ON_LINK:
            self._on_link(iface, prefix, length, valid)
        if flags & ndp.PREFIX_AUTONOMOUS and iface.autoconf and length == 64:
            self._autonomous(iface, prefix, valid, preferred)

    def _on_link(self, iface: Interface, prefix: int, length: int, valid: int) -> None:
        """RFC 4861 section 6.3.4: a route to the link itself."""
        stack = self._stack
        for present in stack.routing6.routes.table(254):
            if (present.prefix, present.prefix_length) == (prefix, length) and present.ways() == [(iface.index, 0)]:
                if present.protocol != "ra-prefix":
                    return  # made by an address of our own
                if valid:
                    present.expires = self._expiry(valid)
                    stack.schedule_expiry()
                else:
                    stack.remove_route(present, missing_ok=True)
                return
        if valid:
            stack.add_route(
                Route(
                    6,
                    prefix,
                    length,
                    (NextHop(iface),),
                    metric=256,
                    protocol="ra-prefix",
                    expires=self._expiry(valid),
                )
            )

    def _autonomous(self, iface: Interface, prefix: int, valid: int, preferred: int) -> None:
        """RFC 4862 section 5.5.3 (d) and (e)."""
        stack = self._stack
        now = stack.now
        own = [a for a in iface.addresses if a.version == 6 and a.origin == ORIGIN_SLAAC and a.prefix == prefix]
        stable = [a for a in own if not a.temporary]
        if not stable:
            if valid:
                self._make_stable(iface, prefix, self._expiry(valid), self._expiry(preferred), 0)
            return
        for address in stable:
            until = self._expiry(valid)
            remaining = TWO_HOURS + 1 if address.valid_until is None else address.valid_until - now
            # (e) 1 to 3: an unauthenticated advertisement may not cut a lifetime below two hours at once.
            if until is not None and until - now <= TWO_HOURS and until - now < remaining:
                until = address.valid_until if remaining <= TWO_HOURS else now + TWO_HOURS
            stack.addresses.set_lifetimes(address, until, self._expiry(preferred))
        for address in own:
            if address.temporary:
                self._refresh_temporary(address, valid, preferred)
        if iface.use_tempaddr and preferred and not any(a.temporary and not a.deprecated for a in own):
            self._make_temporary(iface, stable[0], 0)

    def _make_stable(
        self, iface: Interface, prefix: int, valid_until: int | None, preferred_until: int | None, counter: int
    ) -> None:
        if sum(a.version == 6 for a in iface.addresses) >= PREFIX_LIMIT:
            return
        if iface.addr_gen_mode == 2 or iface.device.kind != ETHERNET:
            identifier = stable_identifier(self._stack.secret, prefix, iface, counter)
        else:
            identifier = interface_identifier(iface.mac)
        address = Address(
            iface,
            6,
            prefix | identifier,
            64,
            origin=ORIGIN_SLAAC,
            valid_until=valid_until,
            preferred_until=preferred_until,
            prefix_route=False,  # on-link is a matter of its own (RFC 5942)
        )
        address.conflicts = counter
        address.detect = iface.dad_transmits > 0
        address.deprecated = preferred_until is not None and preferred_until <= self._stack.now
        try:
            self._stack.addresses.add(address)
        except NetError:
            return  # there already, made by hand
        if iface.use_tempaddr and not address.deprecated:
            self._make_temporary(iface, address, 0)

    def _make_temporary(self, iface: Interface, public: Address, counter: int) -> None:
        """RFC 8981 section 3.4: a random identifier, for a day or so."""
        stack = self._stack
        if sum(a.version == 6 for a in iface.addresses) >= PREFIX_LIMIT:
            return
        identifier = stack.rng.getrandbits(64)
        while is_reserved_identifier(identifier) or identifier == public.address & 0xFFFFFFFFFFFFFFFF:
            identifier = stack.rng.getrandbits(64)
        now = stack.now
        desync = int(stack.rng.random() * DESYNC_SHARE * TEMP_PREFERRED)
        valid = now + TEMP_VALID
        preferred = now + TEMP_PREFERRED - desync
        if public.valid_until is not None:
            valid = min(valid, public.valid_until)
        if public.preferred_until is not None:
            preferred = min(preferred, public.preferred_until)
        if preferred <= now + self._regenerate_advance(iface):
            return
        address = Address(
            iface,
            6,
            public.prefix | identifier,
            64,
            origin=ORIGIN_SLAAC,
            valid_until=valid,
            preferred_until=preferred,
            prefix_route=False,
        )
        address.temporary = True
        address.managed = public
        address.conflicts = counter
        address.detect = iface.dad_transmits > 0
        stack.addresses.add(address)
        self.link(iface).regenerate.set(preferred - self._regenerate_advance(iface))

    def _regenerate_advance(self, iface: Interface) -> int:
        """RFC 8981 section 3.8, REGEN_ADVANCE."""
        retrans = self._stack.neighbours6.retrans_time.get(iface.index, SECOND)
        return 2 * SECOND + TEMP_RETRIES * iface.dad_transmits * retrans

    def _refresh_temporary(self, address: Address, valid: int, preferred: int) -> None:
        """RFC 8981 section 3.4, step 1 of prefix processing: never beyond its own bounds since it was made."""
        bound_valid = address.created + TEMP_VALID
        bound_preferred = address.created + TEMP_PREFERRED
        until, liked = self._expiry(valid), self._expiry(preferred)
        until = bound_valid if until is None else min(until, bound_valid)
        liked = bound_preferred if liked is None else min(liked, bound_preferred)
        if address.valid_until is not None:
            until = min(until, address.valid_until) if valid else until
        if address.preferred_until is not None and preferred:
            liked = min(liked, address.preferred_until)
        self._stack.addresses.set_lifetimes(address, until, liked)

    def _regenerate(self, iface: Interface, now: int) -> None:
        """A temporary address is about to be deprecated: have its successor ready (RFC 8981 section 3.5)."""
        if not iface.use_tempaddr:
            return
        for public in [a for a in iface.addresses if a.origin == ORIGIN_SLAAC and not a.temporary and not a.deprecated]:
            self._make_temporary(iface, public, 0)

    def detection_failed(self, address: Address) -> None:
        """An address of ours is taken: where another one can be made, make it (RFC 7217 section 6, RFC 8981 3.4)."""
        stack = self._stack
        iface = address.iface
        counter = address.conflicts + 1
        if address.temporary and address.managed is not None and counter <= TEMP_RETRIES:
            public = address.managed
            stack.addresses.remove(address)
            self._make_temporary(iface, public, counter)
        elif iface.addr_gen_mode == 2 and counter <= STABLE_RETRIES and not address.temporary:
            if address.origin == ORIGIN_LINK_LOCAL:
                stack.addresses.remove(address)
                stack.addresses.make_link_local(iface, counter)
            elif address.origin == ORIGIN_SLAAC:
                stack.addresses.remove(address)
                self._make_stable(iface, address.prefix, address.valid_until, address.preferred_until, counter)

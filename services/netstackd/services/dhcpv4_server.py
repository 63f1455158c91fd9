"""A DHCPv4 server (RFC 2131 section 4.3): what it answers, and who has which address. Sans-IO.

`answer(message, now)` gives the reply to a client's message, or None. Addresses come from one pool; a client that
comes back gets the one it had, one with a static lease its own, and the one that it asks for when nobody has it. The
server is alone on its network and says so (authoritative): it answers NAK to addresses that cannot be, and confirms
one that is free although it remembers nothing (a restart). `changed(lease)` is told of leases that came about, were
extended, or are over (`expires` 0), so that somebody remembers them (lease_memory.py).

Bounded: leases are at most as many as addresses in the pool (and static ones); an offer is held for OFFER_NS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.netstackd.config.model import DhcpServerSpec
from services.netstackd.wire import dhcpv4 as wire
from services.netstackd.wire.dhcpv4 import DhcpMessage
from services.netstackd.wire.numbers import mask

SECOND: Final = 1_000_000_000
OFFER_NS: Final = 60 * SECOND
DECLINED_NS: Final = 600 * SECOND
MIN_LEASE_S: Final = 60

OFFERED: Final = "offered"
BOUND: Final = "bound"
DECLINED: Final = "declined"


class Lease:
    """An address that is not free."""

    __slots__ = ("address", "client", "expires", "mac", "name", "state")

    def __init__(self, address: int, client: bytes, mac: bytes, state: str, expires: int, name: str) -> None:
        self.address = address
        self.client = client
        self.mac = mac
        self.state = state
        self.expires = expires
        self.name = name


class DhcpServer:
    """See the module docstring. `own`: our address on the network, `length`: its prefix length."""

    def __init__(
        self, spec: DhcpServerSpec, own: int, length: int, changed: Callable[[Lease], None] = lambda lease: None
    ) -> None:
        self.spec = spec
        self.own = own
        self.length = length
        self.leases: dict[int, Lease] = {}
        self._by_client: dict[bytes, int] = {}  # also of expired leases, until their address is given to another
        self._static = {lease.mac: lease for lease in spec.static}
        self._reserved = {lease.address for lease in spec.static} | {own}
        self._next = spec.first
        self._changed = changed
        self.exhausted = 0

    def answer(self, message: DhcpMessage, now: int) -> DhcpMessage | None:
        """The reply, or None: nothing to say."""
        if message.op != wire.BOOTREQUEST:
            return None
        kind = message.kind
        if kind == wire.DISCOVER:
            return self._discover(message, now)
        if kind == wire.REQUEST:
            return self._request(message, now)
        if kind == wire.INFORM:
            return self._reply(message, wire.ACK, 0, 0)
        if kind == wire.RELEASE:
            lease = self.leases.get(message.ciaddr)
            if lease is not None and lease.client == message.client():
                self._forget(lease)
        elif kind == wire.DECLINE and message.address(wire.SERVER_ID) == self.own:
            self._declined(message, now)
        return None

    def _discover(self, message: DhcpMessage, now: int) -> DhcpMessage | None:
        address = self._choose(message, now)
        if address is None:
            self.exhausted += 1
            return None
        lease = self.leases.get(address)
        if lease is None or lease.state != BOUND:
            self._hold(address, message, OFFERED, now + OFFER_NS)
        return self._reply(message, wire.OFFER, address, self._time(message))

    def _request(self, message: DhcpMessage, now: int) -> DhcpMessage | None:
        """RFC 2131 section 4.3.2, by what the client has filled in."""
        chosen = message.address(wire.SERVER_ID)
        wanted = message.address(wire.REQUESTED_ADDRESS) or message.ciaddr
        if chosen and chosen != self.own:  # it took another server's offer
            lease = self.leases.get(self._by_client.get(message.client(), 0))
            if lease is not None and lease.state == OFFERED:
                del self.leases[lease.address]
            return None
        if not wanted or not self._may_have(wanted, message, now):
            return self._reply(message, wire.NAK, 0, 0)
        seconds = self._time(message)
        self._hold(wanted, message, BOUND, now + seconds * SECOND)
        self._changed(self.leases[wanted])
        return self._reply(message, wire.ACK, wanted, seconds)

    def _declined(self, message: DhcpMessage, now: int) -> None:
        """The client found that somebody else has it: keep it out of use for a while."""
        address = message.address(wire.REQUESTED_ADDRESS)
        lease = self.leases.get(address)
        if lease is not None and lease.client == message.client():
            self._by_client.pop(lease.client, None)
            self._forget(lease)
            self.leases[address] = Lease(address, b"", b"", DECLINED, now + DECLINED_NS, "")

    # -- choosing --

    def _in_pool(self, address: int) -> bool:
        return self.spec.first <= address <= self.spec.last and address not in self._reserved

    def _is_free(self, address: int, client: bytes, now: int) -> bool:
        lease = self.leases.get(address)
        return lease is None or lease.client == client or lease.expires <= now

    def _may_have(self, address: int, message: DhcpMessage, now: int) -> bool:
        static = self._static.get(message.mac)
        if static is not None:
            return address == static.address
        return self._in_pool(address) and self._is_free(address, message.client(), now)

    def _choose(self, message: DhcpMessage, now: int) -> int | None:
        """The address to offer (RFC 2131 section 4.3.1); None: all are taken."""
        static = self._static.get(message.mac)
        if static is not None:
            return static.address
        client = message.client()
        for address in (self._by_client.get(client, 0), message.address(wire.REQUESTED_ADDRESS)):
            if address and self._in_pool(address) and self._is_free(address, client, now):
                return address
        return self._unused(now)

    def _unused(self, now: int) -> int | None:
        """The next address that nobody has; else the one that ran out longest ago."""
        first, last = self.spec.first, self.spec.last
        if len(self.leases) < last - first + 1:
            for _ in range(last - first + 1):
                address = self._next
                self._next = address + 1 if address < last else first
                if address not in self.leases and address not in self._reserved:
                    return address
        old = [lease for lease in self.leases.values() if lease.expires <= now and self._in_pool(lease.address)]
        return min(old, key=lambda lease: lease.expires).address if old else None

    def _hold(self, address: int, message: DhcpMessage, state: str, expires: int) -> None:
        client = message.client()
        before = self.leases.get(address)
        if before is not None and before.client != client:
            self._by_client.pop(before.client, None)
        other = self._by_client.get(client)
        if other is not None and other != address and other in self.leases:
            self._forget(self.leases[other])
        name = message.options.get(wire.HOST_NAME, b"").decode("ascii", "replace")[:63]
        static = self._static.get(message.mac)
        if static is not None and static.name:
            name = static.name
        self.leases[address] = Lease(address, client, message.mac, state, expires, name)
        self._by_client[client] = address

    def _forget(self, lease: Lease) -> None:
        del self.leases[lease.address]
        lease.expires = 0
        self._changed(lease)

    def restore(self, lease: Lease) -> None:
        """Remember a lease from before, if it can still be one and nobody has its address by now."""
        fits = self._in_pool(lease.address) or any(one.address == lease.address for one in self._static.values())
        if fits and lease.address not in self.leases and lease.client not in self._by_client:
            self.leases[lease.address] = lease
            self._by_client[lease.client] = lease.address

    def _time(self, message: DhcpMessage) -> int:
        """Seconds of the lease: what the client asks for, within what is configured."""
        most = max(self.spec.lease // SECOND, MIN_LEASE_S)
        asked = message.number(wire.LEASE_TIME, most)
        return min(max(asked, MIN_LEASE_S), most)

    # -- answering --

    def _reply(self, message: DhcpMessage, kind: int, address: int, seconds: int) -> DhcpMessage:
        """RFC 2131 table 3."""
        reply = DhcpMessage(wire.BOOTREPLY, kind, message.xid, message.mac)
        reply.flags, reply.giaddr = message.flags, message.giaddr
        reply.options[wire.SERVER_ID] = self.own.to_bytes(4, "big")
        if kind == wire.NAK:
            reply.options[wire.MESSAGE] = b"address not available"
            return reply
        reply.yiaddr = address
        if kind != wire.OFFER:
            reply.ciaddr = message.ciaddr
        if seconds:
            for code, share in ((wire.LEASE_TIME, 8), (wire.RENEWAL_TIME, 4), (wire.REBINDING_TIME, 7)):
                reply.options[code] = (seconds * share // 8).to_bytes(4, "big")
        self._configuration(reply, message)
        return reply

    def _configuration(self, reply: DhcpMessage, message: DhcpMessage) -> None:
        spec = self.spec
        netmask = mask(4, self.length)
        options: dict[int, bytes] = {
            wire.SUBNET_MASK: netmask.to_bytes(4, "big"),
            wire.BROADCAST: (self.own | ~netmask & 0xFFFFFFFF).to_bytes(4, "big"),
        }
        if spec.router:
            options[wire.ROUTER] = spec.router.to_bytes(4, "big")
        for code, addresses in ((wire.DNS, spec.dns), (wire.NTP, spec.ntp)):
            if addresses:
                options[code] = b"".join(address.to_bytes(4, "big") for address in addresses)
        if spec.domain:
            options[wire.DOMAIN_NAME] = spec.domain.encode()
        if spec.mtu:
            options[wire.INTERFACE_MTU] = spec.mtu.to_bytes(2, "big")
        if spec.boot_server:
            options[wire.BOOT_SERVER] = spec.boot_server.encode()
        if spec.boot_file:
            options[wire.BOOT_FILE] = spec.boot_file.encode()
        static = self._static.get(message.mac)
        if static is not None and static.name:
            options[wire.HOST_NAME] = static.name.encode()
        asked = message.options.get(wire.PARAMETER_LIST)
        extra = dict(spec.options)
        for code, value in {**options, **extra}.items():
            # the mask is always told, and what the configuration adds by number; the rest to those who ask
            if asked is None or code in asked or code == wire.SUBNET_MASK or code in extra:
                reply.options[code] = value

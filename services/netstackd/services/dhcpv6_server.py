"""A DHCPv6 server (RFC 8415 section 18.3): addresses (IA_NA), delegated prefixes (IA_PD), and configuration. Sans-IO.

`answer(message, now)` gives the reply to a client's message, or None. Where in its pool a client's lease lies is a hash
of who it is: an offer need not be remembered, and a client that comes back after a restart gets the same again. One
that asks for a lease that it has, or that nobody has, gets that.

`changed(lease)` is told of leases that came about, were extended or are over (`expires` 0): the manager routes
delegated prefixes by it, and remembers leases. Bounded: MAX_LEASES; those that ran out make room.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2s
from typing import Final

from services.netstackd.config.model import Dhcpv6ServerSpec, Prefix
from services.netstackd.wire import dhcpv6 as wire
from services.netstackd.wire.dhcpv6 import IA_NA, IA_PD, Association, Dhcpv6Message

SECOND: Final = 1_000_000_000
MAX_LEASES: Final = 16384
MAX_TRIES: Final = 64  # places of a pool that are looked at for a free one
DECLINED_S: Final = 600

Owner = tuple[int, bytes, int]  # IA_NA or IA_PD, the client's DUID, its IAID


class Lease6:
    """An address (`length` 128) or a prefix that somebody has. `via`: the client's link-local address. `owner` is None
    for an address that was declined."""

    __slots__ = ("address", "expires", "length", "owner", "via")

    def __init__(self, address: int, length: int, owner: Owner | None, expires: int, via: int) -> None:
        self.address = address
        self.length = length
        self.owner = owner
        self.expires = expires
        self.via = via


class _Pool:
    """Places of equal size: `count` prefixes of `length` from `first` on."""

    def __init__(self, first: int, count: int, length: int) -> None:
        self.first = first
        self.count = count
        self.length = length
        self.step = 1 << (128 - length)

    def holds(self, address: int, length: int) -> bool:
        """Whether this is one of the places."""
        place, rest = divmod(address - self.first, self.step)
        return length == self.length and rest == 0 and 0 <= place < self.count

    def place(self, number: int) -> int:
        """The address of a place, counted round."""
        return self.first + number % self.count * self.step


class Dhcpv6Server:
    """See the module docstring. `duid`: ours. `own`: our addresses on the interface, with prefix lengths."""

    def __init__(
        self, spec: Dhcpv6ServerSpec, duid: bytes, own: tuple[Prefix, ...], changed: Callable[[Lease6], None]
    ) -> None:
        self.spec = spec
        self.duid = duid
        self._own = own
        self._changed = changed
        self._pools: dict[int, _Pool] = {}
        if spec.first:
            self._pools[IA_NA] = _Pool(spec.first, spec.last - spec.first + 1, 128)
        if spec.delegate is not None:
            _, first, length = spec.delegate
            self._pools[IA_PD] = _Pool(first, 1 << (spec.delegate_length - length), spec.delegate_length)
        self.leases: dict[int, Lease6] = {}
        self._by_owner: dict[Owner, Lease6] = {}
        self.exhausted = 0
        self._nothing_old_before = 0

    # -- messages --

    def answer(self, message: Dhcpv6Message, via: int, now: int) -> Dhcpv6Message | None:
        """The reply to a message from `via`, or None: nothing to say, or the message is not as section 16 wants it."""
        kind = message.kind
        server = message.options.get(wire.SERVER_ID)
        if kind == wire.INFORMATION_REQUEST:
            if message.associations or (server is not None and server != self.duid):
                return None
            return self._reply(message, wire.REPLY)
        if not message.client:
            return None
        if kind in (wire.SOLICIT, wire.CONFIRM, wire.REBIND):
            if server is not None:
                return None
        elif server != self.duid:
            return None
        if kind == wire.SOLICIT:
            return self._solicit(message, via, now)
        if kind == wire.CONFIRM:
            return self._confirm(message)
        if kind in (wire.REQUEST, wire.RENEW, wire.REBIND):
            reply = self._reply(message, wire.REPLY)
            for asked in message.associations:
                reply.associations.append(self._bind(message.client, asked, via, now, kind == wire.REQUEST))
            return reply
        if kind in (wire.RELEASE, wire.DECLINE):
            return self._give_back(message, now)
        return None

    def _solicit(self, message: Dhcpv6Message, via: int, now: int) -> Dhcpv6Message:
        """Section 18.3.1: what a Request would get; with Rapid Commit it is done at once."""
        rapid = self.spec.rapid_commit and wire.RAPID_COMMIT in message.options
        reply = self._reply(message, wire.REPLY if rapid else wire.ADVERTISE)
        if rapid:
            reply.options[wire.RAPID_COMMIT] = b""
        if self.spec.preference:
            reply.options[wire.PREFERENCE] = bytes((self.spec.preference,))
        for asked in message.associations:
            if rapid:
                reply.associations.append(self._bind(message.client, asked, via, now, True))
                continue
            made = Association(asked.kind, asked.iaid)
            address = self._choose((asked.kind, message.client, asked.iaid), asked, now)
            if address is None:
                made.status = _none_left(asked.kind)
            else:
                self._fill(made, address)
            reply.associations.append(made)
        return reply

    def _confirm(self, message: Dhcpv6Message) -> Dhcpv6Message | None:
        """Section 18.3.3: whether the addresses still belong to this link."""
        addresses = [lease[0] for one in message.associations if one.kind == IA_NA for lease in one.leases]
        if not addresses:
            return None
        fits = all(
            any((address ^ prefix) >> (128 - length) == 0 for _, prefix, length in self._own) for address in addresses
        )
        reply = self._reply(message, wire.REPLY)
        reply.options[wire.STATUS_CODE] = (wire.SUCCESS if fits else wire.NOT_ON_LINK).to_bytes(2, "big")
        return reply

    def _give_back(self, message: Dhcpv6Message, now: int) -> Dhcpv6Message:
        """Release and Decline, sections 18.3.7 and 18.3.8."""
        reply = self._reply(message, wire.REPLY)
        reply.options[wire.STATUS_CODE] = wire.SUCCESS.to_bytes(2, "big")
        for asked in message.associations:
            lease = self._by_owner.get((asked.kind, message.client, asked.iaid))
            if lease is None or not any(address == lease.address for address, *_ in asked.leases):
                made = Association(asked.kind, asked.iaid)
                made.status = wire.NO_BINDING
                reply.associations.append(made)
                continue
            self._drop(lease)
            if message.kind == wire.DECLINE and asked.kind == IA_NA:
                self._put(Lease6(lease.address, 128, None, now + DECLINED_S * SECOND, 0))
        return reply

    # -- leases --

    def _bind(self, client: bytes, asked: Association, via: int, now: int, fresh: bool) -> Association:
        """Give or extend. One that asks to extend a lease which cannot be its own is told so with lifetimes of 0, and
        one that asks for nothing in particular and has nothing, that there is no binding."""
        made = Association(asked.kind, asked.iaid)
        owner = (asked.kind, client, asked.iaid)
        address = self._choose(owner, asked, now)
        wrong = [lease for lease in asked.leases if lease[0] != address]
        if not fresh and not asked.leases and owner not in self._by_owner:
            made.status = wire.NO_BINDING
            return made
        if address is None:
            self.exhausted += 1
            made.status = _none_left(asked.kind)
        else:
            before = self._by_owner.get(owner)
            if before is not None and before.address != address:
                self._drop(before)
            pool = self._pools[asked.kind]
            self._put(Lease6(address, pool.length, owner, now + self.spec.valid * SECOND, via))
            self._fill(made, address)
        made.leases += [(lease[0], lease[1], 0, 0) for lease in wrong]
        return made

    def _choose(self, owner: Owner, asked: Association, now: int) -> int | None:
        """The place for an association: the one it has, one that it names, or by its hash; None: all are taken."""
        pool = self._pools.get(asked.kind)
        if pool is None:
            return None
        present = self._by_owner.get(owner)
        if present is not None and pool.holds(present.address, present.length):
            return present.address
        if len(self.leases) >= MAX_LEASES and not self._forget_old(now):
            return None
        for address, length, *_ in asked.leases:
            if pool.holds(address, length) and self._is_free(address, now):
                return address
        start = int.from_bytes(blake2s(b"%d %d" % owner[::2] + owner[1], digest_size=8).digest(), "big")
        for step in range(min(MAX_TRIES, pool.count)):
            address = pool.place(start + step)
            if self._is_free(address, now):
                return address
        return None

    def _is_free(self, address: int, now: int) -> bool:
        lease = self.leases.get(address)
        taken = lease is not None and lease.expires > now
        return not taken and all(address != own for _, own, _ in self._own)

    def _fill(self, made: Association, address: int) -> None:
        """Section 21.4: T1 and T2 at half and four fifths of the preferred lifetime."""
        spec = self.spec
        made.t1, made.t2 = spec.preferred // 2, spec.preferred * 4 // 5
        made.leases.append((address, self._pools[made.kind].length, spec.preferred, spec.valid))

    def _put(self, lease: Lease6) -> None:
        old = self.leases.get(lease.address)
        if old is not None and old.owner is not None and old.owner != lease.owner:
            self._by_owner.pop(old.owner, None)
        self.leases[lease.address] = lease
        if lease.owner is not None:
            self._by_owner[lease.owner] = lease
        self._changed(lease)

    def _drop(self, lease: Lease6) -> None:
        self.leases.pop(lease.address, None)
        if lease.owner is not None:
            self._by_owner.pop(lease.owner, None)
        lease.expires = 0
        self._changed(lease)

    def _forget_old(self, now: int) -> bool:
        """Make room: leases that have run out. Whether there were any; a flood does not look again and again."""
        if now < self._nothing_old_before:
            return False
        self._nothing_old_before = now + SECOND
        old = [lease for lease in self.leases.values() if lease.expires <= now]
        for lease in old:
            self._drop(lease)
        return bool(old)

    def expire(self, now: int) -> int | None:
        """Let go of delegated prefixes that have run out (their routes go); returns when the next one will."""
        delegated = [lease for lease in self.leases.values() if lease.length < 128]
        for lease in delegated:
            if lease.expires <= now:
                self._drop(lease)
        return min((lease.expires for lease in delegated if lease.expires > now), default=None)

    def restore(self, lease: Lease6) -> None:
        """Remember a lease from before, if it can still be one."""
        pool = self._pools.get(lease.owner[0]) if lease.owner is not None else None
        if pool is not None and pool.holds(lease.address, lease.length) and len(self.leases) < MAX_LEASES:
            self._put(lease)

    # -- answering --

    def _reply(self, message: Dhcpv6Message, kind: int) -> Dhcpv6Message:
        spec = self.spec
        reply = Dhcpv6Message(kind, message.transaction)
        if message.client:
            reply.options[wire.CLIENT_ID] = message.client
        reply.options[wire.SERVER_ID] = self.duid
        asked = message.asked
        if spec.dns and wire.DNS_SERVERS in asked:
            reply.options[wire.DNS_SERVERS] = b"".join(address.to_bytes(16, "big") for address in spec.dns)
        if spec.domains and wire.DOMAIN_LIST in asked:
            reply.options[wire.DOMAIN_LIST] = wire.domain_list(spec.domains)
        if message.kind == wire.INFORMATION_REQUEST:
            reply.options[wire.INFORMATION_REFRESH_TIME] = max(spec.valid, 600).to_bytes(4, "big")
        return reply


def _none_left(kind: int) -> int:
    return wire.NO_ADDRESSES if kind == IA_NA else wire.NO_PREFIXES

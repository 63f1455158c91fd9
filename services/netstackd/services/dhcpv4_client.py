"""A DHCPv4 client (RFC 2131 section 4.4): from no address to a lease, and how it is kept. Sans-IO.

`start(now)`, `receive(message, now)` and `wake(now)` return messages to send; `deadline` says when `wake` is wanted.
What becomes of it is told by `on_bound(lease)` and `on_lost()`.

    INIT -> SELECTING -> REQUESTING -> BOUND -> RENEWING (half the time) -> REBINDING (seven eighths) -> INIT
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from protocol.records import record
from services.netstackd.wire import dhcpv4 as wire
from services.netstackd.wire.dhcpv4 import DhcpMessage

SECOND: Final = 1_000_000_000
INIT: Final = "init"
SELECTING: Final = "selecting"
REQUESTING: Final = "requesting"
BOUND: Final = "bound"
RENEWING: Final = "renewing"
REBINDING: Final = "rebinding"
MAX_BACKOFF_S: Final = 64  # RFC 2131 section 4.1
MAX_REQUESTS: Final = 4
MIN_RETRY_S: Final = 60  # of renewals, section 4.4.5
MIN_LEASE_S: Final = 30
_WANTED: Final = bytes((wire.SUBNET_MASK, wire.ROUTER, wire.DNS, wire.DOMAIN_NAME, wire.INTERFACE_MTU, wire.NTP))


@record(frozen=True)
class ClientLease:
    """What a server gave. `expires` on the caller's clock."""

    address: int
    length: int
    router: int
    server: int
    dns: tuple[int, ...]
    domain: str
    mtu: int
    expires: int


class DhcpClient:
    """See the module docstring."""

    def __init__(
        self,
        mac: bytes,
        rng: random.Random,
        on_bound: Callable[[ClientLease], None],
        on_lost: Callable[[], None],
        name: str = "",
    ) -> None:
        self._mac = mac
        self._rng = rng
        self._on_bound = on_bound
        self._on_lost = on_lost
        self._name = name
        self.state: str = INIT
        self.deadline: int | None = None
        self.lease: ClientLease | None = None
        self._xid = 0
        self._began = 0
        self._tries = 0
        self._offer: DhcpMessage | None = None
        self._renew = self._rebind = 0

    def start(self, now: int) -> list[DhcpMessage]:
        """Begin to look for a server."""
        self.state = SELECTING
        self._xid = self._rng.getrandbits(32)
        self._began = now
        self._tries = 0
        return self._send(now)

    def wake(self, now: int) -> list[DhcpMessage]:
        """`deadline` has come."""
        lease = self.lease
        if self.state in (SELECTING, INIT):
            return self._send(now) if self.state == SELECTING else self.start(now)
        if self.state == REQUESTING:
            return self._send(now) if self._tries < MAX_REQUESTS else self.start(now)
        assert lease is not None
        if now >= lease.expires:
            self.lease = None
            self._on_lost()
            return self.start(now)
        if now >= self._rebind and self.state != REBINDING:
            self.state = REBINDING
        elif self.state == BOUND:
            self.state = RENEWING
            self._xid = self._rng.getrandbits(32)
            self._began = now
        return self._send(now)

    def receive(self, message: DhcpMessage, now: int) -> list[DhcpMessage]:
        """A message that came in; those that are not for us do nothing."""
        if message.op != wire.BOOTREPLY or message.xid != self._xid or message.mac != self._mac:
            return []
        if self.state == SELECTING and message.kind == wire.OFFER:
            if not message.yiaddr or not message.address(wire.SERVER_ID):
                return []
            self._offer = message
            self.state = REQUESTING
            self._tries = 0
            return self._send(now)
        if self.state in (REQUESTING, RENEWING, REBINDING):
            if message.kind == wire.NAK:
                lost = self.lease
                self.lease = None
                if lost is not None:
                    self._on_lost()
                self.state = INIT
                self.deadline = now + SECOND
            elif message.kind == wire.ACK and message.yiaddr:
                self._bind(message, now)
        return []

    def release(self) -> list[DhcpMessage]:
        """Give the address back."""
        lease = self.lease
        if lease is None:
            return []
        message = DhcpMessage(wire.BOOTREQUEST, wire.RELEASE, self._rng.getrandbits(32), self._mac)
        message.ciaddr = lease.address
        message.options[wire.SERVER_ID] = lease.server.to_bytes(4, "big")
        self.lease = None
        self.deadline = None
        self.state = INIT
        return [message]

    def _bind(self, message: DhcpMessage, now: int) -> None:
        seconds = max(message.number(wire.LEASE_TIME, 3600), MIN_LEASE_S)
        mask = message.address(wire.SUBNET_MASK) or 0xFFFFFF00
        renew = message.number(wire.RENEWAL_TIME, seconds // 2)
        rebind = message.number(wire.REBINDING_TIME, seconds * 7 // 8)
        if not 0 < renew < rebind < seconds:
            renew, rebind = seconds // 2, seconds * 7 // 8
        dns = message.options.get(wire.DNS, b"")
        mtu = message.options.get(wire.INTERFACE_MTU, b"")
        self._renew, self._rebind = now + renew * SECOND, now + rebind * SECOND
        self.lease = ClientLease(
            address=message.yiaddr,
            length=mask.bit_count(),
            router=message.address(wire.ROUTER),
            server=message.address(wire.SERVER_ID),
            dns=tuple(int.from_bytes(dns[at : at + 4], "big") for at in range(0, len(dns) - 3, 4)),
            domain=message.options.get(wire.DOMAIN_NAME, b"").decode("ascii", "replace").rstrip("\0"),
            mtu=int.from_bytes(mtu, "big") if len(mtu) == 2 else 0,
            expires=now + seconds * SECOND,
        )
        self.state = BOUND
        self.deadline = self._renew
        self._tries = 0
        self._on_bound(self.lease)

    def _send(self, now: int) -> list[DhcpMessage]:
        """The message of the present state, and when it is due again."""
        kind = wire.DISCOVER if self.state == SELECTING else wire.REQUEST
        message = DhcpMessage(wire.BOOTREQUEST, kind, self._xid, self._mac)
        message.secs = min((now - self._began) // SECOND, 0xFFFF)
        message.options[wire.PARAMETER_LIST] = _WANTED
        if self._name:
            message.options[wire.HOST_NAME] = self._name.encode()
        lease = self.lease
        if self.state in (SELECTING, REQUESTING):
            message.flags = wire.FLAG_BROADCAST  # we cannot be reached by an address that we do not have
            if self.state == REQUESTING and self._offer is not None:
                message.options[wire.REQUESTED_ADDRESS] = self._offer.yiaddr.to_bytes(4, "big")
                message.options[wire.SERVER_ID] = self._offer.options[wire.SERVER_ID][:4]
            wait = min(4 << self._tries, MAX_BACKOFF_S) * SECOND
            self.deadline = now + wait + self._rng.randrange(-SECOND, SECOND)
        else:
            assert lease is not None
            message.ciaddr = lease.address
            until = self._rebind if self.state == RENEWING else lease.expires
            self.deadline = min(until, now + max((until - now) // 2, MIN_RETRY_S * SECOND))
        self._tries += 1
        return [message]

"""Addresses of interfaces: what a stack answers to, and with which source it may speak.

An Address belongs to one interface. The stack-wide table says in one look-up whether a destination is ours: IPv4
addresses and IPv6 addresses of more than link scope are ours on every interface (the weak host model, as in Linux),
link-local ones on theirs alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.wire.numbers import is_link_local_v6, is_loopback, mask

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface

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
        "dad_probes",
        "deprecated",
        "iface",
        "made_for",
        "managed",
        "optimistic",
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
        self.optimistic = False
        self.dad_failed = False
        self.dad_probes = 0
        self.conflicts = 0
        self.deprecated = False
        self.temporary = False  # RFC 8981
        self.managed: Address | None = None  # the public address that a temporary one goes with
        self.made_for = 0
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

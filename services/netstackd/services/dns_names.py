"""The names that a router's DNS knows by itself: its namespaces, and who told its DHCP servers a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from services.netstackd.services.dns_forwarder import Address, Names
from services.netstackd.wire.dns_names import name_of_text
from services.netstackd.wire.numbers import mask

if TYPE_CHECKING:
    from services.netstackd.config.model import Config
    from services.netstackd.network.interface import Interface
    from services.netstackd.services.manager import ServiceManager


class _Namespace(Protocol):
    addresses: list[tuple[int, int, int]]

    @property
    def is_root(self) -> bool: ...


class _Namespaces(Protocol):
    @property
    def all(self) -> Mapping[str, _Namespace]: ...


class Known(Protocol):
    """Who knows: the router."""

    interfaces: dict[str, Interface]
    services: ServiceManager


class RouterNames(Names):
    """See Names. The virtual network's interfaces are those with namespaces, leases, or slirp."""

    def __init__(self, router: Known, namespaces: _Namespaces, config: Config) -> None:
        self._router = router
        self._namespaces = namespaces
        network, slirp, dns = config.network, config.slirp, config.dns
        domain = (dns.domain if dns is not None else "") or (network.domain if network is not None else "")
        self.domain = name_of_text(domain)
        self._inside = {server.interface for server in config.dhcp_servers}
        self._inside.update(slirp.interfaces if slirp is not None else ())
        self._inside.update([network.interface] if network is not None else ())

    def addresses(self, name: bytes) -> Sequence[Address] | None:
        """See Names. A namespace comes before a lease."""
        text = name.decode("ascii", "replace")
        for known, namespace in self._namespaces.all.items():
            if known.lower() == text and not namespace.is_root:
                return [(version, address) for version, address, _ in namespace.addresses]
        address = self._router.services.named_leases().get(text)
        return None if address is None else [(4, address)]

    def name_of(self, address: Address) -> bytes | None:
        """See Names."""
        for known, namespace in self._namespaces.all.items():
            if not namespace.is_root and any(prefix[:2] == address for prefix in namespace.addresses):
                return known.lower().encode("ascii", "replace")
        for name, value in self._router.services.named_leases().items():
            if address == (4, value):
                return name.encode("ascii", "replace")
        return None

    def is_ours(self, address: Address) -> bool:
        """See Names."""
        version, value = address
        return any(
            own.version == version and (own.address ^ value) & mask(version, own.prefix_length) == 0
            for name in self._inside
            if name in self._router.interfaces
            for own in self._router.interfaces[name].addresses
        )

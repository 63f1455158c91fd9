"""The configuration as values: what `load.py` makes of a file, and what `app.py` builds a router from.

Addresses are (version, number); times nanoseconds; everything is frozen and comparable, so that two configurations
can be compared part by part (`diff.py`).
"""

from __future__ import annotations

from typing import TypeAlias

from protocol.records import field, record
from services.netstackd.filter.pipeline import Policy
from services.netstackd.links.fault import Faults
from services.netstackd.links.shaper import Shape
from services.netstackd.slirp.publish import PublishSpec

Address: TypeAlias = tuple[int, int]  # version, address
Prefix: TypeAlias = tuple[int, int, int]  # version, address, prefix length


class ConfigError(Exception):
    """A configuration that cannot be used. `problems`: one line each, saying where, what, and what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@record(frozen=True)
class LinkSpec:
    """What an interface's frames move by. Which fields count depends on `kind`."""

    kind: str  # tap tun packet unix pcap loopback bridge vlan
    device: str = ""
    netns: str = ""
    fd: int = -1
    path: str = ""
    framing: str = "stream"
    listen: bool = False
    vnet: bool = False
    read: str = ""
    write: str = ""
    paced: bool = True
    parent: str = ""
    vlan_id: int = 0
    ageing: int = 300_000_000_000
    offload: bool = True
    fault_rx: Faults = Faults()
    fault_tx: Faults = Faults()
    seed: int = 0
    shape: Shape | None = None


@record(frozen=True)
class InterfaceSpec:
    """One interface; with `bridge` it is a port of that bridge and nothing else."""

    name: str
    link: LinkSpec
    mac: bytes = b""
    mtu: int = 0
    addresses: tuple[Prefix, ...] = ()
    bridge: str = ""
    dhcp: bool = False
    slaac: bool = False
    up: bool = True
    settings: tuple[tuple[str, int], ...] = ()  # attributes of network.interface.Interface


@record(frozen=True)
class RouteSpec:
    """One static route. `via` None: the destination is on the link."""

    prefix: Prefix
    via: Address | None = None
    interface: str = ""
    metric: int = 0
    source: int = 0
    table: int = 254
    kind: str = "unicast"


@record(frozen=True)
class RuleSpec:
    """One policy routing rule (ip-rule(8)): which packets look into `table`, or get the answer `kind` (a name of
    app.ROUTE_KINDS) without looking. `versions`: 4, 6 or both."""

    priority: int
    versions: tuple[int, ...] = (4, 6)
    table: int = 0
    kind: str = "unicast"
    source: Prefix | None = None
    destination: Prefix | None = None
    inside: str = ""
    outside: str = ""
    mark: int = 0
    mark_mask: int = 0
    tos: int = 0
    invert: bool = False


@record(frozen=True)
class StaticLease:
    """An address that belongs to a client, by its hardware address."""

    mac: bytes
    address: int
    name: str = ""


@record(frozen=True)
class DhcpServerSpec:
    """A DHCPv4 server on an interface."""

    interface: str
    first: int
    last: int
    lease: int = 12 * 3600 * 1_000_000_000
    router: int = 0
    dns: tuple[int, ...] = ()
    domain: str = ""
    ntp: tuple[int, ...] = ()
    mtu: int = 0
    boot_server: str = ""
    boot_file: str = ""
    static: tuple[StaticLease, ...] = ()
    options: tuple[tuple[int, bytes], ...] = ()


@record(frozen=True)
class Dhcpv6ServerSpec:
    """A DHCPv6 server on an interface. `first` 0: no addresses; `delegate` None: no prefixes. Lifetimes in seconds."""

    interface: str
    first: int = 0
    last: int = 0
    delegate: Prefix | None = None
    delegate_length: int = 64
    valid: int = 12 * 3600
    preferred: int = 12 * 3600 * 5 // 8
    dns: tuple[int, ...] = ()
    domains: tuple[str, ...] = ()
    rapid_commit: bool = True
    preference: int = 0


@record(frozen=True)
class AdvertisementSpec:
    """Router advertisements on an interface; no prefixes means those of its own addresses."""

    interface: str
    prefixes: tuple[Prefix, ...] = ()
    dns: tuple[int, ...] = ()
    domains: tuple[str, ...] = ()
    lifetime: int = 1800
    interval: int = 600 * 1_000_000_000
    mtu: int = 0
    managed: bool = False
    other: bool = False
    valid: int = 86400
    preferred: int = 14400


@record(frozen=True)
class SlirpSpec:
    """Connections that leave `interfaces` for addresses no route knows become sockets of the host."""

    interfaces: tuple[str, ...]
    host_loopback: bool = False
    denied: tuple[Prefix, ...] = ()
    max_connections: int = 4096
    max_flows: int = 1024


@record(frozen=True)
class NetworkSpec:
    """The virtual network that namespaces of this process join: a bridge of the router's, and what they are told."""

    interface: str
    pools: tuple[tuple[int, int, int], ...] = ()  # version, first, last; of a version without one, the whole network
    domain: str = ""
    servers: tuple[Address, ...] = ()  # DNS; none: the gateways
    mtu: int = 1500


@record(frozen=True)
class DnsSpec:
    """A forwarding DNS cache at addresses of ours. `upstream` (version, address, port): none for the host's own, which
    `resolv_conf` names (slirp), or those that DHCP told."""

    listen: tuple[Address, ...]
    domain: str = ""
    upstream: tuple[tuple[int, int, int], ...] = ()
    resolv_conf: str = "/etc/resolv.conf"
    cache: int = 4096


@record(frozen=True)
class Config:
    """Everything."""

    interfaces: tuple[InterfaceSpec, ...] = ()
    routes: tuple[RouteSpec, ...] = ()
    rules: tuple[RuleSpec, ...] = ()
    forwarding: bool = False
    policy: Policy = field(default_factory=Policy)
    dhcp_servers: tuple[DhcpServerSpec, ...] = ()
    dhcpv6_servers: tuple[Dhcpv6ServerSpec, ...] = ()
    lease_file: str = ""
    advertisements: tuple[AdvertisementSpec, ...] = ()
    slirp: SlirpSpec | None = None
    dns: DnsSpec | None = None
    network: NetworkSpec | None = None
    publishes: tuple[PublishSpec, ...] = ()
    control: str = ""
    control_mode: int = 0o600
    sockets: str = ""
    sockets_mode: int = 0o600
    log_level: str = "info"
    log_format: str = "text"

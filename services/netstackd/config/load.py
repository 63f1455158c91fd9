"""From TOML to `Config`: every section, checked for itself and for what it refers to.

`load(name, text)` raises ConfigError with all problems found. The reference of all keys is docs/NETSTACK.md; a key that
is added here is added there.
"""

from __future__ import annotations

import tomllib
from typing import Final

from services.netstackd.config.model import (
    AdvertisementSpec,
    Config,
    ConfigError,
    DhcpServerSpec,
    Dhcpv6ServerSpec,
    DnsSpec,
    InterfaceSpec,
    LinkSpec,
    NetworkSpec,
    Prefix,
    RouteSpec,
    RuleSpec,
    SlirpSpec,
    StaticLease,
)
from services.netstackd.config.policy import read_policy
from services.netstackd.config.publishing import split_colons, to_target
from services.netstackd.config.reader import Reader, Source, shown
from services.netstackd.links.fault import Faults
from services.netstackd.links.host_unsafe import MAX_NAME_BYTES
from services.netstackd.links.shaper import Shape
from services.netstackd.slirp.publish import PublishSpec

KINDS: Final = ("tap", "tun", "packet", "unix", "pcap", "loopback", "bridge", "vlan")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_SETTINGS: Final = (  # key, attribute of Interface, highest value
    ("rp_filter", "rp_filter", 2),
    ("proxy_arp", "proxy_arp", 1),
    ("accept_ra", "accept_ra", 2),
    ("use_tempaddr", "use_tempaddr", 2),
    ("addr_gen_mode", "addr_gen_mode", 2),
    ("send_redirects", "send_redirects", 1),
    ("accept_redirects", "accept_redirects4", 1),
    ("dad_transmits", "dad_transmits", 10),
)
_ROUTE_KINDS: Final = ("unicast", "blackhole", "unreachable", "prohibit")


def load(name: str, text: str) -> Config:
    """The configuration in `text`; `name` is the file's, for messages. ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: {str(error)[:1].lower()}{str(error)[1:]}"]) from None
    return from_document(document, Source(name, text))


def from_document(document: dict[str, object], source: Source) -> Config:
    """The configuration in a document that was parsed already. ConfigError."""
    problems: list[str] = []
    top = Reader(document, (), source, problems)
    router = top.table("router")
    forwarding = router.boolean("forwarding", False)
    router.end()
    interfaces = tuple([_interface(reader) for reader in top.tables("interface")])
    names = _check_names(interfaces, top)
    routes = tuple([route for route in (_route(reader, names) for reader in top.tables("route")) if route is not None])
    rules = tuple([_rule(reader, names, number) for number, reader in enumerate(top.tables("rule"))])
    services = [
        *[("dhcp client", spec.name, 67, 68) for spec in interfaces if spec.dhcp],
        *[("dhcp server", name, 68, 67) for name in _served(document, "dhcp_server")],
        *[("dhcpv6 server", name, 546, 547) for name in _served(document, "dhcpv6_server")],
    ]
    policy = read_policy(top, names, services)
    servers = [_dhcp_server(reader, names, interfaces) for reader in top.tables("dhcp_server")]
    servers6 = [_dhcpv6_server(reader, names) for reader in top.tables("dhcpv6_server")]
    dhcp = top.table("dhcp")
    lease_file = dhcp.text("leases")
    dhcp.end()
    advertisements = [_advertisement(reader, names) for reader in top.tables("router_advertisement")]
    slirp = _slirp(top.table("slirp"), names) if top.has("slirp") else None
    dns = _dns(top.table("dns"), interfaces) if top.has("dns") else None
    publishes = [_publish(reader) for reader in top.tables("publish")]
    network = _network(top.table("network"), interfaces) if top.has("network") else None
    control, sockets = _socket(top.table("control"), "socket"), _socket(top.table("sockets"), "listen")
    log = top.table("log")
    level, style = log.choice("level", LOG_LEVELS, "info"), log.choice("format", ("text", "json"), "text")
    log.end()
    top.end()
    if problems:
        raise ConfigError(problems)
    return Config(
        interfaces=interfaces,
        routes=routes,
        rules=rules,
        forwarding=forwarding,
        policy=policy,
        dhcp_servers=tuple([server for server in servers if server is not None]),
        dhcpv6_servers=tuple(servers6),
        lease_file=lease_file,
        advertisements=tuple(advertisements),
        slirp=slirp,
        dns=dns,
        publishes=tuple([one for one in publishes if one is not None]),
        network=network,
        control=control[0],
        control_mode=control[1],
        sockets=sockets[0],
        sockets_mode=sockets[1],
        log_level=level,
        log_format=style,
    )


def _socket(reader: Reader, key: str) -> tuple[str, int]:
    """A listening socket of ours: (path, permissions)."""
    path, mode = reader.text(key), reader.text("mode", "0600")
    if not mode.isdigit() or int(mode, 8 if not set(mode) & set("89") else 10) > 0o777:
        reader.problem("mode", f'must be file permissions such as "0600", is {shown(mode)}')
        mode = "0600"
    reader.end()
    return path, int(mode, 8)


def _network(reader: Reader, interfaces: tuple[InterfaceSpec, ...]) -> NetworkSpec | None:
    """[network]: the bridge is one of the interfaces, its addresses are the gateways, their prefixes the network."""
    name = reader.required("interface")
    bridge = next((spec for spec in interfaces if spec.name == name), None)
    if name and (bridge is None or bridge.link.kind != "bridge"):
        reader.problem("interface", f"{shown(name)} is no interface of kind bridge")
    pools: list[tuple[int, int, int]] = []
    for text in reader.texts("pool"):
        first_text, _, last_text = text.partition("-")
        first = reader.address("pool", first_text.strip())
        last = reader.address("pool", last_text.strip()) if last_text else None
        if first is None or last is None or first[0] != last[0] or first[1] > last[1]:
            reader.problem("pool", "must be FIRST-LAST, two addresses of one version")
            continue
        inside = bridge is not None and any(
            version == first[0] and length and first[1] >> shift == own >> shift == last[1] >> shift
            for version, own, length in bridge.addresses
            for shift in ((32 if version == 4 else 128) - length,)
        )
        if bridge is not None and not inside:
            reader.problem("pool", f"{text} is not within a network of {name}")
        pools.append((first[0], first[1], last[1]))
    servers = [reader.address("servers", text) for text in reader.texts("servers")]
    spec = NetworkSpec(
        interface=name,
        pools=tuple(pools),
        domain=reader.text("domain"),
        servers=tuple([server for server in servers if server is not None]),
        mtu=reader.integer("mtu", 1500, 1280, 65521),
    )
    reader.end()
    return spec if bridge is not None else None


def _served(document: dict[str, object], section: str) -> list[str]:
    """The interfaces that the tables of a section name, before they are read: the filter lets their clients in."""
    tables = document.get(section)
    named = [table.get("interface") for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []
    return [name for name in named if isinstance(name, str)]


def _check_names(interfaces: tuple[InterfaceSpec, ...], top: Reader) -> frozenset[str]:
    """The names that other sections may refer to; problems for those used twice and for wrong bridges and parents."""
    seen: dict[str, InterfaceSpec] = {}
    for spec in interfaces:
        if spec.name in seen:
            top.problem("interface", f"two interfaces are named {shown(spec.name)}")
        seen[spec.name] = spec
    for spec in interfaces:
        if spec.bridge and (spec.bridge not in seen or seen[spec.bridge].link.kind != "bridge"):
            top.problem("interface", f"{spec.name}: bridge {shown(spec.bridge)} is no interface of kind bridge")
        if spec.link.kind == "vlan" and spec.link.parent not in seen:
            top.problem("interface", f"{spec.name}: parent {shown(spec.link.parent)} is no interface")
    return frozenset(name for name, spec in seen.items() if not spec.bridge)


def _interface(reader: Reader) -> InterfaceSpec:
    name = reader.required("name")
    if name and (len(name.encode()) > MAX_NAME_BYTES or "/" in name or " " in name):
        reader.problem("name", f"must have at most {MAX_NAME_BYTES} bytes, no space and no slash")
    link = _link(reader, name)
    mac = reader.mac("mac", reader.text("mac")) if reader.has("mac") else b""
    mtu = reader.integer("mtu", 0, 68, 65521)
    addresses: list[Prefix] = []
    for text in reader.texts("addresses"):
        prefix = reader.prefix("addresses", text)
        if prefix is not None:
            addresses.append(prefix)
    bridge = reader.text("bridge")
    dhcp, slaac = reader.boolean("dhcp"), reader.boolean("slaac")
    if bridge and (addresses or dhcp or slaac):
        reader.problem("bridge", "a port of a bridge has no addresses: give them to the bridge")
    settings = tuple(
        [(attribute, reader.integer(key, 0, 0, high)) for key, attribute, high in _SETTINGS if reader.has(key)]
    )
    up = reader.boolean("up", True)
    reader.end()
    return InterfaceSpec(name, link, mac, mtu, tuple(addresses), bridge, dhcp, slaac, up, settings)


def _link(reader: Reader, name: str) -> LinkSpec:
    kind = reader.choice("kind", KINDS, "tap")
    values: dict[str, object] = {"kind": kind, "offload": reader.boolean("offload", True)}
    if kind in ("tap", "tun", "packet"):
        values |= {"device": reader.text("device", name), "netns": reader.text("netns")}
    if kind in ("tap", "tun", "unix"):
        values["fd"] = reader.integer("fd", -1, 0, 1 << 20)
    if kind == "unix":
        values |= {
            "path": reader.text("path"),
            "framing": reader.choice("framing", ("stream", "seqpacket", "dgram"), "stream"),
            "listen": reader.boolean("listen"),
            "vnet": reader.boolean("vnet"),
        }
        if not values["path"] and values["fd"] == -1:
            reader.problem("path", "is missing (or an fd that was handed over)")
        if values["vnet"] and values["framing"] == "stream":
            reader.problem("vnet", "needs framing seqpacket or dgram")
    elif kind == "pcap":
        values |= {"read": reader.text("read"), "write": reader.text("write"), "paced": reader.boolean("paced", True)}
    elif kind == "bridge":
        values["ageing"] = reader.duration("ageing", 300 * 10**9)
    elif kind == "vlan":
        values |= {"parent": reader.required("parent"), "vlan_id": reader.integer("id", 0, 1, 4094)}
        if not values["vlan_id"]:
            reader.problem("id", "is missing")
    if reader.has("fault"):
        both = _faults(reader.table("fault"))
        values |= {"fault_rx": both, "fault_tx": both}
    for key in ("fault_rx", "fault_tx"):
        if reader.has(key):
            values[key] = _faults(reader.table(key))
    values["seed"] = reader.integer("seed", 0, 0, 1 << 62)
    if reader.has("shape"):
        shape = reader.table("shape")
        rate = shape.rate("rate", 0)
        if rate <= 0:
            shape.problem("rate", "is missing or 0")
        else:
            values["shape"] = Shape(rate, shape.size("burst", 131072), shape.size("queue", 1 << 20))
        shape.end()
    return LinkSpec(**values)  # type: ignore[arg-type]


def _faults(reader: Reader) -> Faults:
    faults = Faults(
        loss=reader.chance("loss"),
        duplicate=reader.chance("duplicate"),
        corrupt=reader.chance("corrupt"),
        reorder=reader.chance("reorder"),
        delay_ns=reader.duration("delay", 0),
        jitter_ns=reader.duration("jitter", 0),
        rate_bps=reader.rate("rate", 0),
        queue=reader.integer("queue", 1000, 1, 1_000_000),
    )
    reader.end()
    return faults


def _route(reader: Reader, names: frozenset[str]) -> RouteSpec | None:
    kind = reader.choice("type", _ROUTE_KINDS, "unicast")
    to = reader.required("to")
    via_text, interface, source_text = reader.text("via"), reader.text("interface"), reader.text("source")
    via = reader.address("via", via_text) if via_text else None
    if to == "default" and via is not None and via[0] == 6:
        to = "default6"
    prefix = reader.network("to", to) if to else None
    metric, table = reader.integer("metric", 0, 0, 2**32 - 1), reader.integer("table", 254, 1, 2**32 - 1)
    if interface and interface not in names:
        reader.problem("interface", f"{shown(interface)} is no interface")
    if prefix is not None and via is not None and via[0] != prefix[0]:
        reader.problem("via", "is of another IP version than the destination")
    if kind == "unicast" and via is None and not interface:
        reader.problem("via", "is missing (or an interface)")
    source = reader.address("source", source_text) if source_text else None
    reader.end()
    if prefix is None:
        return None
    return RouteSpec(prefix, via, interface, metric, source[1] if source else 0, table, kind)


def _rule(reader: Reader, names: frozenset[str], number: int) -> RuleSpec:
    """A policy routing rule; without a priority they stand in the order of the file, before the main table."""
    kind = reader.choice("type", _ROUTE_KINDS, "unicast")
    prefixes: list[Prefix | None] = []
    for key in ("from", "to"):
        text = reader.text(key)
        prefixes.append(reader.network(key, text) if text else None)
    versions = {prefix[0] for prefix in prefixes if prefix is not None}
    family = {"ipv4": 4, "ipv6": 6}.get(reader.choice("family", ("any", "ipv4", "ipv6"), "any"))
    if family is not None:
        versions.add(family)
    if len(versions) > 1:
        reader.problem("to", "is of another IP version than the rest of the rule")
    for key in ("in", "out"):
        if reader.text(key) and reader.text(key) not in names:
            reader.problem(key, f"{shown(reader.text(key))} is no interface")
    table = reader.integer("table", 0, 1, 2**32 - 1)
    if (kind == "unicast") is not bool(table):
        reader.problem(
            "table", "is missing (or a type that says what becomes of the packet), and goes with no other type"
        )
    mark = reader.integer("mark", 0, 0, 2**32 - 1)
    rule = RuleSpec(
        priority=reader.integer("priority", 1000 + number, 1, 2**32 - 1),
        versions=tuple(sorted(versions)) or (4, 6),
        table=table,
        kind=kind,
        source=prefixes[0],
        destination=prefixes[1],
        inside=reader.text("in"),
        outside=reader.text("out"),
        mark=mark,
        mark_mask=reader.integer("mark_mask", 2**32 - 1 if mark else 0, 0, 2**32 - 1),
        tos=reader.integer("tos", 0, 0, 0x1C),
        invert=reader.boolean("not"),
    )
    reader.end()
    return rule


def _dhcp_server(reader: Reader, names: frozenset[str], interfaces: tuple[InterfaceSpec, ...]) -> DhcpServerSpec | None:
    interface = reader.required("interface")
    if interface and interface not in names:
        reader.problem("interface", f"{shown(interface)} is no interface")
    own = next((spec.addresses for spec in interfaces if spec.name == interface), ())
    v4 = next((prefix for prefix in own if prefix[0] == 4), None)
    first = last = 0
    ends = reader.required("pool").split("-")
    if len(ends) == 2:
        low, high = (reader.address("pool", end.strip(), 4) for end in ends)
        if low is not None and high is not None:
            first, last = low[1], high[1]
            if last < first:
                reader.problem("pool", "ends before it begins")
    elif reader.has("pool"):
        reader.problem("pool", "must be two addresses, such as 192.168.1.100-192.168.1.199")
    if v4 is None:
        if interface in names:
            reader.problem("interface", f"{interface} has no IPv4 address of its own")
    elif first and not (first >> (32 - v4[2]) == last >> (32 - v4[2]) == v4[1] >> (32 - v4[2])):
        reader.problem("pool", f"is not within the network of {interface}")
    router = reader.addresses("router", 4)
    static: list[StaticLease] = []
    for lease in reader.tables("static"):
        mac = lease.mac("mac", lease.required("mac"))
        address = lease.address("address", lease.required("address"), 4)
        name = lease.text("name")
        lease.end()
        if mac and address:
            static.append(StaticLease(mac, address[1], name))
    options: list[tuple[int, bytes]] = []
    extra = reader.table("options")
    for key in extra.keys():
        text = extra.text(key)
        if not key.isdigit() or not 1 <= int(key) <= 254:
            extra.problem(key, "must be an option number of 1 to 254")
            continue
        try:
            options.append((int(key), bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode()))
        except ValueError:
            extra.problem(key, "must be text, or hex:... bytes")
    spec = DhcpServerSpec(
        interface=interface,
        first=first,
        last=last,
        lease=reader.duration("lease", 12 * 3600 * 10**9),
        router=router[0] if router else (v4[1] if v4 else 0),
        dns=reader.addresses("dns", 4),
        domain=reader.text("domain"),
        ntp=reader.addresses("ntp", 4),
        mtu=reader.integer("mtu", 0, 68, 65535),
        boot_server=reader.text("boot_server"),
        boot_file=reader.text("boot_file"),
        static=tuple(static),
        options=tuple(options),
    )
    reader.end()
    return spec


def _dhcpv6_server(reader: Reader, names: frozenset[str]) -> Dhcpv6ServerSpec:
    interface = reader.required("interface")
    if interface and interface not in names:
        reader.problem("interface", f"{shown(interface)} is no interface")
    first = last = 0
    if reader.has("pool"):
        ends = reader.text("pool").split("-")
        low, high = (reader.address("pool", end.strip(), 6) for end in ends) if len(ends) == 2 else (None, None)
        if low is not None and high is not None and low[1] <= high[1]:
            first, last = low[1], high[1]
        else:
            reader.problem("pool", "must be two addresses in order, such as fd00::1000-fd00::1fff")
    delegate = reader.network("delegate", reader.text("delegate")) if reader.has("delegate") else None
    length = reader.integer("delegate_length", 64, 1, 64)
    if delegate is not None and not (delegate[0] == 6 and delegate[2] <= length):
        reader.problem("delegate", f"must be an IPv6 network that has room for prefixes of length {length}")
        delegate = None
    valid = max(reader.duration("lease", 12 * 3600 * 10**9) // 10**9, 60)
    spec = Dhcpv6ServerSpec(
        interface=interface,
        first=first,
        last=last,
        delegate=delegate,
        delegate_length=length,
        valid=valid,
        preferred=min(reader.duration("preferred", valid * 5 // 8 * 10**9) // 10**9, valid),
        dns=reader.addresses("dns", 6),
        domains=tuple(reader.texts("domains")),
        rapid_commit=reader.boolean("rapid_commit", True),
        preference=reader.integer("preference", 0, 0, 255),
    )
    reader.end()
    return spec


def _advertisement(reader: Reader, names: frozenset[str]) -> AdvertisementSpec:
    interface = reader.required("interface")
    if interface and interface not in names:
        reader.problem("interface", f"{shown(interface)} is no interface")
    prefixes: list[Prefix] = []
    for text in reader.texts("prefixes"):
        prefix = reader.network("prefixes", text)
        if prefix is not None and prefix[0] == 6:
            prefixes.append(prefix)
    spec = AdvertisementSpec(
        interface=interface,
        prefixes=tuple(prefixes),
        dns=reader.addresses("dns", 6),
        domains=tuple(reader.texts("domains")),
        lifetime=reader.duration("lifetime", 1800 * 10**9) // 10**9,
        interval=max(reader.duration("interval", 600 * 10**9), 4 * 10**9),  # RFC 4861 6.2.1
        mtu=reader.integer("mtu", 0, 1280, 65535),
        managed=reader.boolean("managed"),
        other=reader.boolean("other"),
        valid=reader.duration("valid", 86400 * 10**9) // 10**9,
        preferred=reader.duration("preferred", 14400 * 10**9) // 10**9,
    )
    reader.end()
    return spec


def _slirp(reader: Reader, names: frozenset[str]) -> SlirpSpec:
    interfaces = reader.texts("interfaces")
    if not interfaces:
        reader.problem("interfaces", "is missing: whose connections become sockets of the host")
    for name in interfaces:
        if name not in names:
            reader.problem("interfaces", f"{shown(name)} is no interface")
    denied = [reader.network("deny", text) for text in reader.texts("deny")]
    spec = SlirpSpec(
        interfaces=tuple(interfaces),
        host_loopback=reader.boolean("host_loopback"),
        denied=tuple([network for network in denied if network is not None]),
        max_connections=reader.integer("max_connections", 4096, 1, 1 << 16),
        max_flows=reader.integer("max_flows", 1024, 1, 1 << 16),
    )
    reader.end()
    return spec


def _publish(reader: Reader) -> PublishSpec | None:
    protocol, host = reader.choice("protocol", ("tcp", "udp"), "tcp"), reader.text("host")
    ports = reader.texts("port")
    to = reader.required("to")
    words = split_colons(to)
    reader.end()
    if len(ports) != 1 or len(words) != 2:
        reader.problem("to", 'port must be one or a range, and to an inner address or namespace such as "web:80"')
        return None
    try:
        return to_target(protocol, host, ports[0], words[0], words[1])
    except ValueError as error:
        reader.problem("", str(error))
        return None


def _dns(reader: Reader, interfaces: tuple[InterfaceSpec, ...]) -> DnsSpec:
    own = {prefix[:2] for spec in interfaces for prefix in spec.addresses}
    listen = [found for text in reader.texts("listen") if (found := reader.address("listen", text)) is not None]
    if not listen and not reader.has("listen"):
        reader.problem("listen", "is missing: addresses of ours at which questions are answered")
    for version, address in listen:
        if (version, address) not in own:
            reader.problem("listen", "must be static addresses of our interfaces")
            break
    upstream: list[tuple[int, int, int]] = []
    for text in reader.texts("upstream"):
        words = split_colons(text) if text.count(":") == 1 or text.startswith("[") else [text]
        found = reader.address("upstream", words[0])
        port = words[1] if len(words) == 2 else "53"
        if found is not None and port.isdigit() and 0 < int(port) < 65536:
            upstream.append((*found, int(port)))
        else:
            reader.problem("upstream", f"{shown(text)} must be ADDRESS or ADDRESS:PORT")
    spec = DnsSpec(
        listen=tuple(listen),
        domain=reader.text("domain"),
        upstream=tuple(upstream),
        resolv_conf=reader.text("resolv_conf", "/etc/resolv.conf"),
        cache=reader.integer("cache", 4096, 0, 1 << 20),
    )
    reader.end()
    return spec

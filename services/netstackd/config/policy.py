"""The sections `filter`, `nat`, `forward` and `conntrack` of a configuration, as the filter's `Policy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.netstackd.config.reader import Reader, shown
from services.netstackd.filter.connection import ESTABLISHED, PROTO_ICMPV6, RELATED, STATE_NAMES, Limits, Timeouts
from services.netstackd.filter.match import Match, Ports, Range
from services.netstackd.filter.nat import ACCEPT as NAT_ACCEPT
from services.netstackd.filter.nat import DNAT, MASQUERADE, SNAT, NatRule
from services.netstackd.filter.pipeline import Policy, SetSpec
from services.netstackd.filter.rules import ACCEPT, ACTIONS, CHAINS, DROP, JUMP, REJECT, REJECT_CODES, Limit, Rule
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_TCP, PROTO_UDP

PROTOCOLS: Final = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "sctp": 132,
}
_STATES: Final = {name: bit for bit, name in STATE_NAMES.items()}
_FLAGS: Final = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32}
_ICMP: Final = {
    "echo-reply": (PROTO_ICMP, 0),
    "destination-unreachable": (PROTO_ICMP, 3),
    "redirect": (PROTO_ICMP, 5),
    "echo-request": (PROTO_ICMP, 8),
    "time-exceeded": (PROTO_ICMP, 11),
    "parameter-problem": (PROTO_ICMP, 12),
    "timestamp-request": (PROTO_ICMP, 13),
}
_ICMPV6: Final = {
    "destination-unreachable": (PROTO_ICMPV6, 1),
    "packet-too-big": (PROTO_ICMPV6, 2),
    "time-exceeded": (PROTO_ICMPV6, 3),
    "parameter-problem": (PROTO_ICMPV6, 4),
    "echo-request": (PROTO_ICMPV6, 128),
    "echo-reply": (PROTO_ICMPV6, 129),
    "router-solicitation": (PROTO_ICMPV6, 133),
    "router-advertisement": (PROTO_ICMPV6, 134),
    "neighbour-solicitation": (PROTO_ICMPV6, 135),
    "neighbour-advertisement": (PROTO_ICMPV6, 136),
}
_UNITS: Final = {
    "s": 10**9,
    "second": 10**9,
    "m": 60 * 10**9,
    "minute": 60 * 10**9,
    "h": 3600 * 10**9,
    "hour": 3600 * 10**9,
}
_TIMEOUTS: Final = Timeouts.__match_args__


def read_policy(top: Reader, names: frozenset[str], services: Sequence[tuple[str, str, int, int]] = ()) -> Policy:
    """All that a configuration says about filter and translation.

    `services`: (name, interface, source port, port) of the router's own services, which its input chain lets in.
    """
    filters = top.table("filter")
    policies = {chain: filters.choice(chain, (ACCEPT, DROP, REJECT), ACCEPT) for chain in CHAINS}
    sets = _sets(filters.table("set"))
    set_names = frozenset(one.name for one in sets)
    rules: list[Rule] = []
    if filters.boolean("accept_established", any(policy != ACCEPT for policy in policies.values())):
        both = Match(states=ESTABLISHED | RELATED)
        rules = [Rule("established", chain, ACCEPT, both) for chain in CHAINS]
        # a link does not work without them, as IPv4's does not without ARP, which nobody filters (RFC 4890 4.4.1)
        discovery = frozenset({(PROTO_ICMPV6, kind) for kind in (*range(130, 138), 143)})
        rules += [
            Rule("neighbour discovery", chain, ACCEPT, Match(protocols=frozenset({PROTO_ICMPV6})), icmp_types=discovery)
            for chain in ("input", "output")
        ]
        rules += [_service_rule(*service) for service in services if service[1] in names]
    chains = _chains(filters)
    rules += [_rule(reader, names, set_names, chains, index) for index, reader in enumerate(filters.tables("rule"), 1)]
    _check_circles(filters, rules, chains)
    clamp = filters.raw("mss_clamp")
    mss = -1 if clamp is True else 0
    if isinstance(clamp, int) and not isinstance(clamp, bool):
        mss = filters.integer("mss_clamp", 0, 88, 65535)
    elif clamp is not None and not isinstance(clamp, bool):
        filters.problem("mss_clamp", f"must be true, false or an MTU, is {shown(clamp)}")
    drop_invalid = filters.boolean("drop_invalid", True)
    filters.end()
    tracking = top.table("conntrack")
    timeouts = {name: tracking.duration(name, getattr(Timeouts(), name)) for name in _TIMEOUTS}
    limits = Limits(tracking.integer("max", 65536, 16, 1 << 24), tracking.boolean("tcp_loose", True))
    track = tracking.boolean("track")
    tracking.end()
    return Policy(
        rules=tuple(rules),
        chains=chains,
        policies=policies,
        sets=tuple(sets),
        nat=tuple(_nat(top, names)),
        timeouts=Timeouts(**timeouts),
        limits=limits,
        mss=mss,
        drop_invalid=drop_invalid,
        track=track,
    )


def _service_rule(name: str, interface: str, sport: int, dport: int) -> Rule:
    match = Match(
        in_interfaces=frozenset({interface}),
        protocols=frozenset({PROTO_UDP}),
        sports=((sport, sport),),
        dports=((dport, dport),),
    )
    return Rule(f"{name} {interface}", "input", ACCEPT, match)


def _chains(reader: Reader) -> tuple[str, ...]:
    """The user's own chains."""
    found = tuple(reader.texts("chains"))
    for name in found:
        if name in CHAINS or found.count(name) > 1:
            reader.problem("chains", f"there is a chain {shown(name)} already")
    return found


def _check_circles(reader: Reader, rules: Sequence[Rule], chains: tuple[str, ...]) -> None:
    """Chains that lead back to themselves would never end."""
    jumps = {name: {rule.jump_to for rule in rules if rule.chain == name and rule.jump_to} for name in chains}
    for name in chains:
        reached, fresh = set[str](), {name}
        while fresh:
            fresh = {target for one in fresh for target in jumps.get(one, ())} - reached
            reached |= fresh
        if name in reached:
            reader.problem("chains", f"chain {shown(name)} leads back to itself")


def _sets(reader: Reader) -> list[SetSpec]:
    found: list[SetSpec] = []
    for name in reader.keys():
        table = reader.table(name)
        members: list[Range] = []
        for text in table.texts("members"):
            members += _ranges(table, "members", [text])
        timeout = table.duration("timeout", 0)
        found.append(SetSpec(name, tuple(members), timeout or None, table.integer("max", 65536, 1, 1 << 22)))
        table.end()
    return found


def _rule(reader: Reader, names: frozenset[str], sets: frozenset[str], chains: tuple[str, ...], number: int) -> Rule:
    chain = reader.choice("chain", (*CHAINS, *chains), "forward")
    jump_to = reader.choice("jump", chains, "") if reader.has("jump") else ""
    action = reader.choice("action", ACTIONS, JUMP if jump_to else ACCEPT)
    if (action == JUMP) is not reader.has("jump"):
        reader.problem("jump", 'goes with action "jump", and names one of filter.chains')
    source, source_set, not_source_set = _addresses_or_set(reader, "from", sets)
    destination, destination_set, not_destination_set = _addresses_or_set(reader, "to", sets)
    match = _match(reader, names, source, destination)
    add_to = reader.text("add_source_to").lstrip("@")
    if add_to and add_to not in sets:
        reader.problem("add_source_to", f"{shown(add_to)} is no set")
        add_to = ""
    rule = Rule(
        name=reader.text("name", f"rule{number}"),
        chain=chain,
        action=action,
        match=match,
        source_set=source_set,
        destination_set=destination_set,
        not_source_set=not_source_set,
        not_destination_set=not_destination_set,
        tcp_flags=_tcp_flags(reader),
        icmp_types=_icmp_types(reader),
        marks=frozenset(int(text) for text in reader.texts("mark") if text.isdigit()),
        limit=_limit(reader),
        reject_with=reader.choice("reject_with", tuple(REJECT_CODES), "port-unreachable"),
        log=reader.text("log"),
        add_source_to=add_to,
        jump_to=jump_to,
    )
    reader.end()
    return rule


def _addresses_or_set(reader: Reader, key: str, sets: frozenset[str]) -> tuple[tuple[list[Range], bool], str, bool]:
    """((ranges, negated), set's name, negated) of a key that holds addresses or "@set", either after a "!"."""
    texts = reader.texts(key)
    if len(texts) == 1 and texts[0].lstrip("!").startswith("@"):
        name = texts[0].lstrip("!")[1:]
        if name not in sets:
            reader.problem(key, f"{shown('@' + name)} is no set (sets are [filter.set.NAME])")
            return ([], False), "", False
        return ([], False), name, texts[0].startswith("!")
    negated = bool(texts) and all(text.startswith("!") for text in texts)
    return (_ranges(reader, key, [text.lstrip("!") for text in texts]), negated), "", False


def _ranges(reader: Reader, key: str, texts: list[str]) -> list[Range]:
    """Addresses, prefixes and ranges "first-last"."""
    found: list[Range] = []
    for text in texts:
        first, dash, last = text.partition("-")
        if dash:
            low, high = reader.address(key, first.strip()), reader.address(key, last.strip())
            if low and high:
                if low[0] != high[0] or high[1] < low[1]:
                    reader.problem(key, f"{shown(text)} is no range")
                else:
                    found.append((low[0], low[1], high[1]))
            continue
        prefix = reader.network(key, text)
        if prefix is not None:
            version, address, length = prefix
            bits = 32 if version == 4 else 128
            found.append((version, address, address | (1 << (bits - length)) - 1))
    return found


def _interfaces(reader: Reader, key: str, names: frozenset[str]) -> tuple[frozenset[str], bool]:
    texts = reader.texts(key)
    negated = bool(texts) and all(text.startswith("!") for text in texts)
    found = [text.lstrip("!") for text in texts]
    for name in found:
        if name not in names:
            reader.problem(key, f"{shown(name)} is no interface")
    return frozenset(found), negated


def _match(
    reader: Reader, names: frozenset[str], source: tuple[list[Range], bool], destination: tuple[list[Range], bool]
) -> Match:
    inside, not_inside = _interfaces(reader, "in", names)
    outside, not_outside = _interfaces(reader, "out", names)
    protocols = _protocols(reader)
    dports, sports = _ports(reader, "port"), _ports(reader, "source_port")
    if (dports or sports) and not protocols:
        protocols = frozenset({PROTO_TCP, PROTO_UDP})
    states = 0
    for name in reader.texts("state"):
        if name not in _STATES:
            reader.problem("state", f"{shown(name)} is none of {', '.join(_STATES)}")
        states |= _STATES.get(name, 0)
    return Match(
        in_interfaces=inside,
        out_interfaces=outside,
        version={"ipv4": 4, "ipv6": 6}.get(reader.choice("family", ("any", "ipv4", "ipv6"), "any"), 0),
        protocols=protocols,
        sources=tuple(source[0]),
        destinations=tuple(destination[0]),
        sports=sports,
        dports=dports,
        states=states,
        not_in_interfaces=not_inside,
        not_out_interfaces=not_outside,
        not_sources=source[1],
        not_destinations=destination[1],
    )


def _protocols(reader: Reader) -> frozenset[int]:
    found: set[int] = set()
    for name in reader.texts("protocol"):
        if name == "icmp":
            found |= {PROTO_ICMP, PROTO_ICMPV6}
        elif name in PROTOCOLS:
            found.add(PROTOCOLS[name])
        elif name.isdigit() and int(name) < 256:
            found.add(int(name))
        else:
            reader.problem("protocol", f"{shown(name)} is no protocol ({', '.join(PROTOCOLS)}, or a number)")
    return frozenset(found)


def _ports(reader: Reader, key: str) -> tuple[Ports, ...]:
    found: list[Ports] = []
    for text in reader.texts(key):
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            low, high = first.strip(), (last if dash else first).strip()
            if not (low.isdigit() and high.isdigit() and 0 < int(low) <= int(high) < 65536):
                reader.problem(key, f"{shown(part)} is no port or range of ports (such as 80 or 8000-8010)")
                continue
            found.append((int(low), int(high)))
    return tuple(found)


def _tcp_flags(reader: Reader) -> tuple[int, int] | None:
    """ "syn/syn,ack,rst,fin": the flags that are set, of those looked at."""
    text = reader.text("tcp_flags")
    if not text:
        return None
    wanted, _, looked_at = text.partition("/")
    parts = [[name.strip() for name in half.split(",") if name.strip()] for half in (wanted, looked_at or wanted)]
    for name in parts[0] + parts[1]:
        if name not in _FLAGS:
            reader.problem("tcp_flags", f"{shown(name)} is none of {', '.join(_FLAGS)}")
            return None
    bits = [sum(_FLAGS[name] for name in set(half)) for half in parts]
    return bits[1] | bits[0], bits[0]


def _icmp_types(reader: Reader) -> frozenset[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for name in reader.texts("icmp"):
        known = {pair for pair in (_ICMP.get(name), _ICMPV6.get(name)) if pair is not None}
        if name.isdigit() and int(name) < 256:
            known = {(PROTO_ICMP, int(name)), (PROTO_ICMPV6, int(name))}
        if not known:
            reader.problem("icmp", f"{shown(name)} is no ICMP type ({', '.join(sorted({*_ICMP, *_ICMPV6}))})")
        found |= known
    return frozenset(found)


def _limit(reader: Reader) -> Limit | None:
    """limit = "10/s", burst = 20, per_source = true."""
    text = reader.text("limit")
    burst, per_source = reader.integer("burst", 5, 1, 1_000_000), reader.boolean("per_source")
    if not text:
        return None
    rate, _, unit = text.partition("/")
    if not rate.strip().isdigit() or not int(rate) or unit.strip() not in _UNITS:
        reader.problem("limit", f'must be packets per time, such as "10/s" or "3/minute", is {shown(text)}')
        return None
    return Limit(int(rate), _UNITS[unit.strip()], burst, per_source)


# -- translation --


def _nat(top: Reader, names: frozenset[str]) -> list[NatRule]:
    nat = top.table("nat")
    rules: list[NatRule] = []
    for number, reader in enumerate(nat.tables("rule"), 1):
        rules += _nat_rule(reader, names, number)
    independent = nat.boolean("endpoint_independent")
    for key, version in (("masquerade", 4), ("masquerade6", 6)):
        for name in nat.texts(key):
            if name not in names:
                nat.problem(key, f"{shown(name)} is no interface")
            match = Match(out_interfaces=frozenset({name}), version=version)
            rules.append(NatRule(f"{key} {name}", MASQUERADE, match, endpoint_independent=independent))
    nat.end()
    for number, reader in enumerate(top.tables("forward"), 1):
        rules += _forward(reader, names, number)
    return rules


def _nat_rule(reader: Reader, names: frozenset[str], number: int) -> list[NatRule]:
    kind = reader.choice("type", ("masquerade", "snat", "dnat", "one-to-one", "accept"), "masquerade")
    name = reader.text("name", f"nat{number}")
    ports = _ports(reader, "to_ports")
    new = _ranges(reader, "new", reader.texts("new"))
    sources = _ranges(reader, "from", reader.texts("from"))
    destinations = _ranges(reader, "to", reader.texts("to"))
    match = _match(reader, names, (sources, False), (destinations, False))
    independent, scatter = reader.boolean("endpoint_independent"), reader.boolean("random_ports")
    version = new[0][0] if new else match.version or (sources or destinations or [(4, 0, 0)])[0][0]
    match = _with_version(match, version)
    to = (new[0][1], new[0][2]) if new else (0, 0)
    rules: list[NatRule] = []
    if kind == "one-to-one":
        if len(new) != 1 or len(sources) != 1 or new[0][2] - new[0][1] != sources[0][2] - sources[0][1]:
            reader.problem("new", 'a one-to-one rule has one range in "from" and one as long in "new"')
        else:
            inner = (sources[0][1], sources[0][2])
            rules.append(NatRule(name, SNAT, match, to=to, one_to_one=inner))
            inward = Match(in_interfaces=match.out_interfaces, version=version, destinations=((version, *to),))
            rules.append(NatRule(name, DNAT, inward, to=inner, one_to_one=to))
    elif kind in ("snat", "dnat") and len(new) != 1:
        reader.problem("new", "is missing: the new address, or a range of them")
    else:
        span = ports[0] if ports else (0, 0)
        which = {"masquerade": MASQUERADE, "snat": SNAT, "dnat": DNAT, "accept": NAT_ACCEPT}[kind]
        rules.append(NatRule(name, which, match, to, span, endpoint_independent=independent, random_ports=scatter))
    reader.end()
    return rules


def _with_version(match: Match, version: int) -> Match:
    from protocol.records import replace

    return replace(match, version=version)


def _forward(reader: Reader, names: frozenset[str], number: int) -> list[NatRule]:
    """A port forward: port (or range) of an interface's own address to an inner host."""
    name = reader.text("name", f"forward{number}")
    inside, _ = _interfaces(reader, "in", names)
    protocols = _protocols(reader) or frozenset({PROTO_TCP})
    ports = _ports(reader, "port")
    sources = _ranges(reader, "from", reader.texts("from"))
    destinations = _ranges(reader, "address", reader.texts("address"))
    hairpin = reader.boolean("hairpin")
    host, port = _host_port(reader, reader.required("to"))
    if not inside and not destinations:
        reader.problem("in", "is missing (or an address)")
    if not ports:
        reader.problem("port", "is missing")
    reader.end()
    if host is None:
        return []
    version, address = host
    rules: list[NatRule] = []
    for first, last in ports:
        match = Match(
            in_interfaces=frozenset() if hairpin or not destinations else inside,
            version=version,
            protocols=protocols,
            sources=tuple(sources),
            destinations=tuple(destinations),
            dports=((first, last),),
        )
        rules.append(
            NatRule(
                name,
                DNAT,
                match,
                to=(address, address),
                ports=(port or first, (port or first) + last - first),
                shift_from=first,
                hairpin=hairpin,
                own_addresses_of=frozenset() if destinations else inside,
            )
        )
    return rules


def _host_port(reader: Reader, text: str) -> tuple[tuple[int, int] | None, int]:
    """ "192.168.1.10:80", "[fd00::1]:80", or an address alone (port 0: as it was)."""
    if not text:
        return None, 0
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.lstrip(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        reader.problem("to", f"{shown(port)} is no port")
        return None, 0
    return reader.address("to", host), int(port or 0)

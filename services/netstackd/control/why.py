"""`why PACKET`: what the router would do with a packet, step by step, without sending or counting anything.

The packet is described in words: `tcp 192.168.1.5:1234 > 198.51.100.7:80 in lan`; without `in` it is the router's
own; at the end one of syn, synack, ack, fin, rst may stand (syn when none does). `icmp` is an echo request.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from services.netstackd.config.policy import PROTOCOLS
from services.netstackd.config.text import address_text, endpoint_text, parse_address
from services.netstackd.control.server import MethodError
from services.netstackd.filter.connection import PROTO_ICMPV6, STATE_NAMES, Connection, Direction
from services.netstackd.network import routes as r
from services.netstackd.storage.packet import Packet
from services.netstackd.wire.numbers import PROTO_ICMP, PROTO_TCP

if TYPE_CHECKING:
    from services.netstackd.app import Router

_WORDS: Final = re.compile(
    r"\s*(?P<protocol>\w+)\s+(?P<source>\S+)\s*>\s*(?P<destination>\S+)(?:\s+in\s+(?P<interface>\S+))?(?:\s+(?P<flag>\w+))?\s*\Z"
)
_FLAGS: Final = {"syn": 2, "ack": 16, "fin": 17, "rst": 4, "synack": 18}


def _endpoint(text: str) -> tuple[int, int, int]:
    """(version, address, port)."""
    port = "0"
    if text.startswith("["):
        text, _, rest = text[1:].partition("]")
        port = rest.lstrip(":") or "0"
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
    try:
        return (*parse_address(text), int(port))
    except ValueError:
        raise MethodError(f"why: {text} is no address (with :PORT)") from None


def _packet(router: Router, description: str) -> Packet:
    found = _WORDS.match(description)
    if found is None:
        raise MethodError('why: describe the packet like "tcp 192.168.1.5:1234 > 198.51.100.7:80 in lan"')
    name = found["protocol"]
    proto = PROTOCOLS.get(name, int(name) if name.isdigit() else -1)
    version, src, sport = _endpoint(found["source"])
    other, dst, dport = _endpoint(found["destination"])
    if proto < 0 or version != other:
        raise MethodError(f"why: {name} is no protocol" if proto < 0 else "why: two IP versions in one packet")
    if name == "icmp" and version == 6:
        proto = PROTO_ICMPV6
    interface = found["interface"]
    if interface is not None and interface not in router.interfaces:
        raise MethodError(f"why: no interface {interface} (there are: {', '.join(router.interfaces)})")
    size = 20 if version == 4 else 40
    head = bytearray(size + 20)
    flag = found["flag"]
    if proto == PROTO_TCP:
        head[size + 12], head[size + 13] = 0x50, _FLAGS.get(flag or "syn", 2)
    elif proto in (PROTO_ICMP, PROTO_ICMPV6):
        head[size] = 8 if proto == PROTO_ICMP else 128
    packet = Packet(head, len(head), router.interfaces[interface] if interface else None)
    packet.version, packet.proto = version, proto
    packet.src, packet.dst, packet.sport, packet.dport = src, dst, sport, dport
    packet.l4, packet.payload, packet.ttl, packet.tos = size, size + 20, 64, 0
    return packet


def why(router: Router, description: str) -> dict[str, Any]:
    """{"steps": [...], "verdict": ...}."""
    packet = _packet(router, description)
    steps: list[str] = []
    firewall = router.firewall
    version = packet.version
    direction = _known(router, packet, steps)
    packet.ct = direction
    if direction is not None:
        _translate_destination(router, packet, direction, steps)
    verdict = _route(router, packet, steps)
    if verdict is not None:
        return {"steps": steps, "verdict": verdict}
    more, verdict = firewall.explain(packet)
    steps += more
    if verdict.startswith("accept") and packet.out is not None and direction is not None:
        if not direction.connection.confirmed:
            _would_translate_source(router, packet, direction, steps)
        elif direction.post is not None:
            post = direction.post
            steps.append(
                f"source becomes {endpoint_text(version, post.address, post.port)} (its connection is translated)"
            )
    return {"steps": steps, "verdict": verdict}


def _known(router: Router, packet: Packet, steps: list[str]) -> Direction | None:
    """The packet's connection, or one that it would begin; None when nothing is tracked."""
    firewall = router.firewall
    if not firewall.policy.tracks:
        steps.append("connections are not tracked: no rule needs it")
        return None
    dport = packet.dport
    if packet.proto in (PROTO_ICMP, PROTO_ICMPV6):
        dport = packet.head[packet.l4] << 8
    key = (packet.src, packet.dst, packet.sport, dport, packet.proto)
    direction = firewall.tracker.lookup(packet.version, key)
    if direction is not None:
        steps.append(f"connection: {STATE_NAMES[direction.state]}, {direction.connection.status}")
        return direction
    steps.append("connection: new")
    return Connection(packet.version, key, 0, 0).original


def _translate_destination(router: Router, packet: Packet, direction: Direction, steps: list[str]) -> None:
    if not direction.connection.confirmed:
        router.firewall.nat.preview_destination(packet, direction.connection)
    pre = direction.pre
    if pre is not None:
        packet.dst, packet.dport = pre.address, pre.port
        steps.append(f"destination becomes {endpoint_text(packet.version, pre.address, pre.port)}")


def _route(router: Router, packet: Packet, steps: list[str]) -> str | None:
    """Set where the packet leaves; the verdict when it goes nowhere."""
    stack, version = router.stack, packet.version
    routing = stack.routing(version)
    if packet.iface is None:
        way = routing.output(packet.dst, packet.src)
    else:
        way = routing.input(packet, packet.iface)
    if way.kind == r.MULTIPATH:
        way = way.choose(routing.flow_hash(packet))
    if way.kind in (r.LOCAL, r.BROADCAST, r.MULTICAST):
        steps.append("it is for the router itself")
        return None
    if way.kind != r.UNICAST or way.out is None:
        from services.netstackd.counters import NAMES

        reason = NAMES[way.reason] if way.reason else "no route"
        if packet.iface is not None and not (packet.iface.forwarding4 if version == 4 else packet.iface.forwarding6):
            reason = "forwarding is off"
        steps.append(f"no way to {address_text(version, packet.dst)}: {reason}")
        return f"drop: {reason}"
    hop = address_text(version, way.next_hop)
    steps.append(f"leaves by {way.out.name} to {hop}")
    packet.out, packet.next_hop = way.out, way.next_hop
    return None


def _would_translate_source(router: Router, packet: Packet, direction: Direction, steps: list[str]) -> None:
    nat = router.firewall.nat
    address = nat.preview_source(packet, direction.connection)
    if address is not None:
        steps.append(f"source becomes {address_text(packet.version, address)}")

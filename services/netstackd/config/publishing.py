"""Published ports as people and programs write them, and as `PublishSpec`.

[HOST:]PORT[-LAST]              where on the host: an address (IPv6 in brackets; all of IPv4 when there is none)
TARGET:PORT                     where inside: an address or a namespace's name, and its port (of a range, the first)
[HOST:]PORT[-LAST]:TARGET:PORT[/tcp|udp]    both, as the flag --publish has it
"""

from __future__ import annotations

from services.netstackd.config.text import parse_address
from services.netstackd.slirp.publish import MAX_RANGE, PublishSpec

SYNTAX = "[HOST:]PORT[-LAST]:TARGET:PORT[/tcp|udp]"


def publish_spec(
    protocol: str, host: str, ports: str, namespace: str, address: str, guest_port: int | str
) -> PublishSpec:
    """From what a program gives; ValueError with one line that says what is wrong."""
    if protocol not in ("tcp", "udp"):
        raise ValueError(f"protocol {protocol}: must be tcp or udp")
    version, at = _address(host or "0.0.0.0", "host")
    first_text, dash, last_text = ports.partition("-")
    first = _port(first_text, 0)
    last = _port(last_text, 0) if dash else first
    if last < first or (last and not first) or last - first >= MAX_RANGE:
        raise ValueError(f"ports {ports}: must be at most {MAX_RANGE}, the lowest first")
    if bool(namespace) == bool(address):
        raise ValueError("either a namespace or an address must say where it goes")
    target = _address(address, "address") if address else (4, 0)
    inner = _port(guest_port, 0) if str(guest_port) else first
    if not 1 <= inner <= 65535 - (last - first):
        raise ValueError(f"inner port {guest_port or first}: must be 1 to 65535")
    return PublishSpec(protocol, version, at, first, last, namespace, target, inner)


def parse_publish(text: str) -> PublishSpec:
    """From SYNTAX. ValueError."""
    where, slash, protocol = text.partition("/")
    words = split_colons(where)
    if len(words) not in (3, 4):
        raise ValueError(f"{text}: must be {SYNTAX}")
    host = words.pop(0) if len(words) == 4 else ""
    ports, target, guest_port = words
    return to_target(protocol if slash else "tcp", host, ports, target, guest_port)


def to_target(protocol: str, host: str, ports: str, target: str, guest_port: str) -> PublishSpec:
    """`target` is an address when it reads as one, else a namespace's name. ValueError."""
    try:
        parse_address(target)
    except ValueError:
        return publish_spec(protocol, host, ports, target, "", guest_port)
    return publish_spec(protocol, host, ports, "", target, guest_port)


def split_colons(text: str) -> list[str]:
    """The parts between colons, but for those in brackets, which are taken off."""
    words, word, inside = [], "", False
    for letter in text:
        if letter == "[" and not inside:
            inside = True
        elif letter == "]" and inside:
            inside = False
        elif letter == ":" and not inside:
            words.append(word)
            word = ""
        else:
            word += letter
    return [*words, word]


def _address(text: str, what: str) -> tuple[int, int]:
    try:
        return parse_address(text)
    except ValueError:
        raise ValueError(f"{what} {text}: is no address") from None


def _port(text: str | int, lowest: int) -> int:
    value = int(text) if str(text).isascii() and str(text).isdigit() and len(str(text)) < 6 else -1
    if not lowest <= value <= 65535:
        raise ValueError(f"port {text}: must be {lowest} to 65535")
    return value

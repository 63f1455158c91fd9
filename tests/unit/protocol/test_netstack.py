"""protocol/netstack: shapes that pass, shapes that do not, and no other error than ProtocolViolation."""

from __future__ import annotations

import random
from typing import Any

import pytest

from protocol.errors import ProtocolViolation
from protocol.netstack import datagrams as d
from protocol.netstack import messages as m

ADDRESS = [b"\x0a\0\0\1", 80, 0]
GOOD: list[tuple[str, list[Any]]] = [
    ("hello", [1, None]),
    ("hello", [1, "web"]),
    ("network", []),
    ("open", [1, 2, 1, 0]),
    ("bind", [m.MAX_CLIENT_ID, ADDRESS]),
    ("connect", [1, None]),
    ("connect", [1, [b"\0" * 16, 65535, 3]]),
    ("listen", [1, -1]),
    ("taken", [m.MIN_SERVER_ID, 1]),
    ("set", [1, 1, 2, b"\0" * 8]),
    ("set", [1, 1, 36, 0xFFFFFFFF]),
    ("urgent", [1, 255, 1 << 40]),
    ("configure", ["link_set", {"interface": 2, "up": 1}]),
    ("configure", ["route_add", {"destination": bytes(4), "length": 0, "gateway": bytes(4), "interface": 2}]),
]
BAD: list[tuple[str, list[Any]]] = [
    ("helo", [1, None]),
    ("hello", [1]),
    ("hello", [1, ""]),
    ("open", [0, 2, 1, 0]),
    ("open", [m.MIN_SERVER_ID, 2, 1, 0]),
    ("open", [True, 2, 1, 0]),
    ("bind", [1, [b"\0" * 17, 80, 0]]),
    ("bind", [1, [b"", 65536, 0]]),
    ("bind", [1, ["10.0.0.1", 80, 0]]),
    ("bind", [1, [b"", 80]]),
    ("shutdown", [1, 3]),
    ("set", [1, 1, 2, 1 << 32]),
    ("set", [1, 1, 2, b"\0" * (m.MAX_OPTION_BYTES + 1)]),
    ("urgent", [1, 256, 0]),
    ("configure", ["reboot", {}]),
    ("configure", ["link_set", {"up": 1}]),
    ("configure", ["link_set", {"interface": 2, "colour": 1}]),
    ("configure", ["link_set", {"interface": 2, 7: 1}]),
]


@pytest.mark.parametrize(("method", "params"), GOOD)
def test_good_call_passes(method: str, params: list[Any]) -> None:
    m.check_call_untrusted(method, params)


@pytest.mark.parametrize(("method", "params"), BAD)
def test_bad_call_is_refused(method: str, params: list[Any]) -> None:
    with pytest.raises(ProtocolViolation):
        m.check_call_untrusted(method, params)


def test_random_values_raise_nothing_but_protocol_violation() -> None:
    rng = random.Random(4)
    values: list[Any] = [None, True, -1, 0, 1, 1 << 40, "x", b"", bytes(16), [], {}, [b"", 1, 2], {"a": 1}, {1: 2}, 1.5]
    for _ in range(5000):
        method = rng.choice([*m.CALLS, *m.EVENTS, "nonsense"])
        params = [rng.choice(values) for _ in range(rng.randrange(6))]
        for check in (m.check_call_untrusted, m.check_event_untrusted):
            try:
                check(method, params)
            except ProtocolViolation:
                pass


def test_snapshot_is_checked_in_depth() -> None:
    iface = {"index": 2, "name": "eth0", "kind": 1, "flags": 0x1043, "mtu": 1500, "mac": bytes(6)}
    route = {
        "destination": bytes(4), "length": 0, "gateway": b"\x0a\0\0\1", "interface": 2, "metric": 0, "table": 254,
        "source": None, "type": 1, "scope": 0, "protocol": 3,
    }  # fmt: skip
    whole = {
        "interfaces": [{**iface, "addresses": [[b"\x0a\0\0\2", 24, 0, 0x80, None]]}],
        "routes": [route],
        "names": ["box"],
        "servers": [b"\x0a\0\0\1"],
    }
    m.check_snapshot_untrusted(whole)
    for broken in (
        {**whole, "routes": [{**route, "gateway": "10.0.0.1"}]},
        {**whole, "interfaces": [{**iface, "addresses": [[b"\x0a", 24, 0, 0, None]]}]},
        {**whole, "interfaces": [iface]},
        {**whole, "servers": ["10.0.0.1"]},
        {},
        [],
    ):
        with pytest.raises(ProtocolViolation):
            m.check_snapshot_untrusted(broken)


def test_header_is_48_bytes_and_comes_back() -> None:
    assert d.HEADER_BYTES == 48
    sent = d.Datagram(b"hi", b"\x0a\0\0\1", 53, 2, flags=d.MULTICAST, tos=4, ttl=9, interface=7, pktinfo=b"\x0a\0\0\2")
    got = d.parse_untrusted(sent.header() + b"hi")
    assert bytes(got.payload) == b"hi"
    for name in d.Datagram.__slots__:
        if name != "payload":
            assert getattr(got, name) == getattr(sent, name), name


@pytest.mark.parametrize("address", [b"", bytes(range(16)), bytes(range(14))])
def test_address_keeps_its_length(address: bytes) -> None:
    got = d.parse_untrusted(d.Datagram(b"", address).header())
    assert got.address == address
    assert got.version == {0: 0, 16: 6, 14: d.PACKET}[len(address)]


def test_header_that_is_short_or_of_another_version_is_refused() -> None:
    whole = d.Datagram(b"", bytes(4)).header()
    for length in range(48):
        with pytest.raises(ProtocolViolation):
            d.parse_untrusted(whole[:length])
    for version in set(range(256)) - {0, 4, 6, d.PACKET}:
        with pytest.raises(ProtocolViolation):
            d.parse_untrusted(bytes((version,)) + whole[1:])

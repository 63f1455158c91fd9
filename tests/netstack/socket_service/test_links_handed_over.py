"""A namespace whose interfaces are links that the caller hands over (`namespace_add` with `interfaces`).

The link is a socket pair that carries frames with the virtio header, as a tap does; the test is the wire.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.netstack import messages as m
from protocol.rpc.codec import Fd
from services.netstackd.control.namespace_methods import NamespaceMethods
from services.netstackd.control.server import MethodError
from services.netstackd.errors import NetError
from services.netstackd.links.base import VNET_BYTES
from tests.netstack.socket_service.client import Client, World, address

MAC, PEER_MAC = bytes.fromhex("020000000005"), bytes.fromhex("020000000001")


class Wire:
    """The other end of a link. `given`: the descriptor that is handed over."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sock, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.given = other.detach()

    def frame(self, ethertype: int) -> bytes:
        """The next frame of that kind; others are passed over."""

        def read() -> bytes:
            try:
                data = self.sock.recv(70_000)[VNET_BYTES:]
            except BlockingIOError:
                return b""
            return data if data[12:14] == struct.pack("!H", ethertype) else b""

        found: bytes = self.world.until(read)
        return found

    def send(self, frame: bytes) -> None:
        self.sock.send(bytes(VNET_BYTES) + frame)


@pytest.fixture
def wire(world: World) -> Iterator[Wire]:
    made = Wire(world)
    yield made
    made.sock.close()


def about(wire: Wire, **more: Any) -> dict[str, Any]:
    row = {"name": "net7", "kind": "tap", "mac": MAC, "mtu": 1400, "offload": 0, "fd": Fd(wire.given)}
    return row | {"addresses": ["192.0.2.5/24", "2001:db8::5/64"]} | more


def add(world: World, name: str, **options: Any) -> dict[str, Any]:
    return NamespaceMethods(world.router).add(None, name, options)  # type: ignore[arg-type]  # no use is made of it


def client_of(world: World, answer: dict[str, Any], name: str) -> Client:
    client = Client(world, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=answer["fd"].number))
    world.clients.append(client)
    assert client.call("hello", m.VERSION, None)["namespace"] == name
    return client


def test_the_namespace_has_what_was_handed_over(world: World, wire: Wire) -> None:
    answer = add(
        world,
        "taken",
        interfaces=[about(wire)],
        routes=[
            {"to": "default", "via": "192.0.2.1", "interface": "net7", "metric": 9},
            {"to": "default6", "via": "2001:db8::1", "interface": "net7"},
            {"to": "198.51.100.0/24", "interface": "net7", "source": "192.0.2.5", "scope": 253},
        ],
        servers=["192.0.2.53"],
        domain="lab",
    )
    assert answer["names"] == ["192.0.2.5/24", "2001:db8::5/64"]
    assert answer["gateway"] == [bytes((192, 0, 2, 1)), socket.inet_pton(socket.AF_INET6, "2001:db8::1")]
    client = client_of(world, answer, "taken")
    snapshot = client.call("network")
    m.check_snapshot_untrusted(snapshot)
    (net7,) = snapshot["interfaces"]
    assert (net7["name"], net7["mac"], net7["mtu"], net7["kind"]) == ("net7", MAC, 1400, 1)
    assert {socket.inet_ntop(socket.AF_INET, each[0]) for each in net7["addresses"] if len(each[0]) == 4} == {
        "192.0.2.5"
    }
    routes = {(route["destination"], route["length"]): route for route in snapshot["routes"]}
    assert routes[bytes(4), 0]["gateway"] == bytes((192, 0, 2, 1)) and routes[bytes(4), 0]["metric"] == 9
    on_link = routes[bytes((198, 51, 100, 0)), 24]
    assert (on_link["gateway"], on_link["source"], on_link["scope"]) == (None, bytes((192, 0, 2, 5)), 253)
    assert (snapshot["names"], snapshot["servers"]) == (["lab"], [bytes((192, 0, 2, 53))])


def test_packets_go_over_the_link_to_a_permanent_neighbour_and_back(world: World, wire: Wire) -> None:
    """No question for the link-layer address, which is known: the first IPv4 frame is the SYN, to it."""
    answer = add(
        world,
        "taken",
        interfaces=[about(wire)],
        routes=[{"to": "default", "via": "192.0.2.1", "interface": "net7"}],
        neighbours=[{"interface": "net7", "address": "192.0.2.1", "mac": PEER_MAC}],
    )
    client = client_of(world, answer, "taken")
    client.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    client.call("connect", 1, address("203.0.113.9", 80))
    frame = wire.frame(0x0800)
    assert (frame[:6], frame[6:12], frame[30:34]) == (PEER_MAC, MAC, bytes((203, 0, 113, 9)))
    assert frame[47] == 0x02  # SYN
    # A question for its own address is answered.
    question = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + PEER_MAC + bytes((192, 0, 2, 1)) + bytes(6)
    wire.send(b"\xff" * 6 + PEER_MAC + b"\x08\x06" + question + bytes((192, 0, 2, 5)))
    reply = wire.frame(0x0806)
    assert (reply[:6], reply[20:22], reply[22:28], reply[28:32]) == (PEER_MAC, b"\0\2", MAC, bytes((192, 0, 2, 5)))
    ((_, *counted),) = client.call("counters")
    assert dict(zip(m.COUNTERS, counted, strict=True))["rx_packets"] == 1


def test_what_cannot_be_added_is_refused_and_the_descriptor_stays_the_callers(world: World, wire: Wire) -> None:
    add(world, "one", connect=False, keep=True)
    good = about(wire)
    world.turn(3)
    driven = set(world.router.loop._queued)
    for name, options, code in (
        ("one", {"interfaces": [good]}, errno.EEXIST),
        ("two", {"interfaces": [good], "routes": [{"to": "192.0.2.1/32", "interface": "no"}]}, errno.ENODEV),
        ("two", {"interfaces": [about(wire, addresses=["192.0.2.5/24"] * 2)]}, errno.EEXIST),
        ("two", {"interfaces": [about(wire, kind="pcap")]}, None),
        ("two", {"interfaces": [{**good, "fd": 3}]}, None),
        ("two", {"interfaces": [good, about(wire, fd=Fd(1_000_000))]}, errno.EBADF),
    ):  # fmt: skip
        with pytest.raises((NetError, MethodError, OSError)) as refused:
            add(world, name, **options)
        assert code is None or refused.value.errno == code, (name, options)  # type: ignore[union-attr]
        os.fstat(wire.given)
        assert set(world.router.namespaces.all) == {"root", "one"}
    world.turn(3)
    assert set(world.router.loop._queued) == driven  # no stack of a namespace that is none
    assert wire.given not in world.router.namespaces.descriptors()
    client_of(world, add(world, "two", interfaces=[good]), "two")
    assert wire.given in world.router.namespaces.descriptors()


def test_the_link_is_let_go_of_with_the_namespace(world: World, wire: Wire) -> None:
    client_of(world, add(world, "taken", interfaces=[about(wire)]), "taken")
    world.router.namespaces.remove("taken")
    world.turn()
    wire.sock.setblocking(True)
    while wire.sock.recv(70_000):
        pass  # what was sent until then, and then the end
    assert not world.errors

"""Namespaces: addresses, what a client is told of its network and may change, ends; and clients that misbehave."""

from __future__ import annotations

import errno
import os
import random
import socket
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from protocol.netstack import messages as m
from services.netstackd.config.load import load
from services.netstackd.errors import NetError
from tests.netstack.socket_service.client import CONFIG, Client, Refused, World, address


def values(snapshot: dict[str, Any]) -> list[tuple[str, int]]:
    """Addresses of eth0 in a snapshot, as texts."""
    (eth0,) = snapshot["interfaces"]
    found = []
    for raw, length, *_ in eth0["addresses"]:
        family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
        found.append((socket.inet_ntop(family, raw), length))
    return found


def test_namespaces_get_the_next_free_addresses(world: World) -> None:
    one, two = world.namespace("one"), world.namespace("two")
    assert [address for _, address, _ in one.addresses] == [0x0A00020F, 0xFD000002 << 96 | 1]
    assert [address for _, address, _ in two.addresses] == [0x0A000210, 0xFD000002 << 96 | 3]
    world.router.namespaces.remove("one")
    assert world.namespace("three").addresses == one.addresses


def test_wrong_names_and_addresses_are_refused(world: World) -> None:
    world.namespace("one")
    for name, options, code in (
        ("one", {}, errno.EEXIST),
        ("", {}, errno.EINVAL),
        ("two", {"addresses": [(4, 0x0A00020F, 24)]}, errno.EADDRINUSE),
        ("two", {"addresses": [(4, 0x0A000202, 24)]}, errno.EADDRINUSE),
        ("two", {"addresses": [(4, 0xC0000201, 24)]}, errno.EADDRNOTAVAIL),
    ):
        with pytest.raises(NetError) as refused:
            world.namespace(name, **options)
        assert refused.value.errno == code
    for number in range(0x10, 0x80):
        world.namespace(str(number))
    with pytest.raises(NetError) as refused:
        world.namespace("one too many")
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_snapshot_is_of_the_shape_that_clients_check(world: World) -> None:
    client = world.client(world.namespace("one", mac=b"\x02\0\0\0\0\x07"))
    snapshot = client.call("network")
    m.check_snapshot_untrusted(snapshot)
    (eth0,) = snapshot["interfaces"]
    assert (eth0["index"], eth0["name"], eth0["kind"], eth0["mac"]) == (2, "eth0", 1, b"\x02\0\0\0\0\x07")
    assert eth0["flags"] & 0x11043 == 0x11043  # UP BROADCAST RUNNING MULTICAST LOWER_UP
    assert ("10.0.2.15", 24) in values(snapshot)
    defaults = [route for route in snapshot["routes"] if not route["length"]]
    assert [route["gateway"] for route in defaults if len(route["destination"]) == 4] == [bytes((10, 0, 2, 2))]
    assert {route["table"] for route in snapshot["routes"]} == {254}
    assert snapshot["names"] == ["box"]
    assert snapshot["servers"][0] == bytes((10, 0, 2, 2))


def test_changes_are_told_and_take_effect(world: World) -> None:
    client = world.client(world.namespace("one"))
    client.call("network")
    new = {"interface": 2, "address": bytes((10, 9, 8, 7)), "length": 24}
    client.call("configure", "address_add", new)
    (told,) = client.event("network")
    assert ("10.9.8.7", 24) in values(told)
    client.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    assert client.call("bind", 1, [new["address"], 80, 0])[1] == 80
    for verb, what, code in (
        ("address_add", new, errno.EEXIST),
        ("address_delete", {**new, "length": 25}, errno.EADDRNOTAVAIL),
        ("address_add", {**new, "interface": 9}, errno.ENODEV),
        ("route_delete", {"destination": bytes(4), "length": 3}, errno.ESRCH),
        ("route_add", {"destination": bytes(4), "length": 0, "gateway": bytes((192, 0, 2, 1))}, errno.ENETUNREACH),
        ("link_set", {"interface": 2, "mtu": 10}, errno.EINVAL),
    ):
        with pytest.raises(Refused) as refused:
            client.call("configure", verb, what)
        assert refused.value.errno == code, (verb, what)
    client.call("configure", "address_delete", new)
    (told,) = client.event("network")
    assert ("10.9.8.7", 24) not in values(told)
    client.call("configure", "neighbour_set", {"interface": 2, "address": bytes((10, 0, 2, 77)), "mac": b"\x02" * 6})
    assert [2, bytes((10, 0, 2, 77)), b"\x02" * 6, 0x80] in client.call("neighbours")
    client.call("configure", "link_set", {"interface": 2, "up": 0})
    (told,) = client.event("network")
    assert not told["interfaces"][0]["flags"] & 1


def test_what_passed_an_interface_is_counted(world: World) -> None:
    client = world.client(world.namespace("one"))
    client.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    client.call("connect", 1, address("10.0.2.2", 1))
    assert client.event("error") == [1, errno.ECONNREFUSED]
    ((index, *values),) = client.call("counters")
    counted = dict(zip(m.COUNTERS, values, strict=True))
    assert index == 2 and counted["rx_packets"] >= 2 and counted["tx_packets"] >= 2  # a question for the MAC, a SYN
    assert counted["tx_bytes"] >= 14 + 60 and counted["rx_bytes"] >= 14 + 40
    assert not counted["rx_errors"] and not counted["tx_dropped"]


def test_the_routers_own_namespace_may_be_used_and_not_changed(world: World) -> None:
    world.namespace("one", keep=True)
    client = world.client(world.router.namespaces.root)
    with pytest.raises(Refused) as refused:
        client.call("configure", "link_set", {"interface": 2, "up": 0})
    assert refused.value.errno == errno.EPERM
    client.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    client.call("connect", 1, address("10.0.2.15", 1))
    assert client.event("error") == [1, errno.ECONNREFUSED]


def test_removed_namespace_ends_its_clients_and_leaves_nothing(world: World) -> None:
    before = set(os.listdir("/proc/self/fd"))
    client = world.client(world.namespace("one"))
    client.call("open", 1, socket.AF_INET, socket.SOCK_DGRAM, 0)
    client.call("open", 2, socket.AF_INET, socket.SOCK_STREAM, 0)
    client.call("bind", 2, address("", 80))
    client.call("listen", 2, 1)
    world.router.namespaces.remove("one")
    world.turn()
    client.read()
    assert client.ended
    client.close()
    router = world.router
    assert not router.sockets.sessions
    assert not router.interfaces["virtual"].link.ports
    assert len(router.loop._queued) == 0
    assert not [fd for fd in set(os.listdir("/proc/self/fd")) - before if os.path.exists(f"/proc/self/fd/{fd}")][1:]


def test_namespace_ends_with_its_last_client_unless_kept(world: World) -> None:
    first, kept = world.namespace("one"), world.namespace("two", keep=True)
    clients = [world.client(first), world.client(first), world.client(kept)]
    clients[0].close()
    clients[2].close()
    world.turn(3)
    assert {"one", "two"} < set(world.router.namespaces.all)
    clients[1].close()
    world.until(lambda: "one" not in world.router.namespaces.all)
    assert "two" in world.router.namespaces.all


def test_idle_namespaces_cost_a_turn_nothing(world: World) -> None:
    for number in range(50):
        world.namespace(f"n{number}")
    world.forward(30)
    loop = world.router.loop
    stacks = {name: namespace.stack for name, namespace in world.router.namespaces.all.items()}

    def served() -> set[str]:
        """Whose stacks a turn has told what time it is: it does that before anything else."""
        before = {name: stack.now for name, stack in stacks.items()}
        world.offset += 1000
        loop.turn(0)
        return {name for name, stack in stacks.items() if stack.now != before[name]}

    assert served() <= {"root"}
    loop.touch(stacks["n7"])
    assert served() - {"root"} == {"n7"}


def test_reload_that_rebuilds_the_bridge_keeps_namespaces_on_it(world: World) -> None:
    one, two = world.client(world.namespace("one")), world.client(world.namespace("two"))
    config = load("test", CONFIG.replace('kind = "bridge"', 'kind = "bridge"\nmtu = 1400'))
    assert "interface virtual added" in world.router.reload(config, {})
    one.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    one.call("connect", 1, address("10.0.2.16", 80))
    assert one.event("error") == [1, errno.ECONNREFUSED]
    two.call("open", 1, socket.AF_INET, socket.SOCK_STREAM, 0)
    two.call("connect", 1, address("10.0.2.2", 80))
    assert two.event("error") == [1, errno.ECONNREFUSED]


def test_network_section_is_checked() -> None:
    for text, words in (
        ('interface = "nothing"', "no interface of kind bridge"),
        ('interface = "virtual"\npool = "10.0.2.9"', "FIRST-LAST"),
        ('interface = "virtual"\npool = "10.0.3.9-10.0.3.20"', "not within"),
        ('interface = "virtual"\ncolour = 1', "colour"),
    ):
        with pytest.raises(Exception, match=words):
            load("test", CONFIG.split("[network]")[0] + "[network]\n" + text)


# -- clients that misbehave --


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        msgpack.packb([0, 1, "open", [1, 2, 1, 0]]),  # no hello
        msgpack.packb([0, 1, "hello", [2, None]]),
        msgpack.packb([0, 1, "hello", ["x", None]]),
        msgpack.packb([1, 1, None, None]),
        msgpack.packb([2, "reboot", []]),
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_nonsense_ends_that_client_alone(world: World, data: bytes) -> None:
    namespace = world.namespace("one")
    good, bad = world.client(namespace), world.client(namespace, hello=False)
    bad.sock.send(data)
    world.turn(3)
    bad.read()
    assert bad.ended
    assert world.router.sockets.counts["ClientsDropped"] == 1
    assert good.call("sockets") == []


def test_client_that_does_not_read_its_messages_is_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.netstackd.socket_service.limits.MAX_OUT_BYTES", 65536)
    client = world.client(world.namespace("one"))
    data = client.connection.notify("bind", [5, address("", 1)])[0]  # EBADF, told each time
    for _ in range(1000):
        try:
            client.sock.send(data * 400)
        except BlockingIOError:
            pass
        except OSError:
            break
        world.turn()
    assert not world.router.sockets.sessions


def test_sockets_of_a_client_are_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.netstackd.socket_service.limits.MAX_SOCKETS", 3)
    client = world.client(world.namespace("one"))
    for number in range(1, 4):
        client.call("open", number, socket.AF_INET, socket.SOCK_STREAM, 0)
    with pytest.raises(Refused) as refused:
        client.call("open", 4, socket.AF_INET, socket.SOCK_STREAM, 0)
    assert refused.value.errno == errno.EMFILE


def test_random_messages_never_reach_the_router_as_errors(world: World) -> None:
    """A fuzz of the methods: every conversation ends by a rule of the protocol or goes on; no bug is logged."""
    rng = random.Random(11)
    pool: list[Any] = [0, 1, 2, 3, 17, 41, 65535, m.MIN_SERVER_ID, -1, b"", bytes(4), bytes(16), b"\x7f\0\0\1", None]
    namespace = world.namespace("one", keep=True)
    client: Client | None = None
    for _ in range(3000):
        if client is None or client.ended:
            client = world.client(namespace)
        method = rng.choice(list(m.CALLS))
        if rng.random() < 0.9:
            params: list[Any] = []
            for check in m.CALLS[method]:
                fitting = [
                    value
                    for value in (*pool, address("10.0.2.15", 5), address("", 0), address("::1", 9), {"interface": 2})
                    if check(value)
                ] or ["address_add"]
                params.append(rng.choice(fitting))
        else:
            params = [rng.choice(pool) for _ in range(rng.randrange(5))]
        try:
            if rng.random() < 0.5:
                client.notify(method, *params)
            else:
                client.sock.send(client.connection.call(method, params)[1][0])
            world.turn()
            client.read()
        except OSError:
            client.ended = True
        if len(client.connection._ours) > 900:
            client.close()
            client = None
        for event in client.events if client is not None else ():
            for value in event.params:
                if hasattr(value, "number"):
                    os.close(value.number)
        if client is not None:
            client.events.clear()
            for answer in client.answers.values():
                if hasattr(answer.result, "number"):
                    os.close(answer.result.number)
            client.answers.clear()
    assert not world.errors

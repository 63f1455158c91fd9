"""What everything stands on: timers, packets, counters, and a whole stack's idle life."""

from __future__ import annotations

import errno
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.netstackd.counters import COUNTER, NAMES, Counters
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.network.neighbours import STALE
from services.netstackd.network.routes import NextHop, Route
from services.netstackd.storage.packet import CSUM_PARTIAL, Packet
from services.netstackd.storage.timers import Timers
from tests.netstack.unit.hosts import Pair, Routed, ip, received

SOURCE = Path(__file__).resolve().parents[4] / "services" / "netstackd"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(("set", "cancel", "advance")), st.integers(0, 100)), max_size=60
    )
)
def test_timers_fire_once_at_their_last_deadline(steps: list[tuple[int, str, int]]) -> None:
    timers = Timers()
    fired: list[tuple[int, int]] = []
    expected: dict[int, int] = {}
    made = [timers.new(lambda now, number=number: fired.append((number, now))) for number in range(5)]
    now = 0
    for number, action, value in steps:
        if action == "set":
            made[number].set(now + value)
            expected[number] = now + value
        elif action == "cancel":
            made[number].cancel()
            expected.pop(number, None)
        else:
            now += value
            due = {n for n, at in expected.items() if at <= now}
            fired.clear()
            timers.advance(now)
            assert sorted(n for n, _ in fired) == sorted(due)
            for n in due:
                del expected[n]
        assert timers.next_deadline() == min(expected.values(), default=None)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(("set", "cancel", "advance")), st.integers(0, 100)), max_size=60
    )
)
def test_who_looks_only_when_the_first_deadline_moved_up_is_never_late(steps: list[tuple[int, str, int]]) -> None:
    timers = Timers()
    made = [timers.new(lambda now: None) for _ in range(5)]
    noted: int | None = None
    now = 0
    for number, action, value in steps:
        if action == "set":
            made[number].set(now + value)
        elif action == "cancel":
            made[number].cancel()
        else:
            now += value
            if noted is not None and noted <= now:
                noted = None
            timers.advance(now)
        if timers.moved_up or noted is None:
            timers.moved_up = False
            noted = timers.next_deadline()
        first = min((timer.deadline for timer in made if timer.deadline is not None), default=None)
        assert first is None or (noted is not None and noted <= first)


def test_timer_moved_later_again_and_again_does_not_fill_the_heap() -> None:
    timers = Timers()
    timer = timers.after(1000, lambda now: None)
    for step in range(10_000):
        timer.set(1001 + step)
    assert len(timers.heap) == 1


def test_timers_heap_stays_in_proportion_whatever_is_set_and_cancelled() -> None:
    timers = Timers()
    fired: list[int] = []
    kept = [timers.after(1_000_000_000 + n, fired.append) for n in range(10)]
    busy = timers.new(lambda now: None)
    for step in range(5000):
        busy.set(7_200_000_000)  # a keepalive ...
        busy.set(step * 10 + 5)  # ... that a shorter timer comes before
        timers.advance(step * 10 + 9)
        timers.after(3_000_000_000, fired.append).cancel()
    assert len(timers.heap) < 200
    assert timers.next_deadline() == 1_000_000_000
    timers.advance(1_000_000_009)
    assert len(fired) == len(kept)


def test_timer_may_set_itself_anew_from_its_callback() -> None:
    timers = Timers()
    at: list[int] = []

    def tick(now: int) -> None:
        at.append(now)
        if len(at) < 3:
            timer.set(now + 10)

    timer = timers.after(10, tick)
    for now in range(0, 100, 5):
        timers.advance(now)
    assert at == [10, 20, 30]


def test_packet_copy_shares_nothing_that_is_written() -> None:
    packet = Packet(bytearray(b"headpay"), 7)
    packet.l3, packet.payload, packet.src, packet.csum, packet.body = 4, 4, 9, CSUM_PARTIAL, b"body"
    twin = packet.copy()
    twin.writable()[0:4] = b"HEAD"
    assert packet.head == b"headpay" and twin.head == b"HEADpay"
    assert (twin.src, twin.csum, twin.l3, twin.network_bytes()) == (9, CSUM_PARTIAL, 4, b"paybody")
    assert len(packet) == 7
    fixed = Packet(b"const", 5)
    assert fixed.writable() is fixed.head and isinstance(fixed.head, bytearray)


def test_counters_have_unique_names_and_read_by_name() -> None:
    assert len(set(NAMES)) == len(NAMES)
    counters = Counters()
    counters.values[COUNTER["IpInReceives"]] = 5
    assert counters.get("IpInReceives") == 5
    assert counters.as_dict(zeros=False) == {"IpInReceives": 5}
    assert set(counters.as_dict("Drop")) == {name for name in NAMES if name.startswith("Drop")}
    with pytest.raises(KeyError):
        counters.get("NoSuchCounter")


def test_every_drop_reason_is_counted_somewhere() -> None:
    text = "\n".join(path.read_text() for path in SOURCE.rglob("*.py") if path.name != "counters.py")
    used = set(re.findall(r'"(Drop\w+)"', text))
    assert {name for name in NAMES if name.startswith("Drop")} - used == set()


def test_errors_name_what_they_are() -> None:
    assert str(NetError(errno.EINVAL, "why")) == "EINVAL: why"
    assert WouldBlock().errno == errno.EAGAIN


def test_idle_stack_has_nothing_to_do_for_long() -> None:
    pair = Pair()
    pair.run(30)
    pair.world.frames.clear()
    pair.run(3600)
    assert pair.world.frames == []


def test_flush_is_bounded_when_a_host_talks_to_itself_without_end() -> None:
    pair = Pair()
    pair.run(12)
    one, two = pair.a.udp(4, 5), pair.a.udp(4, 6)

    def answer(socket: object, mask: int) -> None:
        for own, port in ((one, 6), (two, 5)):
            while own.queue:
                own.send(own.receive().data, (ip("127.0.0.1"), port, 0))

    one.subscribe(answer)
    two.subscribe(answer)
    one.send(b"x", (ip("127.0.0.1"), 6, 0))
    pair.a.stack.flush(pair.world.now)
    assert pair.a.stack.next_deadline() == pair.world.now  # more to do, but not in this turn


def test_events_tell_of_changes() -> None:
    pair = Pair()
    pair.run(12)
    told: list[str] = []
    pair.a.stack.subscribe(lambda kind, thing: told.append(kind))
    route = Route(4, ip("10.9.0.0"), 24, (NextHop(pair.ia, ip("10.0.0.2")),))
    pair.a.stack.add_route(route)
    pair.a.stack.remove_route(route)
    pair.a.address(pair.ia, "10.0.0.9/24")
    pair.a.stack.remove_address(pair.ia, 4, ip("10.0.0.9"))
    pair.a.udp().send(b"x", (ip("10.0.0.2"), 9, 0))
    pair.settle()
    pair.a.stack.set_carrier(pair.ia, False)
    for kind in ("route", "route-gone", "address", "address-gone", "neighbour", "interface"):
        assert kind in told


def test_equal_cost_routes_forward_flows_over_both_ways() -> None:
    n = Routed()
    other = n.world.host("c")
    ic = other.up(other.interface(), "10.2.0.2/24")
    n.right_wire.ends.append((other, ic))
    n.run(12)
    far = ip("10.77.0.0")
    for host in (n.b, other):
        iface = host.stack.interface("eth0")
        assert iface is not None
        host.up(host.interface("far"), "10.77.0.1/24")
    ways = (NextHop(n.right, ip("10.2.0.1")), NextHop(n.right, ip("10.2.0.2")))
    n.r.stack.add_route(Route(4, far, 24, ways))
    servers = [n.b.udp(4, 7), other.udp(4, 7)]
    clients = [n.a.udp() for _ in range(40)]
    for _ in range(3):
        for client in clients:
            client.send(b"x", (far + 1, 7, 0))
        n.run(0.05)
    shares = []
    for server in servers:
        sources: dict[object, int] = {}
        while server.queue:
            address = server.receive().address
            sources[address] = sources.get(address, 0) + 1
        assert all(count == 3 for count in sources.values())  # a flow keeps its way
        shares.append(len(sources))
    assert sum(shares) == 40 and min(shares) >= 8


def test_removed_interface_leaves_nothing_behind() -> None:
    pair = Pair()
    pair.run(12)
    server = pair.b.udp(4, 7)
    client = pair.a.udp()
    client.connect((ip("10.0.0.2"), 7, 0))
    client.send(b"x")
    pair.settle()
    assert received(server) == [b"x"]
    stack = pair.a.stack
    assert any(n.state != STALE for n in stack.neighbours4)
    stack.remove_interface(pair.ia)
    assert not list(stack.neighbours4) and not list(stack.neighbours6)
    assert [a.iface.name for a in stack.addresses] == ["lo", "lo"]
    assert all(hop.iface is not pair.ia for r in stack.routing4.routes.all() for hop in r.next_hops)
    with pytest.raises(NetError):
        client.send(b"y")


def test_secrets_and_seeds_make_stacks_that_cannot_be_guessed_from_each_other() -> None:
    rng = random.Random(3)
    first, second = Pair(seed=rng.randrange(1000)), Pair(seed=rng.randrange(1000, 2000))
    ports = []
    for pair in (first, second):
        pair.run(12)
        sockets = [pair.a.udp() for _ in range(5)]
        for socket in sockets:
            socket.send(b"x", (ip("10.0.0.2"), 9, 0))
        ports.append([socket.local_port for socket in sockets])
    assert ports[0] != ports[1]

"""The neighbour machine by ARP and by NDP: RFC 4861 section 7.3, RFC 826, and what Linux adds."""

from __future__ import annotations

import pytest

from services.netstackd.network import neighbours as nud
from services.netstackd.network.neighbours import Neighbour
from services.netstackd.storage.packet import Packet
from services.netstackd.wire import arp, ethernet, icmpv6, ipv6, ndp
from services.netstackd.wire.numbers import ETHERTYPE_ARP, ETHERTYPE_IPV6, solicited_node
from tests.netstack.unit.hosts import SECOND, Host, Pair, ip, received

VERSIONS = (4, 6)
PEER = {4: ip("10.0.0.2"), 6: ip("fd00::2")}
SELF = {4: ip("10.0.0.1"), 6: ip("fd00::1")}
NOBODY = {4: ip("10.0.0.77"), 6: ip("fd00::77")}


def entry(host: Host, version: int, address: int) -> Neighbour | None:
    table = host.stack.neighbours4 if version == 4 else host.stack.neighbours6
    return table.find(host.stack.interfaces[2], address)


def solicitations(pair: Pair, version: int) -> list[bytes]:
    if version == 4:
        return [f.data for f in pair.world.sent(pair.a, ETHERTYPE_ARP) if f.data[20:22] == b"\0\1"]
    return [f.data for f in pair.world.sent(pair.a, ETHERTYPE_IPV6) if f.data[54] == 135 and f.data[22:38] != bytes(16)]


def quiet(pair: Pair) -> None:
    """Past the start-up of all interfaces."""
    pair.run(12)
    pair.world.frames.clear()


@pytest.mark.parametrize("version", VERSIONS)
def test_neighbour_first_packet_is_held_until_the_answer(version: int) -> None:
    pair = Pair()
    quiet(pair)
    server = pair.b.udp(version, 7)
    client = pair.a.udp(version)
    for number in range(3):
        client.send(bytes([number]), (PEER[version], 7, 0))
    pair.settle()
    assert received(server) == [b"\0", b"\1", b"\2"]
    found = entry(pair.a, version, PEER[version])
    assert found is not None and found.state == nud.REACHABLE and found.link == pair.ib.mac
    back = entry(pair.b, version, SELF[version])
    # It asked us, so we know it, unconfirmed: answering an IPv6 request already uses what we know.
    assert back is not None and back.state == (nud.STALE if version == 4 else nud.DELAY)
    asked = solicitations(pair, version)
    assert len(asked) == 1
    group = ethernet.BROADCAST if version == 4 else ethernet.multicast_address(6, solicited_node(PEER[6]))
    assert asked[0][:6] == group


@pytest.mark.parametrize("version", VERSIONS)
def test_neighbour_no_answer_fails_after_three_and_tells_the_sender(version: int) -> None:
    pair = Pair()
    quiet(pair)
    client = pair.a.udp(version)
    client.connect((NOBODY[version], 7, 0))
    client.send(b"x")
    pair.run(2.5)
    assert client.error == 0
    pair.run(1)
    assert len(solicitations(pair, version)) == 3
    found = entry(pair.a, version, NOBODY[version])
    assert found is not None and found.state == nud.FAILED
    assert pair.a.count("NeighResolveFailed") == 1 and pair.a.count("DropNeighbourUnresolved") == 1
    assert client.error == 0  # EHOSTUNREACH is not fatal; with IP_RECVERR it is told:
    client.receive_errors = client.receive_errors6 = True
    client.send(b"y")
    pair.run(4)
    assert client.take_error() == 113  # EHOSTUNREACH


@pytest.mark.parametrize("version", VERSIONS)
def test_neighbour_queue_is_bounded_and_drops_the_oldest(version: int) -> None:
    pair = Pair()
    quiet(pair)
    server = pair.b.udp(version, 7)
    pair.wire.lose = lambda frame: True
    client = pair.a.udp(version)
    for number in range(nud.QUEUE_LIMIT + 5):
        client.send(bytes([number]), (PEER[version], 7, 0))
    pair.settle()
    assert pair.a.count("DropNeighbourQueueFull") == 5
    pair.wire.lose = lambda frame: False
    pair.run(1.5)
    assert received(server) == [bytes([number]) for number in range(5, nud.QUEUE_LIMIT + 5)]


@pytest.mark.parametrize("version", VERSIONS)
def test_neighbour_unconfirmed_goes_stale_delay_probe_and_is_confirmed_by_unicast(version: int) -> None:
    pair = Pair()
    quiet(pair)
    pair.b.udp(version, 7)
    client = pair.a.udp(version)
    client.send(b"x", (PEER[version], 7, 0))
    pair.run(50)  # longer than any reachable time (30 s and a half)
    found = entry(pair.a, version, PEER[version])
    assert found is not None and found.usable_until < pair.world.now
    pair.world.frames.clear()
    client.send(b"y", (PEER[version], 7, 0))
    pair.settle()
    assert found.state == nud.DELAY
    assert solicitations(pair, version) == []
    pair.run(5.1)
    assert found.state == nud.REACHABLE
    asked = solicitations(pair, version)
    assert len(asked) == 1 and asked[0][:6] == pair.ib.mac


@pytest.mark.parametrize("version", VERSIONS)
def test_neighbour_confirmed_by_upper_layer_is_not_probed(version: int) -> None:
    pair = Pair()
    quiet(pair)
    pair.b.udp(version, 7)
    client = pair.a.udp(version)
    client.send(b"x", (PEER[version], 7, 0))
    pair.run(50)
    client.send(b"y", (PEER[version], 7, 0))
    pair.settle()
    found = entry(pair.a, version, PEER[version])
    assert found is not None
    table = pair.a.stack.neighbours4 if version == 4 else pair.a.stack.neighbours6
    table.confirm(found)
    pair.world.frames.clear()
    pair.run(10)
    assert found.state == nud.REACHABLE
    assert solicitations(pair, version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_neighbour_silent_when_probed_fails_and_is_asked_for_anew(version: int) -> None:
    pair = Pair()
    quiet(pair)
    server = pair.b.udp(version, 7)
    client = pair.a.udp(version)
    client.send(b"x", (PEER[version], 7, 0))
    pair.run(50)
    received(server)
    pair.wire.lose = lambda frame: True
    client.send(b"y", (PEER[version], 7, 0))
    pair.run(9)
    found = entry(pair.a, version, PEER[version])
    assert found is not None and found.state == nud.FAILED
    pair.wire.lose = lambda frame: False
    client.send(b"z", (PEER[version], 7, 0))
    pair.settle()
    assert received(server) == [b"z"]


def test_arp_unsolicited_announcement_updates_known_and_makes_no_entry() -> None:
    pair = Pair()
    quiet(pair)
    pair.b.udp(4, 7)
    pair.a.udp().send(b"x", (PEER[4], 7, 0))
    pair.run(2)
    new = b"\2\0\0\0\0\x55"
    for address in (PEER[4], NOBODY[4]):
        frame = ethernet.header(ethernet.BROADCAST, new, ETHERTYPE_ARP) + arp.build(1, new, address, bytes(6), address)
        pair.a.stack.receive(pair.ia, [Packet(frame, len(frame))], pair.world.now)
    found = entry(pair.a, 4, PEER[4])
    assert found is not None and found.link == new and found.state == nud.STALE
    assert entry(pair.a, 4, NOBODY[4]) is None
    assert pair.a.count("DropArpNotForUs") == 1


def test_arp_second_answer_within_a_second_does_not_override() -> None:
    pair = Pair()
    quiet(pair)
    pair.b.udp(4, 7)
    pair.a.udp().send(b"x", (PEER[4], 7, 0))
    pair.settle()
    other = b"\2\0\0\0\0\x55"
    frame = ethernet.header(pair.ia.mac, other, ETHERTYPE_ARP) + arp.build(2, other, PEER[4], pair.ia.mac, SELF[4])
    pair.a.stack.receive(pair.ia, [Packet(frame, len(frame))], pair.world.now)
    found = entry(pair.a, 4, PEER[4])
    assert found is not None and found.link == pair.ib.mac


def test_ndp_advertisement_without_override_makes_a_different_link_address_stale_only() -> None:
    pair = Pair()
    quiet(pair)
    pair.b.udp(6, 7)
    pair.a.udp(6).send(b"x", (PEER[6], 7, 0))
    pair.settle()
    other = b"\2\0\0\0\0\x55"
    for flags, link, state in ((0, pair.ib.mac, nud.STALE), (ndp.FLAG_OVERRIDE, other, nud.STALE)):
        body = ndp.advertisement(PEER[6], other)
        message = icmpv6.message(PEER[6], SELF[6], icmpv6.NEIGHBOUR_ADVERTISEMENT, 0, flags << 24, body)
        frame = ethernet.header(pair.ia.mac, other, ETHERTYPE_IPV6)
        frame += ipv6.header(PEER[6], SELF[6], 58, len(message), hop_limit=255) + message
        pair.a.stack.receive(pair.ia, [Packet(frame, len(frame))], pair.world.now)
        found = entry(pair.a, 6, PEER[6])
        assert found is not None and (found.link, found.state) == (link, state)


def test_ndp_message_from_beyond_the_link_is_dropped() -> None:
    pair = Pair()
    quiet(pair)
    message = icmpv6.message(
        PEER[6], SELF[6], icmpv6.NEIGHBOUR_SOLICITATION, 0, 0, ndp.solicitation(SELF[6], b"\2" * 6)
    )
    frame = ethernet.header(pair.ia.mac, b"\2" * 6, ETHERTYPE_IPV6)
    frame += ipv6.header(PEER[6], SELF[6], 58, len(message), hop_limit=254) + message
    pair.a.stack.receive(pair.ia, [Packet(frame, len(frame))], pair.world.now)
    assert pair.a.count("DropNdpHopLimit") == 1
    assert entry(pair.a, 6, PEER[6]) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_neighbour_permanent_is_used_and_never_changed(version: int) -> None:
    pair = Pair()
    quiet(pair)
    table = pair.a.stack.neighbours4 if version == 4 else pair.a.stack.neighbours6
    table.set_permanent(pair.ia, PEER[version], pair.ib.mac)
    server = pair.b.udp(version, 7)
    pair.a.udp(version).send(b"x", (PEER[version], 7, 0))
    pair.settle()
    assert received(server) == [b"x"]
    assert solicitations(pair, version) == []
    table.heard_solicitation(pair.ia, PEER[version], b"\2" * 6)
    found = entry(pair.a, version, PEER[version])
    assert found is not None and found.link == pair.ib.mac and found.state == nud.PERMANENT


def test_proxy_arp_answers_for_what_lies_behind() -> None:
    pair = Pair()
    third = pair.b.up(pair.b.interface("eth1"), "10.9.0.1/24")
    pair.b.stack.configure(pair.ib, proxy_arp=1, forwarding4=1)
    assert third.up
    quiet(pair)
    pair.a.stack.remove_address(pair.ia, 4, SELF[4])
    pair.a.address(pair.ia, "10.0.0.1/8")
    pair.a.udp().send(b"x", (ip("10.9.0.5"), 7, 0))
    pair.run(0.1)
    found = entry(pair.a, 4, ip("10.9.0.5"))
    assert found is not None and found.link == pair.ib.mac
    pair.a.udp().send(b"x", (ip("10.0.0.9"), 7, 0))  # on the asker's own side: not ours to answer
    pair.run(SECOND / SECOND)
    other = entry(pair.a, 4, ip("10.0.0.9"))
    assert other is not None and other.link == b""

"""Group membership: reports of each version, queries, filters, delivery."""

from __future__ import annotations

import pytest

from services.netstackd.errors import NetError
from services.netstackd.storage.packet import Packet
from services.netstackd.transport.options import (
    IP_ADD_MEMBERSHIP,
    IP_ADD_SOURCE_MEMBERSHIP,
    IP_BLOCK_SOURCE,
    IP_DROP_MEMBERSHIP,
    IPV6_ADD_MEMBERSHIP,
    set_option,
)
from services.netstackd.wire import ethernet, icmpv6, igmp, ipv4, ipv6, mld
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from tests.netstack.unit.hosts import Pair, ip, received

GROUP = {4: ip("239.1.2.3"), 6: ip("ff05::123")}
SRC = {4: ip("10.0.0.1"), 6: ip("fd00::1")}
QUERIER = {4: ip("10.0.0.99"), 6: ip("fe80::99")}


def ready() -> Pair:
    pair = Pair()
    pair.run(20)
    pair.world.frames.clear()
    return pair


def join(pair: Pair, version: int, port: int = 7):  # type: ignore[no-untyped-def]
    socket = pair.b.udp(version, port)
    level, name = (0, IP_ADD_MEMBERSHIP) if version == 4 else (41, IPV6_ADD_MEMBERSHIP)
    set_option(socket, level, name, (GROUP[version], pair.ib.index))
    return socket


def reports(pair: Pair, version: int) -> list[igmp.Records]:
    """The records of version 3 (IGMP) or 2 (MLD) reports that b sent, and of older ones [(type, group, ())]."""
    found: list[igmp.Records] = []
    for frame in pair.world.sent(pair.b):
        data = frame.data
        if version == 4 and data[12:14] == b"\x08\0" and data[23] == 2:
            assert data[22] == 1 and data[34:38] == bytes((148, 4, 0, 0))  # TTL 1, router alert
            message = data[38:]
            records = igmp.parse_v3_report_untrusted(message) if message[0] == 0x22 else None
            found.append(records or [(message[0], int.from_bytes(message[4:8], "big"), ())])
        elif version == 6 and data[12:14] == b"\x86\xdd" and data[20] == 0 and data[62] in (131, 132, 143):
            assert data[21] == 1 and data[56:58] == bytes((5, 2))
            message = data[62:]
            records = mld.parse_v2_report_untrusted(message) if message[0] == 143 else None
            found.append(records or [(message[0], int.from_bytes(message[8:24], "big"), ())])
    return found


def query(pair: Pair, version: int, spoken: int, group: int = 0, sources: tuple[int, ...] = ()) -> None:
    if version == 4:
        message = {
            1: igmp.v2_message(0x11, group),
            2: igmp.v2_message(0x11, group, 20),
            3: igmp.v3_query(group, 20, sources),
        }[spoken]
        to = group or ip("224.0.0.1")
        packet = ipv4.header(QUERIER[4], to, 2, len(message), ttl=1) + message
    else:
        body = mld.v1_body(group) if spoken == 1 else mld.v2_query_body(group, sources)
        to = group or ip("ff02::1")
        message = icmpv6.message(QUERIER[6], to, 130, 0, 2000 << 16, body)
        packet = ipv6.header(QUERIER[6], to, 58, len(message), hop_limit=1) + message
    ethertype = ETHERTYPE_IPV4 if version == 4 else ETHERTYPE_IPV6
    frame = ethernet.header(ethernet.multicast_address(version, to), b"\2\0\0\0\0\x99", ethertype) + packet
    pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)


@pytest.mark.parametrize("version", [4, 6])
def test_join_reports_twice_and_leave_twice(version: int) -> None:
    pair = ready()
    socket = join(pair, version)
    pair.run(3)
    assert reports(pair, version) == [[(igmp.CHANGE_TO_EXCLUDE, GROUP[version], ())]] * 2
    assert ethernet.multicast_address(version, GROUP[version]) in pair.ib.multicast_macs
    pair.world.frames.clear()
    socket.close()
    pair.run(3)
    assert reports(pair, version) == [[(igmp.CHANGE_TO_INCLUDE, GROUP[version], ())]] * 2
    assert ethernet.multicast_address(version, GROUP[version]) not in pair.ib.multicast_macs


@pytest.mark.parametrize("version", [4, 6])
def test_query_is_answered_within_its_time_with_all_groups_or_the_one(version: int) -> None:
    pair = ready()
    join(pair, version)
    pair.run(3)
    pair.world.frames.clear()
    spoken = 3 if version == 4 else 2
    query(pair, version, spoken)
    pair.run(2)
    state = (igmp.MODE_IS_EXCLUDE, GROUP[version], ())
    answered = reports(pair, version)
    assert len(answered) == 1 and state in answered[0]
    assert all(record[1] not in (ip("224.0.0.1"), ip("ff02::1")) for record in answered[0])
    pair.world.frames.clear()
    query(pair, version, spoken, GROUP[version])
    query(pair, version, spoken, GROUP[version] + 1)
    pair.run(2)
    assert reports(pair, version) == [[state]]


@pytest.mark.parametrize(("version", "spoken", "kind"), [(4, 1, 0x12), (4, 2, 0x16), (6, 1, 131)])
def test_older_querier_makes_us_speak_its_version_for_a_while(version: int, spoken: int, kind: int) -> None:
    pair = ready()
    join(pair, version)
    pair.run(3)
    pair.world.frames.clear()
    query(pair, version, spoken, GROUP[version])
    pair.run(11)
    assert reports(pair, version) == [[(kind, GROUP[version], ())]]
    pair.run(270)
    pair.world.frames.clear()
    query(pair, version, 3 if version == 4 else 2, GROUP[version])
    pair.run(3)
    assert reports(pair, version) == [[(igmp.MODE_IS_EXCLUDE, GROUP[version], ())]]


def test_another_members_report_silences_ours_in_version_2() -> None:
    pair = ready()
    join(pair, 4)
    pair.run(3)
    pair.world.frames.clear()
    query(pair, 4, 2, GROUP[4])
    message = igmp.v2_message(igmp.V2_REPORT, GROUP[4])
    packet = ipv4.header(ip("10.0.0.50"), GROUP[4], 2, len(message), ttl=1) + message
    frame = ethernet.header(ethernet.multicast_address(4, GROUP[4]), b"\2\0\0\0\0\x50", ETHERTYPE_IPV4) + packet
    pair.b.stack.receive(pair.ib, [Packet(frame, len(frame))], pair.world.now)
    pair.run(5)
    assert reports(pair, 4) == []


@pytest.mark.parametrize("version", [4, 6])
def test_datagram_to_a_group_reaches_every_member_and_nobody_else(version: int) -> None:
    pair = ready()
    first = join(pair, version)
    second = pair.b.udp(version)
    second.reuse_address = True
    outsider = pair.b.udp(version, 8)
    sender = pair.a.udp(version)
    sender.multicast_device = pair.ia
    sender.send(b"all", (GROUP[version], 7, 0))
    pair.settle()
    assert received(first) == [b"all"] and received(outsider) == []
    first.close()
    pair.run(1)
    sender.send(b"none", (GROUP[version], 7, 0))
    pair.settle()
    assert pair.b.count("DropMulticastNotJoined") >= 1


@pytest.mark.parametrize("version", [4, 6])
def test_own_group_is_heard_by_own_members_unless_loop_is_off(version: int) -> None:
    pair = ready()
    member = join(pair, version)
    sender = pair.b.udp(version)
    sender.multicast_device = pair.ib
    sender.send(b"one", (GROUP[version], 7, 0))
    pair.settle()
    sender.multicast_loop = False
    sender.send(b"two", (GROUP[version], 7, 0))
    pair.settle()
    assert received(member) == [b"one"]


def test_source_filters_choose_who_is_heard_and_are_reported() -> None:
    pair = ready()
    socket = pair.b.udp(4, 7)
    set_option(socket, 0, IP_ADD_SOURCE_MEMBERSHIP, (GROUP[4], pair.ib.index, ip("10.0.0.77")))
    pair.run(3)
    assert reports(pair, 4)[0] == [(igmp.ALLOW_NEW_SOURCES, GROUP[4], (ip("10.0.0.77"),))]
    sender = pair.a.udp()
    sender.multicast_device = pair.ia
    sender.send(b"x", (GROUP[4], 7, 0))
    pair.settle()
    assert received(socket) == []
    set_option(socket, 0, IP_ADD_SOURCE_MEMBERSHIP, (GROUP[4], pair.ib.index, SRC[4]))
    sender.send(b"y", (GROUP[4], 7, 0))
    pair.settle()
    assert received(socket) == [b"y"]
    set_option(socket, 0, IP_DROP_MEMBERSHIP, (GROUP[4], pair.ib.index))
    set_option(socket, 0, IP_ADD_MEMBERSHIP, (GROUP[4], pair.ib.index))
    set_option(socket, 0, IP_BLOCK_SOURCE, (GROUP[4], pair.ib.index, SRC[4]))
    sender.send(b"z", (GROUP[4], 7, 0))
    pair.settle()
    assert received(socket) == []
    for wrong in (IP_ADD_MEMBERSHIP, IP_BLOCK_SOURCE):
        with pytest.raises(NetError):
            set_option(socket, 0, wrong, (GROUP[4], pair.ib.index, SRC[4]))


def test_interface_filter_is_the_union_of_its_sockets() -> None:
    pair = ready()
    one, two = pair.b.udp(4, 7), pair.b.udp(4, 8)
    a, b = ip("10.0.0.5"), ip("10.0.0.6")
    for socket, source in ((one, a), (two, b)):
        set_option(socket, 0, IP_ADD_SOURCE_MEMBERSHIP, (GROUP[4], pair.ib.index, source))
    group = next(g for g in pair.b.stack.multicast4.groups(pair.ib) if g.address == GROUP[4])
    assert group.filter == (False, frozenset({a, b}))
    three = pair.b.udp(4, 9)
    set_option(three, 0, IP_ADD_MEMBERSHIP, (GROUP[4], pair.ib.index))
    set_option(three, 0, IP_BLOCK_SOURCE, (GROUP[4], pair.ib.index, a))
    set_option(three, 0, IP_BLOCK_SOURCE, (GROUP[4], pair.ib.index, ip("10.0.0.7")))
    assert group.filter == (True, frozenset({ip("10.0.0.7")}))  # `a` is wanted by the first socket

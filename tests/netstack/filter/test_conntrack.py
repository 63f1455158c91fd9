"""Connection tracking: states, timeouts, limits, RSTs and ICMP errors, on virtual time."""

from __future__ import annotations

import gc

import pytest

from services.netstackd.counters import Counters
from services.netstackd.filter import connection as ct
from services.netstackd.filter.connection import SECOND, Direction, Limits, Related, Timeouts
from services.netstackd.filter.conntrack import Tracker
from services.netstackd.network.interface import ETHERNET, Interface
from services.netstackd.storage.packet import Packet
from services.netstackd.storage.timers import Timers
from tests.netstack.links import frames

A, B, ROUTER = 0x0A000001, 0xC6336407, 0xCB007101
SYN, ACK, FIN, RST = 2, 16, 1, 4


class World:
    """A tracker with a clock."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.counters = Counters()
        self.timers = Timers()
        self.now = SECOND
        self.tracker = Tracker(self.counters, self.timers, Timeouts(), limits or Limits())

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.timers.advance(self.now)

    def see(self, packet: Packet, confirm: bool = True) -> object:
        found = self.tracker.track(packet, self.now)
        if confirm and isinstance(found, Direction) and not found.connection.confirmed:
            self.tracker.confirm(found.connection, self.now)
        return found

    def tcp(self, flags: int, *, back: bool = False, seq: int = 1, ack: int = 1, port: int = 1000) -> object:
        ends = (B, A, 80, port) if back else (A, B, port, 80)
        segment = frames.tcp(*ends, flags=flags, seq=seq, ack=ack, window=1000)
        return self.see(frames.packet(frames.ETHERNET + frames.ipv4(*ends[:2], 6, segment)))

    def udp(self, *, back: bool = False, port: int = 1000) -> object:
        ends = (B, A, 53, port) if back else (A, B, port, 53)
        return self.see(frames.packet(frames.ETHERNET + frames.ipv4(*ends[:2], 17, frames.udp(*ends, b"x"))))

    def handshake(self) -> Direction:
        self.tcp(SYN)
        self.tcp(SYN | ACK, back=True, seq=100, ack=2)
        found = self.tcp(ACK, seq=2, ack=101)
        assert isinstance(found, Direction)
        return found


def state(found: object) -> str:
    assert isinstance(found, Direction)
    return found.connection.status


def test_a_handshake_goes_through_its_states_and_is_established() -> None:
    world = World()
    first = world.tcp(SYN)
    assert state(first) == "SYN_SENT" and isinstance(first, Direction) and first.state == ct.NEW
    second = world.tcp(SYN | ACK, back=True)
    assert state(second) == "SYN_RECV" and isinstance(second, Direction) and second.state == ct.ESTABLISHED
    assert state(world.tcp(ACK)) == "ESTABLISHED"
    assert first.connection.assured


def test_a_close_goes_through_fin_wait_close_wait_last_ack_time_wait() -> None:
    world = World()
    world.handshake()
    assert state(world.tcp(FIN | ACK)) == "FIN_WAIT"
    assert state(world.tcp(FIN | ACK)) == "FIN_WAIT"  # once more: it was lost behind us
    assert state(world.tcp(ACK, back=True)) == "CLOSE_WAIT"
    assert state(world.tcp(FIN | ACK, back=True)) == "LAST_ACK"
    assert state(world.tcp(ACK)) == "TIME_WAIT"
    world.sleep(119)
    assert world.tracker.count == 1
    world.sleep(3)
    assert world.tracker.count == 0


def test_a_simultaneous_open_is_established() -> None:
    world = World()
    world.tcp(SYN)
    assert state(world.tcp(SYN, back=True)) == "SYN_SENT2"
    assert state(world.tcp(SYN | ACK)) == "SYN_RECV"
    assert state(world.tcp(ACK)) == "ESTABLISHED"


def test_a_syn_after_the_end_begins_another_connection() -> None:
    world = World()
    first = world.handshake()
    world.tcp(RST, seq=2)
    assert state(first) == "CLOSE"
    again = world.tcp(SYN, seq=5000)
    assert isinstance(again, Direction) and again.connection is not first.connection
    assert again.state == ct.NEW and state(again) == "SYN_SENT" and world.tracker.count == 1


@pytest.mark.parametrize(("seq", "closes"), [(2, True), (900, True), (1003, False), (5_000_000, False), (1, False)])
def test_a_reset_counts_only_inside_the_other_ends_window(seq: int, closes: bool) -> None:
    world = World()
    connection = world.handshake()
    world.tcp(ACK, back=True, seq=101, ack=2)
    found = world.tcp(RST, seq=seq)
    assert (state(connection) == "CLOSE") is closes
    assert isinstance(found, Direction) is closes
    assert world.tracker.invalid_count == (0 if closes else 1)


def test_an_established_connection_lives_five_days_and_a_half_open_one_two_minutes() -> None:
    world = World()
    world.handshake()
    world.tcp(SYN, port=2000)
    world.sleep(122)
    assert world.tracker.count == 1
    world.sleep(431_000)
    assert world.tracker.count == 1
    world.tcp(ACK)
    world.sleep(431_000)
    assert world.tracker.count == 1
    world.sleep(2000)
    assert world.tracker.count == 0


def test_udp_lives_thirty_seconds_and_a_stream_two_minutes() -> None:
    world = World()
    assert state(world.udp()) == "UNREPLIED"
    world.sleep(31.5)
    assert world.tracker.count == 0
    world.udp()
    assert state(world.udp(back=True)) == "REPLIED"
    world.sleep(3)
    world.udp()
    world.sleep(100)
    assert world.tracker.count == 1
    world.sleep(25)
    assert world.tracker.count == 0


def test_a_packet_past_the_deadline_begins_anew_even_before_the_bucket_is_looked_at() -> None:
    world = World()
    first = world.udp()
    world.now += 31 * SECOND
    second = world.udp()
    assert isinstance(first, Direction) and isinstance(second, Direction)
    assert second.connection is not first.connection and world.tracker.count == 1


@pytest.mark.parametrize("flags", [0, FIN, RST, RST | ACK, SYN | FIN, SYN | ACK])
def test_what_cannot_begin_a_connection_is_invalid(flags: int) -> None:
    world = World()
    found = world.tcp(flags)
    assert getattr(found, "state", None) == ct.INVALID and world.tracker.count == 0


def test_the_middle_of_a_connection_is_taken_up_unless_strict() -> None:
    assert state(World().tcp(ACK)) == "ESTABLISHED"
    found = World(Limits(tcp_loose=False)).tcp(ACK)
    assert getattr(found, "state", None) == ct.INVALID


def test_what_is_taken_up_in_the_middle_is_established_and_assured_with_its_first_answer() -> None:
    world = World()
    first = world.tcp(ACK)
    assert isinstance(first, Direction)
    connection = first.connection
    assert not connection.assured and connection.deadline == world.now + 300 * SECOND and first.state == ct.NEW
    world.tcp(ACK)
    assert not connection.assured and first.state == ct.NEW
    answer = world.tcp(ACK, back=True)
    assert isinstance(answer, Direction) and answer.connection is connection
    assert connection.assured and answer.state == first.state == ct.ESTABLISHED
    assert connection.deadline == world.now + 432000 * SECOND


def test_a_scan_with_acks_does_not_fill_the_table_for_good() -> None:
    world = World(Limits(max_connections=16))
    world.handshake()
    for port in range(2000, 2100):
        world.tcp(ACK, port=port)
        world.tcp(RST, back=True, port=port, seq=1)
    assert isinstance(world.tcp(SYN, port=5), Direction)
    assert world.counters.get("DropConntrackTableFull") == 0
    assert [one.original.key[2] for one in world.tracker.connections() if one.assured] == [1000]


def test_a_full_table_gives_up_what_is_ending_before_it_refuses() -> None:
    world = World(Limits(max_connections=16))
    for port in range(1000, 1016):
        world.tcp(SYN, port=port)
        world.tcp(SYN | ACK, back=True, port=port)
        world.tcp(ACK, port=port)
    world.tcp(FIN | ACK, port=1007)
    world.tcp(SYN, port=5)
    ports = [connection.original.key[2] for connection in world.tracker.connections()]
    assert 5 in ports and 1007 not in ports and len(ports) == 16


def test_a_full_table_drops_the_oldest_without_answers_and_never_an_assured_one() -> None:
    world = World(Limits(max_connections=16))
    world.handshake()
    for port in range(2000, 2100):
        world.tcp(SYN, port=port)
    tracker = world.tracker
    assert tracker.count == 16 and tracker.early_drops == 85
    assert any(connection.assured for connection in tracker.connections())
    ports = [connection.original.key[2] for connection in tracker.connections() if not connection.assured]
    assert ports == list(range(2085, 2100))


def test_a_full_table_keeps_a_handshake_before_scans() -> None:
    """Half-open scans of open and closed ports, and what nobody answers, do not push out a handshake underway."""
    world = World(Limits(max_connections=16))
    world.tcp(SYN, port=1000)
    world.tcp(SYN | ACK, back=True, port=1000, seq=100, ack=2)
    for port in range(2000, 2300):
        world.tcp(SYN, port=port)
        if port % 3 == 0:
            world.tcp(RST | ACK, back=True, port=port, seq=0, ack=2)
        elif port % 3 == 1:
            world.tcp(SYN | ACK, back=True, port=port, seq=100, ack=2)
            world.tcp(RST, port=port, seq=101)
    kept = [one for one in world.tracker.connections() if one.original.key[2] == 1000]
    assert [state(one.original) for one in kept] == ["SYN_RECV"]
    world.tcp(ACK, port=1000, seq=2, ack=101)
    assert kept[0].assured and state(kept[0].original) == "ESTABLISHED"


def test_a_flood_that_is_answered_does_not_push_out_what_waits_for_an_answer() -> None:
    world = World(Limits(max_connections=16))
    world.tcp(SYN, port=1000)
    for port in range(2000, 2300):
        world.tcp(SYN, port=port)
        world.tcp(SYN | ACK, back=True, port=port, seq=100, ack=2)
    assert 1000 in [one.original.key[2] for one in world.tracker.connections()]


def test_a_full_table_drops_the_oldest_handshake_when_there_is_nothing_else() -> None:
    world = World(Limits(max_connections=16))
    for port in range(2000, 2020):
        world.tcp(SYN, port=port)
        world.tcp(SYN | ACK, back=True, port=port, seq=100, ack=2)
    assert [one.original.key[2] for one in world.tracker.connections()] == list(range(2004, 2020))


def test_a_table_full_of_assured_connections_refuses_and_counts() -> None:
    world = World(Limits(max_connections=16))
    for port in range(1000, 1016):
        world.tcp(SYN, port=port)
        world.tcp(SYN | ACK, back=True, port=port)
        world.tcp(ACK, port=port)
    world.tcp(SYN, port=5)
    assert world.tracker.count == 16 and world.counters.get("DropConntrackTableFull") == 1


def test_memory_of_moved_deadlines_does_not_grow() -> None:
    world = World()
    for port in range(100):
        world.tcp(SYN, port=port + 1)
        world.tcp(SYN | ACK, back=True, port=port + 1)
        world.tcp(ACK, port=port + 1)
        world.tcp(RST, port=port + 1)
    held = sum(len(bucket) for bucket in world.tracker._buckets.values())
    assert held == 100
    world.sleep(12)
    assert world.tracker.count == 0 and not any(world.tracker._buckets.values())


def test_connections_that_end_are_freed_without_a_collector() -> None:
    world = World(Limits(max_connections=16))
    world.tcp(SYN)
    gc.collect()
    gc.disable()
    try:
        for port in range(2000, 3000):
            world.tcp(SYN, port=port)
        assert gc.collect() < 100
    finally:
        gc.enable()


def _ping(kind: int, ends: tuple[int, int], ident: int = 77) -> Packet:
    body = bytes((kind, 0, 0, 0)) + ident.to_bytes(2, "big") + b"\0\1data"
    body = body[:2] + (0xFFFF - frames.sum16(body)).to_bytes(2, "big") + body[4:]
    return frames.packet(frames.ETHERNET + frames.ipv4(*ends, 1, body))


def test_an_echo_reply_belongs_to_its_request() -> None:
    world = World()
    request = world.see(_ping(8, (A, B)))
    reply = world.see(_ping(0, (B, A)))
    assert isinstance(request, Direction) and isinstance(reply, Direction)
    assert reply.connection is request.connection and reply.state == ct.ESTABLISHED
    assert getattr(world.see(_ping(0, (B, A), 78)), "state", None) == ct.INVALID


def icmp_error(src: int, dst: int, quoted: bytes, kind: int = 3, code: int = 1) -> Packet:
    body = bytes((kind, code, 0, 0, 0, 0, 0, 0)) + quoted
    body = body[:2] + (0xFFFF - frames.sum16(body)).to_bytes(2, "big") + body[4:]
    packet = frames.packet(frames.ETHERNET + frames.ipv4(src, dst, 1, body))
    packet.iface = Interface("eth0", ETHERNET, bytes(6), 1500)
    return packet


def test_an_icmp_error_is_related_to_what_it_quotes() -> None:
    world = World()
    connection = world.udp()
    quoted = frames.ipv4(A, B, 17, frames.udp(A, B, 1000, 53, b"x"))
    found = world.see(icmp_error(ROUTER, A, quoted[:28]))
    assert isinstance(found, Related) and isinstance(connection, Direction)
    assert found.direction is connection.connection.reply
    assert getattr(world.see(icmp_error(ROUTER, A, quoted[:20])), "state", None) == ct.INVALID
    other = frames.ipv4(A, B, 17, frames.udp(A, B, 1001, 53, b"x"))
    assert getattr(world.see(icmp_error(ROUTER, A, other)), "state", None) == ct.INVALID


def test_a_lying_quote_is_never_read_past_its_end() -> None:
    world = World()
    quoted = frames.ipv4(A, B, 17, frames.udp(A, B, 1000, 53, b"x"))
    for length in range(len(quoted) + 1):
        for ihl in range(16):
            lying = bytes((0x40 | ihl,)) + quoted[1:length] if length else b""
            world.see(icmp_error(ROUTER, A, lying))

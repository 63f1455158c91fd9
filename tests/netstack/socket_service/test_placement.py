"""Direct placement (edge/placement.py): two namespaces on the ends of a socket pair that carries frames as a packet
socket does, and a stream between them whose receiver has rings."""

from __future__ import annotations

import errno
import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from protocol.rings import HEAD
from services.netstackd.edge.placement import Placement
from services.netstackd.links.base import ALL_OFFLOADS, NOT_ALIKE, VNET_BYTES
from services.netstackd.links.packet_socket import PacketLink
from services.netstackd.namespaces import LinkRow, Namespace
from services.netstackd.storage.packet import CSUM_NONE, CSUM_VALID, Packet
from tests.netstack.socket_service.client import World, address
from tests.netstack.socket_service.test_rings import Ringed

HOSTS = {socket.AF_INET: "192.0.2.2", socket.AF_INET6: "2001:db8::2"}
RX = 1 << 18
LARGE = 20_000  # a frame of that many bytes carries data
IDENT = VNET_BYTES + 14 + 4  # of IPv4, in a frame


class Counting:
    """A link's placement that says how many frames came each time."""

    def __init__(self, placement: Placement, placed: list[int]) -> None:
        self.ready, self.learn = placement.ready, placement.learn
        self.thinned: list[int] = []
        self.frames = self.total = 0
        self._placement = placement
        self._placed = placed

    def thin(self, packets: list[Packet]) -> list[Packet]:
        self.thinned.append(len(packets))
        return self._placement.thin(packets)

    def alike(self) -> tuple[int, int, int, int]:
        return self._placement.alike()

    def receive(self, sock: socket.socket, now: int) -> bool:
        try:
            return self._placement.receive(sock, now)
        finally:
            self.frames, self.total = self._placement.frames, self._placement.total
            self._placed.append(self.frames)


class Cable:
    """One end sends, the other receives. `on_way(frame)`: what becomes of a frame on its way to the receiver."""

    def __init__(self, world: World, placed: list[int], family: int, timestamps: bool) -> None:
        self.world = world
        self.placed = placed  # how many frames at a time
        self.on_way: Callable[[bytes], Sequence[bytes]] = lambda frame: (frame,)
        self._wires: list[socket.socket] = []
        links: list[PacketLink] = []
        namespaces: list[Namespace] = []
        for number in (1, 2):
            wire, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            wire.setblocking(False)
            self._wires.append(wire)
            link = PacketLink("wire", ours, mac=bytes((2, 0, 0, 0, 0, number)), mtu=1500, offload=ALL_OFFLOADS)
            four = int.from_bytes(socket.inet_aton(f"192.0.2.{number}"), "big")
            six = int.from_bytes(socket.inet_pton(socket.AF_INET6, f"2001:db8::{number}"), "big")
            row = LinkRow(link, [(4, four, 24), (6, six, 64)])
            namespaces.append(world.router.namespaces.add_with_links(f"n{number}", [row], [], []))
            namespaces[-1].stack.tcp.context.parameters.timestamps = timestamps
            links.append(link)
        self.link, self.stack = links[1], namespaces[1].stack
        self.sender, self.receiver = (world.client(each) for each in namespaces)
        self.receiver.call("open", 1, family, socket.SOCK_STREAM, 0)
        self.receiver.call("bind", 1, address("0.0.0.0" if family == socket.AF_INET else "::", 80))
        self.receiver.call("listen", 1, 8)
        self.sender.notify("open", 7, family, socket.SOCK_STREAM, 0)
        self.sender.notify("connect", 7, address(HOSTS[family], 80))
        self.until(lambda: [(each.read(), each.events)[1] for each in (self.sender, self.receiver)] and self._both())
        self.here = self.sender.open_data(self.sender.event("connected")[3])
        _, self.number, _, _, fd = self.receiver.event("accepted")
        self.end = Ringed(self.receiver, self.number, self.receiver.open_data(fd), rx=RX)
        placement = self.link.placement
        assert isinstance(placement, Placement)
        self.placement = placement
        self.counting = self.link.placement = Counting(placement, placed)

    def _both(self) -> bool:
        return bool(self.sender.events and self.receiver.events)

    def carry(self) -> None:
        for one, other in ((0, 1), (1, 0)):
            try:
                while True:
                    frame = self._wires[one].recv(70_000)
                    for each in self.on_way(frame) if other else (frame,):
                        self._wires[other].send(each)
            except BlockingIOError:
                pass  # also where the other end's queue is full: a loss

    def until(self, condition: Callable[[], Any]) -> None:
        self.world.until(lambda: (self.carry(), condition())[1], 60)

    def send(self, data: bytes, slow: int = 1) -> bytes:
        """All of it to the other end: what was read there, each `slow`th time."""
        sent, times, got = 0, 0, bytearray()
        view = memoryview(data)

        def go_on() -> bool:
            nonlocal sent, times
            try:
                sent += self.here.send(view[sent : sent + 200_000]) if sent < len(data) else 0
            except BlockingIOError:
                pass
            times += 1
            rx = self.end.rx
            count = 0 if times % slow else rx.used()
            for piece in rx.pieces(count):
                got.extend(piece)
            if count:
                rx.consumed(count)
                if rx.take_waiting():
                    self.end.ring()
            return len(got) >= len(data)

        self.until(go_on)
        return bytes(got)

    def counters(self, *names: str) -> list[int]:
        return [self.stack.counters.get(name) for name in names]

    def close(self) -> None:
        for each in self._wires:
            each.close()


Make = Callable[..., Cable]


@pytest.fixture
def cable(world: World) -> Iterator[Make]:
    made: list[Cable] = []

    def make(family: int = socket.AF_INET, timestamps: bool = True) -> Cable:
        made.append(Cable(world, [], family, timestamps))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert not world.errors


def data_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("family", HOSTS)
def test_large_segments_go_straight_into_the_ring_and_count_as_ever(cable: Make, family: int, timestamps: bool) -> None:
    it = cable(family, timestamps)
    data = data_of(4_000_000)
    names = ("IpInReceives", "IpInDelivers") if family == socket.AF_INET else ("Ip6InReceives", "Ip6InDelivers")
    before, frames = it.counters(*names, "TcpInSegs"), it.link.counters.rx_packets
    assert it.send(data) == data
    assert sum(it.placed) > 20, "of at least 60 segments"
    frames = it.link.counters.rx_packets - frames
    grown = [new - old for new, old in zip(it.counters(*names, "TcpInSegs"), before, strict=True)]
    assert grown[0] >= grown[1] >= grown[2] >= sum(it.placed)
    assert grown[0] <= frames, "others are ARP"
    assert it.link.counters.rx_bytes > len(data)


def test_segments_in_a_row_are_acknowledged_once(cable: Make) -> None:
    it = cable()
    assert it.send(bytes(2_000_000)) == bytes(2_000_000)
    acknowledged = it.link.counters.tx_packets
    data = data_of(2_000_000)
    it.placed.clear()
    assert it.send(data) == data
    assert max(it.placed) > 1
    assert it.link.counters.tx_packets - acknowledged < 2 * len(it.placed) + 20


def test_a_frame_with_a_broken_header_is_dropped_by_the_stack(cable: Make) -> None:
    it = cable()
    broken = 0

    def spoil(frame: bytes) -> Sequence[bytes]:
        nonlocal broken
        if len(frame) > LARGE and sum(it.placed) > 5 and broken < 3:
            broken += 1
            return (frame[:IDENT] + bytes((frame[IDENT] ^ 0x55,)) + frame[IDENT + 1 :],)
        return (frame,)

    it.on_way = spoil
    data = data_of(4_000_000)
    assert it.send(data) == data
    assert broken and it.counters("IpInHdrErrors") == [broken]


@pytest.mark.parametrize(("place", "what"), [(5, "the station"), (35, "the port"), (0, "the checksum's state")])
def test_a_frame_that_differs_in_what_names_its_connection_is_not_placed(cable: Make, place: int, what: str) -> None:
    it = cable()
    forged = 0

    def forge(frame: bytes) -> Sequence[bytes]:
        nonlocal forged
        if len(frame) < LARGE or sum(it.placed) < 5 or forged > 3:
            return (frame,)
        forged += 1
        at = VNET_BYTES + place if place else 0
        return (frame[:at] + bytes((frame[at] ^ 1,)) + frame[at + 1 : -1000] + bytes(1000), frame)

    it.on_way = forge
    data = data_of(3_000_000)
    assert it.send(data) == data and forged, what


def test_what_is_lost_comes_again_in_its_place(cable: Make) -> None:
    it = cable()
    seen = 0

    def lose(frame: bytes) -> Sequence[bytes]:
        nonlocal seen
        seen += len(frame) > LARGE
        return () if len(frame) > LARGE and seen % 20 == 0 else (frame,)

    it.on_way = lose
    data = data_of(4_000_000)
    assert it.send(data) == data
    assert sum(it.placed)


def test_other_frames_between_go_to_the_stack_in_their_turn(cable: Make) -> None:
    it = cable()
    head = bytes((2, 0, 0, 0, 0, 2)) + bytes((2, 0, 0, 0, 0, 1)) + struct.pack("!H", 0x88B5)
    large = mixed = 0

    def mix(frame: bytes) -> Sequence[bytes]:
        nonlocal large, mixed
        if len(frame) < LARGE:
            return (frame,)
        large += 1
        if large % 5:
            return (frame,)
        mixed += 1
        return (bytes(VNET_BYTES) + head + bytes(6000), frame)

    it.on_way = mix
    data = data_of(3_000_000)
    assert it.send(data) == data
    assert it.counters("DropEthernetUnknownType")[0] == mixed > 3 and sum(it.placed)


def test_a_reader_that_is_slow_closes_the_window_and_loses_nothing(cable: Make) -> None:
    it = cable()
    data = data_of(3_000_000)
    assert it.send(data, slow=40) == data
    assert sum(it.placed)


NAMES = (*range(6), 12, 13, *range(14, 34), *range(34, 38))  # station, type, IPv4 (it has a checksum), ports


@pytest.mark.parametrize("seed", range(8))
def test_forged_cut_repeated_and_swapped_frames_change_nothing_that_is_read(cable: Make, seed: int) -> None:
    """Each forgery and each cut frame has zeros for data and goes before the frame that it is made of."""
    it = cable(timestamps=bool(seed & 1))
    rng = random.Random(seed)
    held: list[bytes] = []

    def disturb(frame: bytes) -> Sequence[bytes]:
        frames = [*held, frame]
        held.clear()
        if len(frame) < LARGE:
            return frames
        what = rng.randrange(20)
        if what < 4:
            at = VNET_BYTES + rng.choice(NAMES)
            changed = bytes((frame[at] ^ rng.randrange(1, 256),))
            frames.insert(-1, frame[:at] + changed + frame[at + 1 : 200] + bytes(len(frame) - 200))
        elif what < 6:
            frames.insert(-1, (frame[:200] + bytes(len(frame) - 200))[: rng.randrange(20, len(frame))])
        elif what == 6:
            frames.append(frame)
        elif what == 7:
            held.append(frames.pop())
        return frames

    it.on_way = disturb
    data = data_of(3_000_000)
    assert it.send(data + bytes(1)) == data + bytes(1), "the last byte comes by itself, behind what is held"
    assert sum(it.placed)


# --- acknowledgements in a row ---


def frame_of(
    it: Cable, number: int, *, flags: int = 0x10, options: bytes = b"", data: bytes = b"", port: int = 0
) -> Packet:
    """A segment of the connection that acknowledges `number`; port: what to change its source port by."""
    (key,) = it.placement._flows
    version = 4 if len(key) == 12 else 6
    addresses, source, target = key[:-4], int.from_bytes(key[-4:-2], "big"), key[-2:]
    tcp = struct.pack("!H2sIIBBHHH", source ^ port, target, 77, number, 80 + len(options) * 4, flags, 1000, 0, 0)
    tcp += options + data
    if version == 4:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), number & 0xFFFF, 0x4000, 64, 6, number & 0xFF)
    else:
        ip = struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64)
    head = bytes(12) + (b"\x08\x00" if version == 4 else b"\x86\xdd") + ip + addresses + tcp
    packet = Packet(bytearray(head), len(head))
    packet.csum = CSUM_VALID
    return packet


def stamp(value: int) -> bytes:
    return b"\x01\x01\x08\x0a" + struct.pack("!II", value, 5)


@pytest.mark.parametrize("family", HOSTS)
def test_of_acknowledgements_in_a_row_the_last_is_enough(cable: Make, family: int) -> None:
    it = cable(family)
    for options in (lambda _: b"", stamp):
        row = [frame_of(it, number, options=options(number)) for number in (0xFFFFFFF0, 0, 5000, 9000)]
        assert it.placement.thin(row) == row[3:], "the second is more than the first: numbers go round"


def test_acknowledgements_that_tell_something_else_stay(cable: Make) -> None:
    it = cable()
    sack = b"\x01\x01\x05\x0a" + bytes(8)
    one, two = frame_of(it, 1000), frame_of(it, 2000)
    for row in (
        [one, frame_of(it, 1000)],  # a duplicate
        [two, one],  # an old one
        [one, frame_of(it, 2000, options=sack), frame_of(it, 3000, options=sack)],
        [frame_of(it, 1000, data=b"data"), frame_of(it, 2000, data=b"more")],
        [frame_of(it, 1000, flags=0x11), frame_of(it, 2000, flags=0x11)],  # FIN
        [frame_of(it, 1000, flags=0x50), frame_of(it, 2000, flags=0x50)],  # ECE
        [frame_of(it, 1000, port=1), frame_of(it, 2000, port=1)],  # of a connection that is not known here
        [one, frame_of(it, 1500, port=1), two],
        [frame_of(it, 1000, options=stamp(1)), two],
    ):
        assert it.placement.thin(list(row)) == row
    unvouched = [frame_of(it, 1000), frame_of(it, 2000)]
    unvouched[1].csum = CSUM_NONE
    assert it.placement.thin(list(unvouched)) == unvouched
    iface = next(each for each in it.stack.interfaces.values() if each.name == "wire")
    it.world.router.loop.captures[iface] = []
    assert it.placement.thin([one, two]) == [one, two]
    del it.world.router.loop.captures[iface]
    assert it.placement.thin([one, two]) == [two]


def by_the_link(it: Cable, row: Sequence[Packet]) -> list[bytes]:
    """What the link gives of frames that come in a row, unfinished ones of the host as they are."""
    for packet in row:
        it._wires[1].send(bytes((2 if packet.csum else 0,)) + bytes(VNET_BYTES - 1) + bytes(packet.head))
    return [bytes(each.head) for each in it.link.receive(64, 0)]


@pytest.mark.parametrize("family", HOSTS)
@pytest.mark.parametrize("options", [lambda _: b"", stamp])
def test_a_link_that_knows_acknowledgements_keeps_the_last_by_itself(
    cable: Make, family: int, options: Callable[[int], bytes]
) -> None:
    it = cable(family)

    def ack(number: int, **more: Any) -> Packet:
        return frame_of(it, number, **({"options": options(number)} | more))

    kept = [ack(2000), ack(2000), ack(1000), ack(5000, flags=0x11), ack(9000), ack(9500, port=1), ack(30)]
    unvouched = ack(9700)
    unvouched.csum = CSUM_NONE
    row = [
        ack(1),
        ack(1000),
        *kept[:2],
        ack(500),
        *kept[2:4],
        ack(6000),
        *kept[4:6],
        ack(0xFFFFFFF0),
        kept[6],
        unvouched,
    ]
    expected = [bytes(each.head) for each in (*kept, unvouched)]
    assert by_the_link(it, row) == expected, "by `thin`"
    thinned = it.counting.thinned
    thinned.clear()
    assert by_the_link(it, row) == expected
    assert thinned == [len(kept) + 1], "the link has kept no more"
    iface = next(each for each in it.stack.interfaces.values() if each.name == "wire")
    it.world.router.loop.captures[iface] = []
    assert by_the_link(it, row) == [bytes(each.head) for each in row], "somebody wants to see them"
    del it.world.router.loop.captures[iface]
    assert by_the_link(it, row) == expected and thinned[-1] == len(row), "it learns anew"
    (flow,) = it.placement._flows.values()
    it.placement.remove(flow.endpoint)
    assert it.placement.alike() == NOT_ALIKE


def test_who_wants_to_see_frames_sees_all(cable: Make) -> None:
    it = cable()
    assert it.send(bytes(1_000_000)) == bytes(1_000_000)
    seen: list[int] = []

    class Capture:
        failed = None

        def record(self, packets: Sequence[Packet], now: int) -> None:
            seen.extend(each.end for each in packets)

        def close(self) -> None:
            pass

    iface = next(each for each in it.stack.interfaces.values() if each.name == "wire")
    it.world.router.loop.captures[iface] = [Capture()]
    it.placed.clear()
    data = data_of(1_000_000)
    assert it.send(data) == data
    assert not it.placed and sum(seen) > len(data)
    del it.world.router.loop.captures[iface]
    assert it.send(data) == data and sum(it.placed)


def test_nonsense_in_the_ring_resets_that_connection(cable: Make) -> None:
    it = cable()
    assert it.send(bytes(1_000_000)) == bytes(1_000_000)
    it.end.memory[HEAD : HEAD + 8] = struct.pack("<Q", 1 << 40)
    it.here.send(data_of(150_000))
    it.until(lambda: (it.receiver.read(), it.receiver.events)[1])
    assert it.receiver.event("error") == [it.number, errno.ECONNRESET]


def test_a_connection_that_is_gone_is_expected_no_more(cable: Make) -> None:
    it = cable()
    assert it.send(bytes(1_000_000)) == bytes(1_000_000)
    assert it.placement.ready() and it.placement._flows
    it.receiver.notify("close", it.number)
    it.sender.notify("close", 7)
    it.until(lambda: not it.placement._flows)
    assert not it.placement.ready()

"""Streams in rings: clients that share memory with the router, over the virtual network between two namespaces."""

from __future__ import annotations

import errno
import fcntl
import gc
import mmap
import os
import random
import select
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from protocol.rings import CONSUMER_WAITS, DATA, HEAD, MAX_RING_BYTES, SLEEPS, TAIL, Consumer, Producer, mapping_bytes
from protocol.rpc.codec import Fd
from services.netstackd.socket_service import answers, limits, streams
from services.netstackd.storage.send_buffer import SendBuffer
from services.netstackd.transport.tcp import states
from tests.futex_waiter import FutexWaiter
from tests.netstack.interpreted import interpreted
from tests.netstack.socket_service.client import Client, Refused, World
from tests.netstack.socket_service.test_streams import STREAM, Pair

RX, TX = 1 << 16, 1 << 15
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def memory_file(size: int, seals: int = SEALS) -> int:
    """A memfd."""
    fd = os.memfd_create("ring", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def plain_file() -> int:
    """A file on a disk, of the right length."""
    with tempfile.TemporaryFile() as file:
        file.truncate(mapping_bytes(RX, TX))
        return os.dup(file.fileno())


class Ringed:
    """The client's side of an upgraded stream. `sent` and `received`: what went over the data socket before."""

    def __init__(
        self, client: Client, number: int, data: socket.socket, sent: int = 0, received: int = 0, rx: int = RX
    ) -> None:
        self.client, self.world, self.number, self.data = client, client.world, number, data
        fd = memory_file(mapping_bytes(rx, TX))
        self.memory = memoryview(mmap.mmap(fd, mapping_bytes(rx, TX)))
        self.rx = Consumer(self.memory, 0, DATA, rx)
        self.tx = Producer(self.memory, 1, DATA + rx, TX)
        self.delivered = client.call("rings", number, rx, TX, sent, Fd(fd))
        os.close(fd)
        self.before = client.receive(data, self.delivered - received)
        self.rung = 0  # doorbells that came
        self.ended = self.reset = False

    def look(self) -> None:
        """Read doorbells and the end of file."""
        while not self.ended:
            try:
                got = self.data.recv(1000)
            except BlockingIOError:
                return
            except ConnectionResetError:
                got = b""
                self.reset = True
            self.rung += len(got)
            self.ended = not got

    def ring(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            self.data.send(b"!")

    def write(self, data: bytes) -> None:
        """All of it, sleeping by the rules when there is no room."""
        view = memoryview(data)
        while view:
            room = min(self.tx.room(), len(view))
            if not room:
                if self.tx.arm():
                    before = self.rung
                    self.world.until(lambda before=before: (self.look(), self.rung > before)[1])
                continue
            self.tx.write(view[:room])
            view = view[room:]
            if self.tx.take_waiting():
                self.ring()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end of file; sleeping by the rules."""
        got = bytearray()
        while len(got) < size:
            count = min(self.rx.used(), size - len(got))
            if not count:
                if self.ended:
                    break
                if self.rx.arm():
                    before = self.rung
                    self.world.until(lambda before=before: (self.look(), self.rung > before or self.ended)[1])
                continue
            for piece in self.rx.pieces(count):
                got += piece
            self.rx.consumed(count)
            if self.rx.take_waiting():
                self.ring()
        return bytes(got)


@pytest.fixture
def pair(world: World) -> Iterator[Pair]:
    """Connected; nothing may have been logged as an error at the end."""
    yield Pair(world)
    assert not world.errors


def upgraded(pair: Pair) -> tuple[Ringed, Ringed]:
    return Ringed(pair.client, 7, pair.here), Ringed(pair.server, pair.number, pair.there)


def stream_of(pair: Pair) -> streams.Stream:
    """The client's stream as netstackd holds it."""
    for session in pair.world.router.sockets.sessions:
        found = session.sockets.get(7)
        if found is not None:
            assert isinstance(found, streams.Stream)
            return found
    raise AssertionError("no such stream")


# --- data ---


def test_bytes_go_both_ways_in_order_around_the_rings_many_times(pair: Pair) -> None:
    here, there = upgraded(pair)
    chance = random.Random(2)
    one, two = chance.randbytes(700_000), chance.randbytes(900_000)
    got = [bytearray(), bytearray()]
    while len(got[0]) < len(one) or len(got[1]) < len(two):
        for end, data, far in ((here, one, got[0]), (there, two, got[1])):
            room = min(end.tx.room(), chance.randrange(1, 40_000))
            sent = end.tx.position
            if data[sent : sent + room]:
                end.tx.write(data[sent : sent + room])
                if end.tx.take_waiting():
                    end.ring()
            other = there if end is here else here
            count = min(other.rx.used(), chance.randrange(1, 60_000))
            for piece in other.rx.pieces(count):
                far += piece
            other.rx.consumed(count)
            if other.rx.take_waiting():
                other.ring()
        pair.world.turn()
    assert (bytes(got[0]), bytes(got[1])) == (one, two)


def test_what_was_written_to_the_data_sockets_before_comes_first(pair: Pair) -> None:
    pair.here.send(b"by the socket ")
    pair.server.write(pair.there, b"answer ")
    assert pair.client.receive(pair.here, 3) == b"ans"
    here = Ringed(pair.client, 7, pair.here, sent=14, received=3)
    there = Ringed(pair.server, pair.number, pair.there, sent=7)
    assert here.before == b"wer " and there.before == b"by the socket "
    here.write(b"by the ring")
    there.write(b"by the other")
    assert there.read(11) == b"by the ring" and here.read(12) == b"by the other"


def test_bytes_that_the_router_has_not_read_yet_when_it_gets_the_ring_come_first(pair: Pair) -> None:
    total = 0
    while True:  # until neither the sockets nor the connection take any more
        try:
            total += pair.here.send(b"a" * 50_000)
        except BlockingIOError:
            before = total
            pair.world.turn(20)
            try:
                total += pair.here.send(b"a")
            except BlockingIOError:
                break
            assert total > before
    here = Ringed(pair.client, 7, pair.here, sent=total)
    for _ in range(5):
        here.ring()
    here.tx.write(b"z" * 1000)
    assert stream_of(pair)._collected < total, "the test shows nothing"
    there = Ringed(pair.server, pair.number, pair.there)
    assert there.before + there.read(total + 1000 - len(there.before)) == b"a" * total + b"z" * 1000


def test_a_full_ring_closes_the_window_and_costs_no_turns(pair: Pair) -> None:
    here, there = upgraded(pair)
    total = quiet = 0
    while quiet < 50:
        room = here.tx.room()
        if room:
            here.tx.write(bytes(room))
            total += room
            quiet = 0
        if here.tx.take_waiting():
            here.ring()
        quiet += 1
        pair.world.turn()
    assert RX - 2 * 1460 < there.rx.used() <= RX < total < RX + 20 * TX, "what waits in the ring is out of the window"
    loop = pair.world.router.loop
    pair.world.turn(20)
    assert loop._timeout() != 0, "the loop would spin"
    assert len(there.read(total)) == total


def test_two_idle_ends_are_told_of_a_byte_each_by_one_doorbell(pair: Pair) -> None:
    here, there = upgraded(pair)
    pair.world.turn(5)
    for end in (here, there):
        assert end.rx.arm()
    for _ in range(3):
        here.tx.write(b"x")
        assert here.tx.take_waiting(), "the router sleeps and says so"
        here.ring()
        pair.world.until(lambda: there.rx.used())
        there.look()
        assert there.rung and there.read(1) == b"x"
        there.rung = 0
        assert there.rx.arm()
    pair.world.turn(5)
    loop = pair.world.router.loop
    assert loop._timeout() != 0 and not here.rung


def test_while_acknowledgements_are_due_there_are_no_doorbells(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUSY_BYTES", 4000)
    here, _ = upgraded(pair)
    stream = stream_of(pair)
    pair.world.turn(5)
    server = pair.world.router.namespaces.find("server").stack
    server.set_up(next(each for each in server.interfaces.values() if each.name == "eth0"), False)
    here.tx.write(bytes(5000))
    assert here.tx.take_waiting(), "it sleeps"
    here.ring()
    pair.world.until(lambda: stream._collected == 5000)
    here.tx.write(b"x" * 100)
    assert not here.tx.take_waiting(), "it looks by itself soon"
    pair.world.until(lambda: stream._collected == 5100)  # by time alone
    here.tx.write(b"x" * 100)
    assert not here.tx.take_waiting()
    pair.world.until(lambda: stream._asleep)
    assert stream._collected == 5200
    here.tx.write(b"x")
    assert here.tx.take_waiting(), "nothing came for long: the next byte is told of"


def test_an_acknowledgement_has_the_ring_looked_at(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUSY_BYTES", 4000)
    monkeypatch.setattr(limits, "LOOK_NS", 1 << 62)
    here, there = upgraded(pair)
    endpoint = stream_of(pair)._endpoint
    assert endpoint is not None
    endpoint.options.sndbuf, endpoint.sndbuf = 1, 0  # there is never as much room as POLLOUT would tell of
    for count in range(1, 200):
        here.write(bytes(6000))
        assert len(there.read(6000)) == 6000, count


# --- a reader that sleeps on the ring itself ---
def asleep(end: Ringed, armed: int = 0) -> FutexWaiter:
    """A thread of the client's sleeps for what comes."""
    end.memory[:256].cast("I")[CONSUMER_WAITS // 4] = SLEEPS | armed
    return FutexWaiter(end.memory, CONSUMER_WAITS, SLEEPS | armed)


def turned_until(world: World, condition: Callable[[], Any]) -> None:
    """As `World.until`, but no turn waits, so that an answer may be looked for as long as it takes."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        world.turn()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is looked for until it is there."""
    monkeypatch.setattr(answers, "LOOK_NS", 1 << 60)


@pytest.mark.parametrize("armed", [0, 1])
def test_a_reader_that_sleeps_on_the_ring_is_woken_there_and_rung_for_only_if_it_is_armed(
    pair: Pair, armed: int
) -> None:
    here, there = upgraded(pair)
    pair.world.turn(5)
    waiter = asleep(there, armed)
    here.write(b"x")
    pair.world.until(waiter.woken.is_set)
    pair.world.turn(3)
    there.look()
    assert there.rung == armed and there.read(1) == b"x"


def test_its_answer_is_looked_for_without_a_doorbell(pair: Pair, patient: None) -> None:
    here, there = upgraded(pair)
    world = pair.world
    world.turn(5)
    stream = stream_of(pair)
    for _ in range(5):
        waiter = asleep(here)
        there.write(b"?")
        turned_until(world, waiter.woken.is_set)
        assert stream._expected and here.rx.used() == 1
        assert here.read(1) == b"?"
        here.tx.write(b"!")
        assert not here.tx.take_waiting(), "nobody is to ring"
        turned_until(world, lambda: there.rx.used())
        assert there.read(1) == b"!"
        assert not stream._expected
    world.turn(5)
    here.tx.write(b"!")
    assert here.tx.take_waiting(), "who has answered and says more is waited for as ever"


def test_an_answer_that_takes_long_is_told_of_and_soon_nobody_looks_any_more(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "LOOK_NS", 0)
    here, there = upgraded(pair)
    world = pair.world
    world.turn(5)
    stream = stream_of(pair)
    looked = 0
    for _ in range(6):
        waiter = asleep(here)
        there.write(b"?")
        turned_until(world, waiter.woken.is_set)
        looked += stream._expected
        world.until(lambda: not stream._expected)
        world.offset += 10_000_000
        world.turn(5)
        assert world.router.loop._timeout() != 0 and world.router.loop.poll == world.router.loop._epoll.poll
        assert here.read(1) == b"?"
        here.tx.write(b"!")
        assert here.tx.take_waiting()
        here.ring()
        turned_until(world, lambda: there.rx.used())
        assert there.read(1) == b"!"
    assert looked == answers.PATIENCE


def asked(pair: Pair) -> tuple[Ringed, streams.Stream]:
    """Our end of a stream in rings, its reader asleep, was woken by a question: its answer is looked for."""
    here, there = upgraded(pair)
    pair.world.turn(5)
    stream = stream_of(pair)
    waiter = asleep(here)
    there.write(b"?")
    turned_until(pair.world, waiter.woken.is_set)
    assert stream._expected
    return here, stream


def test_a_stream_that_ends_while_its_answer_is_looked_for_leaves_nothing(pair: Pair, patient: None) -> None:
    here, stream = asked(pair)
    world = pair.world
    pair.client.notify("abort", 7)
    turned_until(world, lambda: stream.state == streams.GONE)
    world.turn(3)
    assert not world.router.sockets.answers._expected and not stream._expected


def test_nonsense_instead_of_an_answer_costs_the_stream_alone(pair: Pair, patient: None) -> None:
    here, stream = asked(pair)
    world = pair.world
    here.memory.cast("Q")[(256 + TAIL) // 8] = 1 << 40
    turned_until(world, lambda: stream.state == streams.DEAD)
    world.turn(3)
    assert not world.router.sockets.answers._expected


def test_words_that_say_that_somebody_sleeps_where_nobody_does_harm_nobody(pair: Pair) -> None:
    here, there = upgraded(pair)
    world = pair.world
    for said in (SLEEPS, 0xFFFFFFFF, SLEEPS | 1, 0x7FFFFFFF):
        for end in (here, there):
            words = end.memory.cast("I")
            words[CONSUMER_WAITS // 4] = words[(256 + CONSUMER_WAITS) // 4] = said
        here.tx.write(b"x")
        here.ring()
        world.until(lambda: there.rx.used())
        assert there.read(1) == b"x"
        world.turn(5)


def test_doorbells_for_nothing_and_far_too_many_do_no_harm(pair: Pair) -> None:
    here, there = upgraded(pair)
    for count in (1, 1, 100_000, 200_000):
        with suppress(BlockingIOError):
            pair.here.send(bytes(count))
        pair.world.turn(2)
    here.write(b"still in step")
    assert there.read(13) == b"still in step"
    assert pair.world.router.loop._timeout() != 0


def test_the_place_of_bytes_is_given_back_only_when_they_are_acknowledged(pair: Pair) -> None:
    here, _ = upgraded(pair)
    pair.world.turn(5)
    here.tx.write(b"x" * 1000)
    here.ring()
    loop = pair.world.router.loop
    server = pair.world.router.namespaces.find("server").stack
    server.set_up(next(each for each in server.interfaces.values() if each.name == "eth0"), False)
    pair.world.turn(10)
    assert here.tx.room() == TX - 1000
    here.memory[DATA + RX : DATA + RX + 1000] = b"y" * 1000  # the sender's own damage, and nobody else's
    assert loop.turns


# --- ends ---


def test_shutdown_is_a_fin_after_what_is_in_the_ring_and_the_other_direction_goes_on(pair: Pair) -> None:
    here, there = upgraded(pair)
    here.tx.write(b"x" * TX)
    pair.here.shutdown(socket.SHUT_WR)  # no doorbell: the end of file tells
    assert there.read(TX + 1) == b"x" * TX and there.ended and not there.reset
    there.write(b"still here")
    assert here.read(10) == b"still here"
    pair.there.shutdown(socket.SHUT_WR)
    assert here.read(1) == b"" and not here.reset
    assert not [event for event in pair.client.events if event.method == "error"]
    pair.client.notify("close", 7)
    assert pair.client.event("gone") == [7]


def test_shutdown_while_the_ring_is_too_full_to_be_taken_by_the_network(pair: Pair) -> None:
    here, there = upgraded(pair)
    sent = 0
    for _ in range(60):
        room = here.tx.room()
        here.tx.write(b"q" * room)
        sent += room
        here.ring()
        pair.world.turn()
    pair.here.shutdown(socket.SHUT_WR)
    pair.world.turn(5)
    assert there.read(sent + 1) == b"q" * sent and there.ended


@pytest.mark.parametrize("first", ["close", "data socket"])
def test_close_sends_what_is_in_the_ring_then_fin_then_gone(pair: Pair, first: str) -> None:
    here, there = upgraded(pair)
    here.tx.write(b"last words")
    if first == "close":
        pair.client.notify("close", 7)
        pair.world.turn(3)
        pair.here.close()
    else:
        pair.here.close()
        pair.world.turn(3)
        pair.client.notify("close", 7)
    assert there.read(11) == b"last words" and not there.reset
    assert pair.client.event("gone") == [7]
    pair.client.call("open", 7, *STREAM)


@pytest.mark.parametrize("first", ["close", "data socket"])
def test_close_with_unread_bytes_in_the_ring_resets(pair: Pair, first: str) -> None:
    _, there = upgraded(pair)
    there.tx.write(b"never read")
    there.ring()
    pair.world.turn(10)
    if first == "close":
        pair.client.notify("close", 7)
    else:
        pair.here.close()
    assert pair.server.event("error") == [pair.number, errno.ECONNRESET]


def test_close_of_a_reader_that_has_read_all_but_not_its_doorbells_is_no_reset(pair: Pair) -> None:
    here, there = upgraded(pair)
    assert here.rx.arm()
    there.write(b"all read")
    pair.world.until(lambda: here.rx.used())
    for _ in here.rx.pieces(8):
        here.rx.consumed(8)
    pair.here.close()  # the doorbell is in it
    assert there.read(1) == b"" and there.ended
    assert not [event for event in pair.server.events if event.method == "error"]


def test_bytes_for_a_closed_reader_reset(pair: Pair) -> None:
    _, there = upgraded(pair)
    pair.here.close()
    pair.world.turn(5)
    there.write(b"to nobody")
    assert pair.server.event("error")[0] == pair.number


def test_what_came_before_a_reset_can_still_be_read_and_the_error_is_told_first(pair: Pair) -> None:
    here, there = upgraded(pair)
    there.write(b"before it")
    pair.world.until(lambda: here.rx.used() == 9)
    pair.server.notify("abort", pair.number)
    assert pair.client.event("error") == [7, errno.ECONNRESET]
    assert here.read(10) == b"before it" and here.ended


def test_the_end_of_a_client_sends_what_is_in_its_rings(pair: Pair) -> None:
    here, there = upgraded(pair)
    here.tx.write(b"x" * 20_000)
    pair.client.close()
    assert there.read(20_001) == b"x" * 20_000


# --- urgent data ---


def test_urgent_bytes_keep_their_place_among_those_of_the_ring(pair: Pair) -> None:
    here, there = upgraded(pair)
    here.tx.write(b"abcde")
    pair.client.call("urgent", 7, ord("!"), 5)
    here.write(b"fgh")
    assert pair.server.event("urgent") == [pair.number, ord("!"), 5]
    assert there.read(8) == b"abcdefgh"
    # the count of what is acknowledged goes on from there
    here.write(b"x" * 3 * TX)
    assert there.read(3 * TX) == b"x" * 3 * TX
    pair.world.turn(5)
    assert here.tx.room() == TX


# --- what is refused ---


def ask(pair: Pair, rx: int, tx: int, sent: int, fd: int) -> int:
    """The errno."""
    try:
        pair.client.call("rings", 7, rx, tx, sent, Fd(fd))
    except Refused as refused:
        return refused.errno
    finally:
        os.close(fd)
    return 0


SIZE = mapping_bytes(RX, TX)


@pytest.mark.parametrize(
    "make",
    [
        lambda: memory_file(SIZE, 0),
        lambda: memory_file(SIZE, fcntl.F_SEAL_GROW),
        lambda: memory_file(SIZE, SEALS | fcntl.F_SEAL_WRITE),
        lambda: memory_file(SIZE - 1),
        lambda: memory_file(SIZE + 4096),
        lambda: memory_file(0),
        lambda: os.open("/", os.O_RDONLY),
        lambda: os.pipe()[0],
        lambda: plain_file(),
        lambda: socket.socket().detach(),
    ],
)
def test_what_is_no_memory_of_the_right_kind_is_refused_and_the_stream_goes_on(
    pair: Pair, make: Callable[[], int]
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    fd = make()
    assert ask(pair, RX, TX, 0, fd) == errno.EINVAL
    pair.here.send(b"by the socket")
    assert pair.server.receive(pair.there, 13) == b"by the socket"
    assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.parametrize(("rx", "tx"), [(0, TX), (RX, 1 << 11), (RX + 1, TX), (3 << 14, TX), (RX, MAX_RING_BYTES * 2)])
def test_sizes_that_no_ring_has_end_the_conversation(pair: Pair, rx: int, tx: int) -> None:
    fd = memory_file(mapping_bytes(rx, tx))
    pair.client.send("rings", 7, rx, tx, 0, Fd(fd))
    os.close(fd)
    pair.world.until(lambda: (pair.client.read(), pair.client.ended)[1])
    assert pair.server.receive(pair.there, 1) == b""


def test_only_connected_streams_and_those_only_once(pair: Pair) -> None:
    upgraded(pair)
    assert ask(pair, RX, TX, 0, memory_file(SIZE)) == errno.EALREADY
    pair.client.call("open", 8, *STREAM)
    pair.client.call("open", 9, socket.AF_INET, socket.SOCK_DGRAM, 0)
    for number, code in ((8, errno.ENOTCONN), (9, errno.EOPNOTSUPP), (10, errno.EBADF)):
        fd = memory_file(SIZE)
        with pytest.raises(Refused) as refused:
            pair.client.call("rings", number, RX, TX, 0, Fd(fd))
        os.close(fd)
        assert refused.value.errno == code


def test_less_cannot_have_been_sent_than_came(pair: Pair) -> None:
    pair.here.send(b"five!")
    assert pair.server.receive(pair.there, 5) == b"five!"
    assert ask(pair, RX, TX, 4, memory_file(SIZE)) == errno.EINVAL


def test_limits_of_a_client_hold_and_end_with_the_stream(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_RINGS", 0)
    assert ask(pair, RX, TX, 0, memory_file(SIZE)) == errno.ENOSPC
    monkeypatch.setattr(limits, "MAX_RINGS", 1)
    monkeypatch.setattr(limits, "MAX_RINGS_BYTES", SIZE - 1)
    assert ask(pair, RX, TX, 0, memory_file(SIZE)) == errno.ENOSPC
    monkeypatch.setattr(limits, "MAX_RINGS_BYTES", SIZE)
    session = stream_of(pair).session
    upgraded(pair)
    assert (session.rings, session.rings_bytes) == (1, SIZE)
    pair.client.notify("close", 7)
    pair.client.event("gone")
    assert (session.rings, session.rings_bytes) == (0, 0)


def test_memory_is_unmapped_and_no_descriptor_kept(pair: Pair) -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as maps:
            return sum("memfd:ring" in line for line in maps)

    gc.collect()  # of tests before
    before, files = mapped(), len(os.listdir("/proc/self/fd"))
    here, there = upgraded(pair)
    here.write(b"x" * 60_000)
    there.read(60_000)
    assert len(os.listdir("/proc/self/fd")) == files + 2  # the test's own: mmap.mmap keeps one
    assert mapped() == before + 4
    for client, number in ((pair.client, 7), (pair.server, pair.number)):
        client.notify("close", number)
        client.event("gone", number)
    pair.world.turn(5)
    assert mapped() == before + 2


def test_less_sent_than_said_is_a_violation(pair: Pair) -> None:
    Ringed(pair.client, 7, pair.here, sent=10)
    pair.here.send(b"short")
    pair.here.shutdown(socket.SHUT_WR)
    assert pair.client.event("error") == [7, errno.ECONNRESET]
    assert pair.server.event("error") == [pair.number, errno.ECONNRESET]


@pytest.mark.parametrize(
    ("ring", "word", "value"),
    [
        (1, TAIL, 200 + TX + 1),  # more than fits
        (1, TAIL, (1 << 64) - 1),  # behind what was consumed
        (1, TAIL, 150),  # behind what was taken, but not yet acknowledged
        (0, HEAD, 1),  # read what was never there
        (0, HEAD, (1 << 64) - RX - 1),
    ],
)
def test_words_that_cannot_be_true_cost_that_stream_and_nothing_else(
    pair: Pair, ring: int, word: int, value: int
) -> None:
    here, there = upgraded(pair)
    here.write(b"x" * 100)
    assert there.read(100) == b"x" * 100
    pair.world.turn(5)
    stream = stream_of(pair)
    here.tx.write(b"y" * 100)
    here.ring()
    # taken; the loop has not turned, so nothing of it was sent
    stream._on_data_socket(select.EPOLLIN, pair.world.router.loop.now)
    here.memory[ring * 256 + word : ring * 256 + word + 8] = value.to_bytes(8, "little")
    here.ring()
    if not ring:
        there.write(b"z")
    assert pair.client.event("error") == [7, errno.ECONNRESET]
    assert pair.server.event("error") == [pair.number, errno.ECONNRESET]
    assert stream.session.service.counts["RingViolations"] == 1
    pair.client.call("open", 8, *STREAM)  # the conversation goes on


def test_nonsense_in_the_words_never_costs_the_router_more_than_the_stream(pair: Pair) -> None:
    chance = random.Random(5)
    client, server, world = pair.client, pair.server, pair.world
    for number in range(100, 140):
        client.call("open", number, *STREAM)
        client.notify("connect", number, pair.remote)
        _, _, _, fd = client.event("connected", number)
        end = Ringed(client, number, client.open_data(fd))
        _, other, _, _, fd = server.event("accepted")
        server.call("taken", 1, 1)
        there = server.open_data(fd)
        for _ in range(20):
            place = chance.choice([0, 64, 128, 192, 256, 320, 384, 448])
            value = chance.choice([0, 1, chance.randrange(1 << 64), chance.randrange(1 << 17), (1 << 64) - 1])
            end.memory[place : place + 8] = value.to_bytes(8, "little")
            end.ring()
            with suppress(OSError):
                there.send(chance.randbytes(500))
            world.turn()
        client.notify("close", number)
        server.notify("abort", other)
        client.event("gone", number)
        server.event("gone", other)
    assert client.call("sockets")[0]["state"] == states.ESTABLISHED, "the first one knows nothing of it"


def test_descriptors_where_none_belong_are_closed(pair: Pair) -> None:
    def copies() -> int:
        with os.scandir("/proc/self/fd") as entries:
            return sum("misplaced" in os.readlink(entry.path) for entry in entries)

    fd = os.memfd_create("misplaced")
    _, (data, _) = pair.client.connection.call("rings", [7, RX, TX, 0, 5])  # a number is no descriptor
    socket.send_fds(pair.client.sock, [data], [fd])  # and this one is named by nobody
    _, (data, fds) = pair.server.connection.call("taken", [1, Fd(fd)])
    socket.send_fds(pair.server.sock, [data], fds)
    for client in (pair.client, pair.server):
        pair.world.until(lambda client=client: (client.read(), client.ended)[1])
    assert copies() == 1
    os.close(fd)


SourceRingData = interpreted("services.netstackd.socket_service.ring_data").RingData


class Sink:
    """What takes the bytes of a ring: as much of an Endpoint as that needs."""

    def __init__(self) -> None:
        self.snd_una = 1000
        self.send = SendBuffer(1000)

    def share(self, memory: memoryview, start: int, count: int) -> None:
        self.send.share(memory[start:], count)


def test_whole_units_are_taken_while_one_is_there_or_on_its_way() -> None:
    memory = memoryview(bytearray(SIZE))
    producer = Producer(memory, 1, DATA + RX, TX)
    rings, sink = SourceRingData(memory, RX, TX, 0), Sink()
    taken = []
    for count in (99, 0, 250, 49, 1):
        producer.write(bytes(count))
        taken.append(rings.take(sink, 1000, 100))
    assert taken == [99, 0, 200, 0, 100]
    producer.write(bytes(350))
    assert rings.take(sink, 250, 100) == 200  # type: ignore[arg-type]
    sink.snd_una = sink.send.end - 99
    assert rings.take(sink, 1000, 1) == 150, "of a unit of one everything"  # type: ignore[arg-type]
    producer.write(bytes(50))
    sink.snd_una = sink.send.end - 99
    assert rings.take(sink, 1000, 100) == 50, "nothing that it could wait for"  # type: ignore[arg-type]


def test_a_busy_client_s_short_segment_waits_for_an_acknowledgement_but_not_for_ever(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BUSY_BYTES", 1000)
    monkeypatch.setattr(limits, "LOOK_NS", 1 << 62)
    here, there = upgraded(pair)
    stream, endpoint = stream_of(pair), stream_of(pair)._endpoint
    assert endpoint is not None
    endpoint.mss = 1000
    endpoint.route.gso_max = 5000  # type: ignore[misc]
    endpoint.p.pacing = False
    server = pair.world.router.namespaces.find("server").stack
    eth0 = next(each for each in server.interfaces.values() if each.name == "eth0")
    pair.world.turn(5)

    def looked(count: int) -> int:
        """What is taken in all after so many more bytes, by a look that nobody rang for."""
        here.tx.write(bytes(count))
        endpoint.wake()
        stream.session.touch()
        pair.world.turn(2)
        return stream._collected

    server.set_up(eth0, False)
    assert looked(5000) == 5000
    assert [looked(count) for count in (7000, 2999, 1)] == [10_000, 10_000, 15_000], "while none is acknowledged"
    endpoint.options.nodelay = True
    assert looked(100) == 15_100
    endpoint.options.nodelay = False
    assert looked(100) == 15_100
    server.set_up(eth0, True)
    assert len(there.read(15_200)) == 15_200
    server.set_up(eth0, False)
    monkeypatch.setattr(limits, "LOOK_NS", 0)
    assert looked(5000) == 20_200
    assert looked(5001) == 25_201, "nothing came for long"


def test_place_is_given_back_as_the_ring_counts_not_as_the_connection_does() -> None:
    """An urgent byte has a sequence number and no place in the ring."""
    memory = memoryview(bytearray(SIZE))
    producer = Producer(memory, 1, DATA + RX, TX)
    rings = SourceRingData(memory, RX, TX, 0)
    sink: Any = Sink()
    producer.write(b"abcde")
    assert rings.take(sink, 3) == 3 and rings.take(sink, 100) == 2
    sink.send.append(b"!")
    producer.write(b"fgh")
    assert rings.take(sink, 100) == 3
    for first, room in ((1000, 8), (1004, 4), (1005, 3), (1006, 3), (1007, 2), (1009, 0)):
        rings.release(first)
        assert TX - producer.room() == room

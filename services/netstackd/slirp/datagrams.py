"""Datagrams that leave the virtual network: one connected host socket for each flow, given up when it has been idle.

A flow is what connection tracking would call one: UDP by both addresses and ports, echo requests by both addresses and
the identifier. Its times are those of Linux's tracking: 30 s until there was an answer, then 120 s.

The table is bounded. When it is full the oldest flow that was never answered makes room; flows that were are not thrown
out for new ones, which are dropped and counted then. So a flood costs the flooder.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.errors import NetError
from services.netstackd.network.icmp import PORT_UNREACHABLE
from services.netstackd.slirp.host import HostSocket
from services.netstackd.slirp.tcp import send_unreachable
from services.netstackd.storage.packet import GSO_UDP, Packet
from services.netstackd.transport.base import AF_INET, AF_INET6
from services.netstackd.transport.ports import Binding
from services.netstackd.transport.udp import UdpSocket

if TYPE_CHECKING:
    from services.netstackd.network.icmp import IcmpError
    from services.netstackd.stack import Stack

SECOND: Final = 1_000_000_000
UNANSWERED: Final = 30 * SECOND
ANSWERED: Final = 120 * SECOND
SWEEP: Final = 5 * SECOND  # how often it is looked who is idle
BATCH: Final = 32  # datagrams of one flow in one turn
WAITING: Final = 16  # datagrams that wait for a flow's host socket
_QUOTE_BYTES: Final = 600  # of a packet that is kept for an error that may come; RFC 1812 section 4.3.2.3
_LARGEST: Final = 65535

_FULL: Final = COUNTER["DropSlirpTableFull"]
_QUEUE: Final = COUNTER["DropSlirpQueueFull"]
_HOST_ERROR: Final = COUNTER["DropSlirpHostError"]
_PING_REFUSED: Final = COUNTER["DropSlirpPingRefused"]

Key = tuple[int, int, int, int]


class Flow:
    """What the table needs of one, and its way out: what waits for the host's socket, and what comes and goes by it."""

    stack: Stack
    host: HostSocket | None
    answered: bool
    last: int  # when something passed
    over: bool
    _table: FlowTable
    _waiting: list[bytes]

    def opened(self, result: HostSocket | int) -> None:
        """The host's socket, or the errno why there is none (EACCES: net.ipv4.ping_group_range forbids echoes)."""
        if isinstance(result, int):
            if not self.over:
                self._failed(result)
                self._table.remove(self)
            return
        if self.over:
            result.close()
            return
        self.host = result
        result.watch(self._host_ready)
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self._emit_outside(data)

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for the host's socket."""
        return bool(self._waiting)

    def end(self) -> None:
        """Give up the host's socket and the place in the stack."""
        if self.host is not None:
            self.host.close()
            self.host = None
        self._waiting.clear()

    def to_guest(self, data: bytes) -> None:
        """A datagram from outside."""
        raise NotImplementedError

    def _failed(self, number: int) -> None:
        """The host says that a datagram did not arrive: so do we."""
        raise NotImplementedError

    def _to_outside(self, data: bytes | memoryview) -> bool:
        """A datagram from inside. False when it waits for nothing, as the queue is full."""
        if self.host is not None:
            self._emit_outside(data)
        elif len(self._waiting) < WAITING:
            self._waiting.append(bytes(data))
        else:
            self.stack.counters.values[_QUEUE] += 1
            return False
        return True

    def _emit_outside(self, data: bytes | memoryview) -> None:
        host = self.host
        if host is None:
            return
        try:
            host.send(data)
        except BlockingIOError:
            self.stack.counters.values[_QUEUE] += 1
        except OSError as error:
            self._failed(error.errno or errno.EIO)

    def _host_ready(self, events: int) -> None:
        for _ in range(BATCH):
            host = self.host
            if host is None:
                return
            try:
                data = host.receive(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error.errno or errno.EIO)
                return
            self.to_guest(data)


class FlowTable:
    """All flows, those idle longest first."""

    def __init__(self, stack: Stack, limit: int) -> None:
        self._stack = stack
        self.limit = limit
        self._new: OrderedDict[Flow, None] = OrderedDict()
        self._answered: OrderedDict[Flow, None] = OrderedDict()
        self._timer = stack.timers.new(self._sweep)

    def __len__(self) -> int:
        return len(self._new) + len(self._answered)

    def flows(self) -> list[Flow]:
        """All."""
        return [*self._new, *self._answered]

    def is_sending(self) -> bool:
        """Whether datagrams wait for a host socket."""
        return any(flow.is_waiting for flow in self._new)  # an answer came by a socket that was there

    def make_room(self) -> bool:
        """Whether one more may come; counts when not."""
        if len(self) < self.limit:
            return True
        if self._new:
            self.remove(next(iter(self._new)))
            return True
        self._stack.counters.values[_FULL] += 1
        return False

    def add(self, flow: Flow) -> None:
        """Take in."""
        flow.last = self._stack.now
        if not len(self):
            self._timer.set(self._stack.now + SWEEP)
        self._new[flow] = None

    def touch(self, flow: Flow, answer: bool) -> None:
        """Something has passed; `answer`: from outside."""
        flow.last = self._stack.now
        if flow.answered:
            self._answered.move_to_end(flow)
        elif answer:
            flow.answered = True
            del self._new[flow]
            self._answered[flow] = None
        else:
            self._new.move_to_end(flow)

    def remove(self, flow: Flow) -> None:
        """End a flow; a second time does nothing."""
        if flow.over:
            return
        flow.over = True
        (self._answered if flow.answered else self._new).pop(flow, None)
        flow.end()

    def _sweep(self, now: int) -> None:
        for table, idle in ((self._new, UNANSWERED), (self._answered, ANSWERED)):
            while table:
                oldest = next(iter(table))
                if oldest.last + idle > now:
                    break
                self.remove(oldest)
        if len(self):
            self._timer.set(now + SWEEP)

    def close(self) -> None:
        """End all."""
        self._timer.cancel()
        for flow in self.flows():
            self.remove(flow)


class UdpFlow(UdpSocket, Flow):
    """Datagrams between one inner address and port and one outer one. In the stack it is a socket that is connected to
    the inner end and has the outer address as its own; it holds no port, being found by its flow alone."""

    begun_outside = False  # who speaks first; the other one's datagrams are answers

    def __init__(self, stack: Stack, table: FlowTable, version: int, flow: Key) -> None:
        super().__init__(stack, AF_INET if version == 4 else AF_INET6)
        self.host = None
        self.answered = self.over = False
        self.last = stack.now
        self._table = table
        self._waiting: list[bytes] = []
        self._quote: Packet | None = None  # what was heard last from inside
        inner, outer, inner_port, outer_port = flow
        self.local, self.local_port = outer, outer_port
        self.remote = (inner, inner_port, 0)
        self.binding = Binding(version, outer, outer_port, owner=self)  # in no table of ports
        self._flow = flow
        self._flow_version = version
        stack.udp.connect(self, flow, version)

    @classmethod
    def out(cls, stack: Stack, table: FlowTable, packet: Packet) -> UdpFlow:
        """The flow that a datagram from inside begins."""
        return cls(stack, table, packet.version, (packet.src, packet.dst, packet.sport, packet.dport))

    def enqueue(self, packet: Packet) -> bool:
        """A datagram from inside. False when it waits for nothing, as the queue is full."""
        self._table.touch(self, self.begun_outside)
        self._quote = packet
        head, start, end = packet.head, packet.payload, packet.end
        step = packet.gso_size if packet.gso_size and packet.gso_type == GSO_UDP else end - start
        view = memoryview(head)
        taken = True
        for at in range(start, max(end, start + 1), max(step, 1)):
            data = view[at : min(at + step, end)]
            if not self._to_outside(data):
                taken = False
        return taken

    def to_guest(self, data: bytes) -> None:
        """A datagram from outside."""
        self._table.touch(self, not self.begun_outside)
        try:
            self.send(data)
        except NetError:
            self.stack.counters.values[_HOST_ERROR] += 1

    def _failed(self, number: int) -> None:
        """The host says that a datagram did not arrive: so do we."""
        self.stack.counters.values[_HOST_ERROR] += 1
        if self._quote is None:
            return
        packet = quotable(self._quote)
        if number == errno.ECONNREFUSED:
            self.stack.send_unreachable(packet, PORT_UNREACHABLE)
        else:
            send_unreachable(self.stack, packet, number)

    def queue_error(self, error: IcmpError) -> None:
        """An ICMP error from inside about an answer: its socket is gone, and so is the flow."""
        if error.fatal:
            self._table.remove(self)

    def end(self) -> None:
        """See Flow."""
        Flow.end(self)
        self.close()


class EchoFlow(Flow):
    """Echo requests of one inner address and identifier to one outer address."""

    def __init__(self, stack: Stack, table: FlowTable, packet: Packet, over: Callable[[EchoFlow], None]) -> None:
        self.host = None
        self.answered = self.over = False
        self.last = stack.now
        self.version = packet.version
        self.inner, self.outer = packet.src, packet.dst
        self.ident = int.from_bytes(packet.head[packet.l4 + 4 : packet.l4 + 6], "big")
        self.stack = stack
        self._table = table
        self._on_over = over
        self._waiting: list[bytes] = []
        self._quote = packet

    @property
    def key(self) -> Key:
        """What makes requests one flow."""
        return self.version, self.inner, self.outer, self.ident

    def request(self, packet: Packet) -> None:
        """A request from inside; its identifier is the host kernel's business outside."""
        self._table.touch(self, False)
        self._quote = packet
        self._to_outside(memoryview(packet.head)[packet.l4 : packet.end])

    def to_guest(self, data: bytes) -> None:
        """An answer from outside."""
        if len(data) >= 8:
            self._table.touch(self, True)
            self._reply(int.from_bytes(data[6:8], "big"), data[8:])

    def _failed(self, number: int) -> None:
        refused = number in (errno.EACCES, errno.EPERM)
        self.stack.counters.values[_PING_REFUSED if refused else _HOST_ERROR] += 1
        send_unreachable(self.stack, quotable(self._quote), number)

    def _reply(self, sequence: int, data: bytes) -> None:
        stack = self.stack
        way = stack.routing(self.version).output(self.inner, self.outer)
        if not way.error:
            icmp = stack.icmp(self.version)
            icmp.send(way, self.outer, self.inner, icmp.echo_reply, 0, self.ident << 16 | sequence, data)

    def end(self) -> None:
        """See Flow."""
        super().end()
        self._on_over(self)


def quotable(packet: Packet) -> Packet:
    """The packet, or when it is long one with the beginning of its bytes: enough for what an error quotes."""
    if packet.end <= _QUOTE_BYTES and packet.body is None:
        return packet
    twin = packet.copy()
    twin.end = min(packet.end, _QUOTE_BYTES)
    twin.head = bytes(memoryview(packet.head)[: twin.end])
    twin.body = None
    return twin

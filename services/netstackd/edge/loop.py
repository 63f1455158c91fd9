"""The event loop: waits for descriptors and deadlines, moves batches between links and stacks, flushes once a turn.

A turn: at most BATCH frames of each link that is readable go to `Stack.receive`; timers that are due fire; one flush;
what interfaces then hold goes to their links. Between turns the process sleeps in epoll until a descriptor is ready or
the earliest deadline (of a stack, a link or a service) has come: idle, it uses no CPU. Work per turn is bounded, so
control requests and timers are served under any load.

The first stack is the router's: anyone may call it, and each turn asks it whether it has something to say. Others
(network namespaces) come and go by `add_stack` and `remove_stack`; a turn looks at those alone that something happened
to: frames came, a timer fired, or somebody called their sockets and said so by `touch`. Their deadlines stand in one
heap, and the earliest of all is looked for once a turn, before the sleep. So an idle namespace costs a turn nothing. An
entry may be too early, when the timer that it is about was set anew: it is looked into when it comes up.
Frames that links inside the process (links/veth.py) move from stack to stack are received in rounds within the turn, at
most ROUNDS; what is left then waits for the next turn. `on_flushed` is called after each round's flushes, before
what they queued is sent: sockets have told their readiness by then.

`captures` see frames of an interface on their way in and out; an interface without captures pays one test a batch.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Final, Protocol

from services.netstackd.edge.processors import Processors
from services.netstackd.links.base import BATCH, Link
from services.netstackd.links.bridge import Bridge
from services.netstackd.links.veth import VethLink
from services.netstackd.network.interface import Interface
from services.netstackd.stack import Stack
from services.netstackd.storage.packet import Packet, spread

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_TROUBLE: Final = select.EPOLLERR | select.EPOLLHUP
_MILLISECOND: Final = 1_000_000
MAX_SLEEP_NS: Final = 3600 * 1_000_000_000
ROUNDS: Final = 16  # of frames between stacks in one turn

Watcher = Callable[[int, int], None]  # (epoll events, now)


class Capture(Protocol):
    """Something that wants to see frames (links.pcap.PcapWriter)."""

    failed: str | None

    def record(self, packets: Sequence[Packet], now: int) -> None:
        """Frames that pass at `now`."""

    def close(self) -> None:
        """No more will come."""


class _Feed:
    """A link that is watched: where its frames go, and what epoll knows about it."""

    __slots__ = ("bridge", "dead", "fd", "iface", "keeps_backlog", "link", "mask", "stack")

    def __init__(self, link: Link, iface: Interface, bridge: Bridge | None, stack: Stack) -> None:
        self.link = link
        self.iface = iface
        self.stack = stack
        self.bridge = bridge
        self.fd = -1
        self.mask = 0
        self.dead = False
        self.keeps_backlog = type(link).wants_write is Link.wants_write  # what waits to be written is its `backlog`


class Loop:
    """See the module docstring. `on_broken(link, iface)` is told once when the host takes a link away."""

    def __init__(self, stack: Stack, clock: Callable[[], int], on_broken: Callable[[Link, Interface], None]) -> None:
        self._stack = stack
        self.clock = clock
        self._on_broken = on_broken
        self._epoll = select.epoll()
        #: How a turn waits: seconds (0: not at all, negative: for ever) to events. Who has other things to look at than
        #: descriptors stands in for it for a while (socket_service/answers.py).
        self.poll: Callable[[float], list[tuple[int, int]]] = self._epoll.poll
        self._watchers: dict[int, Watcher] = {}
        self._feeds: list[_Feed] = []
        self._inside: dict[VethLink, _Feed] = {}
        self._arrived: list[_Feed] = []  # of those, what has frames to be received
        # Stack -> time of its entry in the heap of deadlines, None for none. The router's own is looked at every turn.
        self._queued: dict[Stack, int | None] = {}
        self._alarms: list[tuple[int, int, Stack]] = []
        self._order = 0
        self._touched: dict[Stack, None] = {}
        self._due: int | None = None  # the earliest deadline, as found before the sleep
        self.on_flushed: Callable[[int], None] | None = None
        self._running = False
        self.captures: dict[Interface, list[Capture]] = {}
        self.turns = 0
        self.now = clock()
        #: Looked at as turns begin, once it is due; None: on this host the process stays where it is put.
        self.processors: Processors | None = None

    @property
    def fd(self) -> int:
        """The epoll descriptor: needed after the seal."""
        return self._epoll.fileno()

    # -- what is watched --

    def add_link(self, iface: Interface, link: Link, stack: Stack | None = None) -> None:
        """Move frames between `link` and `iface` (of the router's stack, or of `stack`) from now on."""
        iface.link = link
        iface.takes_runs = link.takes_runs
        if isinstance(link, Bridge):
            for port in link.ports:
                self._add_feed(_Feed(port, iface, link, stack or self._stack))
        else:
            self._add_feed(_Feed(link, iface, None, stack or self._stack))

    def add_port(self, iface: Interface, port: Link) -> None:
        """One more port for the bridge that `iface` of the router's stack is."""
        bridge = iface.link
        assert isinstance(bridge, Bridge)
        bridge.ports.append(port)
        self._add_feed(_Feed(port, iface, bridge, self._stack))

    def remove_port(self, iface: Interface, port: Link) -> None:
        """Take a port out of a bridge; the link stays open."""
        bridge = iface.link
        assert isinstance(bridge, Bridge)
        bridge.forget_port(port)
        self._drop_feeds(lambda feed: feed.link is port)

    def _drop_feeds(self, which: Callable[[_Feed], bool]) -> None:
        for feed in [feed for feed in self._feeds if which(feed)]:
            self._feeds.remove(feed)
            self._unwatch(feed)
        for link, feed in [item for item in self._inside.items() if which(item[1])]:
            del self._inside[link]
            feed.dead = True
            link.on_arrival = None

    def add_stack(self, stack: Stack) -> None:
        """Drive one more stack."""
        self._queued[stack] = None
        self._touched[stack] = None

    def remove_stack(self, stack: Stack) -> None:
        """Drive it no more. Its links are to be removed before."""
        self._queued.pop(stack, None)
        self._touched.pop(stack, None)

    def touch(self, stack: Stack) -> None:
        """Something was done to a stack: it has to be flushed in this turn, or the next."""
        self._touched[stack] = None

    def remove_link(self, iface: Interface) -> None:
        """Stop, and close the link."""
        self._drop_feeds(lambda feed: feed.iface is iface)
        link: Link = iface.link
        iface.link = None
        for capture in self.captures.pop(iface, []):
            capture.close()
        link.close()

    def watch(self, fd: int, events: int, watcher: Watcher) -> None:
        """Call `watcher` when `fd` has one of `events` (select.EPOLL...)."""
        if fd in self._watchers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watchers[fd] = watcher

    def forget(self, fd: int) -> None:
        """Before `fd` is closed, when no other descriptor is of the same open file: the host takes it out then."""
        self._watchers.pop(fd, None)

    def unwatch(self, fd: int) -> None:
        """Before `fd` is closed."""
        if self._watchers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _add_feed(self, feed: _Feed) -> None:
        link = feed.link
        if isinstance(link, VethLink):
            self._inside[link] = feed
            link.on_arrival = lambda: self._arrived.append(feed)
            if link.waiting:
                self._arrived.append(feed)
        else:
            self._feeds.append(feed)
            self._update(feed)

    def _update(self, feed: _Feed) -> None:
        """Tell epoll what the link wants now, when that has changed."""
        link = feed.link
        mask = _IN | _OUT if link.wants_write else _IN
        if link.fd != feed.fd:
            self._unwatch(feed)
            if link.fd >= 0:
                feed.fd, feed.mask = link.fd, mask
                self.watch(link.fd, mask, partial(self._ready, feed))
        elif mask != feed.mask and feed.fd >= 0:
            feed.mask = mask
            self._epoll.modify(feed.fd, mask)

    def _unwatch(self, feed: _Feed) -> None:
        if feed.fd < 0:
            return
        self._watchers.pop(feed.fd, None)
        try:
            self._epoll.unregister(feed.fd)
        except OSError:
            pass  # closed already, which took it out
        feed.fd = -1

    # -- moving frames --

    def _ready(self, feed: _Feed, events: int, now: int) -> None:
        if events & _OUT:
            feed.link.writable(now)
        if events & (_IN | _TROUBLE):
            self._receive(feed, now)
        link = feed.link
        if events != _IN or link.broken is not None or link.fd != feed.fd:
            self._look_after(feed)

    def _receive(self, feed: _Feed, now: int) -> None:
        packets = feed.link.receive(BATCH, now)
        iface, bridge = feed.iface, feed.bridge
        if packets and bridge is not None:
            packets = bridge.receive_from(feed.link, packets, now)
        if packets:
            if self.captures and iface in self.captures:
                self._capture(iface, packets, now)
            counters = iface.link.counters
            iface.rx_packets, iface.rx_bytes = counters.rx_packets, counters.rx_bytes
            stack = feed.stack
            stack.receive(iface, packets, now)
            self._touched[stack] = None
        elif bridge is None:  # frames that went on without the stack count all the same
            counters = feed.link.counters
            iface.rx_packets, iface.rx_bytes = counters.rx_packets, counters.rx_bytes

    def _receive_inside(self, now: int) -> None:
        """A batch of each link inside the process that has frames."""
        arrived, self._arrived = self._arrived, []
        for feed in arrived:
            if feed.dead:
                continue
            self._receive(feed, now)
            link = feed.link
            if isinstance(link, VethLink) and link.waiting:
                self._arrived.append(feed)

    def _look_after(self, feed: _Feed) -> None:
        """Follow what changed about a link: its descriptor, what it waits for, its end."""
        link = feed.link
        if link.broken is not None and not feed.dead:
            feed.dead = True
            self._unwatch(feed)
            self._on_broken(link, feed.iface)
        elif not feed.dead:
            self._update(feed)

    def _capture(self, iface: Interface, packets: Sequence[Packet], now: int) -> None:
        captures = self.captures[iface]
        for capture in list(captures):
            capture.record(packets, now)
            if capture.failed is not None:
                captures.remove(capture)
                capture.close()
        if not captures:
            del self.captures[iface]

    def flush(self, now: int) -> None:
        """Everything that is ready to be sent goes to the links, and on to other stacks, in rounds."""
        if self._stack.has_to_flush():
            self._touched[self._stack] = None
        for _ in range(ROUNDS):
            touched, self._touched = self._touched, {}
            for stack in touched:
                stack.flush(now)
            # What is for readers on this host goes first: they run while we send, which can take as long as all before,
            # for a host's link receives at the other end within the call.
            if self.on_flushed is not None:
                self.on_flushed(now)
            for stack in touched:
                if stack.sending:
                    self._send(stack, now)
                if stack is not self._stack and stack in self._queued:
                    if stack.timers.moved_up or self._queued[stack] is None or stack.has_to_flush():
                        self._note_deadline(stack)
            if self._arrived:
                self._receive_inside(now)
            if not self._touched and not self._arrived:
                return

    def _send(self, stack: Stack, now: int) -> None:
        """The packets of one stack that was flushed go out."""
        for iface in stack.take_sending():
            packets = iface.tx
            if packets:
                link = iface.link
                if link is not None:
                    leaving: Sequence[Packet] = packets
                    if not link.takes_runs:
                        leaving = spread(packets)
                    if self.captures and iface in self.captures:
                        leaving = spread(packets)
                        self._capture(iface, leaving, now)
                    link.send(leaving, now)
                    counters = link.counters
                    iface.tx_packets, iface.tx_bytes = counters.tx_packets, counters.tx_bytes
                packets.clear()

    def is_holding(self) -> bool:
        """Whether a link has frames that wait for the host, for their time, or for the stack at the other end."""
        links = [feed.link for feed in self._feeds]
        return bool(self._arrived) or any(link.wants_write or link.deadline is not None for link in links)

    # -- deadlines of stacks --

    def _note_deadline(self, stack: Stack) -> None:
        stack.timers.moved_up = False
        at = stack.next_deadline()
        queued = self._queued[stack]
        if at is not None and (queued is None or at < queued):
            self._queued[stack] = at
            self._order += 1
            heappush(self._alarms, (at, self._order, stack))

    def _next_alarm(self) -> int | None:
        """When a stack but the router's is to be looked at. Entries that mean nothing any more are dropped."""
        alarms, queued = self._alarms, self._queued
        while alarms:
            at, _, stack = alarms[0]
            if queued.get(stack) == at:
                return at
            heappop(alarms)
        return None

    def _advance(self, now: int) -> None:
        """A deadline has come: serve the links and fire the timers that are due, of every stack that has one."""
        for feed in self._feeds:
            at = feed.link.deadline
            if at is not None and at <= now:
                self._receive(feed, now)
                self._look_after(feed)
        stack = self._stack
        deadline = stack.next_deadline()
        if deadline is not None and deadline <= now:
            stack.advance(now)
        alarms = self._alarms
        while alarms:
            at = self._next_alarm()
            if at is None or at > now:
                return
            _, _, stack = heappop(alarms)
            self._queued[stack] = None
            deadline = stack.next_deadline()
            if deadline is not None and deadline <= now:
                stack.advance(now)
                self._touched[stack] = None
            else:
                self._note_deadline(stack)

    # -- turns --

    def _timeout(self) -> float:
        """Seconds to sleep at most; notes the earliest deadline, of all stacks and links."""
        deadline = self._stack.next_deadline()
        if self._alarms:
            alarm = self._next_alarm()
            if alarm is not None and (deadline is None or alarm < deadline):
                deadline = alarm
        for feed in self._feeds:
            at = feed.link.deadline
            if at is not None and (deadline is None or at < deadline):
                deadline = at
        self._due = deadline
        if self._touched or self._arrived:
            return 0
        if deadline is None:
            return -1
        wait = deadline - self.clock()
        if wait <= 0:
            return 0
        # epoll counts milliseconds, and Python rounds up
        return min(wait, MAX_SLEEP_NS) / 1e9

    def turn(self, timeout: float | None = None) -> None:
        """Wait, at most `timeout` seconds (None: until there is something to do), and do it."""
        wait = self._timeout()
        if timeout is not None and (wait < 0 or wait > timeout):
            wait = timeout
        ready = self.poll(wait)
        self.now = now = self.clock()
        self.turns += 1
        processors = self.processors
        if processors is not None and now >= processors.due:
            processors.look(now)
        self._stack.now = max(now, self._stack.now)  # watchers may call the stack
        watchers = self._watchers
        for fd, events in ready:
            watcher = watchers.get(fd)
            if watcher is not None:
                watcher(events, now)
        if self._due is not None and self._due <= now:
            self._advance(now)
        self.flush(now)
        for feed in self._feeds:
            link = feed.link
            waits = link.backlog if feed.keeps_backlog else link.wants_write
            if waits or feed.mask & _OUT or link.broken is not None:
                self._look_after(feed)

    def run(self) -> None:
        """Turn until `stop`."""
        self._running = True
        turn = self.turn
        while self._running:
            turn()

    def stop(self) -> None:
        """Make `run` return after this turn."""
        self._running = False

    def close(self) -> None:
        """Close the links and the epoll descriptor."""
        for iface in {feed.iface for feed in (*self._feeds, *self._inside.values())}:
            self.remove_link(iface)
        self._epoll.close()


def pipe_of_signals() -> tuple[int, int]:
    """A non-blocking pipe for signal.set_wakeup_fd: (to read, to write)."""
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

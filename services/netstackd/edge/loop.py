"""The event loop: waits for descriptors and deadlines, moves batches between links and the stack, flushes once a turn.

A turn: at most BATCH frames of each link that is readable go to `Stack.receive`; timers that are due fire; one flush;
what interfaces then hold goes to their links. Between turns the process sleeps in epoll until a descriptor is ready or
the earliest deadline (of the stack, a link or a service) has come: idle, it uses no CPU. Work per turn is bounded, so
control requests and timers are served under any load.

`captures` see frames of an interface on their way in and out; an interface without captures pays one test a batch.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from services.netstackd.links.base import BATCH, Link
from services.netstackd.links.bridge import Bridge
from services.netstackd.network.interface import Interface
from services.netstackd.stack import Stack
from services.netstackd.storage.packet import Packet

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_TROUBLE: Final = select.EPOLLERR | select.EPOLLHUP
_MILLISECOND: Final = 1_000_000
MAX_SLEEP_NS: Final = 3600 * 1_000_000_000

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

    __slots__ = ("bridge", "dead", "fd", "iface", "link", "mask")

    def __init__(self, link: Link, iface: Interface, bridge: Bridge | None) -> None:
        self.link = link
        self.iface = iface
        self.bridge = bridge
        self.fd = -1
        self.mask = 0
        self.dead = False


class Loop:
    """See the module docstring. `on_broken(link, iface)` is told once when the host takes a link away."""

    def __init__(self, stack: Stack, clock: Callable[[], int], on_broken: Callable[[Link, Interface], None]) -> None:
        self._stack = stack
        self._clock = clock
        self._on_broken = on_broken
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._feeds: list[_Feed] = []
        self._running = False
        self.captures: dict[Interface, list[Capture]] = {}
        self.turns = 0
        self.now = clock()

    @property
    def fd(self) -> int:
        """The epoll descriptor: needed after the seal."""
        return self._epoll.fileno()

    # -- what is watched --

    def add_link(self, iface: Interface, link: Link) -> None:
        """Move frames between `link` and `iface` from now on."""
        iface.link = link
        if isinstance(link, Bridge):
            for port in link.ports:
                self._add_feed(_Feed(port, iface, link))
        else:
            self._add_feed(_Feed(link, iface, None))

    def remove_link(self, iface: Interface) -> None:
        """Stop, and close the link."""
        for feed in [feed for feed in self._feeds if feed.iface is iface]:
            self._feeds.remove(feed)
            self._unwatch(feed)
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

    def unwatch(self, fd: int) -> None:
        """Before `fd` is closed."""
        if self._watchers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _add_feed(self, feed: _Feed) -> None:
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
                self.watch(link.fd, mask, lambda events, now: self._ready(feed, events, now))
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
            self._stack.receive(iface, packets, now)

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
        """Everything that is ready to be sent goes to the links."""
        stack = self._stack
        stack.flush(now)
        for iface in list(stack.interfaces.values()):
            packets = iface.tx
            if packets:
                link = iface.link
                if link is not None:
                    if self.captures and iface in self.captures:
                        self._capture(iface, packets, now)
                    link.send(packets, now)
                    counters = link.counters
                    iface.tx_packets, iface.tx_bytes = counters.tx_packets, counters.tx_bytes
                packets.clear()

    # -- turns --

    def _timeout(self) -> float:
        """Seconds to sleep at most."""
        deadline = self._stack.next_deadline()
        for feed in self._feeds:
            at = feed.link.deadline
            if at is not None and (deadline is None or at < deadline):
                deadline = at
        if deadline is None:
            return -1
        wait = deadline - self._clock()
        if wait <= 0:
            return 0
        # epoll counts milliseconds, and Python rounds up
        return min(wait, MAX_SLEEP_NS) / 1e9

    def turn(self, timeout: float | None = None) -> None:
        """Wait, at most `timeout` seconds (None: until there is something to do), and do it."""
        wait = self._timeout()
        if timeout is not None and (wait < 0 or wait > timeout):
            wait = timeout
        ready = self._epoll.poll(wait)
        self.now = now = self._clock()
        self.turns += 1
        self._stack.now = max(now, self._stack.now)  # watchers may call the stack
        watchers = self._watchers
        for fd, events in ready:
            watcher = watchers.get(fd)
            if watcher is not None:
                watcher(events, now)
        for feed in self._feeds:
            at = feed.link.deadline
            if at is not None and at <= now:
                self._receive(feed, now)
                self._look_after(feed)
        stack = self._stack
        deadline = stack.next_deadline()
        if deadline is not None and deadline <= now:
            stack.advance(now)
        self.flush(now)
        for feed in self._feeds:
            if feed.link.wants_write or feed.mask & _OUT or feed.link.broken is not None:
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
        for iface in {feed.iface for feed in self._feeds}:
            self.remove_link(iface)
        self._epoll.close()


def pipe_of_signals() -> tuple[int, int]:
    """A non-blocking pipe for signal.set_wakeup_fd: (to read, to write)."""
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

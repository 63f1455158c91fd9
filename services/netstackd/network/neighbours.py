"""Neighbours: the link addresses of those next to us, for IPv4 (ARP) and IPv6 (NDP) by one machine.

The machine is RFC 4861 section 7.3 and appendix C; ARP uses it as Linux does. States and what ends them:

    NONE -> INCOMPLETE    a packet wants to go there: solicit by multicast, every RETRANS, MAX_PROBES times; packets
    wait INCOMPLETE -> FAILED  nobody answered: waiting packets are dropped and their senders told
    INCOMPLETE -> REACHABLE or STALE    an answer, solicited or not
    REACHABLE -> STALE    not confirmed for the reachable time
    STALE -> DELAY        a packet was sent there: give the upper layers DELAY_FIRST to confirm
    DELAY -> PROBE        they did not: solicit by unicast, MAX_PROBES times
    PROBE -> FAILED       no answer
    PERMANENT             set by hand, never changes

The hot path looks at one number: while `usable_until` lies ahead a packet leaves with `header`, with no look at the
state. It is "for ever" in the states that a timer drives, and 0 where the slow path (`Neighbours.output`) has to act.

Bounded: LIMIT entries, the longest unused one that is not in use gives way; QUEUE_LIMIT packets wait for one entry, the
oldest of them is dropped.
"""

from __future__ import annotations

import errno
import heapq
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from services.netstackd.counters import COUNTER
from services.netstackd.errors import NetError
from services.netstackd.storage.packet import Packet
from services.netstackd.storage.timers import Timer
from services.netstackd.wire.numbers import ETHERTYPE_IPV4, ETHERTYPE_IPV6

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface
    from services.netstackd.stack import Stack

NONE: Final = 0
INCOMPLETE: Final = 1
REACHABLE: Final = 2
STALE: Final = 3
DELAY: Final = 4
PROBE: Final = 5
FAILED: Final = 6
PERMANENT: Final = 7
STATE_NAMES: Final = ("none", "incomplete", "reachable", "stale", "delay", "probe", "failed", "permanent")

SECOND: Final = 1_000_000_000
FOREVER: Final = 1 << 62
RETRANS: Final = SECOND  # RFC 4861 section 10, RETRANS_TIMER
MAX_PROBES: Final = 3  # MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT
DELAY_FIRST: Final = 5 * SECOND  # DELAY_FIRST_PROBE_TIME
REACHABLE_TIME: Final = 30 * SECOND
LIMIT: Final = 512
EVICT: Final = 64  # at once
QUEUE_LIMIT: Final = 64

_EVICTED: Final = COUNTER["NeighEntriesEvicted"]
_RESOLVE_FAILED: Final = COUNTER["NeighResolveFailed"]
_UNRESOLVED: Final = COUNTER["DropNeighbourUnresolved"]
_QUEUE_FULL: Final = COUNTER["DropNeighbourQueueFull"]


class Solicitor(Protocol):
    """What differs between ARP and NDP."""

    def solicit(self, neighbour: Neighbour, link: bytes | None) -> None:
        """Ask for the link address: of `link` alone, or of everybody."""

    def unreachable(self, packet: Packet) -> None:
        """`packet` could not be delivered on the link: tell its sender."""


class Neighbour:
    """One entry. Made by `Neighbours.get`."""

    __slots__ = (
        "address",
        "confirmed",
        "header",
        "iface",
        "link",
        "probes",
        "queue",
        "router",
        "state",
        "timer",
        "updated",
        "usable_until",
        "used",
        "version",
    )

    def __init__(self, iface: Interface, version: int, address: int, timer: Timer) -> None:
        self.iface = iface
        self.version = version
        self.address = address
        self.state = NONE
        self.link = b""  # its link address; b"" while unknown
        self.header = b""  # the link header of packets to it
        self.usable_until = 0
        self.queue: list[Packet] = []
        self.probes = 0
        self.router = False
        self.timer = timer
        self.confirmed = 0
        self.updated = 0
        self.used = 0

    def __repr__(self) -> str:
        return f"<Neighbour {self.address:x} on {self.iface.name} {self.link.hex(':')} {STATE_NAMES[self.state]}>"


class Neighbours:
    """The table of one version."""

    def __init__(self, stack: Stack, version: int) -> None:
        self._stack = stack
        self._count = stack.counters.values
        self.version = version
        self.solicitor: Solicitor | None = None  # set by arp.py and ndp.py
        self.on_change: Callable[[Neighbour], None] | None = None
        self.reachable_time: dict[int, int] = {}  # by interface index, when a router has told one (RFC 4861 6.3.4)
        self.retrans_time: dict[int, int] = {}
        self._entries: dict[tuple[int, int], Neighbour] = {}

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(list(self._entries.values()))

    def is_holding(self) -> bool:
        """Whether a packet waits for an answer."""
        return any(neighbour.queue for neighbour in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, iface: Interface, address: int) -> Neighbour | None:
        """The entry, or None."""
        return self._entries.get((iface.index, address))

    def get(self, iface: Interface, address: int) -> Neighbour:
        """The entry, made when there is none; one that is not in use is evicted when the table is full."""
        key = (iface.index, address)
        neighbour = self._entries.get(key)
        if neighbour is None:
            if len(self._entries) >= LIMIT:
                self._evict()
            timer = self._stack.timers.new(lambda now: self._on_timer(found, now))
            found = neighbour = self._entries[key] = Neighbour(iface, self.version, address, timer)
            neighbour.used = self._stack.now
        return neighbour

    def set_permanent(self, iface: Interface, address: int, link: bytes) -> Neighbour:
        """An entry made by hand."""
        neighbour = self.get(iface, address)
        self._learn(neighbour, link)
        self._enter(neighbour, PERMANENT, FOREVER)
        neighbour.timer.cancel()
        self._release_queue(neighbour)
        return neighbour

    def delete(self, iface: Interface, address: int) -> None:
        """Forget an entry. NetError: ENOENT."""
        neighbour = self._entries.get((iface.index, address))
        if neighbour is None:
            raise NetError(errno.ENOENT, "no such neighbour")
        self._forget(neighbour)

    def flush(self, iface: Interface, *, permanent: bool = False) -> None:
        """Forget what is known on an interface (it went down, its address changed)."""
        for neighbour in self:
            if neighbour.iface is iface and (permanent or neighbour.state != PERMANENT):
                self._forget(neighbour)

    # -- sending --

    def output(self, neighbour: Neighbour, packet: Packet) -> None:
        """Send `packet` to a neighbour whose `usable_until` has passed: by its state send, or wait and solicit."""
        now = self._stack.now
        state = neighbour.state
        neighbour.used = now
        if state == REACHABLE or state == STALE:
            # Not confirmed lately: use it, and find out while doing so (RFC 4861 section 7.3.3).
            self._enter(neighbour, DELAY, FOREVER)
            neighbour.timer.set(now + DELAY_FIRST)
            self._stack.link_output.send_resolved(packet, neighbour)
            return
        if neighbour.usable_until > now:
            self._stack.link_output.send_resolved(packet, neighbour)
            return
        queue = neighbour.queue
        if len(queue) >= QUEUE_LIMIT:
            self._count[_QUEUE_FULL] += 1
            del queue[0]
        queue.append(packet)
        if state != INCOMPLETE:
            self._enter(neighbour, INCOMPLETE, 0)
            neighbour.probes = 0
            self._probe(neighbour, now)

    def confirm(self, neighbour: Neighbour) -> None:
        """An upper layer had an answer from there: it is reachable (RFC 4861 section 7.3.1)."""
        if neighbour.state in (REACHABLE, STALE, DELAY, PROBE):
            self._reachable(neighbour)

    # -- what is heard --

    def heard_solicitation(self, iface: Interface, address: int, link: bytes) -> Neighbour:
        """Its sender told its link address in a request, or in another message that is no answer (RFC 4861 7.2.3)."""
        neighbour = self.get(iface, address)
        if neighbour.state == PERMANENT:
            return neighbour
        if neighbour.link != link or neighbour.state in (NONE, INCOMPLETE, FAILED):
            self._learn(neighbour, link)
            self._enter(neighbour, STALE, 0)
            neighbour.timer.cancel()
            self._release_queue(neighbour)
        return neighbour

    def heard_advertisement(
        self, iface: Interface, address: int, link: bytes | None, *, solicited: bool, override: bool, router: bool
    ) -> None:
        """An answer (RFC 4861 section 7.2.5). Entries that nobody asked for are not made."""
        neighbour = self._entries.get((iface.index, address))
        if neighbour is None or neighbour.state in (PERMANENT, NONE):
            return
        was_router = neighbour.router
        if neighbour.state in (INCOMPLETE, FAILED):
            if link is None or neighbour.state == FAILED:
                return
            self._learn(neighbour, link)
            neighbour.router = router
            if solicited:
                self._reachable(neighbour)
            else:
                self._enter(neighbour, STALE, 0)
                neighbour.timer.cancel()
            self._release_queue(neighbour)
            return
        different = link is not None and link != neighbour.link
        if different and not override:
            if neighbour.state == REACHABLE:
                self._enter(neighbour, STALE, 0)
            return
        if link is not None and different:
            self._learn(neighbour, link)
        if solicited:
            self._reachable(neighbour)
        elif different:
            self._enter(neighbour, STALE, 0)
            neighbour.timer.cancel()
        neighbour.router = router
        if was_router and not router:
            self._stack.router_lost(iface, address)

    # -- the machine --

    def _enter(self, neighbour: Neighbour, state: int, usable_until: int) -> None:
        neighbour.state = state
        neighbour.usable_until = usable_until
        neighbour.updated = self._stack.now
        if self.on_change is not None:
            self.on_change(neighbour)

    def _learn(self, neighbour: Neighbour, link: bytes) -> None:
        neighbour.link = link
        ethertype = ETHERTYPE_IPV4 if self.version == 4 else ETHERTYPE_IPV6
        neighbour.header = neighbour.iface.link_header(link, ethertype)

    def _reachable(self, neighbour: Neighbour) -> None:
        now = self._stack.now
        base = self.reachable_time.get(neighbour.iface.index, REACHABLE_TIME)
        neighbour.confirmed = now
        # RFC 4861 section 6.3.2: uniformly between half and one and a half of the base.
        lasts = base // 2 + self._stack.rng.randrange(base)
        neighbour.timer.cancel()
        if neighbour.state == REACHABLE:
            neighbour.usable_until = now + lasts
        else:
            self._enter(neighbour, REACHABLE, now + lasts)
        neighbour.probes = 0

    def _probe(self, neighbour: Neighbour, now: int) -> None:
        neighbour.probes += 1
        neighbour.timer.set(now + self.retrans_time.get(neighbour.iface.index, RETRANS))
        if self.solicitor is not None:
            self.solicitor.solicit(neighbour, neighbour.link if neighbour.state == PROBE else None)

    def _on_timer(self, neighbour: Neighbour, now: int) -> None:
        state = neighbour.state
        if state == DELAY:
            self._enter(neighbour, PROBE, FOREVER)
            neighbour.probes = 0
            self._probe(neighbour, now)
        elif state == INCOMPLETE or state == PROBE:
            if neighbour.probes < MAX_PROBES:
                self._probe(neighbour, now)
            else:
                self._fail(neighbour)

    def _fail(self, neighbour: Neighbour) -> None:
        self._enter(neighbour, FAILED, 0)
        self._count[_RESOLVE_FAILED] += 1
        waiting, neighbour.queue = neighbour.queue, []
        self._count[_UNRESOLVED] += len(waiting)
        for packet in waiting:
            if self.solicitor is not None:
                self.solicitor.unreachable(packet)

    def _release_queue(self, neighbour: Neighbour) -> None:
        waiting, neighbour.queue = neighbour.queue, []
        for packet in waiting:
            if neighbour.usable_until > self._stack.now:
                self._stack.link_output.send_resolved(packet, neighbour)
            else:
                self.output(neighbour, packet)

    def _forget(self, neighbour: Neighbour) -> None:
        self._drop(neighbour)
        self._stack.routes_changed(self.version)  # cached decisions hold entries

    def _drop(self, neighbour: Neighbour) -> None:
        self._entries.pop((neighbour.iface.index, neighbour.address), None)
        neighbour.timer.cancel()
        self._count[_UNRESOLVED] += len(neighbour.queue)
        neighbour.queue = []
        neighbour.state = NONE
        neighbour.usable_until = 0

    def _evict(self) -> None:
        """Make room for many, so that a flood of new entries costs a look at all of them only now and then.

        First go those without an answer, then those not confirmed lately, then the others, the longest unused of each
        kind before the rest; those set by hand last. So a scan or a flood pushes out what it made itself.
        """
        now = self._stack.now

        def order(neighbour: Neighbour) -> tuple[int, int]:
            state = neighbour.state
            if state in (NONE, INCOMPLETE, FAILED):
                rank = 0
            elif state == STALE or (state == REACHABLE and neighbour.usable_until <= now):
                rank = 1
            else:
                rank = 3 if state == PERMANENT else 2
            return rank, max(neighbour.used, neighbour.confirmed)

        for neighbour in heapq.nsmallest(EVICT, self._entries.values(), key=order):
            self._drop(neighbour)
            self._count[_EVICTED] += 1
        self._stack.routes_changed(self.version)

"""Stack: one TCP/IP stack. It owns interfaces, addresses, routes, neighbours, sockets and timers, and does no I/O.

Whoever drives it (edge/loop.py, a test) calls, with `now` in nanoseconds of one monotonic clock:

    receive(iface, packets, now)    a batch of frames that came in on one interface
    advance(now)                    fire the timers that are due
    flush(now)                      let everyone say what the batch brought up; afterwards iface.tx holds what must go
    out next_deadline()                 when `advance` wants to be called next, or None

and drains `tx` of every interface after a flush.

Hooks (filter/ sets them; None costs one test). Each is called with the packet and returns whether it goes on; one that
returns False has counted why, or keeps the packet:

    prerouting    received, before it is known whether it is for us; may change addresses and ports
    input         for a socket or service of ours
    forward       for someone else; `packet.out` is where it will leave
    output        made here, routed; the packet is routed again when the hook has changed its destination
    postrouting   about to leave, `packet.out` says where
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from services.netstackd.counters import Counters
from services.netstackd.network.interface import Interface
from services.netstackd.storage.packet import Packet
from services.netstackd.storage.timers import Timers

Hook = Callable[[Packet], bool]


class Hooks:
    """The five places where a filter looks at packets, and what it needs from the stack."""

    __slots__ = ("defragment", "forward", "input", "output", "postrouting", "prerouting")

    def __init__(self) -> None:
        self.prerouting: Hook | None = None
        self.input: Hook | None = None
        self.forward: Hook | None = None
        self.output: Hook | None = None
        self.postrouting: Hook | None = None
        self.defragment = False  # put fragments together before prerouting (connection tracking needs ports)


class Stack:
    """See the module."""

    def __init__(self, rng: random.Random, secret: bytes, now: int = 0) -> None:
        self.rng = rng
        self.secret = secret
        self.now = now
        self.counters: Final = Counters()
        self.timers: Final = Timers()
        self.hooks: Final = Hooks()
        self.interfaces: Final[dict[int, Interface]] = {}
        self._next_index = 1

    # -- driving --

    def receive(self, iface: Interface, packets: list[Packet], now: int) -> None:
        """Take in a batch that arrived on `iface`."""
        self.now = now

    def advance(self, now: int) -> None:
        """Fire what is due at `now`."""
        self.now = now
        self.timers.advance(now)

    def next_deadline(self) -> int | None:
        """When `advance` has something to do."""
        return self.timers.next_deadline()

    def flush(self, now: int) -> None:
        """Let everyone who has something to say put it into `tx` of its interface."""
        self.now = now

    # -- interfaces --

    def add_interface(self, iface: Interface) -> Interface:
        """Take `iface` in, down, with the next free index."""
        iface.index = self._next_index
        self._next_index += 1
        self.interfaces[iface.index] = iface
        return iface

    def remove_interface(self, iface: Interface) -> None:
        """Forget `iface` with its addresses, routes and neighbours."""
        del self.interfaces[iface.index]

    def interface(self, name: str) -> Interface | None:
        """By name."""
        return next((iface for iface in self.interfaces.values() if iface.name == name), None)

    def set_up(self, iface: Interface, up: bool) -> None:
        """Set the administrative state."""
        iface.up = up

    # -- addresses and routes (version 4 or 6, addresses as ints) --

    def add_address(self, iface: Interface, version: int, address: int, prefix_length: int) -> None:
        """Give `iface` an address: connected and local routes, duplicate detection."""
        raise NotImplementedError

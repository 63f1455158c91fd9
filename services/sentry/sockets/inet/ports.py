"""Who owns which local port of one protocol, and Linux's rules for sharing one (ip(7), socket(7) SO_REUSEADDR).

An owner is whatever has the attributes of `Owner`: a socket, or the record that TIME_WAIT leaves behind. `claim` is the
local address it took: four or sixteen bytes, all zero for "any" of that family, b"" for any of both (an AF_INET6 socket
bound to :: without IPV6_V6ONLY). Knows neither tasks nor connections.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from services.sentry.errors import LinuxError

__all__ = ["DUAL_ANY", "FIRST_EPHEMERAL", "LAST_EPHEMERAL", "Owner", "PortTable", "overlap"]

DUAL_ANY: Final = b""
#: net.ipv4.ip_local_port_range.
FIRST_EPHEMERAL: Final = 32_768
LAST_EPHEMERAL: Final = 60_999
_COUNT: Final = LAST_EPHEMERAL - FIRST_EPHEMERAL + 1


class Owner(Protocol):
    """claim: see the module; reuse_address, reuse_port: SO_REUSEADDR, SO_REUSEPORT; auto: connect(2) chose the port.

    is_listener: a listening stream; lingers: TIME_WAIT, nobody's any more; uid: of its maker.
    """

    @property
    def claim(self) -> bytes: ...
    @property
    def reuse_address(self) -> bool: ...
    @property
    def reuse_port(self) -> bool: ...
    @property
    def auto(self) -> bool: ...
    @property
    def lingers(self) -> bool: ...
    @property
    def uid(self) -> int: ...
    def is_listening(self) -> bool: ...


def overlap(one: bytes, other: bytes) -> bool:
    """Whether two claims can get the same packet."""
    if not one or not other:
        return True
    return len(one) == len(other) and (one == other or not any(one) or not any(other))


def _stream_conflict(new: Owner, old: Owner, strict: bool) -> bool:
    """net/ipv4/inet_connection_sock.c inet_bind_conflict. `strict`: the port is chosen, not asked for."""
    if new.reuse_port and old.reuse_port and (old.lingers or old.uid == new.uid):
        return False
    return strict or not (new.reuse_address and old.reuse_address and not old.is_listening())


def _datagram_conflict(new: Owner, old: Owner, strict: bool) -> bool:
    """net/ipv4/udp.c udp_lib_lport_inuse."""
    if new.reuse_address and old.reuse_address:
        return False
    return not (new.reuse_port and old.reuse_port and old.uid == new.uid)


class PortTable:
    """owners: port -> those who own it, in order. `random(n)` gives n random bytes."""

    __slots__ = ("_conflict", "_parity", "_random", "owners")

    def __init__(self, random: Callable[[int], bytes], *, streams: bool) -> None:
        self.owners: dict[int, dict[Owner, None]] = {}
        self._random = random
        self._conflict = _stream_conflict if streams else _datagram_conflict
        # bind(2) takes odd ports and connect(2) even ones, as long as there are any, to keep out of each other's way.
        self._parity = 1 if streams else 0

    def at(self, port: int) -> Iterable[Owner]:
        return self.owners.get(port, ())

    def conflicts(self, new: Owner, claim: bytes, port: int, strict: bool = False) -> bool:
        """Whether `new` may not have `port` for `claim`."""
        return any(
            old is not new and overlap(claim, old.claim) and self._conflict(new, old, strict) for old in self.at(port)
        )

    def add(self, owner: Owner, port: int) -> None:
        owners = self.owners.get(port)
        if owners is None:
            self.owners[port] = {owner: None}
        else:
            owners[owner] = None

    def remove(self, owner: Owner, port: int) -> None:
        owners = self.owners.get(port)
        if owners is not None:
            owners.pop(owner, None)
            if not owners:
                del self.owners[port]

    def replace(self, old: Owner, new: Owner, port: int) -> None:
        """`new` takes over the port of `old`."""
        owners = self.owners[port]
        del owners[old]
        owners[new] = None

    def _start(self) -> int:
        return FIRST_EPHEMERAL + int.from_bytes(self._random(4), "little") % _COUNT

    def choose(self, new: Owner, claim: bytes) -> int:
        """A free port of the ephemeral range for bind(2). EADDRINUSE: there is none."""
        start = self._start() | self._parity
        if start > LAST_EPHEMERAL:
            start -= 2
        if start not in self.owners:
            return start
        for free in (True, False):
            for step in (0, 1):
                for distance in range(0, _COUNT, 2):
                    port = FIRST_EPHEMERAL + (start - FIRST_EPHEMERAL + step + distance) % _COUNT
                    if port not in self.owners or (not free and not self.conflicts(new, claim, port, True)):
                        return port
        raise LinuxError(errno.EADDRINUSE)

    def choose_for_connection(self, taken: Callable[[int], bool]) -> int:
        """A port for connect(2): one that bind(2) gave to nobody and whose connection is not `taken`. EADDRNOTAVAIL."""
        start = self._start() & ~1
        if start not in self.owners and not taken(start):
            return start
        for step in (0, 1):
            for distance in range(0, _COUNT, 2):
                port = FIRST_EPHEMERAL + (start - FIRST_EPHEMERAL + step + distance) % _COUNT
                if all(owner.auto for owner in self.at(port)) and not taken(port):
                    return port
        raise LinuxError(errno.EADDRNOTAVAIL)

"""Local ports of one protocol: who is bound to what, which bindings go together, and the choice of ephemeral ports.

Conflicts are Linux's: two bindings to one port exclude each other when their addresses overlap and their interfaces do,
unless both said SO_REUSEADDR (for TCP: and the other does not listen) or both said SO_REUSEPORT. An IPv6 binding to
any address also covers IPv4 unless it is IPV6_V6ONLY.

Ephemeral ports follow RFC 6056 algorithm 4 (double hash): a keyed offset per (local address, remote address, remote
port) plus a counter that conversations share only by chance, so that they cannot be guessed and are not reused soon.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from hashlib import blake2s
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.netstackd.network.interface import Interface

FIRST: Final = 32768  # net.ipv4.ip_local_port_range
LAST: Final = 60999
_COUNTERS: Final = 256


class Binding:
    """One socket's claim to a port. `address` 0 is any; with version 6 and not `v6only` that is any of IPv4, too."""

    __slots__ = ("address", "device", "listening", "owner", "port", "reuse_address", "reuse_port", "v6only", "version")

    def __init__(
        self,
        version: int,
        address: int,
        port: int,
        *,
        device: Interface | None = None,
        reuse_address: bool = False,
        reuse_port: bool = False,
        v6only: bool = False,
        owner: object = None,
    ) -> None:
        self.version = version
        self.address = address
        self.port = port
        self.device = device
        self.reuse_address = reuse_address
        self.reuse_port = reuse_port
        self.v6only = v6only
        self.listening = False
        self.owner = owner

    def overlaps(self, other: Binding) -> bool:
        """Whether some packet could be for both."""
        if self.device is not None and other.device is not None and self.device is not other.device:
            return False
        if self.version == other.version:
            return not self.address or not other.address or self.address == other.address
        wide, narrow = (self, other) if self.version == 6 else (other, self)
        return wide.address == 0 and not wide.v6only and narrow.version == 4

    def excludes(self, other: Binding) -> bool:
        """Whether `other`, which stands, keeps this one from the port, or from listening there."""
        if not self.overlaps(other):
            return False
        if self.reuse_port and other.reuse_port:
            return False
        return not (self.reuse_address and other.reuse_address) or other.listening


class Ports:
    """The bindings of one protocol."""

    def __init__(self, rng: random.Random, secret: bytes) -> None:
        self._rng = rng
        self._secret = secret[:32]
        self._by_port: dict[int, list[Binding]] = {}
        self._counters = [rng.randrange(1 << 16) for _ in range(_COUNTERS)]
        self.first = FIRST
        self.last = LAST

    def on(self, port: int) -> list[Binding]:
        """The bindings to a port."""
        return self._by_port.get(port, [])

    def __iter__(self) -> Iterator[Binding]:
        for bindings in list(self._by_port.values()):
            yield from bindings

    def conflict(self, binding: Binding) -> bool:
        """Whether another binding excludes this one."""
        return any(other is not binding and binding.excludes(other) for other in self.on(binding.port))

    def add(self, binding: Binding) -> bool:
        """Take the port; False when another binding excludes it."""
        if self.conflict(binding):
            return False
        self._by_port.setdefault(binding.port, []).append(binding)
        return True

    def remove(self, binding: Binding) -> None:
        """Give the port up."""
        bindings = self._by_port.get(binding.port)
        if bindings is None or binding not in bindings:
            return
        bindings.remove(binding)
        if not bindings:
            del self._by_port[binding.port]

    def move(self, binding: Binding, version: int, address: int) -> None:
        """Change the address of a binding that stands. No conflict: its owner is found by its flow (connect(2))."""
        binding.version = version
        binding.address = address

    def choose(self, local: int, remote: int, remote_port: int, is_free: Callable[[int], bool]) -> int:
        """An ephemeral port for a conversation (RFC 6056 section 3.3.4); 0 when none is free."""
        seed = local.to_bytes(16, "big") + remote.to_bytes(16, "big") + remote_port.to_bytes(2, "big")
        digest = blake2s(seed, key=self._secret, digest_size=8, person=b"ports").digest()
        offset = int.from_bytes(digest[:4], "big")
        slot = digest[4]
        count = self.last - self.first + 1
        for _ in range(count):
            port = self.first + (offset + self._counters[slot]) % count
            self._counters[slot] += 1
            if is_free(port):
                return port
        return 0

    def choose_any(self, is_free: Callable[[int], bool]) -> int:
        """An ephemeral port for bind(2) to port 0: from a random start (RFC 6056 section 3.3.1)."""
        count = self.last - self.first + 1
        start = self._rng.randrange(count)
        for step in range(count):
            port = self.first + (start + step) % count
            if is_free(port):
                return port
        return 0

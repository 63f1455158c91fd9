"""Router advertisements (RFC 4861 section 6.2, RFC 8106): what is said, and when. Sans-IO.

Unsolicited ones come at random times between a third of `interval` and `interval`, the first three soon; a
solicitation is answered within half a second, and advertisements are at least MIN_DELAY apart. `deadline` says when
`wake` is wanted; it returns the message to be sent to all nodes. `farewell` is the last one: lifetime 0.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from services.netstackd.config.model import AdvertisementSpec
from services.netstackd.wire import ndp

SECOND: Final = 1_000_000_000
ROUTER_SOLICITATION: Final = 133
ROUTER_ADVERTISEMENT: Final = 134
MAX_INITIAL: Final = 3  # section 10
MAX_INITIAL_INTERVAL: Final = 16 * SECOND
MAX_RESPONSE_DELAY: Final = SECOND // 2
MIN_DELAY: Final = 3 * SECOND
HOP_LIMIT: Final = 64


class RouterAdvertiser:
    """See the module docstring."""

    def __init__(self, spec: AdvertisementSpec, mac: bytes, rng: random.Random, now: int) -> None:
        self.spec = spec
        self._mac = mac
        self._rng = rng
        self._sent = 0
        self._last: int | None = None
        self.deadline = now + rng.randrange(MAX_RESPONSE_DELAY)

    def solicited(self, now: int) -> None:
        """A host asks: answer soon, to everybody (section 6.2.6)."""
        soon = now + self._rng.randrange(MAX_RESPONSE_DELAY)
        if self._last is not None:
            soon = max(soon, self._last + MIN_DELAY)
        self.deadline = min(self.deadline, soon)

    def wake(self, prefixes: Sequence[tuple[int, int]], now: int) -> bytes:
        """The advertisement that is due. `prefixes`: (prefix, length), for when none are configured."""
        self._sent += 1
        self._last = now
        most = self.spec.interval
        wait = self._rng.randrange(max(most // 3, MIN_DELAY), most + 1) if most > MIN_DELAY else MIN_DELAY
        if self._sent < MAX_INITIAL:
            wait = min(wait, MAX_INITIAL_INTERVAL)
        self.deadline = now + wait
        return self._message(prefixes, self.spec.lifetime)

    def farewell(self, prefixes: Sequence[tuple[int, int]]) -> bytes:
        """We are no router any more (section 6.2.5)."""
        return self._message(prefixes, 0)

    def _message(self, prefixes: Sequence[tuple[int, int]], lifetime: int) -> bytes:
        spec = self.spec
        flags = (ndp.RA_MANAGED if spec.managed else 0) | (ndp.RA_OTHER if spec.other else 0)
        rest, body = ndp.router_advertisement(HOP_LIMIT, flags, lifetime, 0, 0)
        parts = [bytes((ROUTER_ADVERTISEMENT, 0, 0, 0)), rest.to_bytes(4, "big"), body]
        parts.append(ndp.option(ndp.SOURCE_LINK, self._mac))
        if spec.mtu:
            parts.append(ndp.mtu_option(spec.mtu))
        chosen = [(address, length) for _, address, length in spec.prefixes] or list(prefixes)
        for address, length in chosen:
            how = ndp.PREFIX_ON_LINK | (ndp.PREFIX_AUTONOMOUS if length == 64 else 0)
            parts.append(ndp.prefix_option(address, length, how, spec.valid, spec.preferred))
        patience = 3 * spec.interval // SECOND
        if spec.dns:
            parts.append(ndp.rdnss_option(list(spec.dns), patience))
        if spec.domains:
            parts.append(ndp.dnssl_option(list(spec.domains), patience))
        return b"".join(parts)

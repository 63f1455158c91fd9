"""What DNS answers are remembered, for how long: by question, for the lowest of their times to live.

Positive answers live for the lowest TTL of their records, negative ones (NXDOMAIN, no data) as RFC 2308 section 5 says:
for the lower of the SOA's TTL and its minimum, and not at all without an SOA. The number of entries and the size of
each are limited; the entry that was used longest ago makes room.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

SECOND: Final = 1_000_000_000
MAX_TTL: Final = 86400
MAX_NEGATIVE_TTL: Final = 3 * 3600  # RFC 2308 section 5: one to three hours
MAX_RECORDS: Final = 64  # of an entry; longer answers pass, and are asked for again

NOERROR: Final = 0
NXDOMAIN: Final = 3
TYPE_SOA: Final = 6
TYPE_OPT: Final = 41

Name = tuple[bytes, ...]  # labels in lower case
Key = tuple[Name, int, int, bool, bool]  # name, type, class, DNSSEC OK, checking disabled


class Entry:
    """An answer: dnslib records of its sections, with TTLs as they were at `at`."""

    __slots__ = ("ad", "additional", "answers", "at", "authority", "expires", "rcode")

    def __init__(self, record: Any, at: int, ttl: int) -> None:
        self.rcode: int = record.header.rcode
        self.ad: int = record.header.ad
        self.answers = list(record.rr)
        self.authority = list(record.auth)
        self.additional = [rr for rr in record.ar if rr.rtype != TYPE_OPT]
        self.at = at
        self.expires = at + ttl * SECOND


class DnsCache:
    """See the module docstring."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key, now: int) -> Entry | None:
        """The answer, while it lives."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        if entry.expires <= now:
            del self._entries[key]
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return entry

    def store(self, key: Key, record: Any, now: int) -> None:
        """Remember an answer (a dnslib.DNSRecord), when it may be."""
        ttl = lifetime(record)
        count = len(record.rr) + len(record.auth) + len(record.ar)
        if ttl <= 0 or count > MAX_RECORDS or not self.limit:
            return
        self._entries.pop(key, None)
        while len(self._entries) >= self.limit:
            self._entries.popitem(last=False)
        self._entries[key] = Entry(record, now, ttl)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()


def lifetime(record: Any) -> int:
    """Seconds that an answer may be remembered, 0 for not at all."""
    rcode = record.header.rcode
    if rcode not in (NOERROR, NXDOMAIN):
        return 0
    if rcode == NOERROR and record.rr:
        records = [*record.rr, *record.auth, *(rr for rr in record.ar if rr.rtype != TYPE_OPT)]
        return min([MAX_TTL, *(_ttl(rr) for rr in records)])
    negative = [min(_ttl(rr), rr.rdata.times[4]) for rr in record.auth if rr.rtype == TYPE_SOA]
    return min([MAX_NEGATIVE_TTL, *negative]) if negative else 0


def _ttl(rr: Any) -> int:
    ttl: int = rr.ttl
    return ttl if ttl < 1 << 31 else 0  # RFC 2181 section 8

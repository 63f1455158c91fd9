"""IPv4 options (RFC 791 section 3.1, RFC 1122 section 3.2.1.8, RFC 1812 section 5.2.4).

    type (copied 1, class 2, number 5) | length | data

What we act on: record route and timestamp, filled in by who forwards. Source routes are found so that they can be
refused. Options with the copied bit go into every fragment, the others into the first alone.
"""

from __future__ import annotations

from typing import Final

END: Final = 0
NOP: Final = 1
RECORD_ROUTE: Final = 7
TIMESTAMP: Final = 68
LOOSE_SOURCE_ROUTE: Final = 131
STRICT_SOURCE_ROUTE: Final = 137
ROUTER_ALERT: Final = 148

_COPIED: Final = 0x80
_TIMESTAMP_ONLY: Final = 0
_TIMESTAMP_AND_ADDRESS: Final = 1
_TIMESTAMP_PRESPECIFIED: Final = 3


def check_untrusted(options: bytes) -> tuple[int, bool]:
    """(offset of the first byte that is wrong, or -1; whether there is a source route)."""
    at = 0
    end = len(options)
    source_route = False
    while at < end:
        kind = options[at]
        if kind == END:
            break
        if kind == NOP:
            at += 1
            continue
        if at + 1 >= end:
            return at, source_route
        size = options[at + 1]
        if size < 2 or at + size > end:
            return at + 1, source_route
        if kind in (RECORD_ROUTE, LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE):
            if size < 3:
                return at + 1, source_route
            if options[at + 2] < 4:
                return at + 2, source_route
            source_route = source_route or kind != RECORD_ROUTE
        elif kind == TIMESTAMP:
            if size < 4:
                return at + 1, source_route
            if options[at + 2] < 5:
                return at + 2, source_route
        elif kind == ROUTER_ALERT and size != 4:
            return at + 1, source_route
        at += size
    return -1, source_route


def record(options: bytes, address: int, milliseconds: int) -> bytes:
    """The options with our address and the time (of day, since midnight UTC) recorded where they ask for it.

    `options` must have passed `check_untrusted`. A full record is left alone; a full timestamp counts an overflow.
    """
    out = bytearray(options)
    at = 0
    while at < len(out):
        kind = out[at]
        if kind == END:
            break
        if kind == NOP:
            at += 1
            continue
        size = out[at + 1]
        if kind == RECORD_ROUTE:
            pointer = out[at + 2]
            if pointer + 3 <= size:
                place = at + pointer - 1
                out[place : place + 4] = address.to_bytes(4, "big")
                out[at + 2] = pointer + 4
        elif kind == TIMESTAMP:
            _stamp(out, at, size, address, milliseconds)
        at += size
    return bytes(out)


def _stamp(out: bytearray, at: int, size: int, address: int, milliseconds: int) -> None:
    pointer = out[at + 2]
    flag = out[at + 3] & 15
    place = at + pointer - 1
    need = 4 if flag == _TIMESTAMP_ONLY else 8
    if pointer - 1 + need > size:
        overflow = out[at + 3] >> 4
        if overflow < 15:
            out[at + 3] = (overflow + 1) << 4 | flag
        return
    if flag == _TIMESTAMP_AND_ADDRESS:
        out[place : place + 4] = address.to_bytes(4, "big")
    elif flag == _TIMESTAMP_PRESPECIFIED and int.from_bytes(out[place : place + 4], "big") != address:
        return
    stamp = place + need - 4
    out[stamp : stamp + 4] = (milliseconds & 0x7FFFFFFF).to_bytes(4, "big")
    out[at + 2] = pointer + need


def copied(options: bytes) -> bytes:
    """The options that go into fragments after the first, padded (RFC 791 section 3.1: the copied flag)."""
    out = bytearray()
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == END:
            break
        if kind == NOP:
            at += 1
            continue
        size = options[at + 1]
        if kind & _COPIED:
            out += options[at : at + size]
        at += size
    out += bytes(-len(out) % 4)
    return bytes(out)

"""The options of a TCP header, bytes to values and back (RFC 9293 3.1, 7323, 2018, 7413).

Owns the option area alone: the fixed header is `wire/tcp.py`. Timestamps are the only option of almost every segment,
so their 12-byte form (two NOPs first, RFC 7323 appendix A) is recognised whole; everything else takes the loop.
Values: `ts_val` is -1 where there is no timestamp option; SACK blocks are (left, right) pairs of wire numbers.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

Buffer = bytes | bytearray | memoryview

END: Final = 0
NOP: Final = 1
MSS: Final = 2
WINDOW_SCALE: Final = 3
SACK_PERMITTED: Final = 4
SACK: Final = 5
TIMESTAMPS: Final = 8
FAST_OPEN: Final = 34

MAX_OPTION_BYTES: Final = 40
MAX_WINDOW_SHIFT: Final = 14  # RFC 7323 2.3
TIMESTAMP_BYTES: Final = 12

_TIMESTAMP_PREFIX: Final = b"\x01\x01\x08\x0a"
_timestamps_aligned = Struct("!III")
_pair = Struct("!II")
TIMESTAMP_WORD: Final = 0x0101080A


class SynOptions:
    """What only a SYN may carry. `mss` 0: no option. `wscale` -1: no option. `fast_open` None: no option; b"": a
    request for a cookie (RFC 7413 4.1.1)."""

    __slots__ = ("fast_open", "mss", "sack_permitted", "wscale")

    def __init__(
        self, mss: int = 0, wscale: int = -1, sack_permitted: bool = False, fast_open: bytes | None = None
    ) -> None:
        self.mss = mss
        self.wscale = wscale
        self.sack_permitted = sack_permitted
        self.fast_open = fast_open

    def __repr__(self) -> str:
        return f"SynOptions({self.mss}, {self.wscale}, {self.sack_permitted}, {self.fast_open!r})"


SackBlocks = tuple[tuple[int, int], ...]
Options = tuple[int, int, SackBlocks, SynOptions | None]

NO_OPTIONS: Final[Options] = (-1, 0, (), None)


def parse_options_untrusted(data: Buffer, start: int, end: int, is_syn: bool) -> Options:
    """(ts_val, ts_ecr, sack_blocks, syn) from data[start:end]; never fails and never reads past `end`.

    Unknown options are skipped; a malformed length ends the list, keeping what was understood before it, as Linux
    does. MSS, window scale and the like are looked at in a SYN alone (RFC 7323 1.3), SACK blocks in any other.
    """
    if end - start == TIMESTAMP_BYTES and data[start : start + 4] == _TIMESTAMP_PREFIX:
        value, echo = _pair.unpack_from(data, start + 4)
        return value, echo, (), SynOptions() if is_syn else None
    ts_val = -1
    ts_ecr = 0
    blocks: SackBlocks = ()
    syn = SynOptions() if is_syn else None
    at = start
    while at < end:
        kind = data[at]
        if kind == NOP:
            at += 1
            continue
        if kind == END or at + 1 >= end:
            break
        size = data[at + 1]
        if size < 2 or at + size > end:
            break
        if kind == TIMESTAMPS and size == 10:
            ts_val, ts_ecr = _pair.unpack_from(data, at + 2)
        elif kind == SACK and not is_syn and size >= 10 and (size - 2) % 8 == 0:
            blocks = tuple(_pair.unpack_from(data, at + 2 + i) for i in range(0, size - 2, 8))
        elif syn is not None:
            _read_syn_option(syn, kind, bytes(data[at + 2 : at + size]))
        at += size
    return ts_val, ts_ecr, blocks, syn


def _read_syn_option(syn: SynOptions, kind: int, body: bytes) -> None:
    if kind == MSS and len(body) == 2:
        syn.mss = int.from_bytes(body, "big")
    elif kind == WINDOW_SCALE and len(body) == 1:
        syn.wscale = min(body[0], MAX_WINDOW_SHIFT)  # RFC 7323 2.3: use 14 for anything larger
    elif kind == SACK_PERMITTED and not body:
        syn.sack_permitted = True
    elif kind == FAST_OPEN and (not body or (4 <= len(body) <= 16 and len(body) % 2 == 0)):
        syn.fast_open = body  # RFC 7413 4.1.1


def emit_options(ts_val: int, ts_ecr: int, sack_blocks: SackBlocks, syn: SynOptions | None) -> bytes:
    """The option area, a multiple of four bytes. The caller sees to it that it fits MAX_OPTION_BYTES."""
    if syn is None and not sack_blocks:
        if ts_val < 0:
            return b""
        return _timestamps_aligned.pack(TIMESTAMP_WORD, ts_val, ts_ecr)
    out = bytearray()
    if syn is not None:
        _emit_syn(out, syn, ts_val, ts_ecr)
    elif ts_val >= 0:
        out += _TIMESTAMP_PREFIX + _pair.pack(ts_val, ts_ecr)
    if sack_blocks:
        out += bytes((NOP, NOP, SACK, 2 + 8 * len(sack_blocks)))
        for left, right in sack_blocks:
            out += _pair.pack(left, right)
    out += bytes(-len(out) % 4)
    return bytes(out)


def _emit_syn(out: bytearray, syn: SynOptions, ts_val: int, ts_ecr: int) -> None:
    """The SYN's options in the order Linux writes them, so that fingerprints and middleboxes see nothing odd."""
    if syn.mss:
        out += bytes((MSS, 4)) + syn.mss.to_bytes(2, "big")
    if ts_val >= 0:
        if syn.sack_permitted:
            out += bytes((SACK_PERMITTED, 2))
        else:
            out += bytes((NOP, NOP))
        out += bytes((TIMESTAMPS, 10)) + _pair.pack(ts_val, ts_ecr)
    elif syn.sack_permitted:
        out += bytes((NOP, NOP, SACK_PERMITTED, 2))
    if syn.wscale >= 0:
        out += bytes((NOP, WINDOW_SCALE, 3, syn.wscale))
    if syn.fast_open is not None:
        out += bytes((FAST_OPEN, 2 + len(syn.fast_open))) + syn.fast_open


def options_length(ts_val: int, sack_count: int, syn: SynOptions | None) -> int:
    """Bytes that `emit_options` makes of this."""
    if syn is None:
        return (TIMESTAMP_BYTES if ts_val >= 0 else 0) + (4 + 8 * sack_count if sack_count else 0)
    return len(emit_options(ts_val, 0, (), syn)) + (4 + 8 * sack_count if sack_count else 0)

"""One TCP segment as TCP sees it, in both directions: header fields, options, payload; no ports, no addresses.

A received segment's payload must stay as it is for good (a view of a buffer that nobody writes again): the receive
queue keeps it until the reader takes it. A sent segment's payload is a view of the send queue, under the same rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from services.netstackd.wire.tcp_options import SackBlocks, SynOptions

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80

MASK: Final = 0xFFFFFFFF

# The ECN field of the IP header (RFC 3168 5).
NOT_ECT: Final = 0
ECT_1: Final = 1
ECT_0: Final = 2
CE: Final = 3

Payload = bytes | memoryview


class Segment:
    """seq, ack and timestamps are wire numbers (32 bits); `window` is the header's field, not yet scaled.

    ts_val      -1: no timestamp option
    sack_blocks ((left, right), ...) in the order of the option; the first may be a D-SACK
    urgent      the urgent pointer's field; means nothing without URG
    ecn         codepoint of the IP header: sent as given, received as found
    gso_size    0: one segment; else the payload stands for several of this size (the last may be shorter)
    syn         the options that only a SYN has; None in all other segments
    """

    __slots__ = (
        "ack",
        "ecn",
        "flags",
        "gso_size",
        "payload",
        "sack_blocks",
        "seq",
        "syn",
        "ts_ecr",
        "ts_val",
        "urgent",
        "window",
    )

    def __init__(
        self,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        payload: Payload = b"",
        ts_val: int = -1,
        ts_ecr: int = 0,
        sack_blocks: SackBlocks = (),
        urgent: int = 0,
        ecn: int = 0,
        gso_size: int = 0,
        syn: SynOptions | None = None,
    ) -> None:
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.window = window
        self.payload = payload
        self.ts_val = ts_val
        self.ts_ecr = ts_ecr
        self.sack_blocks = sack_blocks
        self.urgent = urgent
        self.ecn = ecn
        self.gso_size = gso_size
        self.syn = syn

    def __repr__(self) -> str:
        letters = "".join(letter for bit, letter in enumerate("FSRPAUEC") if self.flags >> bit & 1)
        stamp = f" ts {self.ts_val}/{self.ts_ecr}" if self.ts_val >= 0 else ""
        sack = f" sack {self.sack_blocks}" if self.sack_blocks else ""
        return f"<{letters} {self.seq}+{len(self.payload)} ack {self.ack} win {self.window}{stamp}{sack}>"


def separate(segment: Segment, payloads: Sequence[Payload], pushed: bool) -> Iterator[Segment]:
    """The segments of `Route.send_run`, one by one."""
    seq = segment.seq
    for index, payload in enumerate(payloads, 1):
        yield Segment(
            seq,
            segment.ack,
            segment.flags | PSH if pushed and index == len(payloads) else segment.flags,
            segment.window,
            payload,
            segment.ts_val,
            segment.ts_ecr,
            segment.sack_blocks,
            segment.urgent,
            segment.ecn,
            segment.gso_size,
        )
        seq = (seq + len(payload)) & MASK


def reset_for(segment: Segment) -> Segment | None:
    """The reset that answers a segment for which there is no connection; None for a reset (RFC 9293 3.10.7.1)."""
    flags = segment.flags
    if flags & RST:
        return None
    if flags & ACK:
        return Segment(segment.ack, 0, RST, 0)
    length = len(segment.payload) + (1 if flags & SYN else 0) + (1 if flags & FIN else 0)
    return Segment(0, (segment.seq + length) & MASK, RST | ACK, 0)

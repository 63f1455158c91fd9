"""SYN cookies: a SYN-ACK whose sequence number is all the memory that a half-open connection needs.

    bits 31..27   time, in units of 64 s
    bits 26..24   index into MSS_TABLE
    bits 23..0    keyed hash of the connection, the peer's ISN and the bits above

With timestamps, the low six bits of the SYN-ACK's timestamp carry what the peer offered (window scale, SACK, ECN), and
come back in the final ACK's echo; without them only the MSS survives. A cookie is good for two units of time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.transport.tcp.parameters import MILLISECOND, SECOND
from services.netstackd.transport.tcp.segment import MASK

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.context import TcpContext

PERIOD: Final = 64 * SECOND
MAX_AGE: Final = 2  # periods
MSS_TABLE: Final = (536, 1220, 1300, 1380, 1440, 1460, 4312, 8960)

NO_WSCALE: Final = 0xF
SACK_BIT: Final = 0x10
ECN_BIT: Final = 0x20
OPTION_BITS: Final = 0x3F


def _mac(context: TcpContext, flow: bytes, irs: int, top: int) -> int:
    data = flow + irs.to_bytes(4, "big") + top.to_bytes(1, "big")
    return context.keyed_hash(b"syncooki", data, 3)


def make(context: TcpContext, flow: bytes, irs: int, mss: int, now: int) -> int:
    """The ISN of our SYN-ACK."""
    index = 0
    for candidate, size in enumerate(MSS_TABLE):
        if size <= mss:
            index = candidate
    top = (now // PERIOD & 0x1F) << 3 | index
    return top << 24 | _mac(context, flow, irs, top)


def check(context: TcpContext, flow: bytes, irs: int, cookie: int, now: int) -> int:
    """The MSS that a returned cookie stands for; 0 when it is none of ours, or too old."""
    top = cookie >> 24 & 0xFF
    age = (now // PERIOD - (top >> 3)) & 0x1F
    if age >= MAX_AGE or _mac(context, flow, irs, top) != cookie & 0xFFFFFF:
        return 0
    return MSS_TABLE[top & 7]


def timestamp(offset: int, wscale: int, sack: bool, ecn: bool, now: int) -> int:
    """The SYN-ACK's TSval: not later than the clock, its low bits the peer's options."""
    bits = (wscale if wscale >= 0 else NO_WSCALE) | (SACK_BIT if sack else 0) | (ECN_BIT if ecn else 0)
    clock = now // MILLISECOND
    value = clock & ~OPTION_BITS | bits
    if value > clock:
        value -= OPTION_BITS + 1
    return (value + offset) & MASK


def options_of(offset: int, echo: int) -> tuple[int, bool, bool]:
    """(wscale or -1, sack, ecn) from the echo of such a timestamp."""
    bits = (echo - offset) & OPTION_BITS
    wscale = bits & NO_WSCALE
    return (-1 if wscale == NO_WSCALE else wscale), bool(bits & SACK_BIT), bool(bits & ECN_BIT)

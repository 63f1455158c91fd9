"""Initial sequence numbers and timestamp offsets: a clock plus a keyed hash of the connection (RFC 6528, RFC 7323
5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.netstackd.transport.tcp.segment import MASK

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.context import TcpContext


def initial_sequence(context: TcpContext, flow: bytes, now: int) -> int:
    """ISN = M + F(flow, secret), M a clock that ticks every 64 ns (Linux's rate; RFC 9293 3.4.1 asks for at least one
    tick every 4 us), so that a later connection of the same two ends starts above an earlier one."""
    return (context.keyed_hash(b"isn", flow, 4) + (now >> 6)) & MASK


def timestamp_offset(context: TcpContext, flow: bytes) -> int:
    """What is added to the millisecond clock: another value for each pair of addresses and ports."""
    return context.keyed_hash(b"tsoffset", flow, 4)

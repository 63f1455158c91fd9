"""Urgent data (RFC 9293 3.8.5, 6093), as sockets show it: one byte out of band, a mark in the stream, SIGURG/POLLPRI.

The urgent pointer names the byte after the urgent one, as RFC 793's text and every implementation have it (RFC 6093
2.1, Linux without tcp_stdurg). The byte stays in the receive buffer and is skipped by `read`, unless SO_OOBINLINE.
"""

from __future__ import annotations

import errno
from select import POLLPRI
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.segment import Segment

NONE: Final = 0
ANNOUNCED: Final = 1  # its place is known, the byte has not come
READY: Final = 2
TAKEN: Final = 3  # read by MSG_OOB; its place in the stream is not yet reached


def on_segment(endpoint: Endpoint, segment: Segment, seq: int) -> None:
    """A segment with URG whose data begins at `seq` (unwrapped)."""
    if not segment.urgent:
        return
    at = seq + segment.urgent - 1
    if at < endpoint.copied_seq or at < endpoint.rcv_nxt:
        return  # read already, or in the past
    if endpoint.urgent_state and at <= endpoint.urgent_seq:
        return
    endpoint.urgent_seq = at
    endpoint.urgent_state = ANNOUNCED
    endpoint.slow_only = True
    endpoint.notify(POLLPRI)


def on_data(endpoint: Endpoint, seq: int, data: bytes | memoryview) -> None:
    """Data from `seq` on was put into the receive buffer: the urgent byte may be in it."""
    if endpoint.urgent_state == ANNOUNCED and seq <= endpoint.urgent_seq < seq + len(data):
        endpoint.urgent_byte = data[endpoint.urgent_seq - seq]
        endpoint.urgent_state = READY
        endpoint.notify(POLLPRI)


def limit_read(endpoint: Endpoint, limit: int) -> int:
    """How much a read may take: it stops before the mark, and drops the byte itself unless it is inline."""
    ahead = endpoint.urgent_seq - endpoint.copied_seq
    if ahead < 0:
        endpoint.urgent_state = NONE
        endpoint.slow_only = False
        return limit
    if ahead == 0 and endpoint.receive.size:
        inline = endpoint.options.oobinline
        endpoint.urgent_state = NONE
        endpoint.slow_only = False
        if not inline:
            endpoint.receive.discard(1)
            endpoint.copied_seq += 1
        return limit
    return min(limit, ahead) if ahead else limit


def read(endpoint: Endpoint, peek: bool) -> int:
    """The byte, or -errno (tcp_recv_urg)."""
    state = endpoint.urgent_state
    if endpoint.options.oobinline or state in (NONE, TAKEN):
        return -errno.EINVAL
    if state == READY:
        if not peek:
            endpoint.urgent_state = TAKEN
        return endpoint.urgent_byte
    return -errno.EAGAIN

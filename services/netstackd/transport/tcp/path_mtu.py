"""What the network says, or hides, about a connection: ICMP errors, path MTU, black holes.

ICMP (RFC 5461, 5927): nothing ICMP says ends an established connection; a hard error ends one that is being opened. The
caller has checked that the quoted sequence number is one of ours in flight. Path MTU (RFC 1191, 8201): the route knows
the new size first, we read it. Black holes (RFC 4821 without its upward probing): when retransmission after
retransmission gets no answer, smaller segments are tried.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import scoreboard
from services.netstackd.transport.tcp.parameters import MIN_MSS
from services.netstackd.transport.tcp.scoreboard import SACKED, SYN_BIT
from services.netstackd.transport.tcp.states import SYN_RECEIVED, SYN_SENT
from services.netstackd.wire.tcp_options import TIMESTAMP_BYTES

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

FRAG_NEEDED: Final = 1
NET_UNREACHABLE: Final = 2
HOST_UNREACHABLE: Final = 3
PROTOCOL_UNREACHABLE: Final = 4
PORT_UNREACHABLE: Final = 5
ADMIN_PROHIBITED: Final = 6
TTL_EXCEEDED: Final = 7
PARAMETER_PROBLEM: Final = 8

_ERRNO: Final[dict[int, int]] = {
    NET_UNREACHABLE: errno.ENETUNREACH,
    HOST_UNREACHABLE: errno.EHOSTUNREACH,
    PROTOCOL_UNREACHABLE: errno.ENOPROTOOPT,
    PORT_UNREACHABLE: errno.ECONNREFUSED,
    ADMIN_PROHIBITED: errno.EHOSTUNREACH,
    TTL_EXCEEDED: errno.EHOSTUNREACH,
    PARAMETER_PROBLEM: errno.EPROTO,
}

# RFC 1122 4.2.3.9: these three end an attempt to connect; Linux lets every unreachable do so.
_FATAL_WHILE_OPENING: Final = frozenset(
    {
        NET_UNREACHABLE,
        HOST_UNREACHABLE,
        PROTOCOL_UNREACHABLE,
        PORT_UNREACHABLE,
        ADMIN_PROHIBITED,
        TTL_EXCEEDED,
        PARAMETER_PROBLEM,
    }
)

_MTUP_FAIL = COUNTER["TcpExtTCPMTUPFail"]


def on_error(endpoint: Endpoint, kind: int, now: int) -> None:
    if kind == FRAG_NEEDED:
        on_smaller_path(endpoint, now)
        return
    error = _ERRNO.get(kind, errno.EPROTO)
    if endpoint.state in (SYN_SENT, SYN_RECEIVED) and endpoint.syn_pending() and kind in _FATAL_WHILE_OPENING:
        endpoint.finish(error)
        return
    endpoint.soft_error = error  # told when the connection times out in the end


def update_mss(endpoint: Endpoint) -> int:
    """Payload of a full segment: the least of the peer's MSS option, the path and our caps, less the options that
    every segment carries (RFC 6691)."""
    size = min(endpoint.peer_mss, endpoint.route.mss_for_path())
    if endpoint.options.maxseg:
        size = min(size, endpoint.options.maxseg)
    if endpoint.mss_cap:
        size = min(size, endpoint.mss_cap)
    if endpoint.ts_ok:
        size -= TIMESTAMP_BYTES
    endpoint.mss = mss = max(size, MIN_MSS)
    endpoint.cc.set_mss(mss)
    return mss


def on_smaller_path(endpoint: Endpoint, now: int) -> None:
    """Fragmentation needed, or packet too big: smaller segments from here, what was too large again at once, and no
    reduction of the window, as no congestion was seen (RFC 1191 6.5)."""
    before = endpoint.mss
    after = update_mss(endpoint)
    if after >= before or not endpoint.sent or endpoint.sent[0].flags & SYN_BIT:
        return
    resend_larger_than(endpoint, after)


def resend_larger_than(endpoint: Endpoint, size: int) -> None:
    for record in endpoint.sent:
        if record.end - record.seq > size and not record.flags & SACKED:
            scoreboard.mark_lost(endpoint, record)
    endpoint.lost_hint = endpoint.snd_una
    if endpoint.ca_state < 2 and endpoint.lost_bytes:
        # As Linux's tcp_simple_retransmit: an episode of LOSS whose window stays as it is.
        endpoint.high_seq = endpoint.snd_nxt
        endpoint.ca_state = 4
        endpoint.undo_marker = -1
    endpoint.wake()


def suspect_black_hole(endpoint: Endpoint, now: int) -> None:
    """Several time-outs in a row: perhaps large packets vanish and ICMP with them. Halve, from `base_mss` down."""
    p = endpoint.p
    if not p.mtu_probing:
        return
    floor = max(p.mtu_probe_floor, MIN_MSS)
    if endpoint.mss <= floor:
        return
    cap = endpoint.mss_cap
    endpoint.mss_cap = max(cap >> 1, floor) if cap else min(p.base_mss, endpoint.mss)
    endpoint.counters[_MTUP_FAIL] += 1
    update_mss(endpoint)

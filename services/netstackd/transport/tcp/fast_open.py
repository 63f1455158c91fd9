"""TCP fast open (RFC 7413): data in the SYN for who has shown a cookie before.

A cookie is a keyed hash of the two addresses, so the server keeps nothing for it. A client remembers one per pair of
addresses, with the server's MSS, in `context.fast_open_cookies` (bounded, the oldest goes first), and leaves a path
alone for a while on which a SYN with data got no answer (4.1.3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp.context import MAX_FAST_OPEN_COOKIES, FastOpenMemory
from services.netstackd.transport.tcp.parameters import DEFAULT_MSS, SECOND

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.context import TcpContext
    from services.netstackd.transport.tcp.endpoint import Endpoint
    from services.netstackd.transport.tcp.segment import Segment

COOKIE_BYTES: Final = 8
BLACKHOLE_PAUSE: Final = 3600 * SECOND  # tcp_fastopen_blackhole_timeout_sec's order of magnitude

_ACTIVE_FAIL = COUNTER["TcpExtTCPFastOpenActiveFail"]
_BLACKHOLE = COUNTER["TcpExtTCPFastOpenBlackhole"]


def server_cookie(context: TcpContext, peer: bytes) -> bytes:
    """The cookie that a client at `peer` must show."""
    return context.keyed_hash(b"fastopen", peer, COOKIE_BYTES).to_bytes(COOKIE_BYTES, "big")


def syn_payload(endpoint: Endpoint, now: int) -> int:
    """How many bytes of the queue may ride on our SYN; 0 makes it a request for a cookie."""
    memory = endpoint.context.fast_open_cookies.get(endpoint.route.peer)
    if memory is not None and now - memory.failed_at < BLACKHOLE_PAUSE:
        return 0
    endpoint.cookie_requested = True
    if memory is None or not memory.cookie:
        return 0
    mss = min(memory.mss or DEFAULT_MSS, endpoint.route.mss_for_path())
    return min(len(endpoint.send), mss - 40)  # a SYN's options are at most 40 bytes


def cookie_for(endpoint: Endpoint) -> bytes:
    """The option's body in our SYN; empty asks for a cookie."""
    memory = endpoint.context.fast_open_cookies.get(endpoint.route.peer)
    return memory.cookie if memory is not None else b""


def on_syn_timeout(endpoint: Endpoint, now: int) -> None:
    """A SYN with data got no answer: perhaps something on the way drops it."""
    if len(endpoint.sent) > 1:
        endpoint.counters[_ACTIVE_FAIL] += 1
        endpoint.counters[_BLACKHOLE] += 1
        memory = endpoint.context.fast_open_cookies.get(endpoint.route.peer)
        if memory is not None:
            memory.failed_at = now


def on_syn_ack(endpoint: Endpoint, segment: Segment, ack: int, now: int) -> None:
    """Keep the cookie that came, and note whether our data was taken."""
    if endpoint.cookie_requested and segment.syn is not None and segment.syn.fast_open:
        cookies = endpoint.context.fast_open_cookies
        peer = endpoint.route.peer
        cookies.pop(peer, None)
        if len(cookies) >= MAX_FAST_OPEN_COOKIES:
            del cookies[next(iter(cookies))]
        cookies[peer] = FastOpenMemory(segment.syn.fast_open, segment.syn.mss)
    if endpoint.snd_nxt > endpoint.iss + 1:
        endpoint.syn_data_acked = ack > endpoint.iss + 1
        if not endpoint.syn_data_acked:
            endpoint.counters[_ACTIVE_FAIL] += 1

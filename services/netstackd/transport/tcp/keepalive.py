"""Keepalive: is the peer of an idle connection still there? (RFC 9293 3.8.4, 1122 4.2.3.6)

A probe is a segment with an old sequence number and no data, which has to be answered. Not sent while data is in flight
or waits: then retransmission asks the same question.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import output

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

_KEEPALIVE = COUNTER["TcpExtTCPKeepAlive"]
_ABORT_ON_TIMEOUT = COUNTER["TcpExtTCPAbortOnTimeout"]


def expire(endpoint: Endpoint, now: int) -> None:
    options = endpoint.options
    if not options.keepalive:
        return
    last = max(endpoint.last_receive, endpoint.started_at)
    silent = now - last
    if endpoint.sent or endpoint.snd_nxt < endpoint.send.end:
        endpoint.idle_at = now + options.keepalive_idle
        return
    if silent < options.keepalive_idle:
        endpoint.keepalive_probes = 0
        endpoint.idle_at = last + options.keepalive_idle
        return
    # TCP_USER_TIMEOUT takes the place of the number of probes (tcp(7)).
    user = options.user_timeout
    if (user and silent >= user and endpoint.keepalive_probes) or (
        not user and endpoint.keepalive_probes >= options.keepalive_probes
    ):
        output.send_reset(endpoint, now)
        endpoint.counters[_ABORT_ON_TIMEOUT] += 1
        endpoint.finish(endpoint.soft_error or errno.ETIMEDOUT)
        return
    output.send_probe(endpoint, now)
    endpoint.counters[_KEEPALIVE] += 1
    endpoint.keepalive_probes += 1
    endpoint.idle_at = now + options.keepalive_interval

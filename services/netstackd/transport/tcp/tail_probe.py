"""Tail loss probe: when the end of a flight may be lost, send one segment to provoke an ack (RFC 8985 section 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import loss_recovery, output, scoreboard
from services.netstackd.transport.tcp.parameters import DELAYED_ACK_MAX, MILLISECOND, SECOND
from services.netstackd.transport.tcp.scoreboard import FIN_BIT

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

_PROBES = COUNTER["TcpExtTCPLossProbes"]
_RECOVERIES = COUNTER["TcpExtTCPLossProbeRecovery"]

MIN_TIMEOUT: Final = 2 * MILLISECOND


def timeout(endpoint: Endpoint) -> int:
    """PTO (7.2): two round trips, and the peer's delayed ack where a single segment is in flight."""
    srtt = endpoint.rtt.srtt
    if not srtt:
        return SECOND
    pto = 2 * srtt
    if endpoint.snd_nxt - endpoint.snd_una <= endpoint.mss:
        return pto + DELAYED_ACK_MAX
    return pto + MIN_TIMEOUT


def allowed(endpoint: Endpoint) -> bool:
    """7.2: not during recovery, not while anything is sacked, once per flight."""
    return (
        endpoint.p.early_retrans
        and endpoint.sack_ok
        and endpoint.ca_state in (0, 2)
        and not endpoint.sacked_bytes
        and not endpoint.tail_probe_end
    )


def send(endpoint: Endpoint, now: int) -> None:
    """7.3: new data if there is any that the window allows, else the last segment again."""
    nxt = endpoint.snd_nxt
    window_end = endpoint.snd_una + endpoint.snd_wnd
    mss = output.effective_mss(endpoint)
    waiting = endpoint.send.end - nxt
    if waiting > 0 and nxt + min(waiting, mss) <= window_end:
        output.send_data(endpoint, nxt, nxt + min(waiting, mss), mss, now)
        endpoint.tail_probe_retrans = False
    else:
        sent = endpoint.sent
        last = sent[-1]
        payload = last.end - last.seq - (1 if last.flags & FIN_BIT else 0)
        if payload > mss:
            # Its last MSS, or what is left over a whole number of them, and the FIN if it has one.
            scoreboard.split(endpoint, len(sent) - 1, last.seq + payload - ((payload - 1) % mss + 1))
        output.retransmit(endpoint, len(sent) - 1, mss, now)
        endpoint.tail_probe_retrans = True
    endpoint.tail_probe_end = endpoint.snd_nxt
    endpoint.counters[_PROBES] += 1


def on_ack(endpoint: Endpoint, ack: int, dsack: bool, pure_duplicate: bool, now: int) -> None:
    """7.4: what the ack says of the probe. The loss that a retransmitted probe repaired counts as congestion."""
    end = endpoint.tail_probe_end
    if ack < end:
        return
    if not endpoint.tail_probe_retrans or dsack:
        endpoint.tail_probe_end = 0
    elif ack > end:
        endpoint.tail_probe_end = 0
        if endpoint.ca_state == 0:
            loss_recovery.enter_window_reduction(endpoint, 0, now)
            endpoint.counters[_RECOVERIES] += 1
    elif pure_duplicate:
        endpoint.tail_probe_end = 0

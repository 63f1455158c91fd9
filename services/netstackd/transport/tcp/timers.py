"""Time: one tagged timer for what waits on an ack, and the few others that may run beside it.

`endpoint.timer` says what `timer_at` means; only one of these can be due at a time, as each excludes the others:
    OFF           nothing waits
    RETRANSMIT    RFC 6298 time-out, of SYN, data or FIN
    TAIL_PROBE    RFC 8985 7
    REORDERING    RFC 8985 6.2: what RACK did not yet dare to call lost
    PROBE         RFC 9293 3.8.6.1: the peer's window is closed (or cork holds data back)
Beside it: `ack_due_at` (delayed ack), `idle_at` (keepalive, or the end of FIN-WAIT-2), `next_pace_at`, `look_at` (the
user's own).

`deadline` is the earliest of all and may be early: a timer that is put off, as on each ack, leaves it alone, and
`expire` then finds nothing due and sets it right. So putting a timer off costs one store, and an idle connection none.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import (
    keepalive,
    loss_recovery,
    output,
    path_mtu,
    rack,
    scoreboard,
    tail_probe,
    window,
)
from services.netstackd.transport.tcp.parameters import NEVER, RTO_AFTER_SYN_LOSS
from services.netstackd.transport.tcp.scoreboard import SYN_BIT
from services.netstackd.transport.tcp.states import (
    CLOSED,
    FIN_WAIT_2,
    SYN_SENT,
    TRANSMITTING,
)

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

OFF: Final = 0
RETRANSMIT: Final = 1
TAIL_PROBE: Final = 2
REORDERING: Final = 3
PROBE: Final = 4

_TIMEOUTS = COUNTER["TcpExtTCPTimeouts"]
_ABORT_ON_TIMEOUT = COUNTER["TcpExtTCPAbortOnTimeout"]
_ABORT_ON_LINGER = COUNTER["TcpExtTCPAbortOnLinger"]
_DELAYED_ACKS = COUNTER["TcpExtDelayedACKs"]
_WIN_PROBE = COUNTER["TcpExtTCPWinProbe"]


def _set(endpoint: Endpoint, kind: int, at: int) -> None:
    endpoint.timer = kind
    endpoint.timer_at = at
    if at < endpoint.deadline:
        endpoint.arm(at)


def stop(endpoint: Endpoint) -> None:
    endpoint.timer = OFF
    endpoint.timer_at = NEVER


def rearm(endpoint: Endpoint, now: int) -> None:
    """Something is in flight, or was just acknowledged: start the time-out again, or a tail probe before it."""
    if not endpoint.sent:
        stop(endpoint)
        return
    estimator = endpoint.rtt
    after = estimator.rto if not endpoint.backoff else estimator.backed_off(endpoint.backoff)
    kind = RETRANSMIT
    if tail_probe.allowed(endpoint):
        pto = tail_probe.timeout(endpoint)
        if pto < after:
            kind, after = TAIL_PROBE, pto
    endpoint.timer = kind
    endpoint.timer_at = at = now + after
    if at < endpoint.deadline:
        endpoint.arm(at)


def start_retransmit(endpoint: Endpoint, now: int) -> None:
    _set(endpoint, RETRANSMIT, now + endpoint.rtt.backed_off(endpoint.backoff))


def start_reordering(endpoint: Endpoint, at: int) -> None:
    _set(endpoint, REORDERING, at)


def start_probing(endpoint: Endpoint, now: int) -> None:
    """Data waits, nothing is in flight, and the window does not let it go."""
    _set(endpoint, PROBE, now + endpoint.rtt.backed_off(endpoint.backoff))


def start_fin_wait_2(endpoint: Endpoint, now: int) -> None:
    """An orphan waits for the peer's FIN only so long (tcp_fin_timeout, TCP_LINGER2)."""
    wait = endpoint.options.linger2
    if wait < 0:
        endpoint.counters[_ABORT_ON_LINGER] += 1
        endpoint.abort(now)
        return
    endpoint.idle_at = now + wait
    endpoint.arm(endpoint.idle_at)


def restart_keepalive(endpoint: Endpoint, now: int) -> None:
    """The option was switched, or the connection has just been established."""
    if endpoint.state == FIN_WAIT_2 and endpoint.orphan:
        return
    if endpoint.options.keepalive and TRANSMITTING >> endpoint.state & 1:
        endpoint.idle_at = max(endpoint.last_receive, endpoint.started_at) + endpoint.options.keepalive_idle
        endpoint.arm(endpoint.idle_at)
    else:
        endpoint.idle_at = NEVER


# -------------------------------------------------------------------- expiry


def expire(endpoint: Endpoint, now: int) -> None:
    """Do all that is due, and say when to come back."""
    endpoint.deadline = NEVER
    if endpoint.ack_due_at <= now:
        endpoint.ack_due_at = NEVER
        endpoint.ack_now = True
        endpoint.counters[_DELAYED_ACKS] += 1
        window.on_delayed_ack_timer(endpoint)
        endpoint.wake()
    if endpoint.timer_at <= now:
        kind = endpoint.timer
        stop(endpoint)
        if kind == RETRANSMIT:
            _on_retransmit(endpoint, now)
        elif kind == TAIL_PROBE:
            if endpoint.sent:
                tail_probe.send(endpoint, now)
                start_retransmit(endpoint, now)
        elif kind == REORDERING:
            _on_reordering(endpoint, now)
        elif kind == PROBE:
            _on_probe(endpoint, now)
    if endpoint.idle_at <= now and endpoint.state != CLOSED:
        endpoint.idle_at = NEVER
        if endpoint.state == FIN_WAIT_2 and endpoint.orphan:
            endpoint.finish()
        else:
            keepalive.expire(endpoint, now)
    if endpoint.state == CLOSED:
        endpoint.deadline = NEVER
        return
    if endpoint.look_at <= now:
        endpoint.look_at = NEVER
        endpoint.wake()
    if endpoint.next_pace_at and endpoint.next_pace_at <= now and endpoint.snd_nxt < endpoint.send.end:
        endpoint.wake()
    at = min(endpoint.timer_at, endpoint.ack_due_at, endpoint.idle_at, endpoint.look_at)
    if now < endpoint.next_pace_at < at and endpoint.snd_nxt < endpoint.send.end:
        at = endpoint.next_pace_at
    endpoint.deadline = NEVER
    if at < NEVER:
        endpoint.arm(at)


def timed_out(endpoint: Endpoint, boundary: int, now: int) -> bool:
    """Retransmission has gone on for as long as `boundary` time-outs with exponential back-off take from the minimal
    RTO (Linux counts time, not packets: tcp_retries2 15 is 924.6 s); TCP_USER_TIMEOUT is the limit where it is set."""
    if not endpoint.retransmits:
        return False
    start = endpoint.retrans_stamp or now
    limit = endpoint.options.user_timeout
    if not limit:
        base = endpoint.p.rto_min
        most = endpoint.p.rto_max
        doublings = (most // base).bit_length() - 1
        if boundary <= doublings:
            limit = ((2 << boundary) - 1) * base
        else:
            limit = ((2 << doublings) - 1) * base + (boundary - doublings) * most
    return now - start >= limit


def _tries(endpoint: Endpoint) -> int:
    """How often to go on asking: fewer times for who has no user any more; not at all for one that the network has
    reported unreachable and that is down to the longest interval (tcp_orphan_retries)."""
    if not endpoint.orphan:
        return endpoint.p.retries2
    if endpoint.soft_error and endpoint.rtt.backed_off(endpoint.backoff) >= endpoint.p.rto_max:
        return 0
    return endpoint.p.orphan_retries


def _on_retransmit(endpoint: Endpoint, now: int) -> None:
    sent = endpoint.sent
    if not sent:
        return
    if sent[0].flags & SYN_BIT:
        _on_syn_timeout(endpoint, now)
        return
    if endpoint.retransmits >= endpoint.p.retries1 or timed_out(endpoint, endpoint.p.retries1, now):
        path_mtu.suspect_black_hole(endpoint, now)
    limit = _tries(endpoint)
    # The peer closed its window over what is in flight, but is there: our retransmissions are probes then, which do not
    # count against it (RFC 9293 3.8.6.1; Linux's tcp_retransmit_timer).
    closed = not endpoint.snd_wnd and not endpoint.orphan and now - endpoint.last_receive <= endpoint.p.rto_max
    if not closed and timed_out(endpoint, limit, now):
        _give_up(endpoint)
        return
    endpoint.counters[_TIMEOUTS] += 1
    loss_recovery.enter_loss(endpoint, now)
    if not endpoint.retrans_stamp:
        endpoint.retrans_stamp = now
    output.retransmit(endpoint, 0, endpoint.mss, now)
    endpoint.lost_hint = endpoint.snd_una
    if not closed:
        endpoint.retransmits += 1
    endpoint.backoff += 1
    _set(endpoint, RETRANSMIT, now + endpoint.rtt.backed_off(endpoint.backoff))


def _on_syn_timeout(endpoint: Endpoint, now: int) -> None:
    """RFC 9293 3.8.3: at least three minutes for a SYN; Linux counts tries."""
    limit = endpoint.options.syncnt if endpoint.state == SYN_SENT else endpoint.p.synack_retries
    user = endpoint.options.user_timeout
    if endpoint.retransmits >= limit or (user and now - endpoint.started_at >= user):
        _give_up(endpoint)
        return
    endpoint.counters[_TIMEOUTS] += 1
    output.retransmit(endpoint, 0, endpoint.mss, now)
    endpoint.retransmits += 1
    endpoint.backoff += 1
    _set(endpoint, RETRANSMIT, now + endpoint.rtt.backed_off(endpoint.backoff))


def after_handshake(endpoint: Endpoint) -> None:
    """RFC 6298 5.7: data after a lost SYN starts with three seconds, unless there was a sample."""
    if endpoint.retransmits:
        endpoint.rtt.set_after_syn_loss(RTO_AFTER_SYN_LOSS)
        endpoint.cc.cwnd = min(endpoint.cc.cwnd, endpoint.mss)  # RFC 5681 3.1: a lost SYN or SYN-ACK: one segment
    endpoint.retransmits = 0
    endpoint.backoff = 0
    endpoint.retrans_stamp = 0


def _on_reordering(endpoint: Endpoint, now: int) -> None:
    """RFC 8985 6.2 step 5, by the timer: what waited long enough is lost."""
    timeout = rack.detect(endpoint, now)
    if endpoint.lost_bytes:
        if endpoint.ca_state < loss_recovery.RECOVERY:
            loss_recovery.enter_recovery(endpoint, 0, now)
            endpoint.cc.cwnd = endpoint.prr.window(
                0, scoreboard.pipe(endpoint), endpoint.cc.ssthresh, endpoint.mss, False
            )
        endpoint.wake()
    if timeout:
        start_reordering(endpoint, now + timeout)
    else:
        start_retransmit(endpoint, now)


def _on_probe(endpoint: Endpoint, now: int) -> None:
    """RFC 9293 3.8.6.1. The peer may keep its window closed for ever as long as it answers."""
    if endpoint.sent or (endpoint.snd_nxt >= endpoint.send.end and not endpoint.fin_queued):
        endpoint.probes_out = 0
        if endpoint.sent:
            rearm(endpoint, now)
        return
    limit = _tries(endpoint)
    user = endpoint.options.user_timeout
    if not endpoint.probes_out:
        endpoint.retrans_stamp = now
    if endpoint.probes_out >= limit or (user and endpoint.probes_out and now - endpoint.retrans_stamp >= user):
        _give_up(endpoint)
        return
    endpoint.counters[_WIN_PROBE] += 1
    nxt = endpoint.snd_nxt
    room = endpoint.snd_una + endpoint.snd_wnd - nxt
    waiting = endpoint.send.end - nxt
    if room > 0 and waiting > 0:
        # The override time-out of silly-window avoidance, and of cork: what fits goes (RFC 9293 3.8.6.2.1 (4)).
        mss = output.effective_mss(endpoint)
        output.send_data(endpoint, nxt, nxt + min(room, waiting, mss), mss, now)
        start_retransmit(endpoint, now)
        return
    output.send_probe(endpoint, now)
    endpoint.probes_out += 1
    if endpoint.backoff < 31:
        endpoint.backoff += 1
    start_probing(endpoint, now)


def _give_up(endpoint: Endpoint) -> None:
    endpoint.counters[_ABORT_ON_TIMEOUT] += 1
    endpoint.finish(endpoint.soft_error or errno.ETIMEDOUT)

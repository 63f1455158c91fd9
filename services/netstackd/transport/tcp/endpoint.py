"""One TCP connection: all of its state, and what its user can do with it.

Read `segment.py` and `context.py` first. The rules live in other files, as functions that take the endpoint:
    input.py        what a segment does                    output.py       what may leave now
    acknowledge.py  what an acknowledgement does           window.py       what we offer to receive, when we acknowledge
    handshake.py    SYN, SYN-ACK, options                  timers.py       what time does
    loss_recovery.py, rack.py, sack.py, prr.py             keepalive.py, path_mtu.py, urgent.py

Life: made by `connect` or by a `Listener`; ends in CLOSED, when `context.on_done` was called once and every timer is
off. The user may hold it for longer, to read what is left. Calls that change something only note that the endpoint
has to be asked (`wake`); segments leave in `flush`, which the stack calls once a batch through `context.flush`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from select import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI
from typing import TYPE_CHECKING, Any, Final

from services.netstackd.counters import COUNTER
from services.netstackd.storage.assembler import Assembler
from services.netstackd.storage.receive_buffer import ReceiveBuffer
from services.netstackd.storage.send_buffer import SendBuffer
from services.netstackd.transport.tcp import handshake, input, output, path_mtu, states, timers, urgent, window
from services.netstackd.transport.tcp.congestion import registry
from services.netstackd.transport.tcp.info import snapshot
from services.netstackd.transport.tcp.parameters import NEVER, Options
from services.netstackd.transport.tcp.prr import ProportionalReduction
from services.netstackd.transport.tcp.rack import Rack
from services.netstackd.transport.tcp.readiness import POLLRDHUP
from services.netstackd.transport.tcp.rtt import RttEstimator
from services.netstackd.transport.tcp.scoreboard import Sent
from services.netstackd.transport.tcp.segment import MASK, Payload, Segment
from services.netstackd.transport.tcp.states import CLOSED, ESTABLISHED, FIN_WAIT_2, SYN_RECEIVED, SYN_SENT

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.congestion.base import Controller
    from services.netstackd.transport.tcp.context import Route, TcpContext
    from services.netstackd.transport.tcp.time_wait import TimeWait

_ABORT_ON_CLOSE = COUNTER["TcpExtTCPAbortOnClose"]
_ABORT_ON_DATA = COUNTER["TcpExtTCPAbortOnData"]
_ESTAB_RESETS = COUNTER["TcpEstabResets"]
_ATTEMPT_FAILS = COUNTER["TcpAttemptFails"]
_CURR_ESTAB = COUNTER["TcpCurrEstab"]
_ABORT_ON_LINGER = COUNTER["TcpExtTCPAbortOnLinger"]

# Congestion states, as TCP_INFO numbers them.
OPEN: Final = 0
DISORDER: Final = 1
CWR_STATE: Final = 2
RECOVERY: Final = 3
LOSS: Final = 4


class Endpoint:
    """See the module's text. Attributes are the RFC's names in lower case where it has them.

    Sequence numbers are unwrapped, sizes are bytes, times are nanoseconds; NEVER stands for no time.
    """

    __slots__ = (
        "_released",
        "ack_due_at",
        "ack_echo",
        "ack_now",
        "ack_pushed",
        "actively_opened",
        "advertised_mss",
        "assembler",
        "ato",
        "backoff",
        "before_flush",
        "bytes_acked",
        "bytes_received",
        "bytes_retrans",
        "bytes_sent",
        "ca_state",
        "cc",
        "confirmed_at",
        "context",
        "cookie_requested",
        "copied_seq",
        "counters",
        "cwnd_limited",
        "cwnd_limited_end",
        "deadline",
        "delivered",
        "delivered_ce",
        "dsack",
        "dup_acks",
        "ecn_cwr_due",
        "ecn_echo",
        "ecn_ok",
        "error",
        "events",
        "fin_queued",
        "fin_received",
        "fin_seq",
        "fin_sent",
        "flow",
        "frto",
        "high_seq",
        "hold_retransmissions",
        "highest_sacked",
        "idle_at",
        "invalid_ack_at",
        "irs",
        "iss",
        "keepalive_probes",
        "last_ack_sent",
        "last_data_received",
        "last_data_sent",
        "last_receive",
        "look_at",
        "lost_bytes",
        "lost_hint",
        "max_window",
        "mss",
        "mss_cap",
        "mss_checked_at",
        "nagle_small_end",
        "next_pace_at",
        "on_event",
        "options",
        "orphan",
        "orphan_bytes",
        "owner",
        "p",
        "paws_checked_at",
        "peer_mss",
        "pingpong",
        "probes_out",
        "prr",
        "prune_count",
        "queued",
        "quick_acks",
        "rack",
        "rcv_edge",
        "rcv_mss",
        "rcv_nxt",
        "rcv_rtt",
        "rcv_rtt_at",
        "rcv_rtt_seq",
        "rcv_space",
        "rcv_space_at",
        "rcv_space_seq",
        "rcv_wscale",
        "rcvbuf",
        "read_since_ack",
        "receive",
        "receive_shutdown",
        "reno_dup_acks",
        "reordering_seen",
        "retrans_bytes",
        "retrans_stamp",
        "retransmits",
        "route",
        "rtt",
        "sack_ok",
        "sacked_bytes",
        "segs_in",
        "segs_out",
        "send",
        "send_shutdown",
        "sent",
        "slow_only",
        "snd_nxt",
        "snd_una",
        "snd_wl1",
        "snd_wl2",
        "snd_wnd",
        "snd_wscale",
        "sndbuf",
        "soft_error",
        "started_at",
        "state",
        "syn_data_acked",
        "taker",
        "tail_probe_end",
        "tail_probe_retrans",
        "timer",
        "timer_at",
        "total_retrans",
        "transmissions",
        "ts_offset",
        "ts_ok",
        "ts_recent",
        "ts_recent_at",
        "undo_marker",
        "undo_retrans",
        "urgent_byte",
        "urgent_seq",
        "urgent_state",
        "user_space",
        "user_unread",
        "urgent_to_send",
        "wanted_space",
        "write_blocked",
        "wscale_ok",
    )

    def __init__(self, context: TcpContext, route: Route, flow: bytes, options: Options | None = None) -> None:
        p = context.parameters
        self.context = context
        self.p = p
        self.counters = context.counters
        self.route = route
        self.flow = flow
        self.options = Options(p) if options is None else options
        self.owner: Any = None  # the socket object above; never looked at here
        self.on_event: Callable[[Endpoint, int], None] | None = None
        # Of a user who is given bytes ahead of his reads: how many he holds, and how many he can.
        self.user_unread = 0
        self.user_space = NEVER
        self.before_flush: Callable[[int], None] | None = None  # of a user who reads and writes while segments leave
        self.look_at = NEVER  # he wants one at this time
        # Of a user to whom small segments are offered as they come, when nothing waits to be read: how much he took.
        # He may do nothing else to the endpoint meanwhile.
        self.taker: Callable[[Payload], int] | None = None
        self.events = 0  # poll bits to tell at the next flush
        self.queued = False  # on context.pending
        self.orphan = False  # closed by its user
        self.orphan_bytes = 0  # that it held then, while they count against all orphans' limit
        self._released = False
        self.state = CLOSED
        self.actively_opened = False
        self.slow_only = False  # keep off header prediction: urgent data is about
        self.error = 0  # errno that ended it (SO_ERROR)
        self.soft_error = 0  # errno of an ICMP error that did not
        # -- sending --
        self.iss = 0
        self.snd_una = 0
        self.snd_nxt = 0
        self.snd_wnd = 0
        self.snd_wl1 = 0
        self.snd_wl2 = 0
        self.snd_wscale = 0
        self.max_window = 0
        self.send = SendBuffer(0)
        self.sndbuf = self.options.sndbuf or p.wmem[1]
        self.write_blocked = False  # the user found no room and waits for POLLOUT
        self.send_shutdown = False
        self.fin_queued = False
        self.fin_sent = False
        self.sent: list[Sent] = []
        self.transmissions = 0
        self.sacked_bytes = 0
        self.lost_bytes = 0
        self.retrans_bytes = 0
        self.lost_hint = 0  # no record below this sequence number is lost and not retransmitted
        self.highest_sacked = 0
        self.nagle_small_end = 0  # end of the last segment below MSS (Minshall)
        self.urgent_to_send = 0  # SND.UP; 0: none
        self.mss_cap = 0  # upper limit found by black-hole detection; 0: none
        self.mss_checked_at = 0
        self.peer_mss = 536
        self.advertised_mss = 0
        self.mss = 536
        # -- receiving --
        self.irs = 0
        self.rcv_nxt = 0
        self.rcv_edge = 0  # the right edge of the window we offered last
        self.rcv_wscale = 0
        self.receive = ReceiveBuffer()
        self.assembler: Assembler | None = None
        self.copied_seq = 0  # sequence number of the next byte the user reads
        self.rcvbuf = self.options.rcvbuf or p.rmem[1]
        self.receive_shutdown = False
        self.fin_received = False
        self.fin_seq = -1  # where a FIN that came early stands; -1: none
        self.urgent_state = urgent.NONE
        self.urgent_seq = 0
        self.urgent_byte = 0
        self.prune_count = 0
        self.dsack: tuple[int, int] | None = None  # to be reported in the next ack
        # -- acknowledging --
        self.ack_now = False
        self.ack_pushed = 0  # small segments with PSH since the last ack, up to 2
        self.ack_due_at = NEVER
        self.ato = 0
        self.quick_acks = 0
        self.pingpong = 0
        self.last_ack_sent = 0
        self.last_receive = 0
        self.confirmed_at = 0
        self.last_data_received = 0
        self.last_data_sent = 0
        self.rcv_mss = 536
        self.read_since_ack = False
        # -- receive buffer tuning (window.py) --
        self.rcv_rtt = 0
        self.rcv_rtt_seq = 0
        self.rcv_rtt_at = 0
        self.rcv_space = 0
        self.rcv_space_seq = 0
        self.rcv_space_at = 0
        self.wanted_space = 0
        # -- options agreed on --
        self.wscale_ok = False
        self.ts_ok = False
        self.ts_offset = 0
        self.ts_recent = 0
        self.ts_recent_at = 0
        self.paws_checked_at = 0
        self.sack_ok = False
        self.ecn_ok = False
        self.ecn_echo = False  # CE was seen: say ECE until CWR comes
        self.ecn_cwr_due = False  # we reduced: say CWR on the next new data
        self.cookie_requested = False
        self.syn_data_acked = False
        # -- time --
        self.deadline = NEVER
        self.timer = timers.OFF
        self.timer_at = NEVER
        self.idle_at = NEVER
        self.next_pace_at = 0
        self.retransmits = 0
        self.backoff = 0
        self.retrans_stamp = 0
        self.probes_out = 0
        self.keepalive_probes = 0
        self.invalid_ack_at = -NEVER
        self.started_at = 0
        # -- congestion and loss --
        self.rtt = RttEstimator(p.rto_min, p.rto_max)
        self.cc: Controller = registry.make(self.options.congestion, self.mss, p.initial_window)
        self.rack = Rack(p.reordering)
        self.prr = ProportionalReduction()
        self.ca_state = OPEN
        self.high_seq = 0
        self.undo_marker = -1  # SND.UNA at the last reduction that could still be undone; -1: none
        self.undo_retrans = -1
        self.frto = False
        self.hold_retransmissions = False  # F-RTO is sending new data to see
        self.ack_echo = 0  # TSecr of the ack being processed
        self.reno_dup_acks = 0
        self.dup_acks = 0
        self.reordering_seen = 0
        self.tail_probe_end = 0
        self.tail_probe_retrans = False
        self.cwnd_limited = False
        self.cwnd_limited_end = 0
        # -- statistics (TCP_INFO) --
        self.bytes_acked = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.bytes_retrans = 0
        self.segs_in = 0
        self.segs_out = 0
        self.total_retrans = 0
        self.delivered = 0
        self.delivered_ce = 0

    # ---------------------------------------------------------------- from the layer below

    def on_segment(self, segment: Segment, now: int) -> bool:
        """A segment of this connection. Always True (see context.py)."""
        input.receive(self, segment, now)
        return True

    def on_timer(self, now: int) -> None:
        """Whatever is due at `now`; sets the next `deadline`."""
        timers.expire(self, now)

    def flush(self, now: int) -> None:
        """Send what may be sent, acknowledge what has to be, then tell the user what changed."""
        if self.before_flush is not None:
            self.before_flush(now)
        self.queued = False
        state = self.state
        if state != CLOSED:
            output.push(self, now)
        events = self.events
        if events:
            self.events = 0
            callback = self.on_event
            if callback is not None:
                callback(self, events)

    def on_error(self, kind: int, mtu: int, now: int) -> None:
        """An ICMP error about a segment of ours; `kind` of path_mtu.py. The caller checked `owns_sequence`."""
        path_mtu.on_error(self, kind, now)

    def owns_sequence(self, seq: int) -> bool:
        """The wire number lies in SND.UNA..SND.NXT: an ICMP error that quotes it may be believed (RFC 5927 4)."""
        return (seq - self.snd_una) & MASK <= self.snd_nxt - self.snd_una

    # ---------------------------------------------------------------- housekeeping used by all files

    def wake(self) -> None:
        """Ask for a `flush`."""
        if not self.queued:
            self.queued = True
            self.context.pending.append(self)

    def notify(self, events: int) -> None:
        """Tell the user of these poll bits at the next flush."""
        self.events |= events
        if not self.queued:
            self.queued = True
            self.context.pending.append(self)

    def arm(self, at: int) -> None:
        """Something of this endpoint is due at `at`."""
        if at < self.deadline:
            self.deadline = at
            self.context.schedule(self)

    def look_again(self, at: int) -> None:
        """Ask for a `flush` at that time, or when an acknowledgement comes before."""
        self.look_at = at
        if at < self.deadline:
            self.arm(at)

    def change_state(self, event: int) -> None:
        before = self.state
        self.state = after = states.TRANSITIONS[before, event]
        if after == ESTABLISHED:
            self.counters[_CURR_ESTAB] += 1
        elif before in (ESTABLISHED, states.CLOSE_WAIT) and after != states.CLOSE_WAIT:
            self.counters[_CURR_ESTAB] -= 1

    def finish(self, error: int = 0, successor: Any = None) -> None:
        """The connection is over: CLOSED, timers off, out of the stack's table."""
        if self.state != CLOSED:
            if self.state in (SYN_SENT, SYN_RECEIVED):
                self.counters[_ATTEMPT_FAILS] += 1
            elif self.state in (ESTABLISHED, states.CLOSE_WAIT) and error:
                self.counters[_ESTAB_RESETS] += 1
            self.change_state(states.END)
        if error and not self.error:
            self.error = error
        self.sent.clear()
        self.send.release(self.send.end)
        self.assembler = None
        self.timer = timers.OFF
        self.timer_at = self.idle_at = self.ack_due_at = self.look_at = self.deadline = NEVER
        self.ack_now = False
        self.send_shutdown = self.receive_shutdown = True
        if not self._released:
            self._released = True
            if self.orphan:
                self.context.orphan_count -= 1
                self.forgive_orphan_bytes()
            self.context.on_done(self, successor)
            self.notify(POLLIN | POLLOUT | POLLHUP | POLLRDHUP | (POLLERR if error else 0))

    # ---------------------------------------------------------------- the user's side

    def connect(self, now: int, data: bytes = b"", after: TimeWait | None = None) -> None:
        """Active open. `data` leaves in the SYN where fast open allows it, else after the handshake (RFC 7413).

        after: the TimeWait of the same two ends whose `may_reuse` said yes; the new sequence numbers follow its own.
        """
        handshake.active_open(self, data, after, now)

    def write(self, data: bytes | bytearray | memoryview, *, is_urgent: bool = False) -> int:
        """Queue data. How many bytes were taken, 0 when there is no room (POLLOUT will come), or -errno:
        the error that ended the connection, or EPIPE."""
        if self.error:
            return -self.take_error()
        if self.send_shutdown or not states.CAN_SEND_DATA >> self.state & 1:
            return -errno.EPIPE
        if self.state == SYN_SENT or (self.state == SYN_RECEIVED and not self.syn_data_acked):
            self.write_blocked = True  # not connected yet; fast open's data goes with `connect`
            return 0
        room = self.room()
        if room <= 0:
            self.write_blocked = True
            return 0
        size = len(data)
        if size > room:
            data = memoryview(data)[:room]
            size = room
            self.write_blocked = True
        self.send.append(data)
        if is_urgent:
            self.urgent_to_send = self.send.end
        self.wake()
        return size

    def share(self, memory: memoryview, start: int, count: int) -> None:
        """Queue `count` bytes of a ring's `memory` from `start` on, left where they are until they are acknowledged.
        The caller keeps to the size of the ring, and `send_shutdown`."""
        send = self.send
        if start and send.growing:
            send.grow(count)
        else:
            send.share(memory[start:], count)
        self.wake()

    def room(self) -> int:
        """How many bytes `write` would take of a connection that is established; 0 or less: none."""
        lowat = self.options.notsent_lowat or self.p.notsent_lowat
        if self.send.end - self.snd_nxt >= lowat:
            return 0
        return self.sndbuf - (self.send.end - self.send.first)

    def consume(self, count: int) -> None:
        """The user has taken the first `count` bytes of `receive` from where they are (`ReceiveBuffer.parts`). A flush
        is asked for when the peer is to hear of it; what else follows from it can wait for the next one."""
        self.receive.discard(count)
        self.copied_seq += count
        if self.state != CLOSED:
            self.read_since_ack = True
            if not self.queued and window.is_read_news(self):
                self.wake()

    def read(self, limit: int, *, peek: bool = False) -> bytes | int:
        """At most `limit` bytes; b"" at the end of the stream; -errno: EAGAIN when nothing is there yet."""
        receive = self.receive
        if self.urgent_state:
            limit = urgent.limit_read(self, limit)
        if receive.size and limit > 0:
            if peek:
                return receive.peek(limit)
            data = receive.read(limit)
            self.copied_seq += len(data)
            if self.state != CLOSED:
                self.read_since_ack = True
                self.wake()
            return data
        if limit <= 0 and receive.size:
            return b""
        if self.error:
            return -self.take_error()
        if self.fin_received or self.receive_shutdown:
            return b""
        if self.state in (SYN_SENT, SYN_RECEIVED):
            return -errno.EAGAIN
        return -errno.ENOTCONN if self.state == CLOSED else -errno.EAGAIN

    def read_urgent(self, *, peek: bool = False) -> int:
        """The urgent byte (MSG_OOB), or -errno: EAGAIN not here yet, EINVAL none or read already."""
        return urgent.read(self, peek)

    def at_mark(self) -> bool:
        """The next byte to read is the urgent one (sockatmark(3))."""
        return self.urgent_state != urgent.NONE and self.copied_seq == self.urgent_seq

    def shutdown_write(self, now: int) -> int:
        """No more data from us: FIN after what is queued. 0, or -ENOTCONN."""
        if self.state == CLOSED:
            return -errno.ENOTCONN
        if self.send_shutdown:
            return 0
        self.send_shutdown = True
        if self.state == SYN_SENT:
            self.finish()
            return 0
        self.fin_queued = True
        if self.state != SYN_RECEIVED or not self.syn_pending():
            self.change_state(states.SEND_FIN)
        self.notify(POLLOUT)
        return 0

    def syn_pending(self) -> bool:
        """Our SYN is not acknowledged."""
        return self.snd_una == self.iss

    def shutdown_read(self) -> None:
        """The user reads no more: end of stream for it; data that comes is still acknowledged (as Linux does)."""
        self.receive_shutdown = True
        self.notify(POLLIN | POLLRDHUP)

    def close(self, now: int) -> None:
        """The user lets go. Unread data or a zero linger reset the connection (RFC 9293 3.10.4; RFC 2525 2.17)."""
        if self.orphan:
            return
        self.orphan = True
        self.on_event = self.before_flush = self.taker = None
        self.context.orphan_count += 1
        if self.state == CLOSED:
            self.context.orphan_count -= 1
            return
        if self.options.linger == 0:
            self.counters[_ABORT_ON_DATA] += 1
            self.abort(now)
            return
        if self.receive.size and self.state != SYN_SENT:
            self.counters[_ABORT_ON_CLOSE] += 1
            self.receive.clear()
            self.abort(now)
            return
        held = self.outstanding()
        if self.context.orphan_count > self.p.max_orphans or self.context.orphan_bytes + held > self.p.max_orphan_bytes:
            self.counters[COUNTER["TcpExtTCPAbortOnMemory"]] += 1
            self.abort(now)
            return
        self.orphan_bytes = held
        self.context.orphan_bytes += held
        self.receive_shutdown = True
        if not self.send_shutdown:
            self.shutdown_write(now)
        if self.state == FIN_WAIT_2:
            timers.start_fin_wait_2(self, now)

    def forgive_orphan_bytes(self) -> None:
        """Nothing of an orphan is left to be sent. It counts with what it held at first until then: what is left is not
        worth a look at every acknowledgement."""
        self.context.orphan_bytes -= self.orphan_bytes
        self.orphan_bytes = 0

    def abort(self, now: int) -> None:
        """Reset, now (RFC 9293 3.10.5)."""
        if states.SYNCHRONIZED >> self.state & 1 or self.state == SYN_RECEIVED:
            output.send_reset(self, now)
        self.finish(0 if self.orphan else errno.ECONNABORTED)

    def take_error(self) -> int:
        """SO_ERROR: the pending errno, cleared by asking."""
        error = self.error
        self.error = 0
        if not error:
            error = self.soft_error
            self.soft_error = 0
        return error

    def readiness(self) -> int:
        """poll(2)'s mask, by the rules of Linux's tcp_poll."""
        mask = 0
        state = self.state
        if self.error:
            mask |= POLLERR
        if state == CLOSED or (self.send_shutdown and (self.fin_received or self.receive_shutdown)):
            mask |= POLLHUP
        if self.fin_received or self.receive_shutdown:
            mask |= POLLIN | POLLRDHUP
        if state != SYN_SENT and (state != SYN_RECEIVED or self.syn_data_acked or self.receive.size):
            waiting = self.receive.size
            if waiting and waiting >= min(self.options.rcvlowat, max(self.rcvbuf >> 1, 1)):
                mask |= POLLIN
            if self.send_shutdown or self.has_write_space():
                mask |= POLLOUT
            if self.urgent_state == urgent.READY:
                mask |= POLLPRI
        return mask

    def has_write_space(self) -> bool:
        """At least a third of the buffer is free, and not too much is unsent (sk_stream_is_writeable)."""
        held = self.send.end - self.send.first
        lowat = self.options.notsent_lowat or self.p.notsent_lowat
        return self.sndbuf - held >= held >> 1 and self.sndbuf > held and self.send.end - self.snd_nxt < lowat

    def set_option(self, name: str, value: int, now: int) -> None:
        """Set a field of `parameters.Options` with the effect Linux gives it on a running connection."""
        options = self.options
        options.change(name, value)
        if name == "nodelay" and value:
            self.wake()  # what Nagle held back leaves now
        elif name == "cork" and not value:
            self.wake()
        elif name == "quickack":
            window.set_quickack(self, value)
        elif name in ("keepalive", "keepalive_idle"):
            timers.restart_keepalive(self, now)
        elif name == "sndbuf" and value:
            self.sndbuf = value
        elif name == "rcvbuf" and value:
            self.rcvbuf = value
        elif name == "congestion":
            self.set_congestion(options.congestion)

    def set_congestion(self, name: str) -> None:
        """TCP_CONGESTION; KeyError when there is no such algorithm."""
        cc = registry.make(name, self.mss, self.p.initial_window)
        cc.cwnd, cc.ssthresh = self.cc.cwnd, self.cc.ssthresh
        self.options.congestion = name
        self.cc = cc

    def info(self, now: int) -> dict[str, int]:
        """TCP_INFO: the fields of struct tcp_info without their prefix."""
        return snapshot(self, now)

    def outstanding(self) -> int:
        """Bytes queued that the peer has not acknowledged (SIOCOUTQ)."""
        return self.send.end - self.send.first

    def __repr__(self) -> str:
        return (
            f"<Endpoint {states.NAMES[self.state]} una {self.snd_una - self.iss} nxt {self.snd_nxt - self.iss}"
            f" rcv {self.rcv_nxt - self.irs} cwnd {self.cc.cwnd}>"
        )

"""Runs a script of `language.py` against the TCP of transport/tcp, on virtual time.

The machine under test is one `Endpoint` (or a `Listener` and what it makes) with a route that collects what is sent.
The payload of both directions is a pattern of position, so that every byte is checked for its place without being
written out.
"""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from select import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI

from services.netstackd.counters import COUNTER
from services.netstackd.transport.tcp import path_mtu, states
from services.netstackd.transport.tcp.context import TcpContext
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.listen import Listener
from services.netstackd.transport.tcp.parameters import SECOND, Options, Parameters
from services.netstackd.transport.tcp.segment import ACK, MASK, PSH, SYN, Payload, Segment, reset_for, separate
from services.netstackd.transport.tcp.time_wait import TimeWait
from services.netstackd.wire.tcp_options import SynOptions
from tests.netstack.scripts.language import ANY_SEQ, Script, SegmentText, Step, parse

MILLISECOND = 1_000_000
TOLERANCE = 2 * MILLISECOND
HOUR = 3600 * SECOND
START = 1_000_000 * SECOND
OUR_ISS = 1_000_000_000
PEER_ISS = 3_000_000_000
PEER_CLOCK = 50_000  # the peer's timestamp at the script's begin
READY = {"IN": POLLIN, "OUT": POLLOUT, "PRI": POLLPRI, "HUP": POLLHUP, "ERR": POLLERR, "RDHUP": 0x2000}
ECN = {"none": 0, "ect1": 1, "ect0": 2, "ce": 3}
TIMERS = {"off": 0, "retransmit": 1, "tail_probe": 2, "reordering": 3, "probe": 4}
TIMES = frozenset(
    (
        "rto_min", "rto_max", "keepalive_time", "keepalive_interval", "fin_timeout", "invalid_ratelimit",
        "keepalive_idle", "user_timeout", "linger", "linger2", "defer_accept",
    )
)  # fmt: skip


class Failure(AssertionError):
    """What a script demanded did not happen."""


@dataclass
class Emitted:
    at: int
    segment: Segment


class ScriptRoute:
    peer = b"script peer"

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.mss = 1460
        self.gso_max = self.run_max = 0

    def mss_for_path(self) -> int:
        return self.mss

    def advertised_mss(self) -> int:
        return 1460

    def send(self, endpoint: object, segment: Segment) -> None:
        self.machine.emitted.append(Emitted(self.machine.now, segment))
        if segment.ts_val >= 0:
            self.machine.our_ts = segment.ts_val

    def send_run(self, endpoint: object, segment: Segment, payloads: Sequence[Payload], pushed: bool) -> None:
        for each in separate(segment, payloads, pushed):
            self.send(endpoint, each)

    def confirm(self) -> None:
        pass


def pattern(position: int, length: int) -> bytes:
    """The bytes at stream position `position` (0 is the first after the SYN)."""
    cycle = bytes(range(251))
    start = position % 251
    return (cycle * (length // 251 + 2))[start : start + length]


class Machine:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.now = START
        self.clock = START  # the script's time: of the last line
        self.parameters = Parameters()
        self.emitted: deque[Emitted] = deque()
        self.route = ScriptRoute(self)
        self.iss = OUR_ISS
        secret = b"script key"
        self.hashed = TcpContext(random.Random(), secret).keyed_hash
        self.context = TcpContext(
            random.Random(7),
            secret,
            parameters=self.parameters,
            on_done=self._done,
            schedule=lambda _: None,
            keyed_hash=self._keyed_hash,
        )
        self.presets: list[tuple[str, int]] = []
        self.endpoint: Endpoint | None = None
        self.connection: Endpoint | TimeWait | None = None
        self.listener: Listener | None = None
        self.peer_iss = PEER_ISS
        self.peer_syn = SynOptions(1460, 10, True)
        self.peer_ts = True
        self.peer_window = 65535
        self.our_ts = 0
        self.our_seen = 0  # what the peer would acknowledge: the end of what we sent, from ISS
        self.agreed_ts = False
        self.written = 0
        self.read = 0
        self.peer_edge = 1
        self.events = 0
        self.connection_before: Endpoint | TimeWait | None = None

    # ------------------------------------------------------------ the stack's part

    def _keyed_hash(self, purpose: bytes, data: bytes, size: int) -> int:
        """ISN and timestamp offset are the script's, not the hash's."""
        if purpose == b"isn":
            return (self.iss - (self.now >> 6)) & MASK
        if purpose == b"tsoffset":
            return -(START // MILLISECOND) & MASK
        return self.hashed(purpose, data, size)

    def _done(self, endpoint: object, successor: TimeWait | None) -> None:
        if self.connection is endpoint or successor is not None:
            self.connection = successor

    def _things(self) -> list[Endpoint | TimeWait | Listener]:
        return [thing for thing in (self.connection, self.listener) if thing is not None]

    def _flush(self) -> None:
        if self.endpoint is not None and self.endpoint.on_event is None and not self.endpoint.orphan:
            self.endpoint.on_event = self._on_event
        for _ in range(4):
            self.context.flush(self.now)

    def _on_event(self, _source: object, mask: int) -> None:
        self.events |= mask

    def _set_now(self, now: int) -> None:
        self.now = now

    def advance(self, until: int, *, stop_at_output: bool = False) -> None:
        """Let time pass, timers firing when due."""
        while not (stop_at_output and self.emitted):
            due = min((thing.deadline for thing in self._things()), default=until + 1)
            if due > until:
                break
            self._set_now(max(self.now, due))
            for thing in self._things():
                if thing.deadline <= self.now:
                    thing.on_timer(self.now)
            self._flush()
        if not (stop_at_output and self.emitted):
            self._set_now(max(self.now, until))

    def deliver(self, segment: Segment) -> None:
        reuse = None
        if self.connection is not None:
            if self.connection.on_segment(segment, self.now):
                self._flush()
                return
            reuse = self.connection if isinstance(self.connection, TimeWait) else None
            self.connection = None
        if self.listener is not None and self.listener.state == states.LISTEN:
            made = self.listener.on_segment(segment, b"flow", self.route, self.now, reuse)
            if made is not None and made.state != states.CLOSED:
                self.connection = made
                self.agreed_ts = made.ts_ok
        else:
            reset = reset_for(segment)
            if reset is not None:
                self.route.send(None, reset)
        self._flush()

    # ------------------------------------------------------------ running

    def run(self) -> None:
        for step in self.script.steps:
            try:
                self._step(step)
            except Failure as failure:
                raise Failure(f"{self.script.path.name}:{step.line}: {step.text}\n    {failure}") from None
        if self.emitted:
            raise Failure(f"{self.script.path.name}: left at the end: {self.describe(self.emitted[0])}")

    def _step(self, step: Step) -> None:
        if step.verb == "out":
            self._out(step)
            return
        if step.delay is None:
            raise Failure("`*` goes with `out` alone")
        self.clock += round(step.delay * SECOND)
        self.advance(self.clock)
        if step.verb == "quiet":
            if self.emitted:
                raise Failure(f"not quiet: {self.describe(self.emitted[0])}")
            return
        result = getattr(self, "do_" + step.verb)(step)
        self._flush()
        if step.result is not None and str(result) != step.result:
            raise Failure(f"result {result}, wanted {step.result}")

    # ------------------------------------------------------------ segments

    def _unwrap(self, wire: int, base: int) -> int:
        distance = (wire - base) & MASK
        return distance - 0x100000000 if distance & 0x80000000 else distance

    def do_in(self, step: Step) -> None:
        text = step.segment
        assert text is not None
        words = text.words
        flags = text.flags
        ack = int(words.get("ack", self.our_seen)) if flags & ACK or "ack" in words else 0
        segment = Segment(
            (self.peer_iss + text.seq) & MASK,
            (self.iss + ack) & MASK if flags & ACK or "ack" in words else 0,
            flags,
            int(words.get("win", self.peer_window)),
            pattern(text.seq + (1 if flags & SYN else 0) - 1, text.length),
        )
        segment.ecn = ECN[words.get("ecn", "none")]
        segment.urgent = int(words.get("urg", "0"))
        segment.gso_size = int(words.get("gso", "0"))
        self._in_timestamp(segment, words, flags)
        if flags & SYN:
            segment.syn = self._in_syn(words)
        if "sack" in words:
            segment.sack_blocks = tuple(
                ((self.iss + left) & MASK, (self.iss + right) & MASK) for left, right in _blocks(words["sack"])
            )
        self.deliver(segment)
        if isinstance(self.connection, Endpoint):
            self.agreed_ts = self.connection.ts_ok
            if self.endpoint is None:
                self.endpoint = self.connection

    def _in_timestamp(self, segment: Segment, words: dict[str, str], flags: int) -> None:
        given = words.get("ts")
        if given == "none":
            return
        wanted = self.peer_ts if flags & SYN else self.agreed_ts
        if given is None and not wanted:
            return
        value, _, echo = (given or "").partition(":")
        clock = PEER_CLOCK + (self.now - START) // MILLISECOND
        segment.ts_val = (int(value) if value else clock) & MASK
        if echo:
            segment.ts_ecr = int(echo) & MASK
        elif flags & ACK:
            segment.ts_ecr = self.our_ts

    def _in_syn(self, words: dict[str, str]) -> SynOptions:
        offered = self.peer_syn
        syn = SynOptions(offered.mss, offered.wscale, offered.sack_permitted, offered.fast_open)
        if "mss" in words:
            syn.mss = 0 if words["mss"] == "none" else int(words["mss"])
        if "wscale" in words:
            syn.wscale = -1 if words["wscale"] == "none" else int(words["wscale"])
        if "sackok" in words:
            syn.sack_permitted = words["sackok"] != "none"
        if "fo" in words:
            syn.fast_open = None if words["fo"] == "none" else _cookie(words["fo"])
        return syn

    def _out(self, step: Step) -> None:
        text = step.segment
        assert text is not None
        if step.delay is None:
            if not self.emitted:
                self.advance(self.now + HOUR, stop_at_output=True)
            if not self.emitted:
                raise Failure("nothing left within an hour")
            self.clock = max(self.clock, self.emitted[0].at)
        else:
            self.clock += round(step.delay * SECOND)
            if not self.emitted:
                self.advance(self.clock + TOLERANCE, stop_at_output=True)
            if not self.emitted:
                raise Failure("nothing was sent")
            if abs(self.emitted[0].at - self.clock) > TOLERANCE:
                late = (self.emitted[0].at - self.clock) / SECOND
                raise Failure(f"sent {late:+.4f} s from its time: {self.describe(self.emitted[0])}")
        item = self.emitted.popleft()
        wrong = self._differences(text, item.segment)
        if wrong:
            raise Failure(f"{', '.join(wrong)}; sent: {self.describe(item)}")
        segment = item.segment
        end = self._unwrap(segment.seq, self.iss) + len(segment.payload) + bin(segment.flags & 3).count("1")
        if segment.flags & (SYN | ACK) == SYN | ACK:
            self.agreed_ts = segment.ts_val >= 0
        if segment.flags & SYN and text.seq == ANY_SEQ:
            self.iss, end = segment.seq, 1  # a SYN cookie chose it
        self.our_seen = max(self.our_seen, end)

    def _differences(self, text: SegmentText, segment: Segment) -> list[str]:
        wrong: list[str] = []
        words = dict(text.words)
        ignore = PSH if text.push is None else 0
        if (segment.flags ^ text.flags) & ~ignore & 0xFF:
            wrong.append("flags")
        seq = self._unwrap(segment.seq, self.iss)
        # A reset for a segment without ACK has the absolute number 0 (RFC 9293 3.10.7.1).
        if text.seq not in (seq, ANY_SEQ) and not (text.seq == 0 and segment.seq == 0):
            wrong.append(f"seq {seq}")
        if len(segment.payload) != text.length:
            wrong.append(f"length {len(segment.payload)}")
        elif text.length and bytes(segment.payload) != pattern(seq - 1 + (segment.flags & SYN != 0), text.length):
            wrong.append("payload")
        seen = self._fields(segment)
        for key, value in words.items():
            if key == "ts":
                if not _timestamps_match(value, seen["ts"]):
                    wrong.append(f"ts {seen['ts']}")
            elif value == "*":
                continue
            elif not _matches(value, seen[key]):
                wrong.append(f"{key} {seen[key]}")
        return wrong

    def _fields(self, segment: Segment) -> dict[str, str]:
        syn = segment.syn
        blocks = [
            f"{self._unwrap(left, self.peer_iss)}-{self._unwrap(right, self.peer_iss)}"
            for left, right in segment.sack_blocks
        ]
        fast_open = "none"
        if syn is not None and syn.fast_open is not None:
            fast_open = syn.fast_open.hex() or "request"
        return {
            "ack": str(self._unwrap(segment.ack, self.peer_iss)),
            "win": str(segment.window),
            "urg": str(segment.urgent),
            "ecn": next(name for name, value in ECN.items() if value == segment.ecn),
            "gso": str(segment.gso_size),
            "mss": str(syn.mss) if syn is not None and syn.mss else "none",
            "wscale": str(syn.wscale) if syn is not None and syn.wscale >= 0 else "none",
            "sackok": "yes" if syn is not None and syn.sack_permitted else "none",
            "fo": fast_open,
            "sack": ",".join(blocks) or "none",
            "ts": f"{segment.ts_val}:{segment.ts_ecr}" if segment.ts_val >= 0 else "none",
        }

    def describe(self, item: Emitted) -> str:
        segment = item.segment
        letters = "".join(letter for bit, letter in enumerate("FSRPAUEC") if segment.flags >> bit & 1) or "-"
        seq = self._unwrap(segment.seq, self.iss)
        size = f"+{len(segment.payload)}" if segment.payload else ""
        shown = " ".join(
            f"{key}={value}"
            for key, value in self._fields(segment).items()
            if value not in ("none", "0") and (key != "ack" or segment.flags & ACK)
        )
        return f"{(item.at - START) / SECOND:.4f} out {letters} {seq}{size} {shown}"

    # ------------------------------------------------------------ settings

    def do_set(self, step: Step) -> None:
        name, values = step.words[0], step.words[1:]
        old = getattr(self.parameters, name)
        if isinstance(old, tuple):
            setattr(self.parameters, name, tuple(int(value) for value in values))
        else:
            setattr(self.parameters, name, self._value(name, values[0], old))

    def _value(self, name: str, text: str, old: object) -> object:
        if isinstance(old, bool):
            return text not in ("0", "off", "no")
        if isinstance(old, str):
            return text
        return round(float(text) * SECOND) if name in TIMES else int(text)

    def do_socket(self, step: Step) -> None:
        self.presets.append((step.words[0], step.words[1]))  # type: ignore[arg-type]

    def _options(self) -> Options:
        options = Options(self.parameters)
        for name, text in self.presets:
            setattr(options, name, self._value(name, text, getattr(options, name)))  # type: ignore[arg-type]
        return options

    def do_iss(self, step: Step) -> None:
        self.iss = int(step.words[0])

    def do_peer(self, step: Step) -> None:
        for word in step.words:
            key, _, value = word.partition("=")
            if key == "iss":
                self.peer_iss = int(value)
            elif key == "win":
                self.peer_window = int(value)
            elif key == "ts":
                self.peer_ts = value != "none"
            elif key == "mss":
                self.peer_syn.mss = 0 if value == "none" else int(value)
            elif key == "wscale":
                self.peer_syn.wscale = -1 if value == "none" else int(value)
            elif key == "sackok":
                self.peer_syn.sack_permitted = value != "none"
            elif key == "fo":
                self.peer_syn.fast_open = _cookie(value)
            else:
                raise Failure(f"unknown {key}")

    def do_path(self, step: Step) -> None:
        for word in step.words:
            key, _, value = word.partition("=")
            setattr(self.route, {"mss": "mss", "gso": "gso_max"}[key], int(value))

    def do_given(self, step: Step) -> None:
        kind = step.words[0]
        rtt = 10 * MILLISECOND
        for word in step.words[1:]:
            key, _, value = word.partition("=")
            assert key == "rtt"
            rtt = round(float(value) * SECOND)
        if kind == "closed":
            self._listen(8)
        elif kind == "established":
            self._connect(0)
            self.our_seen = 1
            self.clock += rtt
            self.advance(self.clock)
            self.do_in(Step(step.line, step.text, 0, "in", [], SegmentText(SYN | ACK, 0, 0, None, {})))
            # The first window that is scaled, so that the script's own acks do not change it.
            self.do_in(Step(step.line, step.text, 0, "in", [], SegmentText(ACK, 1, 0, None, {})))
        else:
            assert kind == "accepted", kind
            self._listen(8)
            self.do_in(Step(step.line, step.text, 0, "in", [], SegmentText(SYN, 0, 0, None, {})))
            self.our_seen = 1
            self.clock += rtt
            self.advance(self.clock)
            self.agreed_ts = self.peer_ts and self.parameters.timestamps
            self.do_in(Step(step.line, step.text, 0, "in", [], SegmentText(ACK, 1, 0, None, {})))
            assert self.listener is not None
            self.endpoint = self.listener.accept()
        self.emitted.clear()
        self.events = 0

    # ------------------------------------------------------------ the user

    def _listen(self, backlog: int) -> None:
        self.listener = Listener(self.context, self._options(), backlog)
        self.listener.on_event = self._on_event

    def _connect(self, size: int) -> None:
        self.endpoint = Endpoint(self.context, self.route, b"flow", self._options())
        self.connection_before, self.connection = self.connection, self.endpoint
        after = self.connection_before if isinstance(self.connection_before, TimeWait) else None
        if after is not None:
            assert after.may_reuse(self.now), "the TIME-WAIT may not be reused yet"
        self.endpoint.connect(self.now, pattern(0, size), after)
        self.written = size
        self._flush()

    def _user(self) -> Endpoint:
        if self.endpoint is None:
            raise Failure("there is no connection")
        return self.endpoint

    def do_connect(self, step: Step) -> None:
        self._connect(int(step.words[0]) if step.words else 0)

    def do_listen(self, step: Step) -> None:
        backlog = int(step.words[0]) if step.words else 8
        if self.listener is None:
            self._listen(backlog)
        else:
            self.listener.set_backlog(backlog)  # listen(2) again

    def do_accept(self, step: Step) -> str:
        assert self.listener is not None
        endpoint = self.listener.accept()
        if endpoint is None:
            return "EAGAIN"
        self.endpoint = endpoint
        return "ok"

    def do_write(self, step: Step) -> str:
        count = int(step.words[0])
        taken = self._user().write(pattern(self.written, count))
        self.written += max(taken, 0)
        return _result(taken)

    def do_urgent(self, step: Step) -> str:
        taken = self._user().write(pattern(self.written, int(step.words[0])), is_urgent=True)
        self.written += max(taken, 0)
        return _result(taken)

    def do_read(self, step: Step) -> str:
        data = self._user().read(int(step.words[0]))
        if isinstance(data, int):
            return _result(data)
        if not data:
            return "eof"
        start = self._user().copied_seq - self._user().irs - 1 - len(data)
        if data != pattern(start, len(data)):
            raise Failure("wrong bytes read")
        return str(len(data))

    def do_oob(self, step: Step) -> str:
        return _result(self._user().read_urgent())

    def do_mark(self, step: Step) -> str:
        return "yes" if self._user().at_mark() else "no"

    def do_shutdown(self, step: Step) -> str:
        return _result(self._user().shutdown_write(self.now))

    def do_shutdown_read(self, step: Step) -> None:
        self._user().shutdown_read()

    def do_close(self, step: Step) -> None:
        listener = self.listener
        if listener is not None and (self.endpoint is None or self.endpoint in listener.queue):
            listener.close(self.now)
        else:
            self._user().close(self.now)

    def do_abort(self, step: Step) -> None:
        self._user().abort(self.now)

    def do_wait(self, step: Step) -> None:
        """Time passes; what leaves meanwhile is looked at by the lines below."""

    def do_events(self, step: Step) -> str:
        mask = self.events
        self.events = 0
        return " ".join(name for name, bit in READY.items() if mask & bit) or "none"

    def do_drain(self, step: Step) -> None:
        """What has left until now is of no interest to this script."""
        for item in self.emitted:
            end = self._unwrap(item.segment.seq, self.iss) + len(item.segment.payload)
            self.our_seen = max(self.our_seen, end)
        self.emitted.clear()

    def do_error(self, step: Step) -> str:
        number = self._user().take_error()
        return errno.errorcode[number] if number else "0"

    def do_option(self, step: Step) -> None:
        name, text = step.words
        if self.endpoint is None:
            assert self.listener is not None
            options = self.listener.options
            setattr(options, name, self._value(name, text, getattr(options, name)))
            return
        value = self._value(name, text, getattr(self.endpoint.options, name))
        assert isinstance(value, int)
        self.endpoint.set_option(name, value, self.now)

    def do_icmp(self, step: Step) -> None:
        kind = getattr(path_mtu, step.words[0].upper())
        if isinstance(self.connection, Endpoint):
            self.connection.on_error(kind, 0, self.now)

    def do_expect(self, step: Step) -> None:
        what, values = step.words[0], step.words[1:]
        if what == "counter":
            seen = str(self.context.counters[COUNTER[values[0]]])
            values = values[1:]
        elif what == "info":
            seen = str(self._user().info(self.now)[values[0]])
            values = values[1:]
        elif what == "state":
            seen = states.NAMES[self._state()]
        elif what == "ready":
            mask = self._user().readiness()
            seen = " ".join(name for name, bit in READY.items() if mask & bit) or "none"
            values = [" ".join(name for name in READY if name in values) or "none"]
        elif what == "cwnd":
            seen = str(round(self._user().cc.cwnd / self._user().mss, 2)).removesuffix(".0")
        elif what == "ssthresh":
            seen = str(round(self._user().cc.ssthresh / self._user().mss, 2)).removesuffix(".0")
        elif what == "timer":
            seen = next(name for name, value in TIMERS.items() if value == self._user().timer)
        elif what == "queue":
            assert self.listener is not None
            seen = str(len(self.listener.queue))
        elif what == "requests":
            assert self.listener is not None
            seen = str(len(self.listener.requests))
        elif what in ("snd_una", "snd_nxt", "high_seq", "rcv_nxt"):
            seen = str(getattr(self._user(), what) - (self.peer_iss if what == "rcv_nxt" else self.iss))
        else:
            seen = str(int(getattr(self._user(), what)))
        if not _matches(" ".join(values), seen):
            raise Failure(f"{what} is {seen}")

    def _state(self) -> int:
        if self.endpoint is not None and self.endpoint.state != states.CLOSED:
            return self.endpoint.state
        if self.connection is not None:
            return self.connection.state
        if self.endpoint is None and self.listener is not None:
            return states.SYN_RECEIVED if self.listener.requests else states.LISTEN
        return states.CLOSED


def _blocks(text: str) -> list[tuple[int, int]]:
    blocks = []
    for part in text.split(","):
        left, _, right = part.partition("-")
        blocks.append((int(left), int(right)))
    return blocks


def _cookie(text: str) -> bytes:
    return b"" if text == "request" else bytes.fromhex(text)


def _result(value: int) -> str:
    return errno.errorcode[-value] if value < 0 else str(value)


def _matches(wanted: str, seen: str) -> bool:
    if wanted[:1] in "<>" and wanted[:1]:
        return float(seen) < float(wanted[1:]) if wanted[0] == "<" else float(seen) > float(wanted[1:])
    if wanted.startswith("!"):
        return seen != wanted[1:]
    return wanted == seen


def _timestamps_match(wanted: str, seen: str) -> bool:
    if wanted in ("*", "yes"):
        return seen != "none"
    if wanted == "none" or seen == "none":
        return wanted == seen
    value, _, echo = wanted.partition(":")
    seen_value, _, seen_echo = seen.partition(":")
    return (value == "*" or abs(int(value) - int(seen_value)) <= 2) and (echo in ("", "*") or echo == seen_echo)


def run_file(path: Path) -> None:
    Machine(parse(path)).run()

"""A forwarding DNS cache (RFC 1035, 2308, 5625, 5452, 6761, 6891): questions of the virtual network, answered from
names that are known here, from memory, or by servers upstream. Sans-IO; the wire format is dnslib's.

    query(data, client, tcp, reply, now)    a question has come; `reply(bytes)` is called once, now or later, or never
    wake(now), deadline                     time: an upstream server did not answer

It asks through `ask(server, data, tcp, done)`: one question on a socket of its own, whose port nobody can guess (RFC
5452 section 9.2); `done(answer or None, now)` may be called more than once, until what `ask` returned is called to end
it. An answer has to carry the id and the question that were asked. A server that does not answer is asked last for a
while; a truncated answer is asked for again by TCP.

Everything is bounded: questions under way, for all and for one client, who waits for the same one, sizes, and records
of an answer. What is beyond that is dropped and counted, so a client that floods gets nothing and others go on.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

import dnslib

from services.netstackd.services.dns_cache import DnsCache, Entry, Key, Name
from services.netstackd.wire.dns_names import address_of_reverse, labels_of

SECOND: Final = 1_000_000_000
ATTEMPT_NS: Final = 1_500_000_000
MAX_ATTEMPTS: Final = 4
PENALTY_NS: Final = 30 * SECOND
MAX_PENDING: Final = 256
MAX_PER_CLIENT: Final = 32
MAX_WAITING: Final = 32  # who wait for one and the same question
MAX_QUERY_BYTES: Final = 4096
MAX_RECORDS: Final = 512
UPSTREAM_SIZE: Final = 1232  # EDNS: what no path fragments
PLAIN_SIZE: Final = 512
LOCAL_TTL: Final = 5  # of names here: they come and go

_HEADER: Final = struct.Struct("!HHHHHH")
_RESPONSE: Final = 0x8000
_TYPE_A, _TYPE_SOA, _TYPE_PTR, _TYPE_AAAA, _TYPE_OPT, _TYPE_ANY = 1, 6, 12, 28, 41, 255
_CLASS_IN: Final = 1
_NOERROR, _FORMERR, _SERVFAIL, _NXDOMAIN, _NOTIMP, _REFUSED = 0, 1, 2, 3, 4, 5

COUNTERS: Final = ("queries", "local", "cached", "forwarded", "failed", "dropped", "malformed")

Server = tuple[int, int, int]  # version, address, port
Address = tuple[int, int]  # version, address
Reply = Callable[[bytes], None]
Done = Callable[[bytes | None, int], None]
Ask = Callable[[Server, bytes, bool, Done], Callable[[], None]]


class Names:
    """What is known here; both look-ups are called for each question, so they are to be quick."""

    domain: Name = ()

    def addresses(self, name: bytes) -> Sequence[Address] | None:
        """Of a host of the virtual network; None when there is none of this name."""
        return None

    def name_of(self, address: Address) -> bytes | None:
        """The name of an address."""
        return None

    def is_ours(self, address: Address) -> bool:
        """Whether an address is of the virtual network, so that nobody else knows its name."""
        return False


class _Client:
    """Somebody who waits for an answer."""

    __slots__ = ("edns", "ident", "key", "limit", "question", "rd", "reply", "tcp")

    def __init__(self, key: Hashable, record: Any, tcp: bool, reply: Reply) -> None:
        self.key = key
        self.ident: int = record.header.id
        self.rd: int = record.header.rd
        self.question = record.questions[0]  # with its letters as they were asked
        option = next((rr for rr in record.ar if rr.rtype == _TYPE_OPT), None)
        self.edns = option is not None
        size = max(option.rclass, PLAIN_SIZE) if option is not None else PLAIN_SIZE
        self.tcp = tcp
        self.limit = 65535 if tcp else min(size, MAX_QUERY_BYTES)
        self.reply = reply


class _Pending:
    """A question under way upstream."""

    __slots__ = ("attempts", "cancel", "clients", "deadline", "ident", "key", "over", "server", "tcp", "tried")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.clients: list[_Client] = []
        self.attempts = 0
        self.ident = 0
        self.server: Server = (4, 0, 0)
        self.tcp = False
        self.deadline = 0
        self.over = False
        self.tried: list[Server] = []
        self.cancel: Callable[[], None] | None = None


class DnsForwarder:
    """See the module docstring. `servers` may be changed at any time."""

    def __init__(self, names: Names, rng: random.Random, ask: Ask, cache_entries: int = 4096) -> None:
        self._names = names
        self._rng = rng
        self._ask = ask
        self.cache = DnsCache(cache_entries)
        self.servers: list[Server] = []
        self.before_asking: Callable[[], None] = lambda: None
        self._penalties: dict[Server, int] = {}
        self._pending: dict[Key, _Pending] = {}
        self._per_client: dict[Hashable, int] = {}
        self.counters = dict.fromkeys(COUNTERS, 0)

    # -- questions --

    def query(self, data: bytes, client: Hashable, tcp: bool, reply: Reply, now: int) -> None:
        """See the module docstring. `client`: whose limits count (an address)."""
        self.counters["queries"] += 1
        record = parse_query_untrusted(data)
        if record is None:
            self.counters["malformed"] += 1
            if (
                len(data) >= _HEADER.size and not data[2] & 0x80
            ):  # RFC 1035 section 4.1.1: a format error, never for an answer
                reply(_HEADER.pack(int.from_bytes(data[:2], "big"), _RESPONSE | 0x80 | _FORMERR, 0, 0, 0, 0))
            return
        asker = _Client(client, record, tcp, reply)
        if record.header.opcode != 0:
            self._answer_code(asker, _NOTIMP)
            return
        question = record.questions[0]
        name = labels_of(question.qname)
        if question.qclass == _CLASS_IN and self._answer_local(asker, name, question.qtype):
            self.counters["local"] += 1
            return
        if question.qtype in (251, 252, _TYPE_OPT):  # transfers are nothing that is forwarded
            self._answer_code(asker, _REFUSED)
            return
        dnssec = any(rr.rtype == _TYPE_OPT and rr.ttl & 0x8000 for rr in record.ar)
        key = (name, question.qtype, question.qclass, dnssec, bool(record.header.cd))
        entry = self.cache.find(key, now)
        if entry is not None:
            self.counters["cached"] += 1
            self._answer_entry(asker, entry, now)
            return
        if not record.header.rd:
            self._answer_code(asker, _REFUSED)  # nobody but us could be asked, and we know nothing
            return
        self._forward(asker, key, now)

    def _forward(self, asker: _Client, key: Key, now: int) -> None:
        pending = self._pending.get(key)
        waiting = self._per_client.get(asker.key, 0)
        full = waiting >= MAX_PER_CLIENT or (pending is None and len(self._pending) >= MAX_PENDING)
        if full or (pending is not None and len(pending.clients) >= MAX_WAITING):
            self.counters["dropped"] += 1
            return
        self._per_client[asker.key] = waiting + 1
        if pending is not None:
            pending.clients.append(asker)
            return
        pending = self._pending[key] = _Pending(key)
        pending.clients.append(asker)
        self.counters["forwarded"] += 1
        self.before_asking()
        self._attempt(pending, now)

    # -- upstream --

    def _attempt(self, pending: _Pending, now: int) -> None:
        """Ask the next server; the end when there is none or it was tried often enough."""
        self._cancel(pending)
        if not self.servers and pending.attempts < 2:  # nobody has told yet who they are
            pending.attempts += 1
            pending.deadline = now + ATTEMPT_NS // 2
            return
        server = self._next_server(pending, now)
        if server is None:
            self._fail(pending)
            return
        if server != pending.server:
            pending.tcp = False
        pending.server = server
        pending.attempts += 1
        self._send(pending, now)

    def _next_server(self, pending: _Pending, now: int) -> Server | None:
        if pending.attempts >= max(MAX_ATTEMPTS, len(self.servers)):
            return None
        if all(server in pending.tried for server in self.servers):
            pending.tried.clear()  # another round
        left = [server for server in self.servers if server not in pending.tried]
        if not left:
            return None
        chosen = min(left, key=lambda server: self._penalties.get(server, 0) > now)
        pending.tried.append(chosen)
        return chosen

    def _send(self, pending: _Pending, now: int) -> None:
        name, kind, class_, dnssec, cd = pending.key
        ident = pending.ident = self._rng.getrandbits(16)
        record = dnslib.DNSRecord(dnslib.DNSHeader(id=ident, qr=0, rd=1))
        record.header.cd = int(cd)
        record.add_question(dnslib.DNSQuestion(dnslib.DNSLabel(list(name)), kind, class_))
        record.add_ar(dnslib.EDNS0(udp_len=UPSTREAM_SIZE, flags="do" if dnssec else ""))
        pending.deadline = now + ATTEMPT_NS
        attempt = pending.attempts, pending.tcp

        def done(answer: bytes | None, now: int) -> None:
            if not pending.over and (pending.attempts, pending.tcp) == attempt:
                self._answered(pending, answer, now)

        cancel = self._ask(pending.server, record.pack(), pending.tcp, done)
        if not pending.over and (pending.attempts, pending.tcp) == attempt:
            pending.cancel = cancel
        else:
            cancel()  # it was over before it had begun

    @staticmethod
    def _cancel(pending: _Pending) -> None:
        cancel, pending.cancel = pending.cancel, None
        if cancel is not None:
            cancel()

    def _answered(self, pending: _Pending, answer: bytes | None, now: int) -> None:
        """Something came from the server that was asked, or nothing ever will."""
        if answer is None:
            self._penalize(pending, now)
            return
        record = parse_answer_untrusted(answer)
        if record is None or record.header.id != pending.ident or not self._is_about(record, pending.key):
            self.counters["malformed"] += 1
            return  # somebody else's guess: the right answer may still come
        if record.header.tc and not pending.tcp:
            self._cancel(pending)
            pending.tcp = True
            self._send(pending, now)
        elif record.header.rcode in (_NOERROR, _NXDOMAIN):
            self._penalties.pop(pending.server, None)
            self._finish(pending, record, now)
        else:  # it cannot or will not: another may
            self._attempt(pending, now)

    def _penalize(self, pending: _Pending, now: int) -> None:
        self._penalties[pending.server] = now + PENALTY_NS
        if len(self._penalties) > 64:
            del self._penalties[next(iter(self._penalties))]
        self._attempt(pending, now)

    @staticmethod
    def _is_about(record: Any, key: Key) -> bool:
        questions = record.questions
        if len(questions) != 1:
            return False
        question = questions[0]
        return (labels_of(question.qname), question.qtype, question.qclass) == key[:3]

    @property
    def deadline(self) -> int | None:
        """When `wake` has something to do."""
        return min((pending.deadline for pending in self._pending.values()), default=None)

    def wake(self, now: int) -> None:
        """Servers that were asked too long ago do not answer any more."""
        for pending in list(self._pending.values()):
            if not pending.over and pending.deadline <= now:
                self._penalize(pending, now)

    def close(self) -> None:
        """Nobody waits any more."""
        for pending in list(self._pending.values()):
            self._over(pending)

    def _over(self, pending: _Pending) -> None:
        pending.over = True
        self._cancel(pending)
        del self._pending[pending.key]
        for asker in pending.clients:
            left = self._per_client[asker.key] - 1
            if left:
                self._per_client[asker.key] = left
            else:
                del self._per_client[asker.key]

    def _finish(self, pending: _Pending, record: Any, now: int) -> None:
        self.cache.store(pending.key, record, now)
        entry = Entry(record, now, 0)
        self._over(pending)
        for asker in pending.clients:
            self._answer_entry(asker, entry, now)

    def _fail(self, pending: _Pending) -> None:
        self.counters["failed"] += 1
        self._over(pending)
        for asker in pending.clients:
            self._answer_code(asker, _SERVFAIL)

    # -- answers --

    def _begin(self, asker: _Client, rcode: int, *, aa: int = 0, ad: int = 0) -> Any:
        header = dnslib.DNSHeader(id=asker.ident, qr=1, aa=aa, rd=asker.rd, ra=1, rcode=rcode)
        header.ad = ad
        record = dnslib.DNSRecord(header)
        record.add_question(asker.question)
        return record

    def _emit(self, asker: _Client, record: Any) -> None:
        if asker.edns:
            record.add_ar(dnslib.EDNS0(udp_len=UPSTREAM_SIZE))
        data = record.pack()
        if len(data) > asker.limit:  # RFC 2181 section 9: rather nothing than a part
            short = self._begin(asker, record.header.rcode)
            short.header.tc = 1
            if asker.edns:
                short.add_ar(dnslib.EDNS0(udp_len=UPSTREAM_SIZE))
            data = short.pack()
        asker.reply(data)

    def _answer_code(self, asker: _Client, rcode: int) -> None:
        self._emit(asker, self._begin(asker, rcode))

    def _answer_entry(self, asker: _Client, entry: Entry, now: int) -> None:
        record = self._begin(asker, entry.rcode, ad=entry.ad)
        age = (now - entry.at) // SECOND
        for add, section in (
            (record.add_answer, entry.answers),
            (record.add_auth, entry.authority),
            (record.add_ar, entry.additional),
        ):
            for rr in section:
                add(dnslib.RR(rr.rname, rr.rtype, rr.rclass, max(rr.ttl - age, 0), rr.rdata))
        self._emit(asker, record)

    # -- names here --

    def _answer_local(self, asker: _Client, name: Name, kind: int) -> bool:
        """Answer for a name that is known here alone; whether it is one."""
        if name and name[-1] == b"localhost":  # RFC 6761 section 6.3
            self._answer_addresses(asker, [(4, 0x7F000001), (6, 1)], kind)
            return True
        address = address_of_reverse(name)
        if address is not None:
            return self._answer_reverse(asker, address, kind)
        domain = self._names.domain
        inside = bool(domain) and len(name) > len(domain) and name[-len(domain) :] == domain
        if not inside and len(name) != 1 and name != domain:
            return False
        if name == domain and domain:
            self._answer_addresses(asker, [], kind)
            return True
        host = b".".join(name[: -len(domain)] if inside else name)
        found = self._names.addresses(host)
        if found is None:
            if inside:  # nobody else knows our domain
                self._emit(asker, self._begin(asker, _NXDOMAIN, aa=1))
            return inside
        self._answer_addresses(asker, found, kind)
        return True

    def _answer_addresses(self, asker: _Client, addresses: Sequence[Address], kind: int) -> None:
        record = self._begin(asker, _NOERROR, aa=1)
        for version, address in addresses:
            if kind not in (_TYPE_ANY, _TYPE_A if version == 4 else _TYPE_AAAA):
                continue
            data = list(address.to_bytes(4 if version == 4 else 16, "big"))
            rdata = dnslib.A(tuple(data)) if version == 4 else dnslib.AAAA(tuple(data))
            kind_of = _TYPE_A if version == 4 else _TYPE_AAAA
            record.add_answer(dnslib.RR(asker.question.qname, kind_of, _CLASS_IN, LOCAL_TTL, rdata))
        self._emit(asker, record)

    def _answer_reverse(self, asker: _Client, address: Address, kind: int) -> bool:
        name = b"localhost" if address in ((4, 0x7F000001), (6, 1)) else self._names.name_of(address)
        if name is None:
            if not self._names.is_ours(address):
                return False
            self._emit(asker, self._begin(asker, _NXDOMAIN, aa=1))
            return True
        record = self._begin(asker, _NOERROR, aa=1)
        if kind in (_TYPE_PTR, _TYPE_ANY):
            full = [name] if name == b"localhost" else [*name.split(b"."), *self._names.domain]
            rdata = dnslib.PTR(dnslib.DNSLabel(full))
            record.add_answer(dnslib.RR(asker.question.qname, _TYPE_PTR, _CLASS_IN, LOCAL_TTL, rdata))
        self._emit(asker, record)
        return True


def parse_query_untrusted(data: bytes) -> Any:
    """A question as dnslib.DNSRecord, None for what is none: exactly one question, no answers, at most an OPT and a
    signature beside it."""
    if not _HEADER.size <= len(data) <= MAX_QUERY_BYTES:
        return None
    _, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE or questions != 1 or answers or authority or additional > 2:
        return None
    return _parse(data)


def parse_answer_untrusted(data: bytes) -> Any:
    """An answer as dnslib.DNSRecord, None for what is none or has more than MAX_RECORDS records."""
    if len(data) < _HEADER.size:
        return None
    _, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    if not flags & _RESPONSE or questions != 1 or answers + authority + additional > MAX_RECORDS:
        return None
    return _parse(data)


def _parse(data: bytes) -> Any:
    try:
        return dnslib.DNSRecord.parse(data)
    except Exception:  # its own kinds, what its parts raise for lies about lengths, RecursionError for pointers
        return None

"""The DNS forwarder on virtual time: memory, names known here, failing over, lies from outside, floods."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.netstackd.services.dns_forwarder import (
    ATTEMPT_NS,
    MAX_PENDING,
    MAX_PER_CLIENT,
    MAX_WAITING,
    Address,
    DnsForwarder,
    Done,
    Names,
    parse_answer_untrusted,
    parse_query_untrusted,
)
from tests.netstack.unit.hosts import SECOND, ip

FIRST, SECOND_SERVER = (4, ip("198.51.100.1"), 53), (4, ip("198.51.100.2"), 53)
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)


class Known(Names):
    domain = (b"box", b"lab")

    def addresses(self, name: bytes) -> Sequence[Address] | None:
        return [(4, ip("10.0.2.15")), (6, ip("fd00::15"))] if name == b"web" else None

    def name_of(self, address: Address) -> bytes | None:
        return b"web" if address == (4, ip("10.0.2.15")) else None

    def is_ours(self, address: Address) -> bool:
        return address[0] == 4 and address[1] >> 8 == ip("10.0.2.0") >> 8


class Bench:
    """A forwarder, its clock, and what it asks."""

    def __init__(self, *servers: tuple[int, int, int]) -> None:
        self.now = 1000 * SECOND
        self.asked: list[tuple[tuple[int, int, int], Any, bool, Done]] = []
        self.cancelled = 0
        self.machine = DnsForwarder(Known(), random.Random(1), self._ask, cache_entries=50)
        self.machine.servers = list(servers or (FIRST,))
        self.answers: list[Any] = []

    def _ask(self, server: tuple[int, int, int], data: bytes, tcp: bool, done: Done) -> Any:
        self.asked.append((server, dnslib.DNSRecord.parse(data), tcp, done))

        def cancel() -> None:
            self.cancelled += 1

        return cancel

    def query(self, name: str, kind: str = "A", client: object = 1, tcp: bool = False, **options: Any) -> None:
        record = dnslib.DNSRecord.question(name, kind)
        record.header.id = options.get("ident", 77)
        record.header.rd = options.get("rd", 1)
        if "size" in options:
            record.add_ar(dnslib.EDNS0(udp_len=options["size"], flags=options.get("flags", "")))
        self.raw(record.pack(), client, tcp)

    def raw(self, data: bytes, client: object = 1, tcp: bool = False) -> None:
        self.machine.query(data, client, tcp, lambda data: self.answers.append(dnslib.DNSRecord.parse(data)), self.now)  # type: ignore[arg-type]

    def answer(self, index: int = -1, *lines: str, rcode: int = 0, **header: int) -> None:
        """The server that was asked answers with records in zone file form; those of type SOA stand in authority."""
        _, question, _, done = self.asked[index]
        record = question.reply()
        record.header.rcode = rcode
        for key, value in header.items():
            setattr(record.header, key, value)
        for rr in dnslib.RR.fromZone("\n".join(lines)):
            (record.add_auth if rr.rtype == dnslib.QTYPE.SOA else record.add_answer)(rr)
        done(record.pack(), self.now)

    def last(self) -> Any:
        return self.answers[-1]

    def wait(self, seconds: float) -> None:
        """Time passes, from deadline to deadline."""
        until = self.now + int(seconds * SECOND)
        while (deadline := self.machine.deadline) is not None and deadline <= until:
            self.now = deadline
            self.machine.wake(self.now)
        self.now = until


SOA = "example.org. 300 IN SOA ns. root. 1 2 3 4 60"


def test_answer_is_forwarded_remembered_and_grows_old() -> None:
    bench = Bench()
    bench.query("WWW.example.org", ident=1234)
    server, question, tcp, _ = bench.asked[0]
    assert server == FIRST and not tcp and question.header.rd and str(question.q.qname) == "www.example.org."
    bench.answer(-1, "www.example.org. 100 IN A 192.0.2.1", "www.example.org. 200 IN A 192.0.2.2")
    reply = bench.last()
    assert reply.header.id == 1234 and reply.header.ra and reply.header.qr and not reply.header.aa
    assert reply.q.qname.label[0] == b"WWW"  # as it was asked
    assert [str(rr.rdata) for rr in reply.rr] == ["192.0.2.1", "192.0.2.2"]
    bench.now += 40 * SECOND
    bench.query("www.EXAMPLE.org")
    assert len(bench.asked) == 1 and [rr.ttl for rr in bench.last().rr] == [60, 160]
    bench.now += 61 * SECOND  # the lower of the two is over
    bench.query("www.example.org")
    assert len(bench.asked) == 2


@pytest.mark.parametrize(
    ("rcode", "lines", "remembered"), [(NXDOMAIN, [SOA], 60), (NOERROR, [SOA], 60), (NXDOMAIN, [], 0)]
)
def test_negative_answers_live_as_the_soa_says(rcode: int, lines: list[str], remembered: int) -> None:
    bench = Bench()
    bench.query("no.example.org")
    bench.answer(-1, *lines, rcode=rcode)
    assert bench.last().header.rcode == rcode
    bench.now += (remembered - 1) * SECOND if remembered else 0
    bench.query("no.example.org")
    assert len(bench.asked) == (1 if remembered else 2)
    assert not remembered or (bench.last().header.rcode == rcode and bench.last().auth[0].ttl == 300 - 59)
    bench.now += 2 * SECOND
    bench.query("no.example.org")
    assert len(bench.asked) == 2


def test_what_may_not_be_remembered_is_not() -> None:
    bench = Bench()
    for lines, rcode in ((["a.b. 0 IN A 1.1.1.1"], 0), ([], SERVFAIL)):
        before = len(bench.asked)
        bench.query("a.b")
        while len(bench.asked) > before:
            before = len(bench.asked)
            bench.answer(-1, *lines, rcode=rcode)
        count = len(bench.asked)
        bench.query("a.b")
        assert len(bench.asked) == count + 1
        bench.wait(60)


def test_memory_is_bounded() -> None:
    bench = Bench()
    for number in range(80):
        bench.query(f"n{number}.org")
        bench.answer(-1, f"n{number}.org. 600 IN A 192.0.2.1")
    assert len(bench.machine.cache) == 50
    bench.query("n79.org")
    bench.query("n0.org")
    assert len(bench.asked) == 81


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "data"),
    [
        ("web", "A", NOERROR, ["10.0.2.15"]),
        ("WEB.box.lab", "AAAA", NOERROR, ["fd00::15"]),
        ("web", "TXT", NOERROR, []),
        ("nobody.box.lab", "A", NXDOMAIN, []),
        ("box.lab", "A", NOERROR, []),
        ("15.2.0.10.in-addr.arpa", "PTR", NOERROR, ["web.box.lab."]),
        ("16.2.0.10.in-addr.arpa", "PTR", NXDOMAIN, []),
        ("localhost", "A", NOERROR, ["127.0.0.1"]),
        ("x.localhost", "AAAA", NOERROR, ["::1"]),
        ("1.0.0.127.in-addr.arpa", "PTR", NOERROR, ["localhost."]),
    ],
)
def test_names_known_here_are_answered_here(name: str, kind: str, rcode: int, data: list[str]) -> None:
    bench = Bench()
    bench.query(name, kind)
    reply = bench.last()
    assert (reply.header.rcode, reply.header.aa, [str(rr.rdata) for rr in reply.rr]) == (rcode, 1, data)
    assert bench.asked == []


@pytest.mark.parametrize(("name", "kind"), [("other", "A"), ("1.1.168.192.in-addr.arpa", "PTR"), ("org", "NS")])
def test_other_names_are_asked_for(name: str, kind: str) -> None:
    bench = Bench()
    bench.query(name, kind)
    assert len(bench.asked) == 1


def test_silent_server_is_followed_by_the_next_and_asked_last_for_a_while() -> None:
    bench = Bench(FIRST, SECOND_SERVER)
    bench.query("a.org")
    bench.wait(2)
    assert [server for server, _, _, _ in bench.asked] == [FIRST, SECOND_SERVER] and bench.cancelled == 1
    bench.answer(-1, "a.org. 60 IN A 192.0.2.1")
    assert bench.last().rr
    bench.query("b.org")
    assert bench.asked[-1][0] == SECOND_SERVER
    bench.answer(-1, "b.org. 60 IN A 192.0.2.1")
    bench.now += 40 * SECOND
    bench.query("c.org")
    assert bench.asked[-1][0] == FIRST


def test_server_that_cannot_is_followed_by_the_next() -> None:
    bench = Bench(FIRST, SECOND_SERVER)
    bench.query("a.org")
    bench.answer(0, rcode=SERVFAIL)
    assert bench.asked[1][0] == SECOND_SERVER
    bench.asked[1][3](None, bench.now)  # its port is closed
    assert len(bench.asked) == 3


def test_nobody_answers() -> None:
    bench = Bench(FIRST, SECOND_SERVER)
    bench.query("a.org")
    bench.wait(10)
    assert bench.last().header.rcode == SERVFAIL and len(bench.asked) == 4
    assert bench.machine.deadline is None and bench.cancelled == 4


def test_servers_that_become_known_late_are_waited_for() -> None:
    bench = Bench()
    bench.machine.servers = []
    bench.query("a.org")
    assert bench.asked == [] and bench.answers == []
    bench.machine.servers = [FIRST]
    bench.wait(1)
    assert len(bench.asked) == 1
    bench.machine.servers = []
    bench.query("b.org")
    bench.wait(10)
    assert bench.last().header.rcode == SERVFAIL


def test_truncated_answer_is_asked_for_by_tcp() -> None:
    bench = Bench()
    bench.query("big.org", "TXT", size=4096)
    bench.answer(-1, tc=1)
    assert len(bench.asked) == 2 and bench.asked[1][2] and bench.answers == []
    bench.answer(-1, *(f'big.org. 60 IN TXT "{"x" * 200}{number}"' for number in range(10)))
    assert len(bench.last().rr) == 10


@pytest.mark.parametrize(
    ("options", "whole"), [({}, False), ({"size": 4096}, True), ({"tcp": True}, True), ({"size": 600}, False)]
)
def test_answers_are_no_longer_than_the_client_takes(options: dict[str, Any], whole: bool) -> None:
    bench = Bench()
    bench.query("big.org", "TXT", **options)
    bench.answer(-1, *(f'big.org. 60 IN TXT "{"x" * 200}{number}"' for number in range(10)))
    reply = bench.last()
    assert bool(reply.rr) is whole and bool(reply.header.tc) is not whole
    assert bool(reply.ar) == ("size" in options)  # EDNS is answered by EDNS


@pytest.mark.parametrize("lie", ["id", "question", "garbage", "query", "kind"])
def test_answers_that_were_not_asked_for_are_ignored_and_the_right_one_still_counts(lie: str) -> None:
    bench = Bench()
    bench.query("a.org")
    _, question, _, done = bench.asked[0]
    record = question.reply()
    record.add_answer(*dnslib.RR.fromZone("a.org. 60 IN A 6.6.6.6"))
    if lie == "id":
        record.header.id ^= 1
    elif lie == "question":
        record.questions = [dnslib.DNSQuestion("b.org")]
    elif lie == "kind":
        record.questions = [dnslib.DNSQuestion("a.org", dnslib.QTYPE.AAAA)]
    data = b"\xff" * 40 if lie == "garbage" else question.pack() if lie == "query" else record.pack()
    done(data, bench.now)
    assert bench.answers == [] and bench.machine.counters["malformed"] == 1
    bench.answer(0, "a.org. 60 IN A 192.0.2.1")
    assert str(bench.last().rr[0].rdata) == "192.0.2.1"


def test_late_answers_of_a_server_that_was_given_up_are_ignored() -> None:
    bench = Bench(FIRST, SECOND_SERVER)
    bench.query("a.org")
    bench.wait(ATTEMPT_NS / SECOND + 0.1)
    bench.answer(0, "a.org. 60 IN A 6.6.6.6")
    assert bench.answers == []
    bench.answer(1, "a.org. 60 IN A 192.0.2.1")
    bench.answer(1, "a.org. 60 IN A 6.6.6.6")
    assert len(bench.answers) == 1


def test_ids_differ_and_same_questions_are_asked_once() -> None:
    bench = Bench()
    for client in range(5):
        bench.query("a.org", client=client)
    for number in range(20):
        bench.query(f"n{number}.org")
    assert len(bench.asked) == 21
    assert len({question.header.id for _, question, _, _ in bench.asked}) > 15
    bench.answer(0, "a.org. 60 IN A 192.0.2.1")
    assert len(bench.answers) == 5


def test_flood_of_one_client_leaves_room_for_others() -> None:
    bench = Bench()
    for number in range(200):
        bench.query(f"n{number}.org", client="flooder")
    assert len(bench.asked) == MAX_PER_CLIENT and bench.machine.counters["dropped"] == 200 - MAX_PER_CLIENT
    bench.query("a.org", client="other")
    assert len(bench.asked) == MAX_PER_CLIENT + 1
    for number in range(100):
        bench.query("same.org", client=number)
    assert len(bench.machine._pending[(b"same", b"org"), 1, 1, False, False].clients) == MAX_WAITING
    for number in range(1000):
        bench.query(f"m{number}.org", client=number)
    assert len(bench.machine._pending) == MAX_PENDING
    bench.wait(30)
    assert not bench.machine._pending and not bench.machine._per_client


def test_dnssec_is_asked_for_and_remembered_apart() -> None:
    bench = Bench()
    bench.query("a.org", size=1232, flags="do")
    assert bench.asked[0][1].ar[0].ttl & 0x8000
    bench.answer(0, "a.org. 60 IN A 192.0.2.1")
    bench.query("a.org")
    assert len(bench.asked) == 2 and not bench.asked[1][1].ar[0].ttl & 0x8000


def test_what_is_no_question_is_told_so() -> None:
    bench = Bench()
    bench.raw(b"\0\1\1\0\0\2\0\0\0\0\0\0" + b"\1a\0\0\1\0\1" * 2)
    assert bench.last().header.rcode == FORMERR and bench.last().header.id == 1
    bench.raw(dnslib.DNSRecord.question("a.org").reply().pack())  # an answer is never answered
    bench.raw(b"\0\1")
    assert len(bench.answers) == 1
    record = dnslib.DNSRecord.question("a.org")
    record.header.opcode = 5
    bench.raw(record.pack())
    assert bench.last().header.rcode == NOTIMP
    bench.query("a.org", "AXFR")
    assert bench.last().header.rcode == REFUSED
    bench.query("a.org", rd=0)
    assert bench.last().header.rcode == REFUSED and bench.asked == []


@given(st.binary(max_size=300), st.integers(0, 60), st.binary(max_size=6))
@settings(max_examples=300, deadline=None)
def test_hostile_bytes_raise_nothing(data: bytes, at: int, patch: bytes) -> None:
    good = dnslib.DNSRecord.question("www.example.org", "MX").pack()
    answer = dnslib.DNSRecord.parse(good).reply()
    answer.add_answer(*dnslib.RR.fromZone("www.example.org. 60 IN MX 10 mail.example.org."))
    for base in (data, good, answer.pack()):
        broken = base[:at] + patch + base[at + len(patch) :]
        parse_query_untrusted(broken)
        parse_answer_untrusted(broken)
        bench = Bench()
        bench.raw(broken)
        bench.query("www.example.org", "MX")
        bench.asked[-1][3](bench.asked[-1][1].header.id.to_bytes(2, "big") + broken[2:], bench.now)


def test_names_of_pointers_to_pointers_end() -> None:
    chain = b"".join((0xC000 | 12 + 2 * max(number - 1, 0)).to_bytes(2, "big") for number in range(4000))
    header = b"\0\1\x80\0\0\1\0\0\0\0\0\0"
    assert parse_answer_untrusted(header + chain) is None

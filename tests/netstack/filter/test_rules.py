"""The packet filter: what fits, which rule decides, limits, sets, and that many rules cost no more than few."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import pytest

from services.netstackd.filter.connection import ESTABLISHED, NEW, Connection
from services.netstackd.filter.match import Match
from services.netstackd.filter.mss import clamp
from services.netstackd.filter.rules import ACCEPT, CONTINUE, DROP, JUMP, REJECT, RETURN, Chain, Limit, Rule
from services.netstackd.filter.sets import AddressSet, prefixes_of
from services.netstackd.network.interface import Interface
from services.netstackd.storage.packet import CSUM_PARTIAL, Packet
from tests.netstack.links import frames

A, B = 0x0A000001, 0x0A000102
LAN, WAN = Interface("lan"), Interface("wan")


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def packet(
    src: int = A,
    dst: int = B,
    sport: int = 1000,
    dport: int = 80,
    *,
    tcp: bool = True,
    flags: int = 2,
    state: int = NEW,
) -> Packet:
    make: Callable[..., bytes] = frames.tcp if tcp else frames.udp
    body = make(src, dst, sport, dport, flags=flags) if tcp else make(src, dst, sport, dport)
    made = frames.packet(frames.ETHERNET + frames.ipv4(src, dst, 6 if tcp else 17, body))
    made.iface, made.out = LAN, WAN
    made.ct = Connection(4, (src, dst, sport, dport, made.proto), 0, 1).original
    made.ct.state = state
    return made


def chain(
    *rules: Rule, policy: str = DROP, sets: dict[str, AddressSet] | None = None, clock: Clock | None = None
) -> Chain:
    return Chain("forward", list(rules), policy, sets or {}, clock or Clock(), lambda *_: None)


def accepts(made: Chain, one: Packet) -> bool:
    found = made.decide(one)
    return (made.policy if found is None else found.rule.action) == ACCEPT


@pytest.mark.parametrize(
    ("match", "other"),
    [
        (Match(in_interfaces=frozenset({"lan"})), Match(in_interfaces=frozenset({"wan"}))),
        (Match(out_interfaces=frozenset({"lan"}), not_out_interfaces=True), Match(out_interfaces=frozenset({"lan"}))),
        (Match(version=4), Match(version=6)),
        (Match(protocols=frozenset({6})), Match(protocols=frozenset({17}))),
        (Match(sources=((4, A, A),)), Match(sources=((4, A + 1, A + 9),))),
        (Match(sources=((4, 0, 5),), not_sources=True), Match(sources=((4, A, A),), not_sources=True)),
        (Match(destinations=((4, B - 5, B),)), Match(destinations=((6, 0, B),))),
        (Match(dports=((1, 79), (80, 80))), Match(dports=((81, 90),))),
        (Match(sports=((1000, 1000),)), Match(sports=((999, 999),))),
        (Match(states=NEW), Match(states=ESTABLISHED)),
    ],
)
def test_each_condition_lets_in_what_fits_and_nothing_else(match: Match, other: Match) -> None:
    assert accepts(chain(Rule("yes", "forward", ACCEPT, match)), packet())
    assert not accepts(chain(Rule("no", "forward", ACCEPT, other)), packet())


def test_the_first_rule_that_fits_decides_and_counts() -> None:
    made = chain(
        Rule("count", "forward", CONTINUE),
        Rule("web", "forward", ACCEPT, Match(dports=((80, 80),))),
        Rule("all", "forward", DROP),
    )
    assert accepts(made, packet()) and not accepts(made, packet(dport=81))
    assert [(one.packets, one.bytes) for one in made.rules] == [(2, 80), (1, 40), (1, 40)]
    assert made.policy_packets == 0


def test_a_remembered_direction_forgets_when_its_state_or_way_changes() -> None:
    made = chain(Rule("old", "forward", ACCEPT, Match(states=ESTABLISHED)))
    one = packet()
    assert not accepts(made, one)
    one.ct.state = ESTABLISHED
    assert accepts(made, one) and accepts(made, one)
    other = chain(Rule("lan", "forward", ACCEPT, Match(out_interfaces=frozenset({"lan"}))))
    assert not accepts(other, one)
    one.out = LAN
    assert accepts(other, one)


def test_a_limit_lets_its_burst_through_and_then_its_rate() -> None:
    clock = Clock()
    made = chain(Rule("ping", "forward", ACCEPT, limit=Limit(10, 10**9, burst=3)), clock=clock)
    assert [accepts(made, packet()) for _ in range(5)] == [True] * 3 + [False] * 2
    clock.now += 250_000_000
    assert [accepts(made, packet()) for _ in range(4)] == [True] * 2 + [False] * 2


def test_a_limit_per_source_keeps_sources_apart_and_their_number_bounded() -> None:
    clock = Clock()
    made = chain(Rule("each", "forward", ACCEPT, limit=Limit(1, 10**9, burst=1, per_source=True)), clock=clock)
    assert accepts(made, packet(A)) and accepts(made, packet(A + 1)) and not accepts(made, packet(A))
    for source in range(9000):
        accepts(made, packet(source + 1))
    assert accepts(made, packet(1)), "the first were forgotten"
    assert not accepts(made, packet(9000)), "and the last were not"


def test_sets_decide_by_address_and_their_members_leave_in_time() -> None:
    clock = Clock()
    bad = AddressSet("bad", timeout=10)
    made = chain(
        Rule("bad", "forward", DROP, source_set="bad"),
        Rule("trap", "forward", DROP, Match(dports=((23, 23),)), add_source_to="bad"),
        Rule("rest", "forward", ACCEPT),
        sets={"bad": bad},
        clock=clock,
    )
    assert accepts(made, packet())
    assert not accepts(made, packet(dport=23)) and not accepts(made, packet())
    clock.now += 11
    assert accepts(made, packet()) and len(bad) == 0


def test_a_set_is_bounded_and_gives_up_the_element_that_would_leave_first() -> None:
    one = AddressSet("s", timeout=100, max_elements=10)
    one.add(4, 1 << 31, 1, 0, dynamic=False)
    for address in range(20):
        one.add(4, address, 32, address)
    assert len(one) == 10 and one.evicted == 11
    assert one.holds(4, 0xF0000000, 0) and one.holds(4, 19, 50) and not one.holds(4, 5, 20)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (1, 6), (0, 2**32 - 1), (5, 5), (0x0A000000, 0x0A0000FE)])
def test_a_range_becomes_prefixes_that_cover_it_exactly(first: int, last: int) -> None:
    pieces = prefixes_of([(4, first, last)])
    covered = sorted((address, address + (1 << (32 - length)) - 1) for _, address, length in pieces)
    assert covered[0][0] == first and covered[-1][1] == last
    assert all(left[1] + 1 == right[0] for left, right in zip(covered, covered[1:], strict=False))


def test_tcp_flags_and_icmp_types_are_looked_at_in_the_packet() -> None:
    syn_only = chain(Rule("syn", "forward", ACCEPT, tcp_flags=(0x17, 0x02)))
    assert accepts(syn_only, packet(flags=2)) and not accepts(syn_only, packet(flags=0x12))
    assert not accepts(syn_only, packet(tcp=False))
    echo = chain(Rule("echo", "forward", ACCEPT, icmp_types=frozenset({(1, 8)})))
    body = bytes((8, 0, 0xF7, 0xFF, 0, 0, 0, 0))
    ping = frames.packet(frames.ETHERNET + frames.ipv4(A, B, 1, body))
    assert accepts(echo, ping)
    ping.head[34] = 0  # type: ignore[index]
    assert not accepts(echo, ping)


def test_explain_says_why_each_rule_does_not_fit_and_counts_nothing() -> None:
    made = chain(
        Rule("est", "forward", ACCEPT, Match(states=ESTABLISHED)),
        Rule("udp", "forward", ACCEPT, Match(protocols=frozenset({17}))),
        Rule("web", "forward", ACCEPT, Match(dports=((80, 80),))),
    )
    steps, found = made.explain(packet())
    assert found is made.rules[2] and found.packets == 0
    assert "the connection is new" in steps[0] and "another protocol" in steps[1] and "fits" in steps[2]


def test_a_thousand_rules_that_do_not_fit_cost_what_ten_do() -> None:
    def many(count: int) -> Chain:
        rules = [Rule(f"r{n}", "forward", DROP, Match(dports=((n + 2000, n + 2000),))) for n in range(count)]
        rules += [Rule(f"a{n}", "forward", DROP, Match(sources=((4, n, n),))) for n in range(count)]
        return chain(*rules, Rule("web", "forward", ACCEPT, Match(dports=((80, 80),))))

    def cost(made: Chain) -> float:
        best = 1.0
        for _ in range(7):
            packets = [packet(sport=port) for port in range(1000, 1200)]
            began = perf_counter()
            for one in packets:
                made.decide(one)
            best = min(best, perf_counter() - began)
        return best

    assert cost(many(1000)) < 3 * cost(many(5))


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("padding", [b"", b"\x01", b"\x01\x01\x01\x03\x03\x07"])
def test_the_mss_of_a_syn_is_lowered_and_its_checksum_stays_good(partial: bool, padding: bytes) -> None:
    options = padding + b"\x02\x04\x05\xb4"
    options += bytes(-len(options) % 4)
    segment = frames.tcp(A, B, 1, 80, flags=2, options=options, partial=partial)
    one = frames.packet(frames.ETHERNET + frames.ipv4(A, B, 6, segment))
    if partial:
        one.csum = CSUM_PARTIAL
    assert clamp(one, 1400)
    at = 54 + len(padding) + 2
    assert one.head[at : at + 2] == (1360).to_bytes(2, "big")
    assert partial or frames.is_good(frames.whole(one))
    assert not clamp(one, 1400) and not clamp(one, 1500)


def test_a_lying_option_list_is_not_followed_past_the_header() -> None:
    for options in (b"\x02\x00\x00\x00", b"\x02\xff\x05\xb4", b"\x05\x00\x00\x00", b"\x02\x04", b"\x02\x04\x05\xb4"):
        padded = options + bytes(-len(options) % 4)
        one = frames.packet(frames.ETHERNET + frames.ipv4(A, B, 6, frames.tcp(A, B, 1, 80, flags=2, options=padded)))
        one.end = 54 + len(options)
        clamp(one, 1000)


def chains(*rules: Rule, policy: str = DROP) -> dict[str, Chain]:
    """Chain forward and those that rules jump to, put together as the pipeline does."""
    names = ["forward", *dict.fromkeys(rule.jump_to for rule in rules if rule.jump_to)]
    made = {
        name: Chain(name, [rule for rule in rules if rule.chain == name], policy, {}, Clock(), lambda *_: None)
        for name in names
    }
    for one in made.values():
        for compiled in one.rules:
            compiled.target = made.get(compiled.rule.jump_to)
    return made


TCP, UDP = Match(protocols=frozenset({6})), Match(protocols=frozenset({17}))
WEB = Match(dports=((80, 80),))


@pytest.mark.parametrize(
    ("inner", "decides"),
    [
        ([Rule("in", "mine", ACCEPT)], "in"),
        ([Rule("in", "mine", REJECT, WEB), Rule("later", "mine", ACCEPT)], "in"),
        ([Rule("in", "mine", ACCEPT, UDP)], "after"),  # none fits: back behind the jump
        ([Rule("back", "mine", RETURN, WEB), Rule("in", "mine", ACCEPT)], "after"),
        (
            [Rule("count", "mine", CONTINUE), Rule("on", "mine", JUMP, WEB, jump_to="deep"), Rule("in", "mine", DROP)],
            "deep",
        ),
        ([], "after"),
    ],
)
def test_a_chain_of_the_users_decides_or_gives_back(inner: list[Rule], decides: str) -> None:
    rules = [Rule("jump", "forward", JUMP, TCP, jump_to="mine"), *inner, Rule("after", "forward", ACCEPT)]
    if decides == "deep":
        rules.append(Rule("deep", "deep", ACCEPT))
    made = chains(*rules)
    for _ in range(2):  # once found, once remembered
        found = made["forward"].decide(packet())
        assert found is not None and found.rule.name == decides
    steps, explained = made["forward"].explain(packet())
    assert explained is not None and explained.rule.name == decides and any("(jump): fits" in step for step in steps)
    assert made["forward"].rules[0].packets == 2


def test_a_jump_that_does_not_fit_is_passed_over_and_its_chain_counts_nothing() -> None:
    made = chains(Rule("jump", "forward", JUMP, UDP, jump_to="mine"), Rule("in", "mine", ACCEPT))
    assert made["forward"].decide(packet()) is None
    assert made["mine"].rules[0].packets == 0 and made["forward"].policy_packets == 1


def test_return_outside_of_a_users_chain_leaves_it_to_the_policy() -> None:
    made = chains(Rule("no", "forward", RETURN, WEB), Rule("yes", "forward", ACCEPT))
    assert made["forward"].decide(packet()) is None and made["forward"].explain(packet())[1] is None
    found = made["forward"].decide(packet(dport=81))
    assert found is not None and found.rule.name == "yes"

"""The configuration: what is right is read as meant; what is wrong is told with its line, key and what to do."""

from __future__ import annotations

import pytest

from services.netstackd.config.diff import differences
from services.netstackd.config.load import load
from services.netstackd.config.model import ConfigError
from services.netstackd.config.presets import bridge, plain, router

GOOD = """
[router]
forwarding = true

[[interface]]
name = "lan"
addresses = ["192.168.1.1/24", "fd00::1/64"]

[[interface]]
name = "wan"
kind = "packet"
device = "veth1"
dhcp = true

[[route]]
to = "10.0.0.0/8"
via = "192.168.1.9"
metric = 5

[nat]
masquerade = "wan"

[[forward]]
in = "wan"
protocol = "tcp"
port = "8080"
to = "192.168.1.10:80"
hairpin = true

[filter]
input = "drop"

[filter.set.friends]
members = ["10.1.0.0/16", "192.0.2.5-192.0.2.9"]

[[filter.rule]]
chain = "input"
from = "@friends"
port = 22
limit = "10/minute"
action = "accept"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load("router.toml", text)
    return caught.value.problems


def test_a_good_file_is_read_as_it_is_meant() -> None:
    config = load("router.toml", GOOD)
    assert [spec.name for spec in config.interfaces] == ["lan", "wan"] and config.interfaces[1].dhcp
    assert config.interfaces[0].addresses == ((4, 0xC0A80101, 24), (6, (0xFD << 120) | 1, 64))
    assert config.routes[0].prefix == (4, 10 << 24, 8) and config.routes[0].metric == 5
    rule = config.policy.rules[-1]
    assert rule.source_set == "friends" and rule.match.dports == ((22, 22),) and rule.match.protocols == {6, 17}
    assert rule.limit is not None and rule.limit.per_ns == 60 * 10**9
    assert [rule.name for rule in config.policy.rules[:3]] == ["established"] * 3
    assert [rule.chain for rule in config.policy.rules[3:5]] == ["input", "output"]
    forward = config.policy.nat[-1]
    assert forward.own_addresses_of == {"wan"} and forward.hairpin and forward.ports == (80, 80)
    assert config.policy.sets[0].members[1] == (4, 0xC0000205, 0xC0000209)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "wan"', 'nam = "wan"', "router.toml:10: interface[1].nam: is not known here (did you mean name?)"),
        ("192.168.1.1/24", "192.168.1.1/33", "router.toml:7: interface[0].addresses: "),
        ('kind = "packet"', 'kind = "packt"', "router.toml:11: interface[1].kind: must be one of"),
        ("metric = 5", 'metric = "5"', "router.toml:18: route[0].metric: must be a whole number"),
        ('to = "10.0.0.0/8"', 'to = "10.0.0.1/8"', "route[0].to: \"10.0.0.1/8\" has host bits set"),
        ('masquerade = "wan"', 'masquerade = "wann"', "nat.masquerade: \"wann\" is no interface"),
        ('port = "8080"', 'port = "80800"', "forward[0].port: "),
        ("192.168.1.10:80", "192.168.1.x:80", "forward[0].to: \"192.168.1.x\" is no address"),
        ('input = "drop"', 'input = "deny"', "filter.input: must be one of accept, drop, reject"),
        ('"@friends"', '"@frends"', "filter.rule[0].from: \"@frends\" is no set"),
        ("10/minute", "ten", "filter.rule[0].limit: "),
        ('in = "wan"', "", "forward[0].in: is missing"),
        ("dhcp = true", "dhcp = 1", "interface[1].dhcp: must be true or false, is 1"),
        ("192.0.2.5-192.0.2.9", "192.0.2.9-192.0.2.5", "is no range"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    found = problems(GOOD.replace(old, new, 1))
    assert any(expected in line for line in found), found


def test_all_problems_are_told_at_once() -> None:
    text = GOOD.replace("metric = 5", "metric = -5").replace('input = "drop"', "input = 3").replace("10/minute", "0/s")
    assert len(problems(text)) == 3


def test_broken_toml_is_one_line() -> None:
    assert problems("[router\n") and "router.toml" in problems("[router\n")[0]


@pytest.mark.parametrize(
    "text",
    [
        '[[interface]]\nname = "a"\n[[interface]]\nname = "a"\n',
        '[[interface]]\nname = "p"\nbridge = "br0"\n',
        '[[interface]]\nname = "v"\nkind = "vlan"\nparent = "nobody"\nid = 5\n',
        '[[interface]]\nname = "much_too_long_a_name"\n',
        '[[interface]]\nname = "u"\nkind = "unix"\n',
        '[[interface]]\nname = "x"\nmac = "01:00:00:00:00:01"\n',
        '[[interface]]\nname = "x"\nshape = { rate = "fast" }\n',
        '[[interface]]\nname = "x"\nfault = { loss = 2 }\n',
        '[[dhcp_server]]\ninterface = "x"\npool = "1.2.3.4-1.2.3.9"\n',
    ],
)
def test_what_does_not_fit_together_is_refused(text: str) -> None:
    assert problems(text)


def test_the_difference_of_two_files_names_what_changes() -> None:
    old = load("a", GOOD)
    new = load("b", GOOD.replace("metric = 5", "metric = 6").replace('input = "drop"', 'input = "reject"'))
    assert differences(old, old) == []
    lines = differences(old, new)
    assert "- route 10.0.0.0/8 via 192.168.1.9 metric 5" in lines
    assert "+ route 10.0.0.0/8 via 192.168.1.9 metric 6" in lines
    assert "~ filter policy input: drop to reject" in lines


def test_presets_are_configurations() -> None:
    made = load("p", router("tap:lan0", "packet:veth1@blue", "192.168.8.1/24", "dhcp", ""))
    assert made.dhcp_servers[0].first == 0xC0A80880 and made.interfaces[1].link.netns == "blue"
    made = load("p", bridge(["a", "tap:b"], ["10.0.0.1/24"]))
    assert [spec.bridge for spec in made.interfaces] == ["", "br0", "br0"]
    made = load("p", plain([("tap:a", ["10.0.0.1/24"]), ("tun:b", ["dhcp"])], ["default via 10.0.0.2"], True))
    assert made.forwarding and made.interfaces[1].dhcp


LAN = '[[interface]]\nname = "lan"\naddresses = ["10.0.0.1/24"]\n'
CHAINS = """
[filter]
chains = ["web", "deep"]
[[filter.rule]]
chain = "forward"
protocol = "tcp"
jump = "web"
[[filter.rule]]
chain = "web"
jump = "deep"
[[filter.rule]]
chain = "deep"
port = 80
action = "return"
"""


def test_chains_of_the_users_are_read_and_circles_are_told() -> None:
    policy = load("x", LAN + CHAINS).policy
    assert policy.chains == ("web", "deep")
    assert [(rule.chain, rule.action, rule.jump_to) for rule in policy.rules] == [
        ("forward", "jump", "web"),
        ("web", "jump", "deep"),
        ("deep", "return", ""),
    ]
    circle = CHAINS.replace('action = "return"', 'jump = "web"')
    assert any("leads back to itself" in one for one in problems(LAN + circle))
    assert any(
        "must be one of web, deep" in one for one in problems(LAN + CHAINS.replace('jump = "deep"', 'jump = "dep"'))
    )
    assert any("chain" in one for one in problems(LAN + CHAINS.replace('chain = "deep"', 'chain = "depp"')))
    assert any("already" in one for one in problems(LAN + '[filter]\nchains = ["input"]\n'))
    assert any("goes with" in one for one in problems(LAN + '[filter]\n[[filter.rule]]\naction = "jump"\n'))


def test_policy_routing_rules_are_read_and_differences_told() -> None:
    text = (
        LAN + '[[rule]]\nfrom = "10.0.0.0/24"\ntable = 100\n'
        '[[rule]]\npriority = 5\nin = "lan"\ntype = "prohibit"\nnot = true\nfamily = "ipv6"\n'
    )
    first, second = load("x", text).rules
    assert (first.priority, first.versions, first.table, first.source) == (1000, (4,), 100, (4, 0x0A000000, 24))
    assert (second.priority, second.versions, second.kind, second.inside, second.invert) == (
        5,
        (6,),
        "prohibit",
        "lan",
        True,
    )
    assert differences(load("x", LAN), load("x", text)) == ["+ rule 1000", "+ rule 5"]
    for wrong, said in (
        ('from = "10.0.0.0/24"\nto = "fd00::/8"\ntable = 1', "another IP version"),
        ('from = "10.0.0.0/24"', "is missing"),
        ('type = "blackhole"\ntable = 3', "is missing"),
        ('in = "nowhere"\ntable = 3', "is no interface"),
    ):
        assert any(said in one for one in problems(LAN + "[[rule]]\n" + wrong)), wrong


def test_masquerade6_is_a_rule_of_version_6() -> None:
    rules = load("x", LAN + '[nat]\nmasquerade = "lan"\nmasquerade6 = "lan"\n').policy.nat
    assert [rule.match.version for rule in rules] == [4, 6]

"""The DHCPv6 server as a machine: what it answers, who gets what, on virtual time and through the wire format."""

from __future__ import annotations

import pytest

from services.netstackd.config.model import Dhcpv6ServerSpec
from services.netstackd.services import dhcpv6_server
from services.netstackd.services.dhcpv6_server import Dhcpv6Server, Lease6
from services.netstackd.wire import dhcpv6 as wire
from services.netstackd.wire.dhcpv6 import IA_NA, IA_PD, Association, Dhcpv6Message, parse_dhcpv6_untrusted

SECOND = 1_000_000_000
NET = 0xFD08 << 112
FIRST, LAST = NET + 0x1000, NET + 0x1003
DELEGATED = NET | 0x0100 << 64
VIA = 0xFE80 << 112 | 7
DUID = b"\0\x03\0\x01\x02\0\0\0\0\x01"
DNS = NET + 1


class World:
    """A server with a clock, asked through the wire format."""

    def __init__(self, **spec: object) -> None:
        values: dict[str, object] = {
            "first": FIRST,
            "last": LAST,
            "delegate": (6, DELEGATED, 62),
            "valid": 1000,
            "preferred": 600,
            "dns": (DNS,),
            "domains": ("home.example",),
            **spec,
        }
        self.told: list[tuple[int, int]] = []
        self.now = SECOND
        self.server = Dhcpv6Server(Dhcpv6ServerSpec("lan", **values), DUID, ((6, NET + 1, 64),), self.changed)  # type: ignore[arg-type]

    def changed(self, lease: Lease6) -> None:
        self.told.append((lease.address, lease.expires))

    def ask(
        self,
        kind: int,
        *associations: Association,
        client: bytes = b"client",
        server: bytes | None = None,
        options: dict[int, bytes] | None = None,
    ) -> Dhcpv6Message | None:
        message = Dhcpv6Message(kind, b"abc")
        if client:
            message.options[wire.CLIENT_ID] = client
        if server is not None:
            message.options[wire.SERVER_ID] = server
        message.options |= options or {}
        message.associations = list(associations)
        asked = parse_dhcpv6_untrusted(message.encode())
        assert asked is not None
        reply = self.server.answer(asked, VIA, self.now)
        if reply is None:
            return None
        heard = parse_dhcpv6_untrusted(reply.encode())
        assert heard is not None and heard.transaction == b"abc" and heard.options[wire.SERVER_ID] == DUID
        assert heard.client == client
        return heard

    def bound(self, client: bytes = b"client", kind: int = IA_NA, iaid: int = 1) -> int:
        """Solicit and request; the address or prefix."""
        offer = self.ask(wire.SOLICIT, Association(kind, iaid), client=client)
        assert offer is not None and offer.kind == wire.ADVERTISE
        reply = self.ask(wire.REQUEST, offer.associations[0], client=client, server=DUID)
        assert reply is not None and reply.associations[0].leases == offer.associations[0].leases
        return reply.associations[0].leases[0][0]


def wanting(kind: int, iaid: int, *leases: tuple[int, int]) -> Association:
    made = Association(kind, iaid)
    made.leases = [(address, length, 0, 0) for address, length in leases]
    return made


def status(message: Dhcpv6Message | None) -> int:
    assert message is not None
    return int.from_bytes(message.options[wire.STATUS_CODE][:2], "big")


def test_a_client_is_offered_and_given_an_address_with_its_times() -> None:
    world = World()
    offer = world.ask(wire.SOLICIT, Association(IA_NA, 9))
    assert offer is not None and offer.kind == wire.ADVERTISE and not world.server.leases
    one = offer.associations[0]
    ((address, length, preferred, valid),) = one.leases
    assert FIRST <= address <= LAST and (length, preferred, valid) == (128, 600, 1000)
    assert (one.iaid, one.t1, one.t2, one.status) == (9, 300, 480, -1)
    reply = world.ask(wire.REQUEST, one, server=DUID)
    assert reply is not None and reply.kind == wire.REPLY and reply.associations[0].leases == one.leases
    assert world.told == [(address, world.now + 1000 * SECOND)]
    assert world.bound(iaid=9) == world.bound(iaid=9) == address  # the same client, the same address
    assert len({world.bound(name) for name in (b"a", b"b", b"c")} | {address}) == 4


def test_rapid_commit_needs_no_request() -> None:
    reply = World().ask(wire.SOLICIT, Association(IA_NA, 1), options={wire.RAPID_COMMIT: b""})
    assert reply is not None and reply.kind == wire.REPLY and wire.RAPID_COMMIT in reply.options
    slow = World(rapid_commit=False).ask(wire.SOLICIT, Association(IA_NA, 1), options={wire.RAPID_COMMIT: b""})
    assert slow is not None and slow.kind == wire.ADVERTISE and wire.RAPID_COMMIT not in slow.options


def test_options_are_told_to_those_who_ask() -> None:
    world = World(preference=7)
    asked = {wire.OPTION_REQUEST: bytes((0, wire.DNS_SERVERS, 0, wire.DOMAIN_LIST))}
    reply = world.ask(wire.INFORMATION_REQUEST, client=b"", options=asked)
    assert reply is None or reply.client == b""
    assert reply is not None and reply.options[wire.DNS_SERVERS] == DNS.to_bytes(16, "big")
    assert reply.options[wire.DOMAIN_LIST] == b"\x04home\x07example\0"
    assert wire.INFORMATION_REFRESH_TIME in reply.options
    plain = world.ask(wire.SOLICIT, Association(IA_NA, 1))
    assert plain is not None and wire.DNS_SERVERS not in plain.options and plain.options[wire.PREFERENCE] == b"\x07"


@pytest.mark.parametrize(
    ("kind", "client", "server"),
    [
        (wire.SOLICIT, b"", None),
        (wire.SOLICIT, b"client", DUID),
        (wire.REQUEST, b"client", None),
        (wire.REQUEST, b"client", b"another"),
        (wire.RENEW, b"client", b"another"),
        (wire.REBIND, b"client", DUID),
        (wire.RELEASE, b"client", None),
        (wire.INFORMATION_REQUEST, b"client", b"another"),
        (wire.ADVERTISE, b"client", DUID),
        (wire.REPLY, b"client", DUID),
    ],
)
def test_messages_that_are_not_for_us_or_not_as_they_must_be_get_no_answer(
    kind: int, client: bytes, server: bytes | None
) -> None:
    associations = () if kind == wire.INFORMATION_REQUEST else (wanting(IA_NA, 1, (FIRST, 128)),)
    world = World()
    assert world.ask(kind, *associations, client=client, server=server) is None and not world.server.leases


@pytest.mark.parametrize("kind", [wire.RENEW, wire.REBIND])
def test_renewing_extends_also_what_was_forgotten_in_a_restart(kind: int) -> None:
    world = World()
    server = DUID if kind == wire.RENEW else None
    address = world.bound()
    world.now += 500 * SECOND
    reply = world.ask(kind, wanting(IA_NA, 1, (address, 128)), server=server)
    assert reply is not None and reply.associations[0].leases == [(address, 128, 600, 1000)]
    assert world.server.leases[address].expires == world.now + 1000 * SECOND
    fresh = World()  # it remembers nothing; the address is free
    again = fresh.ask(kind, wanting(IA_NA, 1, (LAST, 128)), server=server)
    assert again is not None and again.associations[0].leases == [(LAST, 128, 600, 1000)]
    nothing = fresh.ask(kind, Association(IA_NA, 5), server=server)
    assert nothing is not None and nothing.associations[0].status == wire.NO_BINDING


def test_an_address_that_cannot_be_is_ended_and_another_given() -> None:
    world = World()
    taken = world.bound(b"other")
    for wrong in (NET + 0x9999, taken):
        reply = world.ask(wire.RENEW, wanting(IA_NA, 1, (wrong, 128)), server=DUID)
        assert reply is not None
        good, ended = reply.associations[0].leases
        assert FIRST <= good[0] <= LAST and good[0] != taken and ended == (wrong, 128, 0, 0)


def test_confirm_says_whether_addresses_are_of_this_link() -> None:
    world = World()
    assert status(world.ask(wire.CONFIRM, wanting(IA_NA, 1, (NET + 77, 128)))) == wire.SUCCESS
    assert status(world.ask(wire.CONFIRM, wanting(IA_NA, 1, (1 << 125, 128)))) == wire.NOT_ON_LINK
    assert world.ask(wire.CONFIRM, Association(IA_NA, 1)) is None


def test_released_addresses_are_free_and_declined_ones_are_not() -> None:
    world = World(first=FIRST, last=FIRST)
    address = world.bound(b"a")
    refused = world.ask(wire.SOLICIT, Association(IA_NA, 1), client=b"b")
    assert refused is not None and refused.associations[0].status == wire.NO_ADDRESSES
    assert status(world.ask(wire.RELEASE, wanting(IA_NA, 1, (address, 128)), client=b"a", server=DUID)) == wire.SUCCESS
    assert world.told[-1] == (address, 0) and world.bound(b"b") == address
    unknown = world.ask(wire.RELEASE, wanting(IA_NA, 1, (address, 128)), client=b"a", server=DUID)
    assert unknown is not None and unknown.associations[0].status == wire.NO_BINDING
    world.ask(wire.DECLINE, wanting(IA_NA, 1, (address, 128)), client=b"b", server=DUID)
    refused = world.ask(wire.SOLICIT, Association(IA_NA, 1), client=b"c")
    assert refused is not None and refused.associations[0].status == wire.NO_ADDRESSES
    world.now += 601 * SECOND
    assert world.bound(b"c") == address


def test_leases_that_run_out_make_room_the_last_first_to_its_owner() -> None:
    world = World(first=FIRST, last=FIRST)
    address = world.bound(b"a")
    world.now += 1001 * SECOND
    assert world.bound(b"a") == address
    world.now += 1001 * SECOND
    assert world.bound(b"b") == address
    taken = world.ask(wire.RENEW, wanting(IA_NA, 1, (address, 128)), client=b"a", server=DUID)
    assert taken is not None and taken.associations[0].status == wire.NO_ADDRESSES
    assert taken.associations[0].leases == [(address, 128, 0, 0)]


def test_prefixes_are_delegated_apart_and_end() -> None:
    world = World()
    prefixes = {world.bound(name, IA_PD) for name in (b"a", b"b", b"c", b"d")}
    assert prefixes == {DELEGATED + (index << 64) for index in range(4)}
    full = world.ask(wire.SOLICIT, Association(IA_PD, 1), client=b"e")
    assert full is not None and full.associations[0].status == wire.NO_PREFIXES
    assert world.server.leases[DELEGATED].via == VIA and world.server.leases[DELEGATED].length == 64
    world.now += 999 * SECOND
    assert world.server.expire(world.now) == SECOND + 1000 * SECOND
    world.now += 2 * SECOND
    world.told.clear()
    assert world.server.expire(world.now) is None
    assert {address for address, expires in world.told if not expires} == prefixes and not world.server.leases


def test_one_client_may_have_several_associations() -> None:
    world = World()
    offer = world.ask(wire.SOLICIT, Association(IA_NA, 1), Association(IA_NA, 2), Association(IA_PD, 1))
    assert offer is not None
    reply = world.ask(wire.REQUEST, *offer.associations, server=DUID)
    assert reply is not None and len(world.server.leases) == 3
    assert [(one.kind, one.iaid) for one in reply.associations] == [(IA_NA, 1), (IA_NA, 2), (IA_PD, 1)]


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dhcpv6_server, "MAX_LEASES", 10)
    world = World(first=FIRST, last=FIRST + 0xFFFF)
    given = 0
    for number in range(50):
        reply = world.ask(wire.SOLICIT, Association(IA_NA, 1), client=b"%d" % number, options={wire.RAPID_COMMIT: b""})
        assert reply is not None
        given += bool(reply.associations[0].leases)
    assert given == 10 == len(world.server.leases) and world.server.exhausted == 40
    world.now += 2000 * SECOND
    assert world.bound(b"late") and len(world.server.leases) == 1


def test_what_was_kept_is_restored_where_it_fits() -> None:
    world = World()
    owner = (IA_NA, b"client", 1)
    world.server.restore(Lease6(LAST, 128, owner, 500 * SECOND, VIA))
    world.server.restore(Lease6(NET + 0x9999, 128, (IA_NA, b"x", 1), 500 * SECOND, VIA))
    assert list(world.server.leases) == [LAST] and world.bound() == LAST

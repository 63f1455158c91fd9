"""DHCP server and client as machines: against each other on virtual time, and against messages that lie."""

from __future__ import annotations

import random

import pytest

from services.netstackd.config.model import DhcpServerSpec, StaticLease
from services.netstackd.services.dhcpv4_client import ClientLease, DhcpClient
from services.netstackd.services.dhcpv4_server import SECOND, DhcpServer
from services.netstackd.wire import dhcpv4 as wire
from services.netstackd.wire.dhcpv4 import DhcpMessage, parse_dhcpv4_untrusted

OWN = 0xC0A80801
FIRST, LAST = OWN + 99, OWN + 103


class Pair:
    """Clients and one server, with a clock; every message goes over the wire format."""

    def __init__(self, **spec: object) -> None:
        self.server = DhcpServer(DhcpServerSpec("lan", FIRST, LAST, router=OWN, dns=(OWN,), **spec), OWN, 24)  # type: ignore[arg-type]
        self.now = SECOND
        self.clients: list[DhcpClient] = []
        self.bound: dict[int, ClientLease] = {}
        self.deaf = False

    def client(self, number: int) -> DhcpClient:
        mac = bytes((2, 0, 0, 0, 0, number))

        def bound(lease: ClientLease) -> None:
            self.bound[number] = lease

        def lost() -> None:
            del self.bound[number]

        one = DhcpClient(mac, random.Random(number), bound, lost)
        self.clients.append(one)
        self.carry(one, one.start(self.now))
        return one

    def carry(self, client: DhcpClient, messages: list[DhcpMessage]) -> None:
        while messages:
            asked = parse_dhcpv4_untrusted(messages.pop(0).encode())
            assert asked is not None
            reply = None if self.deaf else self.server.answer(asked, self.now)
            if reply is not None:
                heard = parse_dhcpv4_untrusted(reply.encode())
                assert heard is not None
                messages += client.receive(heard, self.now)

    def run(self, seconds: int) -> None:
        until = self.now + seconds * SECOND
        while True:
            due = [one for one in self.clients if one.deadline is not None and one.deadline <= until]
            if not due:
                break
            first = min(due, key=lambda one: one.deadline or 0)
            self.now = max(self.now, first.deadline or 0)
            self.carry(first, first.wake(self.now))
        self.now = until


def test_a_client_gets_an_address_with_everything_it_asked_for() -> None:
    pair = Pair(domain="example", mtu=1400)
    pair.client(1)
    lease = pair.bound[1]
    assert (lease.address, lease.length, lease.router, lease.dns) == (FIRST, 24, OWN, (OWN,))
    assert (lease.domain, lease.mtu, lease.server) == ("example", 1400, OWN)


def test_a_lease_is_renewed_for_as_long_as_the_server_answers_and_lost_when_it_does_not() -> None:
    pair = Pair(lease=600 * SECOND)
    client = pair.client(1)
    pair.run(5000)
    assert client.state == "bound" and pair.bound[1].address == FIRST
    pair.deaf = True
    pair.run(320)
    assert client.state == "renewing"
    pair.run(30)
    assert client.state == "rebinding" and 1 in pair.bound
    pair.run(120)
    assert client.state == "selecting" and 1 not in pair.bound
    pair.deaf = False
    pair.run(130)
    assert pair.bound[1].address == FIRST


def test_addresses_are_not_given_twice_and_an_empty_pool_says_nothing() -> None:
    pair = Pair()
    for number in range(1, 9):
        pair.client(number)
    addresses = [lease.address for lease in pair.bound.values()]
    assert sorted(addresses) == list(range(FIRST, LAST + 1)) and len(pair.server.leases) == 5
    assert pair.server.exhausted >= 3


def test_what_ran_out_or_was_given_back_is_given_again() -> None:
    pair = Pair(lease=60 * SECOND)
    for number in range(1, 6):
        pair.client(number)
    pair.carry(pair.clients[2], pair.clients[2].release())
    pair.client(6)
    assert pair.bound[6].address == FIRST + 2
    pair.clients.clear()
    pair.now += 61 * SECOND
    pair.client(7)
    assert 7 in pair.bound and len(pair.server.leases) == 5


def test_a_static_lease_is_its_owners_alone() -> None:
    mac = bytes((2, 0, 0, 0, 0, 9))
    pair = Pair(static=(StaticLease(mac, FIRST + 1, "printer"), StaticLease(b"\2" * 6, 0xC0A80850)))
    for number in range(1, 6):
        pair.client(number)
    assert FIRST + 1 not in [lease.address for lease in pair.bound.values()] and len(pair.bound) == 4
    pair.client(9)
    assert pair.bound[9].address == FIRST + 1 and pair.server.leases[FIRST + 1].name == "printer"


def _request(number: int, **fields: int) -> DhcpMessage:
    message = DhcpMessage(wire.BOOTREQUEST, wire.REQUEST, 7, bytes((2, 0, 0, 0, 0, number)))
    for name, value in fields.items():
        if name == "ciaddr":
            message.ciaddr = value
        else:
            message.options[int(name[1:])] = value.to_bytes(4, "big")
    return message


def test_a_server_that_was_restarted_confirms_what_can_be_and_refuses_what_cannot() -> None:
    pair = Pair()
    answer = pair.server.answer(_request(1, ciaddr=FIRST + 2), pair.now)
    assert answer is not None and answer.kind == wire.ACK and answer.yiaddr == FIRST + 2
    for wrong in (_request(2, ciaddr=FIRST + 2), _request(2, o50=OWN), _request(2, o50=0x0A000001)):
        answer = pair.server.answer(wrong, pair.now)
        assert answer is not None and answer.kind == wire.NAK and not answer.yiaddr
    assert pair.server.answer(_request(3, o50=FIRST, o54=OWN + 1), pair.now) is None  # another server's client


def test_a_declined_address_is_left_alone_for_a_while() -> None:
    pair = Pair()
    pair.client(1)
    message = _request(1, o50=FIRST, o54=OWN)
    message.kind = wire.DECLINE
    assert pair.server.answer(message, pair.now) is None
    pair.clients.clear()
    pair.client(1)
    assert pair.bound[1].address != FIRST
    pair.now += 700 * SECOND
    assert pair.server._may_have(FIRST, _request(5), pair.now)


def test_offers_to_clients_that_never_come_back_do_not_use_the_pool_up() -> None:
    pair = Pair()
    for number in range(200):
        message = DhcpMessage(wire.BOOTREQUEST, wire.DISCOVER, number, bytes((2, 0, 0, 0, 1, number)))
        pair.server.answer(message, pair.now)
    assert len(pair.server.leases) == 5
    pair.now += 61 * SECOND
    pair.client(1)
    assert 1 in pair.bound and len(pair.server._by_client) <= 6


@pytest.mark.parametrize("seed", range(20))
def test_no_bytes_make_the_parser_or_the_server_fail(seed: int) -> None:
    rng = random.Random(seed)
    pair = Pair()
    good = DhcpMessage(wire.BOOTREQUEST, wire.DISCOVER, 1, b"\2" * 6)
    good.options = {wire.HOST_NAME: b"\xff" * 300, wire.REQUESTED_ADDRESS: b"abcd", wire.CLIENT_ID: b""}
    encoded = good.encode()
    for _ in range(300):
        data = bytearray(encoded[: rng.randrange(len(encoded) + 1)] + rng.randbytes(rng.randrange(20)))
        for _ in range(rng.randrange(6)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        message = parse_dhcpv4_untrusted(bytes(data))
        if message is not None:
            reply = pair.server.answer(message, pair.now)
            if reply is not None:
                reply.encode()


def test_split_and_overflowing_options_are_put_together() -> None:
    message = DhcpMessage(wire.BOOTREQUEST, wire.DISCOVER, 1, b"\2" * 6)
    message.options[224] = bytes(range(256)) * 2
    encoded = bytearray(message.encode())
    again = parse_dhcpv4_untrusted(bytes(encoded))
    assert again is not None and again.options[224] == bytes(range(256)) * 2
    assert encoded[-1] == 255
    encoded[-1:] = bytes((52, 1, 1, 255))
    encoded[108 : 108 + 6] = bytes((12, 3)) + b"abc" + b"\xff"
    again = parse_dhcpv4_untrusted(bytes(encoded))
    assert again is not None and again.options[12] == b"abc"

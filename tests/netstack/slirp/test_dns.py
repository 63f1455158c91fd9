"""DNS on stacks: the service and both ways upstream on virtual time, and an ordinary user's slirp with real servers."""

from __future__ import annotations

import itertools
import os
import random
import sys
from pathlib import Path
from typing import Any

import dnslib
import pytest

from services.netstackd.edge.keeper import name_servers
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.services.dns_forwarder import Names
from services.netstackd.services.dns_service import MAX_TCP, PORT, DnsService
from services.netstackd.services.dns_upstream import HostUpstream, StackUpstream, framed
from services.netstackd.sockets import AF_INET, SOCK_STREAM, TcpSocket, UdpSocket, open_socket
from tests.netstack.networks import World, wait_until
from tests.netstack.slirp.conftest import Guest, Slirp, make_host
from tests.netstack.slirp.fakes import GATEWAY, VirtualNetwork
from tests.netstack.unit.hosts import Routed, ip

SERVER = (4, ip("198.51.100.53"), 53)


def service(network: VirtualNetwork) -> DnsService:
    upstream = HostUpstream(network.gateway.stack, lambda: network.host)
    made = DnsService(network.gateway.stack, [(4, GATEWAY)], Names(), random.Random(1), upstream.ask, 100)
    made.machine.servers = [SERVER]
    return made


def ask(network: VirtualNetwork, name: str, kind: str = "A") -> UdpSocket:
    guest = network.guest.udp()
    guest.send(dnslib.DNSRecord.question(name, kind).pack(), (GATEWAY, PORT, 0))
    network.run(0.1)
    return guest


def reply(question: bytes, *lines: str, tc: int = 0) -> bytes:
    record = dnslib.DNSRecord.parse(question).reply()
    record.header.tc = tc
    for line in lines:
        record.add_answer(*dnslib.RR.fromZone(line))
    return bytes(record.pack())


def test_question_of_a_guest_leaves_by_a_socket_of_its_own() -> None:
    network = VirtualNetwork()
    service(network)
    guest = ask(network, "a.org")
    (asked,) = network.host.asked
    assert (asked.kind, asked.address, asked.port) == ("udp", SERVER[1], 53)
    host = asked.give()
    host.arrive(reply(host.sent[0], "a.org. 60 IN A 192.0.2.1"))
    network.run(0.1)
    assert str(dnslib.DNSRecord.parse(guest.receive().data).rr[0].rdata) == "192.0.2.1"
    assert host.closed
    again = ask(network, "a.org")
    assert again.queue and len(network.host.asked) == 1


def test_truncated_upstream_goes_on_by_tcp_of_the_host() -> None:
    network = VirtualNetwork()
    service(network)
    guest = ask(network, "a.org")
    first = network.host.asked[0].give()
    first.arrive(reply(first.sent[0], tc=1))
    assert first.closed and network.host.asked[1].kind == "tcp"
    stream = network.host.asked[1].give()
    stream.connected()
    data = reply(stream.sent[0][2:], "a.org. 60 IN A 192.0.2.1")
    assert int.from_bytes(stream.sent[0][:2], "big") == len(stream.sent[0]) - 2
    stream.arrive(framed(data)[:7])
    stream.arrive(framed(data)[7:])
    network.run(0.1)
    assert guest.queue and stream.closed


def test_silent_upstream_ends_with_a_failure_and_nothing_stays_open() -> None:
    network = VirtualNetwork()
    service(network)
    guest = ask(network, "a.org")
    hosts = []
    for _ in range(10):
        hosts += [asked.give() for asked in network.host.asked[len(hosts) :]]
        network.run(1)
    assert dnslib.DNSRecord.parse(guest.receive().data).header.rcode == 2
    assert len(hosts) == 4 and all(host.closed for host in hosts)


def test_tcp_clients_pipeline_and_are_bounded() -> None:
    network = VirtualNetwork()
    dns = service(network)

    def dial() -> TcpSocket:
        client = open_socket(network.guest.stack, AF_INET, SOCK_STREAM)
        assert isinstance(client, TcpSocket)
        with pytest.raises(NetError):
            client.connect((GATEWAY, PORT, 0))
        network.run(0.05)
        return client

    client = dial()
    for name in ("localhost", "x.localhost"):
        client.send(framed(dnslib.DNSRecord.question(name).pack()))
    network.run(0.1)
    data = client.receive(4096)
    size = int.from_bytes(data[:2], "big")
    assert str(dnslib.DNSRecord.parse(data[2 : 2 + size]).q.qname) == "localhost."
    assert str(dnslib.DNSRecord.parse(data[4 + size :]).q.qname) == "x.localhost."
    others = [dial() for _ in range(MAX_TCP + 5)]
    assert len(dns._clients) == MAX_TCP
    network.run(15)
    assert not dns._clients and len(others) == MAX_TCP + 5
    assert client.receive(10) == b""  # it was idle


def test_router_asks_by_its_own_sockets_from_ports_that_differ() -> None:
    net = Routed()
    dns = DnsService(
        net.r.stack, [(4, ip("10.1.0.254"))], Names(), random.Random(1), StackUpstream(net.r.stack).ask, 100
    )
    dns.machine.servers = [(4, ip("10.2.0.1"), 53)]
    server = net.b.udp(4, 53)
    guest = net.a.udp()
    ports: list[int] = []
    for number in range(8):
        guest.send(dnslib.DNSRecord.question(f"n{number}.org").pack(), (ip("10.1.0.254"), 53, 0))
        net.run(0.2)
        message = server.receive()
        assert message.address is not None
        ports.append(message.address[1])
        server.send(reply(message.data, f"n{number}.org. 60 IN A 192.0.2.1"), message.address)
        net.run(0.2)
        assert dnslib.DNSRecord.parse(guest.receive().data).rr
    assert len(set(ports)) == 8
    assert sum(abs(one - other) < 16 for one, other in itertools.pairwise(ports)) < 4  # they do not count up
    assert not net.r.stack.udp.ports.on(ports[-1])


def test_router_asks_by_tcp_when_it_has_to() -> None:
    net = Routed()
    dns = DnsService(
        net.r.stack, [(4, ip("10.1.0.254"))], Names(), random.Random(1), StackUpstream(net.r.stack).ask, 100
    )
    dns.machine.servers = [(4, ip("10.2.0.1"), 53)]
    server, guest = net.b.udp(4, 53), net.a.udp()
    listener = open_socket(net.b.stack, AF_INET, SOCK_STREAM)
    assert isinstance(listener, TcpSocket)
    listener.bind((0, 53, 0))
    listener.listen(1)
    guest.send(dnslib.DNSRecord.question("a.org").pack(), (ip("10.1.0.254"), 53, 0))
    net.run(0.2)
    message = server.receive()
    server.send(reply(message.data, tc=1), message.address)
    net.run(0.2)
    stream = listener.accept()
    data = stream.receive(4096)
    stream.send(framed(reply(data[2:], "a.org. 60 IN A 192.0.2.1")))
    net.run(0.2)
    assert str(dnslib.DNSRecord.parse(guest.receive().data).rr[0].rdata) == "192.0.2.1"
    listener.close()
    guest.send(dnslib.DNSRecord.question("b.org").pack(), (ip("10.1.0.254"), 53, 0))
    net.run(0.2)
    message = server.receive()
    server.send(reply(message.data, tc=1), message.address)
    net.run(10)  # nobody listens there any more
    assert dnslib.DNSRecord.parse(guest.receive().data).header.rcode == 2


def test_resolv_conf_is_read_as_the_man_page_has_it(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    lines = (
        "# nameserver 1.1.1.1",
        "search a.b",
        "nameserver 192.0.2.1",
        "nameserver\tfe80::1%eth0",
        "nameserver ::1 x",
    )
    file.write_text("\n".join([*lines, "nameserver", ""]))
    assert name_servers(str(file)) == ["192.0.2.1", "::1"]
    assert name_servers(str(tmp_path / "none")) == []


SERVE = """
import dnslib, socket, sys, threading
address, answer = sys.argv[1:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((address, 53))
tcp = socket.create_server((address, 53))
def answer_to(data, full):
    question = dnslib.DNSRecord.parse(data)
    record = question.reply()
    if str(question.q.qname) == "big.org.":
        record.header.tc = int(not full)
        count = 40 if full else 0
        for number in range(count):
            record.add_answer(dnslib.RR("big.org", 16, rdata=dnslib.TXT("x" * 100 + str(number)), ttl=60))
    else:
        record.add_answer(dnslib.RR(question.q.qname, 1, rdata=dnslib.A(answer), ttl=0))
    return record.pack()
def stream():
    while True:
        sock, _ = tcp.accept()
        data = sock.recv(4096)
        out = answer_to(data[2:], True)
        sock.sendall(len(out).to_bytes(2, "big") + out)
        sock.close()
threading.Thread(target=stream, daemon=True).start()
print("ready", flush=True)
while True:
    data, peer = udp.recvfrom(4096)
    udp.sendto(answer_to(data, False), peer)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")
def test_guest_uses_the_hosts_resolvers_and_follows_their_change(world: World) -> None:
    host = make_host(world)
    for address, answer in (("127.0.0.53", "192.0.2.53"), ("203.0.113.1", "192.0.2.1")):
        process = world.start(host, sys.executable, "-c", SERVE, address, answer)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    resolv = world.path / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.53\n")
    slirp = Slirp(world, world.path, host=host, resolv_conf=str(resolv))
    slirp.ctl("ns", "add", "web")
    guest = Guest(slirp.link)
    socket_ = UdpSocket(guest.stack, AF_INET)

    def query(name: str, kind: str = "A") -> Any:
        socket_.send(dnslib.DNSRecord.question(name, kind).pack(), (ip("10.0.2.3"), 53, 0))
        guest.until(lambda: socket_.queue)
        return dnslib.DNSRecord.parse(socket_.receive().data)

    assert str(query("a.org").rr[0].rdata) == "192.0.2.53"
    assert str(query("web").rr[0].rdata) == "10.0.2.15"
    assert str(query("15.2.0.10.in-addr.arpa", "PTR").rr[0].rdata) == "web."
    assert query("big.org", "TXT").header.tc  # too long for the guest by UDP, and whole in memory by now
    client = open_socket(guest.stack, AF_INET, SOCK_STREAM)
    assert isinstance(client, TcpSocket)
    with pytest.raises(NetError):
        client.connect((ip("10.0.2.3"), 53, 0))
    question = framed(dnslib.DNSRecord.question("big.org", "TXT").pack())
    got = bytearray()

    def step() -> bool:
        nonlocal question
        try:
            question = question[client.send(question) :] if question else question
            got.extend(client.receive(65536))
        except WouldBlock:
            pass
        return len(got) > 2 and len(got) == 2 + int.from_bytes(got[:2], "big")

    guest.until(step)
    assert len(dnslib.DNSRecord.parse(bytes(got[2:])).rr) == 40
    resolv.write_text("nameserver 203.0.113.1\n")
    guest.until(lambda: str(query("a.org").rr[0].rdata) == "192.0.2.1", 15)
    shown = slirp.json("dns")
    assert shown["servers"] == ["203.0.113.1:53"] and shown["local"] == 2
    guest.close()
    assert wait_until(lambda: slirp.json("dns")["queries"] >= 5)

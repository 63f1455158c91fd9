"""`do --network host`: real programs in the sandbox on sockets of the host, with another machine beside it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.sandbox.peers import ECHO

_DO = ("do", "--network", "host", "--")


def run(host: Any, code: str, *words: str, status: int = 0) -> str:
    """A Python program in the sandbox; what it printed."""
    return str(host(*_DO, "python3", "-uc", code, *words, status=status).out)


@pytest.mark.parametrize("version", [4, 6])
def test_a_program_talks_to_a_server_elsewhere(any_host: Any, peer: Any, version: int) -> None:
    there = peer.address if version == 4 else peer.address6
    own = peer.own if version == 4 else peer.own6
    peer.serve(ECHO, there, "7000")
    code = """
import socket, sys
with socket.create_connection((sys.argv[1], 7000), 20) as link:
    print(link.getsockname()[0], link.getpeername()[:2])
    link.sendall(b"hello\\n" * 20000); link.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: link.recv(65536), b""))
    print(got == b"HELLO\\n" * 20000)
"""
    assert run(any_host, code, there) == f"{own} ('{there}', 7000)\nTrue\n"
    any_host.assert_nothing_runs()


def test_a_server_in_the_sandbox_is_reached(any_host: Any, peer: Any) -> None:
    code = """
import socket, sys
server = socket.create_server(("", 7001)); print("up", flush=True)
for _ in range(3):
    link, where = server.accept()
    print(where[0], flush=True)
    link.sendall(b"from the sandbox " + link.recv(100)); link.close()
"""
    process = any_host.start(*_DO, "python3", "-uc", code)
    any_host.wait_for_text(process, "up")
    client = f"""
import socket
for text in (b"one", b"two", b"three"):
    with socket.create_connection(("{peer.own}", 7001), 20) as link:
        link.sendall(text)
        print(b"".join(iter(lambda: link.recv(100), b"")).decode())
"""
    assert peer(client) == "from the sandbox one\nfrom the sandbox two\nfrom the sandbox three\n"
    assert any_host.end(process).out == f"up\n{peer.address}\n" + f"{peer.address}\n" * 2


def test_errors_of_connecting_are_the_hosts(any_host: Any, peer: Any) -> None:
    code = """
import errno, socket, sys
for where in ((sys.argv[1], 9), ("203.0.113.1", 9)):
    try:
        socket.create_connection(where, 3)
    except OSError as error:
        print(errno.errorcode.get(error.errno, type(error).__name__))
"""
    assert run(any_host, code, peer.address).splitlines()[0] == "ECONNREFUSED"


def test_a_reset_is_a_reset_and_a_fin_a_fin(any_host: Any, peer: Any) -> None:
    server = """
import socket, struct, sys
server = socket.create_server((sys.argv[1], 7002)); print("up", flush=True)
for reset in (0, 1, 1):
    link, _ = server.accept()
    link.recv(10)
    if reset: link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()
"""
    peer.serve(server, peer.address)
    code = """
import select, socket, sys
for _ in range(3):
    with socket.create_connection((sys.argv[1], 7002), 20) as link:
        link.sendall(b"x")
        try:
            print(link.recv(10))
        except OSError as error:
            print(error.strerror)
"""
    assert run(any_host, code, peer.address) == "b''\nConnection reset by peer\nConnection reset by peer\n"


@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_both_ways(any_host: Any, peer: Any, version: int) -> None:
    there = peer.address if version == 4 else peer.address6
    server = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM); sock.bind((sys.argv[1], 7003)); print("up", flush=True)
while True:
    data, where = sock.recvfrom(65535)
    sock.sendto(data[::-1], where)
"""
    peer.serve(server, there)
    code = """
import errno, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM); sock.settimeout(20)
for size in (1, 1400, 60000):
    data = bytes(n % 251 for n in range(size))
    sock.sendto(data, (sys.argv[1], 7003))
    got, where = sock.recvfrom(65535)
    print(got == data[::-1], where[:2])
sock.connect((sys.argv[1], 7003)); sock.send(b"abc"); print(sock.recv(10))
sock.connect((sys.argv[1], 9)); sock.send(b"x")
try:
    sock.recv(10)
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    answer = f"True ('{there}', 7003)\n" * 3 + "b'cba'\nECONNREFUSED\n"
    assert run(any_host, code, there) == answer


def test_interfaces_and_routes_are_the_hosts(any_host: Any, peer: Any) -> None:
    out = any_host(*_DO, "sh", "-c", "ip -br address; ip route").out
    assert f"{peer.own}/30" in out and peer.device in out and "127.0.0.1/8" in out
    assert f"dev {peer.device}" in out


def test_no_raw_socket_and_no_change_of_the_hosts_network(host: Any, peer: Any) -> None:
    code = """
import errno, os, socket
for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):
    try:
        socket.socket(family, kind, 1)
        print("made")
    except OSError as error:
        print("refused")
print(os.system("ip link set lo down 2>/dev/null") != 0)
print(os.system("ip address add 10.9.9.9/32 dev %s 2>/dev/null" % os.sys.argv[1]) != 0)
"""
    assert run(host, code, peer.device).splitlines()[-2:] == ["True", "True"]
    assert "made" not in run(host, code, peer.device)


def test_root_listens_on_a_low_port(host: Any, peer: Any) -> None:
    code = """
import socket
server = socket.create_server(("", 81)); print("up", flush=True)
link, _ = server.accept(); link.sendall(b"low"); link.close()
"""
    process = host.start(*_DO, "python3", "-uc", code)
    host.wait_for_text(process, "up")
    assert peer(f"import socket; print(socket.create_connection(('{peer.own}', 81), 20).recv(9))") == "b'low'\n"
    host.end(process)


def test_a_killed_broker_resets_connections_and_another_serves(any_host: Any, peer: Any) -> None:
    peer.serve(ECHO, peer.address, "7004")
    code = """
import socket, sys, time
def connect():
    link = socket.create_connection((sys.argv[1], 7004), 20); link.sendall(b"up\\n"); return link, link.recv(9)
link, said = connect(); print(said.decode(), flush=True)
try:
    print(link.recv(10))
except OSError as error:
    print(error.strerror, flush=True)
for turn in range(200):
    try:
        print(connect()[1].decode()); break
    except OSError as error:
        time.sleep(0.02)
"""
    process = any_host.start(*_DO, "python3", "-uc", code, peer.address)
    any_host.wait_for_text(process, "UP")
    os.kill(any_host.children(process.pid)[2], signal.SIGKILL)
    done = any_host.end(process)
    assert done.out == "UP\n\nConnection reset by peer\nUP\n\n", done
    assert len(done.said) == 1 and "the host network's broker ended unexpectedly: killed by signal 9" in done.said[0]
    any_host.assert_nothing_runs()

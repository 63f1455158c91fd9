"""`do --network netstack`: real programs in the sandbox over a netstackd of its own, with another machine beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import Any

import pytest

from tests.sandbox.peers import ECHO, free_port

_DO = ("do", "--network", "netstack", "--")


def run(host: Any, code: str, *words: str, status: int = 0) -> str:
    """A Python program in the sandbox; what it printed."""
    return str(host(*_DO, "python3", "-uc", code, *words, status=status).out)


def test_addresses_routes_and_names_are_the_virtual_networks(any_host: Any) -> None:
    script = "ip -br address; ip route; cat /etc/resolv.conf /etc/hosts /etc/hostname; hostname"
    done = any_host("do", "--network", "netstack", "--hostname", "box", "--", "sh", "-c", script)
    assert "10.0.2.15/24" in done.out and "fd00:0:0:2::f/64" in done.out
    assert "default via 10.0.2.2 dev eth0" in done.out
    assert "nameserver 10.0.2.3\n" in done.out and "10.0.2.15\tbox\n" in done.out
    assert done.out.endswith("box\nbox\n")
    assert done.said == []
    any_host.assert_nothing_runs()


@pytest.mark.parametrize("version", [4, 6])
def test_a_program_talks_to_a_server_elsewhere(any_host: Any, peer: Any, version: int) -> None:
    there = peer.address if version == 4 else peer.address6
    peer.serve(ECHO, there, "7100")
    code = """
import socket, sys
with socket.create_connection((sys.argv[1], 7100), 20) as link:
    print(link.getpeername()[:2])
    link.sendall(b"hello\\n" * 20000); link.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: link.recv(65536), b""))
    print(got == b"HELLO\\n" * 20000)
"""
    assert run(any_host, code, there) == f"('{there}', 7100)\nTrue\n"
    any_host.assert_nothing_runs()


def test_a_published_port_leads_into_the_sandbox(any_host: Any, peer: Any) -> None:
    port = free_port()
    code = """
import socket
server = socket.create_server(("", 8080)); print("up", flush=True)
while True:
    link, where = server.accept()
    link.sendall(b"inside " + link.recv(100)); link.close()
"""
    process = any_host.start("do", "--network", "netstack", "-p", f"{port}:8080", "--", "python3", "-uc", code)
    any_host.wait_for_text(process, "up")
    client = f"""
import socket
for text in (b"one", b"two"):
    with socket.create_connection(("{peer.own}", {port}), 20) as link:
        link.sendall(text)
        print(b"".join(iter(lambda: link.recv(100), b"")).decode())
"""
    assert peer(client) == "inside one\ninside two\n"
    with socket.create_connection(("127.0.0.1", port), 20) as link:
        link.sendall(b"near")
        assert link.recv(100) == b"inside near"
    process.send_signal(signal.SIGTERM)
    any_host.end(process)
    any_host.assert_nothing_runs()


def test_a_killed_netstackd_resets_connections_and_serves_again_within_a_second(any_host: Any, peer: Any) -> None:
    """Under load: a stream is being sent both ways while it is killed; the published port goes on working.

    Who reads has a connection of its own: an error is told once (tcp(7)), and on the other the writer may hear it.
    """
    peer.serve(ECHO, peer.address, "7104")
    port = free_port()
    code = """
import socket, sys, threading, time
server = socket.create_server(("", 8080))
def serve():
    while True:
        link, _ = server.accept(); link.sendall(b"served"); link.close()
threading.Thread(target=serve, daemon=True).start()
link = socket.create_connection((sys.argv[1], 7104), 20)
load = socket.create_connection((sys.argv[1], 7104), 20)
link.sendall(b"a\\n"); print(link.recv(9).decode().strip(), "up", flush=True)
def pour():
    try:
        while True: load.sendall(b"x" * 999 + b"\\n")
    except OSError: pass
def drain():
    try:
        while load.recv(65536): pass
    except OSError: pass
for work in (pour, drain): threading.Thread(target=work, daemon=True).start()
try:
    while link.recv(65536): pass
    print("end of file", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
for turn in range(500):
    try:
        again = socket.create_connection((sys.argv[1], 7104), 20); again.sendall(b"b\\n")
        print(again.recv(9).decode().strip(), flush=True); break
    except OSError as error:
        time.sleep(0.01)
time.sleep(30)
"""
    options = ("do", "--network", "netstack", "-p", f"{port}:8080", "--", "python3", "-uc", code, peer.address)
    process = any_host.start(*options)
    any_host.wait_for_text(process, "A up")
    netstackd = any_host.children(process.pid)[2]
    os.kill(netstackd, signal.SIGKILL)
    begun = time.monotonic()
    served = b""
    while not served and time.monotonic() - begun < 30:
        # What the dying one has accepted is reset, as every connection; what waits at the port is served.
        with contextlib.suppress(ConnectionResetError), socket.create_connection(("127.0.0.1", port), 20) as link:
            served = link.recv(100)
    assert served == b"served"
    took = time.monotonic() - begun
    any_host.wait_for_text(process, "\nB\n")
    assert process.out_path.read_text().splitlines()[1:] == ["Connection reset by peer", "B"]
    assert took < 15, took  # the machine is shared; docs/BENCHMARKS.md has what an idle one takes
    process.send_signal(signal.SIGTERM)
    done = any_host.end(process)
    assert len(done.said) == 1 and "netstackd ended unexpectedly: killed by signal 9" in done.said[0], done
    any_host.assert_nothing_runs()


#: Speaks to an echo server: a line every 10 ms on one connection, while another is full in both directions. Asked by a
#: line, it says when fifteen more went well; at the end of its standard input how all of that went.
STEADY = """
import socket, sys, threading, time
def connect(): return socket.create_connection((sys.argv[1], 7107), 20)
ended, lost, poured = threading.Event(), [], 0
def pour(link):
    try:
        while True: link.sendall(b"x" * 4095 + b"\\n")
    except OSError as error: lost.append(error)
def drain(link):
    global poured
    try:
        while data := link.recv(65536): poured += len(data)
        lost.append("end")
    except OSError as error: lost.append(error)
load = connect()
for work in (pour, drain): threading.Thread(target=work, args=(load,), daemon=True).start()
def asked():
    global goal
    for _ in sys.stdin: goal = rounds + 15
    ended.set()
link, rounds, longest, goal = connect(), 0, 0.0, 0
threading.Thread(target=asked, daemon=True).start()
while not ended.is_set():
    begun = time.monotonic()
    link.sendall(b"line\\n")
    assert link.recv(5, socket.MSG_WAITALL) == b"LINE\\n"
    longest = max(longest, time.monotonic() - begun)
    rounds += 1
    if rounds == 5: print("up", flush=True)
    if rounds == goal: print("on", flush=True)
    time.sleep(0.01)
print("rounds", rounds, "poured", poured > 100000, "lost", lost, "longest", round(longest, 3))
"""


def test_a_killed_netstackd_takes_nothing_of_another_sandbox(any_host: Any, peer: Any) -> None:
    peer.serve(ECHO, peer.address, "7107")
    options = ("do", "--network", "netstack", "--", "python3", "-uc", STEADY, peer.address)
    victim, other = (any_host.start(*options, stdin=subprocess.PIPE) for _ in range(2))
    for process in (victim, other):
        any_host.wait_for_text(process, "up")
    os.kill(any_host.children(victim.pid)[2], signal.SIGKILL)
    done = any_host.end(victim)
    victim.stdin.close()
    # The monitor's own line may come between the two writes of Python's report.
    assert done.status == 1 and "ConnectionResetError" in done.err and "[Errno 104]" in done.err, done
    other.stdin.write(b"go on\n")
    other.stdin.flush()
    any_host.wait_for_text(other, "\non\n")
    other.communicate(b"", timeout=60)
    done = any_host.end(other)
    words = done.out.splitlines()[-1].split()
    assert int(words[1]) >= 20 and words[2:6] == ["poured", "True", "lost", "[]"], done
    assert float(words[7]) < 5, done
    assert done.said == []
    any_host.assert_nothing_runs()


def test_an_idle_connection_and_a_waiting_datagram_socket_hear_of_it_too(host: Any, peer: Any) -> None:
    """Nobody reads when it happens: poll(2) tells, a write gives the error, a datagram socket goes on."""
    peer.serve(ECHO, peer.address, "7108")
    udp = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind((sys.argv[1], 7109)); print("up", flush=True)
while True: sock.sendto(*sock.recvfrom(100))
"""
    peer.serve(udp, peer.address)
    code = """
import errno, select, socket, sys, time
def connect(): return socket.create_connection((sys.argv[1], 7108), 20)
polled, written, half = connect(), connect(), connect()
half.shutdown(socket.SHUT_WR)
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); asked.connect((sys.argv[1], 7109))
poll = select.poll(); poll.register(polled, select.POLLIN | select.POLLRDHUP)
print("up", flush=True)
((_, bits),) = poll.poll(30000)
print(bits == select.POLLIN | select.POLLRDHUP | select.POLLERR | select.POLLHUP, bits)
print(errno.errorcode[polled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)], polled.recv(1))
for turn in range(2):
    try: written.sendall(b"x"); print("sent")
    except OSError as error: print(errno.errorcode[error.errno])
asked.settimeout(0.5)
for turn in range(60):
    try:
        asked.send(b"x"); print(asked.recv(9)); break
    except OSError: time.sleep(0.1)
"""
    process = host.start(*_DO, "python3", "-uc", code, peer.address)
    host.wait_for_text(process, "up")
    os.kill(host.children(process.pid)[2], signal.SIGKILL)
    done = host.end(process)
    assert done.out.split("\n")[1:-1] == ["True 8217", "ECONNRESET b''", "ECONNRESET", "EPIPE", "b'x'"], done


@pytest.mark.parametrize("victim", ["monitor", "sentry"])
def test_nothing_is_left_when_a_part_is_killed(any_host: Any, victim: str) -> None:
    port = free_port()
    process = any_host.start(
        "do", "--network", "netstack", "-p", f"{port}:8080", "--", "sh", "-c", "echo up; sleep 1000"
    )
    any_host.wait_for_text(process, "up")
    any_host.sessions |= set(any_host.children(process.pid))
    os.kill(process.pid if victim == "monitor" else any_host.children(process.pid)[0], signal.SIGKILL)
    any_host.end(process)
    any_host.assert_nothing_runs()
    with socket.create_server(("", port)):
        pass  # nobody has it any more


def test_two_sandboxes_of_a_named_network_reach_each_other(any_host: Any) -> None:
    server = """
import socket, time
server = socket.create_server(("", 8080)); print("up", flush=True)
link, where = server.accept(); print(where[0], flush=True); link.sendall(b"hello " + where[0].encode()); link.close()
time.sleep(60)
"""
    first = any_host.start("do", "--network-name", "lan", "--hostname", "one", "--", "python3", "-uc", server)
    any_host.wait_for_text(first, "up")
    client = "import socket; print(socket.create_connection(('10.0.2.15', 8080), 20).recv(99).decode())"
    second = any_host("do", "--network-name", "lan", "--hostname", "two", "--", "python3", "-c", client)
    assert second.out == "hello 10.0.2.16\n"
    first.send_signal(signal.SIGTERM)
    assert any_host.end(first).out == "up\n10.0.2.16\n"
    any_host.assert_nothing_runs()


def test_nginx_serves_a_published_port_and_the_gateway_answers_pings(any_host: Any, peer: Any) -> None:
    port = free_port()
    conf = any_host.home / "nginx.conf"
    places = "".join(f"{name}_temp_path /tmp/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    site = 'server { listen 8080; location / { return 200 "from nginx\\n"; } }'
    conf.write_text(
        f"daemon off; pid /tmp/nginx.pid; error_log stderr; events {{}} http {{ access_log off; {places} {site} }}"
    )
    conf.chmod(0o644)
    script = f"ping -c 1 -W 10 10.0.2.2 > /dev/null && echo up; exec nginx -c {conf}"
    process = any_host.start("do", "--network", "netstack", "-p", f"{port}:8080", "--", "sh", "-c", script)
    any_host.wait_for_text(process, "up")
    client = f"""
import time, urllib.request
for turn in range(200):
    try:
        print(urllib.request.urlopen("http://{peer.own}:{port}/", timeout=20).read().decode(), end=""); break
    except OSError:
        time.sleep(0.05)
"""
    assert peer(client) == "from nginx\n"
    process.send_signal(signal.SIGTERM)
    any_host.end(process)
    any_host.assert_nothing_runs()


def test_curl_fetches_from_elsewhere(any_host: Any, peer: Any) -> None:
    server = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "6"); self.end_headers()
        self.wfile.write(b"there\\n")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer((sys.argv[1], 7105), Handler); print("up", flush=True); server.serve_forever()
"""
    peer.serve(server, peer.address)
    where = f"http://{peer.address}:7105/"
    done = any_host(*_DO, "curl", "-s", "-m", "20", where)
    assert done.out == "there\n", done

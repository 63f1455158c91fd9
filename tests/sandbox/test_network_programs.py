"""What people use a network with, in a sandbox with `--network netstack`; another machine (`peer`) is the other end."""

from __future__ import annotations

import hashlib
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.peers import ECHO, free_port

pytestmark = pytest.mark.timeout(180)

#: HTTP/1.1 on argv's address and port, over TLS with a certificate's file: GET /N gives N bytes, POST, PUT a digest.
WEB = """
import hashlib, http.server, socket, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"0123456789abcdef" * (int(self.path[1:]) // 16))
    def do_POST(self):
        data = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size); self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(hashlib.sha1(data).hexdigest().encode() + b"\\n")
    do_PUT = do_POST
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = Server((sys.argv[1], int(sys.argv[2])), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("up", flush=True); server.serve_forever()
"""


def script(text: str, *words: str, options: tuple[str, ...] = ()) -> tuple[str, ...]:
    """`do` of a bash script that fails with its first failing command, in a directory of its own; $1... are `words`."""
    head = "set -e -o pipefail; cd $(mktemp -d)\n"
    return ("do", "--network", "netstack", *options, "--", "bash", "-c", head + textwrap.dedent(text), "bash", *words)


def certificate(directory: Path, address: str) -> tuple[Path, Path]:
    """(what a server loads, what its clients trust), self-signed, for one address."""
    key, trusted, both = (directory / name for name in ("key.pem", "trusted.pem", "both.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(trusted), "-subj", "/CN=peer", "-addext", f"subjectAltName=IP:{address}"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    both.write_text(key.read_text() + trusted.read_text())
    trusted.chmod(0o644)
    return both, trusted


def test_curl_and_wget_fetch_and_send(any_host: Any, peer: Any) -> None:
    both, trusted = certificate(any_host.home, peer.address)
    peer.serve(WEB, peer.address, "8000")
    peer.serve(WEB, peer.address6, "8000")
    peer.serve(WEB, peer.address, "8443", str(both))
    done = any_host(
        *script(
            """
            four=http://$1:8000 six="http://[$2]:8000"
            curl -sS -m 20 $four/16; echo
            curl -sS -m 20 -w '%{http_code} %{num_connects} %{size_download}\\n' \\
                -o 1 $four/1600 -o 2 $four/3200
            curl -sS -m 20 -g $six/3000000 | wc -c
            head -c 2000000 /dev/zero > big
            curl -sS -m 20 --data-binary @big $four/; curl -sS -m 20 -T big $four/
            curl -sS -m 20 -T - $four/ < big
            curl -sS -m 20 --cacert $3 https://$1:8443/16; echo
            curl -sS -m 20 $four/16 --interface eth0; echo
            wget -q -T 20 -O - $four/16; echo
            busybox wget -q -O - $four/16; echo
            curl -s -m 20 http://$1:9/ || echo "refused $?"
            curl -s -m 20 http://no-such-name.invalid/ || echo "unknown $?"
            """,
            peer.address,
            peer.address6,
            str(trusted),
        )
    )
    digest, piece = hashlib.sha1(bytes(2_000_000)).hexdigest(), "0123456789abcdef"
    assert done.out.split("\n") == [
        piece, "200 1 1600", "200 0 3200", "3000000", digest, digest, digest, piece, piece, piece, piece,
        "refused 7", "unknown 6", "",
    ], done  # fmt: skip
    assert done.said == []
    any_host.assert_nothing_runs()


def test_ping_ip_and_ss_show_the_network(any_host: Any, peer: Any) -> None:
    peer.serve(ECHO, peer.address, "7110")
    program = """
        import socket, subprocess, sys
        link = socket.create_connection((sys.argv[1], 7110), 20)
        link.sendall(b"x" * 999 + b"\\n"); link.recv(1000, socket.MSG_WAITALL)
        server = socket.create_server(("", 8080))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("", 8081))
        for command in (
            "ping -c 1 -W 10 10.0.2.2", "ping -6 -c 1 -W 10 fd00:0:0:2::2", "busybox ping6 -c 1 -W 10 fd00:0:0:2::2",
            "ping -c 1 -W 10 -s 4000 10.0.2.2",
            "ip route", "busybox ip route", "busybox ip -6 route", "ip route get " + sys.argv[1], "ip neigh",
            "ip -6 route get fd00:0:0:2::77", "busybox route -n", "ip -br link show eth0",
            "ss -Htnlp", "ss -Htn", "ss -Htni", "ss -Hunap", "ss -H -M", "ss -Ha",
            "ss -Htn dport = :7110", "netstat -tn",
            "ls /sys/class/net", "hostname -I",
        ):
            print("#", command, flush=True)
            subprocess.run(command, shell=True, stderr=subprocess.STDOUT)
        for name in ("rx", "tx"):
            with open(f"/sys/class/net/eth0/statistics/{name}_bytes") as file:
                counted = int(file.read())
            with open("/proc/net/dev") as file:
                (row,) = [line.split() for line in file if "eth0:" in line]
            # two pings of 64 bytes, one of 4008 in three fragments, and the connection's 1000 bytes, with their headers
            print("#", counted >= 98 + 118 + 4110 + 1066, int(row[1 if name == "rx" else 9]) == counted)
    """
    options = ("do", "--network", "netstack", "--", "python3", "-uc", textwrap.dedent(program), peer.address)
    done = any_host(*options)
    shown = {part.partition("\n")[0]: part.partition("\n")[2].split("\n") for part in done.out.split("# ")[1:]}
    flat = {name: [" ".join(line.split()) for line in lines if line] for name, lines in shown.items()}

    def first(name: str) -> str:
        return flat[name][0] if flat[name] else ""

    for command, size in (("ping -c 1 -W 10 10.0.2.2", 64), ("ping -6 -c 1 -W 10 fd00:0:0:2::2", 64),
                          ("ping -c 1 -W 10 -s 4000 10.0.2.2", 4008)):  # fmt: skip
        answer = flat[command][1]
        assert answer.startswith(f"{size} bytes from ") and "icmp_seq=1 ttl=64" in answer, done
    if any_host.kind != "user":  # it knows raw sockets alone, and those are root's
        assert "seq=0 ttl=64" in flat["busybox ping6 -c 1 -W 10 fd00:0:0:2::2"][1], done
    assert first("ip route") == "default via 10.0.2.2 dev eth0 proto static"
    assert flat["busybox ip route"] == [
        "default via 10.0.2.2 dev eth0",
        "10.0.2.0/24 dev eth0 scope link src 10.0.2.15",
    ]
    assert "default via fd00:0:0:2::2 dev eth0 metric 0" in flat["busybox ip -6 route"]
    assert first(f"ip route get {peer.address}") == f"{peer.address} via 10.0.2.2 dev eth0 src 10.0.2.15 uid 0"
    assert first("ip -6 route get fd00:0:0:2::77").startswith("fd00:0:0:2::77 dev eth0")
    assert any(line.startswith("10.0.2.2 dev eth0 lladdr ") for line in flat["ip neigh"]), done
    assert "0.0.0.0 10.0.2.2 0.0.0.0 UG 0 0 0 eth0" in flat["busybox route -n"]
    assert first("ip -br link show eth0").startswith("eth0 UP 02:")
    assert first("ss -Htnlp").startswith('LISTEN 0 128 0.0.0.0:8080 0.0.0.0:* users:(("python3",pid=')
    ends = ":7110"
    assert first("ss -Htn").startswith("ESTAB 0 0 10.0.2.15:") and first("ss -Htn").endswith(peer.address + ends)
    info = flat["ss -Htni"][1]
    for word in ("cubic", "pmtu:1500", "mss:1448", "bytes_sent:1000", "bytes_acked:1000", "bytes_received:1000"):
        assert word in info.split(), info
    assert first("ss -Hunap").startswith("UNCONN 0 0 0.0.0.0:8081")
    assert flat["ss -H -M"] == [] and not any("mptcp" in line for line in flat["ss -Ha"]), done
    assert first("ss -Htn dport = :7110") == first("ss -Htn")
    assert any(line.startswith("tcp 0 0 10.0.2.15:") and "ESTABLISHED" in line for line in flat["netstat -tn"]), done
    assert flat["ls /sys/class/net"] == ["eth0", "lo"]
    assert "10.0.2.15" in first("hostname -I")
    assert done.out.count("# True True\n") == 2, done


def test_names_are_asked_with_dig(host: Any, peer: Any) -> None:
    """The network's own server, and one elsewhere: over UDP, over TCP, and by IPv6."""
    server = """
import socket, struct, sys, threading
def answer(question):
    end = question.index(b"\\0", 12) + 5
    a = question[end - 4 : end - 2] == b"\\0\\1"
    rest = b"\\xc0\\x0c" + question[end - 4 : end] + struct.pack("!IH", 60, 4) + bytes((203, 0, 113, 7)) if a else b""
    return question[:2] + struct.pack("!HHHHH", 0x8580, 1, int(a), 0, 0) + question[12:end] + rest
def tcp(family, where):
    server = socket.socket(family); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((where, 53)); server.listen(8)
    while True:
        link, _ = server.accept()
        size, = struct.unpack("!H", link.recv(2, socket.MSG_WAITALL))
        data = answer(link.recv(size, socket.MSG_WAITALL)); link.sendall(struct.pack("!H", len(data)) + data)
def udp(family, where):
    sock = socket.socket(family, socket.SOCK_DGRAM); sock.bind((where, 53)); print("up", flush=True)
    while True:
        data, who = sock.recvfrom(2000); sock.sendto(answer(data), who)
threading.Thread(target=tcp, args=(socket.AF_INET, sys.argv[1]), daemon=True).start()
udp(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, sys.argv[1])
"""
    peer.serve(server, peer.address)
    peer.serve(server.replace("threading.Thread", "0 and threading.Thread"), peer.address6)
    done = host(
        *script(
            """
            dig +short +tries=1 +time=10 @$1 some.example.; dig +short +tcp +tries=1 +time=10 @$1 some.example.
            dig +short +tries=1 +time=10 @$2 some.example.
            dig +short box; dig +short -x 10.0.2.15; dig +short AAAA box
            dig +tries=1 +time=10 @$1 some.example. | grep -c 'status: NOERROR'
            """,
            peer.address,
            peer.address6,
            options=("--hostname", "box"),
        )
    )
    address = "203.0.113.7"
    assert done.out.split() == [address, address, address, "10.0.2.15", "box.", "fd00:0:0:2::f", "1"], done


def test_redis_serves_inside_and_at_a_published_port(any_host: Any, peer: Any) -> None:
    port = free_port()
    start = script(
        """
        (exec -a redis-server redis-check-rdb --port 6390 --save "" --dir $PWD --protected-mode no > log) &
        for i in $(seq 300); do redis-cli -p 6390 ping > said 2>&1 && break; sleep 0.1; done
        redis-benchmark -h 10.0.2.15 -p 6390 -c 10 -n 300 -t set,get --csv | tail -2 | cut -d, -f1
        echo up; wait
        """,
        options=("-p", f"{port}:6390"),
    )
    process = any_host.start(*start)
    any_host.wait_for_text(process, "up")
    assert process.out_path.read_text().split() == ['"SET"', '"GET"', "up"]
    client = f"""
import socket
with socket.create_connection(("{peer.own}", {port}), 20) as link:
    lines = link.makefile("rb")
    def ask(*words):
        link.sendall(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%b\\r\\n" % (len(word), word) for word in words))
        return lines.readline().strip()
    print(ask(b"SET", b"name", b"v" * 200000), ask(b"STRLEN", b"name"), ask(b"SHUTDOWN", b"NOSAVE"))
"""
    assert peer(client) == "b'+OK' b':200000' b''\n"
    assert any_host.end(process).status == 0
    any_host.assert_nothing_runs()


def test_node_is_client_and_server(host: Any, peer: Any) -> None:
    both, trusted = certificate(host.home, peer.address)
    peer.serve(WEB, peer.address, "8001")
    peer.serve(WEB, peer.address, "8444", str(both))
    port = free_port()
    program = """
        const http = require('http'), https = require('https'), net = require('net'), fs = require('fs');
        const os = require('os'), dns = require('dns').promises;
        const [host, trusted] = process.argv.slice(1);
        const get = (library, options) => new Promise((resolve, reject) => library.get(options, response => {
          let size = 0;
          const port = response.socket.localPort;
          response.on('data', piece => size += piece.length);
          response.on('end', () => resolve([response.statusCode, size, port]));
        }).on('error', reject));
        (async () => {
          const agent = new http.Agent({keepAlive: true, maxSockets: 1});
          const one = await get(http, {host, port: 8001, path: '/160000', agent});
          const two = await get(http, {host, port: 8001, path: '/16', agent});
          agent.destroy();
          console.log(one[0], one[1], two[1], one[2] == two[2]);
          console.log((await get(https, {host, port: 8444, path: '/1600', ca: fs.readFileSync(trusted)}))[1]);
          net.connect(9, host).on('error', error => console.log(error.code));
          await dns.lookup('no-such-name.invalid').catch(error => console.log(error.code));
          console.log(os.networkInterfaces().eth0[0].cidr);
          const server = http.createServer((request, response) => response.end('page ' + request.url));
          server.listen(8080, () => console.log('up'));
        })();
    """
    options = ("--network", "netstack", "-p", f"{port}:8080")
    process = host.start("do", *options, "--", "node", "-e", program, peer.address, str(trusted))
    host.wait_for_text(process, "up")
    shown = process.out_path.read_text().split("\n")[:-1]
    assert shown[:2] == ["200 160000 16 true", "1600"] and shown[-1] == "up", shown
    assert sorted(shown[2:-1]) == ["10.0.2.15/24", "ECONNREFUSED", "ENOTFOUND"], shown
    fetch = f"import urllib.request as u; print(u.urlopen('http://{peer.own}:{port}/x', timeout=20).read().decode())"
    assert peer(fetch) == "page /x\n"
    process.terminate()
    host.end(process)


def test_asyncio_connects_serves_and_hears_errors(any_host: Any, peer: Any) -> None:
    both, trusted = certificate(any_host.home, peer.address)
    peer.serve(ECHO, peer.address, "7111")
    peer.serve(ECHO, peer.address6, "7111")
    peer.serve(WEB, peer.address, "8445", str(both))
    program = """
        import asyncio, ssl, sys
        four, six, trusted = sys.argv[1:]
        async def echo(host, number):
            reader, writer = await asyncio.open_connection(host, 7111)
            writer.write(b"line %d\\n" % number)
            answer = await reader.readline()
            writer.close(); await writer.wait_closed()
            return answer == b"LINE %d\\n" % number
        class Datagrams(asyncio.DatagramProtocol):
            def __init__(self): self.heard = asyncio.get_running_loop().create_future()
            def error_received(self, error): self.heard.set_result(type(error).__name__)
        async def serve(reader, writer):
            writer.write(await reader.readline()); await writer.drain(); writer.close()
        async def main():
            print(sum(await asyncio.gather(*(echo((four, six)[number % 2], number) for number in range(40)))))
            context = ssl.create_default_context(cafile=trusted)
            reader, writer = await asyncio.open_connection(four, 8445, ssl=context)
            writer.write(b"GET /32 HTTP/1.0\\r\\n\\r\\n")
            print((await reader.read())[-16:].decode(), writer.get_extra_info("ssl_object").version()); writer.close()
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=(four, 9))
            transport.sendto(b"x"); print(await asyncio.wait_for(protocol.heard, 20)); transport.close()
            try:
                await asyncio.open_connection(four, 9)
            except OSError as error:
                print(repr(error))
            server = await asyncio.start_server(serve, None, 9000)
            for host in ("127.0.0.1", "::1", "10.0.2.15", "fd00:0:0:2::f"):
                reader, writer = await asyncio.open_connection(host, 9000)
                writer.write(b"own\\n"); print((await reader.read()).decode(), end=""); writer.close()
            server.close()
        asyncio.run(main())
    """
    words = ("python3", "-c", textwrap.dedent(program), peer.address, peer.address6, str(trusted))
    done = any_host("do", "--network", "netstack", "--", *words)
    refused = "ConnectionRefusedError"
    failed = f"{refused}(111, \"Connect call failed ('{peer.address}', 9)\")"
    assert done.out.split("\n")[:-1] == ["40", "0123456789abcdef TLSv1.3", refused, failed] + ["own"] * 4, done
    assert done.said == []

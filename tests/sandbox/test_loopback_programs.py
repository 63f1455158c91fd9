"""Servers and their clients inside one sandbox, over the loopback that every sandbox has for itself."""

from __future__ import annotations

import socket
import textwrap
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(180)


#: Waits until the port $1 is listened at.
LISTENS = """
listens() {
    local line; printf -v line ':%04X 0*:0000 0A' $1
    for i in $(seq 300); do grep -q "$line" /proc/net/tcp /proc/net/tcp6 && return 0; sleep 0.1; done; return 1
}
"""


def script(text: str) -> tuple[str, str, str]:
    """A bash script that fails with its first failing command, in a directory of its own."""
    return ("bash", "-c", "set -e; cd $(mktemp -d)\n" + LISTENS + textwrap.dedent(text))


def test_http_server_of_python_serves_curl(host: Any) -> None:
    done = host.do(
        *script(
            """
            echo hello > index.html; head -c 3000000 /dev/urandom > big
            python3 -m http.server 8000 --bind 127.0.0.1 >log 2>&1 &
            listens 8000
            curl -s http://127.0.0.1:8000/index.html
            curl -s http://localhost:8000/big | cmp - big && echo whole
            curl -s -o /dev/null -w '%{http_code}\\n' http://127.0.0.1:8000/nothing
            curl -s http://127.0.0.1:8001/ || echo "status $?"
            curl -s --connect-timeout 5 http://192.0.2.1/ || echo "status $?"
            kill $!; wait || true
            """
        )
    )
    assert done.out.split("\n")[:-1] == ["hello", "whole", "404", "status 7", "status 7"]


def test_node_serves_itself(host: Any) -> None:
    program = """
        const http = require('http'), os = require('os');
        const server = http.createServer((request, response) => response.end('page ' + request.url));
        server.listen(0, '127.0.0.1', () => {
          let left = 20;
          for (let i = 0; i < 20; i++)
            http.get({port: server.address().port, host: '127.0.0.1', path: '/' + i}, response => {
              let text = '';
              response.on('data', piece => text += piece);
              response.on('end', () => {
                if (text != 'page /' + i) process.exit(1);
                if (!--left) { console.log('all', Object.keys(os.networkInterfaces())); process.exit(0); }
              });
            });
        });
    """
    assert host.do("node", "-e", program).out == "all [ 'lo' ]\n"


def test_nginx_serves_in_both_families_from_two_workers(host: Any) -> None:
    done = host.do(
        *script(
            """
            head -c 2000000 /dev/urandom > big; chmod 755 . ; chmod 644 big
            cat > conf <<END
            daemon off; user root; pid $PWD/pid; error_log $PWD/errors info; worker_processes 2;
            events { worker_connections 64; }
            http {
                access_log off; sendfile on;
                client_body_temp_path $PWD/a; proxy_temp_path $PWD/b; fastcgi_temp_path $PWD/c;
                uwsgi_temp_path $PWD/d; scgi_temp_path $PWD/e;
                server { listen 127.0.0.1:8088 reuseport; listen [::1]:8088; root $PWD; }
                server { listen 127.0.0.1:8089; location / { proxy_pass http://127.0.0.1:8088; } }
            }
            END
            nginx -c $PWD/conf & listens 8088
            for i in 1 2 3 4 5; do curl -s http://127.0.0.1:8088/big | cmp - big; done
            curl -s "http://[::1]:8088/big" | cmp - big && echo six
            curl -s http://127.0.0.1:8089/big | cmp - big && echo proxied
            kill $(cat pid); wait; echo "status $?"
            grep -c -E 'emerg|alert' errors || true
            """
        )
    )
    assert done.out.split() == ["six", "proxied", "status", "0", "0"]


def test_redis_answers_twenty_clients(host: Any) -> None:
    done = host.do(
        *script(
            """
            (exec -a redis-server redis-check-rdb --port 6390 --save "" --dir $PWD >log) & listens 6390
            redis-benchmark -p 6390 -c 20 -n 1000 -t set,get --csv | tail -2 | cut -d, -f1
            redis-cli -p 6390 set name value; redis-cli -p 6390 get name
            redis-cli -p 6390 shutdown nosave; wait; echo "status $?"
            """
        )
    )
    assert done.out.split() == ['"SET"', '"GET"', "OK", "value", "status", "0"]


def test_iperf_measures_for_a_second(host: Any) -> None:
    done = host.do(
        *script(
            """
            iperf3 -s -p 5202 > log & listens 5202
            iperf3 -c 127.0.0.1 -p 5202 -t 1 -J | grep -c sum_received
            iperf3 -c 127.0.0.1 -p 5202 -t 1 -u -b 20M -J | grep -c '"udp"' || true
            kill $!; wait || true
            """
        )
    )
    assert done.out.split()[0] == "1", done


def test_ip_and_ss_show_what_is_there(host: Any) -> None:
    program = """
        import os, socket, subprocess
        listener = socket.socket()
        listener.bind(("127.0.0.1", 18080))
        listener.listen(5)
        client = socket.create_connection(("127.0.0.1", 18080))
        udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        udp.bind(("::1", 18081))
        ip = ("ip -o addr", "ip route", "ip route show table local", "ip neigh", "ip rule")
        for command in (*ip, "ss -Htanp", "ss -Huan"):
            print("#", command, flush=True)
            subprocess.run(command, shell=True)
        print("#", subprocess.run("ip addr add 127.0.0.5/8 dev lo", shell=True, capture_output=True).returncode)
    """
    lines = host.do("python3", "-c", textwrap.dedent(program)).out.split("\n")
    shown = [" ".join(line.split()) for line in lines]
    for line in (
        "1: lo inet 127.0.0.1/8 scope host lo\\ valid_lft forever preferred_lft forever",
        "1: lo inet6 ::1/128 scope host \\ valid_lft forever preferred_lft forever",
        "local 127.0.0.0/8 dev lo proto kernel scope host src 127.0.0.1",
        "32766: from all lookup main",
        "# 2",
    ):
        assert line in shown, shown
    assert any(line.startswith('LISTEN 1 5 127.0.0.1:18080 0.0.0.0:* users:(("python3",') for line in shown), shown
    assert any(line.startswith("ESTAB 0 0 127.0.0.1:") and "127.0.0.1:18080" in line for line in shown), shown
    assert any(line.startswith("UNCONN 0 0 [::1]:18081") for line in shown), shown
    assert shown[shown.index("# ip route") + 1] == "# ip route show table local"


def test_the_loopback_is_the_sandboxs_own(host: Any) -> None:
    """The host's servers are not there, nor the other way round, and two sandboxes use one port."""
    listen = "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(1)"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = str(server.getsockname()[1])
        tried = host.do("curl", "-s", f"http://127.0.0.1:{port}/", status=None)
        assert tried.status == 7
        first = host.start("do", "--", "python3", "-c", listen + "; print('up', flush=True); s.accept()", port)
        host.services(first.pid)
        host.wait_for_text(first, "up")
        assert host.do("python3", "-c", listen + "; print('free')", port).out == "free\n"
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
        first.terminate()
        host.end(first)

# timeout=120
"""Who may share a local port: every pair of addresses, families, SO_REUSEADDR, SO_REUSEPORT and states (ip(7))."""

import errno
import itertools
import socket
import sys

ADDRESSES = (
    (socket.AF_INET, "0.0.0.0", False),
    (socket.AF_INET, "127.0.0.1", False),
    (socket.AF_INET, "127.0.0.2", False),
    (socket.AF_INET6, "::", False),
    (socket.AF_INET6, "::", True),
    (socket.AF_INET6, "::1", False),
    (socket.AF_INET6, "::ffff:127.0.0.1", False),
)
FLAGS = ("", "a", "p", "ap")


def attempt(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"


def make(kind, address, flags):
    family, host, only = address
    made = socket.socket(family, kind)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only))
    if "a" in flags:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "p" in flags:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


def free_port():
    """A port that nobody has in any family."""
    while True:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
            port = probe.getsockname()[1]
        if port % 2 and port > 32768:
            return port


for kind, name in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
    for first, second in itertools.product(ADDRESSES, ADDRESSES):
        line = []
        for one, other in itertools.product(FLAGS, FLAGS):
            for listening in (False, True) if kind == socket.SOCK_STREAM else (False,):
                port = free_port()
                a, b = make(kind, first, one), make(kind, second, other)
                a.bind((first[1], port))
                if listening:
                    a.listen(1)
                result = attempt(lambda: b.bind((second[1], port)))
                if result == "ok" and kind == socket.SOCK_STREAM:
                    result += "," + attempt(lambda: b.listen(1))
                line.append(f"{one or '-'}/{other or '-'}{'/L' if listening else ''}:{result}")
                a.close()
                b.close()
        print(name, first[1], first[2], second[1], second[2], *line)
sys.stdout.flush()

# After the server closed first, its port is in TIME_WAIT: SO_REUSEADDR is needed to bind it again.
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(1)
where = server.getsockname()
client = socket.create_connection(where)
accepted, _ = server.accept()
server.close()
print("while the connection stands:", attempt(lambda: socket.socket().bind(where)))
accepted.close()
client.recv(1)
client.close()
print("in TIME_WAIT:", attempt(lambda: socket.socket().bind(where)))
again = socket.socket()
again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
print("with SO_REUSEADDR:", attempt(lambda: again.bind(where)), attempt(lambda: again.listen(1)))
print("bind twice:", attempt(lambda: again.bind(("127.0.0.1", 0))))
# The one who closes last leaves nothing.
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(1)
where = server.getsockname()
client = socket.create_connection(where)
accepted, _ = server.accept()
server.close()
client.close()
accepted.recv(1)
accepted.close()
print("the client closed first:", attempt(lambda: socket.socket().bind(where)))
# The same pair of ends cannot be had twice.
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(5)
first = socket.create_connection(server.getsockname())
mine = first.getsockname()
second = socket.socket()
second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
print("port of a connection:", attempt(lambda: second.bind(mine)))
low = sorted({socket.socket().bind(("127.0.0.1", 0)) for _ in range(3)}, key=str)
print("ports of bind:", low)
ports = set()
for _ in range(50):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ports.add(probe.getsockname()[1])
print("random:", len(ports) > 40, min(ports) >= 32768, max(ports) <= 60999)

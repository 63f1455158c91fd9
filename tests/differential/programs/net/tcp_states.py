# timeout=60
"""A TCP connection's states as poll(2), errors and names show them, step by step, in both families."""

import errno
import select
import socket
import struct
import time

NOSIGNAL = socket.MSG_NOSIGNAL


def say(name, call):
    try:
        result = call()
    except OSError as error:
        result = errno.errorcode[error.errno]
    print(f"{name}: {result}")


def ready(made):
    poller = select.poll()
    poller.register(made, 0x3FFF)
    found = poller.poll(0)
    return hex(found[0][1]) if found else 0


def settled(made, wanted):
    """Poll bits once they are `wanted`: the other side's segments may be late on a busy host."""
    end = time.monotonic() + 2
    while ready(made) != wanted and time.monotonic() < end:
        time.sleep(0.002)
    return ready(made)


def state(made):
    return made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def soerror(made):
    return errno.errorcode.get(made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)


def run(family, host):
    def pair():
        listener = socket.socket(family)
        listener.bind((host, 0))
        listener.listen(5)
        client = socket.socket(family)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        return listener, client, server

    print("---", family.name, "fresh")
    a = socket.socket(family)
    say("poll", lambda: ready(a))
    say("recv", lambda: a.recv(1))
    say("send", lambda: a.send(b"x", NOSIGNAL))
    say("shutdown", lambda: a.shutdown(2))
    say("poll", lambda: ready(a))
    say("peer", a.getpeername)
    say("name", lambda: a.getsockname()[1])
    say("accept", a.accept)
    say("listen unbound", lambda: a.listen(5))
    say("has a port", lambda: a.getsockname()[1] != 0)
    say("recv of a listener", lambda: a.recv(1))
    say("send of a listener", lambda: a.send(b"x", NOSIGNAL))
    say("connect of a listener", lambda: a.connect((host, 1)))
    say("poll", lambda: ready(a))
    say("bind again", lambda: a.bind((host, 0)))

    print("--- closed with unread data")
    _, c, s = pair()
    c.send(b"abc")
    s.close()
    say("poll", lambda: settled(c, "0x215d"))
    say("recv", lambda: c.recv(1))
    say("recv", lambda: c.recv(1))
    say("send", lambda: c.send(b"x", NOSIGNAL))
    say("peer", c.getpeername)
    _, c, s = pair()
    s.send(b"hi")
    c.send(b"abc")
    s.close()
    say("poll", lambda: settled(c, "0x215d"))
    say("send first", lambda: c.send(b"x", NOSIGNAL))
    say("send again", lambda: c.send(b"x", NOSIGNAL))
    for _ in range(3):
        say("recv", lambda: c.recv(1))

    print("--- closed properly, then written to")
    _, c, s = pair()
    s.close()
    say("poll", lambda: settled(c, "0x2145"))
    say("states", lambda: state(c))
    say("send", lambda: c.send(b"x", NOSIGNAL))
    say("poll", lambda: settled(c, "0x215d"))
    say("send", lambda: c.send(b"x", NOSIGNAL))
    say("recv", lambda: c.recv(1))
    say("error", lambda: soerror(c))
    _, c, s = pair()
    s.close()
    settled(c, "0x2145")
    say("send", lambda: c.send(b"x", NOSIGNAL))
    settled(c, "0x215d")
    say("error", lambda: soerror(c))
    say("send", lambda: c.send(b"x", NOSIGNAL))
    say("shutdown", lambda: c.shutdown(1))

    print("--- half closed")
    _, c, s = pair()
    c.shutdown(1)
    say("client", lambda: settled(c, "0x104"))
    say("server", lambda: settled(s, "0x2145"))
    say("send", lambda: c.send(b"x", NOSIGNAL))
    say("the other way", lambda: s.send(b"more"))
    say("arrives", lambda: c.recv(10))
    say("again", lambda: c.shutdown(1))
    print("states", state(c), state(s))
    s.shutdown(1)
    say("client", lambda: settled(c, "0x2155"))
    say("server", lambda: settled(s, "0x2155"))
    say("peer", c.getpeername)
    say("peer", s.getpeername)
    say("again", lambda: c.shutdown(1))
    say("recv", lambda: c.recv(1))
    print("states", state(c), state(s))

    print("--- shut for reading")
    _, c, s = pair()
    c.shutdown(0)
    say("poll", lambda: ready(c))
    say("recv", lambda: c.recv(1))
    say("send", lambda: s.send(b"xyz"))
    time.sleep(0.05)
    say("recv", lambda: c.recv(2))
    say("poll", lambda: ready(s))
    say("recv", lambda: c.recv(9))
    say("recv", lambda: c.recv(9))
    _, c, s = pair()
    c.shutdown(2)
    settled(s, "0x2145")
    say("send to both shut", lambda: s.send(b"xyz"))
    say("client", lambda: settled(c, "0x215d"))
    say("server", lambda: settled(s, "0x215d"))
    say("send", lambda: s.send(b"x", NOSIGNAL))
    say("recv", lambda: s.recv(4))
    say("recv", lambda: c.recv(4))
    print("errors", soerror(c), soerror(s))

    print("--- linger, listener gone, disconnect")
    _, c, s = pair()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    say("poll", lambda: settled(c, "0x215d"))
    say("recv", lambda: c.recv(1))
    say("recv", lambda: c.recv(1))
    listener, _, _ = pair()
    c = socket.create_connection(listener.getsockname()[:2])
    listener.close()
    say("poll", lambda: settled(c, "0x215d"))
    say("recv", lambda: c.recv(1))

    print("--- connecting without blocking")
    listener = socket.socket(family)
    listener.bind((host, 0))
    listener.listen(1)
    n = socket.socket(family)
    n.setblocking(False)
    say("connect", lambda: n.connect(listener.getsockname()))
    say("poll", lambda: settled(n, "0x104"))
    say("connect", lambda: n.connect(listener.getsockname()))
    say("connect", lambda: n.connect(listener.getsockname()))
    say("listen", lambda: n.listen(1))
    listener.accept()
    free = socket.socket(family)
    free.bind((host, 0))
    nobody = free.getsockname()
    x = socket.socket(family)
    say("blocking, refused", lambda: x.connect(nobody))
    say("poll", lambda: ready(x))
    x = socket.socket(family)
    x.setblocking(False)
    say("connect", lambda: x.connect(nobody))
    say("poll", lambda: settled(x, "0x215d"))
    say("connect", lambda: x.connect(nobody))
    say("poll", lambda: ready(x))
    say("connect", lambda: x.connect(nobody))
    settled(x, "0x215d")
    say("error", lambda: soerror(x))
    say("error", lambda: soerror(x))
    say("send", lambda: x.send(b"x", NOSIGNAL))
    say("another", lambda: x.connect(listener.getsockname()))

    print("--- a full listener")
    listener = socket.socket(family)
    listener.bind((host, 0))
    listener.listen(0)
    clients = []
    for _ in range(4):
        made = socket.socket(family)
        made.setblocking(False)
        say("connect", lambda made=made: made.connect(listener.getsockname()))
        clients.append(made)
    time.sleep(0.05)
    print([ready(made) for made in clients], [state(made) for made in clients])
    last = clients[3]
    say("send", lambda: last.send(b"x", NOSIGNAL))
    say("recv", lambda: last.recv(1))
    say("peer", last.getpeername)
    say("connect", lambda: last.connect(listener.getsockname()))
    say("shutdown", lambda: last.shutdown(1))
    say("poll", lambda: ready(last))
    print("state", state(last))
    say("recv", lambda: last.recv(1))
    say("accept", lambda: bool(listener.accept()))
    time.sleep(1.5)
    print("one more came in", 1 in {state(made) for made in clients[1:3]})
    listener.shutdown(1)
    say("listens", lambda: listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    listener.shutdown(0)
    say("listens", lambda: listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    say("accept", listener.accept)
    say("poll", lambda: ready(listener))
    say("listen", lambda: listener.listen(1))


run(socket.AF_INET, "127.0.0.1")
run(socket.AF_INET6, "::1")

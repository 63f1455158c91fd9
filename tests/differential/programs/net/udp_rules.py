# timeout=60
"""UDP on the loopback: connecting, errors that come back, control messages, corking, broadcast and multicast."""

import ctypes
import errno
import select
import socket
import struct
import time

LIBC = ctypes.CDLL(None, use_errno=True)


def say(name, call):
    try:
        result = call()
    except OSError as error:
        result = errno.errorcode.get(error.errno, "timed out")
    print(f"{name}: {result}")


def ready(made):
    poller = select.poll()
    poller.register(made, 0x3FFF)
    found = poller.poll(0)
    return hex(found[0][1]) if found else 0


def settled(made, wanted):
    end = time.monotonic() + 2
    while ready(made) != wanted and time.monotonic() < end:
        time.sleep(0.002)
    return ready(made)


def disconnect(made):
    return LIBC.connect(made.fileno(), bytes(16), 16)


def bound(family=socket.AF_INET, host="127.0.0.1"):
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind((host, 0))
    made.settimeout(5)
    return made


def unused(family=socket.AF_INET, host="127.0.0.1"):
    with bound(family, host) as made:
        return made.getsockname()[:2]


def errors(made, family):
    data, control, flags, address = made.recvmsg(100, 512, socket.MSG_ERRQUEUE)
    level, kind, payload = control[0]
    print("  error queue:", data, len(control), level, kind, payload[:16].hex(), len(payload), hex(flags), address[0])
    print(
        "  offender:", payload[16:18].hex(), payload[20:24].hex() if family == socket.AF_INET else payload[24:40].hex()
    )


for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    print("---", family.name)
    u = socket.socket(family, socket.SOCK_DGRAM)
    say("poll", lambda: ready(u))
    say("send", lambda: u.send(b"x"))
    say("shutdown", lambda: u.shutdown(2))
    say("poll", lambda: ready(u))
    say("sendto", lambda: u.sendto(b"x", (host, 9)))
    u = socket.socket(family, socket.SOCK_DGRAM)
    say("port 0", lambda: u.sendto(b"x", (host, 0)))
    say("to port 0", lambda: u.connect((host, 0)))
    say("peer", u.getpeername)
    for size in (65507, 65508, 65527, 65528, 65535, 65536):
        say(f"send {size}", lambda size=size: u.sendto(bytes(size), unused(family, host)))

    print("nobody there")
    u = socket.socket(family, socket.SOCK_DGRAM)
    u.setblocking(False)
    say("connect", lambda: u.connect(unused(family, host)))
    say("send", lambda: u.send(b"x"))
    say("poll", lambda: settled(u, "0x30c"))
    say("send", lambda: u.send(b"x"))
    say("send", lambda: u.send(b"x"))
    settled(u, "0x30c")
    say("recv", lambda: u.recv(4))
    say("recv", lambda: u.recv(4))
    say("disconnect", lambda: disconnect(u))
    print(u.getsockname()[0])
    say("peer", u.getpeername)
    say("unconnected", lambda: u.sendto(b"x", unused(family, host)))
    time.sleep(0.05)
    say("recv", lambda: u.recv(4))
    level, name = (0, 11) if family == socket.AF_INET else (41, 25)
    u.setsockopt(level, name, 1)
    say("sendto", lambda: u.sendto(b"payload", unused(family, host)))
    say("poll", lambda: settled(u, "0x30c"))
    errors(u, family)
    say("poll", lambda: ready(u))
    say("recv", lambda: u.recv(4))
    say("error queue", lambda: u.recvmsg(1, 1, socket.MSG_ERRQUEUE))

    print("messages")
    a, b = bound(family, host), bound(family, host)
    b.connect(a.getsockname())
    say("to another", lambda: bound(family, host).connect(b.getsockname()))
    c = bound(family, host)
    c.sendto(b"from a stranger", b.getsockname())
    b.send(b"hello")
    say("size", lambda: a.recv_into(bytearray(2), 2, socket.MSG_PEEK | socket.MSG_TRUNC))
    say("truncated", lambda: a.recvmsg(2)[0::2])
    b.setblocking(False)
    say("strangers are not heard", lambda: b.recv(100))
    say("empty", lambda: (b.send(b""), ready(a), a.recv(10)))
    say("more", lambda: (b.send(b"one ", socket.MSG_MORE), b.send(b"two ", socket.MSG_MORE), b.send(b"three")))
    say("came", lambda: a.recv(100))
    b.setsockopt(17, 1, 1)
    b.send(b"corked ")
    b.send(b"too")
    b.setsockopt(17, 1, 0)
    say("came", lambda: a.recv(100))
    b.setsockopt(17, 103, 4)
    b.send(b"segmented")
    say("came", lambda: (a.recv(100), a.recv(100), a.recv(100)))
    b.setsockopt(17, 103, 0)
    a.settimeout(0.05)
    say("time limit", lambda: a.recv(1))
    a.setblocking(False)
    a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for number in range(200):
        b.send(bytes([number]) * 200)
    got = []
    try:
        while True:
            got.append(a.recv(300)[0])
    except BlockingIOError:
        pass
    print("dropped the later ones:", got == list(range(len(got))), 3 < len(got) < 30)
    a.setsockopt(socket.SOL_SOCKET, 42, 0)
    b.send(b"0123456789")
    say("peek offset", lambda: (a.recv(4, socket.MSG_PEEK), a.recv(4, socket.MSG_PEEK), a.recv(20)))

print("--- control messages")
a, b = bound(), bound()
for name in (8, 12, 13, 20):
    a.setsockopt(0, name, 1)
b.setsockopt(0, 2, 44)
b.setsockopt(0, 1, 8)
b.sendto(b"x", a.getsockname())
data, control, flags, address = a.recvmsg(10, 512)
print([(level, kind, payload.hex()) for level, kind, payload in control if kind != 20])
print([payload[:2] + payload[4:8] for level, kind, payload in control if kind == 20])
b.sendmsg([b"y"], [(0, 2, struct.pack("i", 7)), (0, 1, struct.pack("i", 16))], 0, a.getsockname())
print([(kind, payload.hex()) for level, kind, payload in a.recvmsg(10, 512)[1] if kind in (1, 2)])
info = struct.pack("i4s4s", 0, socket.inet_aton("127.0.0.5"), bytes(4))
wild = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wild.bind(("0.0.0.0", 0))
wild.sendmsg([b"z"], [(0, 8, info)], 0, a.getsockname())
print(a.recvmsg(10, 512)[3][0])
say("bad ttl", lambda: b.sendmsg([b"y"], [(0, 2, struct.pack("i", 0))], 0, a.getsockname()))
a, b = bound(socket.AF_INET6, "::1"), bound(socket.AF_INET6, "::1")
for name in (49, 51, 66, 2, 8):  # the last two are those of RFC 2292
    a.setsockopt(41, name, 1)
b.setsockopt(41, 16, 9)
b.sendto(b"x", a.getsockname())
print([(level, kind, payload.hex()) for level, kind, payload in a.recvmsg(10, 512)[1]])
a = bound()
a.setsockopt(socket.SOL_SOCKET, 29, 1)
bound().sendto(b"x", a.getsockname())
print([(level, kind, len(payload)) for level, kind, payload in a.recvmsg(10, 512)[1]])

print("--- both families")
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.bind(("::", 0))
six.settimeout(5)
port = six.getsockname()[1]
four = bound()
four.sendto(b"to six", ("127.0.0.1", port))
data, address = six.recvfrom(100)
print(data, address[0])
six.sendto(b"to four", address)
print(four.recv(100))
say("mapped", lambda: six.connect(("::ffff:127.0.0.1", four.getsockname()[1])))
print(six.getsockname()[0], six.getpeername()[0])
only = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
only.setsockopt(41, 26, 1)
say("only six", lambda: only.sendto(b"x", ("::ffff:127.0.0.1", 9)))
say("only six", lambda: only.connect(("::ffff:127.0.0.1", 9)))

print("--- broadcast and multicast")
b = bound()
say("broadcast", lambda: b.sendto(b"x", ("127.255.255.255", 9)))
b.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
for made in (one, two):
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(5)
one.bind(("0.0.0.0", 0))
two.bind(("", one.getsockname()[1]))
b.sendto(b"to all", ("127.255.255.255", one.getsockname()[1]))
print(one.recv(10), two.recv(10))
lo = socket.inet_aton("127.0.0.1")
group = socket.inet_aton("239.1.2.3")
say("not a group", lambda: one.setsockopt(0, 35, lo + lo))
say("join", lambda: one.setsockopt(0, 35, group + lo))
say("again", lambda: one.setsockopt(0, 35, group + lo))
b.setsockopt(0, 32, lo)
print(b.getsockopt(0, 32, 4))
b.sendto(b"to the group", ("239.1.2.3", one.getsockname()[1]))
print(one.recv(20), two.recv(20))
two.setsockopt(0, 49, 0)
b.sendto(b"to members", ("239.1.2.3", one.getsockname()[1]))
two.setblocking(False)
print(one.recv(20))
say("not a member", lambda: two.recv(20))
say("leave", lambda: one.setsockopt(0, 36, group + lo))
say("again", lambda: one.setsockopt(0, 36, group + lo))
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.bind(("::", 0))
six.settimeout(5)
group6 = socket.inet_pton(socket.AF_INET6, "ff01::77") + struct.pack("I", 1)
say("join", lambda: six.setsockopt(41, 20, group6))
out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
out.setsockopt(41, 17, 1)
say("no route on the loopback", lambda: out.sendto(b"group of six", ("ff01::77", six.getsockname()[1])))
say("leave", lambda: six.setsockopt(41, 21, group6))

"""The loopback interface as ioctl(2), netlink(7), /proc/net and /sys/class/net show it; other interfaces are left out."""

import errno
import fcntl
import os
import socket
import struct
import time

SIOCGIF = {
    "FLAGS": 0x8913, "ADDR": 0x8915, "DSTADDR": 0x8917, "BRDADDR": 0x8919, "NETMASK": 0x891B, "METRIC": 0x891D,
    "MTU": 0x8921, "HWADDR": 0x8927, "INDEX": 0x8933, "TXQLEN": 0x8942,
}  # fmt: skip


def say(name, call):
    try:
        result = call()
    except OSError as error:
        result = errno.errorcode[error.errno]
    print(f"{name}: {result}")


def attributes(raw):
    found = {}
    while len(raw) >= 4:
        length, kind = struct.unpack_from("HH", raw)
        found[kind & 0x3FFF] = raw[4:length]
        raw = raw[(length + 3) & ~3 :]
    return found


def ask(kind, body, flags=0x301, protocol=0):
    """The messages of an answer: (type, flags, body), to NLMSG_DONE or NLMSG_ERROR, or the first."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as made:
        made.bind((0, 0))
        made.settimeout(5)
        made.send(struct.pack("IHHII", 16 + len(body), kind, flags, 77, 0) + body)
        messages = []
        while True:
            size = made.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC)
            raw, _, marks, sender = made.recvmsg(size)
            assert sender == (0, 0) and not marks and len(raw) == size
            while raw:
                length, got, marks, sequence, port = struct.unpack_from("IHHII", raw)
                assert sequence == 77 and port == made.getsockname()[0]
                messages.append((got, marks, raw[16:length]))
                raw = raw[(length + 3) & ~3 :]
            if messages[-1][0] in (2, 3) or not flags & 0x300:
                return messages


def show(name, messages, size, keep, wanted):
    """Those messages whose fixed part is of the loopback, with the attributes of `keep`."""
    for kind, marks, body in messages:
        if kind in (2, 3):
            print(name, kind, marks, struct.unpack_from("i", body)[0])
        elif wanted(body):
            found = attributes(body[size:])
            print(
                name,
                kind,
                marks,
                body[:size].hex(),
                [(number, found[number].hex()) for number in keep if number in found],
            )


with socket.socket() as made:
    for name, request in SIOCGIF.items():
        for device in (b"lo", b"nothing"):
            asked = struct.pack("40s", device)
            say(
                f"{name} {device.decode()}",
                lambda asked=asked, request=request: fcntl.ioctl(made, request, asked)[16:32].hex(),
            )
    say("name of 1", lambda: fcntl.ioctl(made, 0x8910, struct.pack("16si20x", b"", 1))[:16].rstrip(b"\0"))
    say("name of 999", lambda: fcntl.ioctl(made, 0x8910, struct.pack("16si20x", b"", 999)))
    say("unknown request", lambda: fcntl.ioctl(made, 0x5555, bytes(40)))
print([pair for pair in socket.if_nameindex() if pair[1] == "lo"], socket.if_nametoindex("lo"))

show("link", ask(18, bytes(16)), 16, (3, 4, 13, 16, 17, 27, 33, 1, 2, 6), lambda body: body[4:8] == struct.pack("i", 1))
show("one link", ask(18, struct.pack("BxHiII", 0, 0, 1, 0, 0), 1), 16, (3, 4), lambda body: True)
show("by name", ask(18, bytes(16) + struct.pack("HH4s", 7, 3, b"lo\0"), 1), 16, (3, 4), lambda body: True)
show("no link", ask(18, struct.pack("BxHiII", 0, 0, 999, 0, 0), 1), 16, (), lambda body: True)
show("address", ask(22, bytes(8)), 8, (1, 2, 3, 8), lambda body: body[4:8] == struct.pack("i", 1))
show("address 4", ask(22, struct.pack("B7x", 2)), 8, (1, 2, 3, 8), lambda body: body[4:8] == struct.pack("i", 1))


def of_loopback(body):
    found = attributes(body[12:])
    return found.get(4) == struct.pack("i", 1) and body[4] == 255 and body[0] == 2


show("route", ask(26, bytes(12)), 12, (15, 1, 7, 4), of_loopback)
for kind in (18, 22, 26, 30):  # a dump needs no more than a family, as busybox sends it
    answer = ask(kind, b"\2\0\0\0")
    print("short dump", kind, answer[-1][0], kind == 30 or len(answer) > 1)
show("short question", ask(26, b"\2\0\0\0", 5), 12, (), lambda body: True)
for kind, body in ((18, bytes(20)), (22, bytes(60)), (20, struct.pack("BBBxI48s", 2, 33, 0, 0xFFF, b""))):
    show(f"sockets {kind}", ask(kind, body, protocol=4), 4, (), lambda body: True)
with socket.create_server(("127.0.0.1", 0)) as made:
    port = struct.pack("!H", made.getsockname()[1])
    for name, kind, body in (
        ("now", 20, struct.pack("BBBxI48s", 2, 6, 0, 0xFFF, b"")),
        ("wide", 20, struct.pack("BBBxI48sHHI", 2, 200, 0, 0xFFF, b"", 8, 3, 6)),
        ("old", 18, struct.pack("BBBB48sII", 2, 0, 0, 0, b"", 0xFFF, 0)),
        ("another state", 18, struct.pack("BBBB48sII", 2, 0, 0, 0, b"", 0x2, 0)),
    ):
        print("listener", name, sum(body[4:6] == port for got, _, body in ask(kind, body, protocol=4) if got == kind))
show("acknowledged", ask(18, struct.pack("BxHiII", 0, 0, 1, 0, 0), 5), 16, (3,), lambda body: True)
show(
    "to 127.0.0.9",
    ask(26, struct.pack("BB10x", 2, 32) + struct.pack("HH4s", 8, 1, b"\x7f\0\0\t"), 1),
    12,
    (1, 4, 7),
    lambda body: True,
)
show("unknown", ask(200, bytes(4), 5), 4, (), lambda body: True)
for protocol in (0, 4, 15, 99):
    say(
        f"protocol {protocol}",
        lambda protocol=protocol: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol).close(),
    )
say("stream", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_STREAM, 0))
with (
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as first,
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as second,
):
    first.bind((0, 1))
    print(first.getsockname()[0] == os.getpid(), first.getsockname()[1])
    second.bind((0, 0))
    print(second.getsockname()[0] not in (0, os.getpid()))
    say("in use", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((os.getpid(), 0)))
    say("nobody", lambda: first.sendto(b"x", (1 << 30, 0)))
    first.setblocking(False)
    say("nothing", lambda: first.recv(1))

with open("/proc/net/if_inet6") as file:
    print([line.split() for line in file if line.split()[-1] == "lo"])
with open("/proc/net/dev") as file:
    print([len(line.split()) for line in file if "lo:" in line])
for name in ("address", "mtu", "ifindex", "flags", "type", "operstate", "addr_len"):
    with open(f"/sys/class/net/lo/{name}") as file:
        print(name, file.read().strip())


def row(table, inode):
    """The line of a socket, without its number, its inode and what only the host's kernel knows."""
    with open(f"/proc/net/{table}") as file:
        for line in file:
            words = line.split()
            if len(words) > 9 and words[9] == str(inode):
                return [words[1].split(":")[0], words[2].split(":")[0], *words[3:6], words[7]]
    return None


def inode_of(made):
    return os.fstat(made.fileno()).st_ino


with socket.socket() as listener, socket.socket(socket.AF_INET6) as six:
    print("not listening", row("tcp", inode_of(listener)))
    listener.bind(("127.0.0.1", 0))
    listener.listen(3)
    six.listen(3)
    print(row("tcp", inode_of(listener)), row("tcp6", inode_of(six)))
    with socket.create_connection(listener.getsockname()) as client:
        print(row("tcp", inode_of(client)), row("tcp", inode_of(listener))[3])
        server, _ = listener.accept()
        client.send(b"12345")
        print(row("tcp", inode_of(server)))
        server.recv(5)
        server.shutdown(1)
        end = time.monotonic() + 2
        while row("tcp", inode_of(server))[2] == "04" and time.monotonic() < end:
            time.sleep(0.002)
        print(row("tcp", inode_of(server))[2], row("tcp", inode_of(client))[2])
        server.close()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.bind(("127.0.0.1", 0))
    print(row("udp", inode_of(udp)))
    udp.connect(("127.0.0.1", 9))
    print(row("udp", inode_of(udp))[2])

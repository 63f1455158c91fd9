# timeout=60
"""Every option of levels IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP and IPPROTO_UDP: its default, and what it may be set to.

Left out is what depends on the host: the default congestion control, TCP_INFO's figures, IPsec, fast open, and
interfaces other than the loopback.
"""

import errno
import socket

IP = {
    "TOS": 1, "TTL": 2, "HDRINCL": 3, "RECVOPTS": 6, "RETOPTS": 7, "PKTINFO": 8, "PKTOPTIONS": 9,
    "MTU_DISCOVER": 10, "RECVERR": 11, "RECVTTL": 12, "RECVTOS": 13, "MTU": 14, "FREEBIND": 15, "PASSSEC": 18,
    "ORIGDSTADDR": 20, "MINTTL": 21, "NODEFRAG": 22, "CHECKSUM": 23, "BIND_ADDRESS_NO_PORT": 24, "RECVFRAGSIZE": 25,
    "MULTICAST_IF": 32, "MULTICAST_TTL": 33, "MULTICAST_LOOP": 34, "ADD_MEMBERSHIP": 35, "DROP_MEMBERSHIP": 36,
    "BLOCK_SOURCE": 38, "MCAST_JOIN_GROUP": 42, "UNICAST_IF": 50, "UNKNOWN": 250,
}  # fmt: skip
IPV6 = {
    "ADDRFORM": 1, "2292PKTINFO": 2, "2292HOPLIMIT": 8, "UNICAST_HOPS": 16, "MULTICAST_IF": 17, "MULTICAST_HOPS": 18,
    "MULTICAST_LOOP": 19, "JOIN_GROUP": 20, "LEAVE_GROUP": 21, "MTU_DISCOVER": 23, "RECVERR": 25, "V6ONLY": 26,
    "MULTICAST_ALL": 29, "RECVPKTINFO": 49, "PKTINFO": 50, "RECVHOPLIMIT": 51, "HOPLIMIT": 52, "RECVHOPOPTS": 53,
    "RECVRTHDR": 56, "RECVDSTOPTS": 58, "RECVPATHMTU": 60, "DONTFRAG": 62, "RECVTCLASS": 66, "TCLASS": 67,
    "MINHOPCOUNT": 73, "UNICAST_IF": 76, "FREEBIND": 78, "UNKNOWN": 250,
}  # fmt: skip
TCP = {
    "NODELAY": 1, "MAXSEG": 2, "CORK": 3, "KEEPIDLE": 4, "KEEPINTVL": 5, "KEEPCNT": 6, "SYNCNT": 7, "LINGER2": 8,
    "DEFER_ACCEPT": 9, "WINDOW_CLAMP": 10, "QUICKACK": 12, "USER_TIMEOUT": 18, "NOTSENT_LOWAT": 25, "SAVE_SYN": 27,
    "FASTOPEN_CONNECT": 30, "INQ": 36, "UNKNOWN": 250,
}  # fmt: skip
UDP = {"CORK": 1, "NO_CHECK6_TX": 101, "NO_CHECK6_RX": 102, "SEGMENT": 103, "GRO": 104, "UNKNOWN": 250}
LEVELS = (("IP", 0, IP), ("IPV6", 41, IPV6), ("TCP", 6, TCP), ("UDP", 17, UDP))
VALUES = (-2, -1, 0, 1, 2, 5, 63, 64, 255, 256, 1000, 100000)


def get(made, level, name):
    try:
        return made.getsockopt(level, name, 64).hex()
    except OSError as error:
        return errno.errorcode[error.errno]


def put(made, level, name, value):
    try:
        made.setsockopt(level, name, value)
    except OSError as error:
        return errno.errorcode[error.errno]
    return get(made, level, name)


for family in (socket.AF_INET, socket.AF_INET6):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for title, level, names in LEVELS:
            for name, number in names.items():
                with socket.socket(family, kind) as made:
                    print(family.name, kind.name, title, name, get(made, level, number), end=" ")
                    interfaces = title == "IPV6" and name == "MULTICAST_IF"
                    values = VALUES[:4] if interfaces else VALUES
                    print(*(put(made, level, number, value) for value in values), end=" ")
                    print(put(made, level, number, b"\1"), put(made, level, number, b""))

with socket.socket() as made:
    print("SO_SNDBUF", made.getsockopt(1, 7), "SO_RCVBUF", made.getsockopt(1, 8), "SO_RCVLOWAT", made.getsockopt(1, 18))
    print("reno:", put(made, 6, 13, b"reno"), "none:", put(made, 6, 13, b"no such thing"))
    for size in (0, 1, 2000, 5000, 100000):
        made.setsockopt(1, 7, size)
        made.setsockopt(1, 8, size)
        print(size, made.getsockopt(1, 7), made.getsockopt(1, 8), end="; ")
    print()
    # What a listener was given, its connections have.
    made.setsockopt(6, socket.TCP_NODELAY, 1)
    made.setsockopt(6, socket.TCP_KEEPIDLE, 77)
    made.setsockopt(1, socket.SO_KEEPALIVE, 1)
    made.setsockopt(0, socket.IP_TTL, 33)
    made.bind(("127.0.0.1", 0))
    made.listen(1)
    with socket.create_connection(made.getsockname()) as client:
        accepted, _ = made.accept()
        print("inherited:", accepted.getsockopt(6, 1), accepted.getsockopt(6, 4), accepted.getsockopt(1, 9))
        print(accepted.getsockopt(0, 2), accepted.getsockopt(1, 7), accepted.getsockopt(1, 30), made.getsockopt(1, 30))
        print(
            "not:", client.getsockopt(6, 4), client.getsockopt(1, 3), client.getsockopt(1, 38), client.getsockopt(1, 39)
        )
        print("state:", client.getsockopt(6, 11, 1), made.getsockopt(6, 11, 1), "mtu:", client.getsockopt(0, 14))
        accepted.close()

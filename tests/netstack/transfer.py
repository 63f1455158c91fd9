"""The two ends of a test's conversation, as a program: `python transfer.py VERB ...` in a namespace. Host sockets only.

serve PORT            accept one connection (4 and 6), answer with the SHA-256 of what came, until end of file
send HOST PORT BYTES SEED   send that many random bytes, print the answer, exit 1 when it is not their hash
echo PORT             a UDP echo server; answers with the sender's address before the data
ask HOST PORT TEXT    a UDP question; prints the answer, or the name of the error
hold HOST PORT        a connection that sends a line for each line on standard input and prints the answer
lines PORT            a TCP server that answers each line with "<peer> <line>"
"""

from __future__ import annotations

import hashlib
import random
import socket
import sys
import threading


def listener(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", port))
    sock.listen(16)
    print("ready", flush=True)
    return sock


def serve(port: int) -> int:
    with listener(port) as sock:
        connection, _ = sock.accept()
        with connection:
            digest = hashlib.sha256()
            while data := connection.recv(1 << 20):
                digest.update(data)
            connection.sendall(digest.hexdigest().encode())
    return 0


def send(host: str, port: int, size: int, seed: int) -> int:
    rng = random.Random(seed)
    digest = hashlib.sha256()
    with socket.create_connection((host, port), 20) as sock:
        left = size
        while left:
            piece = rng.randbytes(min(left, 1 << 18))
            digest.update(piece)
            sock.sendall(piece)
            left -= len(piece)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while data := sock.recv(100):
            answer += data
    print(answer.decode())
    return 0 if answer.decode() == digest.hexdigest() else 1


def echo(port: int) -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))
        print("ready", flush=True)
        while True:
            data, peer = sock.recvfrom(65536)
            sock.sendto(f"{peer[0].removeprefix('::ffff:')}:{peer[1]} ".encode() + data, peer)


def ask(host: str, port: int, text: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.connect((host, port))  # so that it is told of ICMP errors
        sock.send(text.encode())
        try:
            answer = sock.recv(65536)
        except OSError as error:
            print(type(error).__name__)
            return 1
        print(answer.decode())
    return 0


def hold(host: str, port: int) -> int:
    with socket.create_connection((host, port), 10) as sock, sock.makefile("rw") as file:
        print("connected", flush=True)
        for line in sys.stdin:
            file.write(line)
            file.flush()
            print(file.readline(), end="", flush=True)
    return 0


def lines(port: int) -> int:
    def answer(connection: socket.socket, peer: str) -> None:
        with connection, connection.makefile("rw") as file:
            for line in file:
                file.write(f"{peer} {line}")
                file.flush()

    with listener(port) as sock:
        while True:
            connection, peer = sock.accept()
            address = peer[0].removeprefix("::ffff:")
            threading.Thread(target=answer, args=(connection, address), daemon=True).start()


VERBS = {"serve": serve, "send": send, "echo": echo, "ask": ask, "hold": hold, "lines": lines}

if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    numbers = {"serve": (0,), "send": (1, 2, 3), "echo": (0,), "ask": (1,), "hold": (1,), "lines": (0,)}[verb]
    arguments = [int(word) if index in numbers else word for index, word in enumerate(words)]
    sys.exit(VERBS[verb](*arguments))  # type: ignore[operator]

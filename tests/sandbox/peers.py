"""Another machine for network tests: a network namespace beside the host's, joined to it by a veth pair.

The fixture `peer` (conftest.py) gives a `Peer`. Addresses are of a network of its own, so that tests may run beside
each other; both ends and the namespace are gone afterwards.
"""

from __future__ import annotations

import socket
import subprocess
import sys


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


class Peer:
    """address, address6: the other machine's; own, own6: the host's on the same link."""

    def __init__(self, number: int) -> None:
        self.namespace = f"sentrio-{number}"
        self.device = f"sv{number}"
        net, low = number >> 6 & 255, number % 64 * 4
        self.own, self.address = f"10.213.{net}.{low + 1}", f"10.213.{net}.{low + 2}"
        self.own6, self.address6 = f"fd13:{number:x}::1", f"fd13:{number:x}::2"
        self._started: list[subprocess.Popen[str]] = []

    def make(self) -> None:
        ip("netns", "add", self.namespace)
        ip("link", "add", self.device, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        inside = ("-n", self.namespace)
        for where, device, four, six in (
            ((), self.device, self.own, self.own6),
            (inside, "eth0", self.address, self.address6),
        ):
            ip(*where, "address", "add", f"{four}/30", "dev", device)
            ip(*where, "-6", "address", "add", f"{six}/64", "dev", device, "nodad")
            ip(*where, "link", "set", device, "up")
        ip(*inside, "link", "set", "lo", "up")

    def start(self, code: str, *words: str) -> subprocess.Popen[str]:
        """A Python program over there; its output is a pipe. It says something as soon as it is ready, if it serves."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, sys.executable, "-uc", code, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def serve(self, code: str, *words: str) -> subprocess.Popen[str]:
        """The same, once it has said "up"."""
        process = self.start(code, *words)
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        return process

    def __call__(self, code: str, *words: str) -> str:
        """Run a Python program over there to its end: what it printed."""
        process = self.start(code, *words)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0, out
        return out

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()
        subprocess.run(["ip", "link", "delete", self.device], capture_output=True, timeout=30, check=False)
        subprocess.run(["ip", "netns", "delete", self.namespace], capture_output=True, timeout=30, check=False)


def free_port() -> int:
    """A port of the host that nobody uses."""
    with socket.socket() as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


#: A server that answers each line in capitals, for as long as it lives: argv is its address and port.
ECHO = """
import socket, sys, threading
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.socket(family); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2]))); server.listen(64); print("up", flush=True)
def talk(link):
    with link, link.makefile("rwb") as lines:
        for line in lines:
            lines.write(line.upper()); lines.flush()
while True:
    link, where = server.accept()
    threading.Thread(target=talk, args=(link,), daemon=True).start()
"""

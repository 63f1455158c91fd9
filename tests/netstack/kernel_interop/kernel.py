"""The host kernel as the other end: a namespace with a tap in it, whose other end is a Stack in this very process.

Everything runs in one thread. Kernel sockets are made inside the namespace and used from here; whatever a test waits
for, it waits by `until`, which turns the stack's event loop meanwhile. Names are unique per test, and gone after it.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from services.netstackd.edge.loop import Loop
from services.netstackd.errors import NetError, WouldBlock
from services.netstackd.links.base import VnetLink
from services.netstackd.links.host_unsafe import entered
from services.netstackd.links.tap import open_tap
from services.netstackd.network.interface import ETHERNET, LOOPBACK, Interface
from services.netstackd.sockets import TcpSocket, open_socket
from services.netstackd.stack import Stack

_NUMBERS = itertools.count()
PATIENCE = 20.0
OURS = {4: "10.7.0.1", 6: "fd07::1"}
THEIRS = {4: "10.7.0.2", 6: "fd07::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Kernel:
    """A stack (10.7.0.1, fd07::1) and the kernel (10.7.0.2, fd07::2) on one link."""

    def __init__(self, offload: bool) -> None:
        self.netns = f"nsi{os.getpid()}x{next(_NUMBERS)}"
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self._sockets: list[socket.socket] = []
        self._processes: list[subprocess.Popen[str]] = []
        self.stack = Stack(random.Random(os.urandom(8)), os.urandom(32), time.monotonic_ns())
        self.loop = Loop(self.stack, time.monotonic_ns, self._broken)
        self.lo = self.stack.add_interface(Interface("lo", LOOPBACK, mtu=65536))
        self.stack.set_up(self.lo, True)
        self.run("ip", "link", "set", "lo", "up")
        for key in ("default", "all"):
            for setting in ("accept_dad=0", "router_solicitations=0"):
                self.run("sysctl", "-qw", f"net.ipv6.conf.{key}.{setting}")
        self.iface = self.attach("tap0", 1, offload)
        self.run("ip", "addr", "add", "10.7.0.2/24", "dev", "tap0")
        self.run("ip", "addr", "add", "fd07::2/64", "dev", "tap0", "nodad")
        self.address(self.iface, 4, "10.7.0.1", 24)
        self.address(self.iface, 6, "fd07::1", 64)

    def attach(self, device: str, number: int, offload: bool) -> Interface:
        """A new tap with an interface of the stack, up."""
        mac = bytes((2, 0, 0, 7, 0, number))
        link: VnetLink = open_tap(device, device, mac=mac, mtu=1500, netns=self.netns, offload=offload)
        iface = Interface(device, ETHERNET, mac, 1500, link.offload)
        iface.gso_max = 65535
        self.stack.add_interface(iface)
        self.loop.add_link(iface, link)
        self.stack.set_up(iface, True)
        return iface

    def address(self, iface: Interface, version: int, text: str, length: int, *, detect: bool = False) -> None:
        """An address of the stack."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        value = int.from_bytes(socket.inet_pton(family, text), "big")
        self.stack.add_address(iface, version, value, length, detect=detect)

    @staticmethod
    def _broken(link: object, iface: Interface) -> None:
        raise AssertionError(f"the link of {iface.name} broke")

    # -- the kernel's side --

    def run(self, *command: str) -> str:
        """A command in the namespace that needs nothing of the stack; its output."""
        done = subprocess.run(["ip", "netns", "exec", self.netns, *command], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def talk(self, *command: str) -> str:
        """A command in the namespace that speaks with the stack; its output."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.netns, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._processes.append(process)
        self.until(lambda: process.poll() is not None)
        out = process.communicate()[0]
        assert process.returncode == 0, f"{command}: {out}"
        return out

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A kernel socket in the namespace, non-blocking."""
        with entered(self.netns):
            made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        self._sockets.append(made)
        return made

    # -- time --

    def until(self, condition: Callable[[], bool]) -> None:
        """Turn the loop until the condition holds."""
        self.loop.flush(time.monotonic_ns())
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            self.loop.turn(0.005)

    def take(self, call: Callable[[], Any]) -> Any:
        """What `call` gives once it no longer would block."""
        got: list[Any] = []

        def ready() -> bool:
            try:
                got.append(call())
            except (BlockingIOError, WouldBlock):
                return False
            return True

        self.until(ready)
        return got[0]

    def close(self) -> None:
        """Take everything down."""
        for made in self._sockets:
            made.close()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.loop.close()
        subprocess.run(["ip", "netns", "del", self.netns], check=False)


def ip(text: str) -> int:
    """An address as the stack has it."""
    return int.from_bytes(socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text), "big")


def connected(kernel: Kernel, version: int, we_connect: bool) -> tuple[TcpSocket, socket.socket]:
    """A TCP connection between the stack and the kernel, whoever opens it: (our end, the kernel's)."""
    if we_connect:
        listener = kernel.socket(FAMILY[version], socket.SOCK_STREAM)
        listener.bind((THEIRS[version], 80))
        listener.listen()
        ours = open_socket(kernel.stack, FAMILY[version], socket.SOCK_STREAM)
        assert isinstance(ours, TcpSocket)
        with pytest.raises(NetError):
            ours.connect((ip(THEIRS[version]), 80, 0))
        theirs = kernel.take(listener.accept)[0]
    else:
        server = open_socket(kernel.stack, FAMILY[version], socket.SOCK_STREAM)
        assert isinstance(server, TcpSocket)
        server.bind((0, 80, 0))
        server.listen(5)
        theirs = kernel.socket(FAMILY[version], socket.SOCK_STREAM)
        assert theirs.connect_ex((OURS[version], 80)) == errno.EINPROGRESS
        ours = kernel.take(server.accept)
    theirs.setblocking(False)
    return ours, theirs


def exchange(kernel: Kernel, ours: TcpSocket, theirs: socket.socket, size: int) -> None:
    """`size` bytes each way at once, compared; then both close, the kernel's side first."""
    data = os.urandom(size)
    got_ours, got_theirs = bytearray(), bytearray()
    sent = [0, 0]

    def step() -> bool:
        try:
            if sent[0] < size:
                sent[0] += ours.send(data[sent[0] : sent[0] + 65536])
        except WouldBlock:
            pass
        try:
            if sent[1] < size:
                sent[1] += theirs.send(data[sent[1] : sent[1] + 65536])
        except BlockingIOError:
            pass
        try:
            got_ours.extend(ours.receive(1 << 20))
        except WouldBlock:
            pass
        try:
            got_theirs.extend(theirs.recv(1 << 20))
        except BlockingIOError:
            pass
        return len(got_ours) == len(got_theirs) == size

    kernel.until(step)
    assert bytes(got_ours) == data == bytes(got_theirs)
    theirs.shutdown(socket.SHUT_WR)
    assert kernel.take(lambda: ours.receive(1)) == b""
    ours.close()
    assert kernel.take(lambda: theirs.recv(1)) == b""

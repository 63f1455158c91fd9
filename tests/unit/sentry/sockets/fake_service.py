"""A socket service without a network, at the other end of a socketpair, on one thread: it serves when the Sentry waits.

`calls` keeps what was asked as (method, params). Answers are the plain ones unless `refuse` has an errno for the
method. The test says what happens in the network: `connect`, `accept`, `say`.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Callable
from typing import Any

from protocol.abi import in_h
from protocol.abi import rtnetlink_h as rt
from protocol.abi import socket_h as so
from protocol.netstack.messages import check_call_untrusted
from protocol.rings import DATA, Consumer, Producer, mapping_bytes
from protocol.rpc import codec
from services.sentry.edge.host_poll import HostPoll
from services.sentry.kernel.kernel import Kernel
from services.sentry.sockets.inet.netstack.channel_unsafe import Channel
from services.sentry.sockets.inet.netstack.provider import NetstackProvider
from services.sentry.sockets.inet.network import InetNetwork
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.files.fake_tasks import Guest

OWN = bytes((10, 0, 2, 15))
OWN6 = bytes.fromhex("fd000000000000020000000000000015")
PEER = bytes((93, 184, 216, 34))
GATEWAY = bytes((10, 0, 2, 2))
MAC = bytes((2, 0, 0, 0, 0, 15))


def snapshot(**changes: Any) -> dict[str, Any]:
    route = {"table": 254, "source": None, "type": rt.RTN_UNICAST, "metric": 0, "gateway": None, "interface": 2}
    made: dict[str, Any] = {
        "interfaces": [
            {
                "index": 2,
                "name": "eth0",
                "kind": rt.ARPHRD_ETHER,
                "flags": rt.IFF_UP | rt.IFF_BROADCAST | rt.IFF_RUNNING | rt.IFF_MULTICAST | rt.IFF_LOWER_UP,
                "mtu": 1500,
                "mac": MAC,
                "addresses": [
                    [OWN, 24, rt.RT_SCOPE_UNIVERSE, rt.IFA_F_PERMANENT, bytes((10, 0, 2, 255))],
                    [OWN6, 64, rt.RT_SCOPE_UNIVERSE, rt.IFA_F_PERMANENT, None],
                    [bytes.fromhex("fe80") + bytes(13) + b"\x15", 64, rt.RT_SCOPE_LINK, rt.IFA_F_PERMANENT, None],
                ],
            }
        ],
        "routes": [
            route
            | {"destination": bytes(4), "length": 0, "gateway": GATEWAY, "metric": 100}
            | {"scope": rt.RT_SCOPE_UNIVERSE, "protocol": rt.RTPROT_BOOT},
            route
            | {"destination": bytes((10, 0, 2, 0)), "length": 24, "source": OWN}
            | {"scope": rt.RT_SCOPE_LINK, "protocol": rt.RTPROT_KERNEL},
            route
            | {"destination": OWN6[:8] + bytes(8), "length": 64, "metric": 256}
            | {"scope": rt.RT_SCOPE_UNIVERSE, "protocol": rt.RTPROT_KERNEL},
            route
            | {"destination": bytes(16), "length": 0, "gateway": OWN6[:15] + b"\2", "metric": 1024}
            | {"scope": rt.RT_SCOPE_UNIVERSE, "protocol": rt.RTPROT_BOOT},
        ],
        "names": ["sandbox.test"],
        "servers": [bytes((10, 0, 2, 3))],
    }
    return made | changes


class Rings:
    """The service's side of a stream's rings. `delivered`: what it answered."""

    def __init__(self, fd: int, rx: int, tx: int) -> None:
        memory = memoryview(mmap.mmap(fd, mapping_bytes(rx, tx)))
        os.close(fd)
        self.memory = memory
        self.out = Producer(memory, 0, DATA, rx)
        self.came = Consumer(memory, 1, DATA + rx, tx)

    def take(self, limit: int = 1 << 30) -> bytes:
        """What the guest has sent."""
        count = min(self.came.used(), limit)
        data = b"".join(self.came.pieces(count))
        self.came.consumed(count)
        return data


class Service:
    """One connection's other end. sockets: id -> our end of its data socket; ids: in the order of `open`."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.fd = theirs.detach()
        self.calls: list[tuple[str, list[Any]]] = []
        self.refuse: dict[str, int] = {}
        self.answers: dict[str, Any] = {}
        self.data: dict[int, socket.socket] = {}
        self.rings: dict[int, Rings] = {}
        self.delivered = 0  # what `rings` answers
        self.families: dict[int, tuple[int, int, int]] = {}
        self.snapshot = snapshot()
        self.silent = False
        self.about_to_serve: Callable[[], None] = lambda: None
        self._decoder = codec.Decoder()
        self._next = 0x80000000

    # --- what is asked ---
    def serve(self) -> None:
        self.about_to_serve()
        while not self.silent and self.ours.fileno() >= 0:
            try:
                data, fds, _, _ = socket.recv_fds(self.ours, 1 << 16, 16)
            except BlockingIOError:
                return
            if not data:
                return
            self._decoder.feed(data, fds)
            for message in self._decoder.messages_untrusted():
                assert not isinstance(message, codec.Response)
                params = list(message.params)
                check_call_untrusted(message.method, params)
                self.calls.append((message.method, params))
                number = message.msgid if isinstance(message, codec.Request) else None
                self._answer(number, message.method, params)

    def _answer(self, number: int | None, method: str, params: list[Any]) -> None:
        if method in self.refuse:
            refused = self.refuse[method]
            if number is not None:
                self._send(codec.Response(number, [refused, "no"], None))
            else:
                self._send(codec.Notification("error", [params[0], refused]))
            return
        result: Any = self.answers.get(method)
        if method == "network":
            result = self.snapshot
        elif method == "open":
            self.families[params[0]] = tuple(params[1:])
            if params[2] != so.SOCK_STREAM:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                result = codec.Fd(self._keep(params[0], ours, theirs))
        elif method in ("bind", "listen"):
            result = [b"", 0, 0]
        elif method == "rings":
            self.rings[params[0]] = Rings(params[4].number, params[1], params[2])
            result = self.delivered
        if number is not None:
            self._send(codec.Response(number, None, result))
        if isinstance(result, codec.Fd):
            os.close(result.number)

    def _keep(self, number: int, ours: socket.socket, theirs: socket.socket) -> int:
        ours.setblocking(False)
        theirs.setblocking(False)
        self.data[number] = ours
        return theirs.detach()

    def _send(self, message: codec.Message) -> None:
        data, fds = codec.encode(message)
        if fds:
            socket.send_fds(self.ours, [data], fds)
        else:
            self.ours.sendall(data)

    def asked(self, *methods: str) -> list[tuple[str, list[Any]]]:
        """What was asked since the last time, of these methods (all but `hint` by default), and forget it."""
        self.serve()
        calls, self.calls = self.calls, []
        return [call for call in calls if (call[0] in methods if methods else call[0] != "hint")]

    # --- what happens ---
    def say(self, method: str, *params: Any) -> None:
        self._send(codec.Notification(method, list(params)))

    def connect(self, number: int, local: Any, remote: Any) -> socket.socket:
        """`number` is connected; our end of its data."""
        ours, theirs = socket.socketpair()
        fd = self._keep(number, ours, theirs)
        self.say("connected", number, list(local), list(remote), codec.Fd(fd))
        os.close(fd)
        return ours

    def accept(self, listener: int, local: Any, remote: Any) -> tuple[int, socket.socket]:
        number, self._next = self._next, self._next + 1
        ours, theirs = socket.socketpair()
        fd = self._keep(number, ours, theirs)
        self.say("accepted", listener, number, list(local), list(remote), codec.Fd(fd))
        os.close(fd)
        return number, ours

    def close(self) -> None:
        self.ours.close()
        for ours in self.data.values():
            ours.close()


class ServedChannel(Channel):
    """Whoever waits on it lets the service run."""

    __slots__ = ("service",)

    def __init__(self, fd: int, service: Service) -> None:
        super().__init__(fd)
        self.service = service

    def wait(self, *, writing: bool, timeout_ns: int) -> bool:
        if self.service.silent:
            return False
        self.service.serve()
        return super().wait(writing=writing, timeout_ns=0)


#: Every guest of a test that runs; conftest.py ends them.
GUESTS: list[FarGuest] = []


class FarGuest(Guest):
    """A guest whose network is a fake service's. Addresses are (port, bytes)."""

    def __init__(self, kernel: Kernel | None = None, *, shared: bool = False, rings: bool = True) -> None:
        super().__init__(kernel)
        self.kernel.host_poll = HostPoll()
        self.services = [self.new_service()]
        self.provider = NetstackProvider(self.kernel.part(InetNetwork), lambda fd: ServedChannel(fd, self.services[-1]))
        GUESTS.append(self)
        self.service.answers["hello"] = {"version": 1, "namespace": "fake", "shared": shared, "rings": rings}
        self.provider.join(self.service.fd)
        self.service.calls.clear()

    def new_service(self) -> Service:
        """One that hears what the guest's Sentry has put off."""
        service = Service()
        service.about_to_serve = self.kernel.host_poll.run_deferred
        return service

    def end(self) -> None:
        """Give all descriptors back."""
        for fd, _ in list(self.task.files.items()):
            self.close(fd)
        if self.provider.client is not None:
            self.provider.client.end()
        for service in self.services:
            service.close()

    @property
    def service(self) -> Service:
        return self.services[-1]

    def restart(self) -> None:
        """The service dies and a new one takes its place."""
        self.service.close()
        self.news()
        self.services.append(self.new_service())
        self.provider.restarted(self.service.fd)

    def news(self) -> None:
        """What the host has to tell arrives."""
        self.service.serve()
        while self.kernel.host_poll.dispatch():
            self.service.serve()

    # --- calls ---
    def forget_memory(self) -> None:
        """Nothing that was put into the guest's memory is needed any more."""
        self.next = 8192

    def socket(self, kind: int = so.SOCK_STREAM, flags: int = 0, domain: int = so.AF_INET, protocol: int = 0) -> int:
        made = self.call(sk.sys_socket, domain, kind | flags, protocol)
        assert made is not None and made >= 0, made
        return made

    def file(self, fd: int) -> Any:
        return self.task.files.get(fd)

    def name(self, port: int, address: bytes = PEER, scope: int = 0) -> tuple[int, int]:
        if len(address) == 4:
            raw = in_h.SOCKADDR_IN.pack(so.AF_INET, port.to_bytes(2, "big"), address)
        else:
            raw = in_h.SOCKADDR_IN6.pack(so.AF_INET6, port.to_bytes(2, "big"), bytes(4), address, scope)
        return self.put(raw), len(raw)

    def bind(self, fd: int, port: int, address: bytes = bytes(4)) -> int | None:
        return self.call(sk.sys_bind, fd, *self.name(port, address))

    def connect(self, fd: int, port: int = 80, address: bytes = PEER) -> int | None:
        return self.call(sk.sys_connect, fd, *self.name(port, address))

    def send(self, fd: int, data: bytes, flags: int = 0, to: tuple[int, bytes] | None = None) -> int | None:
        name = self.name(*to) if to is not None else (0, 0)
        return self.call(sk.sys_sendto, fd, self.put(data), len(data), flags, *name)

    def receive(self, fd: int, count: int, flags: int = 0) -> bytes | int | None:
        """What came; a negative errno; None: it waits."""
        at = self.alloc(count)
        got = self.call(sk.sys_recvfrom, fd, at, count, flags, 0, 0)
        return self.get(at, got) if got is not None and got >= 0 else got

    def option(self, fd: int, level: int, name: int, value: int | bytes) -> int | None:
        raw = value.to_bytes(4, "little", signed=True) if isinstance(value, int) else value
        return self.call(sk.sys_setsockopt, fd, level, name, self.put(raw), len(raw))

    def poll(self, fd: int) -> int:
        return int(self.file(fd).poll())

    def close(self, fd: int) -> None:
        self.task.files.close(fd, self.task)

    def connected(self, flags: int = 0) -> tuple[int, socket.socket, int]:
        """A connection to PEER: (guest's descriptor, the service's end of its data, the id)."""
        fd = self.socket(flags=flags)
        self.service.asked()
        result = self.connect(fd)
        opened = [call for call in self.service.asked() if call[0] == "open"]
        number = opened[0][1][0]
        file = self.file(fd)
        ours = self.service.connect(number, [OWN, file.local_port, 0], [PEER, 80, 0])
        self.news()
        if result is None:
            assert self.wake() == 0
        return fd, ours, number

    def listening(self, port: int = 8080, backlog: int = 5, domain: int = so.AF_INET) -> tuple[int, int]:
        """(descriptor, id) of a listener on the wildcard."""
        fd = self.socket(domain=domain)
        self.service.asked()
        assert self.bind(fd, port, bytes(4 if domain == so.AF_INET else 16)) == 0
        assert self.call(sk.sys_listen, fd, backlog) == 0
        return fd, next(call[1][0] for call in self.service.asked("open"))

"""A netstackd that moves no packet: the control methods and the socket service's first two, told as a story.

As the services of a network it stands in for netstackd (`run_in_child`), the connector (`run_connector`) and the host
network's broker. A published TCP socket that was handed over answers every connection with the name of its namespace.
"""

from __future__ import annotations

import array
import os
import select
import socket
from typing import Any, NoReturn

from protocol.control.msgpack_subset import Unpacker, pack_with_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Connection:
    """A MessagePack-RPC connection that answers by `serve(method, params)`, which returns or raises OSError."""

    def __init__(self, sock: socket.socket, serve: Callable[[str, list[Any]], object]) -> None:
        self.sock = sock
        self._serve = serve
        self._unpacker = Unpacker(fds=True)

    def send(self, message: object) -> None:
        data, fds = pack_with_fds(message)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], rights)

    def receive(self) -> bool:
        data, ancillary, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(256))
        fds = array.array("i")
        for _, _, payload in ancillary:
            fds.frombytes(payload)
        self._unpacker.feed(data, fds)
        while (value := self._unpacker.next_untrusted()) is not Unpacker.NOTHING:
            if value[0] == 0:
                try:
                    self.send([1, value[1], None, self._serve(value[2], value[3])])
                except OSError as error:
                    self.send([1, value[1], [error.errno, error.strerror], None])
        return bool(data)


class FakeNetstackd:
    """Turns until its keeper hangs up. names: namespaces that clients have; a client is in the one it was added to."""

    def __init__(self, channel: socket.socket, listener: socket.socket | None) -> None:
        self._readers: dict[int, Callable[[], object]] = {}
        self._names: dict[str, int] = {}
        self._kept: list[object] = []
        self._keeper = Connection(channel, self._control)
        self._watch(channel, lambda: self._keeper.receive() or os._exit(0))
        if listener is not None:
            self._watch(listener, lambda: self._client(listener.accept()[0], self._control))

    def run(self) -> NoReturn:
        self._keeper.send([0, 1, "connector", []])
        self._keeper.send([2, "ready", []])
        while True:
            ready, _, _ = select.select(list(self._readers), [], [])
            for fd in ready:
                if fd in self._readers:
                    self._readers[fd]()

    def _watch(self, sock: socket.socket, reader: Callable[[], object]) -> None:
        self._kept.append(sock)
        self._readers[sock.fileno()] = reader

    def _client(
        self, sock: socket.socket, serve: Callable[[str, list[Any]], object], gone: Callable[[], object] | None = None
    ) -> None:
        connection = Connection(sock, serve)

        def read() -> None:
            try:
                alive = connection.receive()
            except OSError:
                alive = False
            if not alive:
                del self._readers[sock.fileno()]
                sock.close()
                if gone is not None:
                    gone()

        self._watch(sock, read)

    def _control(self, method: str, params: list[Any]) -> object:
        if method == "namespace_add":
            name, about = params
            if name in self._names:
                raise OSError(17, f"namespace {name}: there is one of this name already")
            number = self._names[name] = 15 + len(self._names)
            serve = lambda asked, _params: self._service(name, asked)  # noqa: E731
            self._client(socket.socket(fileno=about["connection"].number), serve, lambda: self._names.pop(name))
            address = f"10.0.2.{number}/24"
            return {"addresses": about.get("addresses", [address]), "gateway": ["10.0.2.2"], "servers": ["10.0.2.3"]}
        if method == "publish":
            about = params[0]
            sock = socket.socket(fileno=about["socket"].number)
            if about["guest_port"] == 666:
                raise OSError(1, "port 666 is the fake's")
            text = f"{about['namespace']}:{about['guest_port']}/{about['protocol']}\n".encode()
            self._watch(sock, lambda: sock.accept()[0].sendall(text))
            return None
        if method == "drain":
            return True
        if method == "namespaces":
            return sorted(self._names)
        raise OSError(38, method)

    def _service(self, name: str, method: str) -> object:
        if method == "hello":
            return {"version": 1, "namespace": name}
        return {"interfaces": [], "routes": [], "names": [], "servers": [], "pid": os.getpid()}


def run_in_child(
    channel: socket.socket, listener: socket.socket | None, text: str, *, seal: bool, confine: Callable[[], None]
) -> NoReturn:
    """The contract of services.netstackd.supervised.run_in_child."""
    confine()
    FakeNetstackd(channel, listener).run()


def run_connector(
    channel: socket.socket, text: str, *, seal: bool, confine: Callable[[], None], ready_fd: int
) -> NoReturn:
    """The contract of services.netstackd.supervised.run_connector. A word from netstackd never comes."""
    confine()
    os.write(ready_fd, b"R")
    os.close(ready_fd)
    channel.recv(1)
    os._exit(0)

"""`connect_to` and what it gives: a network whose sockets one opens."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import PathLike, fspath
from typing import Any

import anyio

from protocol.netstack import messages as m
from sentrio.net._addresses import Host, resolve
from sentrio.net._connection import Connection, failure
from sentrio.net._datagrams import ConnectedUDPSocket, UDPSocket
from sentrio.net._streams import Connecting, TCPListener, TCPStream


class Network:
    """A namespace of a netstackd. `name`: which ("root": the router's own)."""

    def __init__(self, connection: Connection, name: str) -> None:
        """For `connect_to` alone."""
        self._connection = connection
        self.name = name

    async def connect_tcp(self, remote_host: Host, remote_port: int, *, local_host: Host | None = None) -> TCPStream:
        """Connect; a name's addresses are tried one after the other. OSError: why the last one failed."""
        problem: OSError = failure(errno.ENETUNREACH)
        for family, address in await resolve(remote_host, remote_port):
            source = None
            if local_host is not None:
                source = next((own for kind, own in await resolve(local_host, 0) if kind == family), None)
                if source is None:
                    continue
            try:
                return await Connecting(self._connection).connect(family, address, source)
            except OSError as error:
                problem = error
        raise problem

    async def listen_tcp(
        self, *, local_host: Host = "", local_port: int = 0, backlog: int = 128, reuse_port: bool = False
    ) -> TCPListener:
        """Listen; without a host on every address of both versions. OSError."""
        family, address = (await resolve(local_host, local_port, passive=True))[0]
        listener = TCPListener(self._connection)
        await listener.open(family, address, backlog, reuse_port)
        return listener

    async def create_udp(self, *, local_host: Host = "", local_port: int = 0) -> UDPSocket:
        """A UDP socket; without a host it has every address of both versions. OSError."""
        family, address = (await resolve(local_host, local_port, passive=True))[0]
        made = UDPSocket(self._connection)
        await made.open(family, address, None)
        return made

    async def create_connected_udp(self, remote_host: Host, remote_port: int) -> ConnectedUDPSocket:
        """A UDP socket with one peer. OSError."""
        family, address = (await resolve(remote_host, remote_port))[0]
        made = ConnectedUDPSocket(self._connection)
        await made.open(family, None, address)
        return made

    async def snapshot(self) -> dict[str, Any]:
        """Interfaces, addresses, routes and DNS servers; protocol/netstack/messages.py has the shape. OSError."""
        result = await self._connection.call("network")
        m.check_snapshot_untrusted(result)
        made: dict[str, Any] = result
        return made


@asynccontextmanager
async def connect_to(path: str | PathLike[str], namespace: str | None = None) -> AsyncIterator[Network]:
    """Connect to the socket service of a netstackd. Sockets that are open at the end are closed, as those of a process
    that ends.

    namespace: fail (PermissionError) when the connection is for another one. OSError: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    connection = Connection(sock)
    try:
        while True:
            try:
                sock.connect(fspath(path))
                break
            except BlockingIOError:  # its queue of connections is full (unix(7))
                await anyio.sleep(0.01)
        problem: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection.run)
            try:
                answer = await connection.call("hello", m.VERSION, namespace)
                yield Network(connection, answer["namespace"])
            except Exception as raised:  # what the caller raised is to come out as it is, not as a group
                problem = raised
            tasks.cancel_scope.cancel()
        if problem is not None:
            raise problem
    finally:
        connection.close()

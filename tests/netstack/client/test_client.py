"""sentrio.net, from asyncio and from trio: over two netstackds joined by a unix link, and against the host's kernel."""

from __future__ import annotations

import errno
import os
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute

import sentrio.net
from services.netstackd.errors import NetError
from tests.netstack.networks import Router, World

LINK = """
[[interface]]
name = "wire"
kind = "unix"
path = "{path}/link"
framing = "seqpacket"
vnet = true
listen = {listen}
addresses = ["10.7.0.{host}/24", "fd00:7::{host}/64"]
dad_transmits = 0
[sockets]
listen = "{path}/sockets{host}"
"""

Main = Callable[[sentrio.net.Network, sentrio.net.Network], Awaitable[None]]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """What the program under test runs on."""
    return str(request.param)


class Two:
    """Two netstackds, 10.7.0.1 and 10.7.0.2."""

    def __init__(self, world: World) -> None:
        self.path = world.path
        self.routers: list[Router] = []
        for host, listen in (1, "true"), (2, "false"):
            config = LINK.format(path=world.path, host=host, listen=listen)
            self.routers.append(world.router(config, name=f"router{host}"))

    def run(self, backend: str, main: Main) -> None:
        """`main(network of the first, network of the second)`"""

        async def both() -> None:
            with anyio.fail_after(30):
                async with sentrio.net.connect_to(self.path / "sockets1") as one:
                    async with sentrio.net.connect_to(self.path / "sockets2") as two:
                        await main(one, two)

        anyio.run(both, backend=backend)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Processes and namespaces of one test."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """See Two; one for all tests that leave both running."""
    shared = World(tmp_path_factory.mktemp("two"))
    yield Two(shared)
    shared.close()


def test_streams_carry_bytes_both_ways_and_end_with_a_fin(two: Two, backend: str) -> None:
    data = os.urandom(2_000_000)

    async def main(one: sentrio.net.Network, other: sentrio.net.Network) -> None:
        async def serve(stream: sentrio.net.TCPStream) -> None:
            async with stream:
                got = bytearray()
                async for chunk in stream:
                    got += chunk
                await stream.send(bytes(reversed(got)))

        assert one.name == "root"
        for host in ("10.7.0.1", "fd00:7::1"):
            async with await one.listen_tcp(local_port=80 if ":" in host else 81) as listener:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(listener.serve, serve, tasks)
                    port = listener.extra(SocketAttribute.local_port)
                    async with await other.connect_tcp(host, port) as stream:
                        assert stream.extra(SocketAttribute.remote_address) == (host, port)
                        assert stream.extra(SocketAttribute.local_address)[0] == host[:-1] + "2"
                        await stream.send(data)
                        await stream.send_eof()
                        got = bytearray()
                        async for chunk in stream:
                            got += chunk
                        assert got == bytes(reversed(data))
                    tasks.cancel_scope.cancel()

    two.run(backend, main)


def test_errors_are_those_of_the_socket_api(two: Two, backend: str) -> None:
    async def main(one: sentrio.net.Network, other: sentrio.net.Network) -> None:
        with pytest.raises(ConnectionRefusedError):
            await other.connect_tcp("10.7.0.1", 9)
        with pytest.raises(OSError, match="unreachable") as refused:
            await other.connect_tcp("192.0.2.1", 9)
        assert refused.value.errno == errno.ENETUNREACH
        async with await one.listen_tcp(local_host="10.7.0.1", local_port=80) as listener:
            with pytest.raises(OSError) as refused:
                await one.listen_tcp(local_host="10.7.0.1", local_port=80)
            assert refused.value.errno == errno.EADDRINUSE
            stream = await other.connect_tcp("10.7.0.1", 80)
            accepted = await listener.accept()
            await accepted.send(b"never read")
            await anyio.wait_readable(stream._data.extra(SocketAttribute.raw_socket))
            await stream.aclose()  # with unread data: a reset
            with pytest.raises(anyio.BrokenResourceError) as broken:
                await accepted.receive()
            assert isinstance(broken.value.__cause__, ConnectionResetError)
            with pytest.raises(anyio.BrokenResourceError):
                await accepted.send(b"x")
            await accepted.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await accepted.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await listener.accept()

    two.run(backend, main)


def test_cancelled_operations_leave_nothing_behind(two: Two, backend: str) -> None:
    async def main(one: sentrio.net.Network, other: sentrio.net.Network) -> None:
        with anyio.move_on_after(0.2) as scope:
            await other.connect_tcp("10.7.0.99", 80)  # nobody answers
        assert scope.cancelled_caught
        async with await one.listen_tcp(local_port=80) as listener:
            with anyio.move_on_after(0.1):
                await listener.accept()
            async with await other.connect_tcp("10.7.0.1", 80) as stream, await listener.accept() as accepted:
                with anyio.move_on_after(0.1):
                    await accepted.receive()
                await stream.send(b"later")
                assert await accepted.receive() == b"later"

    two.run(backend, main)
    assert "SYN" not in two.routers[1].ctl("ss").out


def test_reader_that_is_slow_holds_the_writer(two: Two, backend: str) -> None:
    async def main(one: sentrio.net.Network, other: sentrio.net.Network) -> None:
        async with await one.listen_tcp(local_port=80) as listener:
            async with await other.connect_tcp("10.7.0.1", 80) as stream, await listener.accept() as accepted:
                total = 0
                with anyio.move_on_after(1):
                    while True:
                        await stream.send(bytes(100_000))
                        total += 100_000
                assert 100_000 <= total < 40_000_000
                got = 0
                while got < total:
                    got += len(await accepted.receive(1 << 20))

    two.run(backend, main)


def test_options_and_information(two: Two, backend: str) -> None:
    async def main(one: sentrio.net.Network, other: sentrio.net.Network) -> None:
        async with await one.listen_tcp(local_port=80) as listener:
            async with await other.connect_tcp("10.7.0.1", 80) as stream, await listener.accept():
                await stream.set_option(6, 1, 1)
                assert await stream.get_option(6, 1) == 1
                assert (await stream.get_option(6, 11))["state"] == 1
                with pytest.raises(OSError) as refused:
                    await stream.set_option(6, 4711, 1)
                assert refused.value.errno == errno.ENOPROTOOPT
        assert [iface["name"] for iface in (await one.snapshot())["interfaces"]] == ["wire"]

    two.run(backend, main)


def test_datagrams(two: Two, backend: str) -> None:
    async def main(one: sentrio.net.Network, other: sentrio.net.Network) -> None:
        async with await one.create_udp(local_port=53) as server:
            async with await other.create_connected_udp("10.7.0.1", 53) as client:
                await client.send(b"question")
                data, (host, port) = await server.receive()
                assert (data, host) == (b"question", "10.7.0.2")
                await server.sendto(b"answer", host, port)
                assert await client.receive() == b"answer"
                assert client.extra(SocketAttribute.remote_address) == ("10.7.0.1", 53)
        async with await other.create_connected_udp("10.7.0.1", 54) as client:
            await client.send(b"nobody")
            with pytest.raises(ConnectionRefusedError):
                await client.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await client.send(b"x")

    two.run(backend, main)


def test_router_that_dies_breaks_streams_with_a_reset(world: World, backend: str) -> None:
    two = Two(world)

    async def main(one: sentrio.net.Network, other: sentrio.net.Network) -> None:
        async with await one.listen_tcp(local_port=80) as listener:
            async with await other.connect_tcp("10.7.0.1", 80) as stream, await listener.accept():
                os.kill(two.routers[1].child(), signal.SIGKILL)
                with pytest.raises(anyio.BrokenResourceError) as broken:
                    await stream.receive()
                assert isinstance(broken.value.__cause__, ConnectionResetError)
                with pytest.raises(ConnectionResetError):
                    await other.connect_tcp("10.7.0.1", 80)

    two.run(backend, main)


def test_what_the_caller_raises_comes_out_as_it_is(two: Two, backend: str) -> None:
    async def main(one: sentrio.net.Network, other: sentrio.net.Network) -> None:
        raise NetError(1, "mine")

    with pytest.raises(NetError):
        two.run(backend, main)


def test_nobody_there(tmp_path: Path, backend: str) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            async with sentrio.net.connect_to(tmp_path / "nothing"):
                pass

    anyio.run(main, backend=backend)


ECHO = """
import socket
sock = socket.create_server(("10.8.0.2", 80))
print("listening", flush=True)
while True:
    peer, _ = sock.accept()
    while data := peer.recv(65536):
        peer.sendall(data)
    peer.close()
"""


def test_the_hosts_kernel_is_an_ordinary_peer(world: World, backend: str) -> None:
    namespace = world.namespace()
    world.router(
        f"""[[interface]]
name = "out"
kind = "tap"
netns = "{namespace}"
addresses = ["10.8.0.1/24"]
[sockets]
listen = "{world.path}/sockets"
"""
    )
    world.host(namespace, "out", "10.8.0.2/24")
    echo = world.start(namespace, sys.executable, "-c", ECHO)
    assert echo.stdout is not None
    assert echo.stdout.readline() == "listening\n"
    data = os.urandom(3_000_000)

    async def main() -> None:
        with anyio.fail_after(30):
            async with sentrio.net.connect_to(world.path / "sockets") as network:
                async with await network.connect_tcp("10.8.0.2", 80) as stream:

                    async def send() -> None:
                        await stream.send(data)
                        await stream.send_eof()

                    got = bytearray()
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(send)
                        async for chunk in stream:
                            got += chunk
                    assert got == data

    anyio.run(main, backend=backend)


def test_streams_pass_for_anyios_own_in_tls(two: Two, backend: str) -> None:
    """What takes an anyio byte stream takes ours: a TLS handshake begins, and fails for want of a certificate."""
    from anyio.streams.tls import TLSStream

    async def main(one: sentrio.net.Network, other: sentrio.net.Network) -> None:
        async with await one.listen_tcp(local_port=443) as listener:
            async with await other.connect_tcp("10.7.0.1", 443) as stream, await listener.accept() as accepted:
                seen: list[bytes] = []

                async def server() -> None:
                    seen.append(await accepted.receive())
                    await accepted.send(b"HTTP/1.0 400 not TLS\r\n")

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(server)
                    with pytest.raises(ssl.SSLError):
                        await TLSStream.wrap(stream, hostname="x", ssl_context=ssl.create_default_context())
                assert seen[0][:2] == b"\x16\x03"

    two.run(backend, main)

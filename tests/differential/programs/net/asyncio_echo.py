# timeout=60
"""asyncio's streams, datagrams, servers and executors over the loopback: many clients, cancellation, time limits."""

import asyncio
import socket

HOST = "127.0.0.1"


async def echo(reader, writer):
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()


async def client(port, number, host=HOST):
    reader, writer = await asyncio.open_connection(host, port)
    total = 0
    for size in (1, 100, 5000, 70_000):
        message = bytes([number % 256]) * size
        writer.write(message)
        assert await reader.readexactly(size) == message
        total += size
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    return total


class Mirror(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data[::-1], address)


class Collector(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = asyncio.Queue()

    def datagram_received(self, data, address):
        self.got.put_nowait(data)

    def error_received(self, error):
        self.got.put_nowait(type(error).__name__)


async def main():
    server = await asyncio.start_server(echo, HOST, 0, backlog=50)
    port = server.sockets[0].getsockname()[1]
    print(sum(await asyncio.gather(*(client(port, number) for number in range(30)))))
    six = await asyncio.start_server(echo, "::1", 0)
    print(await client(six.sockets[0].getsockname()[1], 3, "::1"))
    both = await asyncio.start_server(echo, None, 0, family=socket.AF_UNSPEC)
    print(sorted(made.family.name for made in both.sockets))
    print(await client(port, 1, "localhost"))

    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        await asyncio.wait_for(reader.read(1), 0.05)
    except asyncio.TimeoutError:
        print("nothing came")
    writer.close()
    server.close()
    await server.wait_closed()
    try:
        await asyncio.open_connection(HOST, port)
    except ConnectionRefusedError:
        print("refused")

    loop = asyncio.get_running_loop()
    mirror, _ = await loop.create_datagram_endpoint(Mirror, (HOST, 0))
    ask, collector = await loop.create_datagram_endpoint(Collector, remote_addr=mirror.get_extra_info("sockname"))
    for number in range(5):
        ask.sendto(b"message %d" % number)
    print(sorted([await collector.got.get() for _ in range(5)]))
    mirror.close()
    await asyncio.sleep(0.05)
    ask.sendto(b"nobody")
    print(await asyncio.wait_for(collector.got.get(), 5))
    ask.close()
    print(await loop.run_in_executor(None, sum, range(10)))
    print([found[4][0] for found in await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)])


asyncio.run(main())

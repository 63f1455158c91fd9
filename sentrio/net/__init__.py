"""Sockets of a netstackd, for asyncio and trio programs (by anyio).

    async with sentrio.net.connect_to("/run/netstackd/sockets") as network:
        stream = await network.connect_tcp("10.0.2.15", 80)
        await stream.send(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print(await stream.receive())

The path is what the configuration of netstackd says as `sockets.listen`; docs/NETSTACK.md has an example. Streams,
listeners and UDP sockets are shaped like anyio's own (anyio.abc): what takes a byte stream or a listener of those takes
ours, TLS and all. Operations that fail raise OSError as the socket API would; a connection that is lost raises
anyio.BrokenResourceError, with the OSError as its cause.
"""

from __future__ import annotations

from sentrio.net._datagrams import ConnectedUDPSocket, UDPSocket
from sentrio.net._network import Network, connect_to
from sentrio.net._streams import TCPListener, TCPStream

__all__ = ["ConnectedUDPSocket", "Network", "TCPListener", "TCPStream", "UDPSocket", "connect_to"]

"""Sockets over netstackd: the provider for every address that is not this host's own (protocol/netstack).

`client.py` is the conversation on the control connection, `provider.py` the network behind it (interfaces, routes,
which socket is which id), `streams.py`, `datagrams.py` and `packets.py` what stands for a socket there. Imported only
by a sandbox that has a network: `attach`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel

__all__ = ["attach"]


def attach(kernel: Kernel, fd: int) -> None:
    """Give `kernel` the network that the socket service at the other end of `fd` has; waits until it answers.

    OSError: it does not, or not as protocol/netstack says. Sets `kernel.network_restarted`, which takes the descriptor
    of a connection to the service's successor.
    """
    from services.sentry.sockets.inet.netstack.provider import NetstackProvider
    from services.sentry.sockets.inet.network import InetNetwork

    provider = NetstackProvider(kernel.part(InetNetwork))
    provider.join(fd)
    kernel.network_restarted = provider.restarted

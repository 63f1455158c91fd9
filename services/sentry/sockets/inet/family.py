"""The AF_INET and AF_INET6 rows of the family registry: which class serves which type and protocol (socket(2))."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.abi import capability_h as ca
from protocol.abi import in_h
from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet.network import InetNetwork
from services.sentry.sockets.inet.tcp import TcpSocket
from services.sentry.sockets.inet.udp import UdpSocket

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.sockets.inet.endpoint import InetSocket

__all__ = ["creator"]

_MAX_PROTOCOL: Final = 262  # IPPROTO_MAX - 1
_PING: Final = {so.AF_INET: in_h.IPPROTO_ICMP, so.AF_INET6: in_h.IPPROTO_ICMPV6}


def creator(domain: int) -> Callable[[Task, int, int, int], InetSocket]:
    """The `create` of `domain`'s row.

    EINVAL: a protocol number beyond all; ESOCKTNOSUPPORT: the type; EPROTONOSUPPORT: the protocol, for this type;
    EPERM: SOCK_RAW without CAP_NET_RAW. A sandbox that has the loopback alone has no raw sockets (ESOCKTNOSUPPORT) and
    gives ICMP sockets to nobody (EACCES, as net.ipv4.ping_group_range says); with a network everybody may ping.
    """

    def create(task: Task, kind: int, protocol: int, flags: int) -> InetSocket:
        if not 0 <= protocol <= _MAX_PROTOCOL:
            raise LinuxError(errno.EINVAL)
        if kind == so.SOCK_STREAM:
            if protocol not in (0, in_h.IPPROTO_TCP):
                raise LinuxError(errno.EPROTONOSUPPORT)
            return TcpSocket(task.kernel, task.cred, task.kernel.part(InetNetwork), domain, flags)
        if kind == so.SOCK_DGRAM:
            if protocol == _PING[domain]:
                return _ping_socket(task, domain, flags)
            if protocol not in (0, in_h.IPPROTO_UDP):
                raise LinuxError(errno.EPROTONOSUPPORT)
            return UdpSocket(task.kernel, task.cred, task.kernel.part(InetNetwork), domain, flags)
        if kind == so.SOCK_RAW:
            if not protocol:
                raise LinuxError(errno.EPROTONOSUPPORT)
            if not task.cred.has_cap(ca.CAP_NET_RAW):
                raise LinuxError(errno.EPERM)
            return _raw_socket(task, domain, flags, protocol)
        raise LinuxError(errno.ESOCKTNOSUPPORT)

    return create


def _ping_socket(task: Task, domain: int, flags: int) -> InetSocket:
    """EACCES: there is nothing to ping."""
    network = task.kernel.part(InetNetwork)
    if network.makers is None:
        raise LinuxError(errno.EACCES)
    return network.makers.ping(task.kernel, task.cred, network, domain, flags)


def _raw_socket(task: Task, domain: int, flags: int, protocol: int) -> InetSocket:
    """ESOCKTNOSUPPORT: there are no packets."""
    network = task.kernel.part(InetNetwork)
    if network.makers is None:
        raise LinuxError(errno.ESOCKTNOSUPPORT)
    return network.makers.raw(task.kernel, task.cred, network, domain, flags, protocol)

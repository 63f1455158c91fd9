"""The AF_UNIX row of the family registry: which class serves which socket type (socket(2), unix(7))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError
from services.sentry.sockets.base import Socket, ucred_of
from services.sentry.sockets.unix.datagram import UnixDatagram, join_datagrams
from services.sentry.sockets.unix.stream import UnixSeqpacket, UnixStream, join_pair

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["create", "create_pair"]


def create(task: Task, kind: int, protocol: int, flags: int) -> UnixStream | UnixDatagram:
    """A new socket. ESOCKTNOSUPPORT: the kind; EPROTONOSUPPORT: the protocol. SOCK_RAW means SOCK_DGRAM."""
    if protocol not in (0, so.AF_UNIX):
        raise LinuxError(errno.EPROTONOSUPPORT)
    if kind == so.SOCK_STREAM:
        return UnixStream(task, kind, 0, flags)
    if kind == so.SOCK_SEQPACKET:
        return UnixSeqpacket(task, kind, 0, flags)
    if kind in (so.SOCK_DGRAM, so.SOCK_RAW):
        return UnixDatagram(task, so.SOCK_DGRAM, 0, flags)
    raise LinuxError(errno.ESOCKTNOSUPPORT)


def create_pair(task: Task, kind: int, protocol: int, flags: int) -> tuple[Socket, Socket]:
    """Two sockets connected with each other; each shows the caller as its peer."""
    first = create(task, kind, protocol, flags)
    second = create(task, kind, protocol, flags)
    for end in (first, second):
        end.peer_cred, end.peer_groups = ucred_of(task), task.cred.groups
    if isinstance(first, UnixStream) and isinstance(second, UnixStream):
        join_pair(first, second)
    elif isinstance(first, UnixDatagram) and isinstance(second, UnixDatagram):
        join_datagrams(first, second)
    return first, second

"""Address families by number (socket(2)): what a kernel's socket and socketpair calls construct.

Owns the rows of one kernel; reached by `kernel.part(SocketFamilies)`. What has no row gives EAFNOSUPPORT.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError
from services.sentry.sockets.inet import family as inet_family
from services.sentry.sockets.netlink import endpoint as netlink_family
from services.sentry.sockets.unix import family as unix_family

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.sockets.base import Socket

__all__ = ["Family", "SocketFamilies"]


class Family(NamedTuple):
    """One row. `create(task, kind, protocol, flags)` makes a socket, `pair` two connected ones (None: EOPNOTSUPP).

    `kind` is SOCK_STREAM...; `flags` O_NONBLOCK or 0. ESOCKTNOSUPPORT: the kind; EPROTONOSUPPORT: the protocol.
    """

    create: Callable[[Task, int, int, int], Socket]
    pair: Callable[[Task, int, int, int], tuple[Socket, Socket]] | None


class SocketFamilies:
    """The rows of one kernel: family number -> Family."""

    __slots__ = ("rows",)

    def __init__(self, kernel: Kernel) -> None:
        self.rows: dict[int, Family] = {
            so.AF_UNIX: Family(unix_family.create, unix_family.create_pair),
            so.AF_INET: Family(inet_family.creator(so.AF_INET), None),
            so.AF_INET6: Family(inet_family.creator(so.AF_INET6), None),
            so.AF_NETLINK: Family(netlink_family.create, None),
        }

    def find(self, number: int) -> Family:
        """EAFNOSUPPORT: this sandbox has no such family."""
        row = self.rows.get(number)
        if row is None:
            raise LinuxError(errno.EAFNOSUPPORT)
        return row

"""The services of a router: starts, changes and stops them as the configuration says.

Services are sans-IO over the stack's sockets; each has `stop()`. What a service brings about (an address, a route) it
does through the stack; `on_lease` is called when a DHCP client got an address.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from services.netstackd.config.model import Config
from services.netstackd.edge.log import EventLog
from services.netstackd.network.interface import Interface
from services.netstackd.stack import Stack


class ServiceManager:
    """See the module docstring."""

    def __init__(
        self,
        stack: Stack,
        interfaces: Mapping[str, Interface],
        rng: random.Random,
        log: EventLog,
        wall: Callable[[], int],
    ) -> None:
        self._stack = stack
        self._interfaces = interfaces
        self._rng = rng
        self._log = log
        self._wall = wall
        self.on_lease: Callable[[], None] = lambda: None

    def configure(self, config: Config) -> None:
        """Make the services what `config` says."""

    def interface_gone(self, iface: Interface) -> None:
        """Stop what runs on an interface that is about to be removed."""

    def leases(self) -> list[dict[str, object]]:
        """What DHCP servers have given, and what was given to us."""
        return []

    def sockets(self) -> list[dict[str, object]]:
        """The router's own sockets."""
        return []

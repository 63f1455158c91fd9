"""`ctl events`: what happens, told as it happens to every client that watches.

    the log's events      whatever their level (ready, configured, lease, dhcp-ack, packet, link-lost, bug, ...)
    connection-new, connection-destroy
    interface, interface-gone, address, address-gone, route, route-gone, neighbour
                          it is there, or has changed, or is no more; fields as the tables have them (rows.py)

While nobody watches, nothing of this costs anything: tracker and stack are only asked to tell as long as somebody does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from services.netstackd.control.rows import (
    Row,
    address_row,
    connection_row,
    interface_row,
    neighbour_row,
    route_row,
)
from services.netstackd.filter.connection import Connection
from services.netstackd.network.addresses import Address
from services.netstackd.network.interface import Interface
from services.netstackd.network.neighbours import Neighbour
from services.netstackd.network.routes import Route

if TYPE_CHECKING:
    from services.netstackd.app import Router

Watcher = Callable[[dict[str, object]], None]


class EventStream:
    """See the module docstring."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._watchers: list[Watcher] = []

    def add(self, watcher: Watcher) -> None:
        """Tell `watcher` from now on."""
        self._router.log.watchers.append(watcher)
        self._watchers.append(watcher)
        if len(self._watchers) == 1:
            self._router.firewall.tracker.on_event = self._connection
            self._router.stack.subscribe(self._changed)

    def remove(self, watcher: Watcher) -> None:
        """No more."""
        self._router.log.watchers.remove(watcher)
        self._watchers.remove(watcher)
        if not self._watchers:
            self._router.firewall.tracker.on_event = None
            self._router.stack.unsubscribe(self._changed)

    def _tell(self, name: str, row: Row) -> None:
        event = {"time": self._router.wall(), "level": "debug", "event": name, **row}
        for watcher in list(self._watchers):
            watcher(event)

    def _connection(self, what: str, connection: Connection) -> None:
        self._tell(f"connection-{what}", connection_row(connection, self._router.stack.now))

    def _changed(self, kind: str, thing: Any) -> None:
        """The stack's events (Stack.tell)."""
        now = self._router.stack.now
        if isinstance(thing, Interface):
            self._tell(kind, interface_row(thing))
        elif isinstance(thing, Address):
            self._tell(kind, address_row(thing, now))
        elif isinstance(thing, Route):
            self._tell(kind, route_row(thing, now))
        elif isinstance(thing, Neighbour):
            self._tell(kind, neighbour_row(thing))

"""What NETLINK_ROUTE's multicast groups are told when the network changes (rtnetlink(7), RTMGRP_*).

`Notices` keeps what was last seen of interfaces and routes and says how it differs now, as `ip monitor` hears it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from protocol.abi import rtnetlink_h as rt
from services.sentry.sockets.netlink.route import address_reply, link_reply, route_reply

if TYPE_CHECKING:
    from services.sentry.sockets.inet.interfaces import Interface, InterfaceAddress, RouteEntry
    from services.sentry.sockets.inet.network import InetNetwork
    from services.sentry.sockets.netlink.messages import Reply

__all__ = ["Notices"]


class Notices:
    """`tell(group, reply)`: every socket that is in the group (a bit of RTMGRP_*) gets the message."""

    def __init__(self, network: InetNetwork, tell: Callable[[int, Reply], None]) -> None:
        self._network = network
        self._tell = tell
        self._interfaces = network.interfaces()
        self._routes = network.routes()
        network.notices.append(self.changed)

    def changed(self) -> None:
        old, new = self._interfaces, self._network.interfaces()
        old_routes, new_routes = self._routes, self._network.routes()
        self._interfaces, self._routes = new, new_routes
        for group, reply in self._differences(old, new):
            self._tell(group, reply)
        for route in old_routes:
            if route not in new_routes:
                self._tell(_route_group(route), route_reply(route, rt.RTM_DELROUTE))
        for route in new_routes:
            if route not in old_routes:
                self._tell(_route_group(route), route_reply(route))

    @staticmethod
    def _differences(old: list[Interface], new: list[Interface]) -> Iterator[tuple[int, Reply]]:
        before = {each.ifindex: each for each in old}
        after = {each.ifindex: each for each in new}
        for interface in old:
            now = after.get(interface.ifindex)
            for own in interface.addresses:
                if now is None or own not in now.addresses:
                    yield _address_group(own), address_reply(interface, own, rt.RTM_DELADDR)
            if now is None:
                yield rt.RTMGRP_LINK, link_reply(interface, rt.RTM_DELLINK)
        for interface in new:
            was = before.get(interface.ifindex)
            if was is None or was._replace(addresses=()) != interface._replace(addresses=()):
                yield rt.RTMGRP_LINK, link_reply(interface)
            for own in interface.addresses:
                if was is None or own not in was.addresses:
                    yield _address_group(own), address_reply(interface, own)


def _address_group(own: InterfaceAddress) -> int:
    return rt.RTMGRP_IPV4_IFADDR if len(own.address) == 4 else rt.RTMGRP_IPV6_IFADDR


def _route_group(route: RouteEntry) -> int:
    return rt.RTMGRP_IPV4_ROUTE if len(route.destination) == 4 else rt.RTMGRP_IPV6_ROUTE

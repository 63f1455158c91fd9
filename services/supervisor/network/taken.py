"""A network namespace of the host that a bundle names: its interfaces become the sandbox's, carried by netstackd.

Owns: `TakenNetwork`. Each Ethernet interface of the namespace is opened there as a packet socket and handed over as a
link, with its hardware address, MTU, addresses, routes and permanent neighbours. The host's kernel loses the addresses
(and with them the routes), so that it answers for nothing of the sandbox's, as gVisor does it; they are given back when
the sandbox has ended, since the namespace may live on.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from protocol.control.msgpack_subset import Fd
from services.supervisor.errors import SupervisorError, os_reason
from services.supervisor.launch.host_calls_unsafe import HostCalls
from services.supervisor.launch.namespaces import CLONE_NEWNET
from services.supervisor.network.private import Carrier, PrivateNetwork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.monitor.monitor import Monitor

#: A netstackd that has no interface of its own.
_TEXT: Final = "[router]\nforwarding = false\n"
_ARPHRD_ETHER: Final = 1
_ETH_P_ALL: Final = 3
_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 1, 15, 23
_PACKET_MR_PROMISC: Final = 1
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER_BYTES: Final = 8 << 20  # about a hundred large segments, as netstackd's own links
_RTPROT_KERNEL: Final = 2
_RT_TABLE_MAIN: Final = 254
_RTN_UNICAST: Final = 1
_NUD_PERMANENT: Final = 0x80
_LINK_LOCAL: Final = "fe80:"


class _Interface:
    """What one interface had. addresses: (address, prefix length, broadcast or None)."""

    def __init__(self, index: int, name: str, mac: bytes, mtu: int, sock: socket.socket) -> None:
        self.index = index
        self.name = name
        self.mac = mac
        self.mtu = mtu
        self.sock = sock
        self.addresses: list[tuple[str, int, str | None]] = []


class TakenNetwork(PrivateNetwork):
    """See the module docstring. path: of the namespace."""

    def __init__(self, host_name: bytes, path: str) -> None:
        super().__init__(host_name, [])
        self.names = None  # the runtime mounts its own resolv.conf and hosts
        self._carrier = Carrier(_TEXT, self._serves, self._connector_changed, with_connector=False)
        self._path = path
        self._namespace = -1
        self._interfaces: list[_Interface] = []
        self._routes: list[dict[str, Any]] = []
        self._neighbours: list[dict[str, Any]] = []

    def open(self) -> None:
        """Take everything over. Raises SupervisorError; then the namespace is as it was."""
        try:
            self._namespace = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            with self._inside() as netlink:
                self._read(netlink)
                for interface in self._interfaces:
                    netlink.flush_addr(index=interface.index)
        except OSError as error:
            raise SupervisorError("config.json", f"linux.namespaces: {self._path}: {os_reason(error)}") from None

    def attach(self, monitor: Monitor) -> None:
        """See SandboxNetwork."""
        self._monitor = monitor
        for name in ("netstackd", "network"):
            monitor.expect(name)
        self._carrier.watch(monitor.loop, monitor.services)

    def close(self) -> None:
        """Give the addresses and routes back."""
        for interface in self._interfaces:
            interface.sock.close()
        if self._namespace >= 0:
            try:
                with self._inside() as netlink:
                    self._give_back(netlink)
            except OSError:
                pass  # nothing is left to give it to
            os.close(self._namespace)
            self._namespace = -1
        super().close()

    def _about(self) -> dict[str, object]:
        rows = [
            {
                "name": interface.name,
                "kind": "packet",
                "mac": interface.mac,
                "mtu": interface.mtu,
                "addresses": [f"{address}/{length}" for address, length, _ in interface.addresses],
                "fd": Fd(interface.sock.fileno()),
            }
            for interface in self._interfaces
        ]
        return {
            "interfaces": rows,
            "routes": self._routes,
            "neighbours": self._neighbours,
            "connection": Fd(self.service_end.fileno()),
        }

    @contextmanager
    def _inside(self) -> Iterator[Any]:
        """Netlink in the namespace; this thread is in it meanwhile."""
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        calls = HostCalls()
        before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            calls.setns(self._namespace, CLONE_NEWNET)
            try:
                with IPRoute() as netlink:
                    yield netlink
            except NetlinkError as error:
                raise OSError(error.code, os.strerror(error.code)) from None
            finally:
                calls.setns(before, CLONE_NEWNET)
        finally:
            os.close(before)

    def _read(self, netlink: Any) -> None:
        for link in netlink.get_links():
            if link["ifi_type"] != _ARPHRD_ETHER:
                continue
            name, mac = link.get_attr("IFLA_IFNAME"), bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))
            sock = _packet_socket(name, link["index"])
            self._interfaces.append(_Interface(link["index"], name, mac, link.get_attr("IFLA_MTU"), sock))
            netlink.link("set", index=link["index"], state="up")
        by_index = {interface.index: interface for interface in self._interfaces}
        for row in netlink.get_addr():
            address = row.get_attr("IFA_LOCAL") or row.get_attr("IFA_ADDRESS")
            if row["index"] in by_index and not address.startswith(_LINK_LOCAL):
                found = (address, row["prefixlen"], row.get_attr("IFA_BROADCAST"))
                by_index[row["index"]].addresses.append(found)
        for row in netlink.get_routes(table=_RT_TABLE_MAIN):
            interface = by_index.get(row.get_attr("RTA_OIF"))
            if interface is None or row["proto"] == _RTPROT_KERNEL or row["type"] != _RTN_UNICAST:
                continue
            to = row.get_attr("RTA_DST")
            default = "default" if row["family"] == socket.AF_INET else "default6"
            route = {
                "to": f"{to}/{row['dst_len']}" if to else default,
                "interface": interface.name,
                "via": row.get_attr("RTA_GATEWAY"),
                "metric": row.get_attr("RTA_PRIORITY") or 0,
                "source": row.get_attr("RTA_PREFSRC"),
                "scope": row["scope"],
                "protocol": row["proto"],  # of no use to netstackd, but given back
            }
            self._routes.append({key: value for key, value in route.items() if value is not None})
        for row in netlink.get_neighbours():
            interface, mac = by_index.get(row["ifindex"]), row.get_attr("NDA_LLADDR")
            if interface is not None and mac and row["state"] == _NUD_PERMANENT:
                address = row.get_attr("NDA_DST")
                packed = bytes.fromhex(mac.replace(":", ""))
                self._neighbours.append({"interface": interface.name, "address": address, "mac": packed})

    def _give_back(self, netlink: Any) -> None:
        from pyroute2.netlink.exceptions import NetlinkError

        index = {interface.name: interface.index for interface in self._interfaces}
        for interface in self._interfaces:
            for address, length, broadcast in interface.addresses:
                more = {} if broadcast is None else {"broadcast": broadcast}
                try:
                    netlink.addr("replace", index=interface.index, address=address, prefixlen=length, **more)
                except NetlinkError:
                    pass  # the interface went away
        for route in self._routes:
            about = {"dst": route["to"].replace("default6", "default"), "oif": index[route["interface"]]}
            about |= {"proto": route["protocol"], "scope": route["scope"]}
            about |= {"gateway": route["via"]} if "via" in route else {}
            about |= {"priority": route["metric"]} if route["metric"] else {}
            if ":" in route["to"] or route["to"] == "default6":
                about["family"] = socket.AF_INET6
            try:
                netlink.route("replace", **about)
            except NetlinkError:
                pass


def _packet_socket(name: str, index: int) -> socket.socket:
    """On one interface, with offload headers, and without what we send ourselves; as netstackd's own links have it."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        for option in (_PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING):
            sock.setsockopt(_SOL_PACKET, option, 1)
        for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
            try:
                sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            except PermissionError:
                pass  # the default buffers do; three large segments fill them
        sock.bind((name, _ETH_P_ALL))
        membership = index.to_bytes(4, "little") + _PACKET_MR_PROMISC.to_bytes(2, "little") + bytes(10)
        sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
    except BaseException:
        sock.close()
        raise
    return sock

"""Methods about network namespaces: made, removed, attached to, and shown.

namespace_add [name, map]    R {"addresses": [[address, prefix length]], "gateway": [address], "servers": [address],
                             "fd": Fd of an attached connection of the socket service}
    addresses   texts; absent: the next free of the virtual network. mac, mtu, domain, servers (texts), keep
    connection  Fd of a connected stream socket that becomes that connection; the answer has no "fd" then
    interfaces  instead of an eth0 on the virtual network: [{"name", "kind" ("packet", "tap"), "mac", "mtu",
                "addresses", "fd"}], with "routes" [{"to", "via", "interface", "metric", "source", "scope"}] and
                "neighbours" [{"interface", "address", "mac"}]
namespace_remove [name]
namespaces []                R list of maps
attach [name]                R Fd of one more connection
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from protocol.rpc.codec import Fd
from services.netstackd.config.text import parse_address, parse_interface, parse_network, prefix_text
from services.netstackd.control.server import Client, MethodError
from services.netstackd.edge.link_files import adopt
from services.netstackd.links.base import ALL_OFFLOADS
from services.netstackd.namespaces import LinkRow, Namespace, RouteRow
from services.netstackd.network.interface import ETHERNET

if TYPE_CHECKING:
    from services.netstackd.app import Router

_KEYS: Final = frozenset(
    (
        "addresses",
        "mac",
        "mtu",
        "domain",
        "servers",
        "keep",
        "connection",
        "connect",
        "interfaces",
        "routes",
        "neighbours",
    )
)
_LINK_CLASSES: Final = {"packet": "packet", "tap": "vnet"}


class NamespaceMethods:
    """See the module docstring."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def table(self) -> dict[str, Callable[..., Any]]:
        """Name to method."""
        return {
            "namespace_add": self.add,
            "namespace_remove": self.remove,
            "namespaces": self.show,
            "attach": self.attach,
        }

    def add(self, client: Client, name: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """A new namespace."""
        wanted = options or {}
        unknown = set(wanted) - _KEYS
        if unknown:
            raise MethodError(f"namespace_add: unknown key {sorted(unknown)[0][:32]}")
        connection = wanted.get("connection")
        if connection is not None and not isinstance(connection, Fd):
            raise MethodError("namespace_add: connection is no descriptor")
        common: dict[str, Any] = {
            "domains": [wanted["domain"]] if wanted.get("domain") else [],
            "servers": [parse_address(text) for text in wanted.get("servers", ())],
            "keep": bool(wanted.get("keep", False)),
        }
        namespaces = self._router.namespaces
        if "interfaces" in wanted:
            namespace = self._add_with_links(name, wanted, common)
        else:
            namespace = namespaces.add(
                name,
                addresses=[parse_interface(text) for text in wanted.get("addresses", ())],
                mac=wanted.get("mac", b""),
                mtu=wanted.get("mtu", 0),
                **common,
            )
        answer: dict[str, Any] = {
            "addresses": [[_bytes(version, address), length] for version, address, length in namespace.addresses],
            "names": [prefix_text(*prefix) for prefix in namespace.addresses],
            "gateway": [_bytes(*gateway) for gateway in namespace.gateways],
            "servers": [_bytes(*server) for server in namespace.servers],
        }
        if connection is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=connection.number)
            self._router.sockets.adopt(sock, namespace)
        elif wanted.get("connect", True):
            answer["fd"] = self._connect(namespace)
        return answer

    def _connect(self, namespace: Namespace) -> Fd:
        try:
            return Fd(self._router.sockets.connect(namespace).detach())
        except OSError as error:
            raise MethodError(f"no connection: {error.strerror}", error.errno or errno.EMFILE) from None

    def _add_with_links(self, name: str, wanted: Mapping[str, Any], common: dict[str, Any]) -> Namespace:
        rows: list[LinkRow] = []
        routes: list[RouteRow] = [_route(row) for row in wanted.get("routes", ())]
        neighbours = [
            (row["interface"], parse_address(row["address"]), row["mac"]) for row in wanted.get("neighbours", ())
        ]
        abouts = [
            (_about(row), [parse_interface(text) for text in row.get("addresses", ())]) for row in wanted["interfaces"]
        ]
        if any(not isinstance(row.get("fd"), Fd) for row in wanted["interfaces"]):
            raise MethodError("namespace_add: an interface without a descriptor")
        try:
            for (about, addresses), row in zip(abouts, wanted["interfaces"], strict=True):
                rows.append(LinkRow(adopt(about, row["fd"].number), addresses))
            return self._router.namespaces.add_with_links(name, rows, routes, neighbours, **common)
        except Exception:
            for link_row in rows:
                link_row.link.release()  # the descriptors are the request's still, and closed with it
            raise

    def remove(self, client: Client, name: str) -> None:
        """End one, whoever uses it."""
        self._router.namespaces.remove(name)

    def attach(self, client: Client, name: str) -> Fd:
        """One more connection."""
        return self._connect(self._router.namespaces.find(name))

    def show(self, client: Client) -> list[dict[str, Any]]:
        """All of them."""
        rows = self._router.namespaces.rows()
        for row in rows:
            row["addresses"] = [prefix_text(*prefix) for prefix in row["addresses"]]
        return rows


def _bytes(version: int, address: int) -> bytes:
    return address.to_bytes(4 if version == 4 else 16, "big")


def _about(row: Mapping[str, Any]) -> dict[str, Any]:
    """What `adopt` needs to know."""
    kind = row.get("kind", "packet")
    if kind not in _LINK_CLASSES:
        raise MethodError(f"namespace_add: a link of kind {str(kind)[:16]} cannot be handed over")
    return {
        "name": row["name"],
        "kind": kind,
        "class": _LINK_CLASSES[kind],
        "mac": row["mac"],
        "mtu": row["mtu"],
        "offload": row.get("offload", ALL_OFFLOADS),
        "framing": ETHERNET,
    }


def _route(row: Mapping[str, Any]) -> RouteRow:
    via = parse_address(row["via"]) if row.get("via") else None
    to = row["to"]
    version = via[0] if via is not None else 6 if ":" in to or to == "default6" else 4
    prefix = (version, 0, 0) if to in ("default", "default6") else parse_network(to)
    source = parse_address(row["source"])[1] if row.get("source") else 0
    return prefix, via, row["interface"], row.get("metric", 0), source, row.get("scope", 0)

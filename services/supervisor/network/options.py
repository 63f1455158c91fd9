"""What network a sandbox is to have: the command line's options and a bundle's annotations, made into one request.

Owns: `OPTIONS`, `NetworkRequest`, `network_of_flags`, `network_of_bundle`. Pure. Imported only when a network is asked
for, so that a sandbox without one pays nothing.

    none              the sandbox's own loopback and nothing else
    netstack          a netstackd of its own, whose connections end as host sockets of the caller (preset slirp)
      --network-name  the same, shared by all sandboxes that give this name: they reach each other, by name too
    netstack:PATH     a running netstackd, by its control socket
    host              the host's own stack, through a broker
"""

from __future__ import annotations

import os
import re

from services.supervisor.container.annotations import NETWORK
from services.supervisor.errors import SupervisorError
from services.supervisor.network.publish import Publish, parse_publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.grammar import Parsed

KINDS = ("none", "netstack", "host")
#: Annotations of a bundle that mean the same as the options; what the command line says wins.
NETWORK_NAME = f"{NETWORK}.name"
PUBLISH = f"{NETWORK}.publish"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
#: One label or several of a host name (RFC 1123, 2.1): what DNS on the virtual network can answer for.
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9][A-Za-z0-9_-]{0,62})*")


class NetworkRequest:
    """kind: one of KINDS. control: the control socket of a running netstackd, "" for one of ours. name: the shared
    network's, "" for a private one. host_name: what the sandbox is called in it, "" to be chosen by who launches.
    taken: the path of a network namespace that is taken over, "" for none."""

    __slots__ = ("control", "host_name", "kind", "name", "publishes", "taken")

    def __init__(
        self, kind: str, control: str = "", name: str = "", publishes: list[Publish] | None = None, host_name: str = ""
    ) -> None:
        self.kind = kind
        self.control = control
        self.name = name
        self.publishes = publishes or []
        self.host_name = host_name
        self.taken = ""


def network_of_flags(given: Parsed, default: str = "none") -> NetworkRequest:
    """What --network, --network-name, --publish and --hostname ask for. Raises SupervisorError, naming the flag."""
    text = given.one("network") or ("netstack" if given.has("network-name") else default)
    host_name = given.one("hostname")
    if given.has("hostname") and (len(host_name) > 64 or not _HOST_NAME.fullmatch(host_name)):
        raise SupervisorError(f"--hostname {host_name[:80]}", "expected letters, digits, - and dots, at most 64")
    return _request(
        text,
        given.one("network-name"),
        [port for word in given.all("publish") for port in parse_publish(word)],
        host_name,
        ("--network", "--network-name", "-p"),
    )


def network_of_bundle(annotations: dict[str, str], given: Parsed | None = None) -> NetworkRequest:
    """The same for a bundle: its annotations, unless the command line says something. Raises SupervisorError."""
    if given is not None and any(given.has(key) for key in ("network", "network-name", "publish")):
        return network_of_flags(given, annotations.get(NETWORK, "none"))
    host_name = "" if given is None else network_of_flags(given).host_name
    words = [word.strip() for word in annotations.get(PUBLISH, "").split(",") if word.strip()]
    named = annotations.get(NETWORK_NAME, "")
    return _request(
        annotations.get(NETWORK) or ("netstack" if named else "none"),
        named,
        [port for word in words for port in parse_publish(word, PUBLISH)],
        host_name,
        (NETWORK, NETWORK_NAME, PUBLISH),
    )


def _request(
    text: str, name: str, publishes: list[Publish], host_name: str, flags: tuple[str, str, str]
) -> NetworkRequest:
    kind, colon, control = text.partition(":")
    if kind not in KINDS or (colon and (kind != "netstack" or not control)):
        expected = "expected none, netstack, netstack:CONTROL-SOCKET or host"
        raise SupervisorError(f"{flags[0]} {text[:80]}", expected)
    if name and not _NAME.fullmatch(name):
        raise SupervisorError(f"{flags[1]} {name[:80]}", "expected letters, digits, _, - and .")
    if name and (kind != "netstack" or control):
        raise SupervisorError(f"{flags[1]} {name}", f"a network of {text} has no name", "it is for --network netstack")
    if publishes and kind != "netstack":
        raise SupervisorError(
            f"{flags[2]} {publishes[0].text}", f"nothing to publish with --network {kind}", "add --network netstack"
        )
    return NetworkRequest(kind, os.path.abspath(control) if control else "", name, publishes, host_name)

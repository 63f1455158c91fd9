"""Published ports: `-p [HOSTADDR:]HOSTPORT:PORT[/tcp|udp]`, and the host sockets behind them.

Owns: `Publish`, `parse_publish`, `bind_all`. The monitor binds these sockets itself, with the caller's rights and
before anything is started: a port that is taken is an error of the command, and a netstackd that is started again is
handed the very same sockets, so that nobody else gets the port and connections wait in the backlog meanwhile.
"""

from __future__ import annotations

from _socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    inet_pton,
    socket,
)

from services.supervisor.errors import SupervisorError, os_reason

_SYNTAX = "expected [HOSTADDR:]HOSTPORT:PORT[/tcp|udp], where ports may be ranges A-B"
_BACKLOG = 4096
_MAX_PORTS = 4096
_EACCES = 13
_EADDRINUSE = 98
_EADDRNOTAVAIL = 99


class Publish:
    """One port. host: address to listen at, "" for all of both versions. text: as it was written, for messages."""

    __slots__ = ("host", "host_port", "port", "protocol", "text")

    def __init__(self, host: str, host_port: int, port: int, protocol: str, text: str) -> None:
        self.host = host
        self.host_port = host_port
        self.port = port
        self.protocol = protocol
        self.text = text


def parse_publish(text: str, flag: str = "-p") -> list[Publish]:
    """`text` as ports, one each of a range. A host port 0 lets the host choose. Raises SupervisorError."""

    def wrong(why: str) -> SupervisorError:
        return SupervisorError(f"{flag} {text[:80]}", why)

    where, slash, protocol = text.partition("/")
    if slash and protocol not in ("tcp", "udp"):
        raise wrong("the protocol must be tcp or udp")
    rest, colon, inner = where.rpartition(":")
    if not colon:
        raise wrong(_SYNTAX)
    host, _, outer = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if host and _family(host) is None:
        raise wrong(f"{host} is no address of the host (IPv4, or IPv6 in brackets)")
    hosts, ports = _range(outer), _range(inner)
    if hosts is None or ports is None:
        raise wrong(_SYNTAX)
    if len(hosts) != len(ports):
        raise wrong(f"{len(hosts)} host ports for {len(ports)} ports")
    if len(hosts) > _MAX_PORTS:
        raise wrong(f"more than {_MAX_PORTS} ports")
    if ports[0] < 1 or (len(hosts) > 1 and hosts[0] < 1) or hosts[-1] > 65535 or ports[-1] > 65535:
        raise wrong("a port is from 1 to 65535")
    return [Publish(host, a, b, protocol or "tcp", text) for a, b in zip(hosts, ports, strict=True)]


def _range(text: str) -> range | None:
    first, dash, last = text.partition("-")
    if not (first.isascii() and first.isdigit() and len(first) < 6):
        return None
    if not dash:
        return range(int(first), int(first) + 1)
    if not (last.isascii() and last.isdigit() and len(last) < 6) or int(last) < int(first):
        return None
    return range(int(first), int(last) + 1)


def _family(host: str) -> int | None:
    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, host)
        except OSError:
            continue
        return family
    return None


def bind_all(publishes: list[Publish]) -> list[tuple[Publish, socket]]:
    """A bound (and for TCP listening) host socket for each; "" as host makes one of each version that the host has.

    Raises SupervisorError naming the port; nothing stays bound then.
    """
    made: list[tuple[Publish, socket]] = []
    try:
        for publish in publishes:
            made += [(publish, sock) for sock in _bind(publish)]
    except SupervisorError:
        for _, sock in made:
            sock.close()
        raise
    return made


def _bind(publish: Publish) -> list[socket]:
    if publish.host:
        return [_bound(publish, publish.host)]
    first = _bound(publish, "0.0.0.0")
    port = first.getsockname()[1]
    try:
        return [first, _bound(Publish("", port, publish.port, publish.protocol, publish.text), "::")]
    except _NoVersion:
        return [first]
    except SupervisorError:
        first.close()
        raise


class _NoVersion(Exception):
    """The host has no IPv6."""


def _bound(publish: Publish, host: str) -> socket:
    family = _family(host)
    assert family is not None
    kind = SOCK_STREAM if publish.protocol == "tcp" else SOCK_DGRAM
    try:
        sock = socket(family, kind)
    except OSError:
        if family == AF_INET6 and not publish.host:
            raise _NoVersion from None
        raise
    try:
        if kind == SOCK_STREAM:
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
        sock.bind((host, publish.host_port))
        if kind == SOCK_STREAM:
            sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == _EADDRNOTAVAIL and family == AF_INET6 and not publish.host:
            raise _NoVersion from None
        hint = {
            _EADDRINUSE: "something else listens there: choose another port",
            _EACCES: "ports below net.ipv4.ip_unprivileged_port_start are root's",
            _EADDRNOTAVAIL: "the address must be one of the host's own",
        }.get(error.errno or 0, "")
        why = f"{host} port {publish.host_port}/{publish.protocol}: {os_reason(error)}"
        raise SupervisorError(f"-p {publish.text}", why, hint) from None
    return sock

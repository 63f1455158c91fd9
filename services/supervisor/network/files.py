"""The small files by which a sandbox's programs find its network's names: /etc/hosts, /etc/hostname, /etc/resolv.conf.

Owns: `NetworkNames`, `name_files`; `name_servers`, the host's. Only for a network of its own; with the host's stack the
root's files are right as they are. Sources: hosts(5), hostname(5), resolv.conf(5).
"""

from __future__ import annotations

#: The files, as paths in the sandbox.
HOSTS = b"/etc/hosts"
HOSTNAME = b"/etc/hostname"
RESOLV_CONF = b"/etc/resolv.conf"
_HEAD = (
    b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    b"fe00::\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)


class NetworkNames:
    """What a sandbox is told about its network. host_name: its own. addresses: its own, as text without prefix length.
    servers: DNS servers, as text. domain: the search domain, "" for none."""

    __slots__ = ("addresses", "domain", "host_name", "servers")

    def __init__(self, host_name: bytes, addresses: list[str], servers: list[str], domain: str = "") -> None:
        self.host_name = host_name
        self.addresses = addresses
        self.servers = servers
        self.domain = domain


def name_files(names: NetworkNames, taken: list[bytes]) -> list[tuple[bytes, bytes]]:
    """(path, contents) of the files, without those of `taken`: a bundle that mounts its own has the say."""
    own = names.host_name
    if names.domain:
        own = own + b"." + names.domain.encode() + b" " + own.partition(b".")[0]
    hosts = _HEAD + b"".join(address.encode() + b"\t" + own + b"\n" for address in names.addresses)
    resolv = b"".join(b"nameserver " + server.encode() + b"\n" for server in names.servers)
    if names.domain:
        resolv = b"search " + names.domain.encode() + b"\n" + resolv
    found = [(HOSTS, hosts), (HOSTNAME, names.host_name + b"\n")]
    if names.servers:
        found.append((RESOLV_CONF, resolv))
    return [(path, contents) for path, contents in found if path not in taken]


def name_servers(path: str = "/etc/resolv.conf") -> list[str]:
    """The addresses of the host's name servers as they are now (resolv.conf(5)); none when there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 16).splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    return [row[1].partition("%")[0] for row in words if len(row) > 1 and row[0] == "nameserver"][:3]

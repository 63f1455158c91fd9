"""Ready-made configurations, as the text of a file: what flags alone can say, and where a file of one's own begins.

    router   one side is the local network (NAT, filter, DHCP server), the other the way out
    bridge   all ports are one Ethernet
    slirp    a virtual network whose connections become sockets of the host; needs no privilege
    plain    interfaces with addresses, forwarding between them, no filter

A link is written KIND:DEVICE@NAMESPACE, such as tap:lan0, packet:veth1@blue, unix:/run/vm.sock; a word alone is a tap.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from services.netstackd.config.model import ConfigError

PRESETS: Final = ("router", "bridge", "slirp", "plain")
SLIRP_NETWORK: Final = "10.0.2.0/24"
SLIRP_NETWORK6: Final = "fd00:0:0:2::/64"
# Hosts of these networks, by number: the gateway, who answers names, the first sandbox; the upper half of the IPv4
# network is given out by DHCP.
SLIRP_GATEWAY: Final = 2
SLIRP_DNS: Final = 3
SLIRP_FIRST: Final = 15
_KINDS: Final = ("tap", "tun", "packet", "unix")


def quote(text: str) -> str:
    """A TOML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _strings(texts: Sequence[str]) -> str:
    return "[" + ", ".join(quote(text) for text in texts) + "]"


def link_keys(text: str) -> tuple[str, list[str]]:
    """(name of the interface, lines of its table) for a link as written above. ConfigError."""
    kind, colon, device = text.partition(":")
    if not colon:
        kind, device = "tap", text
    if kind not in _KINDS or not device:
        raise ConfigError([f"{text}: is no link (KIND:DEVICE[@NAMESPACE], KIND one of {', '.join(_KINDS)})"])
    if kind == "unix":
        name = device.rsplit("/", 1)[-1].split(".")[0][:15] or "unix0"
        return name, [f"name = {quote(name)}", 'kind = "unix"', f"path = {quote(device)}", "listen = true"]
    device, _, netns = device.partition("@")
    lines = [f"name = {quote(device)}", f"kind = {quote(kind)}", f"device = {quote(device)}"]
    if netns:
        lines.append(f"netns = {quote(netns)}")
    return device, lines


def _interface(text: str, *more: str) -> tuple[str, str]:
    name, lines = link_keys(text)
    return name, "\n".join(["[[interface]]", *lines, *more, ""])


def plain(interfaces: Sequence[tuple[str, Sequence[str]]], routes: Sequence[str], forwarding: bool) -> str:
    """Interfaces (link, addresses) and routes ("to via gateway")."""
    parts = [f"[router]\nforwarding = {str(forwarding).lower()}\n"]
    for link, addresses in interfaces:
        dynamic = ["dhcp = true"] if "dhcp" in addresses else []
        static = [address for address in addresses if address != "dhcp"]
        parts.append(_interface(link, f"addresses = {_strings(static)}", *dynamic)[1])
    for route in routes:
        words = route.split()
        if len(words) != 3 or words[1] not in ("via", "dev"):
            raise ConfigError([f'--route "{route}": must be "NETWORK via GATEWAY" or "NETWORK dev INTERFACE"'])
        key = "via" if words[1] == "via" else "interface"
        parts.append(f"[[route]]\nto = {quote(words[0])}\n{key} = {quote(words[2])}\n")
    return "\n".join(parts)


def bridge(ports: Sequence[str], addresses: Sequence[str]) -> str:
    """A bridge br0 of `ports`."""
    if len(ports) < 2:
        raise ConfigError(["--preset bridge needs at least two --port LINK"])
    parts = [f'[[interface]]\nname = "br0"\nkind = "bridge"\naddresses = {_strings(addresses)}\n']
    parts += [_interface(port, 'bridge = "br0"')[1] for port in ports]
    return "\n".join(parts)


def router(lan: str, wan: str, lan_address: str, wan_address: str, gateway: str) -> str:
    """A home router. `wan_address` "dhcp" asks for one; `gateway` may be empty then."""
    try:
        inside = ipaddress.ip_interface(lan_address)
    except ValueError:
        raise ConfigError([f"--lan-address {lan_address}: is no address with a prefix length"]) from None
    if inside.version != 4 or inside.network.num_addresses < 16:
        raise ConfigError([f"--lan-address {lan_address}: must be IPv4, in a network of at least 16 addresses"])
    lan_name, lan_part = _interface(lan, f"addresses = {_strings([lan_address])}")
    dynamic = wan_address == "dhcp"
    wan_name, wan_part = _interface(wan, "dhcp = true" if dynamic else f"addresses = {_strings([wan_address])}")
    hosts = inside.network.num_addresses
    first, last = inside.network[hosts // 2], inside.network[hosts - 2]
    parts = ["[router]\nforwarding = true\n", lan_part, wan_part]
    if gateway:
        parts.append(f'[[route]]\nto = "default"\nvia = {quote(gateway)}\n')
    parts.append(
        f"""[nat]
masquerade = [{quote(wan_name)}]

[filter]
input = "drop"
forward = "drop"
mss_clamp = true

[[filter.rule]]
name = "from inside"
chain = "forward"
in = {quote(lan_name)}
action = "accept"

[[filter.rule]]
name = "inside may ask us"
chain = "input"
in = {quote(lan_name)}
action = "accept"

[[filter.rule]]
name = "ping"
chain = "input"
icmp = "echo-request"
limit = "10/s"
action = "accept"

[[filter.rule]]
name = "forwarded ports"
chain = "forward"
in = {quote(wan_name)}
state = "new"
to = {quote(str(inside.network))}
action = "accept"

[[dhcp_server]]
interface = {quote(lan_name)}
pool = "{first}-{last}"
"""
    )
    return "\n".join(parts)


def slirp(
    ports: Sequence[str] = (),
    network: str = SLIRP_NETWORK,
    network6: str = SLIRP_NETWORK6,
    *,
    host_loopback: bool = False,
    upstream: Sequence[str] = (),
) -> str:
    """A virtual network with `ports` (there may be none: sandboxes join at run time). `network6` may be empty."""
    try:
        inside = ipaddress.IPv4Network(network)
        inside6 = ipaddress.IPv6Network(network6) if network6 else None
    except ValueError as error:
        raise ConfigError([f"--network: {error}"]) from None
    if inside.num_addresses < 16 or (inside6 is not None and inside6.prefixlen != 64):
        raise ConfigError(["--network: IPv4 needs at least 16 addresses, IPv6 a prefix of 64 bits"])
    addresses = [f"{inside[number]}/{inside.prefixlen}" for number in (SLIRP_GATEWAY, SLIRP_DNS)]
    servers = [str(inside[SLIRP_DNS])]
    if inside6 is not None:
        addresses += [f"{inside6[number]}/64" for number in (SLIRP_GATEWAY, SLIRP_DNS)]
        servers.append(str(inside6[SLIRP_DNS]))
    parts = [
        f"""[router]
forwarding = true

[[interface]]
name = "virtual"
kind = "bridge"
addresses = {_strings(addresses)}
dad_transmits = 0
"""
    ]
    parts += [_interface(port, 'bridge = "virtual"')[1] for port in ports]
    hosts = inside.num_addresses
    # Sandboxes get addresses of the lower half; virtual machines those of the upper one, by DHCP.
    pools = [f"{inside[min(SLIRP_FIRST, hosts // 4)]}-{inside[hosts // 2 - 1]}"]
    if inside6 is not None:
        pools.append(f"{inside6[SLIRP_FIRST]}-{inside6[0xFFFF]}")
    dns = f"upstream = {_strings(upstream)}\n" if upstream else ""
    parts.append(
        f"""[slirp]
interfaces = "virtual"
host_loopback = {str(host_loopback).lower()}

[network]
interface = "virtual"
pool = {_strings(pools)}
servers = {_strings(servers)}

[dns]
listen = {_strings(servers)}
{dns}
[[dhcp_server]]
interface = "virtual"
pool = "{inside[hosts // 2]}-{inside[hosts - 2]}"
router = "{inside[SLIRP_GATEWAY]}"
dns = "{servers[0]}"
"""
    )
    if inside6 is not None:
        parts.append(f'[[router_advertisement]]\ninterface = "virtual"\ndns = "{servers[1]}"\n')
    return "\n".join(parts)

"""`netstackd --config FILE`, or flags alone: start the router, and stay until it ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from services.netstackd.commands.common import CommandError, read_file, usage_parser
from services.netstackd.config.load import load
from services.netstackd.config.model import Config, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOG = """\
A LINK is KIND:DEVICE[@NAMESPACE], KIND one of tap, tun, packet, unix; a word alone is a tap:
  netstackd --config router.toml
  netstackd --tap lan0 --address 192.168.1.1/24 --tap wan0 --address dhcp --masquerade wan0
  netstackd --preset router --lan tap:lan0 --wan packet:veth1 --wan-address 198.51.100.2/24 --gateway 198.51.100.1
  netstackd --preset bridge --port lan0 --port lan1
  netstackd --preset slirp --unix /run/vm.sock
Other commands: netstackd check FILE, netstackd diff FILE, netstackd ctl VERB (netstackd ctl --help).
"""


class _AddLink(argparse.Action):
    """--tap, --tun, --packet, --unix: begin an interface."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        kind = (option_string or "--tap")[2:]
        namespace.interfaces = [*(namespace.interfaces or []), (f"{kind}:{values}", [])]


class _AddAddress(argparse.Action):
    """--address: of the interface that was begun last."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        if namespace.preset == "bridge" and not namespace.interfaces:
            namespace.bridge_address = [*(namespace.bridge_address or []), str(values)]
            return
        if not namespace.interfaces:
            parser.error("--address belongs behind the --tap, --tun, --packet or --unix that it is for")
        namespace.interfaces[-1][1].append(str(values))


def parser() -> argparse.ArgumentParser:
    """The grammar of starting."""
    made = usage_parser("netstackd", "A TCP/IP stack and router in one process, sealed.", _EPILOG)
    made.add_argument("--config", metavar="FILE", help="the configuration (TOML; docs/NETSTACK.md)")
    made.add_argument("--preset", choices=("router", "bridge", "slirp"), help="a ready-made configuration")
    for kind in ("tap", "tun", "packet", "unix"):
        made.add_argument(
            f"--{kind}", metavar="DEVICE", dest="interfaces", action=_AddLink, help=f"an interface on a {kind} link"
        )
    made.add_argument("--address", metavar="ADDRESS", action=_AddAddress, help="its address (192.168.1.1/24), or dhcp")
    made.add_argument("--route", metavar='"NET via GW"', action="append", default=[], help="a static route")
    made.add_argument("--masquerade", metavar="INTERFACE", action="append", default=[], help="hide behind its address")
    made.add_argument("--no-forwarding", action="store_true", help="be a host, not a router")
    made.add_argument("--lan", metavar="LINK", help="preset router: the inner link")
    made.add_argument("--wan", metavar="LINK", help="preset router: the outer link")
    made.add_argument("--lan-address", default="192.168.8.1/24", metavar="ADDRESS", help="default %(default)s")
    made.add_argument("--wan-address", default="dhcp", metavar="ADDRESS", help="default %(default)s")
    made.add_argument("--gateway", default="", metavar="ADDRESS", help="the default gateway")
    made.add_argument("--port", metavar="LINK", action="append", default=[], help="presets bridge and slirp: a port")
    made.add_argument("--network", default="10.0.2.0/24", metavar="NETWORK", help="preset slirp: default %(default)s")
    made.add_argument(
        "--network6",
        default="fd00:0:0:2::/64",
        metavar="NETWORK",
        help='preset slirp: default %(default)s; "" for none',
    )
    made.add_argument(
        "--dns", metavar="SERVER", action="append", default=[], help="preset slirp: else the host's servers"
    )
    made.add_argument("--host-loopback", action="store_true", help="preset slirp: the gateway is the host's loopback")
    made.add_argument(
        "-p",
        "--publish",
        action="append",
        default=[],
        metavar="[HOST:]PORT:TARGET:PORT[/udp]",
        help="a port of the host goes to one inside",
    )
    made.add_argument("--control", metavar="PATH", help="the control socket (overrides the file)")
    made.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="overrides the file")
    made.add_argument("--log-format", choices=("text", "json"), help="overrides the file")
    made.add_argument(
        "--ready-fd", type=int, metavar="N", help="write a line there when packets are served, and close it"
    )
    made.add_argument(
        "--print-config", action="store_true", help="write the configuration that the flags mean, and end"
    )
    made.add_argument("--unsafe-unsealed", action="store_true", help="do not seal: for debugging only")
    made.set_defaults(bridge_address=[])
    return made


def _text_of_flags(options: argparse.Namespace) -> str:
    """The configuration that flags alone mean."""
    from services.netstackd.config import presets

    if options.preset == "router":
        if not options.lan or not options.wan:
            raise CommandError("--preset router needs --lan LINK and --wan LINK", usage=True)
        return presets.router(options.lan, options.wan, options.lan_address, options.wan_address, options.gateway)
    if options.preset == "bridge":
        return presets.bridge(options.port, options.bridge_address)
    if options.preset == "slirp":
        ports = [*options.port, *(link for link, _ in options.interfaces or [])]
        return presets.slirp(
            ports, options.network, options.network6, host_loopback=options.host_loopback, upstream=options.dns
        )
    if not options.interfaces:
        raise CommandError(
            "nothing to do: give --config FILE, a --preset, or interfaces (--help shows how)", usage=True
        )
    text = presets.plain(options.interfaces, options.route, not options.no_forwarding)
    if options.masquerade:
        names = ", ".join(presets.quote(name) for name in options.masquerade)
        text += f"\n[nat]\nmasquerade = [{names}]\n"
    return text


def _override(config: Config, options: argparse.Namespace) -> Config:
    from protocol.records import replace

    changes: dict[str, object] = {}
    if options.publish:
        from services.netstackd.config.publishing import parse_publish

        try:
            changes["publishes"] = (*config.publishes, *(parse_publish(text) for text in options.publish))
        except ValueError as error:
            raise ConfigError([f"--publish {error}"]) from None
    if options.control is not None:
        changes["control"] = options.control
    if options.log_level is not None:
        changes["log_level"] = options.log_level
    if options.log_format is not None:
        changes["log_format"] = options.log_format
    return replace(config, **changes)


def main(arguments: Sequence[str]) -> int:
    """Start and stay. CommandError."""
    options = parser().parse_args(arguments)
    if options.config and (options.preset or options.interfaces):
        raise CommandError("--config cannot stand beside --preset, --tap, --tun, --packet or --unix", usage=True)
    try:
        if options.config:
            path = os.path.abspath(options.config)
            read: Callable[[], tuple[str, str]] = lambda: (options.config, read_file(path))  # noqa: E731
        else:
            text = _text_of_flags(options)
            if options.print_config:
                sys.stdout.write(text)
                return 0
            read = lambda: ("flags", text)  # noqa: E731
        source = read()
        config = _override(load(*source), options)
    except ConfigError as error:
        raise CommandError("\n".join(error.problems)) from None
    if not config.interfaces:
        raise CommandError(f"{options.config}: no interface (add [[interface]])")
    return _run(config, source, read, options)


def _run(
    config: Config, source: tuple[str, str], read: Callable[[], tuple[str, str]], options: argparse.Namespace
) -> int:
    from services.netstackd.edge.keeper import Keeper
    from services.netstackd.edge.link_files import LinkError
    from services.netstackd.edge.log import EventLog
    from services.netstackd.process import run_router, wall

    def ready() -> None:
        if options.ready_fd is not None:
            try:
                os.write(options.ready_fd, b"ready\n")
                os.close(options.ready_fd)
            except OSError:
                pass
            options.ready_fd = None

    unsealed = options.unsafe_unsealed
    log = EventLog(wall, config.log_level, config.log_format)
    override = lambda changed: _override(changed, options)  # noqa: E731
    try:
        keeper = Keeper(
            config,
            source,
            read,
            lambda config, source, links, listener, sockets, channel: run_router(
                config, source, links, listener, channel, override, unsealed, sockets=sockets
            ),
            log,
            ready,
            override,
            unsealed,
        )
    except LinkError as error:
        raise CommandError(str(error)) from None
    return keeper.run()

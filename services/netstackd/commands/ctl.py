"""`netstackd ctl VERB`: look at and change a running router. Tables for people, `--json` for programs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from protocol.rpc.codec import Fd
from services.netstackd.commands.common import CommandError, default_socket, read_file, table, usage_parser
from services.netstackd.commands.connection import Control

Show = Callable[[Any], str]


def _rows(*columns: str) -> Show:
    return lambda rows: table(rows, columns or None) or "none"


def _status(answer: dict[str, Any]) -> str:
    return "\n".join(f"{key:12} {value}" for key, value in answer.items())


def _links(rows: list[dict[str, Any]]) -> str:
    return table(
        rows,
        ("interface", "kind", "state", "mac", "mtu", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "tx_dropped"),
    )


def _connections(answer: dict[str, Any]) -> str:
    rows = [
        {**row, "packets": "/".join(map(str, row["packets"])), "bytes": "/".join(map(str, row["bytes"]))}
        for row in answer["connections"]
    ]
    shown = table(rows, ("protocol", "state", "timeout", "original", "reply", "packets", "bytes"))
    statistics = answer["statistics"]
    more = answer["matching"] - len(rows)
    tail = f"{statistics['connections']} of {statistics['limit']} connections"
    if more:
        tail += f", {more} not shown (--limit)"
    return f"{shown}\n{tail}" if shown else tail


def _nat(answer: dict[str, Any]) -> str:
    parts = [table(answer["rules"]) or "no rules"]
    if answer["mappings"]:
        parts.append(table(answer["mappings"]))
    return "\n\n".join(parts)


def _stats(answer: dict[str, int]) -> str:
    return "\n".join(f"{name:32} {value:>12}" for name, value in sorted(answer.items())) or "all counters are 0"


def _ping(answer: dict[str, Any]) -> str:
    lines = [
        f"seq {index}: {'no answer' if took is None else f'{took} ms'}" for index, took in enumerate(answer["times"], 1)
    ]
    lost = answer["sent"] - answer["received"]
    lines.append(f"{answer['sent']} sent, {answer['received']} received, {100 * lost // answer['sent']}% lost")
    return "\n".join(lines)


def _traceroute(answer: dict[str, Any]) -> str:
    lines = []
    for row in answer["hops"]:
        times = " ".join("*" if took is None else f"{took} ms" for took in row["times"])
        lines.append(f"{row['hop']:2} {' '.join(row['from']) or '*'}  {times} {row['error']}".rstrip())
    return "\n".join([*lines, "reached" if answer["reached"] else "not reached"])


def _sockets(rows: list[dict[str, Any]]) -> str:
    """With what of TCP_INFO tells how a connection fares: round trip and window in ms and segments."""
    shown = []
    for row in rows:
        info = row["info"]
        more = {"rtt": info["rtt"] / 1000, "cwnd": info["snd_cwnd"], "retrans": info["total_retrans"]} if info else {}
        shown.append({**row, **more})
    columns = (
        "protocol",
        "state",
        "recv_q",
        "send_q",
        "local",
        "remote",
        "interface",
        "timer",
        "rtt",
        "cwnd",
        "retrans",
    )
    return table(shown, columns) or "none"


def _why(answer: dict[str, Any]) -> str:
    return "\n".join([*(f"  {step}" for step in answer["steps"]), answer["verdict"]])


def _changes(answer: list[str]) -> str:
    return "\n".join(answer) or "nothing changed"


def _published(rows: list[dict[str, Any]]) -> str:
    shown = [{**row, "port": _range(row["ports"])} for row in rows]
    return table(shown, ("id", "protocol", "host", "port", "to", "connections")) or "none"


def _range(ports: list[int]) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"


def _done(answer: Any) -> str:
    return "" if answer is True else str(answer)


# verb -> (what it shows, how); those with parameters of their own are in _parsers
SIMPLE: Final[dict[str, tuple[str, Show]]] = {
    "status": ("who is running, and for how long", _status),
    "addr": ("addresses", _rows()),
    "link": ("interfaces and what passed", _links),
    "rule": ("policy routing rules", _rows()),
    "neigh": ("neighbours", _rows()),
    "fdb": ("stations that bridges have learned", _rows()),
    "nat": ("translation rules and mappings", _nat),
    "filter": ("filter rules with their counters", _rows()),
    "dhcp": ("leases", _rows()),
    "ss": ("the router's own sockets: states, queues, timers", _sockets),
    "dns": ("questions and answers of the DNS forwarder", _status),
    "published": ("ports of the host that go inside", _published),
    "metrics": ("everything counted, as Prometheus reads it", str),
    "stop": ("end the router", _done),
}


def parser() -> argparse.ArgumentParser:
    """The grammar."""
    made = usage_parser("netstackd ctl", "Look at and change a running router.")
    made.add_argument("--socket", default=default_socket(), metavar="PATH", help="control socket (%(default)s)")
    made.add_argument("--json", action="store_true", help="the values, for programs")
    verbs = made.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, (about, _) in SIMPLE.items():
        verbs.add_parser(verb, help=about)
    _parsers(verbs)
    return made


def _parsers(verbs: Any) -> None:
    route = verbs.add_parser("route", help="routes: show, add, del")
    route.add_argument("action", nargs="?", choices=("show", "add", "del"), default="show")
    route.add_argument("words", nargs="*", metavar="TO [via GATEWAY] [dev INTERFACE] [metric N]")
    conn = verbs.add_parser("conn", help="tracked connections: show, del")
    conn.add_argument("action", nargs="?", choices=("show", "del"), default="show")
    conn.add_argument("--protocol", help="tcp, udp, icmp, ...")
    conn.add_argument("--address", help="at either end, before or after translation")
    conn.add_argument("--limit", type=int, default=1000, help="rows at most (%(default)s)")
    sets = verbs.add_parser("set", help="address sets: show, add, del")
    sets.add_argument("action", nargs="?", choices=("show", "add", "del"), default="show")
    sets.add_argument("name", nargs="?")
    sets.add_argument("member", nargs="?")
    stats = verbs.add_parser("stats", help="counters that are not 0 (Drop... are reasons)")
    stats.add_argument("prefix", nargs="?", default="")
    ping = verbs.add_parser("ping", help="echo requests from the router")
    ping.add_argument("address")
    ping.add_argument("-c", dest="count", type=int, default=4)
    ping.add_argument("-i", dest="interval", type=float, default=1.0)
    ping.add_argument("-s", dest="size", type=int, default=56)
    ping.add_argument("-W", dest="timeout", type=float, default=1.0)
    trace = verbs.add_parser("traceroute", help="who passes packets on to an address")
    trace.add_argument("address")
    trace.add_argument("-m", dest="hops", type=int, default=30, help="at most (%(default)s)")
    trace.add_argument("-q", dest="probes", type=int, default=3, help="of each hop (%(default)s)")
    trace.add_argument("-W", dest="timeout", type=float, default=1.0)
    pcap = verbs.add_parser("pcap", help="capture an interface")
    pcap.add_argument("interface")
    pcap.add_argument("-w", dest="file", required=True, metavar="FILE", help="- for standard output")
    pcap.add_argument("-c", dest="count", type=int, default=0, help="packets, then end")
    pcap.add_argument("-s", dest="snap", type=int, default=262144, help="bytes of each packet")
    why = verbs.add_parser("why", help='what would happen to a packet: why "tcp A:P > B:P in IFACE"')
    why.add_argument("packet", nargs="+")
    publish = verbs.add_parser("publish", help="a port of the host goes to one inside")
    publish.add_argument("port", metavar="[HOST:]PORT[-LAST]:TARGET:PORT[/udp]", help="port 0: any that is free")
    unpublish = verbs.add_parser("unpublish", help="end a published port")
    unpublish.add_argument("number", type=int, help="as `published` shows it")
    verbs.add_parser("events", help="what happens, as it happens (JSON lines)")
    ns = verbs.add_parser("ns", help="network namespaces: show, add, del")
    ns.add_argument("action", nargs="?", choices=("show", "add", "del"), default="show")
    ns.add_argument("name", nargs="?")
    ns.add_argument("--address", action="append", default=[], help="with prefix length; else the next free one")
    reload = verbs.add_parser("reload", help="use another configuration, keeping connections")
    reload.add_argument("file", nargs="?", metavar="FILE", help="default: the file netstackd was started with")


def main(arguments: Sequence[str]) -> int:
    """One request, its answer on standard output. CommandError."""
    options = parser().parse_args(arguments)
    with Control(options.socket) as control:
        if options.verb == "events":
            return _events(control)
        answer, show = _ask(control, options)
    if options.json:
        print(json.dumps(answer))
    else:
        text = show(answer)
        if text:
            print(text)
    if options.verb == "ping" and not answer["received"]:
        return 1
    if options.verb == "traceroute" and not answer["reached"]:
        return 1
    return 0


def _ask(control: Control, options: argparse.Namespace) -> tuple[Any, Show]:
    verb = options.verb
    if verb in SIMPLE:
        return control.call(verb), SIMPLE[verb][1]
    if verb == "route":
        return _route(control, options)
    if verb == "conn":
        if options.action == "del":
            return control.call("conn_del", options.protocol, options.address), lambda count: f"{count} forgotten"
        return control.call("conn", options.protocol, options.address, options.limit), _connections
    if verb == "set":
        return _set(control, options)
    if verb == "ns":
        return _namespaces(control, options)
    if verb == "stats":
        return control.call("stats", options.prefix), _stats
    if verb == "ping":
        values = (options.count, options.interval, options.size, options.timeout)
        return control.call("ping", options.address, *values), _ping
    if verb == "traceroute":
        return control.call("traceroute", options.address, options.hops, options.probes, options.timeout), _traceroute
    if verb == "pcap":
        return _pcap(control, options)
    if verb == "publish":
        return _publish(control, options), lambda row: f"{row['id']} {row['protocol']} {row['host']}:{row['port']}"
    if verb == "unpublish":
        return control.call("unpublish", options.number), _done
    if verb == "why":
        return control.call("why", " ".join(options.packet)), _why
    if options.file is None:
        return control.call("reload"), _changes
    return control.call("reload", options.file, read_file(options.file)), _changes


def _route(control: Control, options: argparse.Namespace) -> tuple[Any, Show]:
    if options.action == "show":
        if options.words[:1] == ["table"] and len(options.words) == 2 and options.words[1].isdigit():
            return control.call("route", int(options.words[1])), _rows()
        if options.words:
            raise CommandError("route show takes at most: table NUMBER", usage=True)
        return control.call("route"), _rows()
    words = list(options.words)
    to = words.pop(0) if words else ""
    given: dict[str, str] = {}
    while len(words) >= 2 and words[0] in ("via", "dev", "metric"):
        given[words[0]] = words[1]
        del words[:2]
    if not to or words or not given.get("metric", "0").isdigit():
        raise CommandError(f"route {options.action}: TO [via GATEWAY] [dev INTERFACE] [metric N]", usage=True)
    values = (to, given.get("via"), given.get("dev"), int(given.get("metric", "0")))
    return control.call(f"route_{options.action}", *values), _done


def _set(control: Control, options: argparse.Namespace) -> tuple[Any, Show]:
    if options.action == "show":
        return control.call("set", options.name), _rows()
    if not options.name or not options.member:
        raise CommandError(f"set {options.action}: NAME MEMBER", usage=True)
    return control.call(f"set_{options.action}", options.name, options.member), _done


def _namespaces(control: Control, options: argparse.Namespace) -> tuple[Any, Show]:
    if options.action == "show":
        columns = ("name", "addresses", "interfaces", "clients", "sockets", "keep")
        return control.call("namespaces"), _rows(*columns)
    if not options.name:
        raise CommandError(f"ns {options.action}: NAME", usage=True)
    if options.action == "del":
        return control.call("namespace_remove", options.name), lambda _: ""
    wanted = {"keep": True, "connect": False, **({"addresses": options.address} if options.address else {})}
    return control.call("namespace_add", options.name, wanted)["names"], lambda texts: "\n".join(texts)


def _publish(control: Control, options: argparse.Namespace) -> Any:
    from services.netstackd.config.publishing import parse_publish
    from services.netstackd.config.text import address_text

    try:
        spec = parse_publish(options.port)
    except ValueError as error:
        raise CommandError(f"publish: {error}", usage=True) from None
    what = {
        "protocol": spec.protocol,
        "host": address_text(spec.version, spec.address),
        "port": f"{spec.first}-{spec.last}",
        "namespace": spec.namespace,
        "address": "" if spec.namespace else address_text(*spec.target),
        "guest_port": spec.guest_port,
    }
    return control.call("publish", what)


def _pcap(control: Control, options: argparse.Namespace) -> tuple[Any, Show]:
    """The file is opened here: the router may not open any."""
    try:
        if options.file == "-":
            fd = os.dup(1)
        else:
            fd = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"{options.file}: {error.strerror}") from None
    try:
        answer = control.call("pcap", options.interface, Fd(fd), options.count, options.snap)
    except KeyboardInterrupt:
        answer = {"packets": None}
    finally:
        os.close(fd)
    show: Show = lambda answer: "" if options.file == "-" else f"{answer['packets']} packets"  # noqa: E731
    return answer, show


def _events(control: Control) -> int:
    def told(event: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps({**event, "time": event.get("time", time.time_ns()) / 1e9}) + "\n")
        sys.stdout.flush()

    control.call("events", told=told)
    try:
        control.watch(told)
    except KeyboardInterrupt:
        pass
    return 0

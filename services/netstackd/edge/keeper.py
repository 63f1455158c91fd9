"""The keeper: the process that may open things, beside the sealed one that moves packets.

It reads the configuration, opens links and the control socket, forks the router, and waits. The router asks it (over
a socket pair, MessagePack-RPC) for what a sealed process cannot do: read the configuration file again, open the links
of a new configuration, have a connector (edge/connector.py), which is another child and the only one that makes
sockets of the host. A router that dies of a signal or a bug is started again on the same links, so that taps keep
their host ends; one that dies too often is given up. The router ends when the keeper does: its channel closes.

    SIGHUP           read the file again and reload; what is wrong is logged, and nothing changes
    SIGTERM, SIGINT  end the router, then the keeper
"""

from __future__ import annotations

import array
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from protocol.errors import ProtocolViolation
from protocol.rpc.codec import Fd, Request, Response
from protocol.rpc.connection import RpcConnection
from services.netstackd.config.load import load
from services.netstackd.config.model import Config, ConfigError, InterfaceSpec
from services.netstackd.edge.connector import Connector, run_connector
from services.netstackd.edge.lease_file import LeaseFile
from services.netstackd.edge.link_files import WITHOUT_FILES, LinkError, adopt, describe, mac_of, open_base
from services.netstackd.edge.log import EventLog
from services.netstackd.links.base import Link
from services.netstackd.links.host_unsafe import entered, set_device_mtu
from services.netstackd.links.unix_socket import bind_afresh

MAX_RESTARTS: Final = 5  # in RESTART_WINDOW_NS; then something is broken for good
RESTART_WINDOW_NS: Final = 10 * 1_000_000_000
EXIT_GIVEN_UP: Final = 1
MAX_PUBLISHED: Final = 256  # ports published at run time that are remembered
_SIGNALS: Final = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

Source = tuple[str, str]  # a configuration file's name and text
Listener = socket.socket | None
# (config, its source, base links, control listener, listener of the socket service, channel to the keeper) -> never
RunRouter = Callable[[Config, Source, dict[str, Link], Listener, Listener, socket.socket], NoReturn]


def has_files(spec: InterfaceSpec) -> bool:
    """Whether an interface's link has descriptors of its own."""
    return spec.link.kind not in WITHOUT_FILES


def open_links(config: Config) -> dict[str, Link]:
    """Open every base link, or none. LinkError."""
    links: dict[str, Link] = {}
    parents = {spec.link.parent for spec in config.interfaces if spec.link.kind == "vlan"}
    try:
        for spec in config.interfaces:
            if has_files(spec):
                links[spec.name] = open_base(spec, vlans=spec.name in parents)
    except LinkError:
        for link in links.values():
            link.close()
        raise
    return links


def open_listener(what: str, path: str, mode: int) -> Listener:
    """A listening socket at `path` with its permissions; None without a path. LinkError names it as `what`."""
    if not path:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~mode)
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
        bind_afresh(sock, path)
        sock.listen(16)
    except OSError as error:
        sock.close()
        raise LinkError(f"{what} {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return sock


def name_servers(path: str) -> list[str]:
    """The servers that a resolv.conf(5) names, without those of a scope; [] when there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(65536).splitlines()
    except OSError:
        return []
    rows = [line.split() for line in lines if line.startswith("nameserver")]
    return [row[1] for row in rows if len(row) >= 2 and row[0] == "nameserver" and "%" not in row[1]]


class Keeper:
    """See the module docstring. `read` gives (file's name, text) of the configuration, as it is now.

    `override` changes a configuration as the command line's flags say.
    """

    def __init__(
        self,
        config: Config,
        source: Source,
        read: Callable[[], Source],
        run_router: RunRouter,
        log: EventLog,
        ready: Callable[[], None],
        override: Callable[[Config], Config],
        unsealed: bool = False,
    ) -> None:
        self._config = config
        self._source = source
        self._read = read
        self._run_router = run_router
        self._log = log
        self._ready = ready
        self._override = override
        self._unsealed = unsealed
        self._leases = LeaseFile(config.lease_file, log)
        self._published: dict[str, Any] = {}  # at run time, by a name each
        self._links = open_links(config)
        self._connector = 0
        self._control: Listener = None
        self._sockets: Listener = None
        try:
            self._control = open_listener("control socket", config.control, config.control_mode)
            self._sockets = open_listener("socket service", config.sockets, config.sockets_mode)
        except LinkError:
            for link in self._links.values():
                link.close()
            self._clean_up()
            raise
        self._prepared: tuple[Config, Source, dict[str, Link]] | None = None
        self._child = 0
        self._channel: socket.socket | None = None
        self._connection = RpcConnection()
        self._starts: list[int] = []
        self._ending = False
        self._status = 0

    def run(self) -> int:
        """Until the end; returns the exit status."""
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each connection of the host is one
        self._start()
        try:
            while self._child:
                self._wait(read_end)
        finally:
            self._clean_up()
        return self._status

    def _clean_up(self) -> None:
        self._end_connector()
        for listener, path in ((self._control, self._config.control), (self._sockets, self._config.sockets)):
            if listener is not None:
                listener.close()
                try:
                    os.unlink(path)
                except OSError:
                    pass

    # -- the router process --

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._starts.append(time.monotonic_ns())
        child = os.fork()
        if child == 0:
            try:
                ours.close()
                signal.set_wakeup_fd(-1)
                for number in _SIGNALS:
                    signal.signal(number, signal.SIG_DFL)
                self._run_router(self._config, self._source, self._links, self._control, self._sockets, theirs)
            finally:
                os._exit(70)
        theirs.close()
        self._child, self._channel, self._connection = child, ours, RpcConnection()

    def _reap(self) -> None:
        """See whether the router has ended, and what that means; and the connector, which is asked for again."""
        if self._connector and os.waitpid(self._connector, os.WNOHANG)[0]:
            self._connector = 0
        pid, status = os.waitpid(self._child, os.WNOHANG)
        if pid == 0:
            return
        self._child = 0
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        code = os.waitstatus_to_exitcode(status)
        if self._ending or code == 0:
            self._status = max(code, 0)
            return
        why = f"signal {-code}" if code < 0 else f"status {code}"
        now = time.monotonic_ns()
        self._starts = [at for at in self._starts if now - at < RESTART_WINDOW_NS]
        if len(self._starts) > MAX_RESTARTS:
            self._log.event("error", "router-given-up", why=why, restarts=len(self._starts) - 1)
            self._status = EXIT_GIVEN_UP
            return
        self._log.event("error", "router-restarted", why=why)
        self._prepared = None
        self._start()

    def _wait(self, signals: int) -> None:
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        if self._channel is not None:
            poll.register(self._channel, select.POLLIN)
        for fd, _ in poll.poll():
            if fd == signals:
                for number in os.read(signals, 64):
                    self._signalled(number)
            elif self._channel is not None and fd == self._channel.fileno():
                self._receive()

    def _signalled(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP:
            self._reload()
        else:
            self._ending = True
            if self._child:
                os.kill(self._child, signal.SIGTERM)

    # -- what the router asks --

    def _receive(self) -> None:
        channel = self._channel
        assert channel is not None
        try:
            data = channel.recv(65536)
        except OSError:
            data = b""
        if not data:
            channel.close()
            self._channel = None
            return
        try:
            for message in self._connection.receive_untrusted(data):
                if isinstance(message, Request):
                    self._serve(message)
                elif isinstance(message, Response):
                    self._connection.is_wanted(message)
                    self._reloaded(message)
                elif message.method == "leases":
                    self._leases.merge(message.params)
                elif message.method == "published":
                    self._note_published(message.params)
                else:
                    self._settle(message.method)
        except ProtocolViolation as violation:
            self._log.event("error", "router-misbehaves", why=violation.why)
            os.kill(self._child, signal.SIGKILL)

    def _send(self, data: bytes, fds: Sequence[int]) -> None:
        if self._channel is None:
            return
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self._channel.sendmsg([data], rights, socket.MSG_NOSIGNAL)
            if sent < len(data):
                self._channel.sendall(data[sent:])
        except OSError:
            pass  # it has died: SIGCHLD tells

    def _serve(self, request: Request) -> None:
        try:
            if request.method == "leases":
                result: Any = self._leases.page(*request.params)
            elif request.method == "published":
                result = list(self._published.values())
            elif request.method == "read":
                result = list(self._read())
            elif request.method == "prepare":
                result = self._prepare(*request.params)
            elif request.method == "resolver":
                dns = self._config.dns
                result = name_servers(dns.resolv_conf) if dns is not None else []
            elif request.method == "connector":
                with self._start_connector() as theirs:
                    self._send(*self._connection.answer(request.msgid, Fd(theirs.fileno())))
                return
            else:
                raise LinkError(f"no method {request.method}")
            self._send(*self._connection.answer(request.msgid, result))
        except ConfigError as error:
            self._send(*self._connection.refuse(request.msgid, 22, "\n".join(error.problems)))
        except (LinkError, OSError, TypeError) as error:
            self._send(*self._connection.refuse(request.msgid, 5, str(error)))

    def _note_published(self, params: Sequence[Any]) -> None:
        """A port was published at run time, or (row None) is no longer: a router that is started again does the
        same."""
        match params:
            case [str() as name, None]:
                self._published.pop(name, None)
            case [str() as name, dict() as row] if name in self._published or len(self._published) < MAX_PUBLISHED:
                self._published[name] = row
            case _:
                pass  # more than are remembered

    def _start_connector(self) -> socket.socket:
        """A new connector instead of the one there was; the router's end of its channel. OSError."""
        self._end_connector()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        child = os.fork()
        if child == 0:
            try:
                theirs.close()
                signal.set_wakeup_fd(-1)
                for number in _SIGNALS:
                    signal.signal(number, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: it ends with its channel
                spec, dns = self._config.slirp, self._config.dns is not None
                denied, loopback = (spec.denied, spec.host_loopback) if spec is not None else ((), False)
                connector = Connector(denied, host_loopback=loopback, dns=dns)
                run_connector(ours, connector, self._unsealed)
            finally:
                os._exit(70)
        ours.close()
        self._connector = child
        return theirs

    def _end_connector(self) -> None:
        if self._connector:
            os.kill(self._connector, signal.SIGKILL)
            os.waitpid(self._connector, 0)
            self._connector = 0

    def _prepare(self, name: str, text: str) -> dict[str, Any]:
        """Open the links of a new configuration that the router lacks. ConfigError, LinkError: nothing is changed."""
        config = self._override(load(name, text))
        if config.control != self._config.control:
            raise LinkError("control.socket cannot change while running (restart netstackd)")
        if config.sockets != self._config.sockets:
            raise LinkError("sockets.listen cannot change while running (restart netstackd)")
        before = {spec.name: spec for spec in self._config.interfaces}
        parents = {spec.link.parent for spec in config.interfaces if spec.link.kind == "vlan"}
        links: dict[str, Link] = {}
        answer: dict[str, Any] = {}
        opened: list[Link] = []
        try:
            for spec in config.interfaces:
                if not has_files(spec):
                    continue
                link = self._link_for(spec, before.get(spec.name), spec.name in parents)
                if link is not self._links.get(spec.name):
                    opened.append(link)
                links[spec.name] = link
                about, fds = describe(link) if link in opened else ({}, [])
                if about:
                    answer[spec.name] = {**about, "fd": Fd(fds[0])}
        except LinkError:
            for link in opened:
                link.close()
            raise
        # a bridge whose ports changed is built anew: it needs those that stayed as well
        rebuilt = {spec.bridge for spec in config.interfaces if spec.bridge and spec != before.get(spec.name)}
        rebuilt |= {spec.bridge for spec in before.values() if spec.bridge and spec.name not in links}
        for spec in config.interfaces:
            if spec.name not in answer and has_files(spec) and self._must_send(spec, before.get(spec.name), rebuilt):
                about, fds = describe(links[spec.name])
                answer[spec.name] = {**about, "fd": Fd(fds[0])}
        self._prepared = (config, (name, text), links)
        return answer

    @staticmethod
    def _must_send(spec: InterfaceSpec, old: InterfaceSpec | None, rebuilt: set[str]) -> bool:
        """Whether the router closes its link of this name although the keeper's stays."""
        return spec.bridge in rebuilt or old is None or (old.link, old.bridge) != (spec.link, spec.bridge)

    def _link_for(self, spec: InterfaceSpec, old: InterfaceSpec | None, vlans: bool) -> Link:
        """The link for an interface: the one there is, the one there is with other parameters, or a new one."""
        link = self._links.get(spec.name)
        if link is None or old is None or _device(old) != _device(spec):
            return open_base(spec, vlans)
        if (old.mac, old.mtu, old.link.offload) == (spec.mac, spec.mtu, spec.link.offload):
            return link
        about, fds = describe(link)
        about |= {"mac": mac_of(spec) if spec.link.kind != "packet" or spec.mac else link.mac}
        if spec.mtu and spec.link.kind in ("tap", "tun") and spec.mtu != link.mtu:
            try:
                with entered(spec.link.netns or None):
                    set_device_mtu(spec.link.device, spec.mtu)
            except OSError as error:
                raise LinkError(f"interface {spec.name}: mtu {spec.mtu}: {error.strerror}") from None
        about["mtu"] = spec.mtu or link.mtu
        return adopt(about, os.dup(fds[0]))

    def _settle(self, what: str) -> None:
        """The router says that it serves, or whether it has taken over what was prepared."""
        if what == "ready":
            self._ready()
            return
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return
        config, source, links = prepared
        keep, drop = (links, self._links) if what == "commit" else (self._links, links)
        for name, link in drop.items():
            if keep.get(name) is not link:
                link.close()
        if what == "commit":
            if (config.slirp, config.dns) != (self._config.slirp, self._config.dns):
                self._end_connector()  # the router asks for another, which gets the new permissions
            self._config, self._source, self._links = config, source, links
            self._leases.move(config.lease_file)

    # -- SIGHUP --

    def _reload(self) -> None:
        try:
            name, text = self._read()
            _, (data, fds) = self._connection.call("reload", [name, text])
        except (OSError, ValueError) as error:
            self._log.event("error", "reload-failed", why=str(error))
            return
        self._send(data, fds)

    def _reloaded(self, message: Response) -> None:
        if message.error is None:
            self._log.event("info", "reloaded", changes=len(message.result))
        else:
            why = message.error[1] if isinstance(message.error, list) and len(message.error) > 1 else message.error
            self._log.event("error", "reload-failed", why=str(why))


def _device(spec: InterfaceSpec) -> tuple[object, ...]:
    """What makes two specifications the same device of the host."""
    link = spec.link
    return (
        link.kind,
        link.device,
        link.netns,
        link.fd,
        link.path,
        link.framing,
        link.listen,
        link.vnet,
        link.read,
        link.write,
    )

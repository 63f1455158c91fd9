"""The sealed process: builds the router, seals, says that it is ready, and turns the loop until it is told to end."""

from __future__ import annotations

import gc
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from protocol.logs import traceback_text
from protocol.rpc.codec import Fd
from protocol.sealing.seal_unsafe import SealError, cache_directory, cached_filter, seal
from services.netstackd import host_filter
from services.netstackd.app import Router
from services.netstackd.config.load import load
from services.netstackd.config.model import Config, ConfigError
from services.netstackd.control.host_side import HostSide
from services.netstackd.control.methods import Methods
from services.netstackd.control.server import Client, ControlServer, Later
from services.netstackd.edge.link_files import adopt
from services.netstackd.edge.log import EventLog
from services.netstackd.edge.processors import open_processors
from services.netstackd.links.base import Link

EXIT_OK: Final = 0
EXIT_CANNOT_START: Final = 3
EXIT_BUG: Final = 70  # EX_SOFTWARE, sysexits(3)
READY: Final = "ready"
COLLECT: Final = (50_000, 20, 100)  # gc.set_threshold

Source = tuple[str, str]  # a configuration file's name and text


def wall() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()


class RouterProcess:
    """The sealed process, from fork to end."""

    def __init__(
        self,
        config: Config,
        source: Source,
        links: dict[str, Link],
        listener: socket.socket | None,
        channel: socket.socket,
        override: Callable[[Config], Config],
        unsealed: bool,
        connector: socket.socket | None = None,
        sockets: socket.socket | None = None,
    ) -> None:
        self._override = override
        self._unsealed = unsealed
        self._log = EventLog(wall, config.log_level, config.log_format)
        self._router = Router(
            config,
            links,
            clock=time.monotonic_ns,
            wall=wall,
            rng=random.Random(int.from_bytes(os.urandom(32), "big")),
            secret=os.urandom(32),
            log=self._log,
        )
        loop = self._router.loop
        self._methods = Methods(self._router, source, self.reload, loop.stop)
        self._server = ControlServer(loop, self._methods.table(), self._log)
        self._keeper = self._server.adopt(channel)
        self._keeper.on_close = loop.stop
        self._host = HostSide(loop, self._router.stack.timers, self._log, self._obtain_connector)
        if connector is not None:
            self._host.adopt(connector)
        self._router.obtain_resolvers = self._obtain_resolvers
        self._router.use_host(self._host)
        self._listener = listener
        if listener is not None:
            self._server.listen(listener)
        self._sockets = sockets
        if sockets is not None:
            self._router.sockets.listen(sockets)
        self._signals, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        loop.watch(self._signals, select.EPOLLIN, self._signalled)
        self._kept: frozenset[int] = frozenset()
        found = open_processors()
        if found is not None:
            loop.processors, self._kept = found
            loop.processors.on_move = self._router.sockets.leave_processors
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def _obtain_connector(self, done: Callable[[socket.socket | None], None]) -> None:
        """Ask the keeper for a connector (edge/connector.py)."""

        def answered(error: Any, answer: Any) -> None:
            if error is not None or not isinstance(answer, Fd):
                self._log.event("error", "no-connector", why=str(error))
                done(None)
            else:
                done(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, answer.number))

        self._keeper.call("connector", [], answered)

    def _obtain_resolvers(self, done: Callable[[list[str]], None]) -> None:
        """Ask the keeper who answers names for the host."""

        def answered(error: Any, answer: Any) -> None:
            if error is None and isinstance(answer, list):
                done([text for text in answer if isinstance(text, str)])

        self._keeper.call("resolver", [], answered)

    def _signalled(self, events: int, now: int) -> None:
        os.readv(self._signals, (bytearray(64),))
        self._router.loop.stop()

    def seal(self, confine: Callable[[], None] | None = None) -> None:
        """Give up everything that serving does not need. SealError."""
        if self._unsealed:
            self._log.event("warning", "unsealed", why="--unsafe-unsealed was given: for debugging only")
            return
        keep = {
            2,
            self._signals,
            self._wake,
            self._keeper.sock.fileno(),
            *self._router.descriptors(),
            *self._host.descriptors(),
            *self._kept,
        }
        keep |= {listener.fileno() for listener in (self._listener, self._sockets) if listener is not None}
        rows = (*host_filter.SEALED, host_filter.wake_by(self._wake))
        program = cached_filter(rows, cache_directory())
        if confine is not None:
            confine()
        seal(rows, keep_fds=keep, landlock=[], program=program)

    def reload(self, client: Client, name: str | None, text: str | None) -> Later:
        """Change to another configuration: `text`, or when that is None what the keeper's file says now."""
        later = Later()
        keeper = self._keeper

        def prepare(name: str, text: str) -> None:
            try:
                config = self._override(load(name, text))
            except ConfigError as error:
                later.refuse("\n".join(error.problems))
                return
            if config.dns is not None and not self._unsealed and "dnslib" not in sys.modules:
                later.refuse("dns: cannot be added while running (restart netstackd)")
                return
            keeper.call("prepare", [name, text], lambda error, answer: apply(config, (name, text), error, answer))

        def apply(config: Config, source: Source, error: Any, answer: Any) -> None:
            if error is not None:
                later.refuse(str(error[1]))
                return
            links = {name: adopt(about, about["fd"].number) for name, about in answer.items()}
            try:
                done = self._router.reload(config, links)
            except Exception as problem:  # half-changed: the keeper starts us again on what it knows to be good
                self._log.event("error", "reload-failed", why=traceback_text(problem))
                keeper.notify("abort", [])
                later.refuse(f"reload: {type(problem).__name__}: {problem} (the router is started again)")
                os._exit(EXIT_BUG)
            keeper.notify("commit", [])
            self._methods.source = source
            self._log.event("info", "configured", changes=len(done))
            later.answer(done)

        def read(error: Any, answer: Any) -> None:
            if error is not None:
                later.refuse(str(error[1]))
            else:
                prepare(*answer)

        if text is None:
            keeper.call("read", [], read)
        else:
            prepare(name or "configuration", text)
        return later

    def _keep_leases(self) -> None:
        """Have the keeper remember what DHCP servers give, and ask it for what they gave before."""
        services = self._router.services
        services.memory.on_change = lambda rows: self._keeper.notify("leases", [rows])

        def take(offset: int, error: Any, rows: Any) -> None:
            if error is None and rows:
                services.restore(rows)
                ask(offset + len(rows))

        def ask(offset: int) -> None:
            self._keeper.call("leases", [offset], lambda error, rows: take(offset, error, rows))

        ask(0)

    def _keep_published(self) -> None:
        """Have the keeper remember what is published at run time, and publish what it remembers of a router before."""

        def told(name: str, row: dict[str, Any] | None) -> None:
            self._keeper.notify("published", [name, row])

        def take(error: Any, rows: Any) -> None:
            for row in rows if error is None else ():
                self._methods.publish_again(row, lambda why: self._log.event("error", "not-published", why=why))

        self._methods.on_published = told
        self._keeper.call("published", [], take)

    def run(self) -> int:
        """Turn until the end; returns the exit status."""
        # What is here now stays; packets and connections that live on must not be looked through again and again.
        gc.freeze()
        gc.set_threshold(*COLLECT)
        if self._router.slirp is not None:
            self._router.refresh_resolvers()
            self._host.start()  # so that the first connection does not have to wait for it
        self._keep_leases()
        self._keep_published()
        self._keeper.notify(READY, [])
        self._log.event("info", READY, interfaces=len(self._router.interfaces), pid=self._methods.pid)
        self._router.loop.run()
        return EXIT_OK


def run_router(
    config: Config,
    source: Source,
    links: dict[str, Link],
    listener: socket.socket | None,
    channel: socket.socket,
    override: Callable[[Config], Config],
    unsealed: bool = False,
    connector: socket.socket | None = None,
    sockets: socket.socket | None = None,
    confine: Callable[[], None] | None = None,
) -> NoReturn:
    """The forked child: never returns. No traceback reaches a user; a bug is one log line and status 70.

    `connector`: a channel to a connector (edge/connector.py); without it the keeper is asked for one. `confine` is
    called once, right before the seal. `sockets`: listening, for clients of the router's own namespace.
    """
    status = EXIT_BUG
    log = EventLog(wall, config.log_level, config.log_format)
    try:
        process = RouterProcess(config, source, links, listener, channel, override, unsealed, connector, sockets)
        process.seal(confine)
        status = process.run()
    except SealError as error:
        log.event("error", "seal-refused", why=str(error))
        status = EXIT_CANNOT_START
    except Exception as error:
        log.event("error", "bug", why=traceback_text(error))
    os._exit(status)

"""Watches the service processes that were forked from this one: what they say at their birth, their seal, their end.

Owns: `ServiceWatch`, `ServiceEvents`. The monitor uses it for the services of its sandbox, the keeper of a shared
network (network/keeper.py) for that network's. Does not decide what an end means.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Protocol

from services.supervisor.errors import reason
from services.supervisor.launch.processes import ServiceProcess
from services.supervisor.log import Log
from services.supervisor.monitor.loop import Loop

_READ_BYTES = 65_536
_LOG_KEPT_BYTES = 16_384


class ServiceEvents(Protocol):
    """What the owner is told."""

    def service_sealed(self, service: ServiceProcess) -> None:
        """It wrote its byte."""

    def service_failed(self, service: ServiceProcess, why: str) -> None:
        """It gives up before its entry point."""

    def service_ended(self, service: ServiceProcess, code: int) -> None:
        """It is gone; `code` as os.waitstatus_to_exitcode has it. What it said last has been read."""


class ServiceWatch:
    """The services that live. weak: what is weaker in their confinement, as they said."""

    def __init__(self, loop: Loop, events: ServiceEvents, log: Log) -> None:
        self.alive: dict[int, ServiceProcess] = {}
        self.weak: list[str] = []
        self._loop = loop
        self._events = events
        self._log = log

    def add(self, service: ServiceProcess) -> None:
        """Watch a service from now on."""
        self.alive[service.pid] = service
        self._loop.watch(service.boot.fileno(), lambda: self.read_boot(service))
        self._loop.watch(service.ready, lambda: self._read_ready(service))
        if service.log >= 0:
            self._loop.watch(service.log, lambda: self._read_log(service))

    def reap(self) -> None:
        """See which have ended: after SIGCHLD."""
        for pid, service in list(self.alive.items()):
            if pid not in self.alive:
                continue  # a callback has ended it
            done, wait_status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.alive[pid]
                self.read_boot(service)
                self._read_log(service)
                self._events.service_ended(service, os.waitstatus_to_exitcode(wait_status))

    def end(self, service: ServiceProcess) -> None:
        """Kill it and wait for its end; nobody is told. Closes what was watched."""
        if self.alive.pop(service.pid, None) is not None:
            _kill(service.pid)
            os.waitpid(service.pid, 0)
        self.forget(service)

    def end_all(self, only: Sequence[ServiceProcess] | None = None) -> None:
        """The same for all at once, or for `only` these."""
        services = list(self.alive.values()) if only is None else only
        for service in services:
            if service.pid in self.alive:
                _kill(service.pid)
        for service in services:
            self.end(service)

    def forget(self, service: ServiceProcess) -> None:
        """Close what was watched of a service that ended."""
        if service.boot.fileno() >= 0:
            self._loop.unwatch(service.boot.fileno())
            service.boot.close()
        for name in ("ready", "log"):
            fd = getattr(service, name)
            if fd >= 0:
                self._loop.unwatch(fd)
                os.close(fd)
                setattr(service, name, -1)

    def read_boot(self, service: ServiceProcess) -> None:
        """Take what it said of its birth (launch/birth.py)."""
        if service.boot.fileno() < 0:
            return
        text = service.boot_text
        while True:
            try:
                data = service.boot.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._loop.unwatch(service.boot.fileno())
                service.boot.close()
                break
            text += data
        while b"\n" in text:
            line, _, rest = bytes(text).partition(b"\n")
            text[:] = rest
            self._boot_line(service, line.decode("utf-8", "replace"))

    def _boot_line(self, service: ServiceProcess, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "weak":
            if rest not in self.weak:
                self.weak.append(rest)
        elif word == "fail":
            self._events.service_failed(service, rest)
        elif word == "map":
            self._map_ids(service)

    def _map_ids(self, service: ServiceProcess) -> None:
        from services.supervisor.launch.namespaces import map_user_of
        from services.supervisor.launch.privileges import UNPRIVILEGED_ID

        try:
            map_user_of(service.pid, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
            answer = b"done\n"
        except OSError as error:
            self._log.debug(f"user namespace of the {service.name}: {reason(error)}")
            answer = b"no\n"
        try:
            service.boot.sendall(answer)
        except OSError:
            pass  # it ended; SIGCHLD tells

    def _read_ready(self, service: ServiceProcess) -> None:
        """One byte: it is sealed. End of file alone: it is not, and SIGCHLD will tell."""
        try:
            sealed = bool(os.read(service.ready, 8))
        except BlockingIOError:
            return
        self._loop.unwatch(service.ready)
        os.close(service.ready)
        service.ready = -1
        if sealed:
            self._events.service_sealed(service)

    def _read_log(self, service: ServiceProcess) -> None:
        while service.log >= 0:
            try:
                data = os.read(service.log, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._loop.unwatch(service.log)
                os.close(service.log)
                service.log = -1
                return
            service.last_words += data
            del service.last_words[:-_LOG_KEPT_BYTES]


def how_it_ended(service: ServiceProcess, code: int) -> str:
    """An unexpected end in words, with the last line that it said."""
    how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    said = service.last_words.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"{service.title} ended unexpectedly: {how}" + (f": {said[:300]}" if said else "")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass

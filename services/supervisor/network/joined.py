"""A network that other sandboxes use too: one that a name stands for, or a running netstackd by its control socket.

Owns: `JoinedNetwork`. The monitor is a client here: it adds the sandbox's namespace over the control socket, under the
sandbox's host name, and hands over the published ports. When netstackd ends, it connects again and adds all of it
anew, with the same addresses. A named network is made by whoever comes first, and ends with the last
(`keeper.py`); each member holds a connection to its keeper for as long as it is one.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from protocol.control.msgpack_subset import Fd
from services.supervisor.errors import SupervisorError, os_reason
from services.supervisor.network.attachment import SandboxNetwork
from services.supervisor.network.files import NetworkNames
from services.supervisor.network.options import NetworkRequest
from services.supervisor.network.publish import Publish
from services.supervisor.network.rpc import ControlConnection, errno_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.launch.processes import ServiceProcess
    from services.supervisor.monitor.monitor import Monitor
    from services.supervisor.settings import Settings

#: How long a netstackd may take until it answers: one that was just started imports first.
_ANSWER_LIMIT_S = 30.0
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 1.0
_EEXIST = 17


class JoinedNetwork(SandboxNetwork):
    """See the module docstring."""

    def __init__(self, host_name: bytes, request: NetworkRequest, settings: Settings) -> None:
        super().__init__(host_name, request.publishes)
        self._request = request
        self._settings = settings
        self._control: ControlConnection | None = None
        self._member: socket.socket | None = None
        self._addresses: list[Any] = []
        self._retry_s = _FIRST_RETRY_S
        self._lost = False

    def open(self) -> None:
        """Bind, connect, and have the namespace made: its addresses are known then."""
        super().open()
        what = f"network {self._request.name or self._request.control}"
        try:
            control = self._connect()
        except OSError as error:
            hint = "a netstackd must run with this control socket" if self._request.control else ""
            raise SupervisorError(what, os_reason(error), hint) from None
        name = os.fsdecode(self.host_name)
        refused: list[tuple[Publish, object]] = []
        try:
            answer = control.call("namespace_add", [name, self._about()], _ANSWER_LIMIT_S)
            self._publish(control, name, lambda publish, error: refused.append((publish, error)) if error else None)
            control.call("namespaces", [], _ANSWER_LIMIT_S)  # answered in order: the ports were before it
        except OSError as error:
            hint = "--hostname gives it another name" if error.errno == _EEXIST else ""
            raise SupervisorError(what, os_reason(error), hint) from None
        if refused:
            raise SupervisorError(f"-p {refused[0][0].text}", errno_of(refused[0][1])[1])
        self.service_end.close()
        self._addresses = _texts(answer, "addresses")
        addresses = [text.partition("/")[0] for text in self._addresses]
        domain = answer.get("domain") if isinstance(answer, dict) else None
        domain = domain if isinstance(domain, str) else ""
        self.names = NetworkNames(self.host_name, addresses, _texts(answer, "servers"), domain)

    def attach(self, monitor: Monitor) -> None:
        """See SandboxNetwork."""
        super().attach(monitor)
        self._watch()

    def ended(self, service: ServiceProcess, code: int) -> None:
        """It has no services of its own."""

    def close(self) -> None:
        """Leave: the namespace ends with the Sentry's connection, a named network with its last member."""
        self._hang_up()
        super().close()

    def _about(self) -> dict[str, object]:
        about: dict[str, object] = {"connection": Fd(self.service_end.fileno())}
        if self._addresses:
            about["addresses"] = self._addresses
        return about

    def _connect(self) -> ControlConnection:
        """Connected to netstackd, and to the keeper of a named network, which is started if need be. OSError."""
        if self._request.name:
            from services.supervisor.network.keeper import join_or_start

            self._member, sock = join_or_start(self._request.name, self._settings)
        else:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(self._request.control)
            except OSError:
                sock.close()
                raise
        self._control = ControlConnection(sock)
        return self._control

    def _watch(self) -> None:
        assert self._monitor is not None and self._control is not None
        control = self._control
        self._monitor.loop.watch(control.fileno(), lambda: None if control.receive() else self._lose())
        if self._member is not None:
            self._monitor.loop.watch(self._member.fileno(), self._lose)

    def _lose(self) -> None:
        """netstackd, or the keeper with it, has ended."""
        assert self._monitor is not None
        if not self._lost:
            self._lost = True
            self._retry_s = _FIRST_RETRY_S
        self._hang_up()
        self._monitor.loop.call_later(self._retry_s, self._join_again)
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    def _hang_up(self) -> None:
        for end in (self._control, self._member):
            if end is not None and end.fileno() >= 0:
                if self._monitor is not None:
                    self._monitor.loop.unwatch(end.fileno())
                end.close()
        self._control = self._member = None

    def _join_again(self) -> None:
        assert self._monitor is not None
        try:
            control = self._connect()
        except OSError:
            self._lose()
            return
        self._new_connection()
        name = os.fsdecode(self.host_name)
        control.request("namespace_add", [name, self._about()], self._joined_again)
        self.service_end.close()
        self._watch()

    def _joined_again(self, error: object, _result: object) -> None:
        assert self._monitor is not None
        self._lost = False
        if error is not None:
            self._monitor.warn(f"network: {errno_of(error)[1]}: the sandbox goes on without it")
            return
        self._hand_to_sentry(self._publish_again)
        self._monitor.warn("network: netstackd ended and runs again, connections are reset")

    def _publish_again(self) -> None:
        if self._control is not None:
            self._publish(self._control, os.fsdecode(self.host_name), self._port_lost)

    def _port_lost(self, publish: Publish, error: object) -> None:
        if error is not None:
            assert self._monitor is not None
            self._monitor.warn(f"-p {publish.text}: {errno_of(error)[1]}")


def _texts(answer: object, key: str) -> list[str]:
    """Addresses of an answer as text, with a prefix length where there is one; they come as text or as bytes."""
    found = answer.get(key, []) if isinstance(answer, dict) else []
    texts = []
    for item in found if isinstance(found, list) else []:
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, bytes) and len(item) in (4, 16):
            texts.append(_text(item))
        elif isinstance(item, list) and item and isinstance(item[0], bytes) and len(item[0]) in (4, 16):
            texts.append(_text(item[0]) + (f"/{item[1]}" if len(item) > 1 else ""))
    return texts


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)

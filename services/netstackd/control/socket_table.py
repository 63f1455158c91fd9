"""The rows of `ctl ss`: every socket of a stack, with TCP's states, queues and timers, as ss(8) shows them.

recv_q   a connection: bytes that its user has not read; a listener: connections not accepted yet
send_q   a connection: bytes not acknowledged yet; a listener: its backlog
timer    what is waited for, and the seconds until then
info     TCP_INFO (transport/tcp/info.py), of connections
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from services.netstackd.config.text import endpoint_text
from services.netstackd.transport.base import DatagramSocket
from services.netstackd.transport.tcp import states, timers
from services.netstackd.transport.tcp.endpoint import Endpoint
from services.netstackd.transport.tcp.listen import Listener
from services.netstackd.transport.tcp.parameters import NEVER, SECOND
from services.netstackd.transport.tcp.time_wait import TimeWait
from services.netstackd.transport.tcp_path import flow_of
from services.netstackd.transport.tcp_socket import TcpSocket

if TYPE_CHECKING:
    from services.netstackd.stack import Stack

Row = dict[str, Any]
_TIMERS: Final = {
    timers.RETRANSMIT: "retransmit",
    timers.TAIL_PROBE: "tail probe",
    timers.REORDERING: "reordering",
    timers.PROBE: "window probe",
}


def socket_rows(stack: Stack, now: int) -> list[Row]:
    """Listeners, connections (also those whose handshake or end is under way), then the other sockets."""
    rows = [row for binding in stack.tcp.ports if binding.listening for row in _listening(binding.owner, now)]
    for connection in stack.tcp.connections():
        rows.append(_time_wait(connection, now) if isinstance(connection, TimeWait) else _connection(connection, now))
    rows += [_datagram("udp", socket) for socket in stack.udp.sockets()]
    rows += [_datagram("ping", socket) for socket in stack.ping.sockets.values()]
    for table in stack.raw.sockets.values():
        rows += [_datagram("raw", socket) for sockets in table.values() for socket in sockets]
    return rows


def _row(protocol: str, state: str, queues: tuple[int, int], local: str, remote: str = "", device: Any = None) -> Row:
    return {
        "protocol": protocol,
        "state": state,
        "recv_q": queues[0],
        "send_q": queues[1],
        "local": local,
        "remote": remote,
        "interface": device.name if device is not None else "",
        "timer": "",
        "info": {},
    }


def _ends(flow: bytes) -> tuple[str, str]:
    version, local, local_port, remote, remote_port = flow_of(flow)
    return endpoint_text(version, local, local_port), endpoint_text(version, remote, remote_port)


def _timer(name: str, at: int, now: int) -> str:
    return f"{name} {max(0, at - now) / SECOND:.1f}s"


def _listening(socket: object, now: int) -> list[Row]:
    """A listening socket and the connections that are about to come about at it."""
    if not isinstance(socket, TcpSocket) or socket.listener is None:
        return []
    listener: Listener = socket.listener
    version = 4 if socket.local and socket.to_wire(socket.local)[0] == 4 else socket.version
    local = endpoint_text(version, socket.to_wire(socket.local)[1], socket.local_port)
    rows = [_row("tcp", "LISTEN", (len(listener.queue), listener.backlog), local, device=socket.device)]
    for request in listener.requests.values():
        row = _row("tcp", states.NAMES[states.SYN_RECEIVED], (0, 0), *_ends(request.flow))
        row["timer"] = _timer("retransmit", request.timeout_at, now)
        rows.append(row)
    return rows


def _connection(endpoint: Endpoint, now: int) -> Row:
    unread = max(0, endpoint.rcv_nxt - endpoint.copied_seq - endpoint.fin_received)
    unacknowledged = max(0, endpoint.send.end - endpoint.snd_una)
    row = _row("tcp", states.NAMES[endpoint.state], (unread, unacknowledged), *_ends(endpoint.flow))
    name = _TIMERS.get(endpoint.timer)
    if name is not None:
        row["timer"] = _timer(name, endpoint.timer_at, now)
    elif endpoint.idle_at != NEVER:
        row["timer"] = _timer("keepalive", endpoint.idle_at, now)
    row["info"] = endpoint.info(now)
    return row


def _time_wait(connection: TimeWait, now: int) -> Row:
    row = _row("tcp", states.NAMES[states.TIME_WAIT], (0, 0), *_ends(connection.flow))
    row["timer"] = _timer("timewait", connection.deadline, now)
    return row


def _datagram(protocol: str, socket: DatagramSocket) -> Row:
    version, address = socket.to_wire(socket.local) if socket.local else (socket.version, 0)
    remote = ""
    if socket.remote is not None:
        to, value = socket.to_wire(socket.remote[0])
        remote = endpoint_text(to, value, socket.remote[1])
    port = socket.protocol if protocol == "raw" else socket.local_port
    return _row(protocol, "", (socket.queued, 0), endpoint_text(version, address, port), remote, socket.device)

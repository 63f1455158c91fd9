"""The connector: the one process of netstackd that makes sockets of the host, on request, and hands them over.

A child of the keeper, beside the sealed router. It is asked over a socket pair (MessagePack-RPC) and answers each
request at once, in order; it never waits for a connection, never sees a packet, and keeps no descriptor it gave away.

    connect [kind, address, port] -> Fd    "tcp" (which is connecting), "udp", "echo"; address: 4 or 16 bytes
    listen [kind, address, port] -> Fd     "tcp" (listens), "udp" (bound); port 0 for any

Errors are [errno, why]. What may not be reached (slirp/destinations.py) is refused here too: the router faces packets,
and what it asks is not believed. The connector dies with the channel; killed, the keeper starts another.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from protocol.errors import ProtocolViolation
from protocol.rpc.codec import Fd, Request
from protocol.rpc.connection import RpcConnection
from protocol.sealing import landlock_unsafe
from protocol.sealing.rows import NOT_EXECUTABLE, Argument, Compare, Row
from protocol.sealing.seal_unsafe import SealError, cache_directory, cached_filter, seal, set_no_new_privs
from services.netstackd.slirp.destinations import Network, is_host_loopback, refusal

CAP_NET_BIND_SERVICE: Final = 10
BACKLOG: Final = 1024
DNS_PORT: Final = 53
EXIT_CANNOT_SEAL: Final = 3
_RECEIVE_BYTES: Final = 65536
_NEW: Final = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

HOST_FILTER: Final = (
    Row("socket", "IPv4 sockets", (Argument(0, Compare.EQ, socket.AF_INET),)),
    Row("socket", "IPv6 sockets", (Argument(0, Compare.EQ, socket.AF_INET6),)),
    Row("connect", "connections and flows that leave the virtual network"),
    Row("bind", "published ports"),
    Row("listen", "published ports"),
    Row("setsockopt", "published ports can be taken again at once; no delay; IPv6 ports are IPv6 alone"),
    Row("getsockname", "the interpreter asks it of every descriptor that becomes a socket"),
    Row("recvmsg", "requests"),
    Row("sendmsg", "answers, with descriptors"),
    Row("close", "descriptors that were handed over"),
    Row("brk", "memory of the interpreter"),
    Row("mmap", "memory of the interpreter, never executable", NOT_EXECUTABLE),
    Row("munmap", "memory of the interpreter"),
    Row("mremap", "memory of the interpreter"),
    Row("madvise", "memory of the interpreter"),
    Row("futex", "locks of the interpreter"),
    Row("clock_gettime", "time, on hosts whose vDSO has no clock"),
    Row("restart_syscall", "a wait that the freezer or a debugger stopped goes on"),
    Row("rt_sigreturn", "return from a signal handler"),
    Row("exit_group", "the end"),
)


class Refused(Exception):
    """A request that is not done: errno and why."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number = number
        self.why = why


class Connector:
    """Answers requests. `denied`: networks that may not be reached. `dns`: port 53 may be there and on the host's
    loopback, as the host's own resolvers are anywhere."""

    def __init__(self, denied: Sequence[Network] = (), *, host_loopback: bool = False, dns: bool = False) -> None:
        self._denied = tuple(denied)
        self._host_loopback = host_loopback
        self._dns = dns

    def serve(self, method: str, params: Sequence[Any]) -> socket.socket:
        """The socket that a request asks for. Refused, OSError."""
        if len(params) != 3:
            raise Refused(errno.EINVAL, f"{method[:20]}: wrong number of parameters")
        kind, address, port = params
        if (
            not isinstance(address, bytes)
            or len(address) not in (4, 16)
            or type(port) is not int
            or not 0 <= port <= 65535
        ):
            raise Refused(errno.EINVAL, "no address and port")
        if method == "connect":
            return self._connect(kind, address, port)
        if method == "listen":
            return self._listen(kind, address, port)
        raise Refused(errno.ENOSYS, f"no method {method[:20]}")

    def _may_reach(self, version: int, address: int, port: int) -> None:
        why = refusal(version, address, self._denied)
        if not why:
            return
        if is_host_loopback(version, address) and (self._host_loopback or (self._dns and port == DNS_PORT)):
            return
        if self._dns and port == DNS_PORT and (not refusal(version, address) or (version, address >> 24) == (4, 127)):
            return
        raise Refused(errno.EACCES, why)

    def _connect(self, kind: object, address: bytes, port: int) -> socket.socket:
        version = 4 if len(address) == 4 else 6
        self._may_reach(version, int.from_bytes(address, "big"), port)
        sock = _open(kind, version)
        try:
            if kind == "tcp":
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((socket.inet_ntop(sock.family, address), port))
        except BlockingIOError:
            pass  # EINPROGRESS: who gets it will see what comes of it
        except OSError:
            sock.close()
            raise
        return sock

    @staticmethod
    def _listen(kind: object, address: bytes, port: int) -> socket.socket:
        if kind == "echo":
            raise Refused(errno.EINVAL, "echo sockets do not listen")
        sock = _open(kind, 4 if len(address) == 4 else 6)
        try:
            if kind == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((socket.inet_ntop(sock.family, address), port))
            if kind == "tcp":
                sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock


def _open(kind: object, version: int) -> socket.socket:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    if kind == "tcp":
        return socket.socket(family, socket.SOCK_STREAM | _NEW, socket.IPPROTO_TCP)
    if kind == "udp":
        return socket.socket(family, socket.SOCK_DGRAM | _NEW, socket.IPPROTO_UDP)
    if kind == "echo":
        protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
        return socket.socket(family, socket.SOCK_DGRAM | _NEW, protocol)
    raise Refused(errno.EINVAL, "no such kind of socket")


def serve(channel: socket.socket, connector: Connector) -> None:
    """Answer requests until the other end is gone. ProtocolViolation, OSError."""
    connection = RpcConnection()
    while True:
        data = channel.recvmsg(_RECEIVE_BYTES)[0]
        if not data:
            return
        for message in connection.receive_untrusted(data):
            if not isinstance(message, Request):
                continue
            sock: socket.socket | None = None
            try:
                sock = connector.serve(message.method, message.params)
                out, fds = connection.answer(message.msgid, Fd(sock.fileno()))
            except Refused as refused:
                out, fds = connection.refuse(message.msgid, refused.number, refused.why)
            except OSError as error:
                why = error.strerror or str(error)
                out, fds = connection.refuse(message.msgid, error.errno or errno.EIO, why)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            sent = channel.sendmsg([out], rights, socket.MSG_NOSIGNAL)
            while sent < len(out):
                sent += channel.sendmsg([out[sent:]], [], socket.MSG_NOSIGNAL)
            if sock is not None:
                sock.close()


def run_connector(
    channel: socket.socket,
    connector: Connector,
    unsealed: bool = False,
    confine: Callable[[], None] | None = None,
    ready_fd: int | None = None,
) -> NoReturn:
    """The forked child: seals, serves, ends. Nothing is written: what went wrong is the exit status.

    `confine` is called right before the seal, when no file is needed any more; then a byte is written to `ready_fd`,
    which the seal closes.
    """
    status = 0
    try:
        channel.setblocking(True)
        if not unsealed:
            program = cached_filter(HOST_FILTER, cache_directory())
            if confine is not None:
                confine()
            if ready_fd is not None:
                os.write(ready_fd, b"1")
            set_no_new_privs()
            landlock_unsafe.restrict([], network=False)  # no path; TCP is what it is there for
            seal(
                HOST_FILTER,
                keep_fds={2, channel.fileno()},
                keep_capabilities={CAP_NET_BIND_SERVICE},
                program=program,
            )
        serve(channel, connector)
    except SealError:
        status = EXIT_CANNOT_SEAL
    except (ProtocolViolation, OSError):
        status = 1
    except BaseException:
        status = 70  # EX_SOFTWARE
    os._exit(status)

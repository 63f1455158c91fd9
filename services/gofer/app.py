"""The gofer as a process: builds the backend, seals, serves 9P on the sockets it was given.

`serve` is the loop for one connection, `serve_many` for several; both are plain and blocking, for a request is one
receive, a few host calls, one send. `run_in_child` is what the supervisor calls in a forked child; `build_backend`
finds an implementation by name. Order: build_backend, seal_gofer (everything is imported by then), tell `ready`, serve.
A conversation ends by end of file, by a violation (logged with its reason), or by a bug of ours (logged in one line;
the exit status tells it); the client sees the socket close. Log lines go to standard error.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from time import perf_counter_ns
from typing import Final, NoReturn

from protocol.errors import ProtocolViolation
from protocol.p9 import constants as c
from protocol.p9.spinning import SPIN_TRIES, SpinChoice
from protocol.sealing.rows import Row
from protocol.sealing.seal_unsafe import KILL_PROCESS, Seal, SealError, cache_directory, cached_filter, seal
from services.gofer import host_filter
from services.gofer.backends.base import Backend
from services.gofer.errors import ConfigurationError
from services.gofer.fids import MAX_FIDS
from services.gofer.handlers import Connection

EXIT_OK: Final = 0
EXIT_BUG: Final = 70  # EX_SOFTWARE, sysexits(3)
EXIT_USAGE: Final = 2
EXIT_CANNOT_START: Final = 1

# what a gofer may keep that must act on files of every owner: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID
FILE_CAPABILITIES: Final = frozenset({0, 1, 2, 3, 4})

_MAX_FDS: Final = 1 << 20
_SEND_TIMEOUT: Final = struct.pack("@ll", 30, 0)
_STATIC_BACKENDS: Final = {"directory": "services.gofer.backends.host_directory:HostDirectory"}

Log = Callable[[str], None]


def log_to_stderr(line: str) -> None:
    """One log line; a closed standard error is no reason to stop."""
    try:
        os.write(2, f"gofer: {line}\n".encode(errors="replace"))
    except OSError:
        pass


class _Channel:
    """One client socket with its receive buffer and conversation. `spin` is None where waiting must not spin."""

    __slots__ = ("buffer", "connection", "have", "sock", "spin", "view")

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.sock = sock
        self.connection = connection
        self.buffer = bytearray(connection.max_msize_bytes)
        self.view = memoryview(self.buffer)
        self.have = 0
        self.spin: SpinChoice | None = SpinChoice()

    def _receive(self, target: bytearray | memoryview) -> int:
        """One receive into `target`, spinning before it sleeps where that pays."""
        receive, spin = self.sock.recv_into, self.spin
        if spin is None:
            return receive(target)
        spins = spin.spins()
        began = perf_counter_ns()
        got = -1
        if spins:
            for _ in range(SPIN_TRIES):
                try:
                    got = receive(target, 0, socket.MSG_DONTWAIT)
                    break
                except BlockingIOError:
                    continue
        if got < 0:
            got = receive(target)
        spin.learn(spins, perf_counter_ns() - began)
        return got

    def turn(self) -> bool:
        """One receive, and the answers to every whole frame in it. False at the end. ProtocolViolation, OSError."""
        have = self.have
        got = self._receive(self.view[have:] if have else self.buffer)
        if not got:
            return False
        have += got
        replies: list[bytes] = []
        try:
            at = self._answer_all(have, replies)
        finally:  # what was answered before a violation is still sent
            if replies:
                data = replies[0] if len(replies) == 1 else b"".join(replies)
                sent = self.sock.send(data, socket.MSG_NOSIGNAL)
                if sent < len(data):
                    self._send_rest(data, sent)
        if at and at < have:
            self.view[: have - at] = bytes(self.view[at:have])
        self.have = have - at
        return True

    def _answer_all(self, have: int, replies: list[bytes]) -> int:
        """Answer every whole frame of the buffer's first `have` bytes into `replies`. Returns where the rest begins."""
        buffer, connection = self.buffer, self.connection
        at = 0
        while have - at >= 7:
            size = buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16 | buffer[at + 3] << 24
            if not 7 <= size <= connection.msize_bytes:
                raise ProtocolViolation(f"frame: size {size} is not in 7..{connection.msize_bytes}")
            if have - at < size:
                break
            reply = connection.answer(buffer, at, size)
            at += size
            if connection.donation >= 0:
                fd, connection.donation = connection.donation, -1
                self._send_with_fds(b"".join((*replies, reply)), [fd])
                replies.clear()
            elif connection.passing:
                try:
                    self._send_with_fds(b"".join((*replies, reply)), [passed[0] for passed in connection.passing])
                finally:
                    connection.passed()
                replies.clear()
            elif reply:
                replies.append(reply)
        return at

    def _send_with_fds(self, data: bytes, fds: list[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"@{len(fds)}i", *fds))]
        sent = self.sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        if sent < len(data):
            self._send_rest(data, sent)

    def _send_rest(self, data: bytes, sent: int) -> None:
        while sent < len(data):
            sent += self.sock.send(memoryview(data)[sent:], socket.MSG_NOSIGNAL)

    def guarded_turn(self, log: Log) -> int | None:
        """turn(), with every end of the conversation as an exit status; None while it goes on."""
        try:
            return None if self.turn() else EXIT_OK
        except ProtocolViolation as violation:
            log(f"conversation ended: {violation.why}")
            return EXIT_OK
        except OSError as error:
            log(f"connection lost: {error.strerror}")
            return EXIT_OK
        except Exception as error:
            log(f"bug: {type(error).__name__}: {error} at {_where(error)}")
            return EXIT_BUG

    def close(self) -> None:
        """Give the fids and the socket up."""
        self.connection.close()
        self.sock.close()


def _where(error: Exception) -> str:
    """File and line of the innermost frame, for a one-line report."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "nowhere"


def _prepare(sock: socket.socket) -> None:
    """Blocking, and no client that stops reading may stop us for ever."""
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)


def serve(
    sock: socket.socket,
    backend: Backend,
    *,
    max_msize_bytes: int = c.DEFAULT_MSIZE_BYTES,
    max_fids: int = MAX_FIDS,
    log: Log = log_to_stderr,
) -> int:
    """Serve one connection to its end; takes over `sock`. Returns EXIT_OK, or EXIT_BUG. Never raises."""
    return serve_many([sock], backend, max_msize_bytes=max_msize_bytes, max_fids=max_fids, log=log)


def serve_many(
    socks: Sequence[socket.socket],
    backend: Backend,
    *,
    max_msize_bytes: int = c.DEFAULT_MSIZE_BYTES,
    max_fids: int = MAX_FIDS,
    log: Log = log_to_stderr,
) -> int:
    """Serve several connections until the last has ended; each keeps fids of its own. Returns as serve()."""
    for sock in socks:
        _prepare(sock)
    return _serve_prepared([_Channel(sock, Connection(backend, max_msize_bytes, max_fids)) for sock in socks], log)


def _serve_prepared(channels: Sequence[_Channel], log: Log) -> int:
    """The loops themselves: nothing in here makes a call that the host filter refuses."""
    if len(channels) != 1:
        return _poll_loop(channels, log)
    channel = channels[0]
    status = None
    try:
        while status is None:
            status = channel.guarded_turn(log)
    finally:
        channel.close()
    return status


def _poll_loop(channels: Sequence[_Channel], log: Log) -> int:
    by_fd = {channel.sock.fileno(): channel for channel in channels}
    for channel in channels:
        channel.spin = None  # poll says who is ready: waiting for one would keep the others waiting
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    worst = EXIT_OK
    while by_fd:
        for fd, _ in poll.poll():
            status = by_fd[fd].guarded_turn(log)
            if status is not None:
                worst = max(worst, status)
                poll.unregister(fd)
                by_fd.pop(fd).close()
    return worst


def build_backend(exports: Mapping[bytes, tuple[str, bool]], name: str = "directory") -> Backend:
    """The implementation called `name`, given {export name: (path, read_only)}. ConfigurationError.

    Built-in names are known without package metadata, whose import start-up should not pay for; others are looked up in
    the entry point group `sentrio.gofers`.
    """
    target = _STATIC_BACKENDS.get(name)
    if target is None:
        from importlib.metadata import entry_points

        found = list(entry_points(group="sentrio.gofers", name=name))
        if not found:
            raise ConfigurationError(f"backend {name}: there is no gofer of that name")
        factory = found[0].load()
    else:
        from importlib import import_module

        module, _, attribute = target.partition(":")
        factory = getattr(import_module(module), attribute)
    backend = factory(exports)
    if not isinstance(backend, Backend):
        raise ConfigurationError(f"backend {name}: it is no gofer backend")
    return backend


def _rows(writable: bool, ready_fd: int | None) -> tuple[Row, ...]:
    rows = host_filter.READ_WRITE if writable else host_filter.READ_ONLY
    return rows if ready_fd is None else (*rows, host_filter.write_to(ready_fd))


def prepare(backend_name: str, writable: bool, ready_fd: int | None) -> bytes | None:
    """Import all that serving will need while modules can still be found; the finished filter, for `run`.

    None where it cannot be made: sealing says why.
    """
    from protocol.sealing import landlock_unsafe  # noqa: F401 - the seal's

    build_backend({}, backend_name)
    try:
        return cached_filter(_rows(writable, ready_fd), cache_directory())
    except SealError:
        return None


def seal_gofer(
    backend: Backend,
    keep_fds: Collection[int],
    *,
    ready_fd: int | None = None,
    keep_capabilities: Collection[int] = (),
    default_action: int = KILL_PROCESS,
    filter_cache: str | None = None,
    program: bytes | None = None,
) -> Seal:
    """Give up all that serving `backend` does not need. SealError. Standard error stays open beside `keep_fds`.

    `program`: what `prepare` returned for the same `ready_fd`.
    """
    rows = _rows(backend.writable, ready_fd)
    if program is None and filter_cache:
        program = cached_filter(rows, filter_cache, default_action)
    return seal(
        rows,
        keep_fds={2, *keep_fds, *backend.kept_fds()},
        keep_capabilities=keep_capabilities,
        landlock=backend.landlock_rules(),
        default_action=default_action,
        program=program,
    )


def _raise_fd_limit() -> None:
    """Each fid holds an fd or two: take what the host grants."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, _MAX_FDS) if hard != resource.RLIM_INFINITY else _MAX_FDS
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def run(
    socks: Sequence[socket.socket],
    exports: Mapping[bytes, tuple[str, bool]],
    *,
    backend_name: str = "directory",
    sealed: bool = True,
    ready_fd: int | None = None,
    keep_capabilities: Collection[int] = (),
    filter_cache: str | None = None,
    program: bytes | None = None,
    log: Log = log_to_stderr,
) -> int:
    """Build, seal, write b"R" to `ready_fd`, serve until every connection has ended. Returns an exit status."""
    try:
        os.umask(0)  # modes come from the client, already masked
        _raise_fd_limit()
        backend = build_backend(exports, backend_name)
        for sock in socks:
            _prepare(sock)
        channels = [_Channel(sock, Connection(backend)) for sock in socks]
        if sealed:
            keep = {sock.fileno() for sock in socks} | ({ready_fd} if ready_fd is not None else set())
            done = seal_gofer(
                backend,
                keep,
                ready_fd=ready_fd,
                keep_capabilities=keep_capabilities,
                filter_cache=filter_cache,
                program=program,
            )
            for warning in done.warnings:
                log(f"warning: {warning}")
        else:
            log("warning: unsealed: a hole in the gofer is a hole in the host")
    except (ConfigurationError, SealError) as error:
        log(str(error))
        return EXIT_CANNOT_START
    except OSError as error:
        log(f"cannot start: {error.strerror}")
        return EXIT_CANNOT_START
    if ready_fd is not None:
        _tell_ready(ready_fd)
    return _serve_prepared(channels, log)


def _tell_ready(ready_fd: int) -> None:
    """One byte, and the end of file behind it. Nobody listening is no reason to stop."""
    try:
        os.write(ready_fd, b"R")
        os.close(ready_fd)
    except OSError:
        pass


def run_in_child(
    sock: socket.socket,
    exports: Mapping[bytes, tuple[str, bool]],
    seal: bool = True,
    ready_fd: int | None = None,
    *,
    backend_name: str = "directory",
    keep_capabilities: Collection[int] = (),
    filter_cache: str | None = None,
    program: bytes | None = None,
) -> NoReturn:
    """The life of a forked child: run(), then exit. Never returns, never raises, leaves no traceback."""
    status = EXIT_BUG
    try:
        status = run(
            [sock],
            exports,
            backend_name=backend_name,
            sealed=seal,
            ready_fd=ready_fd,
            keep_capabilities=keep_capabilities,
            filter_cache=filter_cache,
            program=program,
        )
    except BaseException as error:
        log_to_stderr(f"bug: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def exit_with(status: int) -> NoReturn:
    """Leave at once: after the seal, the interpreter's own tidying up would make calls that are not allowed."""
    sys.stdout.flush()
    os._exit(status)

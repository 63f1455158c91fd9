"""Socket system calls: decoding, blocking and time limits, message headers. Families are in sockets/.

Blocking calls are jobs: `attempt` does what can be done now or raises WouldBlock, `abandon` is asked when a signal ends
the wait (a partial count counts), `timed_out` at SO_RCVTIMEO or SO_SNDTIMEO. A call with such a limit is never
restarted after a signal handler (signal(7)).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from protocol.abi import capability_h as ca
from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as po
from protocol.abi import resource_h as rs
from protocol.abi import signal_h as sg
from protocol.abi import socket_h as so
from protocol.abi.layout import I32, U32, U64
from services.sentry.errors import LinuxError, Restart, WouldBlock
from services.sentry.kernel.published_rings import offer_ring
from services.sentry.kernel.signals import send_signal_task
from services.sentry.kernel.waiter import Wait
from services.sentry.sockets.base import Incoming, Outgoing, Socket, WouldBlockOn, ucred_real
from services.sentry.sockets.control_messages import MAX_CONTROL_BYTES, ControlBuffer, parse_control_untrusted
from services.sentry.sockets.options import get_option, set_option
from services.sentry.sockets.registry import SocketFamilies
from services.sentry.sockets.unix.collector import check_limit
from services.sentry.sockets.unix.names import UnixTable
from services.sentry.syscalls.arguments import fd_arg, s32, u32
from services.sentry.syscalls.blocking import wait_to_read
from services.sentry.syscalls.event_fds import install_pair
from services.sentry.syscalls.table import Row
from services.sentry.syscalls.time_arguments import read_timespec
from services.sentry.vfs.user_copy import check_user_range

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome

__all__ = ["ROWS"]

_SOCKET_FLAGS: Final = so.SOCK_CLOEXEC | so.SOCK_NONBLOCK
_NONBLOCK: Final = fc.O_NONBLOCK
_DONTWAIT: Final = so.MSG_DONTWAIT
_PLAIN_SEND: Final = ~(so.MSG_NOSIGNAL | so.MSG_DONTWAIT)
_PLAIN_RECEIVE: Final = ~(so.MSG_NOSIGNAL | so.MSG_DONTWAIT | so.MSG_CMSG_CLOEXEC)
_STREAM_CHUNK: Final = 65_536
_STREAM_PART: Final = 1 << 20  # what is taken from the sender's memory at once
_LONGEST_MESSAGE: Final = 65_536  # of any protocol whose messages the send buffer does not bound
_MAX_KIND: Final = 11  # SOCK_MAX
_MAX_RW: Final = 0x7FFF_F000


# --- decoding ---
def _socket(task: Task, fd: int) -> Socket:
    """EBADF, ENOTSOCK."""
    file = task.files.get(fd_arg(fd))
    if not isinstance(file, Socket):
        raise LinuxError(errno.ENOTSOCK)
    return file


def _read_address(task: Task, addr: int, length: int) -> bytes:
    """The struct sockaddr at `addr`. EINVAL: a length outside 0..128; EFAULT."""
    length = s32(length)
    if not 0 <= length <= so.SOCKADDR_STORAGE_BYTES:
        raise LinuxError(errno.EINVAL)
    return task.mm.read(addr, length) if length else b""


def _store_address(task: Task, addr: int, length_addr: int, address: bytes) -> None:
    """Write `address`, cut to the room at `length_addr`, and its full length there. EINVAL: negative room; EFAULT."""
    (room,) = I32.unpack(task.mm.read(length_addr, 4))
    if room < 0:
        raise LinuxError(errno.EINVAL)
    cut = address[:room]
    if cut:
        task.mm.write(addr, cut)
    task.mm.write(length_addr, U32.pack(len(address)))


def _check_urgent(socket: Socket, flags: int) -> None:
    """EOPNOTSUPP: MSG_OOB where there is no urgent data."""
    if flags & so.MSG_OOB and not socket.has_urgent_data:
        raise LinuxError(errno.EOPNOTSUPP)


def _kind_and_flags(kind: int) -> tuple[int, int]:
    """EINVAL: unknown bits in the type argument."""
    kind = u32(kind)
    flags = kind & ~so.SOCK_TYPE_MASK
    if flags & ~_SOCKET_FLAGS:
        raise LinuxError(errno.EINVAL)
    return kind & so.SOCK_TYPE_MASK, flags


# --- making and naming ---
def sys_socket(task: Task, domain: int, kind: int, protocol: int) -> Outcome:
    """socket(2). EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EINVAL, EMFILE."""
    kind, flags = _kind_and_flags(kind)
    family = task.kernel.part(SocketFamilies).find(s32(domain))
    if kind >= _MAX_KIND:
        raise LinuxError(errno.EINVAL)
    made = family.create(task, kind, s32(protocol), flags & _NONBLOCK)
    return task.files.allocate(made, bool(flags & so.SOCK_CLOEXEC))


def sys_socketpair(task: Task, domain: int, kind: int, protocol: int, pair: int) -> Outcome:
    """socketpair(2). EOPNOTSUPP: the family has no pairs; others as socket(2); EFAULT."""
    kind, flags = _kind_and_flags(kind)
    family = task.kernel.part(SocketFamilies).find(s32(domain))
    if kind >= _MAX_KIND:
        raise LinuxError(errno.EINVAL)
    if family.pair is None:
        raise LinuxError(errno.EOPNOTSUPP)
    first, second = family.pair(task, kind, s32(protocol), flags & _NONBLOCK)
    return install_pair(task, pair, first, second, bool(flags & so.SOCK_CLOEXEC))


def sys_bind(task: Task, fd: int, addr: int, length: int) -> Outcome:
    """bind(2)."""
    socket = _socket(task, fd)
    socket.bind(task, _read_address(task, addr, length))
    return 0


def sys_listen(task: Task, fd: int, backlog: int) -> Outcome:
    """listen(2): a negative or huge backlog means SOMAXCONN."""
    _socket(task, fd).listen(task, min(u32(backlog), so.SOMAXCONN))
    return 0


def sys_getsockname(task: Task, fd: int, addr: int, length: int) -> Outcome:
    """getsockname(2)."""
    _store_address(task, addr, length, _socket(task, fd).local_address())
    return 0


def sys_getpeername(task: Task, fd: int, addr: int, length: int) -> Outcome:
    """getpeername(2). ENOTCONN."""
    _store_address(task, addr, length, _socket(task, fd).peer_address())
    return 0


def sys_shutdown(task: Task, fd: int, how: int) -> Outcome:
    """shutdown(2). EINVAL: how."""
    how = s32(how)
    socket = _socket(task, fd)
    if not so.SHUT_RD <= how <= so.SHUT_RDWR:
        raise LinuxError(errno.EINVAL)
    socket.shutdown(how + 1)
    return 0


# --- blocking ---
def _run(
    task: Task,
    socket: Socket,
    attempt: Callable[[], int],
    mask: int,
    timeout_ns: int,
    nonblock: bool,
    *,
    abandon: Callable[[], int | None] | None = None,
    timed_out: Callable[[], int] | None = None,
) -> Outcome:
    """attempt() now, or a Wait that repeats it. EAGAIN: `nonblock`, or the time limit (0: none) without `timed_out`."""
    try:
        return attempt()
    except WouldBlock as block:
        if nonblock:
            if abandon is not None:
                abandon()
            raise LinuxError(errno.EAGAIN) from None
        queue, mask = (block.queue, block.mask) if isinstance(block, WouldBlockOn) else (socket.queue, mask)
    return Wait(
        attempt,
        ((queue, mask),),
        deadline_ns=task.kernel.clock.monotonic_ns() + timeout_ns if timeout_ns else None,
        on_timeout=timed_out or _again,
        on_signal=abandon,
        restart=0 if timeout_ns else Restart.SYS,
    )


def _again() -> int:
    raise LinuxError(errno.EAGAIN)


def sys_connect(task: Task, fd: int, addr: int, length: int) -> Outcome:
    """connect(2). EAGAIN: a unix listener's queue is full and the socket does not block, or SO_SNDTIMEO passed
    (EINPROGRESS for TCP)."""
    socket = _socket(task, fd)
    address = _read_address(task, addr, length)

    def attempt() -> int:
        socket.connect(task, address)
        return 0

    def late() -> int:
        raise LinuxError(socket.late_connect_errno)

    nonblock = bool(socket.flags & _NONBLOCK)
    return _run(task, socket, attempt, po.POLLOUT, socket.send_timeout_ns, nonblock, timed_out=late)


def sys_accept(task: Task, fd: int, addr: int, length: int) -> Outcome:
    """accept(2)."""
    return sys_accept4(task, fd, addr, length, 0)


def sys_accept4(task: Task, fd: int, addr: int, length: int, flags: int) -> Outcome:
    """accept4(2). EINVAL: flags, or not listening; EAGAIN; EMFILE: before a connection is taken; EFAULT: it is lost."""
    flags = u32(flags)
    if flags & ~_SOCKET_FLAGS:
        raise LinuxError(errno.EINVAL)
    socket = _socket(task, fd)

    def attempt() -> int:
        if not task.files.free_slots(1):
            raise LinuxError(errno.EMFILE)
        made = socket.accept(task, flags & _NONBLOCK)
        new = task.files.allocate(made, bool(flags & so.SOCK_CLOEXEC))
        if addr:
            try:
                _store_address(task, addr, length, made.peer_address())
            except LinuxError:
                task.files.close(new, task)
                raise
        return new

    return _run(task, socket, attempt, po.POLLIN, socket.receive_timeout_ns, bool(socket.flags & _NONBLOCK))


# --- sending ---
_Pieces: TypeAlias = "list[tuple[int, int]]"  # address and bytes, none of them empty


def _take(mm: Any, socket: Socket, pieces: _Pieces) -> bytes:
    """What is sent next, which leaves `pieces`: a stream takes it in parts, and of a message no more is read than shows
    that it is too long (the sender's memory has no bound, the Sentry's should). EFAULT.
    """
    room = _STREAM_PART if socket.writes_all else max(_LONGEST_MESSAGE, socket.send_buffer) + 1
    parts = []
    while pieces and room:
        base, length = pieces[0]
        count = min(length, room)
        parts.append(mm.read(base, count))
        room -= count
        if count < length:
            pieces[0] = base + count, length - count
        else:
            del pieces[0]
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _Send:
    """One message on its way: owns the file references of `message` until a send took them.

    `data` are its bytes from `start` on, `rest` where those behind them lie.
    """

    __slots__ = ("data", "message", "nonblock", "rest", "sent", "socket", "start", "task")

    def __init__(self, task: Task, socket: Socket, data: bytes, rest: _Pieces, message: Outgoing) -> None:
        self.task = task
        self.socket = socket
        self.data = data
        self.rest = rest
        self.message = message
        self.sent = self.start = 0
        self.nonblock = bool(message.flags & _DONTWAIT or socket.flags & _NONBLOCK)

    def attempt(self) -> int:
        """Bytes sent: all of them for a blocking stream. EPIPE raises SIGPIPE as well, but for MSG_NOSIGNAL."""
        socket = self.socket
        while True:
            at = self.sent - self.start
            try:
                if self.rest and at == len(self.data) and socket.writes_all:
                    self.start, at = self.sent, 0
                    self.data = _take(self.task.mm, socket, self.rest)
                chunk = self.data[at : at + _STREAM_CHUNK] if socket.writes_all else self.data
                self.sent += socket.send_message(self.task, chunk, self.message)
            except WouldBlock:
                if self.nonblock and self.sent:
                    return self.sent
                raise
            except LinuxError as error:
                if self.sent:
                    return self.sent
                self._drop_files()
                if error.errno == errno.EPIPE and socket.writes_all and not self.message.flags & so.MSG_NOSIGNAL:
                    _broken_pipe(self.task)
                raise
            if self.message.files or self.message.cred:
                self.message = self.message._replace(files=())
            if not socket.writes_all or (self.sent - self.start >= len(self.data) and not self.rest):
                return self.sent

    def abandon(self) -> int | None:
        """A signal, or EAGAIN."""
        self._drop_files()
        return self.sent or None

    def timed_out(self) -> int:
        self._drop_files()
        return self.sent or _again()

    def _drop_files(self) -> None:
        files = self.message.files
        self.message = self.message._replace(files=())
        for file in files:
            file.close_reference()

    def run(self) -> Outcome:
        return _run(
            self.task,
            self.socket,
            self.attempt,
            po.POLLOUT,
            self.socket.send_timeout_ns,
            self.nonblock,
            abandon=self.abandon,
            timed_out=self.timed_out,
        )


def _broken_pipe(task: Task) -> None:
    send_signal_task(task, task.sender_info(sg.SIGPIPE))


def sys_sendto(task: Task, fd: int, addr: int, count: int, flags: int, name: int, name_length: int) -> Outcome:
    """send(2), sendto(2)."""
    file = task.files.files.get(fd & 0xFFFFFFFF)
    if isinstance(file, Socket) and not name and not flags & _PLAIN_SEND and count <= _STREAM_CHUNK:
        try:
            done = file.write_user(task.mm, addr, count)
            return done if file.ring_end is None else offer_ring(task, fd & 0xFFFFFFFF, file, done)
        except WouldBlock:
            pass
        except LinuxError as error:
            if error.errno == errno.EPIPE and file.writes_all and not flags & so.MSG_NOSIGNAL:
                _broken_pipe(task)
            raise
    socket = _socket(task, fd)
    flags = u32(flags)
    _check_urgent(socket, flags)
    address = _read_address(task, name, name_length) if name else b""
    count = min(count, _MAX_RW)
    check_user_range(addr, count)
    pieces = [(addr, count)] if count else []
    data = _take(task.mm, socket, pieces)
    return _Send(task, socket, data, pieces, Outgoing(address, sender=ucred_real(task), flags=flags)).run()


def _decode_message(task: Task, socket: Socket, header: int, flags: int) -> _Send:
    """The struct msghdr at `header` as a job. EMSGSIZE: iovecs; ENOBUFS: too much control data; EINVAL, EFAULT."""
    mm = task.mm
    name, name_length, iov, iov_count, control, control_length, _ = so.MSGHDR.unpack(mm.read(header, so.MSGHDR.size))
    _check_urgent(socket, flags)
    if name_length < 0:
        raise LinuxError(errno.EINVAL)
    address = _read_address(task, name, min(name_length, so.SOCKADDR_STORAGE_BYTES)) if name else b""
    if iov_count > so.UIO_MAXIOV:
        raise LinuxError(errno.EMSGSIZE)
    pieces = []
    room = _MAX_RW
    for base, length in mm.read_iovecs(iov, iov_count):
        if length and room:
            pieces.append((base, min(length, room)))
            room -= pieces[-1][1]
    data = _take(mm, socket, pieces)
    if control_length > MAX_CONTROL_BYTES:
        raise LinuxError(errno.ENOBUFS)
    if not control or not control_length:
        return _Send(task, socket, data, pieces, Outgoing(address, sender=ucred_real(task), flags=flags))
    parsed = parse_control_untrusted(task, mm.read(control, control_length))
    uid = task.cred.ruid
    if parsed.files:
        privileged = task.cred.has_cap(ca.CAP_SYS_RESOURCE) or task.cred.has_cap(ca.CAP_SYS_ADMIN)
        limit = task.group.rlimits[rs.RLIMIT_NOFILE][0]
        try:
            check_limit(task.kernel.part(UnixTable), uid, limit, privileged)
        except LinuxError:
            for file in parsed.files:
                file.close_reference()
            raise
    message = Outgoing(address, parsed.files, parsed.cred, ucred_real(task), flags, uid, parsed.others)
    return _Send(task, socket, data, pieces, message)


def sys_sendmsg(task: Task, fd: int, header: int, flags: int) -> Outcome:
    """sendmsg(2)."""
    return _decode_message(task, _socket(task, fd), header, u32(flags)).run()


class _SendMany:
    """sendmmsg(2): messages one after the other; an error counts only for the first."""

    __slots__ = ("count", "current", "done", "flags", "socket", "task", "vector")

    def __init__(self, task: Task, socket: Socket, vector: int, count: int, flags: int) -> None:
        self.task = task
        self.socket = socket
        self.vector = vector
        self.count = count
        self.flags = flags
        self.done = 0
        self.current: _Send | None = None

    def attempt(self) -> int:
        while self.done < self.count:
            entry = self.vector + self.done * so.MMSGHDR_BYTES
            try:
                if self.current is None:
                    self.current = _decode_message(self.task, self.socket, entry, self.flags)
                sent = self.current.attempt()
                self.task.mm.write(entry + so.MMSGHDR_LEN_OFFSET, U32.pack(sent))
            except WouldBlock:
                if self.done and self.current is not None and self.current.nonblock:
                    self.current.abandon()
                    return self.done
                raise
            except LinuxError:
                if self.done:
                    return self.done
                raise
            self.current = None
            self.done += 1
        return self.done

    def abandon(self) -> int | None:
        if self.current is not None:
            self.current.abandon()
        return self.done or None


def sys_sendmmsg(task: Task, fd: int, vector: int, count: int, flags: int) -> Outcome:
    """sendmmsg(2): how many messages were sent."""
    socket = _socket(task, fd)
    flags = u32(flags)
    job = _SendMany(task, socket, vector, min(u32(count), so.UIO_MAXIOV), flags)
    nonblock = bool(flags & _DONTWAIT or socket.flags & _NONBLOCK)
    return _run(task, socket, job.attempt, po.POLLOUT, socket.send_timeout_ns, nonblock, abandon=job.abandon)


# --- receiving ---
class _Receive:
    """One receive of `count` bytes; `deliver` stores what came and gives the call's result."""

    __slots__ = ("count", "deliver", "flags", "nonblock", "parts", "socket")

    def __init__(self, socket: Socket, count: int, flags: int, deliver: Callable[[Incoming], int]) -> None:
        self.socket = socket
        self.count = count
        self.flags = flags
        self.deliver = deliver
        self.parts: list[Incoming] = []
        self.nonblock = bool(flags & _DONTWAIT or socket.flags & _NONBLOCK)

    def attempt(self) -> int:
        """One message, or bytes; with MSG_WAITALL a stream goes on until all came, its end, or descriptors did."""
        socket, flags = self.socket, self.flags
        whole = flags & so.MSG_WAITALL and not socket.keeps_boundaries and not flags & so.MSG_PEEK
        if not whole:
            return self.deliver(socket.receive(self.count, flags))
        while True:
            got = sum(len(part.data) for part in self.parts)
            try:
                part = socket.receive(self.count - got, flags)
            except WouldBlock:
                if self.nonblock and self.parts:
                    return self._finish()
                raise
            except LinuxError as error:
                if self.parts:
                    socket.error = error.errno
                    return self._finish()
                raise
            self.parts.append(part)
            if not part.data or part.files or got + len(part.data) >= self.count:
                return self._finish()

    def _finish(self) -> int:
        first, last = self.parts[0], self.parts[-1]
        data = b"".join(part.data for part in self.parts)
        self.parts = []
        return self.deliver(Incoming(data, len(data), first.address, first.cred, last.files, last.flags))

    def abandon(self) -> int | None:
        return self._finish() if self.parts else None

    def timed_out(self) -> int:
        return self._finish() if self.parts else _again()


def sys_recvfrom(task: Task, fd: int, addr: int, count: int, flags: int, name: int, name_length: int) -> Outcome:
    """recv(2), recvfrom(2)."""
    file = task.files.files.get(fd & 0xFFFFFFFF)
    if isinstance(file, Socket) and file.writes_all and not name and not flags & _PLAIN_RECEIVE and count:
        try:
            done = file.read_user(task.mm, addr, count)
            if done is not None:
                return done if file.ring_end is None else offer_ring(task, fd & 0xFFFFFFFF, file, done)
        except WouldBlock:
            pass
        if not flags & _DONTWAIT:
            return wait_to_read(task, file, addr, count)
        if file.plain_receive:
            return -errno.EAGAIN
    socket = _socket(task, fd)
    flags = u32(flags)
    _check_urgent(socket, flags)
    discard = flags & so.MSG_TRUNC and socket.discards

    def deliver(incoming: Incoming) -> int:
        for extra in incoming.files:
            extra.close_reference()
        if incoming.data and not discard:
            task.mm.write(addr, incoming.data)
        if name:
            _store_address(task, name, name_length, incoming.address)
        return incoming.full_bytes if flags & so.MSG_TRUNC and socket.keeps_boundaries else len(incoming.data)

    return _run_receive(task, socket, _Receive(socket, min(count, _MAX_RW), flags, deliver))


def _run_receive(task: Task, socket: Socket, job: _Receive) -> Outcome:
    return _run(
        task,
        socket,
        job.attempt,
        po.POLLIN,
        socket.receive_timeout_ns,
        job.nonblock,
        abandon=job.abandon,
        timed_out=job.timed_out,
    )


def _prepare_receive(task: Task, socket: Socket, header: int, flags: int) -> _Receive:
    """The struct msghdr at `header` as a job. EMSGSIZE: too many iovecs; EINVAL, EFAULT."""
    mm = task.mm
    _check_urgent(socket, flags)
    name, name_room, iov, iov_count, control, control_room, _ = so.MSGHDR.unpack(mm.read(header, so.MSGHDR.size))
    if name and name_room < 0:
        raise LinuxError(errno.EINVAL)
    if iov_count > so.UIO_MAXIOV:
        raise LinuxError(errno.EMSGSIZE)
    iovecs = mm.read_iovecs(iov, iov_count)
    count = sum(length for _, length in iovecs)
    discard = flags & so.MSG_TRUNC and socket.discards

    def deliver(incoming: Incoming) -> int:
        buffer = ControlBuffer(control_room if control else 0)
        data = incoming.data
        try:
            at = 0
            for base, length in iovecs:
                if at >= len(data) or discard:
                    break
                piece = data[at : at + length]
                if piece:
                    mm.write(base, piece)
                at += length
        except LinuxError:
            for file in incoming.files:
                file.close_reference()
            raise
        if socket.passes_credentials():
            buffer.put_credentials(incoming.cred)
        for level, kind, payload in incoming.control:
            buffer.put(level, kind, payload)
        if incoming.files:
            buffer.put_files(task, incoming.files, bool(flags & so.MSG_CMSG_CLOEXEC))
        if name:
            if incoming.address:
                mm.write(name, incoming.address[:name_room])
            mm.write(header + so.MSGHDR_NAMELEN_OFFSET, U32.pack(len(incoming.address)))
        built = buffer.data()
        if built:
            mm.write(control, built)
        mm.write(header + so.MSGHDR_CONTROLLEN_OFFSET, U64.pack(len(built)))
        marks = incoming.flags | buffer.flags | (flags & so.MSG_CMSG_CLOEXEC)
        mm.write(header + so.MSGHDR_FLAGS_OFFSET, U32.pack(marks))
        return incoming.full_bytes if flags & so.MSG_TRUNC and socket.keeps_boundaries else len(data)

    return _Receive(socket, count, flags, deliver)


def sys_recvmsg(task: Task, fd: int, header: int, flags: int) -> Outcome:
    """recvmsg(2)."""
    socket = _socket(task, fd)
    return _run_receive(task, socket, _prepare_receive(task, socket, header, u32(flags)))


class _ReceiveMany:
    """recvmmsg(2): `deadline_ns` is only looked at after a message, as Linux does; None: no limit."""

    __slots__ = ("count", "current", "deadline_ns", "done", "flags", "nonblock", "socket", "task", "vector")

    def __init__(
        self, task: Task, socket: Socket, vector: int, count: int, flags: int, deadline_ns: int | None
    ) -> None:
        self.task = task
        self.socket = socket
        self.vector = vector
        self.count = count
        self.flags = flags & ~so.MSG_WAITFORONE
        self.nonblock = bool(flags & _DONTWAIT or socket.flags & _NONBLOCK)
        self.deadline_ns = deadline_ns
        self.done = 0
        self.current: _Receive | None = None

    def attempt(self) -> int:
        task = self.task
        one = self.flags
        while self.done < self.count:
            entry = self.vector + self.done * so.MMSGHDR_BYTES
            try:
                if self.current is None:
                    self.current = _prepare_receive(task, self.socket, entry, one)
                length = self.current.attempt()
                task.mm.write(entry + so.MMSGHDR_LEN_OFFSET, U32.pack(length))
            except WouldBlock:
                if self.nonblock and self.done:
                    return self.done
                raise
            except LinuxError as error:
                if self.done:
                    if error.errno != errno.EAGAIN:
                        self.socket.error = error.errno
                    return self.done
                raise
            self.current = None
            self.done += 1
            if self.deadline_ns is not None and task.kernel.clock.monotonic_ns() >= self.deadline_ns:
                break
        return self.done

    def abandon(self) -> int | None:
        return self.done or None

    def timed_out(self) -> int:
        return self.done or _again()


def sys_recvmmsg(task: Task, fd: int, vector: int, count: int, flags: int, timeout: int) -> Outcome:
    """recvmmsg(2): how many messages came. MSG_WAITFORONE: it does not wait after the first."""
    flags = u32(flags)
    limit = read_timespec(task.mm, timeout) if timeout else None
    socket = _socket(task, fd)
    deadline = None if limit is None else task.kernel.clock.monotonic_ns() + limit
    job = _ReceiveMany(task, socket, vector, min(u32(count), so.UIO_MAXIOV), flags, deadline)
    nonblock = job.nonblock
    if flags & so.MSG_WAITFORONE:
        job.nonblock = True  # after the first message; before it, _run decides by `nonblock`
    return _run(
        task,
        socket,
        job.attempt,
        po.POLLIN,
        socket.receive_timeout_ns,
        nonblock,
        abandon=job.abandon,
        timed_out=job.timed_out,
    )


# --- options ---
def sys_getsockopt(task: Task, fd: int, level: int, name: int, value: int, length: int) -> Outcome:
    """getsockopt(2): the value is cut to the room given. EINVAL: negative room; ERANGE: a list that would be cut."""
    socket = _socket(task, fd)
    (room,) = I32.unpack(task.mm.read(length, 4))
    if room < 0:
        raise LinuxError(errno.EINVAL)
    if s32(level) == so.SOL_PACKET:
        asked = socket.answer_option(s32(level), s32(name), task.mm.read(value, min(room, 4)) if room else b"")
    else:
        asked = None
    found = asked if asked is not None else get_option(task, socket, s32(level), s32(name))
    if s32(level) == so.SOL_SOCKET and s32(name) == so.SO_PEERGROUPS and len(found) > room:
        task.mm.write(length, U32.pack(len(found)))
        raise LinuxError(errno.ERANGE)
    found = found[:room]
    if found:
        task.mm.write(value, found)
    task.mm.write(length, U32.pack(len(found)))
    return 0


def sys_setsockopt(task: Task, fd: int, level: int, name: int, value: int, length: int) -> Outcome:
    """setsockopt(2). EINVAL: negative or too short a length."""
    length = s32(length)
    if length < 0:
        raise LinuxError(errno.EINVAL)
    socket = _socket(task, fd)
    set_option(task, socket, s32(level), s32(name), task.mm.read(value, min(length, 65_536)) if length else b"")
    return 0


ROWS: Final = (
    Row(
        "socket",
        sys_socket,
        "int int int",
        note="AF_UNIX, AF_NETLINK, AF_INET and AF_INET6 (TCP, UDP); with a network ICMP, raw and AF_PACKET too",
    ),
    Row("socketpair", sys_socketpair, "int int int ptr"),
    Row("bind", sys_bind, "fd ptr int"),
    Row("listen", sys_listen, "fd int"),
    Row("accept", sys_accept, "fd ptr ptr"),
    Row("accept4", sys_accept4, "fd ptr ptr flags"),
    Row("connect", sys_connect, "fd ptr int"),
    Row("getsockname", sys_getsockname, "fd ptr ptr"),
    Row("getpeername", sys_getpeername, "fd ptr ptr"),
    Row("shutdown", sys_shutdown, "fd int"),
    Row("sendto", sys_sendto, "fd buf count flags ptr int"),
    Row("sendmsg", sys_sendmsg, "fd ptr flags"),
    Row("sendmmsg", sys_sendmmsg, "fd ptr count flags"),
    Row("recvfrom", sys_recvfrom, "fd buf_out count flags ptr ptr"),
    Row("recvmsg", sys_recvmsg, "fd ptr flags"),
    Row("recvmmsg", sys_recvmmsg, "fd ptr count flags timespec"),
    Row("getsockopt", sys_getsockopt, "fd int int ptr ptr"),
    Row("setsockopt", sys_setsockopt, "fd int int ptr int"),
)

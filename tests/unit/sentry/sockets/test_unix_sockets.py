"""Unix sockets through their system calls: connections, messages, ancillary data, shutdown, options, garbage."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from protocol.abi import poll_h as po
from protocol.abi import socket_h as so
from services.sentry.errors import Restart
from services.sentry.sockets.unix.names import UnixTable
from services.sentry.syscalls import event_fds as ef
from services.sentry.syscalls import sockets as sk
from tests.unit.sentry.files.fake_tasks import Guest

STREAM, DGRAM, SEQ = so.SOCK_STREAM, so.SOCK_DGRAM, so.SOCK_SEQPACKET
DONTWAIT = so.MSG_DONTWAIT


class Net(Guest):
    """A guest with socket calls spelled for tests."""

    def file(self, fd: int) -> Any:
        return self.task.files.get(fd)

    def close(self, *fds: int) -> None:
        for fd in fds:
            self.task.files.close(fd, self.task)

    def socket(self, kind: int = STREAM, flags: int = 0) -> int:
        fd = self.call(sk.sys_socket, 1, kind | flags, 0)
        assert fd is not None and fd >= 0
        return fd

    def pair(self, kind: int = STREAM) -> tuple[int, int]:
        at = self.alloc(8)
        assert self.call(sk.sys_socketpair, 1, kind, 0, at) == 0
        return struct.unpack("<ii", self.get(at, 8))

    def address(self, name: bytes) -> tuple[int, int]:
        raw = b"\1\0" + name
        return self.put(raw), len(raw)

    def bind(self, fd: int, name: bytes) -> int | None:
        return self.call(sk.sys_bind, fd, *self.address(name))

    def connect(self, fd: int, name: bytes) -> int | None:
        return self.call(sk.sys_connect, fd, *self.address(name))

    def listener(self, name: bytes, backlog: int = 5, kind: int = STREAM) -> int:
        fd = self.socket(kind)
        assert self.bind(fd, name) == 0
        assert self.call(sk.sys_listen, fd, backlog) == 0
        return fd

    def send(self, fd: int, data: bytes, flags: int = 0, to: bytes | None = None) -> int | None:
        name = self.address(to) if to is not None else (0, 0)
        return self.call(sk.sys_sendto, fd, self.put(data), len(data), flags, *name)

    def recv(self, fd: int, count: int = 4096, flags: int = DONTWAIT) -> bytes | int | None:
        at = self.alloc(count)
        got = self.call(sk.sys_recvfrom, fd, at, count, flags, 0, 0)
        return got if got is None or got < 0 else self.get(at, min(got, count))

    def header(self, data: int, count: int, control: int = 0, room: int = 0, name: int = 0, name_room: int = 0) -> int:
        iov = self.put(struct.pack("<QQ", data, count))
        return self.put(so.MSGHDR.pack(name, name_room, iov, 1, control, room, 0))

    def sendmsg(self, fd: int, data: bytes, control: bytes = b"", flags: int = 0) -> int | None:
        at = self.put(control) if control else 0
        return self.call(sk.sys_sendmsg, fd, self.header(self.put(data), len(data), at, len(control)), flags)

    def recvmsg(self, fd: int, count: int = 100, room: int = 0, flags: int = DONTWAIT) -> Any:
        """(data, [(type, payload)], msg_flags, name), or a negative errno."""
        data, control, name = self.alloc(count), self.alloc(room or 1), self.alloc(128)
        header = self.header(data, count, control if room else 0, room, name, 128)
        got = self.call(sk.sys_recvmsg, fd, header, flags)
        if got is None or got < 0:
            return got
        _, name_length, _, _, _, length, marks = so.MSGHDR.unpack(self.get(header, 56))
        raw, found, at = self.get(control, length), [], 0
        while at + 16 <= len(raw):
            size, level, kind = so.CMSGHDR.unpack_from(raw, at)
            assert level == so.SOL_SOCKET
            found.append((kind, raw[at + 16 : at + size]))
            at += (size + 7) & ~7
        return self.get(data, min(got, count)), found, marks, self.get(name, name_length)

    def option(self, fd: int, name: int, room: int = 64) -> bytes | int:
        value, length = self.alloc(room), self.put(struct.pack("<i", room))
        result = self.call(sk.sys_getsockopt, fd, 1, name, value, length)
        assert result is not None
        return result if result else self.get(value, self.mm.read_u32(length))

    def set_option(self, fd: int, name: int, value: bytes) -> int | None:
        return self.call(sk.sys_setsockopt, fd, 1, name, self.put(value), len(value))


def rights(*fds: int) -> bytes:
    return so.CMSGHDR.pack(16 + 4 * len(fds), 1, so.SCM_RIGHTS) + struct.pack(f"<{len(fds)}i", *fds)


def creds(pid: int, uid: int, gid: int) -> bytes:
    return so.CMSGHDR.pack(28, 1, so.SCM_CREDENTIALS) + struct.pack("<iII", pid, uid, gid)


# --- making ---
def test_families_and_kinds_that_are_not_there() -> None:
    net = Net()
    assert net.call(sk.sys_socket, 5, 1, 0) == -errno.EAFNOSUPPORT
    assert net.call(sk.sys_socket, 99, 1, 0) == -errno.EAFNOSUPPORT
    assert net.call(sk.sys_socket, 1, 4, 0) == -errno.ESOCKTNOSUPPORT
    assert net.call(sk.sys_socket, 1, 1, 5) == -errno.EPROTONOSUPPORT
    assert net.call(sk.sys_socket, 1, 1 | 0x100, 0) == -errno.EINVAL
    assert net.call(sk.sys_bind, 99, net.alloc(10), 10) == -errno.EBADF


# --- streams ---
def test_connect_accept_talk() -> None:
    net = Net()
    listener = net.listener(b"\0srv")
    client = net.socket()
    assert net.connect(client, b"\0srv") == 0
    assert net.send(client, b"before accept") == 13
    server = net.call(sk.sys_accept, listener, 0, 0)
    assert server is not None and server >= 0
    assert net.recv(server) == b"before accept"
    assert net.send(server, b"answer") == 6
    assert net.recv(client, 3) == b"ans"
    assert net.recv(client) == b"wer"
    assert net.file(client).peer_address() == b"\1\0\0srv"
    assert net.file(server).local_address() == b"\1\0\0srv"
    assert net.file(server).peer_address() == b"\1\0"
    assert net.connect(client, b"\0srv") == -errno.EISCONN


def test_accept_waits_for_a_connection() -> None:
    net = Net()
    listener = net.listener(b"\0srv")
    assert net.call(sk.sys_accept, listener, 0, 0) is None
    other = Net(net.kernel)
    client = other.socket()
    assert other.connect(client, b"\0srv") == 0
    assert net.wake() == 1


def test_full_backlog_blocks_or_refuses() -> None:
    net = Net()
    listener = net.listener(b"\0srv", 0)
    assert net.connect(net.socket(), b"\0srv") == 0
    assert net.connect(net.socket(flags=so.SOCK_NONBLOCK), b"\0srv") == -errno.EAGAIN
    other = Net(net.kernel)
    assert other.connect(other.socket(), b"\0srv") is None
    assert (net.call(sk.sys_accept, listener, 0, 0) or -1) > 0
    assert other.wake() == 0


def test_connect_refusals() -> None:
    net = Net()
    assert net.connect(net.socket(), b"\0nobody") == -errno.ECONNREFUSED
    bound = net.socket()
    net.bind(bound, b"\0bound")
    assert net.connect(net.socket(), b"\0bound") == -errno.ECONNREFUSED
    assert net.bind(net.socket(), b"\0bound") == -errno.EADDRINUSE
    assert net.bind(bound, b"\0again") == -errno.EINVAL
    assert net.call(sk.sys_listen, net.socket(), 1) == -errno.EINVAL
    assert net.call(sk.sys_listen, net.socket(DGRAM), 1) == -errno.EOPNOTSUPP
    assert net.call(sk.sys_accept, bound, 0, 0) == -errno.EINVAL
    fresh = net.socket()
    assert net.send(fresh, b"x") == -errno.ENOTCONN
    assert net.recv(fresh) == -errno.EINVAL
    assert net.send(fresh, b"x", to=b"\0bound") == -errno.EOPNOTSUPP


def test_autobind_gives_five_hex_digits() -> None:
    net = Net()
    fd = net.socket()
    assert net.call(sk.sys_bind, fd, net.put(b"\1\0"), 2) == 0
    assert len(net.file(fd).local_address()) == 2 + 6


def test_closing_with_unread_data_resets_the_peer() -> None:
    net = Net()
    a, b = net.pair()
    net.send(b, b"tail")
    net.send(a, b"never read")
    net.close(b)
    assert net.file(a).poll() & po.POLLERR
    assert net.recv(a) == b"tail"
    assert net.recv(a) == -errno.ECONNRESET
    assert net.recv(a) == b""
    assert net.send(a, b"x", so.MSG_NOSIGNAL) == -errno.EPIPE
    assert net.task.pending.signals == 0
    net.task.signal_mask = 1 << 12
    assert net.send(a, b"x") == -errno.EPIPE
    assert net.task.pending.signals == 1 << 12


def test_closing_a_listener_resets_those_who_were_not_accepted() -> None:
    net = Net()
    listener = net.listener(b"\0srv")
    client = net.socket()
    net.connect(client, b"\0srv")
    net.close(listener)
    assert net.recv(client) == -errno.ECONNRESET
    assert net.connect(net.socket(), b"\0srv") == -errno.ECONNREFUSED


@pytest.mark.parametrize("kind", [STREAM, SEQ])
def test_poll_bits_follow_shutdown_and_close(kind: int) -> None:
    net = Net()
    a, b = (net.file(fd) for fd in net.pair(kind))
    assert a.poll() == 0x304
    b.shutdown(2)
    assert (a.poll(), b.poll()) == (0x2345, 0x304)
    b.shutdown(1)
    assert (a.poll(), b.poll()) == (0x2355, 0x2355)
    fd, other = net.pair(kind)
    net.close(other)
    assert net.file(fd).poll() == 0x2355
    assert net.file(net.socket(kind)).poll() == 0x314
    assert net.recv(fd) == b""


def test_half_closed_stream_still_receives() -> None:
    net = Net()
    a, b = net.pair()
    assert net.call(sk.sys_shutdown, a, 1) == 0
    assert net.send(a, b"x", so.MSG_NOSIGNAL) == -errno.EPIPE
    assert net.send(b, b"still") == 5
    assert net.recv(a) == b"still"
    assert net.recv(b) == b""
    assert net.call(sk.sys_shutdown, a, 3) == -errno.EINVAL


def test_blocking_send_goes_on_until_all_is_written() -> None:
    net = Net()
    a, b = net.pair()
    other = Guest(net.kernel)
    other.task.files = net.task.files
    data = bytes(range(256)) * 1600
    at = net.put(data)
    assert net.call(sk.sys_sendto, a, at, len(data), 0, 0, 0) is None
    got = bytearray()
    where = other.alloc(65536)
    while net.result is None:
        count = other.call(sk.sys_recvfrom, b, where, 65536, DONTWAIT, 0, 0)
        assert count is not None and count > 0
        got += other.get(where, count)
        net.wake()
    assert net.result == len(data)
    while (count := other.call(sk.sys_recvfrom, b, where, 65536, DONTWAIT, 0, 0)) != -errno.EAGAIN:
        assert count is not None and count > 0
        got += other.get(where, count)
    assert bytes(got) == data


def test_interrupted_send_reports_what_went() -> None:
    net = Net()
    a, _b = net.pair()
    size = 400_000
    assert net.call(sk.sys_sendto, a, net.alloc(size), size, 0, 0, 0) is None
    assert 200_000 < net.interrupt() < size


def test_waitall_peek_and_time_limit() -> None:
    net = Net()
    a, b = net.pair()
    net.send(a, b"abc")
    assert net.recv(b, 2, so.MSG_PEEK) == b"ab"
    assert net.recv(b, 6, so.MSG_WAITALL) is None
    Guest.call(peer := Guest(net.kernel), lambda task: net.file(a).write(b"defgh"))
    assert peer.result == 5
    assert net.wake() == 6
    assert net.recv(b) == b"gh"
    assert net.set_option(b, so.SO_RCVTIMEO, struct.pack("<qq", 2, 0)) == 0
    assert net.recv(b, 10, 0) is None
    assert net.task.wait.restart == 0
    net.kernel.clock.advance(2_000_000_000)  # type: ignore[attr-defined]
    assert net.wake() == -errno.EAGAIN


def test_receive_without_limit_restarts_after_a_signal() -> None:
    net = Net()
    _a, b = net.pair()
    assert net.recv(b, 10, 0) is None
    assert net.interrupt() == -Restart.SYS


def test_bad_address_loses_no_stream_data() -> None:
    net = Net()
    a, b = net.pair()
    net.send(a, b"keep me")
    assert net.call(sk.sys_recvfrom, b, 0, 7, 0, 0, 0) == -errno.EFAULT
    assert net.recv(b) == b"keep me"


def test_unread_bytes_and_out_of_band() -> None:
    net = Net()
    a, b = net.pair()
    net.send(a, b"abc")
    net.send(a, b"de")
    at = net.alloc(4)
    assert net.file(b).ioctl(net.task, 0x541B, at) == 0
    assert net.mm.read_u32(at) == 5
    assert net.send(a, b"!", so.MSG_OOB) == -errno.EOPNOTSUPP


# --- seqpacket ---
def test_seqpacket_keeps_boundaries_and_truncates() -> None:
    net = Net()
    a, b = net.pair(SEQ)
    net.send(a, b"first message")
    net.send(a, b"second")
    assert net.recvmsg(b, 5)[0::2] == (b"first", so.MSG_TRUNC)
    assert net.recv(b) == b"second"
    net.send(a, b"12345")
    at = net.alloc(2)
    assert net.call(sk.sys_recvfrom, b, at, 2, so.MSG_TRUNC, 0, 0) == 5
    assert net.send(a, b"x" * 212_992) == -errno.EMSGSIZE


# --- datagrams ---
def test_datagrams_carry_their_senders_name() -> None:
    net = Net()
    a, b = net.socket(DGRAM), net.socket(DGRAM)
    net.bind(a, b"\0a")
    net.bind(b, b"\0b")
    assert net.send(a, b"hello", to=b"\0b") == 5
    assert net.recvmsg(b) == (b"hello", [], 0, b"\1\0\0a")
    assert net.send(a, b"x") == -errno.ENOTCONN
    assert net.send(a, b"x", to=b"\0c") == -errno.ECONNREFUSED
    assert net.send(a, b"", to=b"\0b") == 0
    assert net.recv(b) == b""


def test_connected_datagram_socket_filters_senders() -> None:
    net = Net()
    a, b, c = (net.socket(DGRAM) for _ in range(3))
    for fd, name in ((a, b"\0a"), (b, b"\0b"), (c, b"\0c")):
        net.bind(fd, name)
    assert net.connect(b, b"\0a") == 0
    assert net.send(c, b"x", to=b"\0b") == -errno.EPERM
    assert net.connect(c, b"\0b") == -errno.EPERM
    assert net.send(a, b"x", to=b"\0b") == 1
    assert net.call(sk.sys_connect, b, net.put(b"\0\0"), 2) == 0
    assert net.send(c, b"x", to=b"\0b") == 1


def test_datagram_peer_that_went_away_refuses_once_then_is_forgotten() -> None:
    net = Net()
    a, b = net.pair(DGRAM)
    net.close(b)
    assert net.send(a, b"x") == -errno.ECONNREFUSED
    assert net.send(a, b"x") == -errno.ENOTCONN


def test_full_datagram_queue_blocks_the_sender_until_a_read() -> None:
    net = Net()
    a, b = net.socket(DGRAM), net.socket(DGRAM)
    net.bind(b, b"\0b")
    net.connect(a, b"\0b")
    for _ in range(11):
        assert net.send(a, b"x") == 1
    assert net.send(a, b"x", DONTWAIT) == -errno.EAGAIN
    assert net.file(a).poll() & po.POLLOUT == 0
    assert net.send(a, b"late") is None
    Guest.call(Guest(net.kernel), lambda task: len(net.file(b).read(1)))
    assert net.wake() == 4


# --- ancillary data ---
def test_descriptors_travel() -> None:
    net = Net()
    a, b = net.pair()
    at = net.alloc(8)
    net.call(ef.sys_pipe, at)
    reader, writer = struct.unpack("<ii", net.get(at, 8))
    file = net.file(writer)
    assert net.sendmsg(a, b"take", rights(writer)) == 4
    net.close(writer)
    assert file.refs == 1
    data, control, marks, _ = net.recvmsg(b, room=64, flags=DONTWAIT | so.MSG_CMSG_CLOEXEC)
    (kind, payload) = control[0]
    (fd,) = struct.unpack("<i", payload)
    assert (data, kind, marks) == (b"take", so.SCM_RIGHTS, so.MSG_CMSG_CLOEXEC)
    assert net.file(fd) is file and file.refs == 1 and fd in net.task.files.cloexec
    file.write(b"x")
    assert net.file(reader).read(1) == b"x"


def test_descriptors_without_room_are_closed() -> None:
    net = Net()
    a, b = net.pair()
    efd = net.call(ef.sys_eventfd2, 0, 0)
    assert efd is not None
    file = net.file(efd)
    net.sendmsg(a, b"1", rights(efd, efd, efd))
    data, control, marks, _ = net.recvmsg(b, room=16 + 4)
    assert (data, len(control), marks) == (b"1", 1, so.MSG_CTRUNC)
    assert file.refs == 2
    net.sendmsg(a, b"2", rights(efd))
    assert net.recv(b) == b"2"
    assert file.refs == 2
    assert net.sendmsg(a, b"3", rights(99)) == -errno.EBADF
    assert net.sendmsg(a, b"3", rights(*[efd] * 254)) == -errno.EINVAL
    assert file.refs == 2


def test_data_before_descriptors_is_joined_data_after_is_not() -> None:
    net = Net()
    a, b = net.pair()
    efd = net.call(ef.sys_eventfd2, 0, 0)
    assert efd is not None
    net.send(a, b"one ")
    net.sendmsg(a, b"two", rights(efd))
    net.send(a, b" three")
    data, control, _, _ = net.recvmsg(b, room=64)
    assert (data, len(control)) == (b"one two", 1)
    assert net.recv(b) == b" three"


def test_credentials_are_passed_when_asked_for() -> None:
    net = Net()
    a, b = net.pair()
    assert net.set_option(b, so.SO_PASSCRED, struct.pack("<i", 1)) == 0
    net.send(a, b"who")
    data, control, _, _ = net.recvmsg(b, room=64)
    assert (data, control) == (b"who", [(so.SCM_CREDENTIALS, struct.pack("<iII", 1, 0, 0))])
    assert net.sendmsg(a, b"x", creds(1, 5, 6)) == 1
    assert net.recvmsg(b, room=64)[1] == [(so.SCM_CREDENTIALS, struct.pack("<iII", 1, 5, 6))]
    net.task.cred = type(net.task.cred).for_user(1000, 1000)
    assert net.sendmsg(a, b"x", creds(1, 0, 1000)) == -errno.EPERM
    assert net.sendmsg(a, b"x", creds(1, 1000, 1000)) == 1
    net.recv(b)
    net.send(a, b"gl")
    net.sendmsg(a, b"ue", creds(1, 1000, 1000))
    assert net.recv(b) == b"glue"


def test_messages_of_different_writers_are_not_glued() -> None:
    net = Net()
    a, b = net.pair()
    net.set_option(b, so.SO_PASSCRED, struct.pack("<i", 1))
    net.send(a, b"x")
    net.sendmsg(a, b"y", creds(1, 5, 6))
    assert net.recvmsg(b, room=64)[0] == b"x"
    assert net.recvmsg(b, room=64)[0] == b"y"


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (so.CMSGHDR.pack(8, 1, 1), errno.EINVAL),
        (so.CMSGHDR.pack(100, 1, 1), errno.EINVAL),
        (so.CMSGHDR.pack(20, 1, 99) + bytes(8), errno.EINVAL),
        (so.CMSGHDR.pack(20, 1, 2) + bytes(8), errno.EINVAL),
        (b"short", 0),
        (so.CMSGHDR.pack(20, 41, 99) + bytes(8), 0),
    ],
)
def test_malformed_control_data(control: bytes, expected: int) -> None:
    net = Net()
    a, _b = net.pair()
    assert net.sendmsg(a, b"x", control) == (-expected or 1)


def test_sockets_sent_to_themselves_are_collected() -> None:
    net = Net()
    a, b = net.pair()
    efd = net.call(ef.sys_eventfd2, 0, 0)
    assert efd is not None
    cargo = net.file(efd)
    ends = net.file(a), net.file(b)
    assert net.sendmsg(a, b"x", rights(b, efd)) == 1
    assert net.sendmsg(b, b"x", rights(a)) == 1
    net.close(efd)
    assert cargo.refs == 1
    net.close(a, b)
    assert all(end.dead and end.refs == 0 for end in ends)
    assert cargo.refs == 0
    table = net.kernel.part(UnixTable)
    assert not table.in_flight and not table.in_flight_of


def test_collector_spares_what_somebody_can_still_reach() -> None:
    net = Net()
    a, b = net.pair()
    c, d = net.pair()
    inner = net.file(c)
    net.sendmsg(a, b"x", rights(c))
    net.sendmsg(d, b"y", rights(c))
    net.close(c, d)
    assert not inner.dead
    _, control, _, _ = net.recvmsg(b, room=64)
    (fd,) = struct.unpack("<i", control[0][1])
    assert net.file(fd) is inner
    assert net.recv(fd) == b"y"


def test_too_many_descriptors_in_flight() -> None:
    net = Net()
    a, _b = net.pair(DGRAM)
    net.task.cred = type(net.task.cred).for_user(1000, 1000)
    net.task.group.rlimits[7] = (20, 20)
    sent = 0
    while (result := net.sendmsg(a, b"x", rights(a, a, a))) == 1:
        sent += 3
    assert result == -errno.ETOOMANYREFS
    assert sent == 21


# --- options ---
def test_options_read_as_on_linux() -> None:
    net = Net()
    a, _b = net.pair()
    word = struct.Struct("<i")
    assert net.option(a, so.SO_TYPE) == word.pack(1)
    assert net.option(a, so.SO_DOMAIN) == word.pack(1)
    assert net.option(a, so.SO_PROTOCOL) == word.pack(0)
    assert net.option(a, so.SO_SNDBUF) == word.pack(212_992)
    assert net.option(a, so.SO_PEERCRED) == struct.pack("<iII", 1, 0, 0)
    assert net.option(net.socket(), so.SO_PEERCRED) == struct.pack("<iii", 0, -1, -1)
    assert net.option(a, so.SO_PEERSEC) == -errno.ENOPROTOOPT
    assert net.option(a, so.SO_PEERGROUPS) == b""
    assert net.option(a, so.SO_PEEK_OFF) == word.pack(-1)
    assert net.option(a, so.SO_ACCEPTCONN) == word.pack(0)
    assert net.option(net.listener(b"\0l"), so.SO_ACCEPTCONN) == word.pack(1)
    assert net.option(a, 999) == -errno.ENOPROTOOPT
    assert net.option(a, so.SO_TYPE, 2) == b"\1\0"
    assert net.call(sk.sys_getsockopt, a, 6, 1, net.alloc(8), net.put(word.pack(4))) == -errno.EOPNOTSUPP
    assert net.call(sk.sys_getsockopt, a, 1, 3, net.alloc(8), net.put(word.pack(-1))) == -errno.EINVAL
    assert net.set_option(a, so.SO_SNDBUF, word.pack(100)) == 0
    assert net.option(a, so.SO_SNDBUF) == word.pack(4608)
    assert net.set_option(a, so.SO_TYPE, word.pack(1)) == -errno.ENOPROTOOPT
    assert net.set_option(a, so.SO_REUSEADDR, b"\1") == -errno.EINVAL
    assert net.set_option(a, so.SO_KEEPALIVE, word.pack(7)) == 0
    assert net.option(a, so.SO_KEEPALIVE) == word.pack(1)
    assert net.set_option(a, so.SO_LINGER, struct.pack("<ii", 1, 5)) == 0
    assert net.option(a, so.SO_LINGER) == struct.pack("<ii", 1, 5)
    assert net.set_option(a, so.SO_RCVTIMEO, struct.pack("<qq", 1, 1_000_000)) == -errno.EDOM


def test_peek_offset_walks_through_the_stream() -> None:
    net = Net()
    a, b = net.pair()
    net.send(a, b"abcdef")
    net.set_option(b, so.SO_PEEK_OFF, struct.pack("<i", 1))
    assert net.recv(b, 2, so.MSG_PEEK) == b"bc"
    assert net.recv(b, 2, so.MSG_PEEK) == b"de"
    assert net.recv(b, 2) == b"ab"
    assert net.recv(b, 5, so.MSG_PEEK) == b"f"


# --- many messages ---
def test_sendmmsg_and_recvmmsg() -> None:
    net = Net()
    a, b = net.pair(DGRAM)

    def vector(parts: list[bytes]) -> int:
        raw = b""
        for part in parts:
            iov = net.put(struct.pack("<QQ", net.put(part), len(part)))
            raw += so.MSGHDR.pack(0, 0, iov, 1, 0, 0, 0) + bytes(8)
        return net.put(raw)

    assert net.call(sk.sys_sendmmsg, a, vector([b"one", b"three"]), 2, 0) == 2
    into = vector([bytes(10), bytes(10), bytes(10)])
    assert net.call(sk.sys_recvmmsg, b, into, 3, so.MSG_WAITFORONE, 0) == 2
    assert [net.mm.read_u32(into + 64 * i + 56) for i in range(2)] == [3, 5]
    assert net.call(sk.sys_recvmmsg, b, into, 3, DONTWAIT, 0) == -errno.EAGAIN
    assert net.call(sk.sys_recvmmsg, b, into, 2, 0, 0) is None
    net.file(a).write(b"x")
    assert net.wake() is None
    net.file(a).write(b"y")
    assert net.wake() == 2


def test_not_a_socket() -> None:
    net = Net()
    efd = net.call(ef.sys_eventfd2, 0, 0)
    assert efd is not None
    assert net.recv(efd) == -errno.ENOTSOCK
    assert net.call(sk.sys_listen, efd, 1) == -errno.ENOTSOCK
    assert net.file(efd).seek(0, 0) == 0  # event files have no positions, and say so without an error

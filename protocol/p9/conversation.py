"""One 9P conversation over a connected Unix stream socket: its life, fids, tags, requests out and answers in.

What is asked is client.py's, whose module docstring says what holds for both. One request is outstanding at a time; in
the common case it costs one send and one receive. Answers are waited for by spinning where that pays (spinning.py).
"""

from __future__ import annotations

import errno as _errno
import os
import socket
import struct
from struct import Struct
from time import perf_counter_ns
from typing import Final, TypeVar

from protocol.errors import ProtocolViolation
from protocol.p9 import constants as c
from protocol.p9 import messages as m
from protocol.p9.attributes import Qid
from protocol.p9.codec import HEADER, decode_body_untrusted, encode
from protocol.p9.spinning import SPIN_TRIES, SpinChoice

__all__ = ["Conversation", "GoferGone", "GoferTimeout", "P9Error"]

_REQ_FID: Final = Struct("<IBHI")
_U16: Final = Struct("<H")
_U32: Final = Struct("<I")
_TIMEVAL: Final = Struct("@ll")
_R = TypeVar("_R", bound=m.Message)

# where the `donated` flag lies in the body of a reply that has one
_DONATED_AT: Final = {c.RWALKOPEN: 4, c.ROPENFD: 17, c.RCREATEFD: 4}
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(4 * c.MAX_WALK_NAMES)
_MAX_PENDING_CLUNKS: Final = 256
_MAX_STALE_TAGS: Final = 64


class P9Error(OSError):
    """The server answered Rlerror. `errno` is Linux's."""

    def __init__(self, errno: int, why: str = "") -> None:
        super().__init__(errno, why or os.strerror(errno))


class GoferTimeout(P9Error):
    """No answer within the call's time limit; `errno` is ETIMEDOUT."""

    def __init__(self, why: str) -> None:
        super().__init__(_errno.ETIMEDOUT, why)


class GoferGone(P9Error):
    """The server hung up, or the conversation was ended for a violation; `errno` is EIO."""

    def __init__(self, why: str) -> None:
        super().__init__(_errno.EIO, why)


class Conversation:
    """What every request needs. `extended`: the server knows the extension; `version`: what was agreed on."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        timeout_s: float | None = 30.0,
        msize_bytes: int = c.DEFAULT_MSIZE_BYTES,
    ) -> None:
        """Takes over `sock` (AF_UNIX, SOCK_STREAM, connected). `timeout_s` bounds every call; None waits for ever."""
        self._sock = sock
        self.msize_bytes = msize_bytes
        self.extended = False
        self.version = c.VERSION_UNKNOWN
        self._buffer = bytearray(msize_bytes)
        self._buffers = [self._buffer]  # what recvmsg_into wants, built once
        self._leftover = b""
        self._fds: list[int] = []
        self._tag = 0
        self._next_fid = 1
        self._free_fids: list[int] = []
        self._pending_clunks: list[int] = []
        self._stale: dict[
            int, int
        ] = {}  # tag of an abandoned request -> fid to forget when it succeeds late (or NOFID)
        self._clunk_tags: dict[int, int] = {}  # plain dialect: tag of an unanswered Tclunk -> its fid
        self._gone = ""
        self._spin_choice = SpinChoice()
        self.set_timeout(timeout_s)

    # --- connection --------------------------------------------------------------------------------------------------

    def set_timeout(self, timeout_s: float | None) -> None:
        """Bound every later call. By socket option, so that a receive stays one host call (socket(7), SO_RCVTIMEO)."""
        self._sock.settimeout(None)
        seconds = timeout_s or 0.0
        value = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def fileno(self) -> int:
        """The socket's fd, for whoever keeps fds across a seal."""
        return self._sock.fileno()

    @property
    def gone(self) -> bool:
        """Whether the conversation has ended; every call would raise GoferGone."""
        return bool(self._gone)

    def close(self) -> None:
        """End the conversation. The server forgets all fids. Idempotent."""
        self._end("closed")

    def negotiate(self) -> bytes:
        """Tversion: agree on msize and dialect; every fid is void afterwards. Returns the version agreed on.

        Offers the extension first. A server that does not know it answers "9P2000.L" (or "unknown", then the plain
        version is offered once more). Raises ProtocolViolation when nothing fits. version(5).
        """
        self._pending_clunks.clear()
        for offer in (c.VERSION_EXTENDED, c.VERSION_PLAIN):
            reply = self._call_slow(m.Tversion(self.msize_bytes, offer), m.Rversion, tag=c.NOTAG)
            if reply.version in (offer, c.VERSION_PLAIN):
                if not c.MIN_MSIZE_BYTES <= reply.msize <= self.msize_bytes:
                    raise self._violated(f"version: msize {reply.msize} was not offered")
                self.msize_bytes = reply.msize
                self.version = reply.version
                self.extended = reply.version == c.VERSION_EXTENDED
                return self.version
        raise self._violated("version: server speaks no dialect of 9P2000.L")

    def attach(self, aname: bytes, uname: bytes = b"", uid: int = c.NONUNAME) -> tuple[int, Qid]:
        """Bind a new fid to the export `aname`. Returns (fid, qid). Errors: ENOENT no such export. attach(5)."""
        fid = self.new_fid()
        try:
            reply = self._call_slow(m.Tattach(fid, c.NOFID, uname, aname, uid), m.Rattach)
        except P9Error:
            self._free_fids.append(fid)
            raise
        return fid, reply.qid

    # --- fids --------------------------------------------------------------------------------------------------------

    def new_fid(self) -> int:
        """A fid number that is not in use."""
        if self._free_fids:
            return self._free_fids.pop()
        fid = self._next_fid
        self._next_fid += 1
        return fid

    def clunk(self, fid: int) -> None:
        """Give `fid` up. Sends nothing now: it goes in front of the next request. Never fails."""
        pending = self._pending_clunks
        pending.append(fid)
        if len(pending) >= _MAX_PENDING_CLUNKS:
            self.flush_clunks()

    def flush_clunks(self) -> None:
        """Send the clunks that wait for a request to ride on. For idle moments; never raises, a dead server is
        noticed.
        """
        if self._gone or not self._pending_clunks:
            return
        if not self.extended:
            for _ in range(2):  # a plain server answers each: let a cheap request collect the answers
                try:
                    self._call_slow(m.Tflush(c.NOTAG), m.Rflush)
                except (P9Error, ProtocolViolation):
                    return
                if not self._pending_clunks:
                    return
            return
        try:
            self._send(self._take_clunks())
        except GoferGone:
            return

    def _take_clunks(self) -> bytes:
        """The pending clunks as frames. Extended: one Tforget, the numbers free at once, for requests run in order."""
        pending = self._pending_clunks
        if self.extended:
            self._pending_clunks = []
            self._free_fids += pending
            count = len(pending)
            return struct.pack(f"<IBHH{count}I", 9 + 4 * count, c.TFORGET, 0, count, *pending)
        frames = []
        while pending and len(self._clunk_tags) < _MAX_PENDING_CLUNKS:
            fid = pending.pop()
            tag = self._new_tag()
            self._clunk_tags[tag] = fid
            frames.append(_REQ_FID.pack(_REQ_FID.size, c.TCLUNK, tag, fid))
        return b"".join(frames)

    def _new_tag(self) -> int:
        while True:
            self._tag = tag = (self._tag + 1) % 0xFFFE
            if tag not in self._stale and tag not in self._clunk_tags:
                return tag

    # --- sending and receiving ---------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        if not self._gone:
            self._gone = why
            self._sock.close()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _lost(self, why: str) -> GoferGone:
        self._end(why)
        return GoferGone(why)

    def _violated(self, why: str) -> ProtocolViolation:
        self._end("it violated the protocol: " + why)
        return ProtocolViolation(why)

    def _send(self, data: bytes) -> None:
        if self._gone:
            raise GoferGone(self._gone)
        try:
            sent = self._sock.send(data, socket.MSG_NOSIGNAL)
            while sent < len(data):
                data = data[sent:]
                sent = self._sock.send(data, socket.MSG_NOSIGNAL)
        except OSError as error:  # a time-out in mid-send leaves half a frame behind: nothing can follow it
            raise self._lost(f"send: {error.strerror}") from None

    def _receive(self, have: int, want_fd: bool) -> int:
        """Receive behind the first `have` bytes of the buffer. Returns how many bytes are there now.

        Spins before it sleeps where that has paid lately: sleeping costs two context switches a round trip, which in a
        virtual machine is most of it.
        """
        with_fds = want_fd or bool(self._stale)
        try:
            if have:
                got = self._receive_once(have, with_fds, 0)
            else:
                choice = self._spin_choice
                spins = choice.spins()
                began = perf_counter_ns()
                got = self._spin(with_fds) if spins else self._receive_once(0, with_fds, 0)
                choice.learn(spins, perf_counter_ns() - began)
        except BlockingIOError:
            raise GoferTimeout("no answer from the gofer in time") from None
        except OSError as error:
            if isinstance(error, P9Error):
                raise
            raise self._lost(f"receive: {error.strerror}") from None
        if not got:
            raise self._lost("it hung up")
        return have + got

    def _spin(self, with_fds: bool) -> int:
        """A receive that asks some times before it sleeps."""
        for _ in range(SPIN_TRIES):
            try:
                if with_fds:
                    return self._receive_once(0, True, socket.MSG_DONTWAIT)
                return self._sock.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
        return self._receive_once(0, with_fds, 0)

    def _receive_once(self, have: int, with_fds: bool, flags: int) -> int:
        if not with_fds:
            return self._sock.recv_into(memoryview(self._buffer)[have:] if have else self._buffer, 0, flags)
        buffers = [memoryview(self._buffer)[have:]] if have else self._buffers
        flags |= socket.MSG_CMSG_CLOEXEC
        got, ancillary, out_flags, _ = self._sock.recvmsg_into(buffers, _ANCILLARY_BYTES, flags)
        if ancillary:
            self._take_fds(ancillary)
        if out_flags & socket.MSG_CTRUNC:
            raise self._violated("more fds than any message may carry")
        return got

    def _take_fds(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds += struct.unpack(f"@{len(data) // 4}i", data[: len(data) // 4 * 4])

    def _call(self, frame: bytes, request: int, want_fd: bool = False, newfid: int = c.NOFID) -> int:
        """Send `frame` (of type `request`), wait for its reply. Returns the end of the reply in the buffer (start is
        0).

        Raises P9Error for Rlerror. On any error, `newfid` is free again (later, if the answer is still to come).
        """
        try:
            if self._pending_clunks:
                self._send(self._take_clunks() + frame)
            else:
                self._send(frame)
            tag: int = _U16.unpack_from(frame, 5)[0]
            if self._leftover or self._clunk_tags or self._stale:
                return self._await_slow(tag, request, want_fd)
            have = self._receive(0, want_fd)
            if have < c.HEADER_BYTES:
                return self._await_slow(tag, request, want_fd, have)
            size, number, got_tag = HEADER.unpack_from(self._buffer)
            if size == have and got_tag == tag and number == request + 1:
                return have
            return self._await_slow(tag, request, want_fd, have)
        except GoferTimeout:
            if len(self._stale) >= _MAX_STALE_TAGS:
                raise self._lost("too many requests without an answer") from None
            self._stale[tag] = newfid
            raise
        except P9Error:
            if newfid != c.NOFID:
                self._free_fids.append(newfid)
            raise

    def _await_slow(self, tag: int, request: int, want_fd: bool, have: int = 0) -> int:
        """The general receive: answers to clunks and abandoned requests before ours, pieces, bytes left behind."""
        buffer = self._buffer
        if self._leftover:
            have = len(self._leftover)
            buffer[:have] = self._leftover
            self._leftover = b""
        try:
            while True:
                while have < c.HEADER_BYTES:
                    have = self._receive(have, want_fd)
                size, number, got_tag = HEADER.unpack_from(buffer)
                if not c.HEADER_BYTES <= size <= self.msize_bytes:
                    raise self._violated(f"frame: size {size} is not in {c.HEADER_BYTES}..{self.msize_bytes}")
                while have < size:
                    have = self._receive(have, want_fd)
                if got_tag == tag:
                    self._leftover = bytes(memoryview(buffer)[size:have])
                    have = 0
                    return self._accept(number, request, size)
                self._drop_other(number, got_tag, size)
                rest = bytes(memoryview(buffer)[size:have])
                have = len(rest)
                buffer[:have] = rest
        except GoferTimeout:
            self._leftover = bytes(memoryview(buffer)[:have])
            raise

    def _accept(self, number: int, request: int, size: int) -> int:
        """Our reply is whole at the start of the buffer: check its type."""
        if number == request + 1:
            return size
        if number != c.RLERROR or size != c.HEADER_BYTES + 4:
            raise self._violated(f"message type {number} answers type {request}")
        code: int = _U32.unpack_from(self._buffer, c.HEADER_BYTES)[0]
        if not 0 < code < 4096:
            raise self._violated(f"error {code} is no errno")
        raise P9Error(code)

    def _drop_other(self, number: int, tag: int, size: int) -> None:
        """A frame that does not answer the current request: to a clunk, to an abandoned request, or a violation."""
        if tag in self._clunk_tags:
            self._free_fids.append(self._clunk_tags.pop(tag))
            return
        if tag not in self._stale:
            raise self._violated(f"tag {tag} was never sent")
        newfid = self._stale.pop(tag)
        flag_at = c.HEADER_BYTES + _DONATED_AT.get(number, size)
        if flag_at < size and self._buffer[flag_at] and self._fds:
            os.close(self._fds.pop(0))
        if newfid == c.NOFID:
            return
        if number == c.RLERROR or self._bound_nothing(number, size):
            self._free_fids.append(newfid)
        else:
            self._pending_clunks.append(newfid)

    def _bound_nothing(self, number: int, size: int) -> bool:
        """Whether a late extended walk reports an errno inside its reply."""
        if number not in (c.RWALKGETATTR, c.RWALKOPEN) or size < c.HEADER_BYTES + 4:
            return False
        return bool(_U32.unpack_from(self._buffer, c.HEADER_BYTES)[0])

    def _call_slow(self, message: m.Message, reply: type[_R], tag: int = -1, newfid: int = c.NOFID) -> _R:
        """One request by the generic codec. Raises P9Error as `_call`."""
        tag = self._new_tag() if tag < 0 else tag
        frame = encode(message, tag)
        request = frame[4]
        end = self._call(frame, request, newfid=newfid)
        try:
            answer = decode_body_untrusted(request + 1, self._buffer, c.HEADER_BYTES, end)
        except ProtocolViolation as violation:
            raise self._violated(violation.why) from None
        assert isinstance(answer, reply)
        return answer

    def _take_donated(self, donated: int) -> int | None:
        """The fd that came beside the reply just accepted. Whatever is received but not announced is closed."""
        fds = self._fds
        if not donated:
            while fds:
                os.close(fds.pop())
            return None
        if not fds:
            raise self._violated("donated: no fd came beside the message")
        fd = fds.pop(0)
        while fds:
            os.close(fds.pop())
        return fd

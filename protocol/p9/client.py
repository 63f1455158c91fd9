"""A blocking 9P2000.L client over a connected Unix stream socket: what the Sentry opens files with.

One request is outstanding at a time; in the common case it costs one send and one receive. The codec's generic path is
not used for hot messages: they are packed and unpacked here straight from the buffer (tests hold both equal).

Life: construct, `negotiate()`, `attach()`, then anything, `close()`. Not thread-safe: one thread owns it.
Errors: `P9Error(errno)` the server refused; `GoferTimeout` no answer in time (the connection stays usable, a late
answer is dropped and its fid forgotten); `GoferGone` the server is dead or the conversation was ended;
`ProtocolViolation` it sent nonsense (the connection is closed, later calls raise GoferGone).
Fids are numbers from `new_fid()`; a fid passed as `newfid` is owned by the caller once the call returned without error,
else its number is free again. `clunk()` sends nothing by itself: it rides in front of the next request.
Fds: every received fd is close-on-exec; it is either returned to the caller or closed. Calls that expect none receive
without ancillary space, so the kernel itself drops what a hostile server attaches.
Against a server without the extension, the same methods are composed from plain messages and never return an fd.
"""

from __future__ import annotations

import errno as _errno
import os
import socket
import struct
from collections.abc import Sequence
from struct import Struct
from time import perf_counter_ns
from typing import Final, NamedTuple, TypeVar

from protocol.errors import ProtocolViolation
from protocol.p9 import constants as c
from protocol.p9 import messages as m
from protocol.p9.attributes import ATTRIBUTES, ATTRIBUTES_BYTES, Attributes, Qid, SetAttributes, StatFs
from protocol.p9.codec import (
    HEADER,
    decode_body_untrusted,
    encode,
    read_attributes_list_untrusted,
    read_string_untrusted,
)
from protocol.p9.directory import (
    DirectoryEntry,
    Listing,
    decode_entries_untrusted,
    decode_listings_untrusted,
    decode_records_untrusted,
)
from protocol.p9.spinning import SPIN_TRIES, SpinChoice

_REQ_FIDS2_COUNT: Final = Struct("<IBHIIH")  # header, fid, newfid, number of names
_REQ_WALKOPEN: Final = Struct("<IBHIIIBH")  # header, fid, newfid, flags, want, number of names
_REQ_OPENFD: Final = Struct("<IBHIIB")
_REQ_GETATTR: Final = Struct("<IBHIQ")
_REQ_OPENFDS: Final = Struct("<IBHIH")  # header, fid, number of names
_OPENED: Final = Struct("<IQ")  # ecode, qid.path
_REQ_LISTATTR: Final = Struct("<IBHIIH")  # header, fid, count, number of names
_REQ_READ: Final = Struct("<IBHIQI")
_REQ_FID: Final = Struct("<IBHI")
_REQ_WRITE: Final = Struct("<IBHIQI")
_U16: Final = Struct("<H")
_U32: Final = Struct("<I")
_ROPENFD: Final = Struct("<BIQIB")
_RWALKOPEN: Final = Struct("<IBI")  # errno, donated, iounit
_RCREATEFD: Final = Struct("<IB")
_U8_U32: Final = Struct("<BI")
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


class WalkResult(NamedTuple):
    """How far a walk got. `errno` 0: every name, and newfid is bound; else why name number len(steps) failed, newfid
    free.

    `target` is the text of the last record when that is a symlink's. A name behind a symlink fails with ENOTDIR.
    """

    errno: int
    steps: list[Attributes]
    target: bytes


class OpenResult(NamedTuple):
    """As WalkResult, and newfid is open when `errno` is 0. `fd`: a donated host fd now owned by the caller, or None."""

    errno: int
    steps: list[Attributes]
    target: bytes
    iounit: int
    fd: int | None


class CreateResult(NamedTuple):
    """A file just created and opened. `fd`: a donated host fd now owned by the caller, or None."""

    attributes: Attributes
    iounit: int
    fd: int | None


class LockState(NamedTuple):
    """What a getlock found: LOCK_TYPE_UNLCK, or the first conflicting lock."""

    kind: int
    start: int
    length: int
    proc_id: int
    client_id: bytes


class OpenedFile(NamedTuple):
    """Of one name of `openfds`: the errno, or 0 and which file it is, opened as `fd`."""

    errno: int
    qid_path: int
    fd: int


class P9Client:
    """See the module docstring for life cycle, ownership and errors."""

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

    # --- walking and opening -----------------------------------------------------------------------------------------

    def walkgetattr(self, fid: int, newfid: int, names: Sequence[bytes]) -> WalkResult:
        """Walk `names` (at most MAX_WALK_NAMES) from `fid`, bind the end to `newfid`, learn every step's attributes.

        No names: `newfid` is a clone and one record, of `fid` itself, comes back. newfid == fid moves the fid. A name
        that cannot be walked is not raised but told in the result, since "not there" is an ordinary answer.
        """
        if not self.extended:
            return self._walkgetattr_plain(fid, newfid, names)
        tail = self._pack_names(names, newfid)
        frame = _REQ_FIDS2_COUNT.pack(17 + len(tail), c.TWALKGETATTR, self._new_tag(), fid, newfid, len(names)) + tail
        end = self._call(frame, c.TWALKGETATTR, newfid=newfid if newfid != fid else c.NOFID)
        code, steps, target = self._parse_walk(c.HEADER_BYTES + 4, end, len(names))
        if code and newfid != fid:
            self._free_fids.append(newfid)
        return WalkResult(code, steps, target)

    def walkopen(self, fid: int, newfid: int, names: Sequence[bytes], flags: int, want_fd: bool = True) -> OpenResult:
        """walkgetattr, then open the end with `flags` (L_*): one round trip for an uncached open().

        `want_fd` asks for the host fd. FIFOs, devices and sockets are told by `errno` ENXIO with all their attributes.
        newfid must differ from fid.
        """
        if not self.extended:
            return self._walkopen_plain(fid, newfid, names, flags)
        tail = self._pack_names(names, newfid)
        count = len(names)
        frame = (
            _REQ_WALKOPEN.pack(22 + len(tail), c.TWALKOPEN, self._new_tag(), fid, newfid, flags, want_fd, count) + tail
        )
        end = self._call(frame, c.TWALKOPEN, want_fd, newfid)
        if end < c.HEADER_BYTES + _RWALKOPEN.size:
            raise self._violated("walkopen: reply is cut off")
        donated, iounit = _U8_U32.unpack_from(self._buffer, c.HEADER_BYTES + 4)
        code, steps, target = self._parse_walk(c.HEADER_BYTES + _RWALKOPEN.size, end, count)
        fd = self._take_donated(donated)
        if code:
            self._free_fids.append(newfid)
            if fd is not None:
                os.close(fd)
                raise self._violated("walkopen: an fd beside an error")
        return OpenResult(code, steps, target, iounit, fd)

    def open(self, fid: int, flags: int, want_fd: bool = True) -> tuple[Qid, int, int | None]:
        """Open `fid` itself with `flags` (L_*). Returns (qid, iounit, donated fd or None). open(2)'s errors."""
        if not self.extended:
            reply = self._call_slow(m.Tlopen(fid, flags), m.Rlopen)
            return reply.qid, reply.iounit, None
        frame = _REQ_OPENFD.pack(_REQ_OPENFD.size, c.TOPENFD, self._new_tag(), fid, flags, want_fd)
        end = self._call(frame, c.TOPENFD, want_fd)
        if end != c.HEADER_BYTES + _ROPENFD.size:
            raise self._violated("openfd: reply has the wrong size")
        kind, version, path, iounit, donated = _ROPENFD.unpack_from(self._buffer, c.HEADER_BYTES)
        return Qid(kind, version, path), iounit, self._take_donated(donated)

    def openfds(self, fid: int, names: Sequence[bytes]) -> list[OpenedFile]:
        """Open the regular files `names` (at most MAX_WALK_NAMES) in `fid` for reading; those that could not be opened,
        or not be donated, are told by their errno. The fds are the caller's. Needs `extended`.
        """
        tail = self._pack_names(names, c.NOFID)
        frame = _REQ_OPENFDS.pack(13 + len(tail), c.TOPENFDS, self._new_tag(), fid, len(names)) + tail
        end = self._call(frame, c.TOPENFDS, True)
        data = self._data(end, len(names) * _OPENED.size)
        fds = self._fds
        if len(data) != len(names) * _OPENED.size:
            raise self._violated("openfds: reply has the wrong size")
        found: list[OpenedFile] = []
        for code, path in _OPENED.iter_unpack(data):
            if not code and not fds:
                raise self._violated("openfds: too few fds came beside the message")
            found.append(OpenedFile(code, path, -1 if code else fds.pop(0)))
        while fds:
            os.close(fds.pop())
        return found

    def create(
        self, dfid: int, newfid: int, name: bytes, flags: int, mode: int, gid: int = c.NOFID, want_fd: bool = True
    ) -> CreateResult:
        """Create the regular file `name` in `dfid` and open it as `newfid`; `dfid` stays a directory fid.

        `mode`: permission bits, already masked. `gid` NOFID: the server's choice. EEXIST only with L_EXCL in `flags`.
        """
        self._check_name(name, newfid)
        if not self.extended:
            return self._create_plain(dfid, newfid, name, flags, mode, gid)
        frame = encode(m.Tcreatefd(dfid, newfid, name, flags, mode, gid, int(want_fd)), self._new_tag())
        end = self._call(frame, c.TCREATEFD, want_fd, newfid)
        if end != c.HEADER_BYTES + _RCREATEFD.size + ATTRIBUTES_BYTES:
            raise self._violated("createfd: reply has the wrong size")
        iounit, donated = _RCREATEFD.unpack_from(self._buffer, c.HEADER_BYTES)
        attributes = Attributes._make(ATTRIBUTES.unpack_from(self._buffer, c.HEADER_BYTES + _RCREATEFD.size))
        return CreateResult(attributes, iounit, self._take_donated(donated))

    def _check_name(self, name: bytes, newfid: int = c.NOFID) -> None:
        if len(name) > c.MAX_NAME_BYTES:
            if newfid != c.NOFID:
                self._free_fids.append(newfid)
            raise P9Error(_errno.ENAMETOOLONG)

    def _pack_names(self, names: Sequence[bytes], newfid: int) -> bytes:
        parts: list[bytes] = []
        for name in names:
            if len(name) > c.MAX_NAME_BYTES:
                self._check_name(name, newfid)
            parts.append(_U16.pack(len(name)) + name)
        if len(parts) > c.MAX_WALK_NAMES:
            raise ValueError(f"{len(parts)} names, limit is {c.MAX_WALK_NAMES}")
        return b"".join(parts)

    def _parse_walk(self, offset: int, end: int, wanted: int) -> tuple[int, list[Attributes], bytes]:
        """The errno, records and link text of an extended walk's reply; `offset`: where the records' count lies."""
        buffer = self._buffer
        try:
            steps, offset = read_attributes_list_untrusted(buffer, offset, end)
            target, offset = read_string_untrusted(buffer, offset, end)
        except ProtocolViolation as violation:
            raise self._violated(violation.why) from None
        code: int = _U32.unpack_from(buffer, c.HEADER_BYTES)[0]
        complete = len(steps) == (wanted or 1)
        if offset != end or code > 4095 or len(steps) > (wanted or 1) or not (code or complete):
            raise self._violated("walk: reply does not fit the request")
        return code, steps, target

    def _walkgetattr_plain(self, fid: int, newfid: int, names: Sequence[bytes]) -> WalkResult:
        """By Twalk and Tgetattr, one name at a time: each step's attributes are wanted."""
        self._pack_names(names, newfid)
        frees = newfid if newfid != fid else c.NOFID
        if not names:
            if newfid != fid:
                self._call_slow(m.Twalk(fid, newfid, []), m.Rwalk, newfid=frees)
            return WalkResult(0, [self._getattr_or_clunk(newfid, frees)], b"")
        if newfid == fid:  # walk a clone, so that a failure in the middle leaves `fid` where it was
            clone = self.new_fid()
            result = self._walkgetattr_plain(fid, clone, names)
            if not result.errno:
                self._call_slow(m.Twalk(fid, fid, list(names)), m.Rwalk)
                self.clunk(clone)
            return result
        steps: list[Attributes] = []
        target = b""
        at, bound = fid, False
        for name in names:
            if steps and not steps[-1].is_directory:
                self.clunk(newfid)
                return WalkResult(_errno.ENOTDIR, steps, target)
            try:
                reply = self._call_slow(m.Twalk(at, newfid, [name]), m.Rwalk, newfid=c.NOFID if bound else newfid)
            except (GoferGone, GoferTimeout):
                raise
            except P9Error as error:
                if bound:
                    self.clunk(newfid)
                return WalkResult(error.errno or _errno.EIO, steps, target)
            if len(reply.qids) != 1:
                raise self._violated("walk: a walk of one name must give one qid or an error")
            at, bound = newfid, True
            steps.append(self._getattr_or_clunk(newfid, newfid))
            if steps[-1].is_symlink:
                target = self.readlink(newfid)
        return WalkResult(0, steps, target)

    def _getattr_or_clunk(self, fid: int, clunk_fid: int) -> Attributes:
        try:
            return self.getattr(fid)
        except P9Error:
            if clunk_fid != c.NOFID and not self._gone:
                self.clunk(clunk_fid)
            raise

    def _walkopen_plain(self, fid: int, newfid: int, names: Sequence[bytes], flags: int) -> OpenResult:
        code, steps, target = self._walkgetattr_plain(fid, newfid, names)
        if code:
            return OpenResult(code, steps, target, 0, None)
        last = steps[-1]
        if last.is_regular or last.is_directory:
            try:
                iounit = self._call_slow(m.Tlopen(newfid, flags), m.Rlopen).iounit
                return OpenResult(0, steps, target, iounit, None)
            except (GoferGone, GoferTimeout):
                raise
            except P9Error as error:
                code = error.errno or _errno.EIO
        else:
            code = _errno.ELOOP if last.is_symlink else _errno.ENXIO
        self.clunk(newfid)
        return OpenResult(code, steps, target, 0, None)

    def _create_plain(self, dfid: int, newfid: int, name: bytes, flags: int, mode: int, gid: int) -> CreateResult:
        self._call_slow(m.Twalk(dfid, newfid, []), m.Rwalk, newfid=newfid)
        try:
            reply = self._call_slow(m.Tlcreate(newfid, name, flags | c.L_CREATE, mode, gid), m.Rlcreate)
            return CreateResult(self.getattr(newfid), reply.iounit, None)
        except P9Error:
            if not self._gone:
                self.clunk(newfid)
            raise

    # --- attributes --------------------------------------------------------------------------------------------------

    def getattr(self, fid: int, mask: int = c.GETATTR_ALL) -> Attributes:
        """What the server knows of `fid` now. stat(2)."""
        end = self._call(_REQ_GETATTR.pack(_REQ_GETATTR.size, c.TGETATTR, self._new_tag(), fid, mask), c.TGETATTR)
        if end != c.HEADER_BYTES + ATTRIBUTES_BYTES:
            raise self._violated("getattr: reply has the wrong size")
        return Attributes._make(ATTRIBUTES.unpack_from(self._buffer, c.HEADER_BYTES))

    def setattr(self, fid: int, change: SetAttributes) -> None:
        """Change what `change.valid` (SETATTR_*) names. chmod(2), chown(2), truncate(2), utimensat(2)."""
        message = m.Tsetattr(
            fid,
            change.valid,
            change.mode,
            change.uid,
            change.gid,
            change.size_bytes,
            change.atime_sec,
            change.atime_nsec,
            change.mtime_sec,
            change.mtime_nsec,
        )
        self._call_slow(message, m.Rsetattr)

    def readlink(self, fid: int) -> bytes:
        """The text of a symlink. EINVAL when it is none. readlink(2)."""
        return self._call_slow(m.Treadlink(fid), m.Rreadlink).target

    def statfs(self, fid: int) -> StatFs:
        """The file system that holds `fid`. statfs(2)."""
        reply = self._call_slow(m.Tstatfs(fid), m.Rstatfs)
        return StatFs(
            reply.fs_type,
            reply.bsize,
            reply.blocks,
            reply.bfree,
            reply.bavail,
            reply.files,
            reply.ffree,
            reply.fsid,
            reply.namelen,
        )

    # --- open files --------------------------------------------------------------------------------------------------

    @property
    def max_read_bytes(self) -> int:
        """The most that one read() can return."""
        return self.msize_bytes - c.READ_OVERHEAD_BYTES

    def read(self, fid: int, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; shorter at the end of the file or beyond `max_read_bytes`. pread(2)."""
        count = min(count, self.max_read_bytes)
        end = self._call(_REQ_READ.pack(_REQ_READ.size, c.TREAD, self._new_tag(), fid, offset, count), c.TREAD)
        return self._data(end, count)

    def _data(self, end: int, limit: int) -> bytes:
        """The count[4] data of a reply that ends at `end`."""
        size = end - c.READ_OVERHEAD_BYTES
        if not 0 <= size <= limit or size != _U32.unpack_from(self._buffer, c.HEADER_BYTES)[0]:
            raise self._violated("data: count does not fit the reply or the request")
        return bytes(memoryview(self._buffer)[c.READ_OVERHEAD_BYTES : end])

    def write(self, fid: int, offset: int, data: bytes | memoryview) -> int:
        """Write `data` at `offset`, in as many messages as it takes. Returns bytes written, short only as pwrite(2)."""
        limit = self.msize_bytes - c.WRITE_OVERHEAD_BYTES
        view = memoryview(data)
        done = 0
        while True:
            piece = view[done : done + limit]
            size = c.WRITE_OVERHEAD_BYTES + len(piece)
            header = _REQ_WRITE.pack(size, c.TWRITE, self._new_tag(), fid, offset + done, len(piece))
            try:
                end = self._call(header + piece, c.TWRITE)
            except P9Error:
                if done and not self._gone:
                    return done
                raise
            if end != c.HEADER_BYTES + 4:
                raise self._violated("write: reply has the wrong size")
            wrote: int = _U32.unpack_from(self._buffer, c.HEADER_BYTES)[0]
            if wrote > len(piece):
                raise self._violated("write: more was written than was sent")
            done += wrote
            if wrote < len(piece) or done >= len(view):
                return done

    def fsync(self, fid: int, datasync: bool = False) -> None:
        """fsync(2), or fdatasync(2)."""
        self._call_slow(m.Tfsync(fid, int(datasync)), m.Rfsync)

    def readdir(self, fid: int, offset: int, count: int = 65536) -> list[DirectoryEntry]:
        """Entries behind cookie `offset` (0: the first) that fit in `count` bytes; empty at the end. `fid` must be
        open.
        """
        count = min(count, self.max_read_bytes)
        end = self._call(_REQ_READ.pack(_REQ_READ.size, c.TREADDIR, self._new_tag(), fid, offset, count), c.TREADDIR)
        try:
            return decode_entries_untrusted(self._data(end, count))
        except ProtocolViolation as violation:
            raise self._violated(violation.why) from None

    def readdirattr(self, fid: int, offset: int, count: int, walk_fid: int) -> tuple[dict[bytes, bytes], int]:
        """As readdir: names with their attributes as they came, and the cookie to go on from, 0 at the end. Without
        "." and "..".

        On a plain server each entry is walked from `walk_fid`, an unopened fid of the same directory.
        """
        if not self.extended:
            return self._readdirattr_plain(fid, offset, count, walk_fid)
        count = min(count, self.max_read_bytes)
        frame = _REQ_READ.pack(_REQ_READ.size, c.TREADDIRATTR, self._new_tag(), fid, offset, count)
        end = self._call(frame, c.TREADDIRATTR)
        try:
            return decode_records_untrusted(self._data(end, count), dots=True)
        except ProtocolViolation as violation:
            raise self._violated(violation.why) from None

    def listattr(self, fid: int, names: Sequence[bytes], count: int = 262144) -> list[Listing]:
        """Whole listings of the directories `names` (at most MAX_WALK_NAMES) in `fid`, or of `fid` itself without
        names: at least one, and as many as fit in `count` bytes. Needs `extended`.
        """
        count = min(count, self.max_read_bytes)
        tail = self._pack_names(names, c.NOFID)
        frame = _REQ_LISTATTR.pack(17 + len(tail), c.TLISTATTR, self._new_tag(), fid, count, len(names)) + tail
        end = self._call(frame, c.TLISTATTR)
        try:
            listings = decode_listings_untrusted(self._data(end, count), max(len(names), 1))
        except ProtocolViolation as violation:
            raise self._violated(violation.why) from None
        if not listings:
            raise self._violated("listing: none")
        return listings

    def _readdirattr_plain(self, fid: int, offset: int, count: int, walk_fid: int) -> tuple[dict[bytes, bytes], int]:
        entries = self.readdir(fid, offset, count)
        found: dict[bytes, bytes] = {}
        for entry in entries:
            if entry.name not in (b".", b".."):
                newfid = self.new_fid()
                walk = self._walkgetattr_plain(walk_fid, newfid, [entry.name])
                if not walk.errno:
                    self.clunk(newfid)
                    found[entry.name] = ATTRIBUTES.pack(*walk.steps[0])
        return found, entries[-1].offset if entries else 0

    def lock(
        self, fid: int, kind: int, start: int, length: int, proc_id: int, client_id: bytes = b"", flags: int = 0
    ) -> int:
        """Take or drop (`kind`: LOCK_TYPE_*) a byte-range lock; length 0: to the end. Never waits. Returns LOCK_*."""
        return self._call_slow(m.Tlock(fid, kind, flags, start, length, proc_id, client_id), m.Rlock).status

    def getlock(self, fid: int, kind: int, start: int, length: int, proc_id: int, client_id: bytes = b"") -> LockState:
        """Which lock would stand in the way. fcntl(2), F_GETLK."""
        reply = self._call_slow(m.Tgetlock(fid, kind, start, length, proc_id, client_id), m.Rgetlock)
        return LockState(reply.kind, reply.start, reply.length, reply.proc_id, reply.client_id)

    # --- names -------------------------------------------------------------------------------------------------------

    def mkdir(self, dfid: int, name: bytes, mode: int, gid: int = c.NOFID) -> Qid:
        """mkdir(2)."""
        self._check_name(name)
        return self._call_slow(m.Tmkdir(dfid, name, mode, gid), m.Rmkdir).qid

    def mknod(self, dfid: int, name: bytes, mode: int, major: int = 0, minor: int = 0, gid: int = c.NOFID) -> Qid:
        """mknod(2); `mode` holds the S_IFMT bits too."""
        self._check_name(name)
        return self._call_slow(m.Tmknod(dfid, name, mode, major, minor, gid), m.Rmknod).qid

    def symlink(self, dfid: int, name: bytes, target: bytes, gid: int = c.NOFID) -> Qid:
        """symlink(2)."""
        self._check_name(name)
        if len(target) >= c.MAX_STRING_BYTES:
            raise P9Error(_errno.ENAMETOOLONG)
        return self._call_slow(m.Tsymlink(dfid, name, target, gid), m.Rsymlink).qid

    def link(self, dfid: int, fid: int, name: bytes) -> None:
        """Give the file `fid` another name in `dfid`. link(2)."""
        self._check_name(name)
        self._call_slow(m.Tlink(dfid, fid, name), m.Rlink)

    def unlinkat(self, dfid: int, name: bytes, flags: int = 0) -> None:
        """unlinkat(2); `flags`: UNLINK_REMOVEDIR for a directory."""
        self._check_name(name)
        self._call_slow(m.Tunlinkat(dfid, name, flags), m.Runlinkat)

    def renameat(self, old_dfid: int, old_name: bytes, new_dfid: int, new_name: bytes) -> None:
        """rename(2)."""
        self._check_name(old_name)
        self._check_name(new_name)
        self._call_slow(m.Trenameat(old_dfid, old_name, new_dfid, new_name), m.Rrenameat)

    # --- extended attributes -----------------------------------------------------------------------------------------

    def xattr_get(self, fid: int, name: bytes) -> bytes:
        """The value of `name`. ENODATA when there is none. getxattr(2). An empty name gives the raw list of names."""
        newfid = self.new_fid()
        walk = encode(m.Txattrwalk(fid, newfid, name), self._new_tag())
        limit = min(c.MAX_XATTR_VALUE_BYTES, self.max_read_bytes)
        read_tag = self._new_tag()
        read = _REQ_READ.pack(_REQ_READ.size, c.TREAD, read_tag, newfid, 0, limit)
        if not self.extended:
            self._call(walk, c.TXATTRWALK, newfid=newfid)
            try:
                return self._data(self._call(read, c.TREAD), limit)
            finally:
                self.clunk(newfid)
        try:  # both at once: the extension promises answers in order
            self._call(walk + read, c.TXATTRWALK, newfid=newfid)
        except P9Error:
            self._stale[read_tag] = c.NOFID
            raise
        try:
            return self._data(self._await_slow(read_tag, c.TREAD, False), limit)
        except GoferTimeout:
            self._stale[read_tag] = c.NOFID
            raise
        finally:
            self.clunk(newfid)

    def xattr_list(self, fid: int) -> list[bytes]:
        """All names. listxattr(2)."""
        return [name for name in self.xattr_get(fid, b"").split(b"\0") if name]

    def xattr_set(self, fid: int, name: bytes, value: bytes, flags: int = 0) -> None:
        """setxattr(2); `flags`: 1 XATTR_CREATE, 2 XATTR_REPLACE. The clunk carries the verdict, so it is waited for."""
        if len(value) > c.MAX_XATTR_VALUE_BYTES:
            raise P9Error(_errno.E2BIG)
        self._check_name(name)
        newfid = self.new_fid()
        self._call_slow(m.Twalk(fid, newfid, []), m.Rwalk, newfid=newfid)
        try:
            self._call_slow(m.Txattrcreate(newfid, name, len(value), flags), m.Rxattrcreate)
            if value:
                self.write(newfid, 0, value)
        except P9Error:
            if not self._gone:
                self.clunk(newfid)
            raise
        try:
            self._call_slow(m.Tclunk(newfid), m.Rclunk)
        finally:
            self._free_fids.append(newfid)

    def xattr_remove(self, fid: int, name: bytes) -> None:
        """removexattr(2): on the wire an empty value with XATTR_REPLACE, as Linux's v9fs sends it."""
        self.xattr_set(fid, name, b"", 2)

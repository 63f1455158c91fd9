"""A blocking 9P2000.L client: what the Sentry opens files with. How requests go out and answers come in stands in
conversation.py.

The codec's generic path is not used for hot messages: they are packed and unpacked here straight from the buffer (tests
hold both equal).

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
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from protocol.errors import ProtocolViolation
from protocol.p9 import constants as c
from protocol.p9 import messages as m
from protocol.p9.attributes import ATTRIBUTES, ATTRIBUTES_BYTES, Attributes, Qid, SetAttributes, StatFs
from protocol.p9.codec import (
    encode,
    read_attributes_list_untrusted,
    read_string_untrusted,
)
from protocol.p9.conversation import Conversation, GoferGone, GoferTimeout, P9Error
from protocol.p9.directory import (
    DirectoryEntry,
    Listing,
    decode_entries_untrusted,
    decode_listings_untrusted,
    decode_records_untrusted,
)

_REQ_FIDS2_COUNT: Final = Struct("<IBHIIH")  # header, fid, newfid, number of names
_REQ_WALKOPEN: Final = Struct("<IBHIIIBH")  # header, fid, newfid, flags, want, number of names
_REQ_OPENFD: Final = Struct("<IBHIIB")
_REQ_GETATTR: Final = Struct("<IBHIQ")
_REQ_OPENFDS: Final = Struct("<IBHIH")  # header, fid, number of names
_OPENED: Final = Struct("<IQ")  # ecode, qid.path
_REQ_LISTATTR: Final = Struct("<IBHIIH")  # header, fid, count, number of names
_REQ_READ: Final = Struct("<IBHIQI")
_REQ_WRITE: Final = Struct("<IBHIQI")
_U16: Final = Struct("<H")
_U32: Final = Struct("<I")
_ROPENFD: Final = Struct("<BIQIB")
_RWALKOPEN: Final = Struct("<IBI")  # errno, donated, iounit
_RCREATEFD: Final = Struct("<IB")
_U8_U32: Final = Struct("<BI")


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


class P9Client(Conversation):
    """See the module docstring for life cycle, ownership and errors."""

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

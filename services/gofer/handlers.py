"""What each T-message does: one table from type number to handler. Sans-IO but for what the backend does.

A handler is `(connection, buffer, start, end, tag) -> reply frame`; buffer[start:end] is the body. Hot messages (those
on the way of an uncached open, read or listing) are unpacked and packed here directly; the others are written against
the message classes and wrapped by `_generic`. Handlers raise OSError, which `Connection.answer` turns into Rlerror, and
ProtocolViolation, which ends the conversation. Replies that donate an fd leave it in `connection.donation`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from struct import Struct
from typing import Final, TypeAlias

from protocol.errors import ProtocolViolation
from protocol.p9 import constants as c
from protocol.p9 import messages as m
from protocol.p9.attributes import ATTRIBUTES, ATTRIBUTES_BYTES, Attributes, SetAttributes
from protocol.p9.codec import (
    HEADER,
    decode_body_untrusted,
    encode,
    read_fids_untrusted,
    read_names_untrusted,
    read_string_untrusted,
)
from protocol.p9.directory import (
    ENTRY_BYTES,
    LISTING_HEAD,
    encode_entry,
)
from services.gofer.backends.base import Backend, Node, OpenFile, check_name
from services.gofer.errors import LinuxError
from services.gofer.fids import MAX_FIDS, Fid, FidTable, XattrRead, XattrWrite

Handler: TypeAlias = Callable[["Connection", bytearray, int, int, int], bytes]

_RLERROR: Final = Struct("<IBHI")
_WALK: Final = Struct("<II")
_WALKOPEN: Final = Struct("<IIIB")
_OPENFD: Final = Struct("<IIB")
_GETATTR: Final = Struct("<IQ")
_READ: Final = Struct("<IQI")
_FID: Final = Struct("<I")
_CREATEFD_HEAD: Final = Struct("<II")
_CREATEFD_TAIL: Final = Struct("<IIIB")
_RWALKGETATTR: Final = Struct("<IBHIH")  # header, errno, number of records
_RWALKOPEN: Final = Struct("<IBHIBIH")  # header, errno, donated, iounit, number of records
_ROPENFD: Final = Struct("<IBHBIQIB")
_RCREATEFD: Final = Struct("<IBHIB")
_RDATA: Final = Struct("<IBHI")
_OPENED: Final = Struct("<IQ")  # errno, qid.path
_U16: Final = Struct("<H")
_NO_TARGET: Final = b"\0\0"
_FORGOTTEN: Final = b""
_pack_attributes: Final = ATTRIBUTES.pack


class Connection:
    """One conversation: its dialect, its fids. Owns every reference its fids hold until `close()`."""

    __slots__ = (
        "backend",
        "donation",
        "extended",
        "fids",
        "max_msize_bytes",
        "msize_bytes",
        "passing",
        "table",
        "versioned",
    )

    def __init__(
        self, backend: Backend, max_msize_bytes: int = c.DEFAULT_MSIZE_BYTES, max_fids: int = MAX_FIDS
    ) -> None:
        self.backend = backend
        self.max_msize_bytes = max_msize_bytes
        self.msize_bytes = max_msize_bytes
        self.versioned = False
        self.extended = False
        self.table = FidTable(max_fids)
        self.fids = self.table.fids
        self.donation = -1
        self.passing: list[tuple[int, OpenFile, Node]] = []

    def close(self) -> None:
        """Give all fids up. The connection may be versioned anew afterwards."""
        self.passed()
        self.table.clear()
        self.fids = self.table.fids

    def answer(self, buffer: bytearray, at: int, size: int) -> bytes:
        """The reply to the whole frame buffer[at:at+size], empty for one-way messages. Raises ProtocolViolation.

        When `donation` is not -1 afterwards, that fd (still owned by the backend) goes beside this reply. The fds of
        `passing` go beside it likewise, then `passed` is to be called.
        """
        number: int = buffer[at + 4]
        tag: int = buffer[at + 5] | buffer[at + 6] << 8
        handler = HANDLERS.get(number)
        if handler is None or (number >= c.TWALKGETATTR and not self.extended):
            return _RLERROR.pack(11, c.RLERROR, tag, errno.EOPNOTSUPP)
        if not self.versioned and number != c.TVERSION:
            raise ProtocolViolation(f"message type {number} before version")
        try:
            return handler(self, buffer, at + 7, at + size, tag)
        except OSError as error:
            return _RLERROR.pack(11, c.RLERROR, tag, error.errno or errno.EIO)

    def passed(self) -> None:
        """What was opened only to be donated goes."""
        for _, file, node in self.passing:
            file.close()
            node.release()
        self.passing.clear()


# --- hot messages ----------------------------------------------------------------------------------------------------


def _target(target: bytes) -> bytes:
    return _U16.pack(len(target)) + target if target else _NO_TARGET


def _names_to_end(buffer: bytearray, at: int, end: int) -> list[bytes]:
    names, stop = read_names_untrusted(buffer, at, end)
    if stop != end:
        raise ProtocolViolation("walk: trailing bytes")
    return names


def walk_getattr(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Twalkgetattr."""
    if at + 10 > end:
        raise ProtocolViolation("walkgetattr: cut off")
    number, new_number = _WALK.unpack_from(buffer, at)
    names = _names_to_end(buffer, at + 8, end)
    fid = connection.fids.get(number)
    if fid is None or (fid.file is not None and number == new_number) or fid.xattr is not None:
        raise LinuxError(errno.EBADF, "walk: fid is not bound, or is open")
    if number != new_number:
        connection.table.check_free(new_number)
    code, steps, target, node = fid.node.walk_many(names)
    if node is not None:
        if number == new_number:
            fid.node.release()
        connection.fids[new_number] = Fid(node)
    tail = _target(target)
    size = _RWALKGETATTR.size + ATTRIBUTES_BYTES * len(steps) + len(tail)
    head = _RWALKGETATTR.pack(size, c.RWALKGETATTR, tag, code, len(steps))
    if len(steps) == 1:
        return head + _pack_attributes(*steps[0]) + tail
    return b"".join((head, *[_pack_attributes(*step) for step in steps], tail))


def walk_open(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Twalkopen."""
    if at + 15 > end:
        raise ProtocolViolation("walkopen: cut off")
    number, new_number, flags, want = _WALKOPEN.unpack_from(buffer, at)
    names = _names_to_end(buffer, at + 13, end)
    fid = connection.table.get(number)
    if fid.xattr is not None:
        raise LinuxError(errno.EBADF, "walk: fid is an extended attribute")
    connection.table.check_free(new_number)
    code, steps, target, node, file = fid.node.walk_open(names, flags)
    donated = 0
    if node is not None and file is not None:
        connection.fids[new_number] = Fid(node, file)
        donated = _donate(connection, file, want)
    tail = _target(target)
    size = _RWALKOPEN.size + ATTRIBUTES_BYTES * len(steps) + len(tail)
    head = _RWALKOPEN.pack(size, c.RWALKOPEN, tag, code, donated, 0, len(steps))
    if len(steps) == 1:
        return head + _pack_attributes(*steps[0]) + tail
    return b"".join((head, *[_pack_attributes(*step) for step in steps], tail))


def _donate(connection: Connection, file: OpenFile, want: int) -> int:
    if want & c.WANT_FD:
        fd = file.donate()
        if fd is not None:
            connection.donation = fd
            return 1
    return 0


def open_fd(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Topenfd."""
    if at + 9 != end:
        raise ProtocolViolation("openfd: wrong size")
    number, flags, want = _OPENFD.unpack_from(buffer, at)
    fid, record = _open_fid(connection, number, flags)
    assert fid.file is not None
    donated = _donate(connection, fid.file, want)
    return _ROPENFD.pack(_ROPENFD.size, c.ROPENFD, tag, record[1], record[2], record[3], 0, donated)


def _open_fid(connection: Connection, number: int, flags: int) -> tuple[Fid, Attributes]:
    fid = connection.table.get(number)
    if fid.file is not None or fid.xattr is not None:
        raise LinuxError(errno.EBADF, "open: fid is open already")
    file = fid.node.open(flags)
    try:
        record = fid.node.attributes()
    except OSError:
        file.close()
        raise
    fid.file = file
    return fid, record


def create_fd(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Tcreatefd."""
    if at + 8 > end:
        raise ProtocolViolation("createfd: cut off")
    number, new_number = _CREATEFD_HEAD.unpack_from(buffer, at)
    name, at = read_string_untrusted(buffer, at + 8, end)
    if at + _CREATEFD_TAIL.size != end:
        raise ProtocolViolation("createfd: wrong size")
    flags, mode, gid, want = _CREATEFD_TAIL.unpack_from(buffer, at)
    fid = connection.table.get(number)
    connection.table.check_free(new_number)
    check_name(name)
    node, file, record = fid.node.create(name, flags, mode, gid)
    connection.fids[new_number] = Fid(node, file)
    donated = _donate(connection, file, want)
    head = _RCREATEFD.pack(_RCREATEFD.size + ATTRIBUTES_BYTES, c.RCREATEFD, tag, 0, donated)
    return head + _pack_attributes(*record)


def get_attributes(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Tgetattr. The mask is not looked at: everything known is answered, as the protocol allows."""
    if at + 12 != end:
        raise ProtocolViolation("getattr: wrong size")
    number, _ = _GETATTR.unpack_from(buffer, at)
    record = connection.table.get(number).node.attributes()
    return HEADER.pack(c.HEADER_BYTES + ATTRIBUTES_BYTES, c.RGETATTR, tag) + _pack_attributes(*record)


def _read_request(connection: Connection, buffer: bytearray, at: int, end: int) -> tuple[Fid, int, int]:
    """The fid, offset and (bounded) count of Tread and the Treaddirs."""
    if at + 16 != end:
        raise ProtocolViolation("read: wrong size")
    number, offset, count = _READ.unpack_from(buffer, at)
    return connection.table.get(number), offset, min(count, connection.msize_bytes - c.READ_OVERHEAD_BYTES)


def read(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Tread, of an open file or of an extended attribute."""
    fid, offset, count = _read_request(connection, buffer, at, end)
    if fid.file is not None:
        data = fid.file.read(offset, count)
    elif isinstance(fid.xattr, XattrRead):
        data = fid.xattr.value[offset : offset + count]
    else:
        raise LinuxError(errno.EBADF, "read: fid is not open")
    return _RDATA.pack(_RDATA.size + len(data), c.RREAD, tag, len(data)) + data


def write(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Twrite, to an open file or to an extended attribute under way."""
    if at + 16 > end:
        raise ProtocolViolation("write: cut off")
    number, offset, count = _READ.unpack_from(buffer, at)
    if at + 16 + count != end:
        raise ProtocolViolation("write: count does not fit the message")
    fid = connection.table.get(number)
    with memoryview(buffer) as whole, whole[at + 16 : end] as data:
        if fid.file is not None:
            wrote = fid.file.write(offset, data)
        elif isinstance(fid.xattr, XattrWrite):
            wrote = _write_xattr(fid.xattr, offset, data)
        else:
            raise LinuxError(errno.EBADF, "write: fid is not open")
    return _RDATA.pack(_RDATA.size, c.RWRITE, tag, wrote)


def _write_xattr(xattr: XattrWrite, offset: int, data: memoryview) -> int:
    if offset != len(xattr.value) or offset + len(data) > xattr.size:
        raise LinuxError(errno.EINVAL, "xattr: written out of order or beyond its size")
    xattr.value += data
    return len(data)


def read_directory(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Treaddir."""
    fid, offset, count = _read_request(connection, buffer, at, end)
    if fid.file is None:
        raise LinuxError(errno.EBADF, "readdir: fid is not open")
    parts: list[bytes] = []
    used = 0
    for name, qid, cookie, kind in fid.file.entries(offset):
        used += ENTRY_BYTES + len(name)
        if used > count:
            used -= ENTRY_BYTES + len(name)
            break
        parts.append(encode_entry(name, qid, cookie, kind))
    return _RDATA.pack(_RDATA.size + used, c.RREADDIR, tag, used) + b"".join(parts)


def read_directory_attributes(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Treaddirattr. An entry that vanishes while it is listed is left out."""
    fid, offset, count = _read_request(connection, buffer, at, end)
    if fid.file is None:
        raise LinuxError(errno.EBADF, "readdir: fid is not open")
    data = b"".join(fid.file.packed_entries(offset, count))
    return _RDATA.pack(_RDATA.size + len(data), c.RREADDIRATTR, tag, len(data)) + data


def list_attributes(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Tlistattr."""
    if at + 10 > end:
        raise ProtocolViolation("listattr: cut off")
    number, count = _WALK.unpack_from(buffer, at)
    names = _names_to_end(buffer, at + 8, end)
    node = connection.table.get(number).node
    room = min(count, connection.msize_bytes - c.READ_OVERHEAD_BYTES)
    parts: list[bytes] = []
    wanted: list[bytes | None] = [*names] or [None]
    for name in wanted:
        room -= LISTING_HEAD.size
        if room < 0:
            break
        code = 0
        entries: list[bytes] | None = []
        try:
            entries = node.list_whole(name, room)
        except OSError as error:
            code = error.errno or errno.EIO
        if entries is None and parts:
            break  # the client asks for it again
        data = b"".join(entries or ())
        room -= len(data)
        parts += (LISTING_HEAD.pack(code, entries is not None, len(data)), data)
        if entries is None:
            break
    data = b"".join(parts)
    return _RDATA.pack(_RDATA.size + len(data), c.RLISTATTR, tag, len(data)) + data


def open_fds(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Topenfds."""
    if at + 6 > end:
        raise ProtocolViolation("openfds: cut off")
    names = _names_to_end(buffer, at + 4, end)
    above = connection.table.get(_FID.unpack_from(buffer, at)[0]).node
    records: list[bytes] = []
    for name in names:
        code, steps, _, node, file = above.walk_open([name], 0)
        if node is None or file is None:
            records.append(_OPENED.pack(code or errno.EIO, 0))
            continue
        fd = file.donate()
        if fd is None:
            file.close()
            node.release()
            records.append(_OPENED.pack(errno.EOPNOTSUPP, 0))
        else:
            connection.passing.append((fd, file, node))
            records.append(_OPENED.pack(0, steps[-1].qid_path))
    data = b"".join(records)
    return _RDATA.pack(_RDATA.size + len(data), c.ROPENFDS, tag, len(data)) + data


def clunk(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Tclunk; for an extended attribute under way, also the moment it is set."""
    if at + 4 != end:
        raise ProtocolViolation("clunk: wrong size")
    fid = connection.table.clunk(_FID.unpack_from(buffer, at)[0])
    try:
        if isinstance(fid.xattr, XattrWrite):
            _finish_xattr(fid.node, fid.xattr)
    finally:
        fid.release()
    return HEADER.pack(c.HEADER_BYTES, c.RCLUNK, tag)


def _finish_xattr(node: Node, xattr: XattrWrite) -> None:
    """Set what was gathered. Size 0 with XATTR_REPLACE (2) removes, which is how Linux's v9fs spells removexattr."""
    if len(xattr.value) != xattr.size:
        raise LinuxError(errno.EINVAL, "xattr: fewer bytes were written than announced")
    if not xattr.size and xattr.flags == 2:
        node.remove_xattr(xattr.name)
    else:
        node.set_xattr(xattr.name, bytes(xattr.value), xattr.flags)


def forget(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
    """Tforget: no reply. Extended attributes under way are dropped."""
    numbers, stop = read_fids_untrusted(buffer, at, end)
    if stop != end:
        raise ProtocolViolation("forget: trailing bytes")
    pop = connection.fids.pop
    for number in numbers:
        fid = pop(number, None)
        if fid is not None:
            fid.release()
    return _FORGOTTEN


# --- the others, against the message classes -------------------------------------------------------------------------


def _version(connection: Connection, request: m.Tversion) -> m.Message:
    """version(5): everything before is void; the smaller msize counts; an unknown dialect is answered "unknown"."""
    connection.close()
    if request.msize < c.MIN_MSIZE_BYTES:
        raise ProtocolViolation(f"version: msize {request.msize} is below {c.MIN_MSIZE_BYTES}")
    connection.msize_bytes = min(request.msize, connection.max_msize_bytes)
    connection.extended = request.version == c.VERSION_EXTENDED
    connection.versioned = connection.extended or request.version.startswith(c.VERSION_PLAIN)
    if not connection.versioned:
        return m.Rversion(connection.msize_bytes, c.VERSION_UNKNOWN)
    return m.Rversion(connection.msize_bytes, c.VERSION_EXTENDED if connection.extended else c.VERSION_PLAIN)


def _attach(connection: Connection, request: m.Tattach) -> m.Message:
    if request.afid != c.NOFID:
        raise LinuxError(errno.EOPNOTSUPP, "attach: there is no authentication")
    connection.table.check_free(request.fid)
    node = connection.backend.attach(request.aname)
    connection.fids[request.fid] = Fid(node)
    return m.Rattach(node.attributes().qid)


def _auth(connection: Connection, request: m.Tauth) -> m.Message:
    raise LinuxError(errno.EOPNOTSUPP, "auth: the socket is the credential")


def _flush(connection: Connection, request: m.Tflush) -> m.Message:
    return m.Rflush()  # requests run in order: whatever it names has been answered


def _walk(connection: Connection, request: m.Twalk) -> m.Message:
    """walk(5): all names, or as many as could be; an error only when not even the first could."""
    fid = connection.table.get(request.fid)
    if fid.xattr is not None or (fid.file is not None and (request.names or request.newfid == request.fid)):
        raise LinuxError(errno.EBADF, "walk: fid is open")  # cloning an open fid is let pass: the clone is not open
    if request.newfid != request.fid:
        connection.table.check_free(request.newfid)
    if not request.names:
        if request.newfid != request.fid:
            connection.fids[request.newfid] = Fid(fid.node.share())
        return m.Rwalk([])
    code, steps, _, node = fid.node.walk_many(request.names)
    if node is None:
        if not steps:
            raise LinuxError(code, "walk: first name")
    else:
        if request.newfid == request.fid:
            fid.node.release()
        connection.fids[request.newfid] = Fid(node)
    return m.Rwalk([step.qid for step in steps])


def _lopen(connection: Connection, request: m.Tlopen) -> m.Message:
    _, record = _open_fid(connection, request.fid, request.flags)
    return m.Rlopen(record.qid, 0)


def _lcreate(connection: Connection, request: m.Tlcreate) -> m.Message:
    fid = connection.table.get(request.fid)
    if fid.file is not None or fid.xattr is not None:
        raise LinuxError(errno.EBADF, "create: fid is open")
    check_name(request.name)
    node, file, record = fid.node.create(request.name, request.flags, request.mode, request.gid)
    fid.node.release()
    fid.node, fid.file = node, file
    return m.Rlcreate(record.qid, 0)


def _getnode(connection: Connection, number: int, name: bytes) -> Node:
    check_name(name)
    return connection.table.get(number).node


def _symlink(connection: Connection, request: m.Tsymlink) -> m.Message:
    node = _getnode(connection, request.dfid, request.name)
    return m.Rsymlink(node.make_symlink(request.name, request.target, request.gid).qid)


def _mknod(connection: Connection, request: m.Tmknod) -> m.Message:
    node = _getnode(connection, request.dfid, request.name)
    if request.major > 0xFFF or request.minor > 0xFFFFF:
        raise LinuxError(errno.EINVAL, "mknod: device number is out of range")
    return m.Rmknod(node.make_node(request.name, request.mode, request.major, request.minor, request.gid).qid)


def _mkdir(connection: Connection, request: m.Tmkdir) -> m.Message:
    node = _getnode(connection, request.dfid, request.name)
    return m.Rmkdir(node.make_directory(request.name, request.mode, request.gid).qid)


def _link(connection: Connection, request: m.Tlink) -> m.Message:
    node = _getnode(connection, request.dfid, request.name)
    node.link(request.name, connection.table.get(request.fid).node)
    return m.Rlink()


def _unlinkat(connection: Connection, request: m.Tunlinkat) -> m.Message:
    if request.flags & ~c.UNLINK_REMOVEDIR:
        raise LinuxError(errno.EINVAL, "unlinkat: unknown flags")
    node = _getnode(connection, request.dirfid, request.name)
    node.unlink(request.name, bool(request.flags & c.UNLINK_REMOVEDIR))
    return m.Runlinkat()


def _renameat(connection: Connection, request: m.Trenameat) -> m.Message:
    node = _getnode(connection, request.olddirfid, request.oldname)
    node.rename(request.oldname, _getnode(connection, request.newdirfid, request.newname), request.newname)
    return m.Rrenameat()


def _rename(connection: Connection, request: m.Trename) -> m.Message:
    target = _getnode(connection, request.dfid, request.name)
    parent, old_name = connection.table.get(request.fid).node.location()
    try:
        parent.rename(old_name, target, request.name)
    finally:
        parent.release()
    return m.Rrename()


def _remove(connection: Connection, request: m.Tremove) -> m.Message:
    """remove(5): the fid is clunked whether or not the file could be removed."""
    fid = connection.table.clunk(request.fid)
    try:
        parent, name = fid.node.location()
        try:
            parent.unlink(name, fid.node.attributes().is_directory)
        finally:
            parent.release()
    finally:
        fid.release()
    return m.Rremove()


def _readlink(connection: Connection, request: m.Treadlink) -> m.Message:
    return m.Rreadlink(connection.table.get(request.fid).node.read_link())


def _statfs(connection: Connection, request: m.Tstatfs) -> m.Message:
    return m.Rstatfs(*connection.table.get(request.fid).node.stat_fs())


def _setattr(connection: Connection, request: m.Tsetattr) -> m.Message:
    fid = connection.table.get(request.fid)
    if request.valid & ~c.SETATTR_ALL:
        raise LinuxError(errno.EINVAL, "setattr: unknown bits")
    if max(request.atime_nsec, request.mtime_nsec) > 999_999_999:
        raise LinuxError(errno.EINVAL, "setattr: nanoseconds are out of range")
    change = SetAttributes(
        request.valid,
        request.mode,
        request.uid,
        request.gid,
        request.size,
        request.atime_sec,
        request.atime_nsec,
        request.mtime_sec,
        request.mtime_nsec,
    )
    fid.node.set_attributes(change, fid.file)
    return m.Rsetattr()


def _xattrwalk(connection: Connection, request: m.Txattrwalk) -> m.Message:
    """An empty name stands for the list of names."""
    node = connection.table.get(request.fid).node
    connection.table.check_free(request.newfid)
    if b"\0" in request.name:
        raise LinuxError(errno.EINVAL, "xattr: NUL in the name")
    value = node.get_xattr(request.name) if request.name else node.list_xattr()
    fid = Fid(node.share())
    fid.xattr = XattrRead(value)
    connection.fids[request.newfid] = fid
    return m.Rxattrwalk(len(value))


def _xattrcreate(connection: Connection, request: m.Txattrcreate) -> m.Message:
    fid = connection.table.get(request.fid)
    if fid.file is not None or fid.xattr is not None:
        raise LinuxError(errno.EBADF, "xattr: fid is open")
    if request.attr_size > c.MAX_XATTR_VALUE_BYTES:
        raise LinuxError(errno.E2BIG, "xattr: value is too long")
    if not request.name or b"\0" in request.name:
        raise LinuxError(errno.ERANGE, "xattr: name is empty or holds NUL")
    fid.xattr = XattrWrite(request.name, request.attr_size, request.flags)
    return m.Rxattrcreate()


def _opened(connection: Connection, number: int) -> OpenFile:
    file = connection.table.get(number).file
    if file is None:
        raise LinuxError(errno.EBADF, "fid is not open")
    return file


def _fsync(connection: Connection, request: m.Tfsync) -> m.Message:
    _opened(connection, request.fid).sync(bool(request.datasync))
    return m.Rfsync()


def _lock(connection: Connection, request: m.Tlock) -> m.Message:
    file = _opened(connection, request.fid)
    if request.flags & ~(c.LOCK_FLAGS_BLOCK | c.LOCK_FLAGS_RECLAIM):
        raise LinuxError(errno.EINVAL, "lock: unknown flags")
    return m.Rlock(file.lock(request.kind, request.start, request.length))


def _getlock(connection: Connection, request: m.Tgetlock) -> m.Message:
    file = _opened(connection, request.fid)
    kind, start, length, pid = file.get_lock(request.kind, request.start, request.length)
    if kind == c.LOCK_TYPE_UNLCK:
        return m.Rgetlock(kind, request.start, request.length, request.proc_id, request.client_id)
    return m.Rgetlock(kind, start, length, pid, b"")


def _generic(handle: Callable[..., m.Message]) -> Handler:
    """A handler of messages as a handler of bytes. `handle`'s second parameter is the class its row names."""

    def handler(connection: Connection, buffer: bytearray, at: int, end: int, tag: int) -> bytes:
        return encode(handle(connection, decode_body_untrusted(buffer[at - 3], buffer, at, end)), tag)

    return handler


HANDLERS: Final[dict[int, Handler]] = {
    c.TWALKGETATTR: walk_getattr,
    c.TWALKOPEN: walk_open,
    c.TOPENFD: open_fd,
    c.TCREATEFD: create_fd,
    c.TREADDIRATTR: read_directory_attributes,
    c.TFORGET: forget,
    c.TLISTATTR: list_attributes,
    c.TOPENFDS: open_fds,
    c.TGETATTR: get_attributes,
    c.TREAD: read,
    c.TWRITE: write,
    c.TREADDIR: read_directory,
    c.TCLUNK: clunk,
    c.TVERSION: _generic(_version),
    c.TAUTH: _generic(_auth),
    c.TATTACH: _generic(_attach),
    c.TFLUSH: _generic(_flush),
    c.TWALK: _generic(_walk),
    c.TLOPEN: _generic(_lopen),
    c.TLCREATE: _generic(_lcreate),
    c.TSYMLINK: _generic(_symlink),
    c.TMKNOD: _generic(_mknod),
    c.TMKDIR: _generic(_mkdir),
    c.TLINK: _generic(_link),
    c.TUNLINKAT: _generic(_unlinkat),
    c.TRENAMEAT: _generic(_renameat),
    c.TRENAME: _generic(_rename),
    c.TREMOVE: _generic(_remove),
    c.TREADLINK: _generic(_readlink),
    c.TSTATFS: _generic(_statfs),
    c.TSETATTR: _generic(_setattr),
    c.TXATTRWALK: _generic(_xattrwalk),
    c.TXATTRCREATE: _generic(_xattrcreate),
    c.TFSYNC: _generic(_fsync),
    c.TLOCK: _generic(_lock),
    c.TGETLOCK: _generic(_getlock),
}

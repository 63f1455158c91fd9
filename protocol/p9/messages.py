"""Every 9P2000.L message as a value, and the one table that says how each lies on the wire.

`TABLE` maps a type number to a `Row` (number, class, field kinds). A class has exactly one slot per kind, in wire
order; `codec.py` compiles the rows, so that adding a message is adding a class and a row. Field names follow the
protocol text. Directory data of Rreaddir/Rreaddirattr stays bytes here: see `directory.py`.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, TypeAlias

from protocol.p9 import constants as c
from protocol.p9.attributes import Attributes, Qid
from protocol.records import record


class Kind(enum.Enum):
    """How one field lies on the wire."""

    U8 = "B"
    U16 = "H"
    U32 = "I"
    U64 = "Q"
    I64 = "q"
    QID = "qid"  # kind[1] version[4] path[8]
    STRING = "string"  # length[2] bytes
    DATA = "data"  # count[4] bytes, bounded by msize
    NAMES = "names"  # count[2] strings, at most MAX_WALK_NAMES
    QIDS = "qids"  # count[2] qids, at most MAX_WALK_NAMES
    ATTRIBUTES = "attributes"  # the 153 bytes of an Rgetattr body
    ATTRIBUTES_LIST = "attributes_list"  # count[2] records, at most MAX_WALK_NAMES
    FIDS = "fids"  # count[2] fid[4]*, at most MAX_FORGET_FIDS


U8, U16, U32, U64, I64 = Kind.U8, Kind.U16, Kind.U32, Kind.U64, Kind.I64
QID, STRING, DATA, NAMES, QIDS = Kind.QID, Kind.STRING, Kind.DATA, Kind.NAMES, Kind.QIDS
ATTRIBUTES, ATTRIBUTES_LIST, FIDS = Kind.ATTRIBUTES, Kind.ATTRIBUTES_LIST, Kind.FIDS


class Message:
    """Base of all messages; has no fields of its own.

    Comparison and representation stand here once: generating them for every class would triple the time that importing
    this file takes, which every service pays at its start.
    """

    __slots__ = ()

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in getattr(self, "__match_args__", ()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message) or type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    __hash__ = None  # type: ignore[assignment]  # mutable, as any dataclass with __eq__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._values()))})"


class Row(NamedTuple):
    """One message type: its number, its class, the kinds of its fields in wire order."""

    number: int
    cls: type[Message]
    kinds: tuple[Kind, ...]


@record(eq=False, repr=False)
class Tlerror(Message):
    """Never legal on the wire; listed so that the table is complete."""

    ecode: int


@record(eq=False, repr=False)
class Rlerror(Message):
    """The request failed with Linux errno `ecode`."""

    ecode: int


@record(eq=False, repr=False)
class Tstatfs(Message):
    """Ask for the file system of `fid`, statfs(2)."""

    fid: int


@record(eq=False, repr=False)
class Rstatfs(Message):
    """What statfs(2) tells."""

    fs_type: int
    bsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    fsid: int
    namelen: int


@record(eq=False, repr=False)
class Tlopen(Message):
    """Open `fid` with `flags` (L_*)."""

    fid: int
    flags: int


@record(eq=False, repr=False)
class Rlopen(Message):
    """Opened; `iounit` 0: reads and writes are bounded by msize alone."""

    qid: Qid
    iounit: int


@record(eq=False, repr=False)
class Tlcreate(Message):
    """Create `name` in the directory `fid` and open it: `fid` becomes the new file."""

    fid: int
    name: bytes
    flags: int
    mode: int
    gid: int


@record(eq=False, repr=False)
class Rlcreate(Message):
    """Created and opened; `iounit` as in Rlopen."""

    qid: Qid
    iounit: int


@record(eq=False, repr=False)
class Tsymlink(Message):
    """symlink(2) in `dfid`."""

    dfid: int
    name: bytes
    target: bytes
    gid: int


@record(eq=False, repr=False)
class Rsymlink(Message):
    """The new symlink."""

    qid: Qid


@record(eq=False, repr=False)
class Tmknod(Message):
    """mknod(2) in `dfid`; `mode` holds the file type too."""

    dfid: int
    name: bytes
    mode: int
    major: int
    minor: int
    gid: int


@record(eq=False, repr=False)
class Rmknod(Message):
    """The new object."""

    qid: Qid


@record(eq=False, repr=False)
class Trename(Message):
    """Move `fid` to `name` in `dfid`."""

    fid: int
    dfid: int
    name: bytes


@record(eq=False, repr=False)
class Rrename(Message):
    """Renamed."""


@record(eq=False, repr=False)
class Treadlink(Message):
    """Ask for the text of the symlink `fid`."""

    fid: int


@record(eq=False, repr=False)
class Rreadlink(Message):
    """The text of the symlink."""

    target: bytes


@record(eq=False, repr=False)
class Tgetattr(Message):
    """Ask for attributes of `fid`; `request_mask`: GETATTR_*."""

    fid: int
    request_mask: int


@record(eq=False, repr=False)
class Rgetattr(Message):
    """The attributes; `attributes.valid` says which count."""

    attributes: Attributes


@record(eq=False, repr=False)
class Tsetattr(Message):
    """Change what `valid` (SETATTR_*) names."""

    fid: int
    valid: int
    mode: int
    uid: int
    gid: int
    size: int
    atime_sec: int
    atime_nsec: int
    mtime_sec: int
    mtime_nsec: int


@record(eq=False, repr=False)
class Rsetattr(Message):
    """Changed."""


@record(eq=False, repr=False)
class Txattrwalk(Message):
    """Bind `newfid` to the value of xattr `name` of `fid`, or to the list of names when `name` is empty."""

    fid: int
    newfid: int
    name: bytes


@record(eq=False, repr=False)
class Rxattrwalk(Message):
    """Bound; `size` of the value in bytes."""

    size: int


@record(eq=False, repr=False)
class Txattrcreate(Message):
    """Turn `fid` into a writer of xattr `name`; the clunk sets it."""

    fid: int
    name: bytes
    attr_size: int
    flags: int


@record(eq=False, repr=False)
class Rxattrcreate(Message):
    """Ready to be written."""


@record(eq=False, repr=False)
class Treaddir(Message):
    """Ask for at most `count` bytes of entries behind cookie `offset`."""

    fid: int
    offset: int
    count: int


@record(eq=False, repr=False)
class Rreaddir(Message):
    """Entries; see `directory.py`."""

    data: bytes


@record(eq=False, repr=False)
class Tfsync(Message):
    """fsync(2), or fdatasync(2) when `datasync` is not 0."""

    fid: int
    datasync: int


@record(eq=False, repr=False)
class Rfsync(Message):
    """Synced."""


@record(eq=False, repr=False)
class Tlock(Message):
    """Take or drop a byte-range lock; `kind`: LOCK_TYPE_*, `flags`: LOCK_FLAGS_*."""

    fid: int
    kind: int
    flags: int
    start: int
    length: int
    proc_id: int
    client_id: bytes


@record(eq=False, repr=False)
class Rlock(Message):
    """`status`: LOCK_SUCCESS, LOCK_BLOCKED, LOCK_ERROR or LOCK_GRACE."""

    status: int


@record(eq=False, repr=False)
class Tgetlock(Message):
    """Ask which lock would stand in the way."""

    fid: int
    kind: int
    start: int
    length: int
    proc_id: int
    client_id: bytes


@record(eq=False, repr=False)
class Rgetlock(Message):
    """The first conflicting lock, or kind LOCK_TYPE_UNLCK."""

    kind: int
    start: int
    length: int
    proc_id: int
    client_id: bytes


@record(eq=False, repr=False)
class Tlink(Message):
    """Give the file `fid` the further name `name` in `dfid`."""

    dfid: int
    fid: int
    name: bytes


@record(eq=False, repr=False)
class Rlink(Message):
    """Linked."""


@record(eq=False, repr=False)
class Tmkdir(Message):
    """mkdir(2) in `dfid`."""

    dfid: int
    name: bytes
    mode: int
    gid: int


@record(eq=False, repr=False)
class Rmkdir(Message):
    """The new directory."""

    qid: Qid


@record(eq=False, repr=False)
class Trenameat(Message):
    """rename(2) from one directory fid and name to another."""

    olddirfid: int
    oldname: bytes
    newdirfid: int
    newname: bytes


@record(eq=False, repr=False)
class Rrenameat(Message):
    """Renamed."""


@record(eq=False, repr=False)
class Tunlinkat(Message):
    """unlinkat(2); `flags`: UNLINK_REMOVEDIR."""

    dirfid: int
    name: bytes
    flags: int


@record(eq=False, repr=False)
class Runlinkat(Message):
    """Removed."""


@record(eq=False, repr=False)
class Tversion(Message):
    """Agree on dialect and frame size; voids all fids. version(5)."""

    msize: int
    version: bytes


@record(eq=False, repr=False)
class Rversion(Message):
    """What the server agrees to."""

    msize: int
    version: bytes


@record(eq=False, repr=False)
class Tauth(Message):
    """Begin authentication. attach(5)."""

    afid: int
    uname: bytes
    aname: bytes
    n_uname: int


@record(eq=False, repr=False)
class Rauth(Message):
    """The authentication file."""

    aqid: Qid


@record(eq=False, repr=False)
class Tattach(Message):
    """Bind `fid` to the root of the tree `aname`. attach(5)."""

    fid: int
    afid: int
    uname: bytes
    aname: bytes
    n_uname: int


@record(eq=False, repr=False)
class Rattach(Message):
    """The root."""

    qid: Qid


@record(eq=False, repr=False)
class Tflush(Message):
    """Nobody waits for the answer to `oldtag` any more. flush(5)."""

    oldtag: int


@record(eq=False, repr=False)
class Rflush(Message):
    """Nothing more comes for the old tag."""


@record(eq=False, repr=False)
class Twalk(Message):
    """Walk `names` from `fid`, bind the end to `newfid`. walk(5)."""

    fid: int
    newfid: int
    names: list[bytes]


@record(eq=False, repr=False)
class Rwalk(Message):
    """One qid per step walked."""

    qids: list[Qid]


@record(eq=False, repr=False)
class Tread(Message):
    """pread(2) of the open `fid`."""

    fid: int
    offset: int
    count: int


@record(eq=False, repr=False)
class Rread(Message):
    """What was read; empty at the end."""

    data: bytes


@record(eq=False, repr=False)
class Twrite(Message):
    """pwrite(2) to the open `fid`."""

    fid: int
    offset: int
    data: bytes


@record(eq=False, repr=False)
class Rwrite(Message):
    """`count` bytes were written."""

    count: int


@record(eq=False, repr=False)
class Tclunk(Message):
    """Give `fid` up. clunk(5)."""

    fid: int


@record(eq=False, repr=False)
class Rclunk(Message):
    """Given up."""


@record(eq=False, repr=False)
class Tremove(Message):
    """Remove the file and give `fid` up. remove(5)."""

    fid: int


@record(eq=False, repr=False)
class Rremove(Message):
    """Removed."""


@record(eq=False, repr=False)
class Twalkgetattr(Message):
    """Extension: walk `names` from `fid`, binding `newfid` to the end, and return every step's attributes.

    No names: `newfid` becomes a clone of `fid` and one record, that of `fid`, comes back. newfid == fid moves `fid`.
    """

    fid: int
    newfid: int
    names: list[bytes]


@record(eq=False, repr=False)
class Rwalkgetattr(Message):
    """Extension: one record per step walked. `ecode` is 0 when all were, else why the next step failed (newfid
    unbound).

    A walk stops with ENOTDIR behind a symlink. `target`: the link's text when the last record is a symlink's, else
    empty.
    """

    ecode: int
    steps: list[Attributes]
    target: bytes


@record(eq=False, repr=False)
class Twalkopen(Message):
    """Extension: Twalkgetattr, then lopen of the end with `flags` (L_*). `want`: WANT_FD asks for donation."""

    fid: int
    newfid: int
    flags: int
    want: int
    names: list[bytes]


@record(eq=False, repr=False)
class Rwalkopen(Message):
    """Extension: as Rwalkgetattr; newfid is bound, and open, only when `ecode` is 0. `donated`: one fd comes beside
    it.
    """

    ecode: int
    donated: int
    iounit: int
    steps: list[Attributes]
    target: bytes


@record(eq=False, repr=False)
class Topenfd(Message):
    """Extension: lopen of `fid`; `want`: WANT_FD asks for donation."""

    fid: int
    flags: int
    want: int


@record(eq=False, repr=False)
class Ropenfd(Message):
    """Extension: `donated` is 1 when one fd comes beside this message."""

    qid: Qid
    iounit: int
    donated: int


@record(eq=False, repr=False)
class Treaddirattr(Message):
    """Extension: as Treaddir, entries carry full attributes."""

    fid: int
    offset: int
    count: int


@record(eq=False, repr=False)
class Rreaddirattr(Message):
    """Extension: entries of attributes[153] offset[8] type[1] name[s]; see `directory.py`."""

    data: bytes


@record(eq=False, repr=False)
class Tlistattr(Message):
    """Extension: whole listings, with attributes, of the directories `names` in the directory `fid` (no names: of `fid`
    itself), as many of them, in order, as fit in `count` bytes. Nothing is bound, nothing stays open.
    """

    fid: int
    count: int
    names: list[bytes]


@record(eq=False, repr=False)
class Rlistattr(Message):
    """Extension: one block a directory: ecode[4] complete[1] size[4] and `size` bytes of entries as in Rreaddirattr,
    without "." and "..". Not `complete`: the listing did not fit and has to be read piece by piece.
    """

    data: bytes


@record(eq=False, repr=False)
class Topenfds(Message):
    """Extension: open the regular files `names` in `fid` for reading and donate their host fds. No fid is bound."""

    fid: int
    names: list[bytes]


@record(eq=False, repr=False)
class Ropenfds(Message):
    """Extension: one record a name, ecode[4] qid.path[8]; beside it, in order, one fd for each whose `ecode` is 0."""

    data: bytes


@record(eq=False, repr=False)
class Tcreatefd(Message):
    """Extension: create `name` in `dfid` and open it as `newfid` (dfid stays what it was, unlike Tlcreate)."""

    dfid: int
    newfid: int
    name: bytes
    flags: int
    mode: int
    gid: int
    want: int


@record(eq=False, repr=False)
class Rcreatefd(Message):
    """Extension: the new file's attributes; `donated` is 1 when one fd comes beside this message."""

    iounit: int
    donated: int
    attributes: Attributes


@record(eq=False, repr=False)
class Tforget(Message):
    """Extension: clunk all `fids`. One way: there is no reply; an unknown fid is ignored."""

    fids: list[int]


_ROWS: Final = (
    Row(c.TLERROR, Tlerror, (U32,)),
    Row(c.RLERROR, Rlerror, (U32,)),
    Row(c.TSTATFS, Tstatfs, (U32,)),
    Row(c.RSTATFS, Rstatfs, (U32, U32, U64, U64, U64, U64, U64, U64, U32)),
    Row(c.TLOPEN, Tlopen, (U32, U32)),
    Row(c.RLOPEN, Rlopen, (QID, U32)),
    Row(c.TLCREATE, Tlcreate, (U32, STRING, U32, U32, U32)),
    Row(c.RLCREATE, Rlcreate, (QID, U32)),
    Row(c.TSYMLINK, Tsymlink, (U32, STRING, STRING, U32)),
    Row(c.RSYMLINK, Rsymlink, (QID,)),
    Row(c.TMKNOD, Tmknod, (U32, STRING, U32, U32, U32, U32)),
    Row(c.RMKNOD, Rmknod, (QID,)),
    Row(c.TRENAME, Trename, (U32, U32, STRING)),
    Row(c.RRENAME, Rrename, ()),
    Row(c.TREADLINK, Treadlink, (U32,)),
    Row(c.RREADLINK, Rreadlink, (STRING,)),
    Row(c.TGETATTR, Tgetattr, (U32, U64)),
    Row(c.RGETATTR, Rgetattr, (ATTRIBUTES,)),
    Row(c.TSETATTR, Tsetattr, (U32, U32, U32, U32, U32, U64, I64, U64, I64, U64)),
    Row(c.RSETATTR, Rsetattr, ()),
    Row(c.TXATTRWALK, Txattrwalk, (U32, U32, STRING)),
    Row(c.RXATTRWALK, Rxattrwalk, (U64,)),
    Row(c.TXATTRCREATE, Txattrcreate, (U32, STRING, U64, U32)),
    Row(c.RXATTRCREATE, Rxattrcreate, ()),
    Row(c.TREADDIR, Treaddir, (U32, U64, U32)),
    Row(c.RREADDIR, Rreaddir, (DATA,)),
    Row(c.TFSYNC, Tfsync, (U32, U32)),
    Row(c.RFSYNC, Rfsync, ()),
    Row(c.TLOCK, Tlock, (U32, U8, U32, U64, U64, U32, STRING)),
    Row(c.RLOCK, Rlock, (U8,)),
    Row(c.TGETLOCK, Tgetlock, (U32, U8, U64, U64, U32, STRING)),
    Row(c.RGETLOCK, Rgetlock, (U8, U64, U64, U32, STRING)),
    Row(c.TLINK, Tlink, (U32, U32, STRING)),
    Row(c.RLINK, Rlink, ()),
    Row(c.TMKDIR, Tmkdir, (U32, STRING, U32, U32)),
    Row(c.RMKDIR, Rmkdir, (QID,)),
    Row(c.TRENAMEAT, Trenameat, (U32, STRING, U32, STRING)),
    Row(c.RRENAMEAT, Rrenameat, ()),
    Row(c.TUNLINKAT, Tunlinkat, (U32, STRING, U32)),
    Row(c.RUNLINKAT, Runlinkat, ()),
    Row(c.TVERSION, Tversion, (U32, STRING)),
    Row(c.RVERSION, Rversion, (U32, STRING)),
    Row(c.TAUTH, Tauth, (U32, STRING, STRING, U32)),
    Row(c.RAUTH, Rauth, (QID,)),
    Row(c.TATTACH, Tattach, (U32, U32, STRING, STRING, U32)),
    Row(c.RATTACH, Rattach, (QID,)),
    Row(c.TFLUSH, Tflush, (U16,)),
    Row(c.RFLUSH, Rflush, ()),
    Row(c.TWALK, Twalk, (U32, U32, NAMES)),
    Row(c.RWALK, Rwalk, (QIDS,)),
    Row(c.TREAD, Tread, (U32, U64, U32)),
    Row(c.RREAD, Rread, (DATA,)),
    Row(c.TWRITE, Twrite, (U32, U64, DATA)),
    Row(c.RWRITE, Rwrite, (U32,)),
    Row(c.TCLUNK, Tclunk, (U32,)),
    Row(c.RCLUNK, Rclunk, ()),
    Row(c.TREMOVE, Tremove, (U32,)),
    Row(c.RREMOVE, Rremove, ()),
    Row(c.TWALKGETATTR, Twalkgetattr, (U32, U32, NAMES)),
    Row(c.RWALKGETATTR, Rwalkgetattr, (U32, ATTRIBUTES_LIST, STRING)),
    Row(c.TWALKOPEN, Twalkopen, (U32, U32, U32, U8, NAMES)),
    Row(c.RWALKOPEN, Rwalkopen, (U32, U8, U32, ATTRIBUTES_LIST, STRING)),
    Row(c.TOPENFD, Topenfd, (U32, U32, U8)),
    Row(c.ROPENFD, Ropenfd, (QID, U32, U8)),
    Row(c.TREADDIRATTR, Treaddirattr, (U32, U64, U32)),
    Row(c.RREADDIRATTR, Rreaddirattr, (DATA,)),
    Row(c.TCREATEFD, Tcreatefd, (U32, U32, STRING, U32, U32, U32, U8)),
    Row(c.RCREATEFD, Rcreatefd, (U32, U8, ATTRIBUTES)),
    Row(c.TFORGET, Tforget, (FIDS,)),
    Row(c.TLISTATTR, Tlistattr, (U32, U32, NAMES)),
    Row(c.RLISTATTR, Rlistattr, (DATA,)),
    Row(c.TOPENFDS, Topenfds, (U32, NAMES)),
    Row(c.ROPENFDS, Ropenfds, (DATA,)),
)

Table: TypeAlias = dict[int, Row]

TABLE: Final[Table] = {row.number: row for row in _ROWS}

assert len(TABLE) == len(_ROWS)

"""The entries inside Rreaddir and Rreaddirattr data. Sans-IO.

Plain entry: qid[13] offset[8] type[1] name[s]. With attributes: the 153-byte record takes the qid's place. `offset` is
the cookie to ask for the entries that follow; `kind` is d_type of getdents64(2). Source: diod protocol.md (readdir).
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

from protocol.errors import ProtocolViolation
from protocol.p9.attributes import ATTRIBUTES, ATTRIBUTES_BYTES, Qid

ENTRY: Final = Struct("<BIQQBH")  # qid, offset, type, length of the name
ENTRY_BYTES: Final = 24
ENTRY_ATTRIBUTES_TAIL: Final = Struct("<QBH")  # offset, type, length of the name; behind the record
ENTRY_ATTRIBUTES_BYTES: Final = ATTRIBUTES_BYTES + 11

ENTRY_ATTRIBUTES: Final = Struct(ATTRIBUTES.format + ENTRY_ATTRIBUTES_TAIL.format[1:])  # all but the name

assert ENTRY.size == ENTRY_BYTES
assert ENTRY_ATTRIBUTES.size == ENTRY_ATTRIBUTES_BYTES


class DirectoryEntry(NamedTuple):
    """One name of a directory, as Rreaddir has it."""

    name: bytes
    qid: Qid
    offset: int
    kind: int


def encode_entry(name: bytes, qid: tuple[int, int, int], offset: int, kind: int) -> bytes:
    """One plain entry."""
    return ENTRY.pack(*qid, offset, kind, len(name)) + name


def encode_entry_attributes(name: bytes, record: bytes, offset: int, kind: int) -> bytes:
    """One entry with attributes; `record` is the packed 153-byte record."""
    return record + ENTRY_ATTRIBUTES_TAIL.pack(offset, kind, len(name)) + name


_NAME_LENGTH: Final = Struct(f"<{ENTRY_ATTRIBUTES_BYTES - 2}xH")  # at the start of an entry with attributes
_NO_NAMES: Final = (b"", b".", b"..")
LISTING_HEAD: Final = Struct("<IBI")  # ecode, complete, size of the entries


class Listing(NamedTuple):
    """One directory of Rlistattr data. `errno`: it could not be listed; not `complete`: it did not fit.

    `entries`: each name's attributes as they came, 153 bytes, for a listing brings many that nobody asks for.
    """

    errno: int
    complete: bool
    entries: dict[bytes, bytes]


def decode_listings_untrusted(data: bytes, limit: int) -> list[Listing]:
    """The blocks of Rlistattr data, at most `limit`. Raises ProtocolViolation as `decode_entries_untrusted` does, and
    for "." and "..".
    """
    listings: list[Listing] = []
    at, end = 0, len(data)
    while at < end:
        start = at + LISTING_HEAD.size
        if start > end or len(listings) == limit:
            raise ProtocolViolation("listing: cut off, or more than was asked for")
        code, complete, size = LISTING_HEAD.unpack_from(data, at)
        at = start + size
        if at > end or (code and size) or code >= 4096:
            raise ProtocolViolation("listing: entries are cut off, or stand beside an error")
        listings.append(Listing(code, bool(complete), decode_records_untrusted(data[start:at])[0]))
    return listings


def decode_records_untrusted(data: bytes, dots: bool = False) -> tuple[dict[bytes, bytes], int]:
    """Entries with attributes as Listing.entries has them, and the cookie to go on from (0: there are none).

    `dots`: "." and ".." may be among them, and are left out. Raises ProtocolViolation as `decode_listings_untrusted`.
    """
    found: dict[bytes, bytes] = {}
    at, end = 0, len(data)
    last = 0
    unpack = _NAME_LENGTH.unpack_from
    try:
        while at < end:
            (length,) = unpack(data, at)
            last = at
            start = at + ENTRY_ATTRIBUTES_BYTES
            stop = start + length
            found[data[start:stop]] = data[at : at + ATTRIBUTES_BYTES]
            at = stop
    except StructError:
        at = -1
    if at != end:
        raise ProtocolViolation("listing: an entry is cut off")
    if dots:
        found.pop(b".", None)
        found.pop(b"..", None)
    together = b"/".join(found)
    if together.count(b"/") > max(len(found) - 1, 0) or b"\0" in together or not found.keys().isdisjoint(_NO_NAMES):
        raise ProtocolViolation("listing: a name is empty, a dot name, or holds a slash or NUL")
    return found, ENTRY_ATTRIBUTES_TAIL.unpack_from(data, last + ATTRIBUTES_BYTES)[0] if end else 0


def _check_name_untrusted(name: bytes) -> None:
    if not name or b"/" in name or b"\0" in name:
        raise ProtocolViolation("directory entry: name is empty or holds a slash or NUL")


def decode_entries_untrusted(data: bytes) -> list[DirectoryEntry]:
    """The entries of Rreaddir data. Raises ProtocolViolation when cut off or a name could not be a name."""
    entries: list[DirectoryEntry] = []
    at, end = 0, len(data)
    while at < end:
        start = at + ENTRY_BYTES
        if start > end:
            raise ProtocolViolation("directory entry: cut off")
        kind, version, path, offset, type_, length = ENTRY.unpack_from(data, at)
        at = start + length
        if at > end:
            raise ProtocolViolation("directory entry: name is cut off")
        name = data[start:at]
        _check_name_untrusted(name)
        entries.append(DirectoryEntry(name, Qid(kind, version, path), offset, type_))
    return entries

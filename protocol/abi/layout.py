"""The one helper behind every structure in protocol.abi: a struct.Struct whose size was checked against the C one.

Owns nothing else. All layouts are little-endian without implicit padding ("<"), so padding stands in the format where
the C compiler puts it ("4x"), and a wrong field shows as a wrong size when the module is first imported.
"""

from __future__ import annotations

import struct
from typing import Final

U16: Final = struct.Struct("<H")
U32: Final = struct.Struct("<I")
U64: Final = struct.Struct("<Q")
I32: Final = struct.Struct("<i")
I64: Final = struct.Struct("<q")


def layout(name: str, fields: str, size: int) -> struct.Struct:
    """The Struct for C structure `name`, whose fields in struct-module letters are `fields` and whose sizeof is `size`.

    Raises ValueError when they disagree: a mistake in our source, found at import.
    """
    made = struct.Struct("<" + fields)
    if made.size != size:
        raise ValueError(f"layout of {name} has {made.size} bytes, the kernel's has {size}")
    return made


def array(name: str, item: struct.Struct, count: int) -> struct.Struct:
    """A Struct for `count` consecutive `item`s (iovecs, pollfds), to unpack them in one call."""
    return layout(name, item.format[1:] * count, item.size * count)


def c_string(field: bytes) -> bytes:
    """The bytes of a fixed-size character array up to its first NUL (all of it when there is none)."""
    end = field.find(0)
    return field if end < 0 else field[:end]

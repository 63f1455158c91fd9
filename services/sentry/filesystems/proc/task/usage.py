"""How much memory an address space uses, by kind: the numbers behind statm, status, smaps and meminfo.

What is mapped is known exactly. What of it is resident only the host knows; `mm.resident_bytes()` is asked where it
exists, otherwise it is estimated: files and big anonymous areas are touched in part, the heap and small areas whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi import mman_h as mm_h

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.mm.vma_set import Vma

__all__ = ["Usage", "area_resident", "usage_of"]

FILE_PART: Final = 2 << 20
ANONYMOUS_PART: Final = 256 << 10
STACK_PART: Final = 132 << 10


class Usage(NamedTuple):
    """All in bytes. size, data, stack, text, library: mapped; anonymous, file: resident."""

    size: int
    data: int
    stack: int
    text: int
    library: int
    anonymous: int
    file: int

    @property
    def resident(self) -> int:
        return self.anonymous + self.file


def area_resident(area: Vma) -> int:
    """Estimated resident bytes of one area."""
    if area.reserved or not area.prot:
        return 0
    if area.file is not None:
        return min(area.length, FILE_PART)
    if area.name == b"[heap]":
        return area.length
    return min(area.length, STACK_PART if area.name == b"[stack]" else ANONYMOUS_PART)


def usage_of(mm: AddressSpace) -> Usage:
    """The sums over the areas of `mm`. Library text is executable file memory beyond the first such file."""
    size = data = stack = text = library = anonymous = file = 0
    program: object = None
    for area in mm.vmas:
        if area.reserved:
            continue
        length = area.length
        size += length
        if area.name == b"[stack]":
            stack += length
        elif area.prot & mm_h.PROT_WRITE and not area.shared:
            data += length
        if area.file is not None:
            file += area_resident(area)
            if program is None:
                program = area.file.inode
            if area.prot & mm_h.PROT_EXEC:
                if area.file.inode is program:
                    text += length
                else:
                    library += length
        else:
            anonymous += area_resident(area)
    return Usage(size, data, stack, text, library, anonymous, file)

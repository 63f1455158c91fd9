"""ELF images: what an x86-64 executable file says about how it is to be loaded. Pure: bytes in, a plan out.

`parse_untrusted` reads headers that a guest wrote: every number is checked against the file and against limits. Read
kernel/execute.py for what is done with the plan. elf(5); errors as execve(2): ENOEXEC, ELIBBAD for an interpreter.
"""

from __future__ import annotations

import errno
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from protocol.records import field, record
from services.sentry.errors import LinuxError

__all__ = ["HEADER_SIZE", "ElfImage", "Mapping", "Segment", "headers_needed", "parse_untrusted"]

_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
HEADER_SIZE: Final = _EHDR.size
_PHDR: Final = struct.Struct("<IIQQQQQQ")
_PT_LOAD, _PT_INTERP, _PT_PHDR, _PT_GNU_STACK = 1, 3, 6, 0x6474E551
_ET_EXEC, _ET_DYN, _EM_X86_64 = 2, 3, 62
_PF_X, _PF_W, _PF_R = 1, 2, 4
_PAGE: Final = 4096
_MAX_HEADERS: Final = 65536 // 56
_ADDRESS_END: Final = 0x7FFF_FFFF_F000


@record
class Segment:
    """One PT_LOAD. Addresses are relative to the load bias."""

    vaddr: int
    offset: int
    file_size: int
    mem_size: int
    prot: int
    align: int


class Mapping(NamedTuple):
    """Whole pages to map, relative to the load bias: `offset` in the file, -1: zeros."""

    addr: int
    length: int
    prot: int
    offset: int


@record
class ElfImage:
    """What to map. `fixed`: ET_EXEC; `phdr_vaddr`: where the program headers lie in memory (0: nowhere).

    Worked out from the segments: the pages [`low`, `high`) that they take, `align`, the `mappings` that make them, and
    the ranges (address, length) of those that are to be `zeroed` then; `file_end`: as far as the file is needed.
    """

    fixed: bool
    entry: int
    segments: list[Segment] = field(default_factory=list)
    interpreter: tuple[int, int] | None = None  # offset and length of its path in the file
    phdr_vaddr: int = 0
    phdr_count: int = 0
    executable_stack: bool = False
    low: int = 0
    high: int = 0
    file_end: int = 0
    align: int = _PAGE
    mappings: list[Mapping] = field(default_factory=list)
    zeroed: list[tuple[int, int]] = field(default_factory=list)

    def plan(self) -> None:
        """Work out what follows from the segments."""
        self.low = self.segments[0].vaddr & -_PAGE
        for segment in self.segments:
            start = segment.vaddr & -_PAGE
            file_end = segment.vaddr + segment.file_size
            end = _page_up(segment.vaddr + segment.mem_size)
            self.high = max(self.high, end)
            self.file_end = max(self.file_end, segment.offset + segment.file_size)
            if segment.align & (segment.align - 1) == 0:
                self.align = max(self.align, segment.align)
            mapped_end = start
            if segment.file_size:
                mapped_end = _page_up(file_end)
                self.mappings.append(Mapping(start, mapped_end - start, segment.prot, segment.offset & -_PAGE))
                if segment.mem_size > segment.file_size and segment.prot & 2 and file_end != mapped_end:
                    self.zeroed.append((file_end, mapped_end - file_end))
            if end > mapped_end:
                self.mappings.append(Mapping(mapped_end, end - mapped_end, segment.prot, -1))


def _page_up(value: int) -> int:
    return (value + _PAGE - 1) & -_PAGE


def headers_needed(head: bytes) -> tuple[int, int]:
    """(offset, size) of the program headers named by the first 64 bytes. ENOEXEC: not an x86-64 ELF executable."""
    if len(head) < _EHDR.size:
        raise LinuxError(errno.ENOEXEC)
    ident, kind, machine, _, _, phoff, _, _, _, phentsize, phnum, *_ = _EHDR.unpack_from(head)
    if ident[:4] != b"\x7fELF" or ident[4] != 2 or ident[5] != 1:
        raise LinuxError(errno.ENOEXEC)
    if machine != _EM_X86_64 or kind not in (_ET_EXEC, _ET_DYN) or phentsize != _PHDR.size:
        raise LinuxError(errno.ENOEXEC)
    if not 0 < phnum <= _MAX_HEADERS:
        raise LinuxError(errno.ENOEXEC)
    return phoff, phnum * _PHDR.size


@lru_cache(maxsize=64)
def parse_untrusted(head: bytes, headers: bytes, size: int) -> ElfImage:
    """The plan from the file header and the program headers (as `headers_needed` named them); `size` of the file.

    The same headers give the same object: it is not to be changed.
    """
    _, kind, _, _, entry, phoff, _, _, _, _, phnum, *_ = _EHDR.unpack_from(head)
    if len(headers) < phnum * _PHDR.size:
        raise LinuxError(errno.ENOEXEC, "truncated program headers")
    image = ElfImage(kind == _ET_EXEC, entry, phdr_count=phnum)
    for k in range(phnum):
        ptype, flags, offset, vaddr, _, file_size, mem_size, align = _PHDR.unpack_from(headers, k * _PHDR.size)
        if ptype == _PT_LOAD:
            if file_size > mem_size or vaddr + mem_size > _ADDRESS_END or offset + file_size > 1 << 62:
                raise LinuxError(errno.ENOEXEC, "segment out of range")
            if (vaddr ^ offset) & (_PAGE - 1) and file_size:
                raise LinuxError(errno.EINVAL, "segment not aligned")
            if image.segments and vaddr < image.segments[-1].vaddr:
                raise LinuxError(errno.ENOEXEC, "segments out of order")
            prot = (1 if flags & _PF_R else 0) | (2 if flags & _PF_W else 0) | (4 if flags & _PF_X else 0)
            image.segments.append(Segment(vaddr, offset, file_size, mem_size, prot, align))
            if offset <= phoff < offset + file_size:
                image.phdr_vaddr = vaddr + phoff - offset
        elif ptype == _PT_INTERP and image.interpreter is None:
            if not 2 <= file_size <= 4096:
                raise LinuxError(errno.ENOEXEC, "interpreter's name")
            image.interpreter = (offset, file_size)
        elif ptype == _PT_GNU_STACK:
            image.executable_stack = bool(flags & _PF_X)
    if not image.segments:
        raise LinuxError(errno.ENOEXEC, "nothing to load")
    _ = size
    image.plan()
    return image

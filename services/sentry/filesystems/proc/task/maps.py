"""/proc/PID/maps, smaps, smaps_rollup, numa_maps and mem (proc_pid_maps(5), proc_pid_smaps(5), proc_pid_mem(5))."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import fcntl_h as fc
from protocol.abi import mman_h as mm_h
from services.sentry.errors import LinuxError
from services.sentry.filesystems.proc.access import check_may_read, mm_of
from services.sentry.filesystems.proc.task.usage import area_resident
from services.sentry.vfs.open_file import OpenFile
from services.sentry.vfs.path_walk import full_name

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.mm.vma_set import Vma
    from services.sentry.vfs.inode import Inode

__all__ = ["MemFile", "maps", "numa_maps", "smaps", "smaps_rollup"]

NAME_COLUMN: Final = 73
PAGE: Final = 4096
_SMAPS_ZERO: Final = (
    "KSM", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap",
    "SwapPss",
)  # fmt: skip


def shown_areas(mm: AddressSpace) -> Iterator[Vma]:
    """The areas a guest may see: not the platform's own, but the vDSO."""
    for area in mm.vmas:
        if not area.reserved or area.name:
            yield area


def area_name(area: Vma, reader: Task) -> bytes:
    file = area.file
    if file is None:
        return area.name or (b"/dev/zero (deleted)" if area.shared else b"")
    if file.path is None:
        return file.proc_link()
    return full_name(file.path, reader.fs.root).replace(b"\n", b"\\012")


def _line(area: Vma, reader: Task) -> bytes:
    prot = area.prot
    rights = (
        ("r" if prot & mm_h.PROT_READ else "-")
        + ("w" if prot & mm_h.PROT_WRITE else "-")
        + ("x" if prot & mm_h.PROT_EXEC else "-")
        + ("s" if area.shared else "p")
    )
    device, ino, offset = 0, 0, 0
    if area.file is not None:
        device, ino = area.file.inode.superblock.dev, area.file.inode.ino
        offset = area.offset
    where = f"{area.start:08x}-{area.end:08x} {rights} {offset:08x}"
    place = f"{where} {os.major(device):02x}:{os.minor(device):02x} {ino} "
    name = area_name(area, reader)
    return place.encode().ljust(NAME_COLUMN) + name + b"\n" if name else place.encode() + b"\n"


def _mm_of(reader: Task, target: Task) -> AddressSpace | None:
    check_may_read(reader, target)
    return mm_of(target)


def maps(reader: Task, target: Task) -> bytes:
    mm = _mm_of(reader, target)
    return b"".join(_line(area, reader) for area in shown_areas(mm)) if mm is not None else b""


def _amounts(area: Vma) -> dict[str, int]:
    """KiB by smaps name; residency is an estimate (usage.py)."""
    resident = area_resident(area) // 1024
    anonymous = resident if area.file is None else 0
    dirty = anonymous if not area.shared else 0
    return {
        "Rss": resident,
        "Pss": resident,
        "Pss_Dirty": dirty,
        "Shared_Clean": resident if area.shared else 0,
        "Shared_Dirty": 0,
        "Private_Clean": resident - dirty if not area.shared else 0,
        "Private_Dirty": dirty,
        "Referenced": resident,
        "Anonymous": anonymous,
        **dict.fromkeys(_SMAPS_ZERO, 0),
        "Locked": resident if area.locked else 0,
    }


def _flags(area: Vma) -> str:
    prot = area.prot
    flags = [name for bit, name in ((1, "rd"), (2, "wr"), (4, "ex")) if prot & bit]
    flags += ["sh"] if area.shared else []
    flags += ["mr", "mw", "me"]
    flags += ["gd"] if area.name == b"[stack]" else []
    flags += ["lo"] if area.locked else []
    flags += ["dc"] if area.dont_fork else []
    flags += ["ac"] if not area.shared and prot & 2 else []
    return " ".join(flags)


def smaps(reader: Task, target: Task) -> bytes:
    mm = _mm_of(reader, target)
    if mm is None:
        return b""
    parts: list[bytes] = []
    for area in shown_areas(mm):
        rows = {"Size": area.length // 1024, "KernelPageSize": 4, "MMUPageSize": 4, **_amounts(area)}
        text = "".join(f"{name + ':':<16}{value:8d} kB\n" for name, value in rows.items())
        parts += [_line(area, reader), text.encode(), f"THPeligible:    0\nVmFlags: {_flags(area)} \n".encode()]
    return b"".join(parts)


def smaps_rollup(reader: Task, target: Task) -> bytes:
    mm = _mm_of(reader, target)
    areas = list(shown_areas(mm)) if mm is not None else []
    if not areas:
        return b""
    total: dict[str, int] = {}
    for area in areas:
        for name, value in _amounts(area).items():
            total[name] = total.get(name, 0) + value
    file = total["Pss"] - total["Anonymous"]
    split = {"Pss_Anon": total["Anonymous"], "Pss_File": file, "Pss_Shmem": 0}
    names = ["Rss", "Pss", "Pss_Dirty", *split, *list(total)[3:]]
    total.update(split)
    head = f"{areas[0].start:08x}-{areas[-1].end:08x} ---p 00000000 00:00 0 ".encode()
    rows = "".join(f"{name + ':':<16}{total[name]:8d} kB\n" for name in names)
    return head.ljust(NAME_COLUMN) + b"[rollup]\n" + rows.encode()


def numa_maps(reader: Task, target: Task) -> bytes:
    mm = _mm_of(reader, target)
    if mm is None:
        return b""
    lines = []
    for area in shown_areas(mm):
        name = area_name(area, reader)
        kind = b" file=" + name if name.startswith(b"/") else b" " + name.strip(b"[]") if name else b""
        lines.append(b"%08x default%b\n" % (area.start, kind))
    return b"".join(lines)


class MemFile(OpenFile):
    """/proc/PID/mem: the target's memory at the file position. EIO: nothing is mapped there; reads 0 after its exit."""

    __slots__ = ("target_mm",)
    seekable = True

    def __init__(self, inode: Inode, flags: int, target: Task) -> None:
        super().__init__(inode, flags)
        self.target_mm: AddressSpace | None = target.mm_or_none

    def _mm(self) -> AddressSpace | None:
        mm = self.target_mm
        return mm if mm is not None and mm.users > 0 else None

    def pread(self, count: int, offset: int) -> bytes:
        mm = self._mm()
        if mm is None:
            return b""
        mm.await_contents()
        try:
            return mm.read_some(offset, min(count, 1 << 24)) if count else b""
        except LinuxError:
            raise LinuxError(errno.EIO, "unmapped guest memory") from None

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        mm = self._mm()
        if mm is None:
            return 0
        mm.await_contents()
        try:
            mm.write(offset, bytes(data))
        except LinuxError:
            raise LinuxError(errno.EIO, "unmapped guest memory") from None
        return len(data)

    def read(self, count: int) -> bytes:
        data = self.pread(count, self.offset)
        self.offset += len(data)
        return data

    def write(self, data: bytes | memoryview) -> int:
        taken = self.pwrite(data, self.offset)
        self.offset += taken
        return taken

    def seek(self, offset: int, whence: int) -> int:
        """Any 64-bit position; SEEK_END is refused (EINVAL)."""
        if whence == fc.SEEK_CUR:
            offset += self.offset
        elif whence != fc.SEEK_SET:
            raise LinuxError(errno.EINVAL)
        self.offset = offset & 0xFFFFFFFFFFFFFFFF
        return self.offset

"""Hot call sites: recognising them and writing the trampolines that replace their trap by a slot hand-over. Pure.

A site is known by the address after its `syscall` instruction. Three shapes are patched, all safe for a thread that
stands anywhere in them, because every address that a thread can be at still holds an instruction that means the same:

    A   mov $nr,%eax; syscall         the mov becomes `jmp trampoline`; the syscall behind it stays, for who jumps to it
                                      or restarts it, and traps as before
        mov $nr,%eax; lea ...; syscall    likewise: the trampoline does what the lea does
    B   syscall; cmp $-4095,%rax      (what follows every system call of the C library) becomes `jmp trampoline`, whose
                                      second byte is chosen to be 06: not an instruction in 64-bit mode. A thread that
                                      stands behind the former syscall faults there, and `Patches.redirect` sends it on

Registers at the end of a trampoline are those that a real `syscall` leaves (rcx, r11 undefined). The caller decides
when it is safe to write: no other thread of the address space may be in guest code.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from platforms.systrap import layout
from platforms.systrap.image import Image

__all__ = ["BEHIND", "BEFORE", "NEVER", "PUBLISHED", "Patches", "Site", "recognise"]

BEFORE: Final = 14  # bytes before the address after `syscall` that `recognise` looks at
BEHIND: Final = 6  # and behind it
AREA_SIZE: Final = 0x1_0000 + 0x100  # one trampoline area: holds a place for every site, whatever its alignment
PLACE_BYTES: Final = 64  # room for one trampoline
JUMP_BYTES: Final = 5
_REACH: Final = 0x7FFF_0000
_COMPARE: Final = (b"\x48\x3d\x01\xf0\xff\xff", b"\x48\x3d\x00\xf0\xff\xff")
_INVALID: Final = 0x06
_CHANGED: Final = frozenset((0, 1, 4, 11))  # rax, rcx, r11, and rsp, which nobody loads like that
NEVER: Final = frozenset((15, 56, 57, 58, 59, 60, 231, 322, 435))  # need the full registers, or never return
# open stat lstat access chdir mkdir rmdir unlink readlink
PATH_CALLS: Final = frozenset((2, 4, 6, 21, 80, 83, 84, 87, 89))
AT_PATH_CALLS: Final = frozenset((257, 258, 263, 267, 269, 332, 437, 439))  # the same with a directory first
# What the stub may answer itself (stub/local.S, rings.S: read write pread64 pwrite64 sendto recvfrom; polls.S: poll
# select pselect6 ppoll; answers.S: fstat epoll_wait newfstatat epoll_pwait; local_maps.S: mmap munmap madvise;
# local_mask.S: rt_sigprocmask; local_told.S: set_robust_list). Where it cannot, these bring along what they are to by
# themselves.
LOCAL_CALLS: Final = {
    0: "local_read",
    1: "local_write",
    5: "answer_fstat",
    7: "local_poll",
    9: "local_mmap",
    11: "local_munmap",
    14: "local_mask",
    17: "local_pread",
    18: "local_pwrite",
    23: "local_select",
    28: "local_madvise",
    44: "local_sendto",
    45: "local_recvfrom",
    232: "answer_epoll_wait",
    262: "answer_fstatat",
    270: "local_pselect6",
    271: "local_ppoll",
    273: "local_robust_list",
    281: "answer_epoll_pwait",
}
PUBLISHED: Final = {39: layout.PUBLISHED_PID, 186: layout.PUBLISHED_TID, 110: layout.PUBLISHED_PPID}


class Site(NamedTuple):
    """What `recognise` found: `start`, where the jump goes; `resume`, where the program goes on; `moved`: code that the
    jump is over, or goes past.
    """

    start: int
    resume: int
    moved: bytes
    number: int  # of the system call for shape A, -1 for B


def recognise(code: bytes, rip: int, nr: int) -> Site | None:
    """The site whose `syscall` ends at `rip`; `code` is [rip-BEFORE, rip+BEHIND). None: not of a known shape."""
    if len(code) != BEFORE + BEHIND or code[BEFORE - 2 : BEFORE] != b"\x0f\x05" or nr in NEVER:
        return None
    load = b"\xb8" + nr.to_bytes(4, "little")
    if code[BEFORE - 7 : BEFORE - 2] == load:
        return Site(rip - 7, rip, b"", nr)
    if code[:5] == load:
        lea = _moved_lea(code[5:12], rip - 2)
        if lea is not None:
            return Site(rip - 14, rip, lea, nr)
    behind = code[BEFORE:]
    return Site(rip - 2, rip + 6, behind, -1) if behind in _COMPARE else None


def _moved_lea(code: bytes, behind: int) -> bytes | None:
    """What `lea disp32(register or rip),register`, which ends at `behind`, is elsewhere; None: it is something else, or
    has to do with registers that a call changes.
    """
    rex, opcode, modrm = code[:3]
    to, base = (modrm >> 3 & 7) | (rex & 4) << 1, (modrm & 7) | (rex & 1) << 3
    if rex & 0xFA != 0x48 or opcode != 0x8D or to in _CHANGED:
        return None
    if modrm >> 6 == 2 and base & 7 != 4 and base not in _CHANGED:
        return code
    if modrm & 0xC7 != 5:
        return None
    address = behind + int.from_bytes(code[3:], "little", signed=True)
    return bytes([0x48 | to >> 3, 0xB8 | to & 7]) + struct.pack("<Q", address & 0xFFFF_FFFF_FFFF_FFFF)


class Patches:
    """The patched sites of one address space: where trampolines are free, and how to get from one to the other."""

    __slots__ = ("areas", "redirect", "seen", "to_original", "used", "vain_stops")

    def __init__(self) -> None:
        self.areas: list[int] = []
        self.used: set[int] = set()  # places that hold a trampoline
        self.redirect: dict[int, int] = {}  # behind a former syscall -> where that code stands now (shape B)
        self.to_original: dict[int, int] = {}  # the reverse, for what a guest is shown
        self.seen: dict[int, int] = {}  # rip -> how often it trapped
        self.vain_stops = 0  # how often the threads could not be stopped (kernel/patch_stop.py)

    def copy(self) -> Patches:
        """For a forked address space, whose memory has the same patches."""
        child = Patches()
        child.areas = list(self.areas)
        child.used = set(self.used)
        child.redirect = dict(self.redirect)
        child.to_original = dict(self.to_original)
        return child

    def place(self, site: Site) -> int | None:
        """A free trampoline address for `site` in the areas there are. None: another area is needed."""
        behind = site.start + 5
        for area in self.areas:
            if abs(area - behind) > _REACH:
                continue
            if site.number >= 0:
                candidates = range(area, area + AREA_SIZE - PLACE_BYTES + 1, PLACE_BYTES)
            else:
                first = area + ((_INVALID << 8) - (area - behind)) % 0x10000
                candidates = range(first, first + 0x100 - PLACE_BYTES + 1, PLACE_BYTES)
            for address in candidates:
                if (
                    address not in self.used
                    and address + PLACE_BYTES <= area + AREA_SIZE
                    and not self._overlaps(address)
                ):
                    return address
        return None

    def _overlaps(self, address: int) -> bool:
        return any(address + k in self.used or address - k in self.used for k in range(1, PLACE_BYTES))

    def write(self, site: Site, address: int, image: Image) -> tuple[bytes, bytes]:
        """(trampoline for `address`, jump for `site.start`); from now on the site counts as patched."""
        self.used.add(address)
        jump = b"\xe9" + struct.pack("<i", address - (site.start + 5))
        if site.number >= 0:
            return site.moved + _published(site) + _call(site.number, site.resume, image), jump
        head = _enter(0, image.any_entry)
        tail_at = address + len(head) + 2
        code = _enter(tail_at, image.any_entry) + b"\x0f\x05" + site.moved
        code += b"\xe9" + struct.pack("<i", site.resume - (tail_at + len(site.moved) + 5))
        self.redirect[site.start + 2] = tail_at
        self.to_original[tail_at] = site.start + 2
        return code, jump

    def forget(self, start: int, end: int) -> None:
        """[start, end) was unmapped or replaced: its sites are gone, and may be counted again."""
        for rip in [rip for rip in self.seen if start <= rip < end]:
            del self.seen[rip]
        for rip in [rip for rip in self.redirect if start <= rip < end]:
            self.to_original.pop(self.redirect.pop(rip), None)


def _enter(resume: int, fast_entry: int) -> bytes:
    """rcx = where to go on, then into the stub."""
    return b"\x48\xb9" + struct.pack("<Q", resume) + b"\x49\xbb" + struct.pack("<Q", fast_entry) + b"\x41\xff\xe3"


def _call(number: int, resume: int, image: Image) -> bytes:
    """eax = number, then into the entry that brings along what this call will be asked for."""
    entry = image.fast_entry
    if number in LOCAL_CALLS:
        entry = getattr(image, LOCAL_CALLS[number])
    elif number in PATH_CALLS:
        entry = image.fast_path_entry
    elif number in AT_PATH_CALLS:
        entry = image.fast_path_entry
        number |= 1 << 31
    elif image.brings_structure(number):
        entry = image.fast_struct_entry
    return b"\xb8" + struct.pack("<I", number) + _enter(resume, entry)


def _published(site: Site) -> bytes:
    """For calls whose answer stands in the header page: load it and go on, unless nothing is published."""
    offset = PUBLISHED.get(site.number)
    if offset is None:
        return b""
    load = b"\x65\x48\x8b\x0c\x25" + struct.pack("<I", layout.PUBLISHED)  # mov %gs:PUBLISHED,%rcx
    answer = b"\x8b\x41" + bytes([offset])  # mov offset(%rcx),%eax
    away = b"\x48\xb9" + struct.pack("<Q", site.resume) + b"\xff\xe1"  # movabs $resume,%rcx; jmp *%rcx
    body = answer + away
    return load + b"\xe3" + bytes([len(body)]) + body  # jrcxz over it

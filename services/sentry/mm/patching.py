"""Patching hot call sites of an address space: when, where the trampolines go, and the operations that write them.

platforms/systrap/patcher.py recognises sites and makes the code; this module gives it room near the program (an area
that guests do not see in /proc) and writes it while the guest's own call is held, if no other thread is in guest code
then. kernel/patch_stop.py sees to that where there are others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from platforms.base import Op
from platforms.systrap.patcher import AREA_SIZE, BEFORE, BEHIND, JUMP_BYTES, PLACE_BYTES, Site, recognise
from protocol.abi import mman_h as mm_h
from services.sentry.errors import LinuxError
from services.sentry.mm.address_space import PAGE, page_up
from services.sentry.mm.vma_set import LOWEST, Vma

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["HOT", "MOST_VAIN", "STOP_FROM", "find_site", "others_at_large", "try_patch"]

HOT: Final = 48  # traps of one site before it is patched: what the patch costs, about
STOP_FROM: Final = 4 * HOT  # traps before the other threads are stopped for it, doubled after each time in vain,
MOST_VAIN: Final = 10  # so often at most
_NR_MMAP, _NR_MPROTECT = 9, 10
_NEAR: Final = 0x6000_0000
_NO_FD: Final = 0xFFFFFFFFFFFFFFFF
_ANONYMOUS: Final = mm_h.MAP_PRIVATE | mm_h.MAP_FIXED | mm_h.MAP_ANONYMOUS
_READ_EXEC, _ALL = 5, 7


def others_at_large(context: Context) -> bool:
    """Whether another thread of the address space of `context` may be in guest code."""
    return any(other.at_large() for other in context.others())


def try_patch(mm: AddressSpace, context: Any, rip: int, nr: int, then: Callable[[], None]) -> bool:
    """Patch the site whose `syscall` ends at `rip`, if that can be done now; `then()` runs when it is done.

    False: nothing was started (then is not called). `context` must be held; it carries out the operations.
    """
    if mm.changes is not None:  # what the stub may unprotect is all the guest's; and the program has started
        mm.changes.revoke()
    found = find_site(mm, rip, nr)
    if found is None:
        return False
    site, prot = found
    patches = mm.patcher
    address = patches.place(site)
    ops: list[Op] = []
    if address is None:
        start = _room(mm, site)
        if start is None:
            return False
        length = page_up(AREA_SIZE)
        ops.append(Op(_NR_MMAP, (start, length, _READ_EXEC, _ANONYMOUS, _NO_FD, 0)))
        mm.vmas.insert(Vma(start, start + length, _READ_EXEC, reserved=True))
        if mm.local_maps is not None:
            mm.local_maps.forbid_advice()
        patches.areas.append(start)
        address = patches.place(site)
        if address is None:
            return False
    _write(mm, context, ops, site, address, prot, then)
    return True


def find_site(mm: AddressSpace, rip: int, nr: int) -> tuple[Site, int] | None:
    """The site whose `syscall` ends at `rip`, and its memory's protection, if it is one that can be patched."""
    area = mm.vmas.find(rip)
    if area is None or area.reserved or area.shared or not area.prot & 4 or area.prot & 2:
        return None
    start = max(rip - BEFORE, area.start)
    try:
        code = mm.read(start, rip + BEHIND - start).rjust(BEFORE + BEHIND, b"\0")
    except LinuxError:
        return None
    site = recognise(code, rip, nr)
    if site is None or site.start < area.start or site.start + 8 > area.end:
        return None
    return site, area.prot


def _room(mm: AddressSpace, site: Site) -> int | None:
    """Where an area can go so that a jump reaches it."""
    length = page_up(AREA_SIZE)
    low = max(site.start - _NEAR, LOWEST)
    found = mm.vmas.gap_below(length, low, site.start & ~(PAGE - 1))
    if found is None:
        found = mm.vmas.gap_below(length, site.start & ~(PAGE - 1), site.start + _NEAR)
    return found


def _write(
    mm: AddressSpace, context: Any, ops: list[Op], site: Site, address: int, prot: int, then: Callable[[], None]
) -> None:
    """Open both pages, write, close them. A page stays executable all the while: other threads may be woken meanwhile,
    and run trampolines that are there already. The write itself waits for nobody: if one of them is in guest code just
    then, or changed the site, it is left out, and the site keeps trapping until it is tried again.
    """
    before = mm.read(site.start, JUMP_BYTES)
    pages = [address & ~(PAGE - 1), site.start & ~(PAGE - 1)]
    lengths = [page_up(address + PLACE_BYTES) - pages[0], page_up(site.start + JUMP_BYTES) - pages[1]]
    open_ops = [Op(_NR_MPROTECT, (pages[k], lengths[k], _ALL, 0, 0, 0)) for k in (0, 1)]
    close_ops = [Op(_NR_MPROTECT, (pages[k], lengths[k], (_READ_EXEC, prot)[k], 0, 0, 0)) for k in (0, 1)]

    def opened(results: list[int]) -> None:
        if not others_at_large(context) and len(results) == len(ops) + 2 and results[-1] == 0:
            try:
                if mm.read(site.start, JUMP_BYTES) == before:
                    trampoline, jump = mm.patcher.write(site, address, context.platform.image)
                    mm.write(address, trampoline)
                    mm.write(site.start, jump)
            except LinuxError:
                pass  # the guest took the page away meanwhile: the site keeps trapping
        context.run_ops(close_ops, lambda _: then())

    context.run_ops([*ops, *open_ops], opened)

"""System calls on address spaces: argument checks; mm/address_space.py does the work. mmap(2), mprotect(2)..."""

from __future__ import annotations

import errno
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from protocol.abi import mman_h as mm_h
from protocol.abi.fcntl_h import O_PATH
from services.sentry.errors import LinuxError
from services.sentry.kernel.waiter import FinalOps
from services.sentry.mm.address_space import PAGE, page_up
from services.sentry.mm.local_maps import is_local
from services.sentry.mm.vma_set import ADDRESS_END, LOWEST
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["ROWS"]

_MASK: Final = PAGE - 1
_PROT_ALL: Final = mm_h.PROT_READ | mm_h.PROT_WRITE | mm_h.PROT_EXEC
_LOW_END: Final = 0x8000_0000
_READ_IMPLIES_EXEC: Final = 0x0400000
_RLIMIT_MEMLOCK: Final = 8
_CAP_IPC_LOCK: Final = 14
_SHARED_FLAGS: Final = (
    mm_h.MAP_SHARED_VALIDATE | mm_h.MAP_FIXED | mm_h.MAP_ANONYMOUS | mm_h.MAP_POPULATE | mm_h.MAP_NONBLOCK
    | mm_h.MAP_STACK | mm_h.MAP_FIXED_NOREPLACE | mm_h.MAP_GROWSDOWN | mm_h.MAP_DENYWRITE | mm_h.MAP_EXECUTABLE
    | mm_h.MAP_LOCKED | mm_h.MAP_NORESERVE | mm_h.MAP_32BIT
)  # fmt: skip


def sys_mmap(task: Task, addr: int, length: int, prot: int, flags: int, fd: int, offset: int) -> Outcome:
    """mmap(2). EINVAL, EBADF, EACCES, ENODEV, ENOMEM, EEXIST, EOVERFLOW, EPERM."""
    mm = task.mm
    if not length:
        raise LinuxError(errno.EINVAL)
    size = (length + _MASK) & ~_MASK
    if size > ADDRESS_END:
        raise LinuxError(errno.ENOMEM)
    if offset & _MASK:
        raise LinuxError(errno.EINVAL)
    kind = flags & mm_h.MAP_TYPE
    if kind not in (mm_h.MAP_SHARED, mm_h.MAP_PRIVATE, mm_h.MAP_SHARED_VALIDATE):
        raise LinuxError(errno.EINVAL)
    if kind == mm_h.MAP_SHARED_VALIDATE and flags & ~_SHARED_FLAGS:
        raise LinuxError(errno.EOPNOTSUPP)
    prot &= _PROT_ALL
    anywhere = not addr
    file: OpenFile | None = None
    name = b""
    if flags & mm_h.MAP_ANONYMOUS:
        if flags & mm_h.MAP_HUGETLB:
            raise LinuxError(errno.ENOMEM, "no huge pages are reserved")
    else:
        file = task.files.get(s32(fd))
        if offset + size > 0x7FFFFFFFFFFFFFFF:  # also what is negative
            raise LinuxError(errno.EOVERFLOW)
        if file.flags & O_PATH:
            raise LinuxError(errno.EBADF)
        if not file.readable:
            raise LinuxError(errno.EACCES)
        if kind != mm_h.MAP_PRIVATE and prot & mm_h.PROT_WRITE and not file.writable:
            raise LinuxError(errno.EACCES)
        if prot & mm_h.PROT_EXEC and file.path is not None and file.path.mount.flags & 8:  # MS_NOEXEC
            raise LinuxError(errno.EPERM)
    if flags & (mm_h.MAP_FIXED | mm_h.MAP_FIXED_NOREPLACE):
        if addr & _MASK:
            raise LinuxError(errno.EINVAL)
        if addr < LOWEST:
            raise LinuxError(errno.EPERM)
        if flags & mm_h.MAP_FIXED_NOREPLACE and not mm.vmas.is_free(addr, addr + size):
            raise LinuxError(errno.EEXIST)
        if addr + size > ADDRESS_END:
            raise LinuxError(errno.ENOMEM)
    elif flags & mm_h.MAP_32BIT:
        found = mm.vmas.gap_below(size, 0x4000_0000, _LOW_END)
        if found is None:
            raise LinuxError(errno.ENOMEM)
        addr = found
    else:
        addr = mm.find_free(size, addr)
    if mm.locks_new or flags & mm_h.MAP_LOCKED:
        if flags & mm_h.MAP_LOCKED and not _may_lock(task):
            raise LinuxError(errno.EPERM)
        _check_more_locked(task, size)
    outcome = mm.map(task.context, addr, size, prot, flags, task.group.rlimits, file, offset, name)
    changes = mm.changes
    if changes is not None and file is not None and kind == mm_h.MAP_PRIVATE and type(outcome) is FinalOps:
        may_run = file.path is None or not file.path.mount.flags & 8
        most = _PROT_ALL if may_run else _PROT_ALL & ~mm_h.PROT_EXEC
        if task.files.users == 1:  # nobody else can make the descriptor another file's
            place = addr, addr + size, task.group.rlimits, most, anywhere
            outcome.beside = changes.open_window(outcome.beside, s32(fd), file, *place)
    if anywhere and mm.fast is not None and mm.users == 1 and is_local(prot, flags) and not mm.locks_new:
        local = mm.local_maps
        if local is not None and type(outcome) is FinalOps:
            if changes is not None:
                changes.revoke()  # of two logs nobody would know which came first
            outcome.note()  # the call site is patched: the next ones need not come here
            local.grant(task.context, addr, size, prot, task.group.rlimits)
    return outcome


def sys_munmap(task: Task, addr: int, length: int) -> Outcome:
    if addr & _MASK or not length or addr + length > ADDRESS_END:
        raise LinuxError(errno.EINVAL)
    return task.mm.unmap(task.context, addr, page_up(length))


def sys_mprotect(task: Task, addr: int, length: int, prot: int) -> Outcome:
    if addr & _MASK:
        raise LinuxError(errno.EINVAL)
    if prot & (mm_h.PROT_GROWSDOWN | mm_h.PROT_GROWSUP):
        prot &= ~(mm_h.PROT_GROWSDOWN | mm_h.PROT_GROWSUP)
    if prot & ~(_PROT_ALL | mm_h.PROT_SEM):
        raise LinuxError(errno.EINVAL)
    if not length:
        return 0
    size = page_up(length)
    if addr + size < addr or size < length:
        raise LinuxError(errno.ENOMEM)
    return task.mm.protect(task.context, addr, size, prot & _PROT_ALL, task.group.rlimits)


def sys_brk(task: Task, addr: int) -> Outcome:
    mm = task.mm
    if mm.changes is not None:
        mm.changes.log.forget_break()
    if mm.locks_new and page_up(addr) > page_up(mm.brk):
        try:
            _check_more_locked(task, page_up(addr) - page_up(mm.brk))
        except LinuxError:
            return mm.brk
    return mm.set_brk(task.context, addr, task.group.rlimits)


def sys_mremap(task: Task, addr: int, old: int, new: int, flags: int, new_addr: int) -> Outcome:
    """mremap(2). EINVAL, EFAULT, ENOMEM."""
    flags = u32(flags)
    if addr & _MASK or flags & ~7 or not new or (flags & 2 and not flags & 1):
        raise LinuxError(errno.EINVAL)
    if flags & 4 and (not flags & 1 or page_up(old) != page_up(new)):
        raise LinuxError(errno.EINVAL)
    if flags & 2 and (new_addr & _MASK or new_addr + page_up(new) > ADDRESS_END or new_addr < LOWEST):
        raise LinuxError(errno.EINVAL)
    if page_up(new) > ADDRESS_END:
        raise LinuxError(errno.ENOMEM if new < ADDRESS_END * 2 else errno.EINVAL)
    if task.mm.locked_pages and page_up(new) > page_up(old):
        area = task.mm.vmas.find(addr)
        if area is not None and area.locked:
            _check_more_locked(task, page_up(new) - page_up(old))
    return task.mm.remap(task.context, addr, page_up(old), page_up(new), flags, new_addr, task.group.rlimits)


_ADVICE_TO_HOST: Final = {
    mm_h.MADV_DONTNEED,
    mm_h.MADV_FREE,
    mm_h.MADV_REMOVE,
    mm_h.MADV_DONTFORK,
    mm_h.MADV_DOFORK,
    mm_h.MADV_HUGEPAGE,
    mm_h.MADV_NOHUGEPAGE,
    mm_h.MADV_WIPEONFORK,
    mm_h.MADV_KEEPONFORK,
    mm_h.MADV_COLD,
    mm_h.MADV_PAGEOUT,
    mm_h.MADV_POPULATE_READ,
    mm_h.MADV_POPULATE_WRITE,
    mm_h.MADV_DONTNEED_LOCKED,
    mm_h.MADV_COLLAPSE,
}
_ADVICE_NOT_FOR_LOCKED: Final = {  # mm/madvise.c
    mm_h.MADV_DONTNEED,
    mm_h.MADV_FREE,
    mm_h.MADV_REMOVE,
    mm_h.MADV_COLD,
    mm_h.MADV_PAGEOUT,
}
_ADVICE_NOTED: Final = {
    mm_h.MADV_NORMAL,
    mm_h.MADV_RANDOM,
    mm_h.MADV_SEQUENTIAL,
    mm_h.MADV_WILLNEED,
    mm_h.MADV_MERGEABLE,
    mm_h.MADV_UNMERGEABLE,
    mm_h.MADV_DONTDUMP,
    mm_h.MADV_DODUMP,
}


def sys_madvise(task: Task, addr: int, length: int, advice: int) -> Outcome:
    """madvise(2). EINVAL: alignment, unknown advice, or locked memory; ENOMEM: a hole; EPERM: poisoning.

    What is mapped is advised in spite of a hole, and what lies below locked memory before that gives EINVAL.
    """
    advice = s32(advice)
    if advice in (mm_h.MADV_HWPOISON, mm_h.MADV_SOFT_OFFLINE):
        raise LinuxError(errno.EPERM)
    if addr & _MASK or (advice not in _ADVICE_TO_HOST and advice not in _ADVICE_NOTED):
        raise LinuxError(errno.EINVAL)
    size = page_up(length)
    if size < length or addr + size > 0xFFFFFFFFFFFFFFFF:
        raise LinuxError(errno.EINVAL)
    if not size:
        return 0
    mm = task.mm
    local = mm.local_maps if advice in (mm_h.MADV_DONTNEED, mm_h.MADV_FREE) and not mm.locked_pages else None
    areas = mm.vmas.overlapping(addr, addr + size)
    if any(area.reserved for area in areas):
        raise LinuxError(errno.EINVAL)
    error = 0 if mm.vmas.covered(addr, addr + size) else errno.ENOMEM
    if mm.locked_pages and advice in _ADVICE_NOT_FOR_LOCKED:
        below = list(takewhile(lambda area: not area.locked, areas))
        if len(below) < len(areas):
            areas, error = below, errno.EINVAL
    if advice in _ADVICE_NOTED or not areas:
        if error:
            raise LinuxError(error)
        return 0
    if advice in (mm_h.MADV_DONTFORK, mm_h.MADV_DOFORK):
        for area in mm.vmas.isolate(addr, addr + size):
            area.dont_fork = advice == mm_h.MADV_DONTFORK
    ranges: list[tuple[int, int]] = []
    for area in areas if error else ():
        start, end = max(area.start, addr), min(area.end, addr + size)
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, end))
    unmapped: list[tuple[int, int]] = []
    if mm.fast is not None and local is not None:
        unmapped = local.allow_advice(addr)  # the call site is patched: the next ones need not come here
    return mm.advise(task.context, ranges or [(addr, addr + size)], advice, error, unmapped)


def sys_msync(task: Task, addr: int, length: int, flags: int) -> Outcome:
    """msync(2). Shared mappings are of the file's own pages, so MS_SYNC only has to sync the file."""
    flags = s32(flags)
    if addr & _MASK or flags & ~7 or (flags & 1 and flags & 4):  # MS_ASYNC, MS_INVALIDATE, MS_SYNC
        raise LinuxError(errno.EINVAL)
    size = page_up(length)
    if not size:
        return 0
    areas = task.mm.vmas.overlapping(addr, addr + size)
    if flags & 2 and any(area.locked for area in areas):
        raise LinuxError(errno.EBUSY)
    if flags & 4:
        for file in {area.file for area in areas if area.shared and area.file is not None}:
            file.sync()
    if not task.mm.vmas.covered(addr, addr + size):
        raise LinuxError(errno.ENOMEM)
    return 0


def sys_mincore(task: Task, addr: int, length: int, vector: int) -> Outcome:
    """mincore(2): the host's page cache is not shown; every mapped page counts as resident."""
    if addr & _MASK:
        raise LinuxError(errno.EINVAL)
    size = page_up(length)
    if addr + size > ADDRESS_END or not task.mm.vmas.covered(addr, addr + size):
        raise LinuxError(errno.ENOMEM)
    task.mm.write(vector, b"\1" * (size // PAGE))
    return 0


def _may_lock(task: Task) -> bool:
    return bool(task.group.rlimits[_RLIMIT_MEMLOCK][0]) or task.cred.has_cap(_CAP_IPC_LOCK)


def _check_more_locked(task: Task, size: int) -> None:
    """EAGAIN: so many bytes more that are locked would be above RLIMIT_MEMLOCK (mm/mmap.c, mlock_future_ok)."""
    limit = task.group.rlimits[_RLIMIT_MEMLOCK][0]
    if task.mm.count_locked() * PAGE + size > limit and not task.cred.has_cap(_CAP_IPC_LOCK):
        raise LinuxError(errno.EAGAIN)


def _lock(task: Task, addr: int, length: int, on: bool) -> int:
    size = page_up(length + (addr & _MASK))
    addr &= ~_MASK
    mm = task.mm
    if addr + size > ADDRESS_END or addr + size < addr:
        raise LinuxError(errno.EINVAL if addr + size > 0xFFFFFFFFFFFFFFFF else errno.ENOMEM)
    if on:
        limit = task.group.rlimits[_RLIMIT_MEMLOCK][0]
        if not _may_lock(task):
            raise LinuxError(errno.EPERM)
        fresh = sum(a.length for a in mm.vmas.overlapping(addr, addr + size) if not a.locked) // PAGE
        if (mm.count_locked() + fresh) * PAGE > limit and not task.cred.has_cap(_CAP_IPC_LOCK):
            raise LinuxError(errno.ENOMEM)
    if not mm.vmas.covered(addr, addr + size):
        raise LinuxError(errno.ENOMEM)
    _mark_locked(mm, addr, addr + size, on)
    return 0


def _mark_locked(mm: AddressSpace, start: int, end: int, on: bool) -> None:
    for area in mm.vmas.isolate(start, end):
        area.locked = on and not area.reserved
    mm.vmas.merge_around(start, end)
    mm.count_locked()
    if on and mm.local_maps is not None:
        mm.local_maps.forbid_advice()  # the host does not know what is locked, so the stub must not ask it


def sys_mlock(task: Task, addr: int, length: int) -> Outcome:
    """mlock(2): accounted; the host may still page, which no guest can tell."""
    return _lock(task, addr, length, True)


def sys_mlock2(task: Task, addr: int, length: int, flags: int) -> Outcome:
    if u32(flags) & ~1:
        raise LinuxError(errno.EINVAL)
    return _lock(task, addr, length, True)


def sys_munlock(task: Task, addr: int, length: int) -> Outcome:
    return _lock(task, addr, length, False)


def sys_mlockall(task: Task, flags: int) -> Outcome:
    """mlockall(2). EINVAL, EPERM, ENOMEM."""
    flags = u32(flags)
    if not flags or flags & ~7 or flags == 4:
        raise LinuxError(errno.EINVAL)
    limit = task.group.rlimits[_RLIMIT_MEMLOCK][0]
    if not task.cred.has_cap(_CAP_IPC_LOCK):
        if not limit:
            raise LinuxError(errno.EPERM)
        if flags & 1 and task.mm.total_pages * PAGE > limit:  # MCL_CURRENT
            raise LinuxError(errno.ENOMEM)
    mm = task.mm
    mm.locks_new = bool(flags & 2)  # MCL_FUTURE
    if mm.locks_new:  # what the stub maps and gives back by itself is not looked at
        mm.revoke_grant()
        if mm.local_maps is not None:
            mm.local_maps.forbid_advice()
    if flags & 1:
        _mark_locked(mm, 0, ADDRESS_END, True)
    return 0


def sys_munlockall(task: Task) -> Outcome:
    """munlockall(2), which ends MCL_FUTURE as well."""
    task.mm.locks_new = False
    _mark_locked(task.mm, 0, ADDRESS_END, False)
    return 0


def sys_remap_file_pages(task: Task, addr: int, size: int, prot: int, page_offset: int, flags: int) -> Outcome:
    """remap_file_pages(2), emulated as Linux does: an ordinary MAP_SHARED|MAP_FIXED of another part of the file."""
    start, length = addr & ~_MASK, size & ~_MASK
    area = task.mm.vmas.find(start)
    if prot or not length or area is None or not area.shared or area.file is None or start + length > area.end:
        raise LinuxError(errno.EINVAL)
    flags = mm_h.MAP_SHARED | mm_h.MAP_FIXED | (u32(flags) & mm_h.MAP_NONBLOCK)
    return task.mm.map(
        task.context, start, length, area.prot, flags, task.group.rlimits, area.file, page_offset * PAGE, result=0
    )


ROWS: Final = (
    Row("mmap", sys_mmap, "ptr size prot mmap_flags fd offset"),
    Row("munmap", sys_munmap, "ptr size"),
    Row("mprotect", sys_mprotect, "ptr size prot"),
    Row("brk", sys_brk, "ptr"),
    Row("mremap", sys_mremap, "ptr size size flags ptr"),
    Row("madvise", sys_madvise, "ptr size int"),
    Row("msync", sys_msync, "ptr size flags"),
    Row("mincore", sys_mincore, "ptr size ptr", "partial", "every mapped page counts as resident"),
    Row("mlock", sys_mlock, "ptr size", note="accounted only"),
    Row("mlock2", sys_mlock2, "ptr size flags", note="accounted only"),
    Row("munlock", sys_munlock, "ptr size"),
    Row("mlockall", sys_mlockall, "flags", note="accounted only"),
    Row("munlockall", sys_munlockall, ""),
    Row("remap_file_pages", sys_remap_file_pages, "ptr size prot size flags"),
)

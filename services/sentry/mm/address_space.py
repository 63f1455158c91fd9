"""An address space: what a guest process has mapped, kept equal in the host process that runs it.

Owns the areas (vma_set.py), the program break, the limits on them and what execve(2) left for /proc. A change is
decided here, carried out by the guest's stub as one or more posted operations (StubOp), and recorded when the host has
done it. The platform's own range and the vDSO are areas too (`reserved`), so that nothing is ever placed over them.

Read first: vma_set.py, user_memory.py (copies). System calls decode in syscalls/memory.py and call the methods here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from platforms.base import Op
from platforms.systrap.patcher import Patches
from protocol.abi import mman_h as mm_h
from services.sentry.errors import LinuxError
from services.sentry.kernel.waiter import FinalOps, Outcome, StubOp
from services.sentry.mm.user_memory import UserMemory
from services.sentry.mm.vma_set import ADDRESS_END, LOWEST, Vma, VmaSet

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.kernel.loans import Loan
    from services.sentry.kernel.task import Task
    from services.sentry.mm.local_changes import LocalChanges
    from services.sentry.mm.local_maps import LocalMaps
    from services.sentry.vfs.inode import Inode
    from services.sentry.vfs.open_file import Backing, OpenFile

__all__ = ["PAGE", "AddressSpace", "Record", "page_up"]

PAGE: Final = 4096
_NO_FD: Final = 0xFFFFFFFFFFFFFFFF
_NR_MMAP, _NR_MPROTECT, _NR_MUNMAP, _NR_MREMAP, _NR_MADVISE = 9, 10, 11, 25, 28
_MREMAP_MAYMOVE, _MREMAP_FIXED, _MREMAP_DONTUNMAP = 1, 2, 4
_KEEP: Final = mm_h.MAP_NORESERVE | mm_h.MAP_POPULATE | mm_h.MAP_NONBLOCK | mm_h.MAP_STACK
STACK_GAP: Final = 0x10_0000
MAX_RANGES: Final = 24  # of one madvise(2) that the stub is asked for at a time
MAX_AREAS: Final = 65530  # vm.max_map_count
INFINITY: Final = 0xFFFFFFFFFFFFFFFF
# A private mapping: address, length, prot, file, backing, offset, name.
Record: TypeAlias = "tuple[int, int, int, OpenFile | None, Backing | None, int, bytes]"


def page_up(value: int) -> int:
    """Rounded up to whole pages."""
    return (value + PAGE - 1) & ~(PAGE - 1)


class AddressSpace(UserMemory):
    """See the module. `users`: tasks that run in it (CLONE_VM)."""

    __slots__ = (
        "arg_end",
        "arg_start",
        "auxv",
        "brk",
        "changes",
        "filled_by",
        "brk_start",
        "_data_pages",
        "env_end",
        "env_start",
        "executable",
        "granted",
        "lent_to",
        "loan",
        "loans_to_skip",
        "local_maps",
        "kept",
        "locked_pages",
        "locks_new",
        "mmap_top",
        "patcher",
        "published",
        "stack_start",
        "_total_pages",
        "users",
        "vain_loans",
        "areas_now",
    )

    def __init__(self) -> None:
        super().__init__()
        self.areas_now = VmaSet()  # as far as recorded; `vmas` has more
        self.kept = (0, 0)  # start and end of where the host may have what the guest has unmapped (mm/local_maps.py)
        self.local_maps: LocalMaps | None = None  # what the stub may map itself, if it is one that does,
        self.granted: LocalMaps | None = None  # and the same while it may, or while its log is not empty
        self.changes: LocalChanges | None = None  # what the stub of a new program may change by itself
        self.users = 1
        self.brk_start = self.brk = 0
        self.arg_start = self.arg_end = self.env_start = self.env_end = self.stack_start = 0
        self.auxv = b""
        self.executable: Inode | None = None  # nobody may write to it meanwhile (execve(2), ETXTBSY)
        self._total_pages = 0
        self._data_pages = 0
        self.locked_pages = 0  # as counted last: 0 when none is
        self.locks_new = False  # mlockall(MCL_FUTURE): what is mapped from now on is locked; not inherited
        self.mmap_top = ADDRESS_END - 0x2000_0000  # execve(2) and fork(2) say better
        self.patcher = Patches()
        # fork(2) without a copy (kernel/loans.py):
        self.loan: Loan | None = None  # all this is another's so far
        self.lent_to: Task | None = None  # who has this memory meanwhile
        self.filled_by: Context | None = None  # who writes what a new program finds here (`await_contents`)
        self.vain_loans = self.loans_to_skip = 0  # how many forks copy after the last loan in vain, and are still to
        self.published: Any = None  # kernel/published_files.py: what the stub answers itself

    # --- what is there: the one way to the areas, with what the stub did since (local_maps.py, local_changes.py) ---
    @property
    def vmas(self) -> VmaSet:
        """The areas."""
        if self.changes is not None:
            self.changes.settle()
        if self.granted is not None:
            self.granted.settle()
        return self.areas_now

    @property
    def total_pages(self) -> int:
        """How many pages are mapped."""
        if self.changes is not None:
            self.changes.settle()
        if self.granted is not None:
            self.granted.settle()
        return self._total_pages

    @total_pages.setter
    def total_pages(self, value: int) -> None:
        self._total_pages = value

    @property
    def recorded_pages(self) -> int:
        """How many of them are recorded."""
        return self._total_pages

    @property
    def data_pages(self) -> int:
        """How many of them are private and writable."""
        if self.changes is not None:
            self.changes.settle()
        if self.granted is not None:
            self.granted.settle()
        return self._data_pages

    @data_pages.setter
    def data_pages(self, value: int) -> None:
        self._data_pages = value

    def count_pages(self, change: int, data: bool) -> None:
        """So many pages more are mapped, or less."""
        self._total_pages += change
        if data:
            self._data_pages += change

    # --- life ---
    def is_seen_by_others(self) -> bool:
        """Whether anyone but one thread may find what it leaves here: another task, or who shares a mapping."""
        return self.users > 1 or self.space is None or self.space.shares

    def add_user(self) -> None:
        """Another task is to run here."""
        self.revoke_grant()
        self.users += 1

    def revoke_grant(self) -> None:
        """The stub is to ask for mappings again: limits changed, or it is no more alone."""
        if self.changes is not None:
            self.changes.revoke()
        if self.granted is not None:
            self.granted.revoke()

    def reserve(self, ranges: Sequence[tuple[int, int, bytes]]) -> None:
        """Mark ranges (start, end, name) as the platform's (name b'': hidden from /proc; the vDSO has its own)."""
        prot = mm_h.PROT_READ | mm_h.PROT_EXEC
        self.vmas.fill([Vma(start, end, prot, name=name, reserved=True) for start, end, name in ranges])

    def fork(self) -> AddressSpace:
        """The child's copy of the bookkeeping (fork(2)); guest_ops copies the host process, less MADV_DONTFORK."""
        child = AddressSpace()
        vmas = self.vmas  # settled: what follows is up to date
        child.areas_now = vmas.share()
        child._total_pages, child._data_pages = self._total_pages, self._data_pages
        child.brk_start, child.brk, child.mmap_top = self.brk_start, self.brk, self.mmap_top
        child.arg_start, child.arg_end = self.arg_start, self.arg_end
        child.env_start, child.env_end = self.env_start, self.env_end
        child.stack_start, child.auxv = self.stack_start, self.auxv
        if self.executable is not None:
            child.runs(self.executable)
        for area in [area for area in vmas.areas if area.dont_fork or area.locked]:
            if area.dont_fork:
                child.total_pages -= child.vmas.remove(area.start, area.end) // PAGE
            else:
                child.vmas.isolate(area.start, area.end)[0].locked = False
        child.patcher = self.patcher.copy()
        if self.local_maps is not None:
            self.local_maps.note_kept()
        child.kept = self.kept
        return child

    def runs(self, executable: Inode) -> None:
        """The program that runs here was loaded from `executable`: opening it for writing gives ETXTBSY."""
        self.executable = executable
        executable.deny_write += 1

    def release(self) -> None:
        """One user less; the last one frees everything."""
        self.users -= 1
        if self.users:
            return
        self.unpublish()
        if self.executable is not None:
            self.executable.deny_write -= 1
            self.executable = None
        if self.space is not None:
            self.space.release()  # first: the host is at it while the rest is done
        if self.changes is not None:
            self.changes.drop()
        self.granted = self.local_maps = self.changes = self.filled_by = None
        self.areas_now.before_change = None
        self.areas_now.clear()

    def await_contents(self) -> None:
        """Before another process looks: what execve(2) left to the new program's own thread is there."""
        context, self.filled_by = self.filled_by, None
        if context is not None:
            context.await_filled()

    def unpublish(self) -> None:
        """The last user leaves: it does nothing with files by itself any more."""
        if self.published is not None:
            self.published.end()
            self.published = None  # it refers to this

    def _open_window(self, addr: int, count: int) -> bool:
        granted, changes = self.granted, self.changes
        if granted is not None:
            granted.catch_up()
        if changes is not None and changes.is_behind():
            return False  # rather than to record what nobody has asked for
        areas = self.areas_now.overlapping(addr, addr + count)
        low = high = addr
        for area in areas:
            if area.reserved or not area.prot & mm_h.PROT_WRITE or (area.file is not None and not self._is_whole(area)):
                break
            if low == high:
                low = high = area.start
            if area.start != high:
                break
            high = area.end
        if not low <= addr or addr + count > high:
            return False
        if granted is not None:
            low, high = granted.window(addr, addr + count, low, high)
        if changes is not None:  # the stub may take it away between two calls: found anew each time
            self.close_windows()
            return True
        self.window_low, self.window_high = low, high
        return True

    def _is_whole(self, area: Vma) -> bool:
        """Whether every page of a file's area is there, now and later: only the running program's own data, for nobody
        may make that file shorter. A page beyond the end of its file faults.
        """
        inode = area.file.inode if area.file is not None else None
        if inode is None or inode is not self.executable or area.shared:
            return False
        return bool(area.offset + area.length <= inode.size + PAGE - 1)

    # --- placing ---
    def find_free(self, length: int, hint: int = 0) -> int:
        """Where a new mapping of `length` bytes goes: at the hint when free, else top-down. ENOMEM: nowhere."""
        hint &= ~(PAGE - 1)
        if hint >= LOWEST and hint + length <= ADDRESS_END and self.vmas.is_free(hint, hint + length):
            return hint
        found = self.vmas.gap_below(length, LOWEST, self.mmap_top)
        if found is None:
            found = self.vmas.gap_below(length, LOWEST, ADDRESS_END)
        if found is None:
            raise LinuxError(errno.ENOMEM, "no free range")
        return found

    def check_range(self, addr: int, length: int) -> int:
        """The end of [addr, addr+length) if a guest may change it. ENOMEM: outside, or the platform's own."""
        end = addr + length
        if end > ADDRESS_END or end < addr:
            raise LinuxError(errno.ENOMEM)
        for area in self.vmas.overlapping(addr, end):
            if area.reserved:
                raise LinuxError(errno.ENOMEM)
        return end

    def check_limits(self, pages: int, rlimits: Any, data: bool) -> None:
        """ENOMEM: RLIMIT_AS, RLIMIT_DATA (getrlimit(2)) or the number of areas, of which all are recorded."""
        limit = rlimits[9][0]
        if limit != INFINITY and (self.total_pages + pages) * PAGE > limit:
            raise LinuxError(errno.ENOMEM, "RLIMIT_AS")
        if data:
            limit = rlimits[2][0]
            if limit != INFINITY and (self.data_pages + pages) * PAGE > limit:
                raise LinuxError(errno.ENOMEM, "RLIMIT_DATA")
        if len(self.areas_now.areas) >= MAX_AREAS:
            raise LinuxError(errno.ENOMEM, "too many areas")

    # --- operations ---
    def alone(self) -> bool:
        """Whether one thread runs here: then nobody can tell that a change is recorded a little after it was made."""
        return self.users == 1

    def perform(self, context: Context, ops: list[Op], then: Callable[[list[int]], Outcome]) -> StubOp:
        """Have the guest thread of `context` carry out `ops`; `then(results)` gives the call's outcome."""
        return StubOp(lambda complete: context.run_ops(ops, lambda results: complete(lambda: then(results))))

    def map(
        self,
        context: Context,
        addr: int,
        length: int,
        prot: int,
        flags: int,
        rlimits: Any,
        file: OpenFile | None = None,
        offset: int = 0,
        name: bytes = b"",
        result: int | None = None,
    ) -> StubOp | FinalOps:
        """mmap(2) at exactly `addr` (chosen before), replacing what is there. `length` is whole pages."""
        end = addr + length
        replaced = 0
        met = self.vmas.overlapping(addr, end)
        for area in met:
            if area.reserved:
                raise LinuxError(errno.ENOMEM)
            replaced += min(area.end, end) - max(area.start, addr)
        backing: Backing | None = None
        shared = flags & 3 != mm_h.MAP_PRIVATE
        max_write = True
        if file is not None:
            backing = file.mmap_backing()
            if backing.host_fd < 0:  # /dev/zero: anonymous memory
                backing, file = None, None
            elif shared:
                max_write = backing.max_prot_write and file.writable
                if prot & mm_h.PROT_WRITE and not max_write:
                    raise LinuxError(errno.EPERM if file.writable else errno.EACCES)  # sealed, or open for reading
        if self.changes is not None:
            self.changes.keep(addr, end)
        private_data = not shared and bool(prot & mm_h.PROT_WRITE)
        self.check_limits((length - replaced) // PAGE, rlimits, private_data)
        op = self.map_op(addr, length, prot, flags, backing, offset, max_write)
        if file is not None:
            file.add_reference()

        locked = self.locks_new or bool(flags & mm_h.MAP_LOCKED)

        def failed(results: list[int]) -> Outcome:
            error = LinuxError(-results[-1] if -4096 < results[-1] < 0 else errno.ENOMEM)
            self.forget(addr, end)
            if replaced:  # what was there is forgotten, so it must go

                def unmapped(_: list[int]) -> Outcome:
                    raise error

                return self.perform(context, [Op(_NR_MUNMAP, (addr, length, 0, 0, 0, 0))], unmapped)
            raise error

        def mapped(results: list[int]) -> Outcome:
            if results[-1] == addr:
                self.record(addr, length, prot, shared, file, backing, offset, name, max_write, locked)
                return addr if result is None else result
            if file is not None:
                file.close_reference()
            raise LinuxError(-results[-1] if -4096 < results[-1] < 0 else errno.ENOMEM)

        # While the host maps it, no other thread's mmap may be given the range; what it replaces stays until then.
        if replaced and not self.alone():
            return self.perform(context, [op], mapped)
        if self.granted is not None:  # before the change is recorded, the thread runs
            self.granted.revoke()

        def record() -> None:
            self.record(addr, length, prot, shared, file, backing, offset, name, max_write, locked, met)

        return FinalOps([op], addr if result is None else result, failed, beside=record)

    def map_op(
        self,
        addr: int,
        length: int,
        prot: int,
        flags: int,
        backing: Backing | None,
        offset: int,
        max_write: bool = True,
    ) -> Op:
        """The host's mmap for it. `max_write`: the guest may make it writable; else no write ever reaches others, for
        the stub can make memory writable (platforms/systrap/filter.py).
        """
        kind = mm_h.MAP_SHARED if flags & 3 != mm_h.MAP_PRIVATE and max_write else mm_h.MAP_PRIVATE
        host_flags = kind | mm_h.MAP_FIXED | (flags & _KEEP)
        if backing is None:
            return Op(_NR_MMAP, (addr, length, prot, host_flags | mm_h.MAP_ANONYMOUS, _NO_FD, 0))
        return Op(_NR_MMAP, (addr, length, prot, host_flags, 0, backing.base + offset), backing.host_fd)

    def record(
        self,
        addr: int,
        length: int,
        prot: int,
        shared: bool,
        file: OpenFile | None,
        backing: Backing | None,
        offset: int,
        name: bytes = b"",
        max_write: bool = True,
        locked: bool = False,
        met: Sequence[Vma] | None = None,
    ) -> None:
        """Note a mapping that the host has made. Takes over one reference on `file`. `met`: what areas it replaces, or
        parts of, if that is known and nothing has changed since.
        """
        end = addr + length
        self.window_high = self.other_high = 0  # as `close_windows`
        vmas = self.vmas
        if met is None:
            met = vmas.overlapping(addr, end)
        if met:
            self._uncount(met, addr, end)
        token = object() if shared and file is None else None
        area = Vma(
            addr,
            end,
            prot,
            shared=shared,
            file=file,
            backing=backing,
            offset=offset,
            name=name,
            max_write=max_write,
            token=token,
        )
        if locked:
            area.locked = True
            self.locked_pages += length // PAGE
        vmas.insert(area)
        self._total_pages += length // PAGE
        if not shared and prot & mm_h.PROT_WRITE:
            self._data_pages += length // PAGE

    def populate(self, records: Sequence[Record]) -> None:
        """Note private mappings that the host makes of an empty address space. Takes over one reference on each file.

        A later one may replace part of one before.
        """
        low_first = sorted(records, key=itemgetter(0))
        if any(low[0] + low[1] > high[0] for low, high in pairwise(low_first)):
            for start, length, prot, file, backing, offset, name in records:
                self.record(start, length, prot, False, file, backing, offset, name)
            return
        areas = []
        total = data = 0
        for start, length, prot, file, backing, offset, name in low_first:
            areas.append(Vma(start, start + length, prot, file=file, backing=backing, offset=offset, name=name))
            total += length
            if prot & mm_h.PROT_WRITE:
                data += length
        self.vmas.fill(areas)
        self._total_pages += total // PAGE
        self._data_pages += data // PAGE

    def forget(self, start: int, end: int) -> None:
        """Note that [start, end) is unmapped."""
        self.close_windows()
        areas = self.vmas.overlapping(start, end)
        if areas:
            self._uncount(areas, start, end)
            self.vmas.remove(start, end)

    def _uncount(self, areas: Sequence[Vma], start: int, end: int) -> None:
        """What of `areas` lies in [start, end), which they all meet, is about to go."""
        for area in areas:
            low, high = area.start, area.end
            pages = ((high if high < end else end) - (low if low > start else start)) // PAGE
            self._total_pages -= pages
            if area.prot & mm_h.PROT_EXEC and self.patcher.seen:
                self.patcher.forget(start, end)
            if not area.shared and area.prot & mm_h.PROT_WRITE:
                self._data_pages -= pages

    def unmap(self, context: Context, addr: int, length: int) -> Outcome:
        """munmap(2)."""
        end = self.check_range(addr, length)
        areas = self.vmas.overlapping(addr, end)
        if not areas:
            return 0
        if self.changes is not None:
            self.changes.keep(addr, end)

        # The range is free when the host has unmapped it: with other threads that must be known first.
        return self._final(context, Op(_NR_MUNMAP, (addr, end - addr, 0, 0, 0, 0)), lambda: self.forget(addr, end))

    def protect(self, context: Context, addr: int, length: int, prot: int, rlimits: Any) -> Outcome:
        """mprotect(2). ENOMEM: a hole; EACCES: a shared mapping of a file that is not open for writing."""
        end = addr + length
        if end < addr or end > ADDRESS_END:
            raise LinuxError(errno.ENOMEM)
        areas = self.vmas.overlapping(addr, end)
        at = addr
        for area in areas:
            if area.start > at:
                break
            at = area.end
        if at < end:
            raise LinuxError(errno.ENOMEM)
        for area in areas:
            if area.reserved:
                raise LinuxError(errno.EACCES)
            if prot & mm_h.PROT_WRITE and not area.max_write:
                raise LinuxError(errno.EACCES)
        op = Op(_NR_MPROTECT, (addr, length, prot, 0, 0, 0))
        self.close_windows()

        def protected() -> None:
            self.set_protection(addr, end, prot)

        if not self.alone():
            return self._final(context, op, protected)
        before = [(max(area.start, addr), min(area.end, end), area.prot) for area in areas]

        def failed(results: list[int]) -> Outcome:
            for start, stop, former in before:
                self.set_protection(start, stop, former)
            raise LinuxError(-results[-1] if -4096 < results[-1] < 0 else errno.ENOMEM)

        if self.granted is not None:
            self.granted.revoke()
        return FinalOps([op], 0, failed, beside=protected)

    def set_protection(self, start: int, end: int, prot: int) -> None:
        """Note that [start, end), all mapped, has another protection."""
        self.close_windows()
        for area in self.vmas.isolate(start, end):
            if not area.shared:
                self._data_pages += (bool(prot & 2) - bool(area.prot & 2)) * (area.length // PAGE)
            area.prot = prot
        self.vmas.merge_around(start, end)

    def _final(self, context: Context, op: Op, settled: Callable[[], None]) -> StubOp | FinalOps:
        """The call ends with `op`, and with 0: `settled` records it. Alone, the thread need not come back to say so,
        unless its stub may note changes meanwhile: they would come before.
        """

        def failed(results: list[int]) -> Outcome:
            raise LinuxError(-results[-1] if -4096 < results[-1] < 0 else errno.ENOMEM)

        def done(results: list[int]) -> Outcome:
            if results[-1] < 0:
                return failed(results)
            settled()
            return 0

        if self.alone() and self.changes is None:
            if self.granted is not None:  # before the change is recorded, the thread runs
                self.granted.revoke()
            return FinalOps([op], 0, failed, settled)
        return self.perform(context, [op], done)

    def set_brk(self, context: Context, wanted: int, rlimits: Any) -> Outcome:
        """brk(2): the new break, or the old one when it cannot be."""
        if wanted < self.brk_start:
            return self.brk
        old_end, new_end = page_up(self.brk), page_up(wanted)
        if new_end == old_end:
            self.brk = wanted
            return wanted
        if new_end < old_end:

            def shrunk(results: list[int]) -> int:
                if results[-1] == 0:
                    self.forget(new_end, old_end)
                    self.brk = wanted
                return self.brk

            return self.perform(context, [Op(_NR_MUNMAP, (new_end, old_end - new_end, 0, 0, 0, 0))], shrunk)
        if new_end > ADDRESS_END or not self.vmas.is_free(old_end, new_end):
            return self.brk
        data_limit = rlimits[2][0]
        if data_limit != INFINITY and wanted - self.brk_start > data_limit:
            return self.brk
        try:
            self.check_limits((new_end - old_end) // PAGE, rlimits, True)
        except LinuxError:
            return self.brk
        prot = mm_h.PROT_READ | mm_h.PROT_WRITE
        op = self.map_op(old_end, new_end - old_end, prot, mm_h.MAP_PRIVATE, None, 0)

        before, self.brk = self.brk, wanted
        locked = self.locks_new

        def record() -> None:  # at once, as in map()
            self.record(old_end, new_end - old_end, prot, False, None, None, 0, b"[heap]", locked=locked)

        def failed(results: list[int]) -> Outcome:
            self.forget(old_end, new_end)
            if self.brk == wanted:
                self.brk = before
            return self.brk

        if self.granted is not None:  # before the change is recorded, the thread runs
            self.granted.revoke()
        return FinalOps([op], wanted, failed, beside=record)

    def remap(
        self, context: Context, addr: int, old_length: int, new_length: int, flags: int, new_addr: int, rlimits: Any
    ) -> Outcome:
        """mremap(2); lengths are whole pages. old_length 0: a second mapping of the same shared pages."""
        area = self.vmas.find(addr)
        if area is None or area.reserved or addr + old_length > area.end:
            raise LinuxError(errno.EFAULT)
        if not old_length and not area.shared:
            raise LinuxError(errno.EINVAL)
        if flags & _MREMAP_FIXED:
            self.check_range(new_addr, new_length)
            if new_addr < addr + old_length and addr < new_addr + new_length:
                raise LinuxError(errno.EINVAL)
            target = new_addr
        elif flags & _MREMAP_DONTUNMAP:
            target = self.find_free(new_length)
        elif new_length <= old_length and old_length:
            if new_length == old_length:
                return addr
            shrink = self.unmap(context, addr + new_length, old_length - new_length)
            return self._with_result(shrink, addr)
        elif (
            old_length
            and addr + old_length == area.end
            and self.vmas.is_free(area.end, addr + new_length)
            and (addr + new_length <= ADDRESS_END)
        ):
            target = addr
        elif flags & _MREMAP_MAYMOVE:
            target = self.find_free(new_length)
        else:
            raise LinuxError(errno.ENOMEM)
        if not old_length and not area.max_write:  # the host knows of no sharing, see map_op
            at = area.offset + addr - area.start
            return self.map(context, target, new_length, area.prot, mm_h.MAP_SHARED, rlimits, area.file, at, area.name)
        if new_length > old_length:
            self.check_limits((new_length - old_length) // PAGE, rlimits, not area.shared)
        if self.changes is not None:
            self.changes.keep(target, target + new_length)
        host_flags = 0 if target == addr else _MREMAP_MAYMOVE | _MREMAP_FIXED | (flags & _MREMAP_DONTUNMAP)
        held = (area.end if target == addr else target, target + new_length)
        holding = self.vmas.is_free(*held)
        if holding:  # against another thread's mmap, as in map()
            self.record(held[0], held[1] - held[0], 0, False, None, None, 0)
        ops = [Op(_NR_MREMAP, (addr, old_length, new_length, host_flags, target if host_flags else 0, 0))]
        if target == addr and self.local_maps is not None and (self.kept[1] or self.local_maps.log.keeps):
            ops.insert(0, Op(_NR_MUNMAP, (held[0], held[1] - held[0], 0, 0, 0, 0)))  # whatever the host has there

        def moved(results: list[int]) -> int:
            if results[-1] != target:
                if holding:
                    self.forget(*held)
                raise LinuxError(-results[-1] if -4096 < results[-1] < 0 else errno.ENOMEM)
            if old_length:
                piece = self.vmas.isolate(addr, addr + old_length)[0]
                copy = piece.part(target, target + new_length)
                copy.offset = piece.offset
            else:
                copy = area.part(target, target + new_length)
                copy.offset = area.offset + addr - area.start
            if old_length and not flags & _MREMAP_DONTUNMAP:
                self.forget(addr, addr + old_length)
            self.forget(target, target + new_length)
            self.vmas.insert(copy)
            self.total_pages += new_length // PAGE
            if not copy.shared and copy.prot & mm_h.PROT_WRITE:
                self.data_pages += new_length // PAGE
            return target

        return self.perform(context, ops, moved)

    def _with_result(self, outcome: Outcome, result: int) -> Outcome:
        if isinstance(outcome, FinalOps):
            outcome.result = result
            return outcome
        if not isinstance(outcome, StubOp):
            return result
        start = outcome.start

        def begin(complete: Callable[[Callable[[], Outcome]], None]) -> None:
            def finished(thunk: Callable[[], Outcome]) -> None:
                def value() -> Outcome:
                    thunk()
                    return result

                complete(value)

            start(finished)

        return StubOp(begin)

    def advise(
        self,
        context: Context,
        ranges: list[tuple[int, int]],
        advice: int,
        error: int,
        unmapped: Sequence[tuple[int, int]] = (),
    ) -> Outcome:
        """Pass one madvise(2) on to the host, for advice that acts on memory; `ranges` are mapped. In the end it fails
        with `error`, if there is one. Before it the host unmaps `unmapped`, where no area is.
        """

        def done(results: list[int]) -> Outcome:
            if results[-1] < 0:
                raise LinuxError(-results[-1])
            if len(ranges) > MAX_RANGES:
                return self.advise(context, ranges[MAX_RANGES:], advice, error)
            if error:
                raise LinuxError(error)
            return 0

        ops = [Op(_NR_MUNMAP, (start, end - start, 0, 0, 0, 0)) for start, end in unmapped]
        ops += [Op(_NR_MADVISE, (start, end - start, advice, 0, 0, 0)) for start, end in ranges[:MAX_RANGES]]
        if error or len(ranges) > MAX_RANGES:
            return self.perform(context, ops, done)
        return FinalOps(ops, 0, done)

    def count_locked(self) -> int:
        """How many pages mlock(2) has locked, without those that were unmapped since; `locked_pages` is that then."""
        self.locked_pages = sum(area.length for area in self.vmas if area.locked) // PAGE
        return self.locked_pages

    def name_area(self, start: int, length: int, name: bytes | None) -> None:
        """PR_SET_VMA_ANON_NAME (prctl(2)) of whole pages. EBADF: mapped from a file; ENOMEM: a hole."""
        end = start + page_up(length)
        if any(area.file is not None or area.reserved for area in self.vmas.overlapping(start, end)):
            raise LinuxError(errno.EBADF)
        if not self.vmas.covered(start, end):
            raise LinuxError(errno.ENOMEM)
        for area in self.vmas.isolate(start, end):
            area.name = b"[anon:%s]" % name if name is not None else b""
        self.vmas.merge_around(start, end)

    # --- questions ---
    def futex_key(self, addr: int) -> tuple[object, int]:
        """Identity of the word at `addr` for shared futexes: (file or memory, offset); private memory: (self, addr)."""
        area = self.vmas.find(addr)
        if area is None:
            raise LinuxError(errno.EFAULT)
        if not area.shared:
            return self, addr
        if area.backing is not None:
            return area.backing.identity, area.offset + addr - area.start
        return area.token, addr

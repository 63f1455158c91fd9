"""The bytes of a file in memory: small ones in a bytearray, others in host memory (memfd_unsafe.py).

Owns contents, length, holes and the pages charged to a quota; knows no inode, time or permission. tmpfs,
memfd_create(2), shared memory and the overlay's upper layer use it. A file moves to host memory when it is mapped,
grows beyond INLINE_LIMIT or gets a large hole, and never moves back.

Page accounting: `pages` is what statfs(2) and st_blocks see. In an inline file `holes` lists the pages never written;
in host memory the host counts, but only while `dense` is false (a dense file has every page up to its end).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Protocol

from services.sentry.errors import LinuxError
from services.sentry.filesystems.tmpfs.memfd_unsafe import HostMemory
from services.sentry.vfs.user_copy import read_some, write_some

if TYPE_CHECKING:
    from services.sentry.mm.address_space import AddressSpace

__all__ = ["INLINE_LIMIT", "MAX_FILE_SIZE", "MemoryData", "NoQuota", "Quota"]

INLINE_LIMIT: Final = 256 * 1024
"""Longest file kept in a bytearray: a host descriptor each would be dear for trees of small files."""
INLINE_HOLE_PAGES: Final = 16
VIEW_LIMIT: Final = 16384
"""Transfers from this size on avoid an intermediate copy; below, a bytes object is cheaper than a view."""
MAX_FILE_SIZE: Final = 0x7FFFFFFFFFFFFFFF
SHIFT: Final = 12
PAGE: Final = 1 << SHIFT
SEEK_DATA: Final = 3


class Quota(Protocol):
    """Where a file's pages are charged."""

    def charge(self, pages: int) -> int:
        """Take up to `pages`; how many were granted."""

    def uncharge(self, pages: int) -> None:
        """Give pages back."""


class NoQuota:
    """Unlimited."""

    __slots__ = ()

    def charge(self, pages: int) -> int:
        return pages

    def uncharge(self, pages: int) -> None:
        """Nothing is counted."""


def _fill(mm: AddressSpace, addr: int, view: memoryview) -> bool:
    """Copy from the guest; False: EFAULT. The exception ends here, so that no traceback keeps the view alive."""
    try:
        mm.read_into(addr, view)
    except LinuxError:
        return False
    return True


def _store(mm: AddressSpace, addr: int, view: memoryview) -> int:
    """Copy to the guest; the count, 0: EFAULT. As with _fill the exception ends here."""
    try:
        return write_some(mm, addr, view)
    except LinuxError:
        return 0


def page_count(size: int) -> int:
    return (size + PAGE - 1) >> SHIFT


class MemoryData:
    """size: length in bytes. pages: charged pages. `buffer` holds the bytes while `host` is None."""

    __slots__ = ("buffer", "dense", "holes", "host", "name", "pages", "quota", "size")

    def __init__(self, quota: Quota, name: str = "tmpfs") -> None:
        self.quota = quota
        self.name = name
        self.size = 0
        self.pages = 0
        self.buffer = bytearray()
        self.holes: set[int] = set()
        self.host: HostMemory | None = None
        self.dense = True

    @property
    def counts_pages(self) -> bool:
        """Whether `pages` is true without asking the host."""
        return self.host is None or (self.dense and not self.host.exact)

    # --- reading ---
    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; b'' at and beyond the end."""
        end = offset + count
        if end > self.size:
            end = self.size
        if offset >= end:
            return b""
        host = self.host
        if host is None:
            with memoryview(self.buffer) as view:
                return bytes(view[offset:end])
        return host.read(offset, end, self.dense)

    def read_to(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        """As `read`, into guest memory. EFAULT: not one byte could be stored."""
        end = offset + count
        if end > self.size:
            end = self.size
        if offset >= end:
            return 0
        host = self.host
        if end - offset < VIEW_LIMIT:
            data = bytes(self.buffer[offset:end]) if host is None else host.read(offset, end, self.dense)
            try:
                mm.write(addr, data)
            except LinuxError:
                return write_some(mm, addr, data)
            return end - offset
        if host is not None and (not self.dense or host.map is None):
            return write_some(mm, addr, host.read(offset, end, False))
        with memoryview(self.buffer if host is None else host.map) as whole, whole[offset:end] as view:  # type: ignore[arg-type]
            stored = _store(mm, addr, view)
        if not stored:
            raise LinuxError(errno.EFAULT)
        return stored

    # --- writing ---
    def write(self, data: bytes | memoryview, offset: int) -> int:
        """Store `data`; the count, less than asked when the quota or the file size limit is met. ENOSPC, EFBIG."""
        count = len(data)
        if not count:
            return 0
        granted = self.make_room(offset, count)
        if granted < count:
            data = memoryview(data)[:granted]
        host = self.host
        if host is None:
            self.buffer[offset : offset + granted] = data
        else:
            host.write(offset, data)
            if not self.dense:
                self.settle()
        return granted

    def write_from(self, mm: AddressSpace, addr: int, count: int, offset: int) -> int:
        """As `write`, from guest memory. EFAULT: not one byte could be read."""
        if count < VIEW_LIMIT:
            try:
                data = mm.read(addr, count)
            except LinuxError:
                data = read_some(mm, addr, count)
            return self.write(data, offset)
        size = self.size
        granted = self.make_room(offset, count)
        host = self.host
        if host is not None and (host.map is None or offset + granted > host.map_length):
            try:
                host.write(offset, mm.read(addr, granted))
                copied = True
            except LinuxError:
                copied = False
        else:
            memory = self.buffer if host is None else host.map
            with memoryview(memory) as whole, whole[offset : offset + granted] as view:  # type: ignore[arg-type]
                copied = _fill(mm, addr, view)
        if not copied:
            if self.size > size:
                self.truncate(size)
            return self.write(read_some(mm, addr, granted), offset)
        if host is not None and not self.dense:
            self.settle()
        return granted

    def make_room(self, offset: int, count: int) -> int:
        """Bytes [offset, offset + result) exist and are charged. ENOSPC: no page is left; EFBIG: beyond the maximum."""
        size = self.size
        end = offset + count
        if end > MAX_FILE_SIZE:
            if offset >= MAX_FILE_SIZE:
                raise LinuxError(errno.EFBIG)
            end = MAX_FILE_SIZE
        have = (size + PAGE - 1) >> SHIFT
        first = offset >> SHIFT
        if end <= size and self.dense and not self.holes:
            return end - offset
        last = (end + PAGE - 1) >> SHIFT
        new = self._new_pages(first, last, have)
        if new:
            granted = self.quota.charge(new)
            self.pages += granted
            if granted < new:
                end = self._fit(offset, end, have, granted)
                last = (end + PAGE - 1) >> SHIFT
        gap = first - have if offset > size else 0
        if self.host is None and (end > INLINE_LIMIT or gap > INLINE_HOLE_PAGES):
            self.to_host()
        host = self.host
        if host is not None:
            if gap > 0:
                self.dense = False
            host.ensure(end)
        else:
            if end > size:
                if offset > size:
                    self.buffer.extend(bytes(offset - size))
                    self.holes.update(range(have, first))
                self.buffer.extend(bytes(end - len(self.buffer)))
            if self.holes:
                self.holes.difference_update(range(first, last))
        if end > size:
            self.size = end
        return end - offset

    def _new_pages(self, first: int, last: int, have: int) -> int:
        """Pages of [first, last) that may have to be allocated; in a sparse host file an upper bound."""
        if self.host is not None and not self.dense:
            return last - first
        new = last - max(first, have) if last > have else 0
        if self.holes:
            new += sum(first <= page < last for page in self.holes)
        return new

    def _fit(self, offset: int, end: int, have: int, granted: int) -> int:
        """The quota granted too little: how far writing gets. ENOSPC: nowhere."""
        page = offset >> SHIFT
        last = (end + PAGE - 1) >> SHIFT
        left = granted
        while page < last:
            if page >= have or page in self.holes or (self.host is not None and not self.dense):
                if not left:
                    break
                left -= 1
            page += 1
        if left:
            self.quota.uncharge(left)
            self.pages -= left
        end = min(end, page << SHIFT)
        if end <= offset:
            raise LinuxError(errno.ENOSPC)
        return end

    # --- length ---
    def truncate(self, size: int) -> None:
        """Set the length: cut, or extend by a hole."""
        old = self.size
        if size == old:
            return
        host = self.host
        have = page_count(old)
        if size < old:
            self.size = size
            keep = page_count(size)
            if host is None:
                del self.buffer[size:]
                gone = have - keep
                if self.holes:
                    lost = {page for page in self.holes if page >= keep}
                    self.holes -= lost
                    gone -= len(lost)
                self._uncharge(gone)
            else:
                host.resize(size)
                if self.dense:
                    self._uncharge(have - keep)
                else:
                    self.settle()
            return
        gap = page_count(size) - have
        if host is None and (size > INLINE_LIMIT or gap > INLINE_HOLE_PAGES):
            self.to_host()
            host = self.host
        if host is None:
            self.buffer.extend(bytes(size - old))
            self.holes.update(range(have, page_count(size)))
        else:
            if gap:
                self.dense = False
            if host.exact or size > host.length:
                host.resize(size)
        self.size = size

    def allocate(self, offset: int, length: int, keep_size: bool) -> None:
        """fallocate(2) mode 0 and KEEP_SIZE: pages of the range are there. ENOSPC (nothing changed)."""
        end = offset + length
        if keep_size:
            end = min(end, max(self.size, offset))
            if end <= offset:
                return
        size = self.size
        if self.make_room(offset, end - offset) < end - offset:
            self.truncate(size)
            raise LinuxError(errno.ENOSPC)
        host = self.host
        if host is not None and not self.dense:
            try:
                host.reserve(offset, end)
            except OSError:
                raise LinuxError(errno.ENOSPC) from None
            self.settle()

    def punch(self, offset: int, length: int) -> None:
        """fallocate(2) PUNCH_HOLE: the range reads as zeros, whole pages in it are freed."""
        have = page_count(self.size)
        end = min(offset + length, have << SHIFT)
        if offset >= end:
            return
        first, last = page_count(offset), end >> SHIFT
        stop = min(end, self.size)
        host = self.host
        if host is None:
            if offset < stop:
                self.buffer[offset:stop] = bytes(stop - offset)
            fresh = {page for page in range(first, last) if page not in self.holes}
            self.holes |= fresh
            self._uncharge(len(fresh))
            return
        for at, upto in ((offset, min(first << SHIFT, stop)), (max(last << SHIFT, offset), stop)):
            if at < upto and (self.dense or self._has_page(at)):
                host.write(at, bytes(upto - at))
        if first < last:
            self.dense = False
            host.ensure(self.size)
            whole = min(last << SHIFT, page_count(host.length) << SHIFT)
            host.punch(first << SHIFT, whole)
        self.settle()

    def _has_page(self, offset: int) -> bool:
        """Whether the page at `offset` of a sparse host file is allocated."""
        assert self.host is not None
        try:
            return self.host.seek(offset, SEEK_DATA) == offset
        except OSError:
            return False

    # --- holes ---
    def seek(self, offset: int, whence: int) -> int:
        """lseek(2) SEEK_DATA (3) and SEEK_HOLE (4). ENXIO: beyond the end, or no data after `offset`."""
        if not 0 <= offset < self.size:
            raise LinuxError(errno.ENXIO)
        host = self.host
        if host is not None and not self.dense:
            try:
                found = host.seek(offset, whence)
            except OSError:
                found = self.size
        elif whence == SEEK_DATA:
            page = offset >> SHIFT
            while page in self.holes:
                page += 1
            found = max(offset, page << SHIFT)
        else:
            later = [page << SHIFT for page in self.holes if page >= offset >> SHIFT]
            found = max(offset, min(later, default=self.size))
        if found >= self.size:
            if whence == SEEK_DATA:
                raise LinuxError(errno.ENXIO)
            return self.size
        return found

    # --- host memory ---
    def to_host(self) -> HostMemory:
        """Move to host memory. ENOSPC: the host gives none."""
        host = self.host
        if host is None:
            try:
                host = HostMemory(self.name)
            except OSError:
                raise LinuxError(errno.ENOSPC) from None
            if self.size:
                host.ensure(self.size)
                if self.holes:
                    for page in range(page_count(self.size)):
                        if page not in self.holes:
                            at = page << SHIFT
                            host.write(at, self.buffer[at : at + PAGE])
                    self.dense = False
                else:
                    host.write(0, self.buffer)
            self.host = host
            self.buffer = bytearray()
            self.holes = set()
        return host

    def export(self) -> int:
        """The host descriptor for mmap(2); its length follows the file's from now on."""
        host = self.to_host()
        host.make_exact(self.size)
        return host.fd

    def settle(self) -> None:
        """Make `pages` what the host counts (sparse or mapped files)."""
        host = self.host
        if host is None or (self.dense and not host.exact):  # as counts_pages says
            return
        now = host.pages()
        if now < self.pages:
            self.quota.uncharge(self.pages - now)
        elif now > self.pages:
            self.quota.charge(now - self.pages)
        self.pages = now

    def release(self) -> None:
        """The file is gone: give everything back."""
        self._uncharge(self.pages)
        self.buffer = bytearray()
        self.holes = set()
        self.host = None
        self.size = 0

    def _uncharge(self, pages: int) -> None:
        if pages:
            self.pages -= pages
            self.quota.uncharge(pages)

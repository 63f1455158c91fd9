"""Guest memory, the one door to it: copies between a guest's address space and the Sentry's own memory.

Everything is copied once into private memory, checked, then used; nothing here keeps a view of guest memory.
Errors: LinuxError(EFAULT) when not all bytes could be copied.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, Final

from platforms._host import ffi, lib
from platforms.systrap.layout import IN_SIZE
from protocol.abi.limits import MAX_RW_COUNT, PATH_MAX
from services.sentry.errors import LinuxError
from services.sentry.mm.vma_set import ADDRESS_END

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any as Buffer

    from platforms.base import AddressSpace, Context

__all__ = ["UserMemory"]

_SCRATCH_SIZE: Final = 1 << 16
_PAGE: Final = 4096
_POINTERS_AT_ONCE: Final = 64
_NEAR: Final = 2048  # bytes: a copy of that many costs no more than one call of the host
CARRIED_MAX: Final = 0x200  # bytes that a slot carries back; more is cheaper copied by the host in one go
_scratch = bytearray(_SCRATCH_SIZE)
_scratch_c = ffi.from_buffer(_scratch)
_scratch_view = memoryview(_scratch)
_vm_read = lib.sentrio_vm_read
_vm_write = lib.sentrio_vm_write
_vm_scatter = lib.sentrio_vm_scatter
_from_buffer = ffi.from_buffer
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_IOVEC: Final = struct.Struct("<QQ")
IOV_MAX: Final = 1024


class UserMemory:
    """Copies to and from the address space whose host process (any of its threads) is `vm_pid`.

    What a patched call site brought along is taken from its slot without a call of the platform: `in_length_i` says how
    much there is, `args_i` of which argument, `in_at` where (platforms/systrap/layout.py).
    """

    __slots__ = (
        "brought",
        "fast",
        "other_high",
        "other_low",
        "pending",
        "pending_addr",
        "space",
        "trapped",
        "window_high",
        "window_low",
    )

    def __init__(self) -> None:
        self.space: AddressSpace | None = None  # the platform's side of it, while there is one
        # The context whose patched call is being served: it carries small copies in its slot.
        self.fast: Context | None = None
        # One whose call trapped, and that carries a copy back all the same. It copies in a signal handler, where a
        # fault would be its end: so only while no other thread can unmap what a window shows.
        self.trapped: Context | None = None
        self.brought = -1  # the second argument of that call, if something came along with it
        self.pending: bytes | None = None  # a write that travels back with the answer,
        self.pending_addr = 0  # and where it goes
        self.window_low = self.window_high = 0  # private memory known to be writable: nothing can fail there
        self.other_low = self.other_high = 0  # the window before: programs write to stack and heap by turns

    def _pid(self) -> int:
        """A process that has this memory. RuntimeError (a bug): the platform has made none yet."""
        space = self.space
        if space is None:
            raise RuntimeError("memory is used that is not there yet")
        return space.vm_pid

    def close_windows(self) -> None:
        """What is mapped, or how, changed."""
        self.window_high = self.other_high = 0

    def _find_window(self, addr: int, count: int) -> bool:
        """As _open_window, but the other window is tried first."""
        low, high = self.other_low, self.other_high
        self.other_low, self.other_high = self.window_low, self.window_high
        if low <= addr and addr + count <= high:
            self.window_low, self.window_high = low, high
            return True
        return self._open_window(addr, count)

    def _open_window(self, addr: int, count: int) -> bool:
        """Whether [addr, addr+count) is plain writable memory; the window is moved there. The address space knows."""
        return False

    def flush(self) -> None:
        """Carry out a write that was to travel with an answer. EFAULT."""
        data, self.pending = self.pending, None
        if data is not None and _vm_write(self._pid(), self.pending_addr, _from_buffer(data), len(data)) != len(data):
            raise LinuxError(errno.EFAULT)

    def read(self, addr: int, count: int) -> bytes:
        """Exactly `count` bytes."""
        fast = self.fast
        if fast is not None:
            if self.pending is not None:
                self.flush()
            if addr == self.brought and 0 < count <= IN_SIZE and fast.u64[fast.in_length_i] == count:
                at = fast.in_at
                return fast.arena_map[at : at + count]  # type: ignore[no-any-return]
        elif self.pending is not None:
            self.flush()
        if count <= _SCRATCH_SIZE:
            if _vm_read(self._pid(), addr, _scratch_c, count) != count:
                if count == 0:
                    return b""
                raise LinuxError(errno.EFAULT)
            return bytes(_scratch_view[:count])
        out = bytearray(count)
        self.read_into(addr, out)
        return bytes(out)

    def read_together(self, pieces: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several (address, count) in one copy when they lie near each other, as arguments on a stack do. EFAULT."""
        low, high = ADDRESS_END, 0
        for addr, count in pieces:
            low = min(low, addr)
            high = max(high, addr + count)
        span = high - low
        if span > _NEAR:
            return [self.read(addr, count) for addr, count in pieces]
        try:
            found = self.read(low, span)
        except LinuxError:  # perhaps a hole between them
            return [self.read(addr, count) for addr, count in pieces]
        return [found[addr - low : addr - low + count] for addr, count in pieces]

    def write_together(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Several (address, data), in order, in one copy. EFAULT, as `write` would in the same order."""
        if len(pieces) == 1:
            self.write(*pieces[0])
            return
        if self.pending is not None:
            self.flush()
        data = iovecs = b""
        for addr, piece in pieces:
            data += piece
            iovecs += _IOVEC.pack(addr, len(piece))
        buffers = _from_buffer(iovecs), len(pieces), _from_buffer(data)
        if _vm_scatter(self._pid(), *buffers, len(data)) != len(data):
            raise LinuxError(errno.EFAULT)

    def write(self, addr: int, data: Buffer) -> None:
        """All of `data`. Writes what it can before the hole, as the kernel's copy_to_user does."""
        if self.fast is not None or self.trapped is not None:
            if self.pending is not None:
                self.flush()
            count = len(data)
            if count <= CARRIED_MAX and (
                (self.window_low <= addr and addr + count <= self.window_high) or self._find_window(addr, count)
            ):
                self.pending_addr = addr
                self.pending = data if type(data) is bytes else bytes(data)
                return
        buffer = _from_buffer(data)
        count = len(buffer)
        if _vm_write(self._pid(), addr, buffer, count) != count and count:
            raise LinuxError(errno.EFAULT)

    def write_some(self, addr: int, data: Buffer) -> int:
        """As much of `data` as can be written: the count. EFAULT: nothing."""
        if self.pending is not None:
            self.flush()
        buffer = _from_buffer(data)
        done = int(_vm_write(self._pid(), addr, buffer, len(buffer)))
        if done < 0:
            raise LinuxError(errno.EFAULT)
        return done

    def read_into(self, addr: int, buffer: Any) -> int:
        """Fill a writable buffer; its length is returned."""
        if self.pending is not None:
            self.flush()
        target = _from_buffer(buffer, require_writable=True)
        count = len(target)
        if _vm_read(self._pid(), addr, target, count) != count and count:
            raise LinuxError(errno.EFAULT)
        return count

    def read_some(self, addr: int, count: int) -> bytes:
        """Up to `count` bytes, fewer at a hole. EFAULT: none."""
        if self.pending is not None:
            self.flush()
        count = min(count, _SCRATCH_SIZE)
        done = _vm_read(self._pid(), addr, _scratch_c, count)
        if done < 0:
            raise LinuxError(errno.EFAULT)
        return bytes(_scratch_view[:done])

    def read_cstring(self, addr: int, limit: int = PATH_MAX) -> bytes:
        """The bytes before a NUL. ENAMETOOLONG: none within `limit` bytes."""
        fast = self.fast
        if fast is not None:
            if self.pending is not None:
                self.flush()
            u64 = fast.u64
            length = u64[fast.in_length_i] if self.brought >= 0 else 0  # with the NUL
            if 0 < length <= IN_SIZE and length <= limit:
                first = fast.args_i
                if u64[first + 1] == addr or u64[first] == addr:
                    if length == 1:
                        return b""
                    at = fast.in_at
                    brought: bytes = fast.arena_map[at : at + length - 1]
                    if 0 not in brought:  # else the guest changed it since
                        return brought
        elif self.pending is not None:
            self.flush()
        out = b""
        pid = self._pid()
        while True:
            # page by page: the next page may not be there, and most strings are short
            chunk = min(limit - len(out), _PAGE - (addr & (_PAGE - 1)))
            if not out and chunk > 256:
                chunk = 256
            if chunk <= 0:
                raise LinuxError(errno.ENAMETOOLONG)
            if _vm_read(pid, addr, _scratch_c, chunk) != chunk:
                raise LinuxError(errno.EFAULT)
            end = _scratch.find(0, 0, chunk)
            if end >= 0:
                return out + bytes(_scratch_view[:end])
            out += bytes(_scratch_view[:chunk])
            addr += chunk

    def read_u32(self, addr: int) -> int:
        if self.fast is not None and addr == self.brought:
            return int.from_bytes(self.read(addr, 4), "little")
        if self.pending is not None:
            self.flush()
        if _vm_read(self._pid(), addr, _scratch_c, 4) != 4:
            raise LinuxError(errno.EFAULT)
        value: int = _U32.unpack_from(_scratch)[0]
        return value

    def read_u64(self, addr: int) -> int:
        if self.fast is not None and addr == self.brought:
            return int.from_bytes(self.read(addr, 8), "little")
        if self.pending is not None:
            self.flush()
        if _vm_read(self._pid(), addr, _scratch_c, 8) != 8:
            raise LinuxError(errno.EFAULT)
        value: int = _U64.unpack_from(_scratch)[0]
        return value

    def write_u32(self, addr: int, value: int) -> None:
        self.write(addr, _U32.pack(value & 0xFFFFFFFF))

    def write_u64(self, addr: int, value: int) -> None:
        self.write(addr, _U64.pack(value & 0xFFFFFFFFFFFFFFFF))

    def read_iovecs(self, addr: int, count: int, *, ours: bool = True) -> list[tuple[int, int]]:
        """`count` struct iovec: (base, length). EINVAL: too many, or a negative length.

        EFAULT: beyond user space, which matters for memory of the caller's own (`ours`), and of a single one only as
        far as a call goes (lib/iov_iter.c, import_iovec).
        """
        if count > IOV_MAX or count < 0:
            raise LinuxError(errno.EINVAL)
        if not count:
            return []
        flat = struct.unpack(f"<{2 * count}Q", self.read(addr, 16 * count))
        vectors = list(zip(flat[::2], flat[1::2], strict=True))
        for base, length in vectors:
            if length > 0x7FFFFFFFFFFFFFFF:
                raise LinuxError(errno.EINVAL)
            end = base + (length if count > 1 else min(length, MAX_RW_COUNT))
            if ours and end > ADDRESS_END:
                raise LinuxError(errno.EFAULT)
        return vectors

    def read_pointers(self, addr: int, limit: int) -> list[int]:
        """A NULL-terminated array of pointers. E2BIG: longer than `limit`."""
        out: list[int] = []
        while len(out) <= limit:
            room = min((_PAGE - (addr & (_PAGE - 1))) // 8 or 1, _POINTERS_AT_ONCE)
            values = struct.unpack(f"<{room}Q", self.read(addr, 8 * room))
            if 0 in values:
                out += values[: values.index(0)]
                return out
            out += values
            addr += 8 * room
        raise LinuxError(errno.E2BIG)

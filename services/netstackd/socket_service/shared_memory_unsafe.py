"""A client's memory mapped here, and who sleeps on a word of it woken, with ctypes: mmap.mmap keeps a descriptor for
every mapping and asks for its file's attributes by name (newfstatat), which a sealed router may not. Source: mmap(2),
fcntl(2) F_GET_SEALS, futex(2).

The file is whatever a client sent. It is mapped only when nobody can shorten it (or this process would die by SIGBUS)
and it is exactly as long as it should be. Only memfds have seals; those of huge pages, which may be without memory when
they are touched, cannot have the length of rings (protocol/rings.py: one page more than two powers of two).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import weakref
from typing import Final

from services.netstackd.errors import NetError

HOST_SYSCALLS: Final = ("fcntl", "futex", "lseek", "mmap", "munmap")

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.mmap.restype = ctypes.c_void_p
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
_SYS_FUTEX: Final = 202
_FUTEX_WAKE: Final = 1  # not private: others sleep there
_FAILED: Final = ctypes.c_void_p(-1).value


def map_untrusted(fd: int, length: int) -> memoryview:
    """All of the memfd, readable and writable, until the last view of it is gone. Keeps no descriptor. NetError: EINVAL
    (not such a file), ENOSPC (no room for another mapping)."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        size = os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        raise NetError(errno.EINVAL, "not a memfd") from None
    if not seals & fcntl.F_SEAL_SHRINK:
        raise NetError(errno.EINVAL, "the memory is not sealed against shrinking")
    if size != length:
        raise NetError(errno.EINVAL, f"the memory has {size} bytes instead of {length}")
    address = _libc.mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    if address is None or address == _FAILED:
        number = ctypes.get_errno()
        raise NetError(errno.ENOSPC if number == errno.ENOMEM else errno.EINVAL, f"mmap: {os.strerror(number)}")
    memory = (ctypes.c_ubyte * length).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, length)
    return memoryview(memory).cast("B")


def address_of(memory: memoryview) -> int:
    """Where it lies, which is writable."""
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(memory))


def wake(address: int) -> None:
    """Wake a thread that sleeps in futex(2) on the word there, if one does."""
    _libc.syscall(_SYS_FUTEX, address, _FUTEX_WAKE, 1)

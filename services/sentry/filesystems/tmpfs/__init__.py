"""tmpfs: a file system in memory (tmpfs(5)). Also what ramfs, memfd_create(2) and shared memory are made of.

Public: `make` (the constructor of filesystems/registry.py), `TmpfsSuperblock`, `TmpfsRegular`, `MemoryData`.
"""

from services.sentry.filesystems.tmpfs.memory_data import MemoryData
from services.sentry.filesystems.tmpfs.regular import TmpfsFile, TmpfsRegular
from services.sentry.filesystems.tmpfs.superblock import TmpfsSuperblock, make, make_memfd

__all__ = ["MemoryData", "TmpfsFile", "TmpfsRegular", "TmpfsSuperblock", "make", "make_memfd"]

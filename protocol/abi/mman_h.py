"""<linux/mman.h>, <asm/mman.h>: mmap, mprotect, mremap, madvise, msync, mlock, memory policies and memfd for x86-64."""

from __future__ import annotations

from typing import Final

# mmap(2), mprotect(2) protection.
PROT_READ: Final[int] = 1
PROT_WRITE: Final[int] = 2
PROT_EXEC: Final[int] = 4
PROT_SEM: Final[int] = 8
PROT_NONE: Final[int] = 0
PROT_GROWSDOWN: Final[int] = 0x1000000
PROT_GROWSUP: Final[int] = 0x2000000

# mmap(2) flags.
MAP_32BIT: Final[int] = 0x40
MAP_TYPE: Final[int] = 0xF
MAP_FIXED: Final[int] = 0x10
MAP_ANONYMOUS: Final[int] = 0x20
MAP_POPULATE: Final[int] = 0x8000
MAP_NONBLOCK: Final[int] = 0x10000
MAP_STACK: Final[int] = 0x20000
MAP_HUGETLB: Final[int] = 0x40000
MAP_SYNC: Final[int] = 0x80000
MAP_FIXED_NOREPLACE: Final[int] = 0x100000
MAP_UNINITIALIZED: Final[int] = 0x4000000
MAP_FILE: Final[int] = 0
MAP_GROWSDOWN: Final[int] = 0x100
MAP_DENYWRITE: Final[int] = 0x800
MAP_EXECUTABLE: Final[int] = 0x1000
MAP_LOCKED: Final[int] = 0x2000
MAP_NORESERVE: Final[int] = 0x4000
MAP_SHARED: Final[int] = 1
MAP_PRIVATE: Final[int] = 2
MAP_SHARED_VALIDATE: Final[int] = 3
MAP_HUGE_SHIFT: Final[int] = 0x1A
MAP_HUGE_MASK: Final[int] = 0x3F
MAP_HUGE_16KB: Final[int] = 0x38000000
MAP_HUGE_64KB: Final[int] = 0x40000000
MAP_HUGE_512KB: Final[int] = 0x4C000000
MAP_HUGE_1MB: Final[int] = 0x50000000
MAP_HUGE_2MB: Final[int] = 0x54000000
MAP_HUGE_8MB: Final[int] = 0x5C000000
MAP_HUGE_16MB: Final[int] = 0x60000000
MAP_HUGE_32MB: Final[int] = 0x64000000
MAP_HUGE_256MB: Final[int] = 0x70000000
MAP_HUGE_512MB: Final[int] = 0x74000000
MAP_HUGE_1GB: Final[int] = 0x78000000
MAP_HUGE_2GB: Final[int] = 0x7C000000
MAP_HUGE_16GB: Final[int] = 0x88000000

# Added in Linux 6.5 for map_shadow_stack(2) and 6.6.
MAP_ABOVE4G: Final[int] = 0x80
SHADOW_STACK_SET_TOKEN: Final[int] = 1

# mremap(2).
MREMAP_MAYMOVE: Final[int] = 1
MREMAP_FIXED: Final[int] = 2
MREMAP_DONTUNMAP: Final[int] = 4

# msync(2).
MS_ASYNC: Final[int] = 1
MS_INVALIDATE: Final[int] = 2
MS_SYNC: Final[int] = 4

# mlockall(2), mlock2(2).
MLOCK_ONFAULT: Final[int] = 1
MCL_CURRENT: Final[int] = 1
MCL_FUTURE: Final[int] = 2
MCL_ONFAULT: Final[int] = 4

# madvise(2).
MADV_NORMAL: Final[int] = 0
MADV_RANDOM: Final[int] = 1
MADV_SEQUENTIAL: Final[int] = 2
MADV_WILLNEED: Final[int] = 3
MADV_DONTNEED: Final[int] = 4
MADV_FREE: Final[int] = 8
MADV_REMOVE: Final[int] = 9
MADV_DONTFORK: Final[int] = 10
MADV_DOFORK: Final[int] = 11
MADV_HWPOISON: Final[int] = 100
MADV_SOFT_OFFLINE: Final[int] = 101
MADV_MERGEABLE: Final[int] = 12
MADV_UNMERGEABLE: Final[int] = 13
MADV_HUGEPAGE: Final[int] = 14
MADV_NOHUGEPAGE: Final[int] = 15
MADV_DONTDUMP: Final[int] = 16
MADV_DODUMP: Final[int] = 17
MADV_WIPEONFORK: Final[int] = 18
MADV_KEEPONFORK: Final[int] = 19
MADV_COLD: Final[int] = 20
MADV_PAGEOUT: Final[int] = 21
MADV_POPULATE_READ: Final[int] = 22
MADV_POPULATE_WRITE: Final[int] = 23
MADV_DONTNEED_LOCKED: Final[int] = 24
MADV_COLLAPSE: Final[int] = 25

# Linux 6.13.
MADV_GUARD_INSTALL: Final[int] = 102
MADV_GUARD_REMOVE: Final[int] = 103

# pkey_alloc(2).
PKEY_DISABLE_ACCESS: Final[int] = 1
PKEY_DISABLE_WRITE: Final[int] = 2
PKEY_ACCESS_MASK: Final[int] = 3

# set_mempolicy(2), mbind(2), get_mempolicy(2).
MPOL_DEFAULT: Final[int] = 0
MPOL_PREFERRED: Final[int] = 1
MPOL_BIND: Final[int] = 2
MPOL_INTERLEAVE: Final[int] = 3
MPOL_LOCAL: Final[int] = 4
MPOL_PREFERRED_MANY: Final[int] = 5
MPOL_F_STATIC_NODES: Final[int] = 32768
MPOL_F_RELATIVE_NODES: Final[int] = 16384
MPOL_F_NUMA_BALANCING: Final[int] = 8192
MPOL_F_NODE: Final[int] = 1
MPOL_F_ADDR: Final[int] = 2
MPOL_F_MEMS_ALLOWED: Final[int] = 4
MPOL_MF_STRICT: Final[int] = 1
MPOL_MF_MOVE: Final[int] = 2
MPOL_MF_MOVE_ALL: Final[int] = 4
MPOL_MF_LAZY: Final[int] = 8
MPOL_MF_INTERNAL: Final[int] = 16
MPOL_MF_VALID: Final[int] = 7
MPOL_F_SHARED: Final[int] = 1
MPOL_F_MOF: Final[int] = 8
MPOL_F_MORON: Final[int] = 16

PAGE_SIZE: Final[int] = 4096
PAGE_SHIFT: Final[int] = 12
PAGE_MASK: Final[int] = ~0xFFF
# The highest user address on x86-64 with four-level tables, exclusive (TASK_SIZE_MAX).
TASK_SIZE: Final[int] = 0x7FFF_FFFF_F000

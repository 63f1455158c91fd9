"""Files about memory: meminfo, vmstat, zoneinfo, buddyinfo, swaps (proc(5)).

The total is the sandbox's; what is in use is estimated from what tasks have mapped. There is no swap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sentry.filesystems.proc.access import mm_of
from services.sentry.filesystems.proc.task.usage import usage_of

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task

__all__ = ["buddyinfo", "free_bytes", "meminfo", "pagetypeinfo", "slabinfo", "swaps", "vmstat", "zoneinfo"]


def _in_use(kernel: Kernel) -> tuple[int, int]:
    """(anonymous, file) bytes of all address spaces, each counted once."""
    anonymous = file = 0
    for mm in {id(task.mm_or_none): mm_of(task) for task in kernel.tasks.values()}.values():
        if mm is None:
            continue
        usage = usage_of(mm)
        anonymous += usage.anonymous
        file += usage.file
    return min(anonymous, kernel.memory_bytes // 2), min(file, kernel.memory_bytes // 4)


def free_bytes(kernel: Kernel) -> int:
    return kernel.memory_bytes - sum(_in_use(kernel))


def meminfo(reader: Task) -> bytes:
    kernel = reader.kernel
    total = kernel.memory_bytes // 1024
    anonymous, file = (part // 1024 for part in _in_use(kernel))
    free = total - anonymous - file
    tables = 4 * len(kernel.groups)
    rows = (
        ("MemTotal", total), ("MemFree", free), ("MemAvailable", free + file), ("Buffers", 0), ("Cached", file),
        ("SwapCached", 0), ("Active", anonymous), ("Inactive", file), ("Active(anon)", anonymous),
        ("Inactive(anon)", 0),
        ("Active(file)", 0), ("Inactive(file)", file), ("Unevictable", 0), ("Mlocked", 0), ("SwapTotal", 0),
        ("SwapFree", 0), ("Zswap", 0), ("Zswapped", 0), ("Dirty", 0), ("Writeback", 0), ("AnonPages", anonymous),
        ("Mapped", file), ("Shmem", 0), ("KReclaimable", 0), ("Slab", 0), ("SReclaimable", 0), ("SUnreclaim", 0),
        ("KernelStack", 16 * len(kernel.tasks)), ("PageTables", tables), ("SecPageTables", 0), ("NFS_Unstable", 0),
        ("Bounce", 0), ("WritebackTmp", 0), ("CommitLimit", total // 2), ("Committed_AS", anonymous),
        ("VmallocTotal", 34359738367), ("VmallocUsed", 0), ("VmallocChunk", 0), ("Percpu", 0), ("AnonHugePages", 0),
        ("ShmemHugePages", 0), ("ShmemPmdMapped", 0), ("FileHugePages", 0), ("FilePmdMapped", 0),
    )  # fmt: skip
    lines = [f"{name + ':':<16}{value:8d} kB" for name, value in rows]
    lines += [f"{'HugePages_' + name + ':':<16}{0:8d}" for name in ("Total", "Free", "Rsvd", "Surp")]
    lines += [f"{'Hugepagesize:':<16}{2048:8d} kB", f"{'Hugetlb:':<16}{0:8d} kB"]
    lines += [f"{'DirectMap4k:':<16}{0:8d} kB", f"{'DirectMap2M:':<16}{total:8d} kB", f"{'DirectMap1G:':<16}{0:8d} kB"]
    return ("\n".join(lines) + "\n").encode()


_VMSTAT_ZERO = (
    "nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file nr_zone_active_file nr_zone_unevictable "
    "nr_zone_write_pending nr_mlock nr_unevictable nr_slab_reclaimable nr_slab_unreclaimable nr_isolated_anon "
    "nr_isolated_file nr_dirty nr_writeback nr_writeback_temp nr_shmem nr_dirtied nr_written nr_page_table_pages "
    "pgpgin pgpgout pswpin pswpout pgalloc_dma pgalloc_dma32 pgalloc_normal allocstall_normal pgfree pgactivate "
    "pgdeactivate pglazyfree pgfault pgmajfault pgrefill pgreuse pgsteal_kswapd pgsteal_direct pgscan_kswapd "
    "pgscan_direct pginodesteal slabs_scanned kswapd_inodesteal pageoutrun drop_pagecache drop_slab oom_kill "
    "numa_pte_updates "
    "pgmigrate_success pgmigrate_fail compact_stall compact_fail compact_success thp_fault_alloc thp_collapse_alloc "
    "thp_split_page swap_ra swap_ra_hit"
).split()


def vmstat(reader: Task) -> bytes:
    kernel = reader.kernel
    anonymous, file = (part // 4096 for part in _in_use(kernel))
    rows = {
        "nr_free_pages": kernel.memory_bytes // 4096 - anonymous - file,
        "nr_inactive_anon": 0,
        "nr_active_anon": anonymous,
        "nr_inactive_file": file,
        "nr_active_file": 0,
        "nr_anon_pages": anonymous,
        "nr_mapped": file,
        "nr_file_pages": file,
        "nr_kernel_stack": 16 * len(kernel.tasks),
    }
    rows.update(dict.fromkeys(_VMSTAT_ZERO, 0))
    return "".join(f"{name} {value}\n" for name, value in rows.items()).encode()


def zoneinfo(reader: Task) -> bytes:
    pages = reader.kernel.memory_bytes // 4096
    free = free_bytes(reader.kernel) // 4096
    mark = max(1, pages // 1024)
    return (
        f"Node 0, zone   Normal\n  pages free     {free}\n        boost    0\n        min      {mark}\n"
        f"        low      {mark * 5 // 4}\n        high     {mark * 3 // 2}\n        spanned  {pages}\n"
        f"        present  {pages}\n        managed  {pages}\n        cma      0\n        protection: (0, 0, 0, 0, 0)\n"
        "  node_unreclaimable:  0\n  start_pfn:           0\n"
    ).encode()


def buddyinfo(reader: Task) -> bytes:
    blocks = free_bytes(reader.kernel) // 4096 >> 10
    return b"Node 0, zone   Normal " + b"".join(b"%6d " % 0 for _ in range(10)) + b"%6d \n" % blocks


def pagetypeinfo(reader: Task) -> bytes:
    return b"Page block order: 9\nPages per block:  512\n\n"


def slabinfo(reader: Task) -> bytes:
    return (
        b"slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : "
        b"tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
    )


def swaps(reader: Task) -> bytes:
    return b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"

"""What stands in sysfs: tables of path -> text for a kernel's number of processors, memory and devices; network
interfaces are in net.py.

Values without a newline get one. Paths are relative to /sys. Sources: Linux Documentation/ABI/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from services.sentry.devices.registry import DEVICES
from services.sentry.filesystems.proc.task.status import cpu_list, cpu_mask

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel

__all__ = ["DIRECTORIES", "files", "symlinks"]

DIRECTORIES: Final = (
    b"block",
    b"bus/cpu/devices",
    b"bus/pci/devices",
    b"bus/usb/devices",
    b"class/block",
    b"class/dmi",
    b"class/hwmon",
    b"class/mem",
    b"class/misc",
    b"class/power_supply",
    b"class/thermal",
    b"class/tty",
    b"dev/block",
    b"dev/char",
    b"devices/platform",
    b"firmware",
    b"fs/cgroup",
    b"fs/fuse/connections",
    b"hypervisor",
    b"kernel/debug",
    b"kernel/security",
    b"kernel/tracing",
    b"module",
    b"power",
)

_THP: Final = b"kernel/mm/transparent_hugepage/"
_CONSTANTS: Final[dict[bytes, bytes]] = {
    b"devices/system/cpu/isolated": b"",
    b"devices/system/cpu/nohz_full": b"",
    b"devices/system/cpu/modalias": b"cpu:type:x86,ven0000fam0006mod0055:feature:",
    b"devices/system/cpu/smt/active": b"0",
    b"devices/system/cpu/smt/control": b"notsupported",
    b"devices/system/clocksource/clocksource0/available_clocksource": b"tsc",
    b"devices/system/clocksource/clocksource0/current_clocksource": b"tsc",
    b"devices/system/node/has_cpu": b"0",
    b"devices/system/node/has_memory": b"0",
    b"devices/system/node/has_normal_memory": b"0",
    b"devices/system/node/online": b"0",
    b"devices/system/node/possible": b"0",
    b"devices/system/node/node0/distance": b"10",
    b"kernel/cpu_byteorder": b"little",
    b"kernel/address_bits": b"64",
    b"kernel/fscaps": b"1",
    b"kernel/kexec_loaded": b"0",
    b"kernel/kexec_crash_loaded": b"0",
    b"kernel/profiling": b"0",
    b"kernel/rcu_expedited": b"0",
    b"kernel/uevent_seqnum": b"0",
    b"kernel/mm/hugepages/hugepages-2048kB/free_hugepages": b"0",
    b"kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": b"0",
    b"kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages": b"0",
    b"kernel/mm/hugepages/hugepages-2048kB/resv_hugepages": b"0",
    b"kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages": b"0",
    b"kernel/mm/ksm/run": b"0",
    b"kernel/mm/lru_gen/enabled": b"0x0000",
    _THP + b"enabled": b"always [madvise] never",
    _THP + b"defrag": b"always defer defer+madvise [madvise] never",
    _THP + b"shmem_enabled": b"always within_size advise [never] deny force",
    _THP + b"use_zero_page": b"1",
    _THP + b"hpage_pmd_size": b"2097152",
    _THP + b"khugepaged/defrag": b"1",
    _THP + b"khugepaged/max_ptes_none": b"511",
    b"power/state": b"",
    b"devices/virtual/tty/tty/dev": b"5:0",
}


def _text(value: object) -> bytes:
    return str(value).encode()


def _processor(number: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """One core per processor, all in one package (Documentation/ABI/stable/sysfs-devices-system-cpu)."""
    everyone = (1 << count) - 1
    own = 1 << number
    base = b"devices/system/cpu/cpu%d/" % number
    topology = base + b"topology/"
    for name, mask in (
        (b"core_cpus", own),
        (b"thread_siblings", own),
        (b"core_siblings", everyone),
        (b"package_cpus", everyone),
        (b"die_cpus", everyone),
        (b"cluster_cpus", own),
    ):
        yield topology + name, _text(cpu_mask(mask))
        yield topology + name + b"_list", _text(cpu_list(mask))
    for name, value in ((b"core_id", number), (b"physical_package_id", 0), (b"die_id", 0), (b"cluster_id", number)):
        yield topology + name, _text(value)
    if number:
        yield base + b"online", b"1"
    for index, (level, kind, size, mask) in enumerate(
        ((1, b"Data", b"32K", own), (1, b"Instruction", b"32K", own), (2, b"Unified", b"1024K", own),
         (3, b"Unified", b"16384K", everyone))
    ):  # fmt: skip
        cache = base + b"cache/index%d/" % index
        yield cache + b"level", _text(level)
        yield cache + b"type", kind
        yield cache + b"size", size
        yield cache + b"id", _text(number if mask == own else 0)
        yield cache + b"coherency_line_size", b"64"
        yield cache + b"ways_of_associativity", b"8"
        yield cache + b"physical_line_partition", b"1"
        yield cache + b"number_of_sets", b"%d" % (int(size[:-1]) * 1024 // 64 // 8)
        yield cache + b"shared_cpu_map", _text(cpu_mask(mask))
        yield cache + b"shared_cpu_list", _text(cpu_list(mask))


def files(kernel: Kernel) -> Iterator[tuple[bytes, bytes]]:
    """Every (path, text), in no particular order; the kernel's facts as they are now."""
    yield from _CONSTANTS.items()
    count = kernel.cpu_count
    everyone = _text(cpu_list((1 << count) - 1))
    for name in (b"online", b"possible", b"present"):
        yield b"devices/system/cpu/" + name, everyone
    yield b"devices/system/cpu/offline", b""
    yield b"devices/system/cpu/kernel_max", _text(max(count - 1, 8191))
    for number in range(count):
        yield from _processor(number, count)
    node = b"devices/system/node/node0/"
    yield node + b"cpulist", everyone
    yield node + b"cpumap", _text(cpu_mask((1 << count) - 1))
    total = kernel.memory_bytes // 1024
    yield node + b"meminfo", b"Node 0 MemTotal:       %8d kB\nNode 0 MemFree:        %8d kB" % (total, total)
    yield node + b"numastat", b"numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0"
    for (major, minor, _), device in DEVICES.items():
        if major == 1:
            yield b"devices/virtual/mem/%b/dev" % device.name, b"%d:%d" % (major, minor)


def symlinks(kernel: Kernel) -> Iterator[tuple[bytes, bytes]]:
    """Every (path, target)."""
    yield b"class/tty/tty", b"../../devices/virtual/tty/tty"
    for number in range(kernel.cpu_count):
        yield b"bus/cpu/devices/cpu%d" % number, b"../../../devices/system/cpu/cpu%d" % number
        yield b"devices/system/node/node0/cpu%d" % number, b"../../cpu/cpu%d" % number
    for (major, minor, _), device in DEVICES.items():
        if major == 1:
            yield b"class/mem/" + device.name, b"../../devices/virtual/mem/" + device.name
            yield b"dev/char/%d:%d" % (major, minor), b"../../devices/virtual/mem/" + device.name

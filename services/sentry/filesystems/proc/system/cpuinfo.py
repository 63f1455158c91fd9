"""/proc/cpuinfo (proc_cpuinfo(5)).

The processor's facts are read from the host before sealing and handed over as `config.cpu_fields`, a mapping from the
host's field names to their text. Only what a program in a guest may rely on is taken over: how many processors there
are and how they are grouped is the sandbox's own, and features that belong to the platform are hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task

__all__ = ["FACTS", "facts_of", "render"]

#: What is said of a processor when the host told nothing: the x86-64 baseline.
FACTS: Final[Mapping[str, str]] = {
    "vendor_id": "GenuineIntel",
    "cpu family": "6",
    "model": "85",
    "model name": "Virtual CPU",
    "stepping": "0",
    "microcode": "0x1",
    "cpu MHz": "2000.000",
    "cache size": "16384 KB",
    "cpuid level": "13",
    "flags": "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht "
    "syscall nx lm constant_tsc rep_good nopl cpuid pni cx16 hypervisor lahf_lm",
    "bugs": "",
    "bogomips": "4000.00",
    "clflush size": "64",
    "cache_alignment": "64",
    "address sizes": "46 bits physical, 48 bits virtual",
    "power management": "",
}
#: GS belongs to the platform: who looks for the instructions that set it must not find them.
HIDDEN_FLAGS: Final = frozenset({"fsgsbase"})
_ORDER: Final = (
    "vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "cpu MHz", "cache size", "physical id",
    "siblings", "core id", "cpu cores", "apicid", "initial apicid", "fpu", "fpu_exception", "cpuid level", "wp",
    "flags", "bugs", "bogomips", "TLB size", "clflush size", "cache_alignment", "address sizes", "power management",
)  # fmt: skip
_TABS: Final = {name: max(1, 2 - len(name) // 8) for name in _ORDER} | {"power management": 0}


def facts_of(kernel: Kernel) -> dict[str, str]:
    """The facts in force: the defaults with what the configuration knows."""
    known = dict(getattr(kernel.config, "cpu_fields", None) or {})
    found = {**FACTS, **{name: text for name, text in known.items() if name in FACTS or name == "TLB size"}}
    found["flags"] = " ".join(flag for flag in found["flags"].split() if flag not in HIDDEN_FLAGS)
    return found


def render(reader: Task) -> bytes:
    kernel = reader.kernel
    facts = facts_of(kernel)
    facts.setdefault("TLB size", "")
    count = kernel.cpu_count
    blocks = []
    for number in range(count):
        place = {
            "physical id": "0",
            "siblings": str(count),
            "core id": str(number),
            "cpu cores": str(count),
            "apicid": str(number),
            "initial apicid": str(number),
            "fpu": "yes",
            "fpu_exception": "yes",
            "wp": "yes",
        }
        values = {**facts, **place}
        lines = [f"processor\t: {number}"]
        for name in _ORDER:
            value = values[name]
            if name == "TLB size" and not value:
                continue
            tabs = "\t" * _TABS[name]
            lines.append(f"{name}{tabs}: {value}" if value else f"{name}{tabs}:" + (" " if name == "bugs" else ""))
        blocks.append("\n".join(lines) + "\n\n")
    return "".join(blocks).encode()

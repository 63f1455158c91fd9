"""/proc/PID/status (proc_pid_status(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.sentry.filesystems.proc.access import files_of, fs_of, mm_of
from services.sentry.filesystems.proc.task.stat_ import signal_sets, state_letter
from services.sentry.filesystems.proc.task.usage import usage_of

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["cpu_list", "cpu_mask", "escape_comm", "render"]

_STATES: Final = {
    "R": "R (running)",
    "S": "S (sleeping)",
    "D": "D (disk sleep)",
    "T": "T (stopped)",
    "t": "t (tracing stop)",
    "Z": "Z (zombie)",
    "X": "X (dead)",
}


def cpu_mask(mask: int) -> str:
    """A set of processors in hexadecimal, in groups of 32 bits."""
    groups = []
    while mask > 0xFFFFFFFF:
        groups.append(f"{mask & 0xFFFFFFFF:08x}")
        mask >>= 32
    return ",".join([f"{mask:x}", *reversed(groups)])


def cpu_list(mask: int) -> str:
    """A set of processors as ranges: 0-3,5."""
    ranges: list[str] = []
    number = 0
    while mask >> number:
        if mask >> number & 1:
            first = number
            while mask >> (number + 1) & 1:
                number += 1
            ranges.append(f"{first}-{number}" if number > first else str(first))
        number += 1
    return ",".join(ranges)


def escape_comm(comm: bytes) -> str:
    return comm.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").decode("utf-8", "surrogateescape")


def render(reader: Task, target: Task) -> bytes:
    group, cred = target.group, target.cred
    letter = state_letter(target)
    seat = fs_of(target)
    lines = [
        f"Name:\t{escape_comm(target.comm)}",
        f"Umask:\t{seat.umask:04o}" if seat is not None else "Umask:\t0022",
        f"State:\t{_STATES.get(letter, letter)}",
        f"Tgid:\t{group.pid}",
        "Ngid:\t0",
        f"Pid:\t{target.tid}",
        f"PPid:\t{group.parent.pid if group.parent is not None else 0}",
        "TracerPid:\t0",
        f"Uid:\t{cred.ruid}\t{cred.euid}\t{cred.suid}\t{cred.fsuid}",
        f"Gid:\t{cred.rgid}\t{cred.egid}\t{cred.sgid}\t{cred.fsgid}",
        f"FDSize:\t{_fd_size(target)}",
        "Groups:\t" + "".join(f"{gid} " for gid in cred.groups) + ("" if cred.groups else " "),
        f"NStgid:\t{group.pid}",
        f"NSpid:\t{target.tid}",
        f"NSpgid:\t{group.process_group.id if group.process_group is not None else 0}",
        f"NSsid:\t{group.session.id}",
        "Kthread:\t0",
    ]
    lines += _memory(target)
    lines += _signals_and_capabilities(target)
    mask = target.affinity
    lines += [
        "Speculation_Store_Bypass:\tvulnerable",
        "SpeculationIndirectBranch:\talways enabled",
        f"Cpus_allowed:\t{cpu_mask(mask)}",
        f"Cpus_allowed_list:\t{cpu_list(mask)}",
        "Mems_allowed:\t00000000,00000001",
        "Mems_allowed_list:\t0",
        f"voluntary_ctxt_switches:\t{target.voluntary_switches()}",
        "nonvoluntary_ctxt_switches:\t0",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _fd_size(target: Task) -> int:
    """Slots allocated: a power of two, at least 64."""
    files = files_of(target)
    highest = max(files.files, default=0) if files is not None else 0
    return max(64, 1 << highest.bit_length())


def _memory(target: Task) -> list[str]:
    mm = mm_of(target)
    if mm is None:
        return []
    usage = usage_of(mm)
    rows = (
        ("VmPeak", usage.size), ("VmSize", usage.size), ("VmLck", mm.count_locked() * 4096), ("VmPin", 0),
        ("VmHWM", usage.resident), ("VmRSS", usage.resident), ("RssAnon", usage.anonymous), ("RssFile", usage.file),
        ("RssShmem", 0), ("VmData", usage.data), ("VmStk", usage.stack), ("VmExe", usage.text),
        ("VmLib", usage.library), ("VmPTE", 32768 + usage.size // 512), ("VmSwap", 0), ("HugetlbPages", 0),
    )  # fmt: skip
    lines = [f"{name}:\t{value // 1024:8d} kB" for name, value in rows]
    return [*lines, "CoreDumping:\t0", "THP_enabled:\t1", "untag_mask:\t0xffffffffffffffff"]


def _signals_and_capabilities(target: Task) -> list[str]:
    group, cred = target.group, target.cred
    pending, blocked, ignored, caught = signal_sets(target)
    queued = target.kernel.queued_signals.get(cred.ruid, 0)
    limit = group.rlimits[11][0]  # RLIMIT_SIGPENDING
    masks = (
        ("SigPnd", pending), ("ShdPnd", group.shared_pending.signals), ("SigBlk", blocked), ("SigIgn", ignored),
        ("SigCgt", caught), ("CapInh", cred.cap_inheritable), ("CapPrm", cred.cap_permitted),
        ("CapEff", cred.cap_effective), ("CapBnd", cred.cap_bounding), ("CapAmb", cred.cap_ambient),
    )  # fmt: skip
    seccomp = getattr(target, "seccomp_mode", 0)
    return [
        f"Threads:\t{len(group.tasks)}",
        f"SigQ:\t{queued}/{limit}",
        *(f"{name}:\t{mask:016x}" for name, mask in masks),
        f"NoNewPrivs:\t{int(target.no_new_privs)}",
        f"Seccomp:\t{seccomp}",
        f"Seccomp_filters:\t{len(getattr(target, 'seccomp_filters', ()))}",
    ]

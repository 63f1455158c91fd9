"""What this host offers, found out by trying (ctypes, child processes); nothing on the host changes.

Owns: `Finding`, `PROBES`, `examine`. Each probe is one function that returns a finding; `level` says what follows when
it is missing: "required" (nothing runs), "stronger" (the sandbox is confined less) or "optional".
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.supervisor.errors import reason
from services.supervisor.launch.host_calls_unsafe import HostCalls
from services.supervisor.launch.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)

HOST_SYSCALLS: Final = ("clone", "seccomp", "landlock_create_ruleset", "pidfd_open", "pidfd_getfd", "process_vm_readv")

_NR_SECCOMP: Final = 317 if platform.machine() == "x86_64" else 277
_NR_PIDFD_GETFD: Final = 438
_NR_LANDLOCK_CREATE_RULESET: Final = 444
_NR_OPENAT2: Final = 437
_SECCOMP_GET_ACTION_AVAIL: Final = 2
_SECCOMP_RET_USER_NOTIF: Final = 0x7FC00000
_SECCOMP_RET_TRAP: Final = 0x00030000
_AT_HWCAP2: Final = 26
_HWCAP2_FSGSBASE: Final = 1 << 1
_LANDLOCK_VERSION: Final = 1
_MINIMUM_KERNEL: Final = (5, 14)


@dataclass(slots=True, frozen=True)
class Finding:
    """One answer. detail: what was found. hint: how to get it, for what is missing."""

    name: str
    level: str
    present: bool
    detail: str
    hint: str = ""


def examine() -> list[Finding]:
    """Run every probe; one that breaks is a finding too."""
    findings = []
    for name, level, probe in PROBES:
        try:
            present, detail, hint = probe()
        except OSError as error:
            present, detail, hint = False, reason(error), ""
        findings.append(Finding(name, level, present, detail, "" if present else hint))
    return findings


Answer = tuple[bool, str, str]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _kernel() -> Answer:
    release = os.uname().release
    numbers = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in release.split(".")[:2])
    wanted = ".".join(map(str, _MINIMUM_KERNEL))
    return numbers >= _MINIMUM_KERNEL, release, f"Linux {wanted} or newer"


def _machine() -> Answer:
    machine = os.uname().machine
    return machine == "x86_64", machine, "an x86-64 machine"


def _seccomp_action(action: int) -> bool:
    wanted = ctypes.c_uint32(action)
    return bool(_libc().syscall(_NR_SECCOMP, _SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(wanted)) == 0)


def _seccomp_filter() -> Answer:
    present = _seccomp_action(_SECCOMP_RET_TRAP)
    return present, "filters can be installed" if present else "refused", "a kernel with CONFIG_SECCOMP_FILTER"


def _user_notification() -> Answer:
    present = _seccomp_action(_SECCOMP_RET_USER_NOTIF)
    hint = "Linux 5.0 or newer, and a container runtime that allows seccomp(2); --platform ptrace works without"
    return present, "available" if present else "refused", hint


def _pidfd() -> Answer:
    try:
        fd = os.pidfd_open(os.getpid())
    except OSError as error:
        return False, reason(error), "Linux 5.3 or newer"
    os.close(fd)
    return True, "available", ""


def _pidfd_getfd() -> Answer:
    fd = os.pidfd_open(os.getpid())
    try:
        got = int(_libc().syscall(_NR_PIDFD_GETFD, fd, fd, 0))
        if got >= 0:
            os.close(got)
        return (
            got >= 0,
            "available" if got >= 0 else os.strerror(ctypes.get_errno()).lower(),
            "not needed where refused",
        )
    finally:
        os.close(fd)


def _process_memory() -> Answer:
    class IoVector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    source, target = ctypes.create_string_buffer(b"x", 1), ctypes.create_string_buffer(1)
    local = IoVector(ctypes.addressof(target), 1)
    remote = IoVector(ctypes.addressof(source), 1)
    read = _libc().process_vm_readv(os.getpid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    return read == 1, "available" if read == 1 else "refused", "a container runtime that allows process_vm_readv(2)"


def _openat2() -> Answer:
    how = (ctypes.c_uint64 * 3)(os.O_PATH, 0, 0)
    fd = int(_libc().syscall(_NR_OPENAT2, -100, b"/", how, 24))
    if fd >= 0:
        os.close(fd)
    return fd >= 0, "available" if fd >= 0 else "refused", "Linux 5.6 or newer"


def _clone(flags: int) -> bool:
    try:
        pid = HostCalls().clone(flags)
    except OSError:
        return False
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


def _namespaces() -> Answer:
    wanted = {"mount": CLONE_NEWNS, "pid": CLONE_NEWPID, "net": CLONE_NEWNET, "ipc": CLONE_NEWIPC, "uts": CLONE_NEWUTS}
    base = 0 if os.geteuid() == 0 and _clone(CLONE_NEWNS) else CLONE_NEWUSER
    refused = [name for name, flag in wanted.items() if not _clone(base | flag)]
    detail = "mount, pid, net, ipc, uts" + (" through user namespaces" if base else "")
    return not refused, detail if not refused else "refused: " + ", ".join(refused), _user_namespace_hint()


def _user_namespaces() -> Answer:
    return _clone(CLONE_NEWUSER), "available" if _clone(CLONE_NEWUSER) else "refused", _user_namespace_hint()


def _user_namespace_hint() -> str:
    for path, bad in (
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/user/max_user_namespaces", "0"),
    ):
        try:
            with open(path) as file:
                if file.read().strip() == bad:
                    good = {"0": "1", "1": "0"}[bad] if "max" not in path else "10000"
                    return f"as root: sysctl -w {path.removeprefix('/proc/sys/').replace('/', '.')}={good}"
        except OSError:
            continue
    return "run outside a container, or in one whose seccomp profile allows unshare and clone with namespaces"


def _landlock() -> Answer:
    version = int(_libc().syscall(_NR_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION))
    hint = "Linux 5.13 or newer with landlock in the lsm= kernel parameter"
    return version > 0, f"ABI {version}" if version > 0 else "refused", hint


def _fsgsbase() -> Answer:
    getauxval = _libc().getauxval
    getauxval.restype = ctypes.c_ulong
    present = bool(getauxval(ctypes.c_ulong(_AT_HWCAP2)) & _HWCAP2_FSGSBASE)
    return present, "available" if present else "missing", "Linux 5.9 or newer on a processor since 2012"


def _kvm() -> Answer:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return False, reason(error), "for --platform kvm only: a machine with virtualization, and rights to /dev/kvm"
    return True, "/dev/kvm opens", ""


def _ptrace() -> Answer:
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:
            scope = int(file.read())
    except OSError:
        scope = 0
    return scope < 3, f"Yama scope {scope}", "for --platform ptrace: sysctl -w kernel.yama.ptrace_scope=1"


def _module(name: str) -> Callable[[], Answer]:
    def probe() -> Answer:
        import importlib

        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError) as error:
            return False, str(error).split("\n")[0][:120], "install the package again: pip install ."
        return True, "imports", ""

    return probe


PROBES: Final[tuple[tuple[str, str, Callable[[], Answer]], ...]] = (
    ("machine", "required", _machine),
    ("kernel", "required", _kernel),
    ("seccomp filters", "required", _seccomp_filter),
    ("seccomp user notification", "required", _user_notification),
    ("FSGSBASE", "required", _fsgsbase),
    ("process_vm_readv", "required", _process_memory),
    ("openat2", "required", _openat2),
    ("pyseccomp", "required", _module("pyseccomp")),
    ("compiled parts", "required", _module("platforms._host")),
    ("namespaces", "stronger", _namespaces),
    ("user namespaces", "stronger", _user_namespaces),
    ("Landlock", "stronger", _landlock),
    ("pidfd", "stronger", _pidfd),
    ("pidfd_getfd", "optional", _pidfd_getfd),
    ("ptrace", "optional", _ptrace),
    ("KVM", "optional", _kvm),
)

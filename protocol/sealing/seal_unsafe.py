"""Giving up privileges for good: no_new_privs, capabilities, fds, core dumps, and a seccomp allowlist.

Call order: everything the service will ever need is imported and open; then `seal(rows, keep_fds=...)`, which never
undoes anything and raises `SealError` when any step fails (the service must then exit, not serve). `Seal` says what
was done.

The filter is built by libseccomp through pyseccomp. Building takes well under a millisecond, but importing pyseccomp
costs about 25 ms (it searches for its libraries by running ldconfig), so it is imported only in `compile_filter`, and
`cached_filter` keeps the finished BPF program in a file: installing a program needs neither library. A cached program
is only trusted when the file and its directory belong to us (or root) and nobody else may write them.
Sources: seccomp(2), prctl(2), capabilities(7), close_range(2), capset(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Final

from protocol.records import record
from protocol.sealing.rows import Row, canonical_text

HOST_SYSCALLS: Final = ("prctl", "capset", "capget", "close_range", "prlimit64", "seccomp", "memfd_create")

KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000

_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_SETPCAP: Final = 8
_MAX_CAPABILITIES: Final = 64
_BPF_INSTRUCTION_BYTES: Final = 8
_MAX_BPF_INSTRUCTIONS: Final = 4096  # BPF_MAXINSNS

_NUMBERS: Final = {
    "x86_64": {"seccomp": 317, "capset": 126, "capget": 125, "close_range": 436},
    "aarch64": {"seccomp": 277, "capset": 91, "capget": 90, "close_range": 436},
}[os.uname().machine]


class SealError(Exception):
    """A step of the seal was refused: what, and why. The process is in between and must end."""


def errno_action(number: int) -> int:
    """The default action that refuses with an errno instead of killing: for tests."""
    return _ERRNO | (number & 0xFFF)


@record(frozen=True)
class Seal:
    """What a seal came to. `capabilities`: those still held; `warnings`: what the host did not let us do."""

    calls: int
    capabilities: frozenset[int]
    landlock_abi: int
    warnings: tuple[str, ...]


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.syscall.argtypes = [ctypes.c_long] * 5
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    return libc


def _check(result: int, what: str) -> int:
    if result < 0:
        raise SealError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def compile_filter(rows: Sequence[Row], default_action: int = KILL_PROCESS) -> bytes:
    """The BPF program that allows `rows` and answers all else, and every foreign architecture, with `default_action`.

    A name this kernel's or libseccomp's tables do not know is left out: what cannot be called need not be allowed;
    numbers that are newer than libseccomp are known here. Raises SealError.
    """
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as error:
        raise SealError(f"pyseccomp: {error}") from None
    try:
        program = pyseccomp.SyscallFilter(default_action)
        program.set_attr(pyseccomp.Attr.ACT_BADARCH, default_action)
        for row in rows:
            number = _call_number(row.name)
            if number < 0:
                continue
            args = [pyseccomp.Arg(a.index, int(a.compare), *_datum(a.value, a.mask, a.compare == 7)) for a in row.args]
            program.add_rule(pyseccomp.ALLOW, number, *args)
        fd = os.memfd_create("bpf")
        with os.fdopen(fd, "w+b") as file:
            program.export_bpf(file)
            file.seek(0)
            return file.read()
    except OSError as error:
        raise SealError(f"filter: {error.strerror}") from None


def _datum(value: int, mask: int, masked: bool) -> tuple[int, int]:
    """libseccomp's two operands: for MASKED_EQ the mask comes first."""
    return (mask, value) if masked else (value, 0)


# calls newer than the libseccomp of current distributions; same number on every architecture
_NEW_CALLS: Final = {
    "fchmodat2": 452,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
}


def _call_number(name: str) -> int:
    import pyseccomp

    number = _NEW_CALLS.get(name)
    return number if number is not None else int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))


def cache_directory() -> str | None:
    """Where this user keeps finished filters: /var/cache/sentrio for root, else $XDG_CACHE_HOME/sentrio; None: nowhere.

    It only saves time: 15 ms of each service's start. A directory of somebody else's is not trusted (`cached_filter`).
    """
    if os.geteuid() == 0:
        return "/var/cache/sentrio"
    above = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME", ""), ".cache")
    return os.path.join(above, "sentrio") if os.path.isabs(above) else None


def cached_filter(rows: Sequence[Row], directory: str | None, default_action: int = KILL_PROCESS) -> bytes:
    """compile_filter, kept in `directory` (made with mode 0700). One that cannot be used is not an error."""
    if directory is None:
        return compile_filter(rows, default_action)
    text = f"{os.uname().machine} {default_action:x} v1\n{canonical_text(rows)}"
    path = os.path.join(directory, _digest(text.encode()) + ".bpf")
    found = _trusted_program(directory, path)
    if found is not None:
        return found
    program = compile_filter(rows, default_action)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(program)
        os.rename(temporary, path)
    except OSError:
        pass
    return program


def _digest(data: bytes) -> str:
    """SHA-256, by the interpreter's own module: hashlib loads OpenSSL, 5 ms."""
    for name in ("_sha256", "_sha2"):  # before and from Python 3.12
        try:
            return str(import_module(name).sha256(data).hexdigest())
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _trusted_program(directory: str, path: str) -> bytes | None:
    """The cached program, when nobody but us or root can have put it there."""
    try:
        above = os.lstat(directory)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        st = os.fstat(fd)
        owners = (0, os.geteuid())
        for item in (above, st):
            if item.st_uid not in owners or item.st_mode & 0o022:
                return None
        if not stat.S_ISREG(st.st_mode) or not stat.S_ISDIR(above.st_mode):
            return None
        program = file.read(_MAX_BPF_INSTRUCTIONS * _BPF_INSTRUCTION_BYTES + 1)
    whole = 0 < len(program) <= _MAX_BPF_INSTRUCTIONS * _BPF_INSTRUCTION_BYTES
    return program if whole and len(program) % _BPF_INSTRUCTION_BYTES == 0 else None


def install_program(program: bytes) -> None:
    """Put a BPF program on every thread of this process, for good; needs no_new_privs. Raises SealError."""

    class SockFprog(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = SockFprog(len(program) // _BPF_INSTRUCTION_BYTES, ctypes.addressof(buffer))
    libc = _libc()
    flags = _SECCOMP_FILTER_FLAG_TSYNC
    number = _NUMBERS["seccomp"]
    _check(libc.syscall(number, _SECCOMP_SET_MODE_FILTER, flags, ctypes.addressof(fprog), 0), "seccomp")


def close_fds_except(keep: Collection[int]) -> None:
    """Close every fd but `keep`. close_range(2)."""
    libc = _libc()
    first = 0
    for fd in [*sorted(set(keep)), 0x7FFFFFFF]:
        if fd > first:
            _check(libc.syscall(_NUMBERS["close_range"], first, fd - 1, 0, 0), "close_range")
        first = fd + 1


def set_no_new_privs() -> None:
    """prctl(2), PR_SET_NO_NEW_PRIVS."""
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def set_dumpable(dumpable: bool) -> None:
    """prctl(2), PR_SET_DUMPABLE: whether others of our user may read our memory."""
    _check(_libc().prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0), "dumpable")


def drop_capabilities(keep: Collection[int] = ()) -> frozenset[int]:
    """Keep at most `keep` of the permitted capabilities, none inheritable or ambient; the bounding set shrinks
    likewise.

    The bounding set can only be shrunk with CAP_SETPCAP; without it no_new_privs serves the same end. Returns what is
    held.
    """
    libc = _libc()
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice: low and high 32 bits
    _check(libc.syscall(_NUMBERS["capget"], ctypes.addressof(header), ctypes.addressof(data), 0, 0), "capget")
    permitted = data[1] | data[4] << 32
    if (data[0] | data[3] << 32) & 1 << _CAP_SETPCAP:
        for number in range(_MAX_CAPABILITIES):
            present = libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)
            if present < 0:
                break
            if present and number not in keep:
                _check(libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), "bounding set")
    if libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 and ctypes.get_errno() != errno.EINVAL:
        raise SealError(f"ambient capabilities: {os.strerror(ctypes.get_errno())}")
    kept = permitted & sum(1 << number for number in set(keep))
    low, high = kept & 0xFFFFFFFF, kept >> 32
    data[:] = [low, low, 0, high, high, 0]
    _check(libc.syscall(_NUMBERS["capset"], ctypes.addressof(header), ctypes.addressof(data), 0, 0), "capset")
    return frozenset(number for number in range(_MAX_CAPABILITIES) if kept >> number & 1)


def seal(
    rows: Sequence[Row],
    *,
    keep_fds: Collection[int],
    keep_capabilities: Collection[int] = (),
    dumpable: bool = False,
    landlock: Sequence[tuple[int, bool]] | None = None,
    default_action: int = KILL_PROCESS,
    program: bytes | None = None,
) -> Seal:
    """Give up everything but `rows`, `keep_fds` and `keep_capabilities`, in that sense for good.

    `landlock`: (directory fd, writable) of all that may still be reached by path, None to leave Landlock out (an empty
    sequence forbids every path). `dumpable`: leave the process readable by its own user's debuggers (a process that
    reads its children's memory does not need it; one that must be read does). `program`: a finished filter for `rows`
    (`compile_filter`, `cached_filter`), else it is built here. Raises SealError when any step is refused.
    """
    if program is None:
        program = compile_filter(rows, default_action)
    warnings: list[str] = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    set_no_new_privs()
    close_fds_except(keep_fds)
    abi = 0
    if landlock is not None:
        from protocol.sealing import landlock_unsafe

        abi = landlock_unsafe.restrict(landlock)
        if not abi:
            warnings.append("landlock: this kernel has none, paths are confined by openat2 alone")
    held = drop_capabilities(keep_capabilities)
    set_dumpable(dumpable)
    install_program(program)
    return Seal(len({row.name for row in rows}), held, abi, tuple(warnings))

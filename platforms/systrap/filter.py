"""The guests' seccomp filter: raw BPF that decides by the address of the system-call instruction.

Outside the stub's text every call, whatever its architecture or ABI, is RET_TRAP: SIGSYS, and so an event for the
Sentry. Inside, each known instruction may do its one thing; anything else kills the process. What changes an address
space or makes a process is RET_USER_NOTIF: it goes on only when the Sentry finds it equal to what it posted (`_judge`
of the platform).

A few changes of an address space are let through by their arguments alone (`is_direct`), for a notification costs more
than the change itself, five times over in a virtual machine: new anonymous private memory, private mappings of a file
that was handed in, unmapping, taking write permission away, MADV_DONTNEED and MADV_FREE, each only at an address of the
caller's choice outside the stub's range and the vDSO. A guest that jumps to such an instruction changes its own memory
behind the Sentry's back; it reaches no other memory, no file but one that it maps for reading, or mapped in its last
call (`SystrapContext.kept`), and nothing it could not have had by asking, except that its own RLIMIT_AS and RLIMIT_DATA
are not counted for it. What gives access (handing in a file, sharing one, a move) is never let through; except that
in one place of the stub a little memory may be made writable again. That is no more than the guest has a right to, for
what may only be read is never mapped so that a write would reach others (`AddressSpace.map_op`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from platforms.systrap import layout
from platforms.systrap.image import Image

__all__ = ["HOST_CALLS", "is_direct", "program"]

HOST_CALLS: Final = {
    # what a guest process may ever do on the host, and why
    "futex": "sleep until the Sentry answers, or a ring has something to read (FUTEX_WAIT, nothing else)",
    "sched_yield": "let another thread run while the answer is awaited: no arguments, changes nothing",
    "write": "ring the doorbell (8 bytes to that one eventfd)",
    "rt_sigreturn": "leave a signal handler: sets only the thread's own registers",
    "exit": "end a thread whose task ended",
    "close": "drop a host file after it was mapped; never the doorbell or the arena",
    "mmap": "anonymous memory, and files handed in privately, outside stub and vDSO; else as posted, checked",
    "munmap": "outside stub and vDSO; else as posted, checked against the post",
    "mprotect": "taking write permission away outside stub and vDSO, and giving it to at most 64 KiB there; else as "
    "posted, checked against the post",
    "mremap": "as posted by the Sentry, checked against the post",
    "madvise": "DONTNEED and FREE outside stub and vDSO; else as posted, checked against the post",
    "clone": "as posted by the Sentry, checked against the post; all arguments in registers",
}

_NR: Final = {"futex": 202, "write": 1, "rt_sigreturn": 15, "exit": 60, "close": 3, "clone": 56, "mmap": 9}
_SCHED_YIELD: Final = 24
_AUDIT_ARCH_X86_64: Final = 0xC000003E
_KILL: Final = 0x80000000
_TRAP: Final = 0x00030000
_NOTIFY: Final = 0x7FC00000
_ALLOW: Final = 0x7FFF0000
_LD_W_ABS, _JEQ_K, _JGE_K, _JSET_K, _RET_K, _TAX, _ADD_X = 0x20, 0x15, 0x35, 0x45, 0x06, 0x07, 0x0C
_SUB_K, _LSH_K, _RSH_K, _OR_X = 0x14, 0x64, 0x74, 0x4C
_MMAP, _MUNMAP, _MPROTECT, _MREMAP, _MADVISE = 9, 11, 10, 25, 28
_MAP_SHARED: Final = 1  # also of MAP_SHARED_VALIDATE
_MAP_FIXED: Final = 0x10
_MAP_ANONYMOUS: Final = 0x20
_MAP_GROWSDOWN: Final = 0x100
_READ_WRITE: Final = 3
_PROT_WRITE_OR_ODD: Final = 0xFFFFFFFF & ~5  # anything but PROT_READ and PROT_EXEC
_DIRECT_ADVICE: Final = (4, 8)  # MADV_DONTNEED, MADV_FREE
_STUB_HIGH: Final = layout.STUB_BASE >> 32  # the stub's whole range has this high half
_LENGTH_HIGH_END: Final = 0x8000
# offsets in struct seccomp_data
_OFF_NR, _OFF_ARCH, _OFF_IP, _OFF_ARGS = 0, 4, 8, 16


class _Assembler:
    """Straight-line BPF with forward labels."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int | str, int | str, int]] = []
        self.labels: dict[str, int] = {}

    def load(self, offset: int) -> None:
        self.code.append((_LD_W_ABS, 0, 0, offset))

    def unless_equal(self, value: int, target: str) -> None:
        """Jump to `target` unless the accumulator is `value`."""
        self.code.append((_JEQ_K, 0, target, value & 0xFFFFFFFF))

    def if_equal(self, value: int, target: str) -> None:
        self.code.append((_JEQ_K, target, 0, value & 0xFFFFFFFF))

    def unless_at_least(self, value: int, target: str) -> None:
        self.code.append((_JGE_K, 0, target, value & 0xFFFFFFFF))

    def if_at_least(self, value: int, target: str) -> None:
        self.code.append((_JGE_K, target, 0, value & 0xFFFFFFFF))

    def if_any_bit(self, bits: int, target: str) -> None:
        self.code.append((_JSET_K, target, 0, bits & 0xFFFFFFFF))

    def unless_any_bit(self, bits: int, target: str) -> None:
        self.code.append((_JSET_K, 0, target, bits & 0xFFFFFFFF))

    def calculate(self, op: int, value: int) -> None:
        """Accumulator = accumulator `op` value."""
        self.code.append((op, 0, 0, value & 0xFFFFFFFF))

    def keep(self) -> None:
        """X = accumulator."""
        self.code.append((_TAX, 0, 0, 0))

    def with_kept(self, op: int) -> None:
        """Accumulator = accumulator `op` X."""
        self.code.append((op, 0, 0, 0))

    def add_loaded(self, offset: int) -> None:
        """Accumulator = word at `offset` + accumulator."""
        self.keep()
        self.load(offset)
        self.with_kept(_ADD_X)

    def jump(self, target: str) -> None:
        """Always to `target`, which must be near."""
        self.code.append((_JGE_K, target, target, 0))

    def give(self, action: int) -> None:
        self.code.append((_RET_K, 0, 0, action))

    def label(self, name: str) -> None:
        self.labels[name] = len(self.code)

    def bytes(self) -> bytes:
        out = bytearray()
        for at, (op, yes, no, k) in enumerate(self.code):
            jt = self.labels[yes] - at - 1 if isinstance(yes, str) else yes
            jf = self.labels[no] - at - 1 if isinstance(no, str) else no
            out += struct.pack("<HBBI", op, jt, jf, k)
        return bytes(out)


def is_direct(nr: int, args: Sequence[int], vdso: tuple[int, int]) -> bool:
    """Whether the filter lets this operation through without asking: the same rules as in `program`.

    `vdso`: where vDSO and vvar lie, start and end.
    """
    if nr == _MMAP:
        handed_in = 0 <= (args[4] & 0xFFFFFFFF) - layout.DONATED_FD < layout.DONATED_FDS
        wanted = args[3] & (_MAP_FIXED | _MAP_GROWSDOWN | _MAP_SHARED) == _MAP_FIXED and (
            bool(args[3] & _MAP_ANONYMOUS) or handed_in
        )
    elif nr == _MPROTECT:
        wanted = not args[2] & _PROT_WRITE_OR_ODD
    elif nr == _MADVISE:
        wanted = args[2] & 0xFFFFFFFF in _DIRECT_ADVICE
    else:
        wanted = nr == _MUNMAP
    if not wanted or args[1] >> 32 >= _LENGTH_HIGH_END:
        return False
    high, length_high = args[0] >> 32, args[1] >> 32
    if high <= _STUB_HIGH:
        return high + length_high < _STUB_HIGH - 2
    start, end = vdso
    if high > (end - 1) >> 32 or high + length_high < (start >> 32) - 1:
        return True
    if length_high:
        return False
    return args[0] >> 12 >= end >> 12 or (args[0] >> 12) + ((args[1] - 1 & 0xFFFFFFFF) >> 12) < start >> 12


def program(image: Image, vdso: tuple[int, int]) -> bytes:
    """The filter for this stub image, as an array of struct sock_filter. `vdso`: as in `is_direct`."""
    asm = _Assembler()
    asm.load(_OFF_ARCH)
    asm.unless_equal(_AUDIT_ARCH_X86_64, "trap")
    asm.load(_OFF_IP + 4)
    asm.unless_equal(layout.STUB_BASE >> 32, "trap")
    asm.load(_OFF_IP)
    asm.if_at_least((image.text_end & 0xFFFFFFFF) + 1, "trap")
    # the low half of STUB_BASE is 0, so everything below text_end is the stub
    sites = [
        (image.take_frame_ip, "trap"),
        (image.futex_ip, "futex"),
        (image.ring_wait_ip, "futex"),
        (image.ring_ip, "ring"),
        (image.yield_ip, "yield"),
        (image.sigreturn_ip, "sigreturn"),
        (image.op_ip, "op"),
        (image.map_ip, "local mmap"),
        (image.unmap_ip, "local munmap"),
        (image.map_undo_ip, "local munmap"),
        (image.advise_ip, "local madvise"),
        (image.keep_ip, "local mprotect"),
        (image.give_ip, "give"),
        (image.clone_ip, "clone"),
        (image.child_region_ip, "mmap"),
        (image.hello_ip, "mmap"),
        (image.close_ip, "close"),
        (image.exit_ip, "exit"),
        (image.sigreturn_ask_ip, "trap"),
        (image.recycle_ip, "mmap"),
        (image.recycled_ip, "mmap"),
        (image.wipe_low_ip, "wipe low"),
        (image.wipe_middle_ip, "wipe middle"),
        (image.wipe_high_ip, "wipe high"),
        (image.recycle_close_ip, "close"),
    ]
    for ip, target in sites:
        asm.if_equal(ip & 0xFFFFFFFF, target)
    asm.give(_KILL)

    def only(label: str, numbers: tuple[int, ...], action: str) -> None:
        asm.label(label)
        asm.load(_OFF_NR)
        for nr in numbers:
            asm.if_equal(nr, action)
        asm.give(_KILL)

    only("sigreturn", (_NR["rt_sigreturn"],), "allow")
    asm.label("op")
    asm.load(_OFF_NR)
    asm.if_equal(_MUNMAP, "op range")
    asm.if_equal(_MMAP, "op mmap")
    asm.if_equal(_MPROTECT, "op mprotect")
    asm.if_equal(_MADVISE, "op madvise")
    asm.if_equal(_MREMAP, "notify")
    asm.give(_KILL)
    only("local madvise", (_MADVISE,), "op madvise")
    only("local munmap", (_MUNMAP,), "op range")
    only("local mprotect", (_MPROTECT,), "op mprotect")
    only("local mmap", (_MMAP,), "op mmap")
    asm.label("op mmap")
    asm.load(_OFF_ARGS + 3 * 8)
    asm.unless_any_bit(_MAP_FIXED, "notify")  # the host could place it in a gap of the stub's range,
    asm.if_any_bit(_MAP_GROWSDOWN, "notify")  # or have it grow there
    asm.if_any_bit(_MAP_SHARED, "notify")  # the Sentry knows what may be others' memory too
    asm.if_any_bit(_MAP_ANONYMOUS, "op range")
    asm.load(_OFF_ARGS + 4 * 8)
    asm.unless_at_least(layout.DONATED_FD, "notify")
    asm.if_at_least(layout.DONATED_FD + layout.DONATED_FDS, "notify")
    asm.jump("op range")
    asm.label("op mprotect")
    asm.load(_OFF_ARGS + 2 * 8)
    asm.if_any_bit(_PROT_WRITE_OR_ODD, "notify")
    asm.jump("op range")
    only("give", (_MPROTECT,), "give access")
    asm.label("give access")  # to little, and above all that the stub itself has
    asm.load(_OFF_ARGS + 2 * 8)
    asm.unless_equal(_READ_WRITE, "notify")
    asm.load(_OFF_ARGS + 8 + 4)
    asm.unless_equal(0, "notify")
    asm.load(_OFF_ARGS + 8)
    asm.if_at_least(layout.MAP_KEPT_MAX + 1, "notify")
    asm.load(_OFF_ARGS + 4)
    asm.if_at_least(layout.FILE_WINDOWS_END >> 32, "above")
    asm.give(_NOTIFY)
    asm.label("op madvise")
    asm.load(_OFF_ARGS + 2 * 8)
    for advice in _DIRECT_ADVICE:
        asm.if_equal(advice, "op range")
    asm.give(_NOTIFY)
    asm.label("op range")  # wholly above the stub, or wholly below it
    asm.load(_OFF_ARGS + 8 + 4)
    asm.if_at_least(_LENGTH_HIGH_END, "notify")
    asm.load(_OFF_ARGS + 4)
    asm.if_at_least(_STUB_HIGH + 1, "above")
    asm.add_loaded(_OFF_ARGS + 8 + 4)
    asm.if_at_least(_STUB_HIGH - 2, "notify")
    asm.give(_ALLOW)
    asm.label("above")  # and not on vvar and vDSO: by the high half, or else by the page, counted from `base`
    start, end = vdso
    base = (start >> 32) - 1
    asm.if_at_least(((end - 1) >> 32) + 1, "allow")
    asm.add_loaded(_OFF_ARGS + 8 + 4)
    asm.unless_at_least(base, "allow")
    asm.load(_OFF_ARGS + 8 + 4)
    asm.unless_equal(0, "notify")
    asm.load(_OFF_ARGS + 4)
    asm.calculate(_SUB_K, base)
    asm.calculate(_LSH_K, 20)
    asm.keep()
    asm.load(_OFF_ARGS)
    asm.calculate(_RSH_K, 12)
    asm.with_kept(_OR_X)
    asm.if_at_least((end >> 12) - (base << 20), "allow")
    asm.keep()
    asm.load(_OFF_ARGS + 8)
    asm.calculate(_SUB_K, 1)
    asm.calculate(_RSH_K, 12)
    asm.with_kept(_ADD_X)
    asm.if_at_least((start >> 12) - (base << 20), "notify")
    asm.give(_ALLOW)
    only("clone", (_NR["clone"],), "notify")
    only("mmap", (_NR["mmap"],), "notify")
    for label, low, high in (
        ("wipe low", 0, layout.STUB_BASE),
        ("wipe middle", layout.STUB_END, start),
        ("wipe high", end, layout.USER_END),
    ):
        asm.label(label)  # this very call (stub/recycle.S)
        asm.load(_OFF_NR)
        asm.unless_equal(_MUNMAP, "wrong " + label)
        for offset, word in ((0, low), (4, low >> 32), (8, high - low), (12, high - low >> 32)):
            asm.load(_OFF_ARGS + offset)
            asm.unless_equal(word, "wrong " + label)
        asm.give(_ALLOW)
        asm.label("wrong " + label)
        asm.give(_KILL)
    asm.label("close")
    asm.load(_OFF_ARGS)
    for number in (layout.DOORBELL_FD, layout.ARENA_FD):
        asm.if_equal(number, "kill")
    only("close a file", (_NR["close"],), "allow")
    only("exit", (_NR["exit"],), "allow")
    only("yield", (_SCHED_YIELD,), "allow")
    asm.label("futex")
    asm.load(_OFF_NR)
    asm.unless_equal(_NR["futex"], "kill")
    asm.load(_OFF_ARGS + 8)
    asm.if_equal(0, "allow")  # FUTEX_WAIT
    asm.give(_KILL)
    asm.label("ring")
    asm.load(_OFF_NR)
    asm.unless_equal(_NR["write"], "kill")
    asm.load(_OFF_ARGS)
    asm.unless_equal(layout.DOORBELL_FD, "kill")
    asm.load(_OFF_ARGS + 16)
    asm.if_equal(8, "allow")
    asm.label("kill")
    asm.give(_KILL)
    asm.label("trap")
    asm.give(_TRAP)
    asm.label("notify")
    asm.give(_NOTIFY)
    asm.label("allow")
    asm.give(_ALLOW)
    return asm.bytes()

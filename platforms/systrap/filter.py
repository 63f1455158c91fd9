"""The guests' seccomp filter: raw BPF that decides by the address of the system-call instruction.

Outside the stub's text every call, whatever its architecture or ABI, is RET_TRAP: SIGSYS, and so an event for the Sentry.
Inside, each known instruction may do its one thing; anything else kills the process. What changes an address space or makes
a process is RET_USER_NOTIF: it goes on only when the Sentry finds it equal to what it posted (notifications.py).
"""

from __future__ import annotations

import struct
from typing import Final

from platforms.systrap import layout
from platforms.systrap.image import Image

__all__ = ["HOST_CALLS", "program"]

HOST_CALLS: Final = {
    # what a guest process may ever do on the host, and why
    "futex": "sleep until the Sentry answers (FUTEX_WAIT on the slot, nothing else)",
    "write": "ring the doorbell (8 bytes to that one eventfd)",
    "rt_sigreturn": "leave a signal handler: sets only the thread's own registers",
    "exit": "end a thread whose task ended",
    "close": "drop a host file after it was mapped",
    "mmap": "as posted by the Sentry, checked against the post",
    "munmap": "as posted by the Sentry, checked against the post",
    "mprotect": "as posted by the Sentry, checked against the post",
    "mremap": "as posted by the Sentry, checked against the post",
    "madvise": "as posted by the Sentry, checked against the post",
    "clone": "as posted by the Sentry, checked against the post; all arguments in registers",
}

_NR: Final = {"futex": 202, "write": 1, "rt_sigreturn": 15, "exit": 60, "close": 3, "clone": 56, "mmap": 9}
_OPS: Final = (9, 11, 10, 25, 28)  # mmap munmap mprotect mremap madvise
_AUDIT_ARCH_X86_64: Final = 0xC000003E
_KILL: Final = 0x80000000
_TRAP: Final = 0x00030000
_NOTIFY: Final = 0x7FC00000
_ALLOW: Final = 0x7FFF0000
_LD_W_ABS, _JEQ_K, _JGE_K, _RET_K = 0x20, 0x15, 0x35, 0x06
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


def program(image: Image) -> bytes:
    """The filter for this stub image, as an array of struct sock_filter."""
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
        (image.ring_ip, "ring"),
        (image.sigreturn_ip, "sigreturn"),
        (image.op_ip, "op"),
        (image.clone_ip, "clone"),
        (image.child_header_ip, "mmap"),
        (image.child_slots_ip, "mmap"),
        (image.hello_ip, "mmap"),
        (image.close_ip, "close"),
        (image.exit_ip, "exit"),
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
    only("op", _OPS, "notify")
    only("clone", (_NR["clone"],), "notify")
    only("mmap", (_NR["mmap"],), "notify")
    only("close", (_NR["close"],), "allow")
    only("exit", (_NR["exit"],), "allow")
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

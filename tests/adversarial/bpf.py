"""A small interpreter of classic BPF as seccomp runs it (kernel/seccomp.c, seccomp_check_filter): what a filter really
does.

Pure. `run(program, data)` gives the action for one call; `Data` is struct seccomp_data. An instruction that seccomp
would not accept, or a jump out of the program, raises ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

ALLOW: Final = 0x7FFF0000
NOTIFY: Final = 0x7FC00000
TRAP: Final = 0x00030000
KILL_PROCESS: Final = 0x80000000
X86_64: Final = 0xC000003E
I386: Final = 0x40000003
_MASK: Final = 0xFFFFFFFF


class Data(NamedTuple):
    nr: int
    arch: int
    ip: int
    args: Sequence[int] = (0, 0, 0, 0, 0, 0)

    def pack(self) -> bytes:
        return struct.pack("<IIQ6Q", self.nr & _MASK, self.arch, self.ip, *self.args)


def decode(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("<HBBI", program))


def run(code: Sequence[tuple[int, int, int, int]], packed: bytes) -> int:
    a = x = at = 0
    memory = [0] * 16
    while True:
        if at >= len(code):
            raise ValueError("ran off the end")
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:  # ld w abs
            if k % 4 or k + 4 > len(packed):
                raise ValueError(f"load at {k}")
            a = int.from_bytes(packed[k : k + 4], "little")
        elif op == 0x06:  # ret k
            return k
        elif op == 0x16:  # ret a
            return a
        elif op == 0x05:  # ja
            at += k
        elif op == 0x15:
            at += yes if a == k else no
        elif op == 0x25:
            at += yes if a > k else no
        elif op == 0x35:
            at += yes if a >= k else no
        elif op == 0x45:
            at += yes if a & k else no
        elif op == 0x54:
            a &= k
        elif op == 0x04:
            a = (a + k) & _MASK
        elif op == 0x0C:
            a = (a + x) & _MASK
        elif op == 0x14:
            a = (a - k) & _MASK
        elif op == 0x4C:
            a |= x
        elif op == 0x64:
            a = (a << k) & _MASK
        elif op == 0x74:
            a >>= k
        elif op == 0x07:
            x = a
        elif op == 0x87:
            a = x
        elif op == 0x02:
            memory[k] = a
        elif op == 0x60:
            a = memory[k]
        else:
            raise ValueError(f"instruction {op:#x}")

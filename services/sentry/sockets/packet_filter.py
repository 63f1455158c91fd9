"""Classic BPF programs, as SO_ATTACH_FILTER brings them (socket(7), Documentation/networking/filter.rst in Linux).

`checked_untrusted` accepts what Linux accepts: known instructions, jumps that go forward and stay inside, scratch
memory that was written before it is read, a return at the end. So a program ends after at most its own length, and
`run` cannot fail: a load beyond the packet is a return of 0.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

from services.sentry.errors import LinuxError

__all__ = ["INSTRUCTION_BYTES", "MAX_INSTRUCTIONS", "Instruction", "PacketView", "checked_untrusted", "run"]

#: struct sock_filter: code, jump if true, jump if false, k.
Instruction = tuple[int, int, int, int]

_INSTRUCTION: Final = struct.Struct("<HBBI")
INSTRUCTION_BYTES: Final = _INSTRUCTION.size
MAX_INSTRUCTIONS: Final = 4096
_MEMORY_WORDS: Final = 16
_U32: Final = 0xFFFFFFFF

# Classes, and what they are made of (linux/bpf_common.h).
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_SIZES: Final = {0x00: 4, 0x08: 2, 0x10: 1}
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_X: Final = 0x08
_ADD, _SUB, _MUL, _DIV, _OR, _AND, _LSH, _RSH, _NEG, _MOD, _XOR = range(0, 0xB0, 0x10)
_JA, _JEQ, _JGT, _JGE, _JSET = range(0, 0x50, 0x10)
_A: Final = 0x10
_TAX, _TXA = 0x00, 0x80
#: Offsets that mean something else than bytes of the packet (linux/filter.h SKF_*), as u32.
_ANCILLARY: Final = 0xFFFFF000
_NETWORK: Final = 0xFFF00000
_LINK: Final = 0xFFE00000
_ANCILLARY_OFFSETS: Final = range(0, 64, 4)
_ALL_WORDS: Final = (1 << _MEMORY_WORDS) - 1

_LOADS: Final = frozenset(
    {_LD | size | mode for size in _SIZES for mode in (_ABS, _IND)}
    | {_LD | _IMM, _LD | _MEM, _LD | _LEN, _LDX | _IMM, _LDX | _MEM, _LDX | _LEN, _LDX | _MSH | 0x10}
)
_CODES: Final = (
    _LOADS
    | {_ST, _STX, _RET, _RET | _X, _RET | _A, _MISC | _TAX, _MISC | _TXA, _JMP | _JA, _ALU | _NEG}
    | {
        _ALU | operation | source
        for operation in (_ADD, _SUB, _MUL, _DIV, _OR, _AND, _LSH, _RSH, _MOD, _XOR)
        for source in (0, _X)
    }
    | {_JMP | operation | source for operation in (_JEQ, _JGT, _JGE, _JSET) for source in (0, _X)}
)


class PacketView:
    """What a program looks at. network: where the network header is in `data`; the rest are its ancillary values."""

    __slots__ = ("data", "hardware", "interface", "kind", "network", "protocol")

    def __init__(
        self,
        data: bytes,
        network: int = 0,
        protocol: int = 0,
        kind: int = 0,
        interface: int = 0,
        hardware: int = 0,
    ) -> None:
        self.data = data
        self.network = network
        self.protocol = protocol
        self.kind = kind
        self.interface = interface
        self.hardware = hardware


def checked_untrusted(raw: bytes) -> tuple[Instruction, ...]:
    """An array of struct sock_filter. EINVAL: Linux would not take it (bpf_check_classic)."""
    program = tuple(_INSTRUCTION.iter_unpack(raw))
    count = len(program)
    if not 1 <= count <= MAX_INSTRUCTIONS or program[-1][0] not in (_RET, _RET | _X, _RET | _A):
        raise LinuxError(errno.EINVAL)
    for at, (code, if_true, if_false, k) in enumerate(program):
        if code not in _CODES:
            raise LinuxError(errno.EINVAL)
        if code in (_ALU | _DIV, _ALU | _MOD) and not k:
            raise LinuxError(errno.EINVAL)
        if code in (_ALU | _LSH, _ALU | _RSH) and k >= 32:
            raise LinuxError(errno.EINVAL)
        if code in (_ST, _STX, _LD | _MEM, _LDX | _MEM) and k >= _MEMORY_WORDS:
            raise LinuxError(errno.EINVAL)
        if code & 7 == _JMP:
            farthest = k if code == _JMP | _JA else max(if_true, if_false)
            if at + 1 + farthest >= count:
                raise LinuxError(errno.EINVAL)
        if code & 7 == _LD and code & 0xE0 == _ABS and k >= _ANCILLARY and k - _ANCILLARY not in _ANCILLARY_OFFSETS:
            raise LinuxError(errno.EINVAL)
    _check_memory(program)
    return program


def _check_memory(program: tuple[Instruction, ...]) -> None:
    """EINVAL: a word of scratch memory is read that some way there did not write (check_load_and_stores)."""
    arriving = [_ALL_WORDS] * len(program)  # what is written on every jump to an instruction
    written = 0
    for at, (code, if_true, if_false, k) in enumerate(program):
        written &= arriving[at]
        if code in (_ST, _STX):
            written |= 1 << k
        elif code in (_LD | _MEM, _LDX | _MEM):
            if not written >> k & 1:
                raise LinuxError(errno.EINVAL)
        elif code & 7 == _JMP:
            for target in (k,) if code == _JMP | _JA else (if_true, if_false):
                arriving[at + 1 + target] &= written
            written = _ALL_WORDS


def _known(view: PacketView, offset: int) -> int:
    """An ancillary value; 0 for those that are not known here."""
    return {0: view.protocol, 4: view.kind, 8: view.interface, 28: view.hardware}.get(offset - _ANCILLARY, 0)


def _load(view: PacketView, offset: int, size: int) -> int:
    """A number of the packet; -1: it ends before."""
    if offset >= _NETWORK:
        offset += view.network - _NETWORK
    elif offset >= _LINK:
        offset -= _LINK
    part = view.data[offset : offset + size]
    return int.from_bytes(part, "big") if len(part) == size else -1


def _compute(operation: int, a: int, b: int) -> int:
    """One arithmetic operation; -1: division by zero."""
    if operation == _ADD:
        return a + b & _U32
    if operation == _SUB:
        return a - b & _U32
    if operation == _MUL:
        return a * b & _U32
    if operation == _AND:
        return a & b
    if operation == _OR:
        return a | b
    if operation == _XOR:
        return a ^ b
    if operation in (_DIV, _MOD):
        if not b:
            return -1
        return a // b if operation == _DIV else a % b
    if b >= 32:
        return 0
    return a << b & _U32 if operation == _LSH else a >> b


def _holds(operation: int, a: int, b: int) -> bool:
    if operation == _JEQ:
        return a == b
    if operation == _JGT:
        return a > b
    if operation == _JGE:
        return a >= b
    return bool(a & b)


def run(program: tuple[Instruction, ...], view: PacketView) -> int:
    """How many bytes of the packet are wanted; 0: it is not."""
    a = x = at = 0
    memory = [0] * _MEMORY_WORDS
    while True:
        code, if_true, if_false, k = program[at]
        at += 1
        kind = code & 7
        if kind == _JMP:
            if code == _JMP | _JA:
                at += k
            else:
                at += if_true if _holds(code & 0xF0, a, x if code & _X else k) else if_false
        elif kind == _LD:
            mode = code & 0xE0
            if mode == _ABS and k >= _ANCILLARY:
                a = _known(view, k)
            elif mode in (_ABS, _IND):
                a = _load(view, (k + x) & _U32 if mode == _IND else k, _SIZES[code & 0x18])
                if a < 0:
                    return 0
            else:
                a = k if mode == _IMM else memory[k] if mode == _MEM else len(view.data)
        elif kind == _ALU:
            a = -a & _U32 if code & 0xF0 == _NEG else _compute(code & 0xF0, a, x if code & _X else k)
            if a < 0:
                return 0
        elif kind == _LDX:
            mode = code & 0xE0
            if mode == _MSH:
                x = _load(view, k, 1)
                if x < 0:
                    return 0
                x = (x & 15) * 4
            else:
                x = k if mode == _IMM else memory[k] if mode == _MEM else len(view.data)
        elif kind == _RET:
            return a if code & 0x18 == _A else x if code & 0x18 == _X else k
        elif kind == _ST:
            memory[k] = a
        elif kind == _STX:
            memory[k] = x
        elif code == _MISC | _TAX:
            x = a
        else:
            a = x

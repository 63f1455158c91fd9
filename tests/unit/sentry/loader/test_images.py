"""ELF images and initial stacks: what is to be mapped and zeroed, and what a program finds below its stack's top."""

from __future__ import annotations

import errno
import struct

import pytest

from services.sentry.errors import LinuxError
from services.sentry.loader import elf, initial_stack

PAGE = 4096
LOAD, STACK = 1, 0x6474E551


def image(*headers: tuple[int, int, int, int, int, int, int], kind: int = 3) -> elf.ElfImage:
    """Program headers as (type, flags, offset, vaddr, file size, memory size, alignment)."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, kind, 62, 1, 0x1234, 64, 0, 0, 64, 56, len(headers), 0, 0, 0)
    table = b"".join(struct.pack("<IIQQQQQQ", t, f, off, va, va, fs, ms, al) for t, f, off, va, fs, ms, al in headers)
    assert elf.headers_needed(head) == (64, len(table))
    return elf.parse_untrusted(head, table, 1 << 20)


def test_segments_become_whole_pages_of_the_file_and_zeros_behind_them() -> None:
    made = image(
        (LOAD, 5, 0, 0, 0x1234, 0x1234, PAGE),
        (LOAD, 6, 0x1DC0, 0x2DC0, 0x300, 0x5000, PAGE),
        (STACK, 7, 0, 0, 0, 0, 16),
    )
    assert (made.low, made.high, made.align, made.fixed, made.executable_stack) == (0, 0x8000, PAGE, False, True)
    assert made.mappings == [
        (0, 0x2000, 5, 0),
        (0x2000, 0x2000, 3, 0x1000),  # the file's pages reach to 0x30c0
        (0x4000, 0x4000, 3, -1),
    ]
    assert made.zeroed == [(0x30C0, 0xF40)]
    assert (made.phdr_vaddr, made.phdr_count, made.entry) == (64, 3, 0x1234)


def test_segment_that_ends_with_its_page_or_has_no_file_is_not_zeroed_by_hand() -> None:
    made = image((LOAD, 6, 0, 0x10000, PAGE, PAGE + 1, PAGE), (LOAD, 6, 0, 0x20000, 0, 100, 0x10000), kind=2)
    assert made.fixed
    assert made.mappings == [(0x10000, PAGE, 3, 0), (0x11000, PAGE, 3, -1), (0x20000, PAGE, 3, -1)]
    assert made.zeroed == []
    assert (made.low, made.high, made.align) == (0x10000, 0x21000, 0x10000)


def test_read_only_segment_keeps_what_the_file_has_behind_it() -> None:
    made = image((LOAD, 4, 0, 0, 100, 200, PAGE))
    assert made.mappings == [(0, PAGE, 1, 0)]
    assert made.zeroed == []


def test_alignment_that_is_no_power_of_two_counts_for_nothing() -> None:
    assert image((LOAD, 4, 0, 0, 100, 100, 0x3000)).align == PAGE


def test_image_without_segments_is_enoexec() -> None:
    with pytest.raises(LinuxError) as caught:
        image((STACK, 6, 0, 0, 0, 0, 16))
    assert caught.value.errno == errno.ENOEXEC


@pytest.mark.parametrize("argv", ([], [b"one"], [b"", b"two", b""]))
@pytest.mark.parametrize("envp", ([], [b"A=1", b"", b"B=" + bytes(range(1, 200))]))
def test_stack_holds_strings_pointers_and_vector(argv: list[bytes], envp: list[bytes]) -> None:
    top = 0x7FFF_0000_0000
    made = initial_stack.build(top, argv, envp, b"/bin/it", bytes(range(16)), [(6, 4096), (33, 7)])
    assert made.sp % 16 == 0
    assert made.sp + len(made.data) == top

    def word(addr: int) -> int:
        return int(struct.unpack_from("<Q", made.data, addr - made.sp)[0])

    def string(addr: int) -> bytes:
        at = addr - made.sp
        return made.data[at : made.data.index(b"\0", at)]

    assert word(made.sp) == len(argv)
    at = made.sp + 8
    for wanted in (argv, envp):
        assert [string(word(at + 8 * k)) for k in range(len(wanted))] == wanted
        assert word(at + 8 * len(wanted)) == 0
        at += 8 * len(wanted) + 8
    vector = {}
    while word(at):
        vector[word(at)] = word(at + 8)
        at += 16
    assert made.auxv == made.data[at + 16 - made.sp - len(made.auxv) : at + 16 - made.sp]
    assert list(vector) == [6, 33, 25, 31, 15]
    assert (vector[6], vector[33], string(vector[31]), string(vector[15])) == (4096, 7, b"/bin/it", b"x86_64")
    assert made.data[vector[25] - made.sp :][:16] == bytes(range(16))
    assert made.data[made.arg_start - made.sp : made.arg_end - made.sp] == b"".join(a + b"\0" for a in argv)
    assert made.data[made.env_start - made.sp : made.env_end - made.sp] == b"".join(e + b"\0" for e in envp)

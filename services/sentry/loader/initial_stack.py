"""The initial stack of a program: strings, argv, envp and the auxiliary vector (x86-64 psABI). Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from protocol.records import record

__all__ = ["StackImage", "build"]


@record
class StackImage:
    """`data` goes to `sp`; the rest is what /proc/PID shows."""

    sp: int
    data: bytes
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int
    auxv: bytes


def build(
    top: int,
    argv: Sequence[bytes],
    envp: Sequence[bytes],
    exec_name: bytes,
    random: bytes,
    auxv: Sequence[tuple[int, int]],
    platform: bytes = b"x86_64",
) -> StackImage:
    """The stack below `top` (16-aligned). AT_RANDOM, AT_EXECFN and AT_PLATFORM are added to `auxv` here."""
    at = top - 8
    strings: list[bytes] = [bytes(8)]

    def push(data: bytes) -> int:
        nonlocal at
        at -= len(data)
        strings.append(data)
        return at

    exec_at = push(exec_name + b"\0")
    env_end = at
    env_at = [push(item + b"\0") for item in reversed(envp)][::-1]
    env_start = at
    arg_end = at
    arg_at = [push(item + b"\0") for item in reversed(argv)][::-1]
    arg_start = at
    platform_at = push(platform + b"\0")
    push(bytes(at & 15))
    random_at = push(random)
    pairs = [*auxv, (25, random_at), (31, exec_at), (15, platform_at), (0, 0)]
    vector = struct.pack(f"<{2 * len(pairs)}Q", *[value for pair in pairs for value in pair])
    words = [len(argv), *arg_at, 0, *env_at, 0]
    block = struct.pack(f"<{len(words)}Q", *words) + vector
    push(bytes((at - len(block)) & 15))
    sp = push(block)
    data = b"".join(reversed(strings))
    return StackImage(sp, data, arg_start, arg_end, env_start, env_end, vector)

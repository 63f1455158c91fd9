"""The initial stack of a program: strings, argv, envp and the auxiliary vector (x86-64 psABI). Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, chain

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
    args, environment = b"\0".join((*argv, b"")), b"\0".join((*envp, b""))  # each string with its NUL
    exec_at = env_end = top - 8 - len(exec_name) - 1
    env_start = arg_end = env_end - len(environment)
    arg_start = arg_end - len(args)
    platform_at = arg_start - len(platform) - 1
    random_at = (platform_at & ~15) - len(random)
    pairs = [*auxv, (25, random_at), (31, exec_at), (15, platform_at), (0, 0)]
    words = [len(argv), *_addresses(arg_start, argv), 0, *_addresses(env_start, envp), 0, *chain.from_iterable(pairs)]
    block = struct.pack(f"<{len(words)}Q", *words)
    sp = random_at - len(block) & ~15
    below = block + bytes(random_at - sp - len(block)) + random + bytes(platform_at - random_at - len(random))
    data = below + platform + b"\0" + args + environment + exec_name + bytes(1 + 8)
    return StackImage(sp, data, arg_start, arg_end, env_start, env_end, block[-16 * len(pairs) :])


def _addresses(at: int, strings: Sequence[bytes]) -> list[int]:
    """Where each of `strings` lies when they and their NULs follow each other from `at` on."""
    addresses = list(accumulate([len(string) + 1 for string in strings], initial=at))
    addresses.pop()
    return addresses

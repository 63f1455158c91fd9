"""What a kernel parameter can be: constant text, a number one may set, a name of the UTS namespace, fresh random ids.

Settable values live in one `SysctlValues` per kernel (`kernel.part(SysctlValues)`); code that obeys a parameter reads
it there with `number(kernel, path)`. Most are only remembered, which is what programs that set them look for.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.sentry.errors import LinuxError
from services.sentry.filesystems.proc.rows import SystemRow
from services.sentry.kernel.uts import uuid_text

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task

__all__ = [
    "SysctlValues",
    "attribute",
    "fixed",
    "node_name",
    "number",
    "numbers",
    "per_reader",
    "random_uuid",
    "settable",
]

_HOST_NAME_LIMIT: Final = 64


class SysctlValues:
    """path below /proc/sys -> text without a newline; absent: the row's default."""

    __slots__ = ("texts",)

    def __init__(self, kernel: Kernel) -> None:
        self.texts: dict[bytes, bytes] = {}


def number(kernel: Kernel, path: bytes, default: int) -> int:
    """The value of a one-number parameter in force."""
    return int(kernel.part(SysctlValues).texts.get(path, b"%d" % default))


def fixed(text: bytes) -> SystemRow:
    """A parameter that always says `text`."""

    def render(reader: Task) -> bytes:
        return text + b"\n"

    return SystemRow(render)


def per_reader(render: Callable[[Task], bytes], mode: int = 0o444) -> SystemRow:
    return SystemRow(lambda reader: render(reader) + b"\n", mode)


def _parse(text: bytes) -> int:
    """EINVAL: not a number (decimal, octal or hexadecimal, as strtoul(3) reads it)."""
    try:
        word = text.strip().lower()
        if word.startswith(b"0") and len(word) > 1 and word.isdigit():
            return int(word, 8)
        return int(word, 0)
    except ValueError:
        raise LinuxError(errno.EINVAL, "sysctl value") from None


def settable(path: bytes, default: int, low: int = 0, high: int = (1 << 31) - 1) -> SystemRow:
    """One number within low..high. EINVAL: anything else."""
    return numbers(path, (default,), low, high)


def numbers(
    path: bytes,
    defaults: tuple[int, ...],
    low: int = 0,
    high: int = (1 << 63) - 1,
    given: Callable[[Kernel], tuple[int, ...]] | None = None,
) -> SystemRow:
    """Several numbers, tab-separated; a write may give only the first ones. given: defaults that the kernel decides."""

    def render(reader: Task) -> bytes:
        text = reader.kernel.part(SysctlValues).texts.get(path)
        if text is None:
            text = b"\t".join(b"%d" % value for value in (given(reader.kernel) if given else defaults))
        return text + b"\n"

    def store(writer: Task, data: bytes) -> None:
        wanted = [_parse(word) for word in data.split(b"\0", 1)[0].split()]
        if not wanted or len(wanted) > len(defaults) or any(not low <= value <= high for value in wanted):
            raise LinuxError(errno.EINVAL, f"sysctl {path!r}")
        old = [int(word) for word in render(writer).split()]
        values = wanted + old[len(wanted) :]
        writer.kernel.part(SysctlValues).texts[path] = b"\t".join(b"%d" % value for value in values)

    return SystemRow(render, 0o644, store)


def attribute(name: str, low: int, high: int) -> SystemRow:
    """A number that is an attribute of Kernel."""

    def render(reader: Task) -> bytes:
        return b"%d\n" % getattr(reader.kernel, name)

    def store(writer: Task, data: bytes) -> None:
        value = _parse(data)
        if not low <= value <= high:
            raise LinuxError(errno.EINVAL)
        setattr(writer.kernel, name, value)

    return SystemRow(render, 0o644, store)


def node_name(name: str) -> SystemRow:
    """hostname or domainname of the task's UTS namespace; longer names are cut."""

    def render(reader: Task) -> bytes:
        return bytes(getattr(reader.uts, name)) + b"\n"

    def store(writer: Task, data: bytes) -> None:
        setattr(writer.uts, name, data.split(b"\n", 1)[0].split(b"\0", 1)[0][:_HOST_NAME_LIMIT])

    return SystemRow(render, 0o644, store)


def random_uuid(reader: Task) -> bytes:
    """A new one at each read (random(4))."""
    return uuid_text(reader.kernel.random(16))

"""Which modules `pip install` compiles with mypyc: what a packet, a segment, a ring's byte or a call goes through.

They stay ordinary, strictly typed Python: an editable install runs them as they are, and so does anybody who deletes
the built files. Compiled they take a third to a half of the time. What such modules have to keep to:

- A class attribute that is not an instance's default is a ClassVar. An attribute is declared by its own class: nobody
  else may add one.
- Classes are not derived from outside of what is compiled, or say so (`mypyc_attr(allow_interpreted_subclasses=True)`).
  Their bases are one class, and traits behind it (`mypy_extensions.trait`).
- A base's attribute, property or method stays what it is: none hides another kind, no method is another one's alias.
- What a call returns is checked against its annotation at run time: an `int` where `bool` is promised is a TypeError,
  and so is a stand-in of a test where a class is promised.
- A bool that passes through an expression of type int is an int behind it (`bool(x) if flag else number`).
- Attributes of classes and of modules are not replaced from outside, methods least of all; a Final number is copied to
  where it is used. What tests change stands in a module that is not compiled (`socket_service/limits.py`).
- A NamedTuple's fields are of classes that are there at run time, and not `object`. Records, exceptions with fields and
  classes in an `__init__.py` are not compiled.
- What was found to be None still counts as None after a call that may have set it: ask by a method.
- Weak references only to what derives from `vfs/referable.py`.
- What only a local name holds ends after its last use, not with the function: who gives addresses of buffers to the
  host holds them elsewhere (an attribute), or stays interpreted.
- Where a slice of anything but str, bytes and list begins and ends is computed twice: no call stands there that does
  something (`buffer[: os.readv(fd, (buffer,))]` reads twice).
- Handlers of signals run in interpreted code alone (`sentry/edge/signals.py`).

`setup.py` reads this file without importing the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["groups"]

# A shared library each, with mypyc's suffix: netstackd and the Sentry shall not load each other's.
_GROUPS: Final = {
    "sentrio_messages": (
        "protocol/control/msgpack_subset.py",
        "protocol/netstack/messages.py",
        "protocol/rpc/codec.py",
        "protocol/rpc/connection.py",
    ),
    "sentrio_rings": ("protocol/rings.py",),
    "sentrio_netstackd_edge": (
        "services/netstackd/edge/loop.py",
        "services/netstackd/edge/outbox.py",
        "services/netstackd/edge/placement.py",
        "services/netstackd/edge/processors.py",
        "services/netstackd/edge/shortcuts.py",
        "services/netstackd/filter/*.py",
        "services/netstackd/links/*.py",
        "services/netstackd/socket_service/addresses.py",
        "services/netstackd/socket_service/carried_stream.py",
        "services/netstackd/socket_service/ring_data.py",
        "services/netstackd/socket_service/ringed_stream.py",
        "services/netstackd/socket_service/server.py",
        "services/netstackd/socket_service/session.py",
        "services/netstackd/socket_service/stream_base.py",
        "services/netstackd/socket_service/streams.py",
    ),
    "sentrio_netstackd_network": (
        "services/netstackd/counters.py",
        "services/netstackd/namespaces.py",
        "services/netstackd/network/*.py",
        "services/netstackd/stack.py",
        "services/netstackd/storage/*.py",
        "services/netstackd/wire/*.py",
    ),
    "sentrio_netstackd_transport": ("services/netstackd/transport/**/*.py",),
    "sentrio_platforms": ("platforms/base.py", "platforms/systrap/*.py"),
    "sentrio_sentry_edge": ("services/sentry/edge/host_poll.py", "services/sentry/edge/loop.py"),
    "sentrio_sentry_kernel": (
        "services/sentry/kernel/*.py",
        "services/sentry/loader/*.py",
        "services/sentry/mm/*.py",
        "services/sentry/vfs/*.py",
    ),
    "sentrio_sentry_syscalls": ("services/sentry/syscalls/*.py",),
    "sentrio_sentry_files": (
        "services/sentry/devices/**/*.py",
        "services/sentry/files/*.py",
        "services/sentry/filesystems/**/*.py",
    ),
    "sentrio_sentry_sockets": ("services/sentry/sockets/**/*.py",),
}

# What stays interpreted of these, and why.
_NOT: Final = {
    "services/sentry/vfs/referable.py": "is what makes room for weak references",
    "services/sentry/loader/elf.py": "its classes are records",
    "services/sentry/vfs/path_cache.py": "its caches are referred to weakly",
}


def groups(tree: Path) -> list[tuple[list[str], str]]:
    """The files to compile below `tree`, relative to it and in a fixed order, and the name of their library."""
    return [(_files(tree, patterns), name) for name, patterns in _GROUPS.items()]


def _files(tree: Path, patterns: tuple[str, ...]) -> list[str]:
    found = {path.relative_to(tree) for pattern in patterns for path in tree.glob(pattern)}
    return sorted(str(path) for path in found if path.name != "__init__.py" and str(path) not in _NOT)

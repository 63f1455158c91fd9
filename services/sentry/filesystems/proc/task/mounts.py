"""/proc/PID/{mounts,mountinfo,mountstats} (proc_pid_mounts(5), proc_pid_mountinfo(5), proc_pid_mountstats(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi import mount_h as mt
from services.sentry.filesystems.proc.access import fs_of
from services.sentry.vfs.path_walk import Path, name_from

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.mounts import Mount

__all__ = ["mountinfo", "mounts", "mountstats"]

_ESCAPED: Final = {b" ": b"\\040", b"\t": b"\\011", b"\n": b"\\012", b"\\": b"\\134", b"#": b"\\043"}


def _escape(name: bytes) -> bytes:
    if not any(char in name for char in _ESCAPED):
        return name
    return b"".join(_ESCAPED.get(bytes((char,)), bytes((char,))) for char in name)


def _visible(target: Task) -> Iterator[tuple[Mount, bytes]]:
    """The mounts below the task's root and where they are seen."""
    fs = fs_of(target)
    if fs is None:
        return
    for mount in list(fs.mounts.mounts.values()):
        if mount is fs.root.mount:
            yield mount, b"/"
            continue
        if mount.parent is None:
            continue
        name, reachable = name_from(Path(mount.parent, mount.mountpoint), fs.root)
        if reachable:
            yield mount, name


def _root_in_filesystem(mount: Mount) -> bytes:
    """The directory of the file system that is the mount's root (a bind mount shows a part)."""
    parts: list[bytes] = []
    dentry = mount.root
    top = mount.superblock.root
    while dentry is not top and dentry.parent is not dentry:
        parts.append(dentry.name)
        dentry = dentry.parent
    return b"/" + b"/".join(reversed(parts))


def _superblock_options(mount: Mount) -> bytes:
    superblock = mount.superblock
    return (b"ro" if superblock.flags & mt.MS_RDONLY else b"rw") + superblock.show_options()


def _options(mount: Mount) -> bytes:
    """Mount and superblock options in one list, as /proc/mounts has them."""
    words = mount.options().split(b",")
    words[0] = b"ro" if mount.read_only else b"rw"
    extra = mount.superblock.show_options()
    return b",".join(words) + extra


def mounts(reader: Task, target: Task) -> bytes:
    return b"".join(
        b"%b %b %b %b 0 0\n"
        % (_escape(mount.source or b"none"), _escape(where), mount.superblock.type_name, _options(mount))
        for mount, where in _visible(target)
    )


def mountinfo(reader: Task, target: Task) -> bytes:
    lines = []
    for mount, where in _visible(target):
        device = mount.superblock.dev
        lines.append(
            b"%d %d %d:%d %b %b %b - %b %b %b\n"
            % (
                mount.id,
                mount.parent.id if mount.parent is not None else 1,
                os.major(device),
                os.minor(device),
                _escape(_root_in_filesystem(mount)),
                _escape(where),
                mount.options(),
                mount.superblock.type_name,
                _escape(mount.source or b"none"),
                _superblock_options(mount),
            )
        )
    return b"".join(lines)


def mountstats(reader: Task, target: Task) -> bytes:
    return b"".join(
        b"device %b mounted on %b with fstype %b\n"
        % (_escape(mount.source or b"none"), _escape(where), mount.superblock.type_name)
        for mount, where in _visible(target)
    )

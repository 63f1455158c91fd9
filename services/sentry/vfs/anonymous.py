"""Inodes for descriptors without a name: what eventfd, epoll, pipe, socket and the like call.

The superblocks stand in filesystems/anonymous/ and are a part of the kernel, made at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sentry.filesystems.anonymous import AnonymousFilesystems

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.vfs.inode import Inode

__all__ = ["anon_inode", "pipe_inode", "socket_inode"]


def anon_inode(kernel: Kernel) -> Inode:
    """The one inode behind eventfd, epoll, timerfd, signalfd, pidfd... (mode 0600, no type bits, as Linux shows it)."""
    return kernel.part(AnonymousFilesystems).anon_inode


def pipe_inode(kernel: Kernel, cred: Credentials | None = None) -> Inode:
    """A new inode of pipefs: S_IFIFO|0600 with its own number."""
    return kernel.part(AnonymousFilesystems).pipe(cred)


def socket_inode(kernel: Kernel, cred: Credentials | None = None) -> Inode:
    """A new inode of sockfs: S_IFSOCK|0777 with its own number."""
    return kernel.part(AnonymousFilesystems).socket(cred)

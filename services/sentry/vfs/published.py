"""Files whose contents some guests see as memory: what an inode has to say before its data or times change.

`Inode.published` lists, for one file, the places where reads (and writes) of it need not come to the Sentry; the kernel
puts them there (kernel/published_files.py). Whoever changes a file otherwise calls one of these, if there are any:

    revoke          its data is to move, or to end earlier
    revoke_writing  somebody else may write to it from now on, or writing it begins to have other consequences
    fold            its times are to be looked at: bring those of calls that nobody saw into the inode
    before_change   its attributes are to be set
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from services.sentry.vfs.inode import Inode

__all__ = ["Published", "before_change", "fold", "revoke", "revoke_writing"]

_SET_IDS = 0o6000


class Published(Protocol):
    """One such place."""

    def revoke(self) -> None:
        """From now on every call asks. It leaves `Inode.published`."""

    def revoke_writing(self) -> None:
        """From now on every write asks."""

    def fold(self) -> None:
        """Bring the inode's times up to date."""


def revoke(inode: Inode) -> None:
    """See the module."""
    for place in list(inode.published or ()):
        place.revoke()


def revoke_writing(inode: Inode) -> None:
    """See the module."""
    for place in list(inode.published or ()):
        place.revoke_writing()


def fold(inode: Inode) -> None:
    """See the module."""
    for place in list(inode.published or ()):
        place.fold()


def before_change(inode: Inode, mode: int | None) -> None:
    """See the module. `mode`: permission bits to come; a write to a set-user-id file takes them away (inode(7))."""
    fold(inode)
    if mode is not None and mode & _SET_IDS:
        revoke_writing(inode)

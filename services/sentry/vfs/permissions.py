"""Who may do what to an inode: path_resolution(7) "Permissions", capabilities(7).

Checks use the file-system ids of the credentials. Read-only mounts are the business of vfs/operations.py.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from protocol.abi.capability_h import CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID
from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.vfs.inode import Inode

__all__ = [
    "EXECUTE",
    "READ",
    "WRITE",
    "acts_as_real",
    "allowed",
    "check",
    "check_sticky",
    "in_group",
    "owner_or_capable",
]

READ: Final = 4
WRITE: Final = 2
EXECUTE: Final = 1

_OVERRIDE: Final = 1 << CAP_DAC_OVERRIDE
_READ_SEARCH: Final = 1 << CAP_DAC_READ_SEARCH
_FOWNER: Final = 1 << CAP_FOWNER
_FSETID: Final = 1 << CAP_FSETID
_CHOWN: Final = 1 << CAP_CHOWN


def in_group(cred: Credentials, gid: int) -> bool:
    """Whether `gid` is the file-system group or a supplementary one."""
    return gid == cred.fsgid or gid in cred.groups


def acts_as_real(cred: Credentials) -> bool:
    """Whether access(2), which asks for the real ids, finds what any other call does."""
    if cred.fsuid != cred.ruid or cred.fsgid != cred.rgid:
        return False
    return not cred.cap_effective if cred.ruid else cred.cap_effective == cred.cap_permitted


def allowed(inode: Inode, cred: Credentials, want: int) -> bool:
    """Whether `cred` may READ|WRITE|EXECUTE the inode (search a directory)."""
    mode = inode.mode
    if cred.fsuid == inode.uid:
        bits = mode >> 6
    elif in_group(cred, inode.gid):
        bits = mode >> 3
    else:
        bits = mode
    if bits & want == want:
        return True
    capabilities = cred.cap_effective
    if mode & 0o170000 == 0o040000:
        if capabilities & _OVERRIDE:
            return True
        return not want & WRITE and bool(capabilities & _READ_SEARCH)
    if capabilities & _OVERRIDE and (not want & EXECUTE or mode & 0o111):
        return True
    return want == READ and bool(capabilities & _READ_SEARCH)


def check(inode: Inode, cred: Credentials, want: int) -> None:
    """EACCES: `cred` may not do `want` (READ|WRITE|EXECUTE) to `inode`."""
    if not allowed(inode, cred, want):
        raise LinuxError(errno.EACCES)


def owner_or_capable(inode: Inode, cred: Credentials) -> bool:
    """Whether `cred` owns the inode or has CAP_FOWNER (chmod(2), utimensat(2), O_NOATIME)."""
    return cred.fsuid == inode.uid or bool(cred.cap_effective & _FOWNER)


def check_sticky(directory: Inode, child: Inode, cred: Credentials) -> None:
    """EPERM: `directory` has the sticky bit and neither it nor `child` belongs to the caller (unlink(2))."""
    if directory.mode & 0o1000 and cred.fsuid not in (child.uid, directory.uid) and not cred.cap_effective & _FOWNER:
        raise LinuxError(errno.EPERM)


def may_keep_setgid(cred: Credentials, gid: int) -> bool:
    """Whether chmod may leave S_ISGID on a file of group `gid` (chmod(2))."""
    return in_group(cred, gid) or bool(cred.cap_effective & _FSETID)


def may_chown(inode: Inode, cred: Credentials, uid: int, gid: int) -> bool:
    """chown(2): the owner may give the file to a group of theirs, CAP_CHOWN anything. -1: no change."""
    if cred.cap_effective & _CHOWN:
        return True
    if uid not in (-1, inode.uid) or (uid != -1 and cred.fsuid != inode.uid):
        return False
    return gid == -1 or (cred.fsuid == inode.uid and (gid == inode.gid or in_group(cred, gid)))

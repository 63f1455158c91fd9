"""Who a task is: user and group ids, capabilities, securebits (credentials(7), capabilities(7)).

`Credentials` is immutable and shared freely between tasks; a change replaces a task's object. The set*id functions here
apply the permission rules and the recomputation of capabilities; they touch no task. What else a change brings about
(dumpable, the parent-death signal) is `syscalls/identity.py`'s. One user namespace: ids are the sandbox's own.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

from protocol.abi import capability_h as ch
from protocol.abi import stat_h as sh
from protocol.abi.layout import U32
from protocol.records import record, replace
from services.sentry.errors import LinuxError

__all__ = [
    "KEEP",
    "Credentials",
    "FileCapabilities",
    "for_exec",
    "is_secure_exec",
    "parse_file_capabilities",
    "set_fs_gid",
    "set_fs_uid",
    "set_gid",
    "set_re_gid",
    "set_re_uid",
    "set_res_gid",
    "set_res_uid",
    "set_uid",
]

#: An id argument that leaves the id alone, (uid_t) -1.
KEEP: Final = 0xFFFFFFFF

# Capabilities that only matter to file access and follow the file-system uid (linux/capability.h, CAP_FS_SET).
_FS_CAPS: Final = (
    1 << ch.CAP_CHOWN
    | 1 << ch.CAP_MKNOD
    | 1 << ch.CAP_DAC_OVERRIDE
    | 1 << ch.CAP_DAC_READ_SEARCH
    | 1 << ch.CAP_FOWNER
    | 1 << ch.CAP_FSETID
    | 1 << ch.CAP_LINUX_IMMUTABLE
    | 1 << ch.CAP_MAC_OVERRIDE
)
_KEEP_CAPS: Final = 1 << ch.SECURE_KEEP_CAPS
_NO_ROOT: Final = 1 << ch.SECURE_NOROOT
_NO_FIXUP: Final = 1 << ch.SECURE_NO_SETUID_FIXUP


@record(frozen=True)
class Credentials:
    """Ids as plain ints, capability sets as bit masks (bit n: capability n), `groups` sorted."""

    ruid: int = 0
    euid: int = 0
    suid: int = 0
    fsuid: int = 0
    rgid: int = 0
    egid: int = 0
    sgid: int = 0
    fsgid: int = 0
    groups: tuple[int, ...] = ()
    cap_permitted: int = 0
    cap_effective: int = 0
    cap_inheritable: int = 0
    cap_bounding: int = ch.ALL_CAPABILITIES
    cap_ambient: int = 0
    securebits: int = 0

    def has_cap(self, number: int) -> bool:
        """Whether capability `number` is effective."""
        return bool(self.cap_effective >> number & 1)

    def in_group(self, gid: int) -> bool:
        """Whether `gid` is the file-system gid or a supplementary one (in_group_p)."""
        return gid == self.fsgid or gid in self.groups

    def in_effective_group(self, gid: int) -> bool:
        return gid == self.egid or gid in self.groups

    @classmethod
    def for_user(cls, uid: int, gid: int, groups: tuple[int, ...] = (), capabilities: int | None = None) -> Credentials:
        """A user as a login or OCI process starts: root with all capabilities (or `capabilities`), others without."""
        if capabilities is None:
            capabilities = ch.ALL_CAPABILITIES if uid == 0 else 0
            bounding = ch.ALL_CAPABILITIES
        else:
            bounding = capabilities
        return cls(
            uid, uid, uid, uid, gid, gid, gid, gid, tuple(sorted(groups)), capabilities, capabilities, 0, bounding
        )


def _fix_up(old: Credentials, new: Credentials) -> Credentials:
    """Recompute capabilities after a change of user ids (capabilities(7), "Effect of user ID changes")."""
    if old.securebits & _NO_FIXUP:
        return new
    permitted, effective, ambient = new.cap_permitted, new.cap_effective, new.cap_ambient
    if 0 in (old.ruid, old.euid, old.suid) and 0 not in (new.ruid, new.euid, new.suid):
        if not old.securebits & _KEEP_CAPS:
            permitted = effective = 0
        ambient = 0  # ambient capabilities are cleared even with keepcaps
    if old.euid == 0 and new.euid != 0:
        effective = 0
    elif old.euid != 0 and new.euid == 0:
        effective = permitted
    if (permitted, effective, ambient) == (new.cap_permitted, new.cap_effective, new.cap_ambient):
        return new
    return replace(new, cap_permitted=permitted, cap_effective=effective, cap_ambient=ambient)


def set_uid(cred: Credentials, uid: int) -> Credentials:
    """setuid(2). EINVAL: not an id; EPERM: neither CAP_SETUID nor one of the own ids."""
    if uid == KEEP:
        raise LinuxError(errno.EINVAL)
    if cred.has_cap(ch.CAP_SETUID):
        new = replace(cred, ruid=uid, euid=uid, suid=uid, fsuid=uid)
    elif uid in (cred.ruid, cred.suid):
        new = replace(cred, euid=uid, fsuid=uid)
    else:
        raise LinuxError(errno.EPERM)
    return _fix_up(cred, new)


def set_re_uid(cred: Credentials, ruid: int, euid: int) -> Credentials:
    """setreuid(2); KEEP leaves an id alone. EPERM: an id the caller may not take."""
    privileged = cred.has_cap(ch.CAP_SETUID)
    new_ruid = cred.ruid if ruid == KEEP else ruid
    new_euid = cred.euid if euid == KEEP else euid
    if not privileged:
        if ruid != KEEP and ruid not in (cred.ruid, cred.euid):
            raise LinuxError(errno.EPERM)
        if euid != KEEP and euid not in (cred.ruid, cred.euid, cred.suid):
            raise LinuxError(errno.EPERM)
    suid = cred.suid
    if ruid != KEEP or (euid != KEEP and euid != cred.ruid):
        suid = new_euid
    return _fix_up(cred, replace(cred, ruid=new_ruid, euid=new_euid, suid=suid, fsuid=new_euid))


def set_res_uid(cred: Credentials, ruid: int, euid: int, suid: int) -> Credentials:
    """setresuid(2)."""
    own = (cred.ruid, cred.euid, cred.suid)
    if not cred.has_cap(ch.CAP_SETUID) and any(uid != KEEP and uid not in own for uid in (ruid, euid, suid)):
        raise LinuxError(errno.EPERM)
    new_euid = cred.euid if euid == KEEP else euid
    new = replace(
        cred,
        ruid=cred.ruid if ruid == KEEP else ruid,
        euid=new_euid,
        suid=cred.suid if suid == KEEP else suid,
        fsuid=new_euid,
    )
    return _fix_up(cred, new)


def set_fs_uid(cred: Credentials, uid: int) -> Credentials:
    """setfsuid(2): never fails, an id that may not be taken changes nothing."""
    if uid == KEEP or uid == cred.fsuid:
        return cred
    if uid not in (cred.ruid, cred.euid, cred.suid) and not cred.has_cap(ch.CAP_SETUID):
        return cred
    effective = cred.cap_effective
    if not cred.securebits & _NO_FIXUP:
        if cred.fsuid == 0:
            effective &= ~_FS_CAPS
        elif uid == 0:
            effective |= _FS_CAPS & cred.cap_permitted
    return replace(cred, fsuid=uid, cap_effective=effective)


def set_gid(cred: Credentials, gid: int) -> Credentials:
    """setgid(2)."""
    if gid == KEEP:
        raise LinuxError(errno.EINVAL)
    if cred.has_cap(ch.CAP_SETGID):
        return replace(cred, rgid=gid, egid=gid, sgid=gid, fsgid=gid)
    if gid in (cred.rgid, cred.sgid):
        return replace(cred, egid=gid, fsgid=gid)
    raise LinuxError(errno.EPERM)


def set_re_gid(cred: Credentials, rgid: int, egid: int) -> Credentials:
    """setregid(2)."""
    if not cred.has_cap(ch.CAP_SETGID):
        if rgid != KEEP and rgid not in (cred.rgid, cred.egid):
            raise LinuxError(errno.EPERM)
        if egid != KEEP and egid not in (cred.rgid, cred.egid, cred.sgid):
            raise LinuxError(errno.EPERM)
    new_egid = cred.egid if egid == KEEP else egid
    sgid = cred.sgid
    if rgid != KEEP or (egid != KEEP and egid != cred.rgid):
        sgid = new_egid
    return replace(cred, rgid=cred.rgid if rgid == KEEP else rgid, egid=new_egid, sgid=sgid, fsgid=new_egid)


def set_res_gid(cred: Credentials, rgid: int, egid: int, sgid: int) -> Credentials:
    """setresgid(2)."""
    own = (cred.rgid, cred.egid, cred.sgid)
    if not cred.has_cap(ch.CAP_SETGID) and any(gid != KEEP and gid not in own for gid in (rgid, egid, sgid)):
        raise LinuxError(errno.EPERM)
    new_egid = cred.egid if egid == KEEP else egid
    return replace(
        cred,
        rgid=cred.rgid if rgid == KEEP else rgid,
        egid=new_egid,
        sgid=cred.sgid if sgid == KEEP else sgid,
        fsgid=new_egid,
    )


def set_fs_gid(cred: Credentials, gid: int) -> Credentials:
    """setfsgid(2): never fails."""
    own = (cred.rgid, cred.egid, cred.sgid, cred.fsgid)
    if gid == KEEP or (gid not in own and not cred.has_cap(ch.CAP_SETGID)):
        return cred
    return replace(cred, fsgid=gid)


class FileCapabilities(NamedTuple):
    """The security.capability attribute of a program file (capabilities(7), "File capabilities")."""

    permitted: int
    inheritable: int
    effective: bool


def parse_file_capabilities(raw: bytes) -> FileCapabilities | None:
    """Decode the attribute's value; None when it is malformed or belongs to another user namespace's root."""
    if len(raw) < 4:
        return None
    (magic,) = U32.unpack_from(raw)
    revision = magic & ch.VFS_CAP_REVISION_MASK
    sizes = {
        ch.VFS_CAP_REVISION_1: ch.XATTR_CAPS_SZ_1,
        ch.VFS_CAP_REVISION_2: ch.XATTR_CAPS_SZ_2,
        ch.VFS_CAP_REVISION_3: ch.XATTR_CAPS_SZ_3,
    }
    if sizes.get(revision) != len(raw):
        return None
    words = [U32.unpack_from(raw, at)[0] for at in range(4, len(raw), 4)]
    if revision == ch.VFS_CAP_REVISION_3 and words[4] != 0:
        return None
    permitted, inheritable = words[0], words[1]
    if revision != ch.VFS_CAP_REVISION_1:
        permitted |= words[2] << 32
        inheritable |= words[3] << 32
    effective = bool(magic & ch.VFS_CAP_FLAGS_EFFECTIVE)
    return FileCapabilities(permitted & ch.ALL_CAPABILITIES, inheritable & ch.ALL_CAPABILITIES, effective)


def for_exec(
    cred: Credentials,
    file_uid: int,
    file_gid: int,
    mode: int,
    no_new_privs: bool,
    file_caps: FileCapabilities | None = None,
) -> Credentials:
    """The credentials that execve(2) of a file with these attributes gives (capabilities(7), "Transformation").

    `mode` without set-id bits and `file_caps` None for a mount with nosuid (the caller drops them). EPERM: the file
    asks for effective capabilities that the bounding set withholds.
    """
    euid, egid = cred.euid, cred.egid
    if no_new_privs:
        file_caps = None
    else:
        if mode & sh.S_ISUID:
            euid = file_uid
        if mode & sh.S_ISGID and mode & sh.S_IXGRP:
            egid = file_gid
    permitted, effective = 0, False
    if file_caps is not None:
        permitted = cred.cap_bounding & file_caps.permitted | cred.cap_inheritable & file_caps.inheritable
        effective = file_caps.effective
        if effective and file_caps.permitted & ~permitted:
            raise LinuxError(errno.EPERM, "file capabilities beyond the bounding set")
    root_with_file_caps = file_caps is not None and cred.ruid != 0 and euid == 0
    if not cred.securebits & _NO_ROOT and not root_with_file_caps:
        if euid == 0 or cred.ruid == 0:
            permitted = cred.cap_bounding | cred.cap_inheritable
        if euid == 0:
            effective = True
    changed_id = euid != cred.ruid or egid != cred.rgid
    if no_new_privs and (changed_id or permitted & ~cred.cap_permitted):
        # As for a tracer without privilege: nothing may be gained (Linux security/commoncap.c).
        euid, egid = cred.ruid, cred.rgid
        permitted &= cred.cap_permitted
    ambient = 0 if file_caps is not None or changed_id else cred.cap_ambient
    permitted |= ambient
    effective_caps = permitted if effective else ambient
    securebits = cred.securebits & ~_KEEP_CAPS
    if (
        (cred.euid, cred.suid, cred.fsuid) == (euid, euid, euid)
        and (cred.egid, cred.sgid, cred.fsgid) == (egid, egid, egid)
        and (cred.cap_permitted, cred.cap_effective, cred.cap_ambient) == (permitted, effective_caps, ambient)
        and cred.securebits == securebits
    ):
        return cred  # as mostly: what is kept for these credentials goes on to hold
    return replace(
        cred,
        euid=euid,
        suid=euid,
        fsuid=euid,
        egid=egid,
        sgid=egid,
        fsgid=egid,
        cap_permitted=permitted,
        cap_effective=effective_caps,
        cap_ambient=ambient,
        securebits=securebits,
    )


def is_secure_exec(old: Credentials, new: Credentials) -> bool:
    """Whether the new program gets AT_SECURE (getauxval(3)): it runs with more than its caller's own ids give."""
    if new.euid != old.ruid or new.egid != old.rgid:
        return True
    return new.ruid != 0 and bool(new.cap_permitted & ~new.cap_ambient or new.cap_effective & ~new.cap_ambient)

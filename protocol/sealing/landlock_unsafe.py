"""Landlock: confine this process, for good, to what lies beneath given directories. Raw system calls by ctypes.

Source: landlock(7), Documentation/userspace-api/landlock.rst (Linux 6.12, ABI 6); rights of newer ABIs are left alone.
Opening with O_PATH and reading attributes are not restricted by Landlock; opening, making, removing and truncating are.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Sequence
from struct import Struct
from typing import Final

HOST_SYSCALLS: Final = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "close")

_SYS_CREATE_RULESET: Final = 444
_SYS_ADD_RULE: Final = 445
_SYS_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

ACCESS_EXECUTE: Final = 1 << 0
ACCESS_WRITE_FILE: Final = 1 << 1
ACCESS_READ_FILE: Final = 1 << 2
ACCESS_READ_DIR: Final = 1 << 3
_ABI_1_RIGHTS: Final = (1 << 13) - 1  # up to MAKE_SYM
_ACCESS_REFER: Final = 1 << 13  # ABI 2
_ACCESS_TRUNCATE: Final = 1 << 14  # ABI 3
_ACCESS_IOCTL_DEV: Final = 1 << 15  # ABI 5
_ACCESS_NET: Final = 0b11  # bind, connect TCP: ABI 4
_SCOPED: Final = 0b11  # abstract unix sockets, signals: ABI 6

_FILE_RIGHTS: Final = (  # those a rule on a file may have
    ACCESS_EXECUTE | ACCESS_WRITE_FILE | ACCESS_READ_FILE | _ACCESS_TRUNCATE | _ACCESS_IOCTL_DEV
)

_RULESET: Final = Struct("=QQQ")
_PATH_BENEATH: Final = Struct("=Qi")


def _syscall(number: int, *args: int) -> int:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = [ctypes.c_long] * 5
    result: int = call(number, *args, *[0] * (4 - len(args)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def abi_version() -> int:
    """The Landlock ABI of this kernel, 0 when it has none or it is switched off."""
    try:
        return _syscall(_SYS_CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def handled_rights(abi: int) -> int:
    """Every file system right that ABI knows and this file names."""
    rights = _ABI_1_RIGHTS
    if abi >= 2:
        rights |= _ACCESS_REFER
    if abi >= 3:
        rights |= _ACCESS_TRUNCATE
    if abi >= 5:
        rights |= _ACCESS_IOCTL_DEV
    return rights


def restrict(directories: Sequence[tuple[int, bool]], *, network: bool = True, scope: bool = True) -> int:
    """Allow nothing by path but beneath `directories`: (fd, perhaps O_PATH, of a directory or file; whether writable).

    `network`: refuse TCP bind and connect (ABI 4); `scope`: refuse signals to, and abstract sockets of, processes
    outside (ABI 6). Needs no_new_privs. Returns the ABI used, 0 when the kernel has no Landlock and nothing was done.
    OSError.
    """
    abi = abi_version()
    if not abi:
        return 0
    rights = handled_rights(abi)
    net = _ACCESS_NET if network and abi >= 4 else 0
    scoped = _SCOPED if scope and abi >= 6 else 0
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attribute = ctypes.create_string_buffer(_RULESET.pack(rights, net, scoped), _RULESET.size)
    ruleset = _syscall(_SYS_CREATE_RULESET, ctypes.addressof(attribute), size, 0)
    try:
        for fd, writable in directories:
            allowed = rights & ~ACCESS_EXECUTE if writable else ACCESS_READ_FILE | ACCESS_READ_DIR
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                allowed &= _FILE_RIGHTS
            rule = ctypes.create_string_buffer(_PATH_BENEATH.pack(allowed, fd), _PATH_BENEATH.size)
            _syscall(_SYS_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.addressof(rule), 0)
        _syscall(_SYS_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return abi

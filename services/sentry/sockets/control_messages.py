"""Ancillary data: what a sendmsg(2) control buffer means, and the buffer recvmsg(2) fills (cmsg(3), unix(7)).

Decoding resolves descriptors to files and checks credentials; every file it returns holds one reference that is the
caller's to pass on or drop. Encoding truncates as Linux's put_cmsg: what does not fit sets MSG_CTRUNC.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi import capability_h as ca
from protocol.abi import socket_h as so
from services.sentry.errors import LinuxError
from services.sentry.sockets.base import Ucred

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["MAX_CONTROL_BYTES", "Control", "ControlBuffer", "parse_control_untrusted"]

#: net.core.optmem_max: the longest control buffer sendmsg(2) takes.
MAX_CONTROL_BYTES: Final = 131_072
_HEADER: Final = so.CMSGHDR.size
_OVERFLOW_ID: Final = 65_534


class Control(NamedTuple):
    """Decoded ancillary data to send."""

    files: tuple[OpenFile, ...] = ()
    cred: Ucred | None = None
    others: tuple[tuple[int, int, bytes], ...] = ()


def parse_control_untrusted(task: Task, raw: bytes) -> Control:
    """The control messages in `raw`, checked for `task` (net/core/scm.c __scm_send).

    EINVAL: a bad length, an unknown SOL_SOCKET type, too many descriptors; EBADF; EPERM: credentials that are not the
    sender's without CAP_SYS_ADMIN, CAP_SETUID or CAP_SETGID. Messages of other levels come back as they are,
    for the family to judge.
    """
    files: list[OpenFile] = []
    cred = None
    others: list[tuple[int, int, bytes]] = []
    at = 0
    while at + _HEADER <= len(raw):
        length, level, kind = so.CMSGHDR.unpack_from(raw, at)
        if length < _HEADER or length > len(raw) - at:
            raise LinuxError(errno.EINVAL)
        payload = raw[at + _HEADER : at + length]
        at += so.cmsg_align(length)
        if level != so.SOL_SOCKET:
            others.append((level, kind, payload))
            continue
        if kind == so.SCM_RIGHTS:
            count = len(payload) // 4
            if len(files) + count > so.SCM_MAX_FD:
                raise LinuxError(errno.EINVAL)
            for fd in struct.unpack_from(f"<{count}i", payload):
                files.append(task.files.get(fd))
        elif kind == so.SCM_CREDENTIALS:
            if len(payload) != so.UCRED.size:
                raise LinuxError(errno.EINVAL)
            cred = _checked_credentials(task, Ucred(*so.UCRED.unpack(payload)))
        else:
            raise LinuxError(errno.EINVAL)
    for file in files:
        file.add_reference()
    return Control(tuple(files), cred, tuple(others))


def _checked_credentials(task: Task, given: Ucred) -> Ucred:
    """EPERM: they are not the sender's own, and it may not pretend (scm_check_creds)."""
    cred = task.cred
    allowed = (
        (given.pid == task.group.pid or cred.has_cap(ca.CAP_SYS_ADMIN))
        and (given.uid in (cred.ruid, cred.euid, cred.suid) or cred.has_cap(ca.CAP_SETUID))
        and (given.gid in (cred.rgid, cred.egid, cred.sgid) or cred.has_cap(ca.CAP_SETGID))
    )
    if not allowed:
        raise LinuxError(errno.EPERM)
    if given.pid not in task.kernel.groups:
        raise LinuxError(errno.ESRCH)
    return given


class ControlBuffer:
    """Builds what recvmsg(2) writes to msg_control, `room` bytes at most. `flags` gains MSG_CTRUNC on a cut."""

    __slots__ = ("flags", "parts", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self.parts: list[bytes] = []
        self.flags = 0

    def put(self, level: int, kind: int, payload: bytes) -> None:
        """Append one message, cut to the room that is left (put_cmsg)."""
        if self.room < _HEADER:
            self.flags |= so.MSG_CTRUNC
            return
        length = _HEADER + len(payload)
        if length > self.room:
            self.flags |= so.MSG_CTRUNC
            length = self.room
        space = min(so.cmsg_align(length), self.room)
        message = so.CMSGHDR.pack(length, level, kind) + payload[: length - _HEADER]
        self.parts.append(message.ljust(space, b"\0"))
        self.room -= space

    def put_credentials(self, cred: Ucred | None) -> None:
        """SCM_CREDENTIALS; nobody's when the message carried none."""
        given = cred or Ucred(0, _OVERFLOW_ID, _OVERFLOW_ID)
        self.put(so.SOL_SOCKET, so.SCM_CREDENTIALS, so.UCRED.pack(*given))

    def put_files(self, task: Task, files: tuple[OpenFile, ...], cloexec: bool) -> None:
        """SCM_RIGHTS: install as many as there is room and numbers for; the others are dropped (MSG_CTRUNC).

        The references in `files` are consumed.
        """
        fits = max(self.room - _HEADER, 0) // 4
        numbers: list[int] = []
        for file in files:
            if len(numbers) < min(fits, len(files)):
                try:
                    numbers.append(task.files.allocate(file, cloexec))
                except LinuxError:
                    fits = 0
            file.close_reference()
        if numbers:
            self.put(so.SOL_SOCKET, so.SCM_RIGHTS, struct.pack(f"<{len(numbers)}i", *numbers))
        if len(numbers) < len(files):
            self.flags |= so.MSG_CTRUNC

    def data(self) -> bytes:
        return b"".join(self.parts)

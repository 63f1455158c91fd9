"""O_ASYNC: the signal to a file's owner when it becomes ready (fcntl(2), "Managing signals").

`follow_async` is called whenever the flag may have changed. The entry on the file's queue goes with the flag, or with
the last close (OpenFile.close_reference).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol.abi import fcntl_h as fc
from protocol.abi import poll_h as pl
from protocol.abi import signal_h as sg
from services.sentry.errors import LinuxError
from services.sentry.kernel.signals import SigInfo, send_signal_group, send_signal_task
from services.sentry.kernel.waiter import WaitEntry

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["Owner", "follow_async", "owner_of", "urgent_notice"]

_POLL_IN, _POLL_OUT, _POLL_HUP = 1, 2, 6  # si_code
_IN_BAND: Final = pl.POLLIN | pl.POLLRDNORM
_OUT_BAND: Final = pl.POLLOUT | pl.POLLWRNORM | pl.POLLWRBAND
_HUP_BAND: Final = pl.POLLHUP | pl.POLLERR


class Owner(NamedTuple):
    """Who gets SIGIO or SIGURG for a file (F_SETOWN_EX), kept in OpenFile.async_owner. `signal` 0: SIGIO."""

    kind: int = fc.F_OWNER_PID
    id: int = 0
    signal: int = 0
    uid: int = 0
    euid: int = 0


def owner_of(file: OpenFile) -> Owner:
    """The file's owner, or none (id 0)."""
    owner = file.async_owner
    return owner if isinstance(owner, Owner) else Owner()


def follow_async(kernel: Kernel, file: OpenFile, fd: int) -> None:
    """Make what is registered agree with O_ASYNC. `fd`: shown as si_fd."""
    entry = file.async_entry
    if not file.flags & fc.O_ASYNC:
        if entry is not None:
            file.queue.remove(entry)
            file.async_entry = None
        return
    if file.ring_end is not None:
        file.ring_end.revoke()  # what a stub does is told only to who waits
    if entry is None and file.pollable:
        entry = file.async_entry = WaitEntry(lambda mask: _ready(kernel, file, fd, mask))
        file.queue.add(entry)


def _ready(kernel: Kernel, file: OpenFile, fd: int, mask: int) -> None:
    if mask & pl.POLLHUP and not mask & pl.POLLIN:
        _send(kernel, file, fd, _POLL_HUP, _HUP_BAND)
    elif mask & pl.POLLIN:
        _send(kernel, file, fd, _POLL_IN, _IN_BAND)
    elif mask & pl.POLLOUT and not stat.S_ISSOCK(file.inode.mode):
        # A socket tells of room only to a writer that found none (SOCKWQ_ASYNC_NOSPACE); that is not followed.
        _send(kernel, file, fd, _POLL_OUT, _OUT_BAND)


def urgent_notice(kernel: Kernel, file: OpenFile) -> None:
    """Urgent data came: SIGURG to the owner (fs/fcntl.c send_sigurg, tcp(7))."""
    owner = owner_of(file)
    for group, thread in _targets(kernel, owner):
        info = SigInfo(sg.SIGURG, sg.SI_KERNEL)
        if thread is not None:
            send_signal_task(thread, info)
        else:
            send_signal_group(group, info)


def _targets(kernel: Kernel, owner: Owner) -> Iterator[tuple[ThreadGroup, Task | None]]:
    """Whom the owner names: (process, its one thread or None), if who set it may signal them."""
    if not owner.id:
        return
    thread: Task | None = None
    if owner.kind == fc.F_OWNER_PGRP:
        process_group = kernel.process_groups.get(owner.id)
        groups = list(process_group.members.values()) if process_group is not None else []
    elif owner.kind == fc.F_OWNER_PID:
        group = kernel.groups.get(owner.id)
        groups = [group] if group is not None else []
    else:
        thread = kernel.tasks.get(owner.id)
        groups = [thread.group] if thread is not None else []
    for group in groups:
        cred = group.leader.cred
        if owner.euid not in (0, cred.suid, cred.ruid) and owner.uid not in (cred.suid, cred.ruid):
            continue
        yield group, thread


def _send(kernel: Kernel, file: OpenFile, fd: int, code: int, band: int) -> None:
    """fs/fcntl.c send_sigio: to the owner; SIGIO when the queue is full."""
    owner = owner_of(file)
    for group, thread in _targets(kernel, owner):
        for signo in (owner.signal, sg.SIGIO) if owner.signal else (sg.SIGIO,):
            info = SigInfo(signo, code, band=band, fd=fd) if owner.signal else SigInfo(signo, sg.SI_KERNEL)
            try:
                if thread is not None:
                    send_signal_task(thread, info)
                else:
                    send_signal_group(group, info)
            except LinuxError:
                continue
            break

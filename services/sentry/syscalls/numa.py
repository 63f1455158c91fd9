"""NUMA memory policies on the one node there is: numa(7), get_mempolicy(2), set_mempolicy(2), mbind(2), move_pages(2).

A policy is checked and remembered for the thread that set it; with one node it changes nothing.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from services.sentry.errors import LinuxError
from services.sentry.syscalls.arguments import s32, u32
from services.sentry.syscalls.table import Row

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["ROWS"]

_DEFAULT, _PREFERRED, _BIND, _INTERLEAVE, _LOCAL, _PREFERRED_MANY = range(6)
_F_STATIC, _F_RELATIVE, _F_BALANCING = 1 << 15, 1 << 14, 1 << 13
_F_NODE, _F_ADDR, _F_MEMS_ALLOWED = 1, 2, 4
_MF_STRICT, _MF_MOVE, _MF_MOVE_ALL = 1, 2, 4
_CAP_SYS_NICE: Final = 23
_PAGE: Final = 4096
_MAX_PAGES: Final = 1 << 16  # of one move_pages(2)


def _read_nodes(task: Task, addr: int, maxnode: int) -> int:
    """The mask of `maxnode` - 1 bits at `addr`. EINVAL: too many, or a node that is not there; EFAULT."""
    bits = maxnode - 1
    if not addr or bits <= 0:
        return 0
    if bits > _PAGE * 8:
        raise LinuxError(errno.EINVAL)
    raw = task.mm.read(addr, (bits + 63) // 64 * 8)
    nodes = int.from_bytes(raw, "little") & ((1 << bits) - 1)
    if nodes & ~1:
        raise LinuxError(errno.EINVAL)
    return nodes


def _check_policy(mode: int, nodes: int) -> None:
    """mm/mempolicy.c, mpol_new and mpol_set_nodemask."""
    flags = mode & (_F_STATIC | _F_RELATIVE | _F_BALANCING)
    mode &= ~flags
    if mode > _PREFERRED_MANY or flags & _F_STATIC and flags & _F_RELATIVE:
        raise LinuxError(errno.EINVAL)
    if flags & _F_BALANCING and mode != _BIND:
        raise LinuxError(errno.EINVAL)
    if mode in (_DEFAULT, _LOCAL):
        if nodes or flags and mode == _LOCAL:
            raise LinuxError(errno.EINVAL)
    elif not nodes and (mode != _PREFERRED or flags & (_F_STATIC | _F_RELATIVE)):
        raise LinuxError(errno.EINVAL)


def sys_set_mempolicy(task: Task, mode: int, nodemask: int, maxnode: int) -> int:
    """set_mempolicy(2). EINVAL, EFAULT."""
    mode = u32(mode)
    nodes = _read_nodes(task, nodemask, maxnode)
    _check_policy(mode, nodes)
    task.mempolicy = None if mode == _DEFAULT else (mode, nodes)
    return 0


def sys_get_mempolicy(task: Task, mode_addr: int, nodemask: int, maxnode: int, addr: int, flags: int) -> int:
    """get_mempolicy(2). EINVAL, EFAULT."""
    if flags & ~7 or nodemask and maxnode < 1:
        raise LinuxError(errno.EINVAL)
    mode, nodes = task.mempolicy or (_DEFAULT, 0)
    if flags & _F_MEMS_ALLOWED:
        if flags & (_F_NODE | _F_ADDR):
            raise LinuxError(errno.EINVAL)
        mode, nodes = _DEFAULT, 1
    elif flags & _F_ADDR:
        if task.mm.vmas.find(addr) is None:
            raise LinuxError(errno.EFAULT)
        if flags & _F_NODE:
            mode = 0  # the node of the page
    elif addr:
        raise LinuxError(errno.EINVAL)
    elif flags & _F_NODE:
        if mode != _INTERLEAVE:
            raise LinuxError(errno.EINVAL)
        mode = 0  # the node that comes next
    if mode_addr:
        task.mm.write_u32(mode_addr, mode)
    if nodemask:
        size = (maxnode + 62) // 64 * 8
        if size > _PAGE:
            raise LinuxError(errno.EINVAL)
        task.mm.write(nodemask, nodes.to_bytes(8, "little")[:size].ljust(size, b"\0"))
    return 0


def sys_mbind(task: Task, start: int, length: int, mode: int, nodemask: int, maxnode: int, flags: int) -> int:
    """mbind(2). EINVAL, EPERM: MPOL_MF_MOVE_ALL without CAP_SYS_NICE; EFAULT: a hole, a bad mask."""
    flags = u32(flags)
    nodes = _read_nodes(task, nodemask, maxnode)
    if flags & ~(_MF_STRICT | _MF_MOVE | _MF_MOVE_ALL):
        raise LinuxError(errno.EINVAL)
    if flags & _MF_MOVE_ALL and not task.cred.has_cap(_CAP_SYS_NICE):
        raise LinuxError(errno.EPERM)
    end = start + (length + _PAGE - 1) // _PAGE * _PAGE
    if start % _PAGE or end >> 64:
        raise LinuxError(errno.EINVAL)
    _check_policy(u32(mode), nodes)
    if end > start and not task.mm.vmas.covered(start, end):
        raise LinuxError(errno.EFAULT)
    return 0


def _target(task: Task, pid: int) -> Task:
    target = task.kernel.tasks.get(s32(pid)) if s32(pid) else task
    if target is None:
        raise LinuxError(errno.ESRCH)
    return target


def sys_migrate_pages(task: Task, pid: int, maxnode: int, old: int, new: int) -> int:
    """migrate_pages(2): nothing to move. ESRCH, EINVAL, EFAULT."""
    _target(task, pid)
    _read_nodes(task, old, maxnode)
    if not _read_nodes(task, new, maxnode):
        raise LinuxError(errno.EINVAL)
    return 0


def sys_move_pages(task: Task, pid: int, count: int, pages: int, nodes: int, status: int, flags: int) -> int:
    """move_pages(2): every mapped page is on node 0. EINVAL, EPERM, ESRCH, E2BIG, ENODEV: another node."""
    flags = u32(flags)
    if flags & ~(_MF_MOVE | _MF_MOVE_ALL):
        raise LinuxError(errno.EINVAL)
    if flags & _MF_MOVE_ALL and not task.cred.has_cap(_CAP_SYS_NICE):
        raise LinuxError(errno.EPERM)
    if count > _MAX_PAGES:
        raise LinuxError(errno.E2BIG)
    mm = _target(task, pid).mm_or_none
    raw = task.mm.read(pages, count * 8)
    wanted = task.mm.read(nodes, count * 4) if nodes else bytes(count * 4)
    if any(wanted):
        raise LinuxError(errno.ENODEV)
    out = bytearray()
    for at in range(0, count * 8, 8):
        area = mm.vmas.find(int.from_bytes(raw[at : at + 8], "little")) if mm is not None else None
        out += (0 if area is not None else -errno.EFAULT).to_bytes(4, "little", signed=True)
    task.mm.write(status, bytes(out))
    return 0


ROWS: Final = (
    Row("set_mempolicy", sys_set_mempolicy, "int ptr count", "partial", "one node"),
    Row("get_mempolicy", sys_get_mempolicy, "ptr ptr count ptr flags", "partial", "one node"),
    Row("mbind", sys_mbind, "ptr size int ptr count flags", "partial", "one node"),
    Row("migrate_pages", sys_migrate_pages, "pid count ptr ptr", "partial", "one node"),
    Row("move_pages", sys_move_pages, "pid count ptr ptr ptr flags", "partial", "one node"),
)

"""Hardware faults of guest code: from what the host reported to the signal that Linux would send (sigaction(2))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.sentry.kernel.signals import SigInfo, force_signal

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["handle"]

_SIGSEGV: Final = 11
_SI_KERNEL: Final = 0x80
_SEGV_MAPERR, _SEGV_ACCERR = 1, 2
_KNOWN: Final = frozenset((4, 5, 7, 8, 11))  # ILL TRAP BUS FPE SEGV


def handle(task: Task) -> None:
    """Queue the signal for the fault that `task.context` stopped with."""
    context = task.context
    regs = context.regs
    task.fault_address, task.fault_trap, task.fault_error = regs.cr2, regs.trapno, regs.err
    signo, code, addr = context.fault
    if signo not in _KNOWN:
        signo, code, addr = _SIGSEGV, _SI_KERNEL, 0
    if code >= 0x80000000:
        code -= 0x100000000
    if signo == _SIGSEGV and code == _SEGV_ACCERR and task.mm.vmas.find(addr) is None:
        code = _SEGV_MAPERR  # the host keeps what was unmapped (mm/local_maps.py)
    force_signal(task, SigInfo(signo, code, addr=addr))

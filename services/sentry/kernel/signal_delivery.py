"""Taking signals: what happens to a task before it goes back to guest code (signal(7), rt_sigaction(2), sigreturn(2)).

`deliver` acts on everything that is pending: handlers get their frames (x86-64 rt_sigframe, built as Linux builds
it), default actions stop or end the process, an interrupted call becomes EINTR or is set up to run again. `sigreturn`
undoes one frame; everything in a frame is the guest's and is checked or masked. `set_altstack` is sigaltstack(2).

The frame, from the lower address: pretcode (sa_restorer), ucontext, siginfo; then, 64-byte aligned, the XSAVE image;
all of it below the 128-byte red zone of the interrupted code, or at the top of the alternate stack.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final

from protocol.abi import resource_h as rh
from protocol.abi import signal_h as sg
from protocol.abi.layout import U32, U64
from protocol.abi.numbers_amd64 import NR_restart_syscall
from services.sentry.errors import LinuxError, Restart
from services.sentry.kernel.exits import do_exit
from services.sentry.kernel.sessions import is_orphaned
from services.sentry.kernel.signals import (
    CORE_SIGNALS,
    IGNORED_BY_DEFAULT,
    STOP_SIGNALS,
    SigAction,
    SigInfo,
    dequeue,
    force_signal,
    kick,
    recalculate,
    set_blocked,
    start_group_exit,
)

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.thread_group import ThreadGroup

__all__ = ["deliver", "set_altstack", "sigreturn"]

_MASK64: Final = 0xFFFF_FFFF_FFFF_FFFF
_RED_ZONE: Final = 128
_FRAME_BYTES: Final = 8 + sg.UCONTEXT_BYTES + sg.SIGINFO_BYTES
_USER_CS: Final = 0x33
_USER_DS: Final = 0x2B
_EFLAGS_CLEARED: Final = 0x400 | 0x100 | 0x10000  # DF, TF, RF
_EFLAGS_RESTORED: Final = 0x40000 | 0x10000 | 0x800 | 0x400 | 0x100 | 0x80 | 0x40 | 0x10 | 0x4 | 0x1
_UC_FLAGS: Final = sg.UC_FP_XSTATE | sg.UC_SIGCONTEXT_SS | sg.UC_STRICT_RESTORE_SS
_UC_FLAGS_NO_FP: Final = _UC_FLAGS & ~sg.UC_FP_XSTATE
_RESTARTS: Final = frozenset({-Restart.SYS, -Restart.NOINTR, -Restart.NOHAND, -Restart.BLOCK})
_SYSCALL_INSTRUCTION_BYTES: Final = 2
_FXSAVE_BYTES: Final = 512
_FX_SW_OFFSET: Final = 464
_XSAVE_HEADER: Final = struct.Struct("<QQQ")
_MXCSR_BITS: Final = 0xFFFF


def deliver(task: Task, result: int | None) -> bool:
    """Act on what is pending; whether the task goes back to guest code (with `context.regs` as they stand then).

    `result`: of the call that just ended (negative: errno or an internal restart code), None when there was none.
    False: the task ended, or it stopped; when it becomes runnable again, call with None: its result was kept.
    """
    if task.exiting:
        return False
    if result is None:
        result = task.held_result
    task.held_result = None
    group = task.group
    handled = False
    while task.signal_pending:
        if group.exiting or task.zapped:
            do_exit(task, group.exit_status if group.exiting else sg.SIGKILL)
            return False
        if task.stop_pending:
            _stop(task)
            task.held_result = result
            return False
        info = None
        if task.forced:
            task.forced = 0
            info = task.pending.take_fault(~task.signal_mask)
            _note_fault(task)
        if info is None:
            info = dequeue(task, ~task.signal_mask & _MASK64)
        if info is None:
            break
        action = group.sighand.actions[info.signo]
        if action.handler > sg.SIG_IGN:
            _handle(task, info, action, result)
            result = None
            handled = True
        elif action.handler == sg.SIG_DFL:
            _default(task, group, info)
    if result is not None:
        _finish_call(task, result)
    if task.saved_mask is not None:
        set_blocked(task, _take_saved(task))
        if task.signal_pending:
            return deliver(task, None)
    recalculate(task)
    if handled:
        task.share_mask()  # so that its stub can return from the handler by itself
    return True


def _take_saved(task: Task) -> int:
    mask = task.saved_mask
    task.saved_mask = None
    return mask if mask is not None else task.signal_mask


def _finish_call(task: Task, result: int) -> None:
    """No handler runs: give the result, or set the call up to run again."""
    context = task.context
    regs = context.regs
    if result not in _RESTARTS:
        regs.rax = result & _MASK64
        return
    regs.rax = NR_restart_syscall if result == -Restart.BLOCK else context.orig_rax
    regs.rip = (regs.rip - _SYSCALL_INSTRUCTION_BYTES) & _MASK64


def _handle(task: Task, info: SigInfo, action: SigAction, result: int | None) -> None:
    """Enter the guest's handler; a frame that cannot be written is a SIGSEGV."""
    signo = info.signo
    context = task.context
    regs = context.regs
    if result is not None:
        again = result == -Restart.NOINTR or (result == -Restart.SYS and action.flags & sg.SA_RESTART)
        if again:
            regs.rax = context.orig_rax
            regs.rip = (regs.rip - _SYSCALL_INSTRUCTION_BYTES) & _MASK64
        elif result in _RESTARTS:
            regs.rax = -errno.EINTR & _MASK64
        else:
            regs.rax = result & _MASK64
    if action.flags & sg.SA_RESETHAND:
        task.group.sighand.set(signo, SigAction(sg.SIG_DFL, action.flags, action.restorer, action.mask))
    saved = task.saved_mask if task.saved_mask is not None else task.signal_mask
    try:
        _push_frame(task, info, action, saved)
    except LinuxError:
        force_signal(task, SigInfo(sg.SIGSEGV, sg.SI_KERNEL), reset=signo == sg.SIGSEGV)
        return
    task.saved_mask = None  # sigreturn puts it back
    blocked = task.signal_mask | action.mask
    if not action.flags & sg.SA_NODEFER:
        blocked |= 1 << (signo - 1)
    set_blocked(task, blocked)
    if task.altstack_flags & sg.SS_AUTODISARM:
        task.reset_altstack()


def _note_fault(task: Task) -> None:
    """What the processor said of the last fault, for this frame and later ones (struct sigcontext err, trapno, cr2)."""
    regs = task.context.regs
    task.fault_error = getattr(regs, "err", 0)
    task.fault_trap = getattr(regs, "trapno", 0)
    task.fault_address = getattr(regs, "cr2", 0)


def _push_frame(task: Task, info: SigInfo, action: SigAction, saved_mask: int) -> None:
    """Write the rt_sigframe and point the registers at the handler. EFAULT: no stack, or no restorer."""
    context = task.context
    regs = context.regs
    if not action.flags & sg.SA_RESTORER:
        raise LinuxError(errno.EFAULT, "handler without a restorer")
    nested = _on_altstack(task, regs.rsp)
    entering = False
    top = regs.rsp - _RED_ZONE
    if action.flags & sg.SA_ONSTACK and task.altstack_size and not _on_altstack(task, top):
        top = task.altstack_sp + task.altstack_size
        entering = True
    fpstate = context.fpstate()
    fp_addr = (top - len(fpstate)) & ~63  # without an image only the place where the frame ends
    frame = ((fp_addr - _FRAME_BYTES) & ~15) - 8
    if frame <= 0 or ((nested or entering) and not _inside_altstack(task, frame)):
        raise LinuxError(errno.EFAULT, "signal stack overflow")
    head = sg.RT_SIGFRAME_HEAD.pack(
        action.restorer,
        _UC_FLAGS if fpstate else _UC_FLAGS_NO_FP,
        0,
        task.altstack_sp,
        _signed32(task.altstack_flags),
        task.altstack_size,
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
        regs.rdi,
        regs.rsi,
        regs.rbp,
        regs.rbx,
        regs.rdx,
        regs.rax,
        regs.rcx,
        regs.rsp,
        regs.rip,
        regs.eflags,
        _USER_CS,
        0,
        0,
        _USER_DS,
        task.fault_error,
        task.fault_trap,
        saved_mask,
        task.fault_address,
        fp_addr if fpstate else 0,
        saved_mask,
    )
    task.mm.write(frame, b"".join((head, info.pack(), bytes(fp_addr - frame - _FRAME_BYTES), fpstate)))
    regs.rdi = info.signo
    regs.rsi = frame + 8 + sg.UCONTEXT_BYTES
    regs.rdx = frame + 8
    regs.rax = 0
    regs.rip = action.handler
    regs.rsp = frame
    regs.eflags &= ~_EFLAGS_CLEARED


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >> 31 & 1 else value


# --- default actions --------------------------------------------------------------------------------------------------
def _default(task: Task, group: ThreadGroup, info: SigInfo) -> None:
    bit = 1 << (info.signo - 1)
    if bit & IGNORED_BY_DEFAULT:
        return
    if group.is_init and not info.outside and info.code <= sg.SI_USER and info.pid not in (0, group.pid):
        return  # pid_namespaces(7): other members cannot kill init; it had the signal blocked when it was sent
    if bit & STOP_SIGNALS:
        process_group = group.process_group
        if info.signo != sg.SIGSTOP and process_group is not None and is_orphaned(process_group):
            return
        _begin_stop(task, group, info.signo)
        return
    status = info.signo
    if bit & CORE_SIGNALS and group.rlimits[rh.RLIMIT_CORE][0] and group.dumpable == 1:
        status |= 0x80
    start_group_exit(group, status)


def _begin_stop(task: Task, group: ThreadGroup, signo: int) -> None:
    """Group stop: every thread stops when it comes to `deliver`."""
    if not group.stop_count:
        group.stop_signal = signo
    for other in group.tasks.values():
        if other.exiting or other.in_stop or other.stop_pending:
            continue
        other.stop_pending = True
        group.stop_count += 1
        other.signal_pending = True
        if other is not task:
            kick(other)


def _stop(task: Task) -> None:
    """Take part in the group stop; the last thread tells the parent."""
    group = task.group
    task.stop_pending = False
    task.in_stop = True
    task.state = "T"
    group.stop_count -= 1
    if group.stop_count <= 0:
        group.stop_count = 0
        group.stopped = True
        group.stop_report = group.stop_signal
        group.continue_report = False
        group.notify_parent(sg.CLD_STOPPED, group.stop_signal)


# --- rt_sigreturn -----------------------------------------------------------------------------------------------------
def sigreturn(task: Task) -> None:
    """rt_sigreturn(2): load everything from the frame whose ucontext is at rsp. A bad frame forces SIGSEGV."""
    context = task.context
    regs = context.regs
    try:
        raw = task.mm.read(regs.rsp & _MASK64, sg.UCONTEXT_BYTES)
        head = sg.UCONTEXT_HEAD.unpack_from(raw)
        saved = sg.SIGCONTEXT.unpack_from(raw, sg.UCONTEXT_HEAD.size)
        (mask,) = U64.unpack_from(raw, sg.UCONTEXT_BYTES - 8)
        image = _read_fpstate(task, saved[26])
    except LinuxError:
        force_signal(task, SigInfo(sg.SIGSEGV, sg.SI_KERNEL))
        return
    context.set_fpstate(image)
    (
        regs.r8,
        regs.r9,
        regs.r10,
        regs.r11,
        regs.r12,
        regs.r13,
        regs.r14,
        regs.r15,
        regs.rdi,
        regs.rsi,
        regs.rbp,
        regs.rbx,
        regs.rdx,
        regs.rax,
        regs.rcx,
        regs.rsp,
        regs.rip,
        flags,
    ) = saved[:18]
    regs.eflags = regs.eflags & ~_EFLAGS_RESTORED | flags & _EFLAGS_RESTORED
    set_blocked(task, mask)
    try:
        set_altstack(task, head[2], head[3] & 0xFFFFFFFF, head[4])
    except LinuxError:
        return  # Linux ignores it too: the frame's stack may be the one in use


def _read_fpstate(task: Task, addr: int) -> bytes:
    """The image at `addr`, checked so that loading it cannot fault; b'' for address 0. EFAULT, EINVAL: a bad one."""
    if not addr:
        return b""
    mm = task.mm
    limit = task.context.fpstate_size()
    try:
        legacy = mm.read(addr, max(limit, _FXSAVE_BYTES))  # all of it in one, as a rule
    except LinuxError:
        legacy = mm.read(addr, _FXSAVE_BYTES)
    behind = legacy[_FXSAVE_BYTES:]
    legacy = legacy[:_FXSAVE_BYTES]
    if addr & 15 or U32.unpack_from(legacy, 24)[0] & ~_MXCSR_BITS:  # FXRSTOR would fault
        raise LinuxError(errno.EINVAL, "mxcsr")
    magic, extended, features, size = sg.FPX_SW_BYTES.unpack_from(legacy, _FX_SW_OFFSET)
    if magic != sg.FP_XSTATE_MAGIC1 or not _FXSAVE_BYTES + 64 <= size < extended <= limit or extended - size != 4:
        return legacy  # as Linux: only the legacy part is meant
    rest = extended - _FXSAVE_BYTES
    image = legacy + (behind[:rest] if behind else mm.read(addr + _FXSAVE_BYTES, rest))
    if U32.unpack_from(image, size)[0] != sg.FP_XSTATE_MAGIC2:
        return legacy
    present, compacted, reserved = _XSAVE_HEADER.unpack_from(image, _FXSAVE_BYTES)
    if addr & 63 or compacted or reserved or present & ~features:  # XRSTOR would fault
        raise LinuxError(errno.EINVAL, "xsave header")
    return image


# --- sigaltstack ------------------------------------------------------------------------------------------------------
def _inside_altstack(task: Task, sp: int) -> bool:
    return task.altstack_sp < sp <= task.altstack_sp + task.altstack_size


def _on_altstack(task: Task, sp: int) -> bool:
    """Whether code with this stack pointer runs on the alternate stack (never so with SS_AUTODISARM)."""
    return not task.altstack_flags & sg.SS_AUTODISARM and _inside_altstack(task, sp)


def altstack_flags(task: Task, sp: int) -> int:
    """ss_flags as sigaltstack(2) reports them."""
    if not task.altstack_size:
        mode = sg.SS_DISABLE
    else:
        mode = sg.SS_ONSTACK if _on_altstack(task, sp) else 0
    return mode | task.altstack_flags & sg.SS_FLAG_BITS


def set_altstack(task: Task, sp: int, flags: int, size: int) -> None:
    """sigaltstack(2). EPERM: it is in use; EINVAL: flags; ENOMEM: below MINSIGSTKSZ."""
    if _on_altstack(task, task.context.regs.rsp):
        raise LinuxError(errno.EPERM)
    mode = flags & ~sg.SS_FLAG_BITS
    if mode not in (0, sg.SS_DISABLE, sg.SS_ONSTACK):
        raise LinuxError(errno.EINVAL)
    if (sp, flags, size) == (task.altstack_sp, task.altstack_flags, task.altstack_size):
        return
    if mode == sg.SS_DISABLE:
        sp = size = 0
    elif size < sg.MINSIGSTKSZ:
        raise LinuxError(errno.ENOMEM)
    task.keep_mask()  # the stub was told of the old one
    task.altstack_sp, task.altstack_flags, task.altstack_size = sp, flags, size

"""<asm/signal.h>, <asm-generic/siginfo.h>, <asm/sigcontext.h>, <linux/signalfd.h>: signals for x86-64.

Signal sets are 64-bit integers with bit (signo - 1). siginfo is packed by one function per kind of sender, as the union
in the header has one member per kind; each returns the whole 128 bytes.
"""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Signal numbers.
SIGHUP: Final[int] = 1
SIGINT: Final[int] = 2
SIGQUIT: Final[int] = 3
SIGILL: Final[int] = 4
SIGTRAP: Final[int] = 5
SIGABRT: Final[int] = 6
SIGIOT: Final[int] = 6
SIGBUS: Final[int] = 7
SIGFPE: Final[int] = 8
SIGKILL: Final[int] = 9
SIGUSR1: Final[int] = 10
SIGSEGV: Final[int] = 11
SIGUSR2: Final[int] = 12
SIGPIPE: Final[int] = 13
SIGALRM: Final[int] = 14
SIGTERM: Final[int] = 15
SIGSTKFLT: Final[int] = 16
SIGCHLD: Final[int] = 17
SIGCONT: Final[int] = 18
SIGSTOP: Final[int] = 19
SIGTSTP: Final[int] = 20
SIGTTIN: Final[int] = 21
SIGTTOU: Final[int] = 22
SIGURG: Final[int] = 23
SIGXCPU: Final[int] = 24
SIGXFSZ: Final[int] = 25
SIGVTALRM: Final[int] = 26
SIGPROF: Final[int] = 27
SIGWINCH: Final[int] = 28
SIGIO: Final[int] = 29
SIGPOLL: Final[int] = 29
SIGPWR: Final[int] = 30
SIGSYS: Final[int] = 31
SIGUNUSED: Final[int] = 31

# sigaction(2).
SA_RESTORER: Final[int] = 0x4000000
SA_NOCLDSTOP: Final[int] = 1
SA_NOCLDWAIT: Final[int] = 2
SA_SIGINFO: Final[int] = 4
SA_UNSUPPORTED: Final[int] = 0x400
SA_EXPOSE_TAGBITS: Final[int] = 0x800
SA_ONSTACK: Final[int] = 0x8000000
SA_RESTART: Final[int] = 0x10000000
SA_NODEFER: Final[int] = 0x40000000
SA_RESETHAND: Final[int] = 0x80000000
SA_NOMASK: Final[int] = 0x40000000
SA_ONESHOT: Final[int] = 0x80000000

# sigprocmask(2).
SIG_BLOCK: Final[int] = 0
SIG_UNBLOCK: Final[int] = 1
SIG_SETMASK: Final[int] = 2

# sa_handler values.
SIG_DFL: Final[int] = 0
SIG_IGN: Final[int] = 1

# sigaltstack(2).
MINSIGSTKSZ: Final[int] = 0x800
SS_ONSTACK: Final[int] = 1
SS_DISABLE: Final[int] = 2
SS_AUTODISARM: Final[int] = 0x80000000
SS_FLAG_BITS: Final[int] = 0x80000000

# si_code of any signal.
SI_USER: Final[int] = 0
SI_KERNEL: Final[int] = 128
SI_QUEUE: Final[int] = -1
SI_TIMER: Final[int] = -2
SI_MESGQ: Final[int] = -3
SI_ASYNCIO: Final[int] = -4
SI_SIGIO: Final[int] = -5
SI_TKILL: Final[int] = -6
SI_DETHREAD: Final[int] = -7
SI_ASYNCNL: Final[int] = -60

# si_code by signal.
ILL_ILLOPC: Final[int] = 1
ILL_ILLOPN: Final[int] = 2
ILL_ILLADR: Final[int] = 3
ILL_ILLTRP: Final[int] = 4
ILL_PRVOPC: Final[int] = 5
ILL_PRVREG: Final[int] = 6
ILL_COPROC: Final[int] = 7
ILL_BADSTK: Final[int] = 8
ILL_BADIADDR: Final[int] = 9
FPE_INTDIV: Final[int] = 1
FPE_INTOVF: Final[int] = 2
FPE_FLTDIV: Final[int] = 3
FPE_FLTOVF: Final[int] = 4
FPE_FLTUND: Final[int] = 5
FPE_FLTRES: Final[int] = 6
FPE_FLTINV: Final[int] = 7
FPE_FLTSUB: Final[int] = 8
FPE_FLTUNK: Final[int] = 14
FPE_CONDTRAP: Final[int] = 15
SEGV_MAPERR: Final[int] = 1
SEGV_ACCERR: Final[int] = 2
SEGV_BNDERR: Final[int] = 3
SEGV_PKUERR: Final[int] = 4
SEGV_ACCADI: Final[int] = 5
SEGV_ADIDERR: Final[int] = 6
SEGV_ADIPERR: Final[int] = 7
SEGV_MTEAERR: Final[int] = 8
SEGV_MTESERR: Final[int] = 9
BUS_ADRALN: Final[int] = 1
BUS_ADRERR: Final[int] = 2
BUS_OBJERR: Final[int] = 3
BUS_MCEERR_AR: Final[int] = 4
BUS_MCEERR_AO: Final[int] = 5
TRAP_BRKPT: Final[int] = 1
TRAP_TRACE: Final[int] = 2
TRAP_BRANCH: Final[int] = 3
TRAP_HWBKPT: Final[int] = 4
TRAP_UNK: Final[int] = 5
TRAP_PERF: Final[int] = 6
TRAP_PERF_FLAG_ASYNC: Final[int] = 1
CLD_EXITED: Final[int] = 1
CLD_KILLED: Final[int] = 2
CLD_DUMPED: Final[int] = 3
CLD_TRAPPED: Final[int] = 4
CLD_STOPPED: Final[int] = 5
CLD_CONTINUED: Final[int] = 6
POLL_IN: Final[int] = 1
POLL_OUT: Final[int] = 2
POLL_MSG: Final[int] = 3
POLL_ERR: Final[int] = 4
POLL_PRI: Final[int] = 5
POLL_HUP: Final[int] = 6
SYS_SECCOMP: Final[int] = 1
SYS_USER_DISPATCH: Final[int] = 2

# sigevent.
SIGEV_SIGNAL: Final[int] = 0
SIGEV_NONE: Final[int] = 1
SIGEV_THREAD: Final[int] = 2
SIGEV_THREAD_ID: Final[int] = 4
SIGEV_MAX_SIZE: Final[int] = 64
SIGEV_PAD_SIZE: Final[int] = 12

# signalfd(2).
SFD_CLOEXEC: Final[int] = 0o2000000
SFD_NONBLOCK: Final[int] = 0o4000

# uc_flags.
UC_FP_XSTATE: Final[int] = 1
UC_SIGCONTEXT_SS: Final[int] = 2
UC_STRICT_RESTORE_SS: Final[int] = 4

SIGSTKSZ: Final[int] = 8192
SIGRTMIN: Final[int] = 32
SIGRTMAX: Final[int] = 64
NSIG: Final[int] = 64
#: Bytes in a signal set as system calls count it.
SIGSET_BYTES: Final[int] = 8
SIGSET_MASK: Final[int] = 0xFFFF_FFFF_FFFF_FFFF

# struct sigaction as rt_sigaction(2) takes it: handler, flags, restorer, mask.
SIGACTION: Final = layout("struct kernel_sigaction", "QQQQ", 32)
# stack_t: ss_sp, ss_flags, ss_size.
STACK_T: Final = layout("stack_t", "Qi4xQ", 24)
# struct sigevent: sigev_value, sigev_signo, sigev_notify, sigev_notify_thread_id.
SIGEVENT: Final = layout("struct sigevent", "Qiii44x", 64)
# The size-and-mask argument of pselect6(2): address, bytes.
SIGSET_ARGUMENT: Final = layout("struct sigset_argpack", "QQ", 16)

SIGINFO_BYTES: Final[int] = 128
# The three leading fields: si_signo, si_errno, si_code.
SIGINFO_HEADER: Final = layout("siginfo_t header", "iii4x", 16)
SIGINFO_KILL: Final = layout("siginfo_t._kill", "iii4xiI104x", 128)
SIGINFO_TIMER: Final = layout("siginfo_t._timer", "iii4xiiQ96x", 128)
SIGINFO_QUEUE: Final = layout("siginfo_t._rt", "iii4xiIQ96x", 128)
SIGINFO_CHILD: Final = layout("siginfo_t._sigchld", "iii4xiIi4xqq80x", 128)
SIGINFO_FAULT: Final = layout("siginfo_t._sigfault", "iii4xQh6xQQ80x", 128)
SIGINFO_POLL: Final = layout("siginfo_t._sigpoll", "iii4xqi100x", 128)
SIGINFO_SYSCALL: Final = layout("siginfo_t._sigsys", "iii4xQiI96x", 128)

# struct sigcontext: r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, cs, gs, fs, ss, err, trapno, oldmask,
# cr2, fpstate address.
SIGCONTEXT: Final = layout("struct sigcontext", "18QHHHHQQQQQ64x", 256)
# struct ucontext before the sigcontext: uc_flags, uc_link, uc_stack (sp, flags, size); after it comes uc_sigmask.
UCONTEXT_HEAD: Final = layout("struct ucontext head", "QQQi4xQ", 40)
UCONTEXT_BYTES: Final[int] = 304
# struct rt_sigframe before its siginfo, in one: pretcode (sa_restorer), the ucontext with its sigcontext, uc_sigmask.
RT_SIGFRAME_HEAD: Final = layout(
    "struct rt_sigframe", "Q" + UCONTEXT_HEAD.format[1:] + SIGCONTEXT.format[1:] + "Q", 8 + UCONTEXT_BYTES
)
# struct _fpx_sw_bytes at offset 464 of an fxsave frame: magic1, extended_size, xfeatures, xstate_size.
FPX_SW_BYTES: Final = layout("struct _fpx_sw_bytes", "IIQI28x", 48)
FP_XSTATE_MAGIC1: Final[int] = 0x46505853
FP_XSTATE_MAGIC2: Final[int] = 0x46505845

# struct signalfd_siginfo: ssi_signo, ssi_errno, ssi_code, ssi_pid, ssi_uid, ssi_fd, ssi_tid, ssi_band, ssi_overrun,
# ssi_trapno, ssi_status, ssi_int, ssi_ptr, ssi_utime, ssi_stime, ssi_addr, ssi_addr_lsb, ssi_syscall, ssi_call_addr,
# ssi_arch.
SIGNALFD_SIGINFO: Final = layout("struct signalfd_siginfo", "IiiIIiIIIIiiQQQQH2xiQI28x", 128)


def bit(signo: int) -> int:
    """The signal set that holds only `signo`."""
    return 1 << (signo - 1)


def pack_siginfo_kill(signo: int, code: int, pid: int, uid: int) -> bytes:
    """siginfo of kill(2), tgkill(2) and the kernel's own signals; `code` SI_USER, SI_TKILL, SI_KERNEL."""
    return SIGINFO_KILL.pack(signo, 0, code, pid, uid)


def pack_siginfo_timer(signo: int, timer_id: int, overrun: int, value: int) -> bytes:
    """siginfo of a POSIX timer (SI_TIMER); `value` is the 64 bits of sigev_value."""
    return SIGINFO_TIMER.pack(signo, 0, SI_TIMER, timer_id, overrun, value)


def pack_siginfo_queue(signo: int, code: int, pid: int, uid: int, value: int) -> bytes:
    """siginfo of sigqueue(3) (SI_QUEUE) and of mq_notify(3) (SI_MESGQ); `value` is the 64 bits of the union sigval."""
    return SIGINFO_QUEUE.pack(signo, 0, code, pid, uid, value)


def pack_siginfo_child(signo: int, code: int, pid: int, uid: int, status: int, utime: int, stime: int) -> bytes:
    """siginfo of SIGCHLD and of waitid(2): `code` CLD_*, `status` the exit status or signal, times in clock ticks."""
    return SIGINFO_CHILD.pack(signo, 0, code, pid, uid, status, utime, stime)


def pack_siginfo_fault(signo: int, code: int, address: int, lsb: int = 0, lower: int = 0, upper: int = 0) -> bytes:
    """siginfo of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP; `lower` holds the key for SEGV_PKUERR."""
    return SIGINFO_FAULT.pack(signo, 0, code, address, lsb, lower, upper)


def pack_siginfo_poll(signo: int, code: int, band: int, fd: int) -> bytes:
    """siginfo of SIGIO with F_SETSIG: `code` POLL_*, `band` the poll events."""
    return SIGINFO_POLL.pack(signo, 0, code, band, fd)


def pack_siginfo_syscall(signo: int, code: int, address: int, number: int, architecture: int, errno: int = 0) -> bytes:
    """siginfo of SIGSYS from a seccomp filter (SYS_SECCOMP); `errno` is the filter's data."""
    return SIGINFO_SYSCALL.pack(signo, errno, code, address, number, architecture)

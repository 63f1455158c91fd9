"""<linux/ptrace.h>, <asm/ptrace-abi.h>, <sys/user.h>: ptrace(2) requests, options, events and registers."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Requests.
PTRACE_TRACEME: Final[int] = 0
PTRACE_PEEKTEXT: Final[int] = 1
PTRACE_PEEKDATA: Final[int] = 2
PTRACE_PEEKUSR: Final[int] = 3
PTRACE_POKETEXT: Final[int] = 4
PTRACE_POKEDATA: Final[int] = 5
PTRACE_POKEUSR: Final[int] = 6
PTRACE_CONT: Final[int] = 7
PTRACE_KILL: Final[int] = 8
PTRACE_SINGLESTEP: Final[int] = 9
PTRACE_ATTACH: Final[int] = 0x10
PTRACE_DETACH: Final[int] = 0x11
PTRACE_SYSCALL: Final[int] = 0x18
PTRACE_SETOPTIONS: Final[int] = 0x4200
PTRACE_GETEVENTMSG: Final[int] = 0x4201
PTRACE_GETSIGINFO: Final[int] = 0x4202
PTRACE_SETSIGINFO: Final[int] = 0x4203
PTRACE_GETREGSET: Final[int] = 0x4204
PTRACE_SETREGSET: Final[int] = 0x4205
PTRACE_SEIZE: Final[int] = 0x4206
PTRACE_INTERRUPT: Final[int] = 0x4207
PTRACE_LISTEN: Final[int] = 0x4208
PTRACE_PEEKSIGINFO: Final[int] = 0x4209
PTRACE_GETSIGMASK: Final[int] = 0x420A
PTRACE_SETSIGMASK: Final[int] = 0x420B
PTRACE_SECCOMP_GET_FILTER: Final[int] = 0x420C
PTRACE_SECCOMP_GET_METADATA: Final[int] = 0x420D
PTRACE_GET_SYSCALL_INFO: Final[int] = 0x420E
PTRACE_GET_RSEQ_CONFIGURATION: Final[int] = 0x420F
PTRACE_GETREGS: Final[int] = 0xC
PTRACE_SETREGS: Final[int] = 0xD
PTRACE_GETFPREGS: Final[int] = 0xE
PTRACE_SETFPREGS: Final[int] = 0xF
PTRACE_GETFPXREGS: Final[int] = 0x12
PTRACE_SETFPXREGS: Final[int] = 0x13
PTRACE_OLDSETOPTIONS: Final[int] = 0x15
PTRACE_GET_THREAD_AREA: Final[int] = 0x19
PTRACE_SET_THREAD_AREA: Final[int] = 0x1A
PTRACE_ARCH_PRCTL: Final[int] = 0x1E
PTRACE_SYSEMU: Final[int] = 0x1F
PTRACE_SYSEMU_SINGLESTEP: Final[int] = 0x20
PTRACE_SINGLEBLOCK: Final[int] = 0x21

# PTRACE_SETOPTIONS.
PTRACE_O_TRACESYSGOOD: Final[int] = 0x00000001
PTRACE_O_TRACEFORK: Final[int] = 0x00000002
PTRACE_O_TRACEVFORK: Final[int] = 0x00000004
PTRACE_O_TRACECLONE: Final[int] = 0x00000008
PTRACE_O_TRACEEXEC: Final[int] = 0x00000010
PTRACE_O_TRACEVFORKDONE: Final[int] = 0x00000020
PTRACE_O_TRACEEXIT: Final[int] = 0x00000040
PTRACE_O_TRACESECCOMP: Final[int] = 0x00000080
PTRACE_O_EXITKILL: Final[int] = 0x00100000
PTRACE_O_SUSPEND_SECCOMP: Final[int] = 0x00200000
PTRACE_O_MASK: Final[int] = 0x003000FF

# Events.
PTRACE_EVENT_FORK: Final[int] = 1
PTRACE_EVENT_VFORK: Final[int] = 2
PTRACE_EVENT_CLONE: Final[int] = 3
PTRACE_EVENT_EXEC: Final[int] = 4
PTRACE_EVENT_VFORK_DONE: Final[int] = 5
PTRACE_EVENT_EXIT: Final[int] = 6
PTRACE_EVENT_SECCOMP: Final[int] = 7
PTRACE_EVENT_STOP: Final[int] = 128

# PTRACE_GET_SYSCALL_INFO.
PTRACE_SYSCALL_INFO_NONE: Final[int] = 0
PTRACE_SYSCALL_INFO_ENTRY: Final[int] = 1
PTRACE_SYSCALL_INFO_EXIT: Final[int] = 2
PTRACE_SYSCALL_INFO_SECCOMP: Final[int] = 3

# struct user_regs_struct: r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss
# fs_base gs_base ds es fs gs.
USER_REGS: Final = layout("struct user_regs_struct", "27Q", 216)

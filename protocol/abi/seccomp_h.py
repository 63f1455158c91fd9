"""<linux/seccomp.h>, <linux/bpf_common.h>, <linux/filter.h>, <linux/audit.h>: seccomp(2) and classic BPF."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

SECCOMP_MODE_DISABLED: Final[int] = 0x00000000
SECCOMP_MODE_STRICT: Final[int] = 0x00000001
SECCOMP_MODE_FILTER: Final[int] = 0x00000002
SECCOMP_SET_MODE_STRICT: Final[int] = 0x00000000
SECCOMP_SET_MODE_FILTER: Final[int] = 0x00000001
SECCOMP_GET_ACTION_AVAIL: Final[int] = 0x00000002
SECCOMP_GET_NOTIF_SIZES: Final[int] = 0x00000003
SECCOMP_FILTER_FLAG_TSYNC: Final[int] = 0x00000001
SECCOMP_FILTER_FLAG_LOG: Final[int] = 0x00000002
SECCOMP_FILTER_FLAG_SPEC_ALLOW: Final[int] = 0x00000004
SECCOMP_FILTER_FLAG_NEW_LISTENER: Final[int] = 0x00000008
SECCOMP_FILTER_FLAG_TSYNC_ESRCH: Final[int] = 0x00000010
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: Final[int] = 0x00000020
SECCOMP_RET_KILL_PROCESS: Final[int] = 0x80000000
SECCOMP_RET_KILL_THREAD: Final[int] = 0x00000000
SECCOMP_RET_KILL: Final[int] = 0x00000000
SECCOMP_RET_TRAP: Final[int] = 0x00030000
SECCOMP_RET_ERRNO: Final[int] = 0x00050000
SECCOMP_RET_USER_NOTIF: Final[int] = 0x7FC00000
SECCOMP_RET_TRACE: Final[int] = 0x7FF00000
SECCOMP_RET_LOG: Final[int] = 0x7FFC0000
SECCOMP_RET_ALLOW: Final[int] = 0x7FFF0000
SECCOMP_RET_ACTION_FULL: Final[int] = 0xFFFF0000
SECCOMP_RET_ACTION: Final[int] = 0x7FFF0000
SECCOMP_RET_DATA: Final[int] = 0x0000FFFF
SECCOMP_USER_NOTIF_FLAG_CONTINUE: Final[int] = 0x00000001

SECCOMP_ADDFD_FLAG_SETFD: Final[int] = 1
SECCOMP_ADDFD_FLAG_SEND: Final[int] = 2

# ioctl(2) on a listener.
SECCOMP_IOCTL_NOTIF_RECV: Final[int] = 0xC0502100
SECCOMP_IOCTL_NOTIF_SEND: Final[int] = 0xC0182101
SECCOMP_IOCTL_NOTIF_ID_VALID: Final[int] = 0x40082102
SECCOMP_IOCTL_NOTIF_ADDFD: Final[int] = 0x40182103

# Classic BPF.
BPF_LD: Final[int] = 0
BPF_LDX: Final[int] = 1
BPF_ST: Final[int] = 2
BPF_STX: Final[int] = 3
BPF_ALU: Final[int] = 4
BPF_JMP: Final[int] = 5
BPF_RET: Final[int] = 6
BPF_MISC: Final[int] = 7
BPF_W: Final[int] = 0
BPF_H: Final[int] = 8
BPF_B: Final[int] = 0x10
BPF_IMM: Final[int] = 0
BPF_ABS: Final[int] = 0x20
BPF_IND: Final[int] = 0x40
BPF_MEM: Final[int] = 0x60
BPF_LEN: Final[int] = 0x80
BPF_MSH: Final[int] = 0xA0
BPF_ADD: Final[int] = 0
BPF_SUB: Final[int] = 0x10
BPF_MUL: Final[int] = 0x20
BPF_DIV: Final[int] = 0x30
BPF_OR: Final[int] = 0x40
BPF_AND: Final[int] = 0x50
BPF_LSH: Final[int] = 0x60
BPF_RSH: Final[int] = 0x70
BPF_NEG: Final[int] = 0x80
BPF_MOD: Final[int] = 0x90
BPF_XOR: Final[int] = 0xA0
BPF_JA: Final[int] = 0
BPF_JEQ: Final[int] = 0x10
BPF_JGT: Final[int] = 0x20
BPF_JGE: Final[int] = 0x30
BPF_JSET: Final[int] = 0x40
BPF_K: Final[int] = 0
BPF_X: Final[int] = 8
BPF_MAXINSNS: Final[int] = 0x1000
BPF_A: Final[int] = 0x10
BPF_TAX: Final[int] = 0
BPF_TXA: Final[int] = 0x80
BPF_MEMWORDS: Final[int] = 0x10

AUDIT_ARCH_AARCH64: Final[int] = 0xC00000B7
AUDIT_ARCH_I386: Final[int] = 0x40000003
AUDIT_ARCH_X86_64: Final[int] = 0xC000003E

SECCOMP_IOCTL_NOTIF_SET_FLAGS: Final[int] = 0x40082104
SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: Final[int] = 1

# struct seccomp_data: nr, arch, instruction_pointer, args[6].
SECCOMP_DATA: Final = layout("struct seccomp_data", "iIQ6Q", 64)
# struct seccomp_notif: id, pid, flags, then a seccomp_data.
SECCOMP_NOTIF: Final = layout("struct seccomp_notif", "QIIiIQ6Q", 80)
# struct seccomp_notif_resp: id, val, error, flags.
SECCOMP_NOTIF_RESP: Final = layout("struct seccomp_notif_resp", "QqiI", 24)
# struct seccomp_notif_addfd: id, flags, srcfd, newfd, newfd_flags.
SECCOMP_NOTIF_ADDFD: Final = layout("struct seccomp_notif_addfd", "QIIII", 24)
# struct sock_filter: code, jt, jf, k.
SOCK_FILTER: Final = layout("struct sock_filter", "HBBI", 8)
# struct sock_fprog: len, filter.
SOCK_FPROG: Final = layout("struct sock_fprog", "H6xQ", 16)

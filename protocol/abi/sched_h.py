"""<linux/sched.h>, <linux/sched/types.h>: clone flags, struct clone_args, scheduling policies."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# clone(2), clone3(2), unshare(2).
CLONE_VM: Final[int] = 0x100
CLONE_FS: Final[int] = 0x200
CLONE_FILES: Final[int] = 0x400
CLONE_SIGHAND: Final[int] = 0x800
CLONE_PIDFD: Final[int] = 0x1000
CLONE_PTRACE: Final[int] = 0x2000
CLONE_VFORK: Final[int] = 0x4000
CLONE_PARENT: Final[int] = 0x8000
CLONE_THREAD: Final[int] = 0x10000
CLONE_NEWNS: Final[int] = 0x20000
CLONE_SYSVSEM: Final[int] = 0x40000
CLONE_SETTLS: Final[int] = 0x80000
CLONE_PARENT_SETTID: Final[int] = 0x100000
CLONE_CHILD_CLEARTID: Final[int] = 0x200000
CLONE_DETACHED: Final[int] = 0x400000
CLONE_UNTRACED: Final[int] = 0x800000
CLONE_CHILD_SETTID: Final[int] = 0x1000000
CLONE_NEWCGROUP: Final[int] = 0x2000000
CLONE_NEWUTS: Final[int] = 0x4000000
CLONE_NEWIPC: Final[int] = 0x8000000
CLONE_NEWUSER: Final[int] = 0x10000000
CLONE_NEWPID: Final[int] = 0x20000000
CLONE_NEWNET: Final[int] = 0x40000000
CLONE_IO: Final[int] = 0x80000000
CLONE_CLEAR_SIGHAND: Final[int] = 0x100000000
CLONE_INTO_CGROUP: Final[int] = 0x200000000
CLONE_NEWTIME: Final[int] = 0x80

# Policies.
SCHED_NORMAL: Final[int] = 0
SCHED_FIFO: Final[int] = 1
SCHED_RR: Final[int] = 2
SCHED_BATCH: Final[int] = 3
SCHED_IDLE: Final[int] = 5
SCHED_DEADLINE: Final[int] = 6
SCHED_RESET_ON_FORK: Final[int] = 1073741824
SCHED_FLAG_RESET_ON_FORK: Final[int] = 1
SCHED_FLAG_RECLAIM: Final[int] = 2
SCHED_FLAG_DL_OVERRUN: Final[int] = 4
SCHED_FLAG_KEEP_POLICY: Final[int] = 8
SCHED_FLAG_KEEP_PARAMS: Final[int] = 16
SCHED_FLAG_UTIL_CLAMP_MIN: Final[int] = 32
SCHED_FLAG_UTIL_CLAMP_MAX: Final[int] = 64
SCHED_FLAG_KEEP_ALL: Final[int] = 24
SCHED_FLAG_UTIL_CLAMP: Final[int] = 96
SCHED_FLAG_ALL: Final[int] = 127

# Linux 6.12; behind the SCHED_EXT scheduler class.
SCHED_EXT: Final[int] = 7

# setns(2) and unshare(2): every namespace flag.
CLONE_NAMESPACES: Final[int] = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
    | CLONE_NEWTIME
)
CSIGNAL: Final[int] = 0xFF

# struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size,
# cgroup.
CLONE_ARGS: Final = layout("struct clone_args", "11Q", 88)
CLONE_ARGS_SIZE_VER0: Final[int] = 64
CLONE_ARGS_SIZE_VER1: Final[int] = 80
CLONE_ARGS_SIZE_VER2: Final[int] = 88
# struct sched_param: sched_priority.
SCHED_PARAM: Final = layout("struct sched_param", "i", 4)
# struct sched_attr: size, sched_policy, sched_flags, sched_nice, sched_priority, sched_runtime, sched_deadline,
# sched_period, sched_util_min, sched_util_max.
SCHED_ATTR: Final = layout("struct sched_attr", "IIQiIQQQII", 56)
SCHED_ATTR_SIZE_VER0: Final[int] = 48

# getpriority(2), setpriority(2) (linux/resource.h); ioprio_get(2) (linux/ioprio.h).
PRIO_PROCESS: Final[int] = 0
PRIO_PGRP: Final[int] = 1
PRIO_USER: Final[int] = 2
IOPRIO_WHO_PROCESS: Final[int] = 1
IOPRIO_WHO_PGRP: Final[int] = 2
IOPRIO_WHO_USER: Final[int] = 3

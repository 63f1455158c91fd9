"""<linux/limits.h> and the fixed limits of the kernel that programs can notice."""

from __future__ import annotations

from typing import Final

from protocol.abi.mman_h import PAGE_SIZE

PATH_MAX: Final[int] = 4096
NAME_MAX: Final[int] = 255
PIPE_BUF: Final[int] = 4096
NGROUPS_MAX: Final[int] = 65536
ARG_MAX: Final[int] = 131072
IOV_MAX: Final[int] = 1024
SYMLINK_MAX: Final[int] = 4095
#: Symbolic links followed in one path before ELOOP (include/linux/namei.h).
MAXSYMLINKS: Final[int] = 40
#: The longest single argument or environment string of execve(2), NUL included (linux/binfmts.h).
MAX_ARG_STRLEN: Final[int] = PAGE_SIZE * 32
MAX_ARG_STRINGS: Final[int] = 0x7FFFFFFF
#: How much of a file the kernel reads to recognise its format.
BINPRM_BUF_SIZE: Final[int] = 256
#: Interpreters of interpreters before ELOOP (fs/exec.c).
BINPRM_MAX_RECURSION: Final[int] = 5
#: A task's name, NUL included.
TASK_COMM_LEN: Final[int] = 16
#: Bytes that one read or write moves at most (include/linux/fs.h).
MAX_RW_COUNT: Final[int] = 0x7FFFF000
#: What a pipe holds unless asked otherwise, and the most an unprivileged process may ask.
PIPE_DEFAULT_BYTES: Final[int] = 65536
PIPE_MAX_SIZE: Final[int] = 1048576
#: The highest pid plus one (kernel.pid_max on 64-bit machines with few processors: 32768; 2**22 is the limit).
PID_MAX_DEFAULT: Final[int] = 32768
PID_MAX_LIMIT: Final[int] = 4194304
#: fs.nr_open: the bound of RLIMIT_NOFILE.
NR_OPEN: Final[int] = 1048576
HOST_NAME_MAX: Final[int] = 64
LOGIN_NAME_MAX: Final[int] = 256

"""Runs a command as in an ordinary unprivileged container: no unshare, setns, mounts, pidfd_getfd, namespaces by clone.

usage: refusing_host.py COMMAND ARGUMENT...  This is what Docker's default seccomp profile refuses without capabilities.
"""

from __future__ import annotations

import errno
import os
import sys

import pyseccomp

REFUSED = (
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "fsopen",
    "fsmount",
    "pidfd_getfd",
)
NAMESPACE_FLAGS = 0x7E020000


def main() -> None:
    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in REFUSED:
        program.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
    for bit in range(32):
        if NAMESPACE_FLAGS >> bit & 1:
            flag = 1 << bit
            program.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    program.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags cannot be looked at
    program.load()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()

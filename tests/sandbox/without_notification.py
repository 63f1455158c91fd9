"""Runs a command where seccomp(2) refuses a notification listener, as on a kernel without one.

usage: without_notification.py COMMAND ARGUMENT...
"""

from __future__ import annotations

import errno
import os
import sys

import pyseccomp

SET_MODE_FILTER = 1
NEW_LISTENER = 8


def main() -> None:
    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    program.add_rule(
        pyseccomp.ERRNO(errno.EINVAL),
        "seccomp",
        pyseccomp.Arg(0, pyseccomp.EQ, SET_MODE_FILTER),
        pyseccomp.Arg(1, pyseccomp.MASKED_EQ, NEW_LISTENER, NEW_LISTENER),
    )
    program.load()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()

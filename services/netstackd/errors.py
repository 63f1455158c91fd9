"""The errors that a socket or a configuration call of the stack gives its caller.

Two kinds. `NetError` carries an errno value that Linux would give in the same place; `WouldBlock` is the one that means
"not now": a socket method never waits. Received packets never raise: they are dropped with a counted reason.
"""

from __future__ import annotations

import errno


class NetError(Exception):
    """An operation failed as Linux would let it fail.

    `errno` is the Linux error number; `why` names the object, lower case, for logs.
    """

    def __init__(self, number: int, why: str = "") -> None:
        super().__init__(number, why)
        self.errno = number
        self.why = why

    def __str__(self) -> str:
        name = errno.errorcode.get(self.errno, str(self.errno))
        return f"{name}: {self.why}" if self.why else name


class WouldBlock(NetError):
    """EAGAIN: nothing to read, or no room to write; readiness is told by `subscribe`."""

    def __init__(self, why: str = "") -> None:
        super().__init__(errno.EAGAIN, why)

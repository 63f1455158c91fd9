"""The one error that untrusted bytes may cause.

Owns: `ProtocolViolation`. Every decoder whose name ends in `_untrusted` raises it and nothing else; whoever reads the
connection catches it, logs `why`, and ends that conversation.
"""

from __future__ import annotations


class ProtocolViolation(Exception):
    """A peer sent bytes that the protocol does not allow.

    `why`: lower case, no full stop, names the object ("walk: 17 names, limit is 16"). It never quotes peer data at
    length: it goes into logs.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

"""Poll bits that Python's `select` module does not name on every build (<asm-generic/poll.h>)."""

from __future__ import annotations

from typing import Final

POLLRDHUP: Final = 0x2000

"""<linux/random.h>: getrandom(2) flags."""

from __future__ import annotations

from typing import Final

GRND_NONBLOCK: Final[int] = 1
GRND_RANDOM: Final[int] = 2
GRND_INSECURE: Final[int] = 4

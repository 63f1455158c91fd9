"""What a client of the socket service may have at most."""

from __future__ import annotations

from typing import Final

MAX_CLIENTS: Final = 1024
MAX_SOCKETS: Final = 16384  # of one client
MAX_RINGS: Final = 4096  # streams of one client whose bytes go through rings
MAX_RINGS_BYTES: Final = 2 << 30  # of memory that these map; the client's, and there only as far as it was used
MAX_OUT_BYTES: Final = 4 << 20  # of messages that wait for a client
LEFT_IDLE_NS: Final = 60_000_000_000  # that nothing of what a client left is taken; Linux's orphans give up about then
LEFT_MOST_NS: Final = 600_000_000_000  # for all of it
PUMP_ROUNDS: Final = 4  # times that sockets are served after one flush before the rest waits for the next

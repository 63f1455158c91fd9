"""What a client of the socket service may have at most, and when its rings are looked at.

Looked up in this module each time (`limits.MAX_RINGS`), and not Final: tests lower them.
"""

from __future__ import annotations

MAX_CLIENTS = 1024
MAX_SOCKETS = 16384  # of one client
MAX_RINGS = 4096  # streams of one client whose bytes go through rings
MAX_RINGS_BYTES = 2 << 30  # of memory that these map; the client's, and there only as far as it was used
MAX_OUT_BYTES = 4 << 20  # of messages that wait for a client
LEFT_IDLE_NS = 60_000_000_000  # that nothing of what a client left is taken; Linux's orphans give up about then
LEFT_MOST_NS = 600_000_000_000  # for all of it
PUMP_ROUNDS = 4  # times that sockets are served after one flush before the rest waits for the next
BUSY_BYTES = 1 << 15  # of a client who has so much in flight, more is expected
LOOK_NS = 3_000_000  # after its last bytes: then its rings are looked at

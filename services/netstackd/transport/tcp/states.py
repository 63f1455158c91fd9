"""The connection states of RFC 9293 3.3.2 and every change between them, as one table.

Numbers are Linux's (include/net/tcp_states.h), so that TCP_INFO and /proc/net/tcp show them as they are. All changes go
through `after(state, event)`; a pair that the table does not have is a bug of the caller, not of the peer.
"""

from __future__ import annotations

from typing import Final

ESTABLISHED: Final = 1
SYN_SENT: Final = 2
SYN_RECEIVED: Final = 3
FIN_WAIT_1: Final = 4
FIN_WAIT_2: Final = 5
TIME_WAIT: Final = 6
CLOSED: Final = 7
CLOSE_WAIT: Final = 8
LAST_ACK: Final = 9
LISTEN: Final = 10
CLOSING: Final = 11

NAMES: Final[dict[int, str]] = {
    ESTABLISHED: "ESTABLISHED",
    SYN_SENT: "SYN_SENT",
    SYN_RECEIVED: "SYN_RECEIVED",
    FIN_WAIT_1: "FIN_WAIT_1",
    FIN_WAIT_2: "FIN_WAIT_2",
    TIME_WAIT: "TIME_WAIT",
    CLOSED: "CLOSED",
    CLOSE_WAIT: "CLOSE_WAIT",
    LAST_ACK: "LAST_ACK",
    LISTEN: "LISTEN",
    CLOSING: "CLOSING",
}

# Events.
ACTIVE_OPEN: Final = 1
PASSIVE_OPEN: Final = 2  # a listener made this connection
GOT_SYN: Final = 3  # without an ACK of ours: simultaneous open
HANDSHAKE_DONE: Final = 4
SEND_FIN: Final = 5  # close or shutdown by the user
GOT_FIN: Final = 6
FIN_ACKED: Final = 7  # our FIN
END: Final = 8  # reset, abort, time-out, or nothing left to wait for

TRANSITIONS: Final[dict[tuple[int, int], int]] = {
    (CLOSED, ACTIVE_OPEN): SYN_SENT,
    (CLOSED, PASSIVE_OPEN): SYN_RECEIVED,
    (SYN_SENT, GOT_SYN): SYN_RECEIVED,  # RFC 9293 3.5 figure 7
    (SYN_SENT, HANDSHAKE_DONE): ESTABLISHED,
    (SYN_RECEIVED, HANDSHAKE_DONE): ESTABLISHED,
    (SYN_RECEIVED, SEND_FIN): FIN_WAIT_1,
    (SYN_RECEIVED, GOT_FIN): CLOSE_WAIT,
    (ESTABLISHED, SEND_FIN): FIN_WAIT_1,
    (ESTABLISHED, GOT_FIN): CLOSE_WAIT,
    (FIN_WAIT_1, GOT_FIN): CLOSING,  # simultaneous close, figure 13
    (FIN_WAIT_1, FIN_ACKED): FIN_WAIT_2,
    (FIN_WAIT_2, GOT_FIN): TIME_WAIT,
    (CLOSING, FIN_ACKED): TIME_WAIT,
    (CLOSE_WAIT, SEND_FIN): LAST_ACK,
    (LAST_ACK, FIN_ACKED): CLOSED,
    **{(state, END): CLOSED for state in NAMES},
}


# Sets of states as bit masks of 1 << state, tested with one `&`.
CAN_SEND_DATA: Final = 1 << ESTABLISHED | 1 << CLOSE_WAIT | 1 << SYN_SENT | 1 << SYN_RECEIVED
# Those in which queued data and our FIN may leave (the handshake is over).
TRANSMITTING: Final = 1 << ESTABLISHED | 1 << CLOSE_WAIT | 1 << FIN_WAIT_1 | 1 << CLOSING | 1 << LAST_ACK
SYNCHRONIZED: Final = TRANSMITTING | 1 << FIN_WAIT_2 | 1 << TIME_WAIT
CAN_RECEIVE_DATA: Final = 1 << ESTABLISHED | 1 << FIN_WAIT_1 | 1 << FIN_WAIT_2
FIN_RECEIVED: Final = 1 << CLOSE_WAIT | 1 << LAST_ACK | 1 << CLOSING | 1 << TIME_WAIT

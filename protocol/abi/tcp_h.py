"""<linux/tcp.h>, <linux/udp.h>: options of levels IPPROTO_TCP and IPPROTO_UDP, TCP states."""

from __future__ import annotations

from typing import Final

TCP_NODELAY: Final[int] = 1
TCP_MAXSEG: Final[int] = 2
TCP_CORK: Final[int] = 3
TCP_KEEPIDLE: Final[int] = 4
TCP_KEEPINTVL: Final[int] = 5
TCP_KEEPCNT: Final[int] = 6
TCP_SYNCNT: Final[int] = 7
TCP_LINGER2: Final[int] = 8
TCP_DEFER_ACCEPT: Final[int] = 9
TCP_WINDOW_CLAMP: Final[int] = 10
TCP_INFO: Final[int] = 11
TCP_QUICKACK: Final[int] = 12
TCP_CONGESTION: Final[int] = 13
TCP_MD5SIG: Final[int] = 14
TCP_THIN_LINEAR_TIMEOUTS: Final[int] = 16
TCP_THIN_DUPACK: Final[int] = 17
TCP_USER_TIMEOUT: Final[int] = 18
TCP_REPAIR: Final[int] = 19
TCP_QUEUE_SEQ: Final[int] = 21
TCP_FASTOPEN: Final[int] = 23
TCP_TIMESTAMP: Final[int] = 24
TCP_NOTSENT_LOWAT: Final[int] = 25
TCP_CC_INFO: Final[int] = 26
TCP_SAVE_SYN: Final[int] = 27
TCP_FASTOPEN_CONNECT: Final[int] = 30
TCP_ULP: Final[int] = 31
TCP_FASTOPEN_KEY: Final[int] = 33
TCP_FASTOPEN_NO_COOKIE: Final[int] = 34
TCP_ZEROCOPY_RECEIVE: Final[int] = 35
TCP_INQ: Final[int] = 36
TCP_CM_INQ: Final[int] = 36
TCP_TX_DELAY: Final[int] = 37
TCP_ENCAP_ESPINTCP: Final[int] = 7

# UDP.
UDP_CORK: Final[int] = 1
UDP_ENCAP: Final[int] = 100
UDP_NO_CHECK6_TX: Final[int] = 101
UDP_NO_CHECK6_RX: Final[int] = 102
UDP_SEGMENT: Final[int] = 103
UDP_GRO: Final[int] = 104

# States, as tcp_info.tcpi_state and /proc/net/tcp show them (net/tcp_states.h).
TCP_ESTABLISHED: Final[int] = 1
TCP_SYN_SENT: Final[int] = 2
TCP_SYN_RECV: Final[int] = 3
TCP_FIN_WAIT1: Final[int] = 4
TCP_FIN_WAIT2: Final[int] = 5
TCP_TIME_WAIT: Final[int] = 6
TCP_CLOSE: Final[int] = 7
TCP_CLOSE_WAIT: Final[int] = 8
TCP_LAST_ACK: Final[int] = 9
TCP_LISTEN: Final[int] = 10
TCP_CLOSING: Final[int] = 11
TCP_NEW_SYN_RECV: Final[int] = 12

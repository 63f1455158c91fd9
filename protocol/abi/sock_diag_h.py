"""<linux/sock_diag.h>, <linux/inet_diag.h>: asking for sockets over netlink (sock_diag(7))."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

TCPDIAG_GETSOCK: Final[int] = 18
SOCK_DIAG_BY_FAMILY: Final[int] = 20
SOCK_DESTROY: Final[int] = 21

#: Attribute of a request: a protocol whose number does not fit into sdiag_protocol.
INET_DIAG_REQ_PROTOCOL: Final[int] = 3

INET_DIAG_MEMINFO: Final[int] = 1
INET_DIAG_INFO: Final[int] = 2
INET_DIAG_CONG: Final[int] = 4
INET_DIAG_TOS: Final[int] = 5
INET_DIAG_TCLASS: Final[int] = 6
INET_DIAG_SKMEMINFO: Final[int] = 7
INET_DIAG_SHUTDOWN: Final[int] = 8
INET_DIAG_SKV6ONLY: Final[int] = 11

# struct inet_diag_req_v2: sdiag_family, sdiag_protocol, idiag_ext, idiag_states, id (struct inet_diag_sockid).
INET_DIAG_REQ_V2: Final = layout("struct inet_diag_req_v2", "BBBxI48s", 56)
# struct inet_diag_req, of before Linux 3.3: idiag_family, idiag_src_len, idiag_dst_len, idiag_ext, id, idiag_states,
# idiag_dbs.
INET_DIAG_REQ: Final = layout("struct inet_diag_req", "BBBB48sII", 60)
# struct inet_diag_sockid: idiag_sport and idiag_dport (big-endian bytes), idiag_src, idiag_dst, idiag_if, idiag_cookie.
INET_DIAG_SOCKID: Final = layout("struct inet_diag_sockid", "2s2s16s16sI8s", 48)
# struct inet_diag_msg: idiag_family, idiag_state, idiag_timer, idiag_retrans, id, idiag_expires, idiag_rqueue,
# idiag_wqueue, idiag_uid, idiag_inode.
INET_DIAG_MSG: Final = layout("struct inet_diag_msg", "BBBB48sIIIII", 72)
# struct inet_diag_meminfo: idiag_rmem, idiag_wmem, idiag_fmem, idiag_tmem.
INET_DIAG_MEMINFO_STRUCT: Final = layout("struct inet_diag_meminfo", "4I", 16)

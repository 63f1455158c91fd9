"""<linux/socket.h>, <asm-generic/socket.h>: address families, socket types, options, message flags, control messages.

CMSG helpers compute as the macros of the same names: headers of 16 bytes, data aligned to eight.
"""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Address families.
AF_UNSPEC: Final[int] = 0
AF_LOCAL: Final[int] = 1
AF_UNIX: Final[int] = 1
AF_FILE: Final[int] = 1
AF_INET: Final[int] = 2
AF_AX25: Final[int] = 3
AF_IPX: Final[int] = 4
AF_APPLETALK: Final[int] = 5
AF_NETROM: Final[int] = 6
AF_BRIDGE: Final[int] = 7
AF_ATMPVC: Final[int] = 8
AF_X25: Final[int] = 9
AF_INET6: Final[int] = 10
AF_ROSE: Final[int] = 11
AF_DECnet: Final[int] = 12
AF_NETBEUI: Final[int] = 13
AF_SECURITY: Final[int] = 14
AF_KEY: Final[int] = 15
AF_NETLINK: Final[int] = 16
AF_ROUTE: Final[int] = 16
AF_PACKET: Final[int] = 17
AF_ASH: Final[int] = 18
AF_ECONET: Final[int] = 19
AF_ATMSVC: Final[int] = 20
AF_RDS: Final[int] = 21
AF_SNA: Final[int] = 22
AF_IRDA: Final[int] = 23
AF_PPPOX: Final[int] = 24
AF_WANPIPE: Final[int] = 25
AF_LLC: Final[int] = 26
AF_IB: Final[int] = 27
AF_MPLS: Final[int] = 28
AF_CAN: Final[int] = 29
AF_TIPC: Final[int] = 30
AF_BLUETOOTH: Final[int] = 31
AF_IUCV: Final[int] = 32
AF_RXRPC: Final[int] = 33
AF_ISDN: Final[int] = 34
AF_PHONET: Final[int] = 35
AF_IEEE802154: Final[int] = 36
AF_CAIF: Final[int] = 37
AF_ALG: Final[int] = 38
AF_NFC: Final[int] = 39
AF_VSOCK: Final[int] = 40
AF_KCM: Final[int] = 41
AF_QIPCRTR: Final[int] = 42
AF_SMC: Final[int] = 43
AF_XDP: Final[int] = 44
AF_MCTP: Final[int] = 45

# socket(2) types and flags.
SOCK_STREAM: Final[int] = 1
SOCK_DGRAM: Final[int] = 2
SOCK_RAW: Final[int] = 3
SOCK_RDM: Final[int] = 4
SOCK_SEQPACKET: Final[int] = 5
SOCK_DCCP: Final[int] = 6
SOCK_PACKET: Final[int] = 0o12
SOCK_CLOEXEC: Final[int] = 0o2000000
SOCK_NONBLOCK: Final[int] = 0o4000

# Option levels.
SOL_RAW: Final[int] = 255
SOL_DECNET: Final[int] = 261
SOL_X25: Final[int] = 262
SOL_PACKET: Final[int] = 263
SOL_ATM: Final[int] = 264
SOL_AAL: Final[int] = 265
SOL_IRDA: Final[int] = 266
SOL_NETBEUI: Final[int] = 267
SOL_LLC: Final[int] = 268
SOL_DCCP: Final[int] = 269
SOL_NETLINK: Final[int] = 270
SOL_TIPC: Final[int] = 271
SOL_RXRPC: Final[int] = 272
SOL_PPPOL2TP: Final[int] = 273
SOL_BLUETOOTH: Final[int] = 274
SOL_PNPIPE: Final[int] = 275
SOL_RDS: Final[int] = 276
SOL_IUCV: Final[int] = 277
SOL_CAIF: Final[int] = 278
SOL_ALG: Final[int] = 279
SOL_NFC: Final[int] = 280
SOL_KCM: Final[int] = 281
SOL_TLS: Final[int] = 282
SOL_XDP: Final[int] = 283
SOL_MPTCP: Final[int] = 284
SOL_MCTP: Final[int] = 285
SOL_SMC: Final[int] = 286
SOL_SOCKET: Final[int] = 1

# SOL_SOCKET options.
SO_DEBUG: Final[int] = 1
SO_REUSEADDR: Final[int] = 2
SO_TYPE: Final[int] = 3
SO_ERROR: Final[int] = 4
SO_DONTROUTE: Final[int] = 5
SO_BROADCAST: Final[int] = 6
SO_SNDBUF: Final[int] = 7
SO_RCVBUF: Final[int] = 8
SO_SNDBUFFORCE: Final[int] = 32
SO_RCVBUFFORCE: Final[int] = 33
SO_KEEPALIVE: Final[int] = 9
SO_OOBINLINE: Final[int] = 10
SO_NO_CHECK: Final[int] = 11
SO_PRIORITY: Final[int] = 12
SO_LINGER: Final[int] = 13
SO_BSDCOMPAT: Final[int] = 14
SO_REUSEPORT: Final[int] = 15
SO_PASSCRED: Final[int] = 16
SO_PEERCRED: Final[int] = 17
SO_RCVLOWAT: Final[int] = 18
SO_SNDLOWAT: Final[int] = 19
SO_RCVTIMEO_OLD: Final[int] = 20
SO_SNDTIMEO_OLD: Final[int] = 21
SO_SECURITY_AUTHENTICATION: Final[int] = 22
SO_SECURITY_ENCRYPTION_TRANSPORT: Final[int] = 23
SO_SECURITY_ENCRYPTION_NETWORK: Final[int] = 24
SO_BINDTODEVICE: Final[int] = 25
SO_ATTACH_FILTER: Final[int] = 26
SO_DETACH_FILTER: Final[int] = 27
SO_GET_FILTER: Final[int] = 26
SO_PEERNAME: Final[int] = 28
SO_ACCEPTCONN: Final[int] = 30
SO_PEERSEC: Final[int] = 31
SO_PASSSEC: Final[int] = 34
SO_MARK: Final[int] = 36
SO_PROTOCOL: Final[int] = 38
SO_DOMAIN: Final[int] = 39
SO_RXQ_OVFL: Final[int] = 40
SO_WIFI_STATUS: Final[int] = 41
SCM_WIFI_STATUS: Final[int] = 41
SO_PEEK_OFF: Final[int] = 42
SO_NOFCS: Final[int] = 43
SO_LOCK_FILTER: Final[int] = 44
SO_SELECT_ERR_QUEUE: Final[int] = 45
SO_BUSY_POLL: Final[int] = 46
SO_MAX_PACING_RATE: Final[int] = 47
SO_BPF_EXTENSIONS: Final[int] = 48
SO_INCOMING_CPU: Final[int] = 49
SO_ATTACH_BPF: Final[int] = 50
SO_DETACH_BPF: Final[int] = 27
SO_ATTACH_REUSEPORT_CBPF: Final[int] = 51
SO_ATTACH_REUSEPORT_EBPF: Final[int] = 52
SO_CNX_ADVICE: Final[int] = 53
SCM_TIMESTAMPING_OPT_STATS: Final[int] = 54
SO_MEMINFO: Final[int] = 55
SO_INCOMING_NAPI_ID: Final[int] = 56
SO_COOKIE: Final[int] = 57
SCM_TIMESTAMPING_PKTINFO: Final[int] = 58
SO_PEERGROUPS: Final[int] = 59
SO_ZEROCOPY: Final[int] = 60
SO_TXTIME: Final[int] = 61
SCM_TXTIME: Final[int] = 61
SO_BINDTOIFINDEX: Final[int] = 62
SO_TIMESTAMP_OLD: Final[int] = 29
SO_TIMESTAMPNS_OLD: Final[int] = 35
SO_TIMESTAMPING_OLD: Final[int] = 37
SO_TIMESTAMP_NEW: Final[int] = 63
SO_TIMESTAMPNS_NEW: Final[int] = 64
SO_TIMESTAMPING_NEW: Final[int] = 65
SO_RCVTIMEO_NEW: Final[int] = 66
SO_SNDTIMEO_NEW: Final[int] = 67
SO_DETACH_REUSEPORT_BPF: Final[int] = 68
SO_PREFER_BUSY_POLL: Final[int] = 69
SO_BUSY_POLL_BUDGET: Final[int] = 70
SO_NETNS_COOKIE: Final[int] = 71
SO_BUF_LOCK: Final[int] = 72
SO_RESERVE_MEM: Final[int] = 73
SO_TXREHASH: Final[int] = 74
SO_RCVMARK: Final[int] = 75
SO_TIMESTAMP: Final[int] = 29
SO_TIMESTAMPNS: Final[int] = 35
SO_TIMESTAMPING: Final[int] = 37
SO_RCVTIMEO: Final[int] = 20
SO_SNDTIMEO: Final[int] = 21
SCM_TIMESTAMP: Final[int] = 29
SCM_TIMESTAMPNS: Final[int] = 35
SCM_TIMESTAMPING: Final[int] = 37

# Linux 6.5 and later.
SO_PASSPIDFD: Final[int] = 76
SO_PEERPIDFD: Final[int] = 77
SO_DEVMEM_LINEAR: Final[int] = 78
SO_DEVMEM_DMABUF: Final[int] = 79
SO_DEVMEM_DONTNEED: Final[int] = 80
SO_RCVPRIORITY: Final[int] = 82
SO_PASSRIGHTS: Final[int] = 83

# Control messages of SOL_SOCKET.
SCM_RIGHTS: Final[int] = 1
SCM_CREDENTIALS: Final[int] = 2

SCM_SECURITY: Final[int] = 3
SCM_PIDFD: Final[int] = 4

# send(2), recv(2) flags.
MSG_OOB: Final[int] = 1
MSG_PEEK: Final[int] = 2
MSG_DONTROUTE: Final[int] = 4
MSG_CTRUNC: Final[int] = 8
MSG_PROXY: Final[int] = 0x10
MSG_TRUNC: Final[int] = 0x20
MSG_DONTWAIT: Final[int] = 0x40
MSG_EOR: Final[int] = 0x80
MSG_WAITALL: Final[int] = 0x100
MSG_FIN: Final[int] = 0x200
MSG_SYN: Final[int] = 0x400
MSG_CONFIRM: Final[int] = 0x800
MSG_RST: Final[int] = 0x1000
MSG_ERRQUEUE: Final[int] = 0x2000
MSG_NOSIGNAL: Final[int] = 0x4000
MSG_MORE: Final[int] = 0x8000
MSG_WAITFORONE: Final[int] = 0x10000
MSG_BATCH: Final[int] = 0x40000
MSG_ZEROCOPY: Final[int] = 0x4000000
MSG_FASTOPEN: Final[int] = 0x20000000
MSG_CMSG_CLOEXEC: Final[int] = 0x40000000

MSG_PROBE: Final[int] = 0x10
MSG_NO_SHARED_FRAGS: Final[int] = 0x80000
MSG_SENDPAGE_NOTLAST: Final[int] = 0x20000
MSG_SOCK_DEVMEM: Final[int] = 0x2000000

# shutdown(2).
SHUT_RD: Final[int] = 0
SHUT_WR: Final[int] = 1
SHUT_RDWR: Final[int] = 2

SOMAXCONN: Final[int] = 4096

AF_MAX: Final[int] = 46
SOCK_TYPE_MASK: Final[int] = 0xF

# struct msghdr: msg_name, msg_namelen, msg_iov, msg_iovlen, msg_control, msg_controllen, msg_flags.
MSGHDR: Final = layout("struct msghdr", "Qi4xQQQQI4x", 56)
# Offsets of the fields that recvmsg(2) writes back.
MSGHDR_NAMELEN_OFFSET: Final[int] = 8
MSGHDR_CONTROLLEN_OFFSET: Final[int] = 40
MSGHDR_FLAGS_OFFSET: Final[int] = 48
# struct mmsghdr: a msghdr, then msg_len.
MMSGHDR_BYTES: Final[int] = 64
MMSGHDR_LEN_OFFSET: Final[int] = 56
# struct cmsghdr: cmsg_len, cmsg_level, cmsg_type.
CMSGHDR: Final = layout("struct cmsghdr", "Qii", 16)
# struct ucred: pid, uid, gid.
UCRED: Final = layout("struct ucred", "iII", 12)
# struct linger: l_onoff, l_linger.
LINGER: Final = layout("struct linger", "ii", 8)
# sa_family of any sockaddr.
SA_FAMILY: Final = layout("sa_family_t", "H", 2)
SOCKADDR_STORAGE_BYTES: Final[int] = 128
#: The most descriptors in one SCM_RIGHTS message (include/net/scm.h).
SCM_MAX_FD: Final[int] = 253
#: The most messages in one sendmmsg or recvmmsg.
UIO_MAXIOV: Final[int] = 1024


def cmsg_align(length: int) -> int:
    """`length` rounded up to the alignment of control messages (CMSG_ALIGN)."""
    return (length + 7) & ~7


def cmsg_len(payload: int) -> int:
    """The cmsg_len of a control message with `payload` bytes of data (CMSG_LEN)."""
    return CMSGHDR.size + payload


def cmsg_space(payload: int) -> int:
    """The bytes a control message with `payload` bytes of data takes in the buffer (CMSG_SPACE)."""
    return CMSGHDR.size + cmsg_align(payload)

"""<linux/netlink.h>: netlink families, message headers and flags."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Families.
NETLINK_ROUTE: Final[int] = 0
NETLINK_UNUSED: Final[int] = 1
NETLINK_USERSOCK: Final[int] = 2
NETLINK_FIREWALL: Final[int] = 3
NETLINK_SOCK_DIAG: Final[int] = 4
NETLINK_NFLOG: Final[int] = 5
NETLINK_XFRM: Final[int] = 6
NETLINK_SELINUX: Final[int] = 7
NETLINK_ISCSI: Final[int] = 8
NETLINK_AUDIT: Final[int] = 9
NETLINK_FIB_LOOKUP: Final[int] = 10
NETLINK_CONNECTOR: Final[int] = 11
NETLINK_NETFILTER: Final[int] = 12
NETLINK_IP6_FW: Final[int] = 13
NETLINK_DNRTMSG: Final[int] = 14
NETLINK_KOBJECT_UEVENT: Final[int] = 15
NETLINK_GENERIC: Final[int] = 16
NETLINK_SCSITRANSPORT: Final[int] = 18
NETLINK_ECRYPTFS: Final[int] = 19
NETLINK_RDMA: Final[int] = 20
NETLINK_CRYPTO: Final[int] = 21
NETLINK_SMC: Final[int] = 22

# nlmsg_flags and types.
NLM_F_REQUEST: Final[int] = 1
NLM_F_MULTI: Final[int] = 2
NLM_F_ACK: Final[int] = 4
NLM_F_ECHO: Final[int] = 8
NLM_F_DUMP_INTR: Final[int] = 0x10
NLM_F_DUMP_FILTERED: Final[int] = 0x20
NLM_F_ROOT: Final[int] = 0x100
NLM_F_MATCH: Final[int] = 0x200
NLM_F_ATOMIC: Final[int] = 0x400
NLM_F_DUMP: Final[int] = 0x300
NLM_F_REPLACE: Final[int] = 0x100
NLM_F_EXCL: Final[int] = 0x200
NLM_F_CREATE: Final[int] = 0x400
NLM_F_APPEND: Final[int] = 0x800
NLM_F_NONREC: Final[int] = 0x100
NLM_F_BULK: Final[int] = 0x200
NLM_F_CAPPED: Final[int] = 0x100
NLM_F_ACK_TLVS: Final[int] = 0x200
NLMSG_NOOP: Final[int] = 1
NLMSG_ERROR: Final[int] = 2
NLMSG_DONE: Final[int] = 3
NLMSG_OVERRUN: Final[int] = 4
NLMSG_MIN_TYPE: Final[int] = 0x10

# SOL_NETLINK options.
NETLINK_ADD_MEMBERSHIP: Final[int] = 1
NETLINK_DROP_MEMBERSHIP: Final[int] = 2
NETLINK_PKTINFO: Final[int] = 3
NETLINK_BROADCAST_ERROR: Final[int] = 4
NETLINK_NO_ENOBUFS: Final[int] = 5
NETLINK_LISTEN_ALL_NSID: Final[int] = 8
NETLINK_LIST_MEMBERSHIPS: Final[int] = 9
NETLINK_CAP_ACK: Final[int] = 10
NETLINK_EXT_ACK: Final[int] = 11
NETLINK_GET_STRICT_CHK: Final[int] = 12

NLA_F_NESTED: Final[int] = 0x8000
NLA_F_NET_BYTEORDER: Final[int] = 0x4000

# struct nlmsghdr: nlmsg_len, nlmsg_type, nlmsg_flags, nlmsg_seq, nlmsg_pid.
NLMSGHDR: Final = layout("struct nlmsghdr", "IHHII", 16)
# struct nlattr: nla_len, nla_type.
NLATTR: Final = layout("struct nlattr", "HH", 4)
# struct sockaddr_nl: nl_family, nl_pid, nl_groups.
SOCKADDR_NL: Final = layout("struct sockaddr_nl", "H2xII", 12)

"""<linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>, <linux/if.h>: routes, links and addresses."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Message types.
RTM_BASE: Final[int] = 16
RTM_NEWLINK: Final[int] = 16
RTM_DELLINK: Final[int] = 17
RTM_GETLINK: Final[int] = 18
RTM_SETLINK: Final[int] = 19
RTM_NEWADDR: Final[int] = 20
RTM_DELADDR: Final[int] = 21
RTM_GETADDR: Final[int] = 22
RTM_NEWROUTE: Final[int] = 24
RTM_DELROUTE: Final[int] = 25
RTM_GETROUTE: Final[int] = 26
RTM_NEWNEIGH: Final[int] = 28
RTM_DELNEIGH: Final[int] = 29
RTM_GETNEIGH: Final[int] = 30
RTM_NEWRULE: Final[int] = 32
RTM_DELRULE: Final[int] = 33
RTM_GETRULE: Final[int] = 34
RTM_NEWQDISC: Final[int] = 36
RTM_DELQDISC: Final[int] = 37
RTM_GETQDISC: Final[int] = 38
RTM_NEWTCLASS: Final[int] = 40
RTM_DELTCLASS: Final[int] = 41
RTM_GETTCLASS: Final[int] = 42
RTM_NEWTFILTER: Final[int] = 44
RTM_DELTFILTER: Final[int] = 45
RTM_GETTFILTER: Final[int] = 46
RTM_NEWACTION: Final[int] = 48
RTM_DELACTION: Final[int] = 49
RTM_GETACTION: Final[int] = 50
RTM_NEWPREFIX: Final[int] = 52
RTM_GETMULTICAST: Final[int] = 58
RTM_GETANYCAST: Final[int] = 62
RTM_NEWNEIGHTBL: Final[int] = 64
RTM_GETNEIGHTBL: Final[int] = 66
RTM_SETNEIGHTBL: Final[int] = 67
RTM_NEWNDUSEROPT: Final[int] = 68
RTM_NEWADDRLABEL: Final[int] = 72
RTM_DELADDRLABEL: Final[int] = 73
RTM_GETADDRLABEL: Final[int] = 74
RTM_GETDCB: Final[int] = 78
RTM_SETDCB: Final[int] = 79
RTM_NEWNETCONF: Final[int] = 80
RTM_DELNETCONF: Final[int] = 81
RTM_GETNETCONF: Final[int] = 82
RTM_NEWMDB: Final[int] = 84
RTM_DELMDB: Final[int] = 85
RTM_GETMDB: Final[int] = 86
RTM_NEWNSID: Final[int] = 88
RTM_DELNSID: Final[int] = 89
RTM_GETNSID: Final[int] = 90
RTM_NEWSTATS: Final[int] = 92
RTM_GETSTATS: Final[int] = 94
RTM_SETSTATS: Final[int] = 95
RTM_NEWCACHEREPORT: Final[int] = 96
RTM_NEWCHAIN: Final[int] = 100
RTM_DELCHAIN: Final[int] = 101
RTM_GETCHAIN: Final[int] = 102
RTM_NEWNEXTHOP: Final[int] = 104
RTM_DELNEXTHOP: Final[int] = 105
RTM_GETNEXTHOP: Final[int] = 106
RTM_NEWLINKPROP: Final[int] = 108
RTM_DELLINKPROP: Final[int] = 109
RTM_GETLINKPROP: Final[int] = 110
RTM_NEWVLAN: Final[int] = 112
RTM_DELVLAN: Final[int] = 113
RTM_GETVLAN: Final[int] = 114
RTM_NEWNEXTHOPBUCKET: Final[int] = 116
RTM_DELNEXTHOPBUCKET: Final[int] = 117
RTM_GETNEXTHOPBUCKET: Final[int] = 118
RTM_NEWTUNNEL: Final[int] = 120
RTM_DELTUNNEL: Final[int] = 121
RTM_GETTUNNEL: Final[int] = 122
RTM_MAX: Final[int] = 123
RTM_NR_MSGTYPES: Final[int] = 108
RTM_NR_FAMILIES: Final[int] = 27

RTM_F_NOTIFY: Final[int] = 0x100
RTM_F_CLONED: Final[int] = 0x200
RTM_F_EQUALIZE: Final[int] = 0x400
RTM_F_PREFIX: Final[int] = 0x800
RTM_F_LOOKUP_TABLE: Final[int] = 0x1000
RTM_F_FIB_MATCH: Final[int] = 0x2000
RTM_F_OFFLOAD: Final[int] = 0x4000
RTM_F_TRAP: Final[int] = 0x8000
RTM_F_OFFLOAD_FAILED: Final[int] = 0x20000000
RTNH_F_DEAD: Final[int] = 1
RTNH_F_PERVASIVE: Final[int] = 2
RTNH_F_ONLINK: Final[int] = 4
RTNH_F_OFFLOAD: Final[int] = 8
RTNH_F_LINKDOWN: Final[int] = 0x10
RTNH_F_UNRESOLVED: Final[int] = 0x20
RTNH_F_TRAP: Final[int] = 0x40

# Attributes.
IFLA_ADDRESS: Final[int] = 1
IFLA_BROADCAST: Final[int] = 2
IFLA_IFNAME: Final[int] = 3
IFLA_MTU: Final[int] = 4
IFLA_LINK: Final[int] = 5
IFLA_QDISC: Final[int] = 6
IFLA_STATS: Final[int] = 7
IFLA_MASTER: Final[int] = 10
IFLA_TXQLEN: Final[int] = 13
IFLA_OPERSTATE: Final[int] = 16
IFLA_LINKMODE: Final[int] = 17
IFLA_LINKINFO: Final[int] = 18
IFLA_STATS64: Final[int] = 23
IFLA_AF_SPEC: Final[int] = 26
IFLA_GROUP: Final[int] = 27
IFLA_NUM_TX_QUEUES: Final[int] = 31
IFLA_NUM_RX_QUEUES: Final[int] = 32
IFLA_CARRIER: Final[int] = 33
IFLA_EXT_MASK: Final[int] = 29
IFA_ADDRESS: Final[int] = 1
IFA_LOCAL: Final[int] = 2
IFA_LABEL: Final[int] = 3
IFA_BROADCAST: Final[int] = 4
IFA_CACHEINFO: Final[int] = 6
IFA_FLAGS: Final[int] = 8
RTA_DST: Final[int] = 1
RTA_SRC: Final[int] = 2
RTA_IIF: Final[int] = 3
RTA_OIF: Final[int] = 4
RTA_GATEWAY: Final[int] = 5
RTA_PRIORITY: Final[int] = 6
RTA_PREFSRC: Final[int] = 7
RTA_METRICS: Final[int] = 8
RTA_TABLE: Final[int] = 15
RTA_CACHEINFO: Final[int] = 12

# Routes.
RT_SCOPE_UNIVERSE: Final[int] = 0
RT_SCOPE_SITE: Final[int] = 200
RT_SCOPE_LINK: Final[int] = 253
RT_SCOPE_HOST: Final[int] = 254
RT_SCOPE_NOWHERE: Final[int] = 255
RT_TABLE_UNSPEC: Final[int] = 0
RT_TABLE_DEFAULT: Final[int] = 253
RT_TABLE_MAIN: Final[int] = 254
RT_TABLE_LOCAL: Final[int] = 255
RTN_UNSPEC: Final[int] = 0
RTN_UNICAST: Final[int] = 1
RTN_LOCAL: Final[int] = 2
RTN_BROADCAST: Final[int] = 3
RTN_ANYCAST: Final[int] = 4
RTN_MULTICAST: Final[int] = 5
RTN_MAX: Final[int] = 11
RTPROT_UNSPEC: Final[int] = 0
RTPROT_REDIRECT: Final[int] = 1
RTPROT_KERNEL: Final[int] = 2
RTPROT_BOOT: Final[int] = 3
RTPROT_STATIC: Final[int] = 4

# Multicast groups.
RTMGRP_LINK: Final[int] = 1
RTMGRP_NOTIFY: Final[int] = 2
RTMGRP_NEIGH: Final[int] = 4
RTMGRP_TC: Final[int] = 8
RTMGRP_IPV4_IFADDR: Final[int] = 0x10
RTMGRP_IPV4_MROUTE: Final[int] = 0x20
RTMGRP_IPV4_ROUTE: Final[int] = 0x40
RTMGRP_IPV4_RULE: Final[int] = 0x80
RTMGRP_IPV6_IFADDR: Final[int] = 0x100
RTMGRP_IPV6_MROUTE: Final[int] = 0x200
RTMGRP_IPV6_ROUTE: Final[int] = 0x400
RTMGRP_IPV6_IFINFO: Final[int] = 0x800
RTMGRP_DECnet_IFADDR: Final[int] = 0x1000
RTMGRP_DECnet_ROUTE: Final[int] = 0x4000
RTMGRP_IPV6_PREFIX: Final[int] = 0x20000

# Interface flags.
IFF_UP: Final[int] = 1
IFF_BROADCAST: Final[int] = 2
IFF_DEBUG: Final[int] = 4
IFF_LOOPBACK: Final[int] = 8
IFF_POINTOPOINT: Final[int] = 0x10
IFF_NOTRAILERS: Final[int] = 0x20
IFF_RUNNING: Final[int] = 0x40
IFF_NOARP: Final[int] = 0x80
IFF_PROMISC: Final[int] = 0x100
IFF_ALLMULTI: Final[int] = 0x200
IFF_MULTICAST: Final[int] = 0x1000
IFF_LOWER_UP: Final[int] = 0x10000

IFNAMSIZ: Final[int] = 16
ARPHRD_ETHER: Final[int] = 1
ARPHRD_TUNNEL: Final[int] = 768
ARPHRD_LOOPBACK: Final[int] = 772
ARPHRD_NONE: Final[int] = 65534

IFA_F_SECONDARY: Final[int] = 1
IFA_F_TEMPORARY: Final[int] = 1
IFA_F_NODAD: Final[int] = 2
IFA_F_OPTIMISTIC: Final[int] = 4
IFA_F_DADFAILED: Final[int] = 8
IFA_F_HOMEADDRESS: Final[int] = 0x10
IFA_F_DEPRECATED: Final[int] = 0x20
IFA_F_TENTATIVE: Final[int] = 0x40
IFA_F_PERMANENT: Final[int] = 0x80
IFA_F_MANAGETEMPADDR: Final[int] = 0x100
IFA_F_NOPREFIXROUTE: Final[int] = 0x200
IFA_F_MCAUTOJOIN: Final[int] = 0x400
IFA_F_STABLE_PRIVACY: Final[int] = 0x800

# struct ifinfomsg: ifi_family, ifi_type, ifi_index, ifi_flags, ifi_change.
IFINFOMSG: Final = layout("struct ifinfomsg", "BxHiII", 16)
# struct ifaddrmsg: ifa_family, ifa_prefixlen, ifa_flags, ifa_scope, ifa_index.
IFADDRMSG: Final = layout("struct ifaddrmsg", "BBBBI", 8)
# struct rtmsg: rtm_family, rtm_dst_len, rtm_src_len, rtm_tos, rtm_table, rtm_protocol, rtm_scope, rtm_type, rtm_flags.
RTMSG: Final = layout("struct rtmsg", "BBBBBBBBI", 12)

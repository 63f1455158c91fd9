"""<linux/in.h>, <linux/in6.h>: protocols, options of levels IPPROTO_IP and IPPROTO_IPV6, socket addresses."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Protocols.
IPPROTO_IP: Final[int] = 0
IPPROTO_ICMP: Final[int] = 1
IPPROTO_IGMP: Final[int] = 2
IPPROTO_TCP: Final[int] = 6
IPPROTO_UDP: Final[int] = 17
IPPROTO_IPV6: Final[int] = 41
IPPROTO_RAW: Final[int] = 255
IPPROTO_ICMPV6: Final[int] = 58
IPPROTO_UDPLITE: Final[int] = 136
IPPROTO_SCTP: Final[int] = 132
IPPROTO_MPTCP: Final[int] = 262
IPPROTO_HOPOPTS: Final[int] = 0
IPPROTO_ROUTING: Final[int] = 43
IPPROTO_FRAGMENT: Final[int] = 44
IPPROTO_NONE: Final[int] = 59
IPPROTO_DSTOPTS: Final[int] = 60
IPPROTO_IPIP: Final[int] = 4
IPPROTO_EGP: Final[int] = 8
IPPROTO_PUP: Final[int] = 12
IPPROTO_IDP: Final[int] = 22
IPPROTO_TP: Final[int] = 29
IPPROTO_DCCP: Final[int] = 33
IPPROTO_RSVP: Final[int] = 46
IPPROTO_GRE: Final[int] = 47
IPPROTO_ESP: Final[int] = 50
IPPROTO_AH: Final[int] = 51
IPPROTO_MTP: Final[int] = 92
IPPROTO_BEETPH: Final[int] = 94
IPPROTO_ENCAP: Final[int] = 98
IPPROTO_PIM: Final[int] = 103
IPPROTO_COMP: Final[int] = 108
IPPROTO_MPLS: Final[int] = 137
IPPROTO_ETHERNET: Final[int] = 143
IPPROTO_MH: Final[int] = 135

# Options of level IPPROTO_IP.
IP_OPTIONS: Final[int] = 4
IP_HDRINCL: Final[int] = 3
IP_TOS: Final[int] = 1
IP_TTL: Final[int] = 2
IP_RECVOPTS: Final[int] = 6
IP_RECVRETOPTS: Final[int] = 7
IP_RETOPTS: Final[int] = 7
MCAST_JOIN_GROUP: Final[int] = 42
MCAST_BLOCK_SOURCE: Final[int] = 43
MCAST_UNBLOCK_SOURCE: Final[int] = 44
MCAST_LEAVE_GROUP: Final[int] = 45
MCAST_JOIN_SOURCE_GROUP: Final[int] = 46
MCAST_LEAVE_SOURCE_GROUP: Final[int] = 47
MCAST_MSFILTER: Final[int] = 48
MCAST_EXCLUDE: Final[int] = 0
MCAST_INCLUDE: Final[int] = 1
IP_ROUTER_ALERT: Final[int] = 5
IP_PKTINFO: Final[int] = 8
IP_PKTOPTIONS: Final[int] = 9
IP_PMTUDISC: Final[int] = 10
IP_MTU_DISCOVER: Final[int] = 10
IP_RECVERR: Final[int] = 11
IP_RECVTTL: Final[int] = 12
IP_RECVTOS: Final[int] = 13
IP_MTU: Final[int] = 14
IP_FREEBIND: Final[int] = 15
IP_IPSEC_POLICY: Final[int] = 16
IP_XFRM_POLICY: Final[int] = 17
IP_PASSSEC: Final[int] = 18
IP_TRANSPARENT: Final[int] = 19
IP_ORIGDSTADDR: Final[int] = 20
IP_RECVORIGDSTADDR: Final[int] = 20
IP_MINTTL: Final[int] = 21
IP_NODEFRAG: Final[int] = 22
IP_CHECKSUM: Final[int] = 23
IP_BIND_ADDRESS_NO_PORT: Final[int] = 24
IP_RECVFRAGSIZE: Final[int] = 25
IP_RECVERR_RFC4884: Final[int] = 26
IP_PMTUDISC_DONT: Final[int] = 0
IP_PMTUDISC_WANT: Final[int] = 1
IP_PMTUDISC_DO: Final[int] = 2
IP_PMTUDISC_PROBE: Final[int] = 3
IP_PMTUDISC_INTERFACE: Final[int] = 4
IP_PMTUDISC_OMIT: Final[int] = 5
IP_MULTICAST_IF: Final[int] = 32
IP_MULTICAST_TTL: Final[int] = 33
IP_MULTICAST_LOOP: Final[int] = 34
IP_ADD_MEMBERSHIP: Final[int] = 35
IP_DROP_MEMBERSHIP: Final[int] = 36
IP_UNBLOCK_SOURCE: Final[int] = 37
IP_BLOCK_SOURCE: Final[int] = 38
IP_ADD_SOURCE_MEMBERSHIP: Final[int] = 39
IP_DROP_SOURCE_MEMBERSHIP: Final[int] = 40
IP_MSFILTER: Final[int] = 41
IP_MULTICAST_ALL: Final[int] = 49
IP_UNICAST_IF: Final[int] = 50
IP_DEFAULT_MULTICAST_TTL: Final[int] = 1
IP_DEFAULT_MULTICAST_LOOP: Final[int] = 1
IP_MAX_MEMBERSHIPS: Final[int] = 20

# Options of level IPPROTO_IPV6.
IPV6_ADDRFORM: Final[int] = 1
IPV6_2292PKTINFO: Final[int] = 2
IPV6_2292HOPOPTS: Final[int] = 3
IPV6_2292DSTOPTS: Final[int] = 4
IPV6_2292RTHDR: Final[int] = 5
IPV6_2292PKTOPTIONS: Final[int] = 6
IPV6_CHECKSUM: Final[int] = 7
IPV6_2292HOPLIMIT: Final[int] = 8
IPV6_NEXTHOP: Final[int] = 9
IPV6_AUTHHDR: Final[int] = 10
IPV6_UNICAST_HOPS: Final[int] = 16
IPV6_MULTICAST_IF: Final[int] = 17
IPV6_MULTICAST_HOPS: Final[int] = 18
IPV6_MULTICAST_LOOP: Final[int] = 19
IPV6_JOIN_GROUP: Final[int] = 20
IPV6_LEAVE_GROUP: Final[int] = 21
IPV6_ROUTER_ALERT: Final[int] = 22
IPV6_MTU_DISCOVER: Final[int] = 23
IPV6_MTU: Final[int] = 24
IPV6_RECVERR: Final[int] = 25
IPV6_V6ONLY: Final[int] = 26
IPV6_JOIN_ANYCAST: Final[int] = 27
IPV6_LEAVE_ANYCAST: Final[int] = 28
IPV6_MULTICAST_ALL: Final[int] = 29
IPV6_ROUTER_ALERT_ISOLATE: Final[int] = 30
IPV6_RECVERR_RFC4884: Final[int] = 31
IPV6_IPSEC_POLICY: Final[int] = 34
IPV6_XFRM_POLICY: Final[int] = 35
IPV6_HDRINCL: Final[int] = 36
IPV6_RECVPKTINFO: Final[int] = 49
IPV6_PKTINFO: Final[int] = 50
IPV6_RECVHOPLIMIT: Final[int] = 51
IPV6_HOPLIMIT: Final[int] = 52
IPV6_RECVHOPOPTS: Final[int] = 53
IPV6_HOPOPTS: Final[int] = 54
IPV6_RTHDRDSTOPTS: Final[int] = 55
IPV6_RECVRTHDR: Final[int] = 56
IPV6_RTHDR: Final[int] = 57
IPV6_RECVDSTOPTS: Final[int] = 58
IPV6_DSTOPTS: Final[int] = 59
IPV6_RECVPATHMTU: Final[int] = 60
IPV6_PATHMTU: Final[int] = 61
IPV6_DONTFRAG: Final[int] = 62
IPV6_RECVTCLASS: Final[int] = 66
IPV6_TCLASS: Final[int] = 67
IPV6_AUTOFLOWLABEL: Final[int] = 70
IPV6_ADDR_PREFERENCES: Final[int] = 72
IPV6_MINHOPCOUNT: Final[int] = 73
IPV6_ORIGDSTADDR: Final[int] = 74
IPV6_RECVORIGDSTADDR: Final[int] = 74
IPV6_TRANSPARENT: Final[int] = 75
IPV6_UNICAST_IF: Final[int] = 76
IPV6_RECVFRAGSIZE: Final[int] = 77
IPV6_FREEBIND: Final[int] = 78
IPV6_ADD_MEMBERSHIP: Final[int] = 20
IPV6_DROP_MEMBERSHIP: Final[int] = 21
IPV6_RXHOPOPTS: Final[int] = 54
IPV6_RXDSTOPTS: Final[int] = 59
IPV6_PMTUDISC_DONT: Final[int] = 0
IPV6_PMTUDISC_WANT: Final[int] = 1
IPV6_PMTUDISC_DO: Final[int] = 2
IPV6_PMTUDISC_PROBE: Final[int] = 3
IPV6_PMTUDISC_INTERFACE: Final[int] = 4
IPV6_PMTUDISC_OMIT: Final[int] = 5
IPV6_RTHDR_LOOSE: Final[int] = 0
IPV6_RTHDR_STRICT: Final[int] = 1
IPV6_RTHDR_TYPE_0: Final[int] = 0

# Addresses, host order.
INADDR_ANY: Final[int] = 0x00000000
INADDR_BROADCAST: Final[int] = 0xFFFFFFFF
INADDR_NONE: Final[int] = 0xFFFFFFFF
INADDR_DUMMY: Final[int] = 0xC0000008
INADDR_LOOPBACK: Final[int] = 0x7F000001
INADDR_UNSPEC_GROUP: Final[int] = 0xE0000000
INADDR_ALLHOSTS_GROUP: Final[int] = 0xE0000001
INADDR_ALLRTRS_GROUP: Final[int] = 0xE0000002
INADDR_ALLSNOOPERS_GROUP: Final[int] = 0xE000006A
INADDR_MAX_LOCAL_GROUP: Final[int] = 0xE00000FF

# struct sockaddr_in: sin_family, sin_port (big-endian bytes), sin_addr.
SOCKADDR_IN: Final = layout("struct sockaddr_in", "H2s4s8x", 16)
# struct sockaddr_in6: sin6_family, sin6_port (big-endian bytes), sin6_flowinfo (big-endian bytes), sin6_addr,
# sin6_scope_id.
SOCKADDR_IN6: Final = layout("struct sockaddr_in6", "H2s4s16sI", 28)
# struct in_pktinfo: ipi_ifindex, ipi_spec_dst, ipi_addr.
IN_PKTINFO: Final = layout("struct in_pktinfo", "i4s4s", 12)
# struct in6_pktinfo: ipi6_addr, ipi6_ifindex.
IN6_PKTINFO: Final = layout("struct in6_pktinfo", "16sI", 20)
# struct ip_mreqn: imr_multiaddr, imr_address, imr_ifindex.
IP_MREQN: Final = layout("struct ip_mreqn", "4s4si", 12)
# struct ipv6_mreq: ipv6mr_multiaddr, ipv6mr_ifindex.
IPV6_MREQ: Final = layout("struct ipv6_mreq", "16sI", 20)

"""Interface: one network device of the stack, as everybody but its link sees it.

The edge drains `tx` after each turn (`Stack.flush` has the last word before) and puts what it received into
`Stack.receive`. Kinds:

    ETHERNET    frames with a link header; neighbours are resolved (ARP, NDP)
    IP          packets that begin with the IP header (a tun device, a point-to-point link): nothing is resolved
    LOOPBACK    what is sent is received again, inside the stack
    VLAN        802.1Q on a parent interface

Counters named as in struct rtnl_link_stats64. `rx_packets` and `rx_bytes` are the link's to count.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from services.netstackd.storage.packet import Packet
from services.netstackd.wire.ethernet import NO_ADDRESS
from services.netstackd.wire.ethernet import text as mac_text
from services.netstackd.wire.numbers import ETHERTYPE_VLAN

if TYPE_CHECKING:
    from services.netstackd.network.addresses import Address
    from services.netstackd.network.routes import Destination

ETHERNET: Final = 0
IP: Final = 1
LOOPBACK: Final = 2
VLAN: Final = 3
KIND_NAMES: Final = ("ethernet", "ip", "loopback", "vlan")

# Interface.offload: what the link does for the packets in `tx` (and so need not be done before).
OFFLOAD_CSUM: Final = 1  # completes CSUM_PARTIAL
OFFLOAD_TSO4: Final = 2  # cuts TCP over IPv4 to gso_size
OFFLOAD_TSO6: Final = 4
OFFLOAD_USO: Final = 8  # cuts UDP to gso_size
OFFLOAD_ALL: Final = 15

# How many packets may wait in tx before the stack drops (net.core's txqueuelen).
TX_QUEUE_LIMIT: Final = 1000

MIN_MTU_IPV4: Final = 68
MIN_MTU_IPV6: Final = 1280

_TAG: Final = Struct("!HH")


class Interface:
    """See the module. Settings are plain attributes: who changes up, mac, mtu or addresses does it through the
    Stack."""

    def __init__(
        self, name: str, kind: int = ETHERNET, mac: bytes = NO_ADDRESS, mtu: int = 1500, offload: int = 0
    ) -> None:
        self.name = name
        self.index = 0  # given by Stack.add_interface
        self.kind = kind
        self.mac = mac
        self.mtu = mtu
        self.offload = offload
        self.gso_max = 65535 if offload & (OFFLOAD_TSO4 | OFFLOAD_TSO6) else 0  # largest IP packet to cut; 0: none
        self._parent: Interface | None = None
        self.vlan_id = 0
        self.vlans: dict[int, Interface] = {}  # VLAN interfaces on this one, by identifier
        self.running = False  # up, with a carrier, down to the device: packets may go out
        self._up = False
        self._carrier = True
        self.promiscuous = False  # the link is to hand over frames for others
        self.multicast_macs: dict[bytes, int] = {}  # link groups to receive, with how many want each
        self.on_multicast_change: Callable[[Interface], None] | None = None  # told when multicast_macs changed
        self.tx: list[Packet] = []
        self.addresses: list[Address] = []
        self.link: Any = None  # the link object that moves frames; for the edge alone
        self.takes_runs = False  # a PacketRun in `tx` costs it less than the packets that it stands for

        # IPv4 settings (net.ipv4.conf.*)
        self.forwarding4 = False
        self.rp_filter = 0  # RFC 3704: 0 none, 1 strict, 2 loose
        self.accept_redirects4 = True
        self.send_redirects = True
        self.proxy_arp = False
        self.accept_local = False
        self.route_localnet = False
        # Both versions: what comes in here for an address that no route knows is ours (slirp/; as Linux's
        # `ip route add local default` with a rule for this interface).
        self.accept_any = False
        # IPv6 settings (net.ipv6.conf.*)
        self.ipv6_enabled = True
        self.forwarding6 = False
        self.accept_ra = 1  # 0 no, 1 unless forwarding, 2 always
        self.accept_ra_defrtr = True
        self.accept_ra_pinfo = True
        self.accept_ra_rt_info_max_plen = 0
        self.accept_ra_mtu = True
        self.autoconf = True
        self.accept_redirects6 = True
        self.use_tempaddr = 0  # RFC 8981: 0 none, 1 made, 2 made and preferred
        self.addr_gen_mode = 0  # 0 from the link address (EUI-64), 1 none, 2 stable privacy (RFC 7217)
        self.dad_transmits = 1
        self.proxy_ndp = False
        self.hop_limit6 = 64  # may be told by a router advertisement
        self.mtu6 = 0  # the same; 0: mtu
        self.router_solicitations = 3

        # What routing decided for packets that come in here, by (source, destination); see routing.py.
        self.input_cache4: dict[tuple[int, int], Destination] = {}
        self.input_cache6: dict[tuple[int, int], Destination] = {}

        # struct rtnl_link_stats64
        self.rx_packets = 0
        self.rx_bytes = 0
        self.rx_dropped = 0
        self.rx_errors = 0
        self.tx_packets = 0
        self.tx_bytes = 0
        self.tx_dropped = 0
        self.tx_errors = 0
        self.multicast = 0

    def __repr__(self) -> str:
        return f"<Interface {self.index} {self.name} {KIND_NAMES[self.kind]} {mac_text(self.mac)} mtu {self.mtu}>"

    @property
    def up(self) -> bool:
        """Administratively up."""
        return self._up

    @up.setter
    def up(self, value: bool) -> None:
        self._up = value
        self._update_running()

    @property
    def carrier(self) -> bool:
        """Somebody is at the other end."""
        return self._carrier

    @carrier.setter
    def carrier(self, value: bool) -> None:
        self._carrier = value
        self._update_running()

    @property
    def parent(self) -> Interface | None:
        """VLAN: where its frames travel."""
        return self._parent

    @parent.setter
    def parent(self, value: Interface | None) -> None:
        self._parent = value
        self._update_running()

    def _update_running(self) -> None:
        """`running` is looked at for every packet, so it is kept and not computed."""
        parent = self._parent
        self.running = self._up and self._carrier and (parent is None or parent.running)
        for vlan in self.vlans.values():
            vlan._update_running()

    @property
    def device(self) -> Interface:
        """The interface whose `tx` its packets go into: itself, or what a VLAN stands on."""
        iface = self
        while iface.parent is not None:
            iface = iface.parent
        return iface

    def tags(self) -> bytes:
        """The 802.1Q tags that come behind the link addresses, outermost first."""
        if self.parent is None:
            return b""
        return self.parent.tags() + _TAG.pack(ETHERTYPE_VLAN, self.vlan_id)

    def link_header(self, destination: bytes, ethertype: int) -> bytes:
        """The header of frames from here to a link address; b"" where frames have none."""
        device = self.device
        if device.kind != ETHERNET:
            return b""
        return destination + self.mac + self.tags() + ethertype.to_bytes(2, "big")

    @property
    def effective_mtu6(self) -> int:
        """The MTU for IPv6 (RFC 4861 section 6.3.4: an advertised one below the link's own)."""
        return self.mtu6 or self.mtu

"""scapy's malformed packets, as a program in a namespace: `python malformed.py DEVICE MAC SECONDS TARGET TARGET6`.

Headers with random fields (scapy's fuzz()) of every protocol that the stack parses, also cut off at random, with random
bytes changed, as fragments that overlap, and with headers nested. Seeded, so that a run can be repeated.
"""

from __future__ import annotations

import logging
import random
import sys
import time
import warnings
from collections.abc import Callable

warnings.simplefilter("ignore")
logging.getLogger("scapy").setLevel(logging.CRITICAL)

from scapy.all import (  # noqa: E402
    ARP,
    BOOTP,
    DHCP,
    ICMP,
    IP,
    TCP,
    UDP,
    Dot1Q,
    Ether,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPerror,
    IPOption,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Packet,
    Raw,
    TCPerror,
    conf,
    fuzz,
)
from scapy.contrib.igmp import IGMP  # noqa: E402


def recipes(target: str, target6: str, rng: random.Random) -> list[Callable[[], Packet]]:
    """What makes a packet, without its link header."""

    def noise(most: int) -> Raw:
        return Raw(rng.randbytes(rng.randrange(most)))

    def to4() -> IP:
        return IP(src=f"10.3.0.{rng.randrange(3, 250)}", dst=target, id=rng.getrandbits(16))

    def to6() -> IPv6:
        return IPv6(src=f"fd03::{rng.randrange(3, 250):x}", dst=target6)

    def odd4() -> IP:
        return fuzz(IP(dst=target))

    return [
        lambda: odd4() / fuzz(TCP()) / noise(40),
        lambda: odd4() / fuzz(UDP()) / noise(40),
        lambda: odd4() / fuzz(ICMP()) / noise(40),
        lambda: to4() / fuzz(TCP()) / noise(40),
        lambda: to4() / TCP(sport=rng.getrandbits(16), dport=7, flags=rng.getrandbits(8), seq=rng.getrandbits(32)),
        lambda: to4() / TCP(dport=7, dataofs=rng.randrange(16), options=[(rng.randrange(256), rng.randbytes(6))]),
        lambda: to4() / fuzz(UDP(dport=67)) / fuzz(BOOTP()) / fuzz(DHCP()),
        lambda: to4() / UDP(sport=68, dport=67) / noise(400),
        lambda: to4() / ICMP(type=3, code=4, nexthopmtu=rng.getrandbits(16)) / fuzz(IPerror(dst=target)) / TCPerror(),
        lambda: to4() / fuzz(IGMP()),
        lambda: IP(dst=target, options=[IPOption(rng.randbytes(rng.randrange(1, 30)))]) / UDP() / noise(10),
        lambda: IP(dst=target, id=rng.randrange(8), frag=rng.randrange(8), flags="MF", proto=17) / noise(60),
        lambda: IP(dst=target, id=rng.randrange(8), frag=rng.randrange(8191), proto=6) / noise(60),
        lambda: IP(dst=target, len=rng.getrandbits(16), ihl=rng.randrange(16)) / noise(60),
        lambda: fuzz(ARP()),
        lambda: fuzz(IPv6(dst=target6)) / fuzz(TCP()),
        lambda: to6() / fuzz(TCP(dport=7)) / noise(40),
        lambda: to6() / fuzz(UDP()) / noise(40),
        lambda: to6() / fuzz(ICMPv6EchoRequest()) / noise(40),
        lambda: to6() / fuzz(ICMPv6ND_NS()) / fuzz(ICMPv6NDOptSrcLLAddr()),
        lambda: to6() / fuzz(ICMPv6ND_NA()) / fuzz(ICMPv6NDOptSrcLLAddr()),
        lambda: to6() / fuzz(ICMPv6ND_RA()) / fuzz(ICMPv6NDOptPrefixInfo()) / fuzz(ICMPv6NDOptMTU()),
        lambda: to6() / fuzz(ICMPv6ND_Redirect()),
        lambda: to6() / fuzz(ICMPv6PacketTooBig()) / noise(60),
        lambda: to6() / fuzz(ICMPv6MLReport2()) / noise(60),
        lambda: to6() / fuzz(IPv6ExtHdrHopByHop()) / fuzz(IPv6ExtHdrDestOpt()) / fuzz(UDP()),
        lambda: to6() / fuzz(IPv6ExtHdrRouting()) / fuzz(TCP()),
        lambda: to6() / IPv6ExtHdrFragment(offset=rng.randrange(8), m=1, id=rng.randrange(8), nh=17) / noise(60),
        lambda: to6() / fuzz(IPv6ExtHdrFragment()) / noise(60),
        lambda: Dot1Q(vlan=rng.randrange(4096)) / odd4() / fuzz(TCP()),
        lambda: noise(60),
    ]


def main(device: str, mac: str, seconds: float, target: str, target6: str) -> None:
    """Send for so long, then print how many were sent."""
    rng = random.Random(7)
    random.seed(7)  # scapy's own choices
    sock = conf.L2socket(iface=device)
    makers = recipes(target, target6, rng)
    types = {IP: 0x0800, IPv6: 0x86DD, ARP: 0x0806, Dot1Q: 0x8100}
    count = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        count += 1
        try:
            layer = makers[count % len(makers)]()
            data = bytearray(bytes(layer))
        except Exception:  # scapy cannot write every value that it made up
            continue
        kind = types.get(type(layer), rng.choice((0x0800, 0x86DD, 0x0806, 0x8100, rng.getrandbits(16))))
        if data and rng.random() < 0.3:
            data = data[: rng.randrange(len(data))]
        for _ in range(rng.choice((0, 0, 0, 1, 4))):
            if data:
                data[rng.randrange(len(data))] = rng.getrandbits(8)
        frame = Ether(dst=mac, src=f"02:00:00:00:00:{rng.randrange(256):02x}", type=kind) / Raw(bytes(data))
        try:
            sock.send(frame)
        except OSError:
            pass
    print(count)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4], sys.argv[5])

"""TCP between a stack and the host kernel over a link that loses, repeats, reorders, corrupts and delays: every byte
arrives, both ways, whoever connects, and both ends close."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from services.netstackd.links.fault import FaultLink, Faults
from services.netstackd.links.tap import open_tap
from services.netstackd.network.interface import ETHERNET, Interface
from tests.netstack.kernel_interop.kernel import OURS, THEIRS, Kernel, connected, exchange, ip

MILLISECOND = 1_000_000

CONDITIONS = {
    "delay": Faults(delay_ns=20 * MILLISECOND),
    "loss": Faults(loss=0.02, delay_ns=5 * MILLISECOND),
    "heavy_loss": Faults(loss=0.1, delay_ns=2 * MILLISECOND),
    "duplicates": Faults(duplicate=0.2, delay_ns=2 * MILLISECOND),
    "reordering": Faults(reorder=0.1, delay_ns=5 * MILLISECOND),
    "jitter": Faults(jitter_ns=8 * MILLISECOND, delay_ns=2 * MILLISECOND),
    "corruption": Faults(corrupt=0.02, delay_ns=2 * MILLISECOND),
    "narrow": Faults(rate_bps=20_000_000, queue=30, delay_ns=5 * MILLISECOND),
    "all": Faults(
        loss=0.02, duplicate=0.05, reorder=0.05, corrupt=0.01, delay_ns=3 * MILLISECOND, jitter_ns=2 * MILLISECOND
    ),
}


class FaultyKernel(Kernel):
    """The harness of kernel.py with a `FaultLink` around the tap. Both know the other's link address: who asks in vain
    three times gives up, as Linux does, and so would one of a hundred where a tenth is lost."""

    faults = Faults()
    mtu = 1500

    def __init__(self, offload: bool) -> None:
        super().__init__(offload)
        link = self.run("cat", "/sys/class/net/tap0/address").strip()
        for version, table in ((4, self.stack.neighbours4), (6, self.stack.neighbours6)):
            table.set_permanent(self.iface, ip(THEIRS[version]), bytes.fromhex(link.replace(":", "")))
            self.run("ip", "neigh", "replace", OURS[version], "lladdr", self.iface.mac.hex(":"), "dev", "tap0")

    def attach(self, device: str, number: int, offload: bool) -> Interface:
        mac = bytes((2, 0, 0, 7, 0, number))
        tap = open_tap(device, device, mac=mac, mtu=self.mtu, netns=self.netns, offload=offload)
        link = FaultLink(tap, random.Random(11), rx=self.faults, tx=self.faults)
        iface = Interface(device, ETHERNET, mac, self.mtu, link.offload)
        iface.gso_max = 65535
        self.stack.add_interface(iface)
        self.loop.add_link(iface, link)
        self.stack.set_up(iface, True)
        return iface


def faulty(condition: str, mtu: int = 1500) -> FaultyKernel:
    kind = type("FaultyKernelOf", (FaultyKernel,), {"faults": CONDITIONS[condition], "mtu": mtu})
    made = kind(False)
    assert isinstance(made, FaultyKernel)
    return made


@pytest.fixture(params=list(CONDITIONS))
def bad_link(request: pytest.FixtureRequest) -> Iterator[FaultyKernel]:
    made = faulty(request.param)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("we_connect", [True, False], ids=["out", "in"])
def test_every_byte_passes_a_bad_link_both_ways(bad_link: FaultyKernel, we_connect: bool) -> None:
    ours, theirs = connected(bad_link, 4, we_connect)
    with theirs:
        exchange(bad_link, ours, theirs, 300_000)


@pytest.mark.parametrize("version", [4, 6])
def test_every_byte_passes_a_small_mtu_with_loss(version: int) -> None:
    kernel = faulty("loss", 1280)
    try:
        ours, theirs = connected(kernel, version, True)
        with theirs:
            exchange(kernel, ours, theirs, 100_000)
    finally:
        kernel.close()


def test_a_connection_survives_a_silent_link() -> None:
    """Nothing passes for a second; retransmission brings both ends back."""
    kernel = faulty("delay")
    try:
        ours, theirs = connected(kernel, 4, True)
        with theirs:
            kernel.run("ip", "link", "set", "tap0", "down")
            ours.send(b"x" * 5000)
            end = time.monotonic() + 1.0
            kernel.until(lambda: time.monotonic() > end)
            kernel.run("ip", "link", "set", "tap0", "up")
            got = bytearray()

            def all_there() -> bool:
                try:
                    got.extend(theirs.recv(10_000))
                except BlockingIOError:
                    pass
                return len(got) == 5000

            kernel.until(all_there)
    finally:
        kernel.close()

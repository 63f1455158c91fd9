"""Packets per second that one core receives, beside PyTCP's receive path: UDP datagrams from the frame to the socket.

    python -m tests.netstack.bench_pytcp --pytcp PYTHON [--rounds 5]

PYTHON is an interpreter that has PyTCP (`pip install PyTCP==2.7.6` in an environment of its own; nothing here depends
on it). Both are given the same frames in memory, a datagram to a bound socket with its checksums to be
verified, and are timed in turn; the best round counts. PyTCP runs with -O, without its logging and without its threads;
netstackd takes batches of 64, as its loop gives them.
"""

from __future__ import annotations

import argparse
import subprocess
from time import perf_counter_ns

from services.netstackd.sockets import AF_INET, SOCK_DGRAM, UdpSocket, open_socket
from services.netstackd.storage.packet import Packet
from tests.netstack.bench_paths import BATCH, LEFT, NOW, stack_with_two_links, udp_frame

OWN = 0x0A0100FE
COUNT = BATCH * 100

THEIRS = """
import sys, time
from pytcp import config
config.LOG__CHANEL = config.LOG__CHANNEL = set()
from pytcp.lib import stack
from pytcp.lib.ip4_address import Ip4Host
from pytcp.lib.mac_address import MacAddress
from pytcp.lib.packet import PacketRx
from pytcp.lib.socket import AF_INET4, SOCK_DGRAM
from pytcp.protocols.udp.socket import UdpSocket
from pytcp.subsystems.packet_handler import PacketHandler
handler = stack.packet_handler = PacketHandler()
handler.mac_unicast = MacAddress("02:00:00:00:00:01")
handler.ip4_host = [Ip4Host("10.1.0.254/24")]
socket = UdpSocket(AF_INET4)
socket.bind(("10.1.0.254", 7000))
frame, count = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
began = time.perf_counter_ns()
for _ in range(count):
    handler._phrx_ether(PacketRx(frame))
took = time.perf_counter_ns() - began
assert len(socket._packet_rx_md) == count, len(socket._packet_rx_md)
print(took)
"""


def ours(frame: bytes) -> int:
    """Nanoseconds for COUNT frames."""
    stack, left, _ = stack_with_two_links()
    socket = open_socket(stack, AF_INET, SOCK_DGRAM)
    assert isinstance(socket, UdpSocket)
    socket.bind((OWN, 7000, 0))
    socket.rcvbuf = 1 << 40
    began = perf_counter_ns()
    for _ in range(COUNT // BATCH):
        stack.receive(left, [Packet(frame, len(frame)) for _ in range(BATCH)], NOW)
        stack.flush(NOW)
    took = perf_counter_ns() - began
    assert len(socket.queue) == COUNT
    return took


def theirs(python: str, frame: bytes) -> int:
    """The same."""
    done = subprocess.run(
        [python, "-O", "-c", THEIRS, frame.hex(), str(COUNT)], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(done.stdout)


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pytcp", required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for size in (18, 1460):
        frame = udp_frame(4, LEFT, OWN, size)
        best = [1 << 62, 1 << 62]
        for _ in range(options.rounds):
            best = [min(best[0], ours(frame)), min(best[1], theirs(options.pytcp, frame))]
        rates = [COUNT * 1_000_000_000 // took for took in best]
        print(f"{size:5} bytes: netstackd {rates[0]:>9,} packets/s  PyTCP {rates[1]:>9,}  ({rates[0] / rates[1]:.1f})")


if __name__ == "__main__":
    main()

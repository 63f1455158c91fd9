"""A packet socket is asked whether there is a second frame, and read until it is empty only when there is."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import pytest

from services.netstackd.links.base import ALL_OFFLOADS, VNET_BYTES
from services.netstackd.links.packet_socket import PacketLink

FRAME = bytes(12) + b"\x08\x00" + bytes(50)


@pytest.mark.parametrize(("frames", "reads"), [(0, 1), (1, 1), (2, 3), (5, 6)])
def test_one_frame_is_one_read(frames: int, reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wire, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with wire, ours:
        link = PacketLink("wire", ours, mac=bytes(6), mtu=1500, offload=ALL_OFFLOADS)
        for _ in range(frames):
            wire.send(bytes(VNET_BYTES) + FRAME)
        calls: list[int] = []
        readv = os.readv

        def counted(fd: int, buffers: Sequence[bytearray]) -> int:
            calls.append(fd)
            return readv(fd, buffers)

        monkeypatch.setattr(os, "readv", counted)
        received = link.receive(64, 0)
        assert [bytes(packet.head[: packet.end]) for packet in received] == [FRAME] * frames
        assert len(calls) == reads
        assert link.counters.rx_packets == frames

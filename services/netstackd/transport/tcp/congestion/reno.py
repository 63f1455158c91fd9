"""Reno: slow start and additive increase, multiplicative decrease by half (RFC 5681), counting bytes (RFC 3465).

Slow start takes all acknowledged bytes, with no limit per ack, as Linux does: one ack here often stands for a whole
large segment.
"""

from __future__ import annotations

from typing import ClassVar

from services.netstackd.transport.tcp.congestion.base import Controller


class Reno(Controller):
    __slots__ = ("_bytes_acked",)

    name: ClassVar[str] = "reno"

    def __init__(self, mss: int, initial_segments: int) -> None:
        super().__init__(mss, initial_segments)
        self._bytes_acked = 0

    def on_ack(self, acked: int, rtt: int, now: int, una: int, nxt: int) -> None:
        if self.cwnd < self.ssthresh:
            room = self.ssthresh - self.cwnd
            if acked <= room:
                self.cwnd += acked
                return
            self.cwnd += room
            acked -= room
        # RFC 3465 2.1: one segment for each window of bytes.
        self._bytes_acked += acked
        while self._bytes_acked >= self.cwnd:
            self._bytes_acked -= self.cwnd
            self.cwnd += self.mss

    def reduced_window(self, now: int) -> int:
        self._bytes_acked = 0
        return self.cwnd >> 1

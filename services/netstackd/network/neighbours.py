"""Neighbours: the link addresses of those next to us (RFC 4861 section 7.3; RFC 826)."""

from __future__ import annotations


class Neighbour:
    """One entry of the table."""

    __slots__ = ("link_address",)

    def __init__(self, link_address: bytes) -> None:
        self.link_address = link_address

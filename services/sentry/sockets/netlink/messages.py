"""Netlink messages as bytes: headers, attributes, and what a request is taken apart into (netlink(7))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from protocol.abi import netlink_h as nl
from protocol.abi.layout import I32

__all__ = ["Reply", "Request", "attribute", "attributes_untrusted", "error", "message", "requests_untrusted"]

_HEADER: Final = nl.NLMSGHDR.size


class Request(NamedTuple):
    """One message to the kernel. `raw` is all of it, as an error answers with it."""

    kind: int
    flags: int
    sequence: int
    sender: int
    body: bytes
    raw: bytes


class Reply(NamedTuple):
    """One message back: its type and what follows the header."""

    kind: int
    body: bytes


def _align(length: int) -> int:
    return (length + 3) & ~3


def requests_untrusted(raw: bytes) -> Iterator[Request]:
    """The messages in `raw`; what comes after a malformed one is dropped (netlink_rcv_skb)."""
    at = 0
    while at + _HEADER <= len(raw):
        length, kind, flags, sequence, sender = nl.NLMSGHDR.unpack_from(raw, at)
        if length < _HEADER or length > len(raw) - at:
            return
        whole = raw[at : at + length]
        yield Request(kind, flags, sequence, sender, whole[_HEADER:], whole)
        at += _align(length)


def attributes_untrusted(raw: bytes) -> dict[int, bytes]:
    """type -> payload; the last of a type counts, and a malformed one ends it."""
    found: dict[int, bytes] = {}
    at = 0
    while at + nl.NLATTR.size <= len(raw):
        length, kind = nl.NLATTR.unpack_from(raw, at)
        if length < nl.NLATTR.size or length > len(raw) - at:
            break
        found[kind & ~(nl.NLA_F_NESTED | nl.NLA_F_NET_BYTEORDER)] = raw[at + nl.NLATTR.size : at + length]
        at += _align(length)
    return found


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    length = nl.NLATTR.size + len(payload)
    return (nl.NLATTR.pack(length, kind) + payload).ljust(_align(length), b"\0")


def message(reply: Reply, request: Request, flags: int = 0) -> bytes:
    """`reply` with its header, padded. The port id is the asker's."""
    length = _HEADER + len(reply.body)
    header = nl.NLMSGHDR.pack(length, reply.kind, flags, request.sequence, request.sender)
    return (header + reply.body).ljust(_align(length), b"\0")


def error(request: Request, number: int) -> bytes:
    """NLMSG_ERROR: `number` is an errno, 0 for an acknowledgement, which brings the header of the request alone."""
    if number:
        return message(Reply(nl.NLMSG_ERROR, I32.pack(-number) + request.raw), request)
    return message(Reply(nl.NLMSG_ERROR, I32.pack(0) + request.raw[:_HEADER]), request, nl.NLM_F_CAPPED)


def packed(attributes: Iterable[tuple[int, bytes]]) -> bytes:
    """Attributes one after the other."""
    return b"".join(attribute(kind, payload) for kind, payload in attributes)

"""struct tcp_info of a connection at the socket service, from the fields that it names (linux/tcp.h, tcp(7))."""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["pack_untrusted"]

#: In the order of the structure; wscale stands for the two nibbles snd_wscale and rcv_wscale.
_FIELDS: Final = (
    "state ca_state retransmits probes backoff options wscale flags "
    "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv "
    "last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space "
    "total_retrans "
    "pacing_rate max_pacing_rate bytes_acked bytes_received "
    "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out "
    "delivery_rate busy_time rwnd_limited sndbuf_limited "
    "delivered delivered_ce "
    "bytes_sent bytes_retrans "
    "dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash"
).split()
_STRUCT: Final = struct.Struct("<8B24I4Q6I4Q2I2Q6I")
_LIMITS: Final = tuple(
    (1 << bits) - 1 for bits in [8] * 8 + [32] * 24 + [64] * 4 + [32] * 6 + [64] * 4 + [32] * 2 + [64] * 2 + [32] * 6
)


def number_of(found: dict[str, object], name: str) -> int:
    """A field as it was sent, 0 when it was not."""
    value = found.get(name)
    return value if type(value) is int else 0


def pack_untrusted(found: dict[str, object], state: int) -> bytes:
    """The structure, with the Sentry's own view of the state. Fields that do not fit are cut to what they can say."""
    values = {name: number_of(found, name) for name in _FIELDS}
    values["state"] = state
    values["wscale"] = (number_of(found, "snd_wscale") & 15) | (number_of(found, "rcv_wscale") & 15) << 4
    return _STRUCT.pack(*(min(max(values[name], 0), limit) for name, limit in zip(_FIELDS, _LIMITS, strict=True)))

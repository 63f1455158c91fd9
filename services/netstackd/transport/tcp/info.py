"""TCP_INFO: the fields of struct tcp_info (linux/tcp.h), named without their prefix; times in the units of that
struct."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.netstackd.transport.tcp.congestion.base import UNLIMITED
from services.netstackd.transport.tcp.output import pacing_rate

if TYPE_CHECKING:
    from services.netstackd.transport.tcp.endpoint import Endpoint

MAX_U32 = 0xFFFFFFFF
_HEADERS4 = 40  # of IP and TCP without options, of which a path's size for TCP is without
_HEADERS6 = 60
INFINITE_SSTHRESH = 0x7FFFFFFF  # TCP_INFINITE_SSTHRESH


def snapshot(endpoint: Endpoint, now: int) -> dict[str, int]:
    mss = max(endpoint.mss, 1)
    cc = endpoint.cc
    rtt = endpoint.rtt
    options = (
        (1 if endpoint.ts_ok else 0)
        | (2 if endpoint.sack_ok else 0)
        | (4 if endpoint.wscale_ok else 0)
        | (8 if endpoint.ecn_ok else 0)
        | (32 if endpoint.syn_data_acked else 0)
    )

    def segments(size: int) -> int:
        return -(-size // mss)

    assembler = endpoint.assembler
    return {
        "state": endpoint.state,
        "ca_state": endpoint.ca_state,
        "retransmits": endpoint.retransmits,
        "probes": max(endpoint.probes_out, endpoint.keepalive_probes),
        "backoff": endpoint.backoff,
        "options": options,
        "snd_wscale": endpoint.snd_wscale,
        "rcv_wscale": endpoint.rcv_wscale,
        "rto": rtt.backed_off(endpoint.backoff) // 1000,
        "ato": endpoint.ato // 1000,
        "snd_mss": endpoint.mss,
        "rcv_mss": endpoint.rcv_mss,
        "unacked": segments(endpoint.snd_nxt - endpoint.snd_una),
        "sacked": segments(endpoint.sacked_bytes),
        "lost": segments(endpoint.lost_bytes),
        "retrans": segments(endpoint.retrans_bytes),
        "last_data_sent": (now - (endpoint.last_data_sent or endpoint.started_at)) // 1_000_000,
        "last_data_recv": (now - (endpoint.last_data_received or endpoint.started_at)) // 1_000_000,
        "last_ack_recv": (now - endpoint.last_receive) // 1_000_000,
        "pmtu": endpoint.route.mss_for_path() + (_HEADERS4 if len(endpoint.route.peer) == 8 else _HEADERS6),
        "rcv_ssthresh": endpoint.rcvbuf >> 1,
        "rtt": rtt.srtt // 1000,
        "rttvar": rtt.rttvar // 1000,
        "snd_ssthresh": INFINITE_SSTHRESH if cc.ssthresh >= UNLIMITED else cc.ssthresh // mss,
        "snd_cwnd": cc.cwnd // mss,
        "advmss": endpoint.advertised_mss,
        "reordering": endpoint.rack.segs,
        "rcv_rtt": endpoint.rcv_rtt // 1000,
        "rcv_space": endpoint.rcv_space,
        "total_retrans": endpoint.total_retrans,
        "pacing_rate": pacing_rate(endpoint),
        "max_pacing_rate": endpoint.options.max_pacing_rate or (1 << 64) - 1,
        "bytes_acked": endpoint.bytes_acked,
        "bytes_received": endpoint.bytes_received,
        "segs_out": endpoint.segs_out,
        "segs_in": endpoint.segs_in,
        "notsent_bytes": max(endpoint.send.end - endpoint.snd_nxt, 0),
        "min_rtt": rtt.min_rtt // 1000 if rtt.min_rtt else MAX_U32,
        "delivered": segments(endpoint.delivered),
        "delivered_ce": endpoint.delivered_ce,
        "bytes_sent": endpoint.bytes_sent,
        "bytes_retrans": endpoint.bytes_retrans,
        "reord_seen": endpoint.reordering_seen,
        "rcv_ooopack": assembler.pieces() if assembler is not None else 0,
        "snd_wnd": endpoint.snd_wnd,
        "rcv_wnd": max(endpoint.rcv_edge - endpoint.rcv_nxt, 0),
    }

"""What one can tune: `Parameters` for a whole stack (Linux's sysctls net.ipv4.tcp_*), `Options` for one socket.

Names and defaults are Linux's (Documentation/networking/ip-sysctl.rst, tcp(7)); times are nanoseconds here.
"""

from __future__ import annotations

from typing import Final

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
NEVER: Final = 1 << 62  # a deadline that does not come

TIME_WAIT_LENGTH: Final = 60 * SECOND  # TCP_TIMEWAIT_LEN
DELAYED_ACK_MIN: Final = 40 * MILLISECOND  # TCP_DELACK_MIN, TCP_ATO_MIN
DELAYED_ACK_MAX: Final = 200 * MILLISECOND  # TCP_DELACK_MAX
INITIAL_RTO: Final = 1 * SECOND  # RFC 6298 2.1
RTO_AFTER_SYN_LOSS: Final = 3 * SECOND  # RFC 6298 5.7
MIN_MSS: Final = 48  # tcp_min_snd_mss
DEFAULT_MSS: Final = 536  # RFC 9293 3.7.1, where the peer sends no MSS option
MAX_WINDOW: Final = 65535


class Parameters:
    """The stack's defaults. One object per stack; changing a field acts on connections made later, and on running ones
    where Linux reads the sysctl each time."""

    def __init__(self) -> None:
        # Buffers: (minimum, default, maximum), bytes. Half of a receive buffer is window (tcp_adv_win_scale 1).
        self.rmem: tuple[int, int, int] = (4096, 131072, 6291456)
        self.wmem: tuple[int, int, int] = (4096, 16384, 4194304)
        self.moderate_rcvbuf = True
        # Extensions offered and accepted.
        self.window_scaling = True
        self.timestamps = True
        self.sack = True
        self.dsack = True
        self.ecn = 2  # 0 never, 1 ask and accept, 2 accept when asked
        self.ecn_fallback = True
        self.fastopen = 1  # bit 0: client, bit 1: server
        # Loss recovery.
        self.rto_min = 200 * MILLISECOND
        self.rto_max = 120 * SECOND
        self.reordering = 3
        self.max_reordering = 300
        self.early_retrans = True  # tail loss probe (RFC 8985 7)
        self.recovery_rack = True
        self.frto = True
        self.limited_transmit = True
        self.slow_start_after_idle = True
        self.congestion = "cubic"
        self.initial_window = 10  # segments, RFC 6928
        self.pacing = False
        self.pacing_ss_ratio = 200  # percent of cwnd/srtt
        self.pacing_ca_ratio = 120
        # Giving up.
        self.syn_retries = 6
        self.synack_retries = 5
        self.retries1 = 3
        self.retries2 = 15
        self.orphan_retries = 8
        # Path MTU black holes (RFC 4821): 0 never, 1 when one is suspected.
        self.mtu_probing = 1
        self.base_mss = 1024
        self.mtu_probe_floor = 512  # below that no path is; Linux goes down to 48
        # Keepalive (RFC 9293 3.8.4).
        self.keepalive_time = 7200 * SECOND
        self.keepalive_interval = 75 * SECOND
        self.keepalive_probes = 9
        # Listening.
        self.somaxconn = 4096
        self.max_syn_backlog = 1024
        self.syncookies = 1  # 0 never, 1 when the SYN queue is full, 2 always
        self.abort_on_overflow = False
        # Ending.
        self.fin_timeout = 60 * SECOND
        self.max_tw_buckets = 65536
        self.max_orphans = 65536
        self.max_orphan_bytes = 64 << 20  # of all orphans (Linux has them under tcp_mem)
        self.tw_reuse = 2  # 0 never, 1 always, 2 loopback alone (the caller decides what is loopback)
        self.rfc1337 = False
        # RFC 5961.
        self.challenge_ack_limit = 1000  # per second and stack
        self.invalid_ratelimit = 500 * MILLISECOND
        # Output.
        self.min_tso_segments = 2
        self.notsent_lowat = 1 << 62


class Options:
    """Socket options that TCP itself looks at. A child of a listener gets a copy (`inherit`)."""

    __slots__ = (
        "congestion",
        "cork",
        "defer_accept",
        "fastopen",
        "fastopen_connect",
        "keepalive",
        "keepalive_idle",
        "keepalive_interval",
        "keepalive_probes",
        "linger",
        "linger2",
        "max_pacing_rate",
        "maxseg",
        "nodelay",
        "notsent_lowat",
        "oobinline",
        "quickack",
        "rcvbuf",
        "rcvlowat",
        "sndbuf",
        "syncnt",
        "user_timeout",
        "window_clamp",
    )

    def __init__(self, parameters: Parameters | None = None) -> None:
        """None: no field is set; `inherit` sets them all."""
        if parameters is None:
            return
        self.congestion = parameters.congestion
        self.cork = False
        self.nodelay = False
        self.quickack = -1  # -1 automatic, 0 off, 1 on until delayed acks are earned again
        self.keepalive = False
        self.keepalive_idle = parameters.keepalive_time
        self.keepalive_interval = parameters.keepalive_interval
        self.keepalive_probes = parameters.keepalive_probes
        self.user_timeout = 0  # ns, 0: none
        self.syncnt = parameters.syn_retries
        self.linger2 = parameters.fin_timeout  # ns; negative: FIN-WAIT-2 is not kept for an orphan
        self.linger = -1  # ns; -1 off, 0: close resets
        self.defer_accept = 0  # ns
        self.maxseg = 0
        self.window_clamp = 0
        self.fastopen = 0  # a listener's queue length
        self.fastopen_connect = False
        self.notsent_lowat = 0
        self.max_pacing_rate = 0  # bytes per second, 0: no limit
        self.oobinline = False
        self.rcvbuf = 0  # bytes, 0: automatic
        self.sndbuf = 0
        self.rcvlowat = 1

    def change(self, name: str, value: int) -> None:
        """Set a field by its name; a flag takes any number."""
        if isinstance(getattr(self, name), bool):
            setattr(self, name, bool(value))
        else:
            setattr(self, name, value)

    def inherit(self) -> Options:
        """A copy. Written out, which takes a fifth of copy.copy's time: each accepted connection is made one."""
        child = Options()
        child.congestion = self.congestion
        child.cork = self.cork
        child.defer_accept = self.defer_accept
        child.fastopen = self.fastopen
        child.fastopen_connect = self.fastopen_connect
        child.keepalive = self.keepalive
        child.keepalive_idle = self.keepalive_idle
        child.keepalive_interval = self.keepalive_interval
        child.keepalive_probes = self.keepalive_probes
        child.linger = self.linger
        child.linger2 = self.linger2
        child.max_pacing_rate = self.max_pacing_rate
        child.maxseg = self.maxseg
        child.nodelay = self.nodelay
        child.notsent_lowat = self.notsent_lowat
        child.oobinline = self.oobinline
        child.quickack = self.quickack
        child.rcvbuf = self.rcvbuf
        child.rcvlowat = self.rcvlowat
        child.sndbuf = self.sndbuf
        child.syncnt = self.syncnt
        child.user_timeout = self.user_timeout
        child.window_clamp = self.window_clamp
        return child

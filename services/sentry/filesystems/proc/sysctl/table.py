"""Every file below /proc/sys: path -> row (proc_sys_kernel(5), proc_sys_vm(5), proc_sys_fs(5), proc_sys_net(5))."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from services.sentry.devices.random_bytes import ENTROPY_BITS
from services.sentry.filesystems.proc.net import open_tables
from services.sentry.filesystems.proc.rows import SystemRow
from services.sentry.filesystems.proc.sysctl.values import (
    attribute,
    fixed,
    node_name,
    numbers,
    per_reader,
    random_uuid,
    settable,
)
from services.sentry.kernel import uts
from services.sentry.sockets.inet.network import InetNetwork

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel

__all__ = ["SYSCTLS"]

_LONG_MAX = 9223372036854775807


def _ping_groups(kernel: Kernel) -> tuple[int, ...]:
    """Who may have ICMP sockets: nobody, or, where there is a network to ping, everybody."""
    return (0, (1 << 31) - 1) if kernel.part(InetNetwork).has_outside else (1, 0)


_KERNEL: Final[dict[bytes, SystemRow]] = {
    b"acct": fixed(b"4\t2\t30"),
    b"auto_msgmni": fixed(b"0"),
    b"cad_pid": fixed(b"1"),
    b"cap_last_cap": fixed(b"40"),
    b"core_pattern": fixed(b"core"),
    b"core_pipe_limit": fixed(b"0"),
    b"core_uses_pid": settable(b"kernel/core_uses_pid", 0, 0, 1),
    b"ctrl-alt-del": fixed(b"0"),
    b"dmesg_restrict": settable(b"kernel/dmesg_restrict", 0, 0, 1),
    b"domainname": node_name("domainname"),
    b"hostname": node_name("hostname"),
    b"hung_task_timeout_secs": settable(b"kernel/hung_task_timeout_secs", 0),
    b"io_uring_disabled": fixed(b"2"),
    b"kptr_restrict": settable(b"kernel/kptr_restrict", 1, 0, 2),
    b"max_lock_depth": settable(b"kernel/max_lock_depth", 1024),
    b"modules_disabled": fixed(b"1"),
    b"msgmax": settable(b"kernel/msgmax", 8192),
    b"msgmnb": settable(b"kernel/msgmnb", 16384),
    b"msgmni": settable(b"kernel/msgmni", 32000),
    b"ngroups_max": fixed(b"65536"),
    b"nmi_watchdog": fixed(b"0"),
    b"ns_last_pid": per_reader(lambda reader: b"%d" % max(reader.kernel.tasks, default=0)),
    b"numa_balancing": fixed(b"0"),
    b"osrelease": fixed(uts.RELEASE),
    b"ostype": fixed(uts.SYSNAME),
    b"overflowgid": settable(b"kernel/overflowgid", 65534, 0, 65535),
    b"overflowuid": settable(b"kernel/overflowuid", 65534, 0, 65535),
    b"panic": settable(b"kernel/panic", 0),
    b"panic_on_oops": settable(b"kernel/panic_on_oops", 0, 0, 1),
    b"perf_event_max_sample_rate": fixed(b"100000"),
    b"perf_event_mlock_kb": fixed(b"516"),
    b"perf_event_paranoid": fixed(b"3"),
    b"pid_max": attribute("pid_max", 301, 4194304),
    b"printk": numbers(b"kernel/printk", (4, 4, 1, 7)),
    b"pty/max": fixed(b"4096"),
    b"pty/nr": per_reader(lambda reader: b"%d" % _ptys(reader.kernel)),
    b"pty/reserve": fixed(b"1024"),
    b"random/boot_id": per_reader(lambda reader: bytes(reader.kernel.boot_id)),
    b"random/entropy_avail": fixed(b"%d" % ENTROPY_BITS),
    b"random/poolsize": fixed(b"%d" % ENTROPY_BITS),
    b"random/urandom_min_reseed_secs": fixed(b"60"),
    b"random/uuid": per_reader(random_uuid),
    b"random/write_wakeup_threshold": fixed(b"%d" % ENTROPY_BITS),
    b"randomize_va_space": settable(b"kernel/randomize_va_space", 2, 0, 2),
    b"sched_autogroup_enabled": settable(b"kernel/sched_autogroup_enabled", 1, 0, 1),
    b"sched_child_runs_first": settable(b"kernel/sched_child_runs_first", 0, 0, 1),
    b"sched_rr_timeslice_ms": settable(b"kernel/sched_rr_timeslice_ms", 100),
    b"sched_rt_period_us": settable(b"kernel/sched_rt_period_us", 1000000),
    b"sched_rt_runtime_us": settable(b"kernel/sched_rt_runtime_us", 950000, -1),
    b"seccomp/actions_avail": fixed(b"kill_process kill_thread trap errno user_notif trace log allow"),
    b"seccomp/actions_logged": fixed(b"kill_process kill_thread trap errno user_notif trace log"),
    b"sem": numbers(b"kernel/sem", (32000, 1024000000, 500, 32000)),
    b"shm_rmid_forced": settable(b"kernel/shm_rmid_forced", 0, 0, 1),
    b"shmall": numbers(b"kernel/shmall", (18446744073692774399,), 0, (1 << 64) - 1),
    b"shmmax": numbers(b"kernel/shmmax", (18446744073692774399,), 0, (1 << 64) - 1),
    b"shmmni": settable(b"kernel/shmmni", 4096, 0, 32768),
    b"sysrq": settable(b"kernel/sysrq", 0),
    b"tainted": fixed(b"0"),
    b"threads-max": attribute("threads_max", 20, 1 << 30),
    b"unprivileged_bpf_disabled": fixed(b"2"),
    b"unprivileged_userns_clone": fixed(b"1"),
    b"version": fixed(uts.VERSION),
    b"watchdog": fixed(b"0"),
    b"yama/ptrace_scope": settable(b"kernel/yama/ptrace_scope", 0, 0, 3),
    b"keys/maxkeys": settable(b"kernel/keys/maxkeys", 200),
    b"keys/maxbytes": settable(b"kernel/keys/maxbytes", 20000),
}
_VM: Final[dict[bytes, SystemRow]] = {
    b"admin_reserve_kbytes": settable(b"vm/admin_reserve_kbytes", 8192),
    b"dirty_background_bytes": settable(b"vm/dirty_background_bytes", 0),
    b"dirty_background_ratio": settable(b"vm/dirty_background_ratio", 10, 0, 100),
    b"dirty_bytes": settable(b"vm/dirty_bytes", 0),
    b"dirty_expire_centisecs": settable(b"vm/dirty_expire_centisecs", 3000),
    b"dirty_ratio": settable(b"vm/dirty_ratio", 20, 0, 100),
    b"dirty_writeback_centisecs": settable(b"vm/dirty_writeback_centisecs", 500),
    b"drop_caches": settable(b"vm/drop_caches", 0, 0, 4),
    b"max_map_count": settable(b"vm/max_map_count", 65530),
    b"min_free_kbytes": settable(b"vm/min_free_kbytes", 67584),
    b"mmap_min_addr": fixed(b"65536"),
    b"mmap_rnd_bits": fixed(b"28"),
    b"nr_hugepages": fixed(b"0"),
    b"nr_overcommit_hugepages": fixed(b"0"),
    b"oom_dump_tasks": settable(b"vm/oom_dump_tasks", 1, 0, 1),
    b"oom_kill_allocating_task": settable(b"vm/oom_kill_allocating_task", 0, 0, 1),
    b"overcommit_kbytes": settable(b"vm/overcommit_kbytes", 0),
    b"overcommit_memory": settable(b"vm/overcommit_memory", 0, 0, 2),
    b"overcommit_ratio": settable(b"vm/overcommit_ratio", 50),
    b"page-cluster": settable(b"vm/page-cluster", 3),
    b"panic_on_oom": settable(b"vm/panic_on_oom", 0, 0, 2),
    b"swappiness": settable(b"vm/swappiness", 60, 0, 200),
    b"unprivileged_userfaultfd": fixed(b"0"),
    b"user_reserve_kbytes": settable(b"vm/user_reserve_kbytes", 131072),
    b"vfs_cache_pressure": settable(b"vm/vfs_cache_pressure", 100),
    b"zone_reclaim_mode": fixed(b"0"),
}
_FS: Final[dict[bytes, SystemRow]] = {
    b"aio-max-nr": settable(b"fs/aio-max-nr", 65536),
    b"aio-nr": fixed(b"0"),
    b"dentry-state": fixed(b"0\t0\t45\t0\t0\t0"),
    b"dir-notify-enable": fixed(b"1"),
    b"epoll/max_user_watches": settable(b"fs/epoll/max_user_watches", 3593400),
    b"file-max": numbers(b"fs/file-max", (_LONG_MAX,)),
    b"file-nr": per_reader(lambda reader: b"%d\t0\t%d" % (_open_files(reader.kernel), _LONG_MAX)),
    b"inode-nr": fixed(b"0\t0"),
    b"inode-state": fixed(b"0\t0\t0\t0\t0\t0\t0"),
    b"inotify/max_queued_events": settable(b"fs/inotify/max_queued_events", 16384),
    b"inotify/max_user_instances": settable(b"fs/inotify/max_user_instances", 128),
    b"inotify/max_user_watches": settable(b"fs/inotify/max_user_watches", 65536),
    b"lease-break-time": settable(b"fs/lease-break-time", 45),
    b"leases-enable": settable(b"fs/leases-enable", 1, 0, 1),
    b"mount-max": settable(b"fs/mount-max", 100000, 1),
    b"mqueue/msg_default": settable(b"fs/mqueue/msg_default", 10, 1, 65536),
    b"mqueue/msg_max": settable(b"fs/mqueue/msg_max", 10, 1, 65536),
    b"mqueue/msgsize_default": settable(b"fs/mqueue/msgsize_default", 8192, 128, 16777216),
    b"mqueue/msgsize_max": settable(b"fs/mqueue/msgsize_max", 8192, 128, 16777216),
    b"mqueue/queues_max": settable(b"fs/mqueue/queues_max", 256),
    b"nr_open": settable(b"fs/nr_open", 1048576, 64, 2147483584),
    b"overflowgid": settable(b"fs/overflowgid", 65534, 0, 65535),
    b"overflowuid": settable(b"fs/overflowuid", 65534, 0, 65535),
    b"pipe-max-size": settable(b"fs/pipe-max-size", 1048576, 4096, 1 << 31),
    b"pipe-user-pages-hard": settable(b"fs/pipe-user-pages-hard", 0),
    b"pipe-user-pages-soft": settable(b"fs/pipe-user-pages-soft", 16384),
    b"protected_fifos": settable(b"fs/protected_fifos", 1, 0, 2),
    b"protected_hardlinks": settable(b"fs/protected_hardlinks", 1, 0, 1),
    b"protected_regular": settable(b"fs/protected_regular", 1, 0, 2),
    b"protected_symlinks": settable(b"fs/protected_symlinks", 1, 0, 1),
    b"suid_dumpable": settable(b"fs/suid_dumpable", 0, 0, 2),
}
_CORE: Final[dict[bytes, SystemRow]] = {
    b"default_qdisc": fixed(b"pfifo_fast"),
    b"dev_weight": fixed(b"64"),
    b"message_burst": settable(b"net/core/message_burst", 10),
    b"message_cost": settable(b"net/core/message_cost", 5),
    b"netdev_max_backlog": settable(b"net/core/netdev_max_backlog", 1000),
    b"optmem_max": settable(b"net/core/optmem_max", 131072),
    b"rmem_default": settable(b"net/core/rmem_default", 212992, 2304),
    b"rmem_max": settable(b"net/core/rmem_max", 212992, 2304),
    b"somaxconn": settable(b"net/core/somaxconn", 4096, 0, 65535),
    b"wmem_default": settable(b"net/core/wmem_default", 212992, 4608),
    b"wmem_max": settable(b"net/core/wmem_max", 212992, 4608),
}
_IPV4: Final[dict[bytes, SystemRow]] = {
    b"icmp_echo_ignore_all": settable(b"net/ipv4/icmp_echo_ignore_all", 0, 0, 1),
    b"icmp_echo_ignore_broadcasts": settable(b"net/ipv4/icmp_echo_ignore_broadcasts", 1, 0, 1),
    b"ip_default_ttl": settable(b"net/ipv4/ip_default_ttl", 64, 1, 255),
    b"ip_forward": settable(b"net/ipv4/ip_forward", 0, 0, 1),
    b"ip_local_port_range": numbers(b"net/ipv4/ip_local_port_range", (32768, 60999), 0, 65535),
    b"ip_local_reserved_ports": fixed(b""),
    b"ip_no_pmtu_disc": settable(b"net/ipv4/ip_no_pmtu_disc", 0, 0, 3),
    b"ip_nonlocal_bind": settable(b"net/ipv4/ip_nonlocal_bind", 0, 0, 1),
    b"ip_unprivileged_port_start": settable(b"net/ipv4/ip_unprivileged_port_start", 1024, 0, 65535),
    b"ipfrag_time": settable(b"net/ipv4/ipfrag_time", 30),
    b"ping_group_range": numbers(b"net/ipv4/ping_group_range", (1, 0), given=_ping_groups),
    b"tcp_allowed_congestion_control": fixed(b"reno cubic"),
    b"tcp_available_congestion_control": fixed(b"reno cubic"),
    b"tcp_base_mss": settable(b"net/ipv4/tcp_base_mss", 1024),
    b"tcp_congestion_control": fixed(b"cubic"),
    b"tcp_dsack": settable(b"net/ipv4/tcp_dsack", 1, 0, 1),
    b"tcp_ecn": settable(b"net/ipv4/tcp_ecn", 2, 0, 2),
    b"tcp_fack": fixed(b"0"),
    b"tcp_fastopen": settable(b"net/ipv4/tcp_fastopen", 1),
    b"tcp_fin_timeout": settable(b"net/ipv4/tcp_fin_timeout", 60),
    b"tcp_keepalive_intvl": settable(b"net/ipv4/tcp_keepalive_intvl", 75),
    b"tcp_keepalive_probes": settable(b"net/ipv4/tcp_keepalive_probes", 9),
    b"tcp_keepalive_time": settable(b"net/ipv4/tcp_keepalive_time", 7200),
    b"tcp_max_orphans": settable(b"net/ipv4/tcp_max_orphans", 16384),
    b"tcp_max_syn_backlog": settable(b"net/ipv4/tcp_max_syn_backlog", 1024),
    b"tcp_max_tw_buckets": settable(b"net/ipv4/tcp_max_tw_buckets", 65536),
    b"tcp_mem": numbers(b"net/ipv4/tcp_mem", (94308, 125744, 188616)),
    b"tcp_moderate_rcvbuf": settable(b"net/ipv4/tcp_moderate_rcvbuf", 1, 0, 1),
    b"tcp_mtu_probing": settable(b"net/ipv4/tcp_mtu_probing", 0, 0, 2),
    b"tcp_no_metrics_save": settable(b"net/ipv4/tcp_no_metrics_save", 0, 0, 1),
    b"tcp_orphan_retries": settable(b"net/ipv4/tcp_orphan_retries", 0),
    b"tcp_recovery": settable(b"net/ipv4/tcp_recovery", 1),
    b"tcp_retries1": settable(b"net/ipv4/tcp_retries1", 3),
    b"tcp_retries2": settable(b"net/ipv4/tcp_retries2", 15),
    b"tcp_rfc1337": settable(b"net/ipv4/tcp_rfc1337", 0, 0, 1),
    b"tcp_rmem": numbers(b"net/ipv4/tcp_rmem", (4096, 131072, 6291456)),
    b"tcp_sack": settable(b"net/ipv4/tcp_sack", 1, 0, 1),
    b"tcp_slow_start_after_idle": settable(b"net/ipv4/tcp_slow_start_after_idle", 1, 0, 1),
    b"tcp_syn_retries": settable(b"net/ipv4/tcp_syn_retries", 6, 1, 127),
    b"tcp_synack_retries": settable(b"net/ipv4/tcp_synack_retries", 5),
    b"tcp_syncookies": settable(b"net/ipv4/tcp_syncookies", 1, 0, 2),
    b"tcp_timestamps": settable(b"net/ipv4/tcp_timestamps", 1, 0, 2),
    b"tcp_tw_reuse": settable(b"net/ipv4/tcp_tw_reuse", 2, 0, 2),
    b"tcp_window_scaling": settable(b"net/ipv4/tcp_window_scaling", 1, 0, 1),
    b"tcp_wmem": numbers(b"net/ipv4/tcp_wmem", (4096, 16384, 4194304)),
    b"udp_mem": numbers(b"net/ipv4/udp_mem", (188619, 251492, 377238)),
    b"udp_rmem_min": settable(b"net/ipv4/udp_rmem_min", 4096),
    b"udp_wmem_min": settable(b"net/ipv4/udp_wmem_min", 4096),
}
_IPV6: Final[dict[bytes, SystemRow]] = {
    b"auto_flowlabels": settable(b"net/ipv6/auto_flowlabels", 1, 0, 3),
    b"bindv6only": settable(b"net/ipv6/bindv6only", 0, 0, 1),
    b"ip6frag_time": settable(b"net/ipv6/ip6frag_time", 60),
    b"ip_nonlocal_bind": settable(b"net/ipv6/ip_nonlocal_bind", 0, 0, 1),
    **{
        b"conf/%b/%b" % (device, name): settable(b"net/ipv6/conf/%b/%b" % (device, name), value)
        for device in (b"all", b"default", b"lo")
        for name, value in ((b"disable_ipv6", 0), (b"forwarding", 0), (b"accept_ra", 1), (b"accept_dad", 1))
    },
}
_IPV4_CONF: Final[dict[bytes, SystemRow]] = {
    b"conf/%b/%b" % (device, name): settable(b"net/ipv4/conf/%b/%b" % (device, name), value)
    for device in (b"all", b"default", b"lo")
    for name, value in ((b"forwarding", 0), (b"rp_filter", 0), (b"accept_redirects", 1), (b"arp_ignore", 0))
}
_UNIX: Final[dict[bytes, SystemRow]] = {b"max_dgram_qlen": settable(b"net/unix/max_dgram_qlen", 512)}
_USER: Final[dict[bytes, SystemRow]] = {
    b"max_%b_namespaces" % name: settable(b"user/max_%b_namespaces" % name, 31000)
    for name in (b"cgroup", b"ipc", b"mnt", b"net", b"pid", b"time", b"user", b"uts")
}
_DEV: Final[dict[bytes, SystemRow]] = {
    b"tty/ldisc_autoload": fixed(b"0"),
    b"tty/legacy_tiocsti": fixed(b"0"),
}


def _below(prefix: bytes, rows: Mapping[bytes, SystemRow]) -> dict[bytes, SystemRow]:
    return {prefix + name: row for name, row in rows.items()}


def _ptys(kernel: object) -> int:
    from services.sentry.devices.terminal.terminals import Terminals
    from services.sentry.kernel.kernel import Kernel

    assert isinstance(kernel, Kernel)
    devpts = kernel.part(Terminals).devpts
    return len(devpts.nodes) if devpts is not None else 0


def _open_files(kernel: object) -> int:
    from services.sentry.kernel.kernel import Kernel

    assert isinstance(kernel, Kernel)
    return len({id(file) for table in open_tables(kernel) for _, file in table.items()})


#: path below /proc/sys -> row.
SYSCTLS: Final[Mapping[bytes, SystemRow]] = {
    **_below(b"kernel/", _KERNEL),
    **_below(b"vm/", _VM),
    **_below(b"fs/", _FS),
    **_below(b"net/core/", _CORE),
    **_below(b"net/ipv4/", {**_IPV4, **_IPV4_CONF}),
    **_below(b"net/ipv6/", _IPV6),
    **_below(b"net/unix/", _UNIX),
    **_below(b"user/", _USER),
    **_below(b"dev/", _DEV),
}

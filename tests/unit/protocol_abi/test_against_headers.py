"""protocol.abi against the C compiler: every constant that a header defines, every structure's size and field offsets.

One C program per module prints what the headers say; names a header of this machine does not know are left out (newer
kernels), and a floor on how many were compared keeps that honest.
"""

from __future__ import annotations

import importlib
import re
import struct
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from protocol.abi import dirent_h, errno_h, fcntl_h, layout, numbers_amd64, signal_h, socket_h, stat_h, wait_h

# Module -> headers, and how many of its constants these headers must confirm.
HEADERS: dict[str, tuple[list[str], int]] = {
    "errno_h": (["asm/errno.h"], 130),
    "fcntl_h": (
        ["linux/fcntl.h", "linux/openat2.h", "linux/falloc.h", "linux/close_range.h", "linux/fadvise.h", "linux/fs.h"],
        100,
    ),
    "stat_h": (["linux/stat.h"], 40),
    "splice_h": (["fcntl.h", "linux/fs.h"], 8),
    "mman_h": (["linux/mman.h", "linux/memfd.h", "linux/mempolicy.h"], 70),
    "memfd_h": (["linux/memfd.h"], 5),
    "signal_h": (["asm/signal.h", "asm/siginfo.h", "linux/signalfd.h"], 90),
    "sched_h": (["linux/sched.h", "linux/sched/types.h"], 25),
    "futex_h": (["linux/futex.h"], 25),
    "epoll_h": (["sys/epoll.h"], 10),
    "poll_h": (["poll.h"], 10),
    "socket_h": (["sys/socket.h", "linux/net.h"], 150),
    "in_h": (["netinet/in.h"], 90),
    "un_h": (["linux/sockios.h", "linux/un.h"], 1),
    "ioctl_h": (
        [
            "stddef.h",
            "linux/fiemap.h",
            "asm/ioctls.h",
            "linux/sockios.h",
            "linux/fs.h",
            "linux/random.h",
            "linux/kd.h",
            "linux/tty.h",
        ],
        100,
    ),
    "termios_h": (["asm/termbits.h", "asm/termios.h"], 120),
    "time_h": (["linux/time.h", "linux/timerfd.h", "linux/timex.h"], 40),
    "resource_h": (["linux/resource.h", "asm/resource.h"], 16),
    "elf_h": (["elf.h"], 50),
    "prctl_h": (["linux/prctl.h", "asm/prctl.h"], 100),
    "mount_h": (["linux/mount.h"], 50),
    "capability_h": (["linux/capability.h", "linux/securebits.h"], 50),
    "xattr_h": (["linux/xattr.h", "linux/limits.h"], 4),
    "wait_h": (["linux/wait.h"], 8),
    "eventfd_h": (["sys/eventfd.h", "linux/kcmp.h"], 3),
    "statfs_h": (["linux/magic.h"], 40),
    "uio_h": (["linux/uio.h"], 2),
    "random_h": (["linux/random.h"], 3),
    "membarrier_h": (["linux/membarrier.h"], 0),
    "inotify_h": (["sys/inotify.h"], 20),
    "seccomp_h": (["sys/ioctl.h", "linux/seccomp.h", "linux/filter.h", "linux/audit.h"], 60),
    "ptrace_h": (["linux/ptrace.h", "asm/ptrace-abi.h"], 40),
    "ipc_h": (["linux/ipc.h", "linux/shm.h", "linux/sem.h", "linux/msg.h"], 30),
    "tcp_h": (["linux/tcp.h", "linux/udp.h"], 20),
    "sock_diag_h": (["linux/sock_diag.h", "linux/inet_diag.h"], 2),
    "netlink_h": (["linux/netlink.h"], 30),
    "rtnetlink_h": (["linux/rtnetlink.h", "linux/if_link.h", "linux/if_addr.h", "linux/if.h", "linux/if_arp.h"], 20),
    "dirent_h": (["dirent.h"], 0),
}

# Layout -> C type, headers, the fields in our order. A field may be a nested member (timespecs, arrays by index).
STRUCTURES: list[tuple[str, str, list[str], str]] = [
    (
        "stat_h.STAT",
        "struct stat",
        ["asm/stat.h"],
        "st_dev st_ino st_nlink st_mode st_uid st_gid st_rdev st_size st_blksize st_blocks st_atime st_atime_nsec"
        " st_mtime st_mtime_nsec st_ctime st_ctime_nsec",
    ),
    (
        "stat_h.STATX",
        "struct statx",
        ["linux/stat.h"],
        "stx_mask stx_blksize stx_attributes stx_nlink stx_uid stx_gid stx_mode stx_ino stx_size stx_blocks"
        " stx_attributes_mask stx_atime.tv_sec stx_atime.tv_nsec stx_btime.tv_sec stx_btime.tv_nsec stx_ctime.tv_sec"
        " stx_ctime.tv_nsec stx_mtime.tv_sec stx_mtime.tv_nsec stx_rdev_major stx_rdev_minor stx_dev_major"
        " stx_dev_minor stx_mnt_id stx_dio_mem_align stx_dio_offset_align",
    ),
    ("fcntl_h.FLOCK", "struct flock", ["fcntl.h"], "l_type l_whence l_start l_len l_pid"),
    ("fcntl_h.F_OWNER_EX", "struct f_owner_ex", ["fcntl.h"], "type pid"),
    ("fcntl_h.OPEN_HOW", "struct open_how", ["linux/openat2.h"], "flags mode resolve"),
    ("fcntl_h.FILE_HANDLE", "struct file_handle", ["fcntl.h"], "handle_bytes handle_type"),
    ("signal_h.STACK_T", "stack_t", ["asm/signal.h"], "ss_sp ss_flags ss_size"),
    ("signal_h.SIGACTION", "struct sigaction", ["asm/signal.h"], "sa_handler sa_flags sa_restorer sa_mask"),
    (
        "signal_h.SIGEVENT",
        "struct sigevent",
        ["asm/siginfo.h"],
        "sigev_value sigev_signo sigev_notify _sigev_un._tid",
    ),
    ("signal_h.SIGINFO_KILL", "siginfo_t", ["asm/siginfo.h"], "si_signo si_errno si_code si_pid si_uid"),
    ("signal_h.SIGINFO_TIMER", "siginfo_t", ["asm/siginfo.h"], "si_signo si_errno si_code si_tid si_overrun si_value"),
    ("signal_h.SIGINFO_QUEUE", "siginfo_t", ["asm/siginfo.h"], "si_signo si_errno si_code si_pid si_uid si_value"),
    (
        "signal_h.SIGINFO_CHILD",
        "siginfo_t",
        ["asm/siginfo.h"],
        "si_signo si_errno si_code _sifields._sigchld._pid _sifields._sigchld._uid si_status si_utime si_stime",
    ),
    (
        "signal_h.SIGINFO_FAULT",
        "siginfo_t",
        ["asm/siginfo.h"],
        "si_signo si_errno si_code si_addr si_addr_lsb si_lower si_upper",
    ),
    ("signal_h.SIGINFO_POLL", "siginfo_t", ["asm/siginfo.h"], "si_signo si_errno si_code si_band si_fd"),
    (
        "signal_h.SIGINFO_SYSCALL",
        "siginfo_t",
        ["asm/siginfo.h"],
        "si_signo si_errno si_code si_call_addr si_syscall si_arch",
    ),
    (
        "signal_h.SIGCONTEXT",
        "struct sigcontext",
        ["asm/sigcontext.h"],
        "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags cs gs fs ss err trapno oldmask cr2"
        " fpstate",
    ),
    (
        "signal_h.SIGNALFD_SIGINFO",
        "struct signalfd_siginfo",
        ["linux/signalfd.h"],
        "ssi_signo ssi_errno ssi_code ssi_pid ssi_uid ssi_fd ssi_tid ssi_band ssi_overrun ssi_trapno ssi_status ssi_int"
        " ssi_ptr ssi_utime ssi_stime ssi_addr ssi_addr_lsb ssi_syscall ssi_call_addr ssi_arch",
    ),
    (
        "sched_h.CLONE_ARGS",
        "struct clone_args",
        ["linux/sched.h"],
        "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup",
    ),
    (
        "sched_h.SCHED_ATTR",
        "struct sched_attr",
        ["linux/sched/types.h"],
        "size sched_policy sched_flags sched_nice sched_priority sched_runtime sched_deadline sched_period"
        " sched_util_min sched_util_max",
    ),
    (
        "futex_h.ROBUST_LIST_HEAD",
        "struct robust_list_head",
        ["linux/futex.h"],
        "list.next futex_offset list_op_pending",
    ),
    ("futex_h.FUTEX_WAITV_ENTRY", "struct futex_waitv", ["linux/futex.h"], "val uaddr flags __reserved"),
    ("epoll_h.EPOLL_EVENT", "struct epoll_event", ["sys/epoll.h"], "events data"),
    ("poll_h.POLLFD", "struct pollfd", ["poll.h"], "fd events revents"),
    (
        "socket_h.MSGHDR",
        "struct msghdr",
        ["sys/socket.h"],
        "msg_name msg_namelen msg_iov msg_iovlen msg_control msg_controllen msg_flags",
    ),
    ("socket_h.CMSGHDR", "struct cmsghdr", ["sys/socket.h"], "cmsg_len cmsg_level cmsg_type"),
    ("socket_h.UCRED", "struct ucred", ["sys/socket.h"], "pid uid gid"),
    ("socket_h.LINGER", "struct linger", ["sys/socket.h"], "l_onoff l_linger"),
    ("un_h.SOCKADDR_UN", "struct sockaddr_un", ["sys/un.h"], "sun_family sun_path"),
    ("in_h.SOCKADDR_IN", "struct sockaddr_in", ["netinet/in.h"], "sin_family sin_port sin_addr"),
    (
        "in_h.SOCKADDR_IN6",
        "struct sockaddr_in6",
        ["netinet/in.h"],
        "sin6_family sin6_port sin6_flowinfo sin6_addr sin6_scope_id",
    ),
    ("in_h.IN_PKTINFO", "struct in_pktinfo", ["netinet/in.h"], "ipi_ifindex ipi_spec_dst ipi_addr"),
    ("in_h.IN6_PKTINFO", "struct in6_pktinfo", ["netinet/in.h"], "ipi6_addr ipi6_ifindex"),
    ("in_h.IP_MREQN", "struct ip_mreqn", ["netinet/in.h"], "imr_multiaddr imr_address imr_ifindex"),
    ("in_h.IPV6_MREQ", "struct ipv6_mreq", ["netinet/in.h"], "ipv6mr_multiaddr ipv6mr_interface"),
    ("termios_h.TERMIOS", "struct termios", ["asm/termbits.h"], "c_iflag c_oflag c_cflag c_lflag c_line c_cc"),
    (
        "termios_h.TERMIOS2",
        "struct termios2",
        ["asm/termbits.h"],
        "c_iflag c_oflag c_cflag c_lflag c_line c_cc c_ispeed c_ospeed",
    ),
    ("termios_h.TERMIO", "struct termio", ["asm/termios.h"], "c_iflag c_oflag c_cflag c_lflag c_line c_cc"),
    ("termios_h.WINSIZE", "struct winsize", ["asm/termios.h"], "ws_row ws_col ws_xpixel ws_ypixel"),
    ("time_h.TIMESPEC", "struct timespec", ["time.h"], "tv_sec tv_nsec"),
    ("time_h.TIMEVAL", "struct timeval", ["sys/time.h"], "tv_sec tv_usec"),
    (
        "time_h.ITIMERSPEC",
        "struct itimerspec",
        ["time.h"],
        "it_interval.tv_sec it_interval.tv_nsec it_value.tv_sec it_value.tv_nsec",
    ),
    ("time_h.UTIMBUF", "struct utimbuf", ["utime.h"], "actime modtime"),
    ("time_h.TMS", "struct tms", ["sys/times.h"], "tms_utime tms_stime tms_cutime tms_cstime"),
    (
        "time_h.TIMEX",
        "struct timex",
        ["sys/timex.h"],
        "modes offset freq maxerror esterror status constant precision tolerance time.tv_sec time.tv_usec tick ppsfreq"
        " jitter shift stabil jitcnt calcnt errcnt stbcnt tai",
    ),
    ("resource_h.RLIMIT", "struct rlimit64", ["sys/resource.h"], "rlim_cur rlim_max"),
    (
        "resource_h.RUSAGE",
        "struct rusage",
        ["linux/resource.h"],
        "ru_utime.tv_sec ru_utime.tv_usec ru_stime.tv_sec ru_stime.tv_usec ru_maxrss ru_ixrss ru_idrss ru_isrss"
        " ru_minflt ru_majflt ru_nswap ru_inblock ru_oublock ru_msgsnd ru_msgrcv ru_nsignals ru_nvcsw ru_nivcsw",
    ),
    (
        "elf_h.EHDR",
        "Elf64_Ehdr",
        ["elf.h"],
        "e_ident e_type e_machine e_version e_entry e_phoff e_shoff e_flags e_ehsize e_phentsize e_phnum e_shentsize"
        " e_shnum e_shstrndx",
    ),
    ("elf_h.PHDR", "Elf64_Phdr", ["elf.h"], "p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align"),
    (
        "elf_h.SHDR",
        "Elf64_Shdr",
        ["elf.h"],
        "sh_name sh_type sh_flags sh_addr sh_offset sh_size sh_link sh_info sh_addralign sh_entsize",
    ),
    ("elf_h.SYM", "Elf64_Sym", ["elf.h"], "st_name st_info st_other st_shndx st_value st_size"),
    ("mount_h.MOUNT_ATTR", "struct mount_attr", ["linux/mount.h"], "attr_set attr_clr propagation userns_fd"),
    ("capability_h.CAP_HEADER", "struct __user_cap_header_struct", ["linux/capability.h"], "version pid"),
    (
        "capability_h.CAP_DATA",
        "struct __user_cap_data_struct",
        ["linux/capability.h"],
        "effective permitted inheritable",
    ),
    (
        "utsname_h.NEW_UTSNAME",
        "struct new_utsname",
        ["linux/utsname.h"],
        "sysname nodename release version machine domainname",
    ),
    (
        "statfs_h.STATFS",
        "struct statfs",
        ["asm/statfs.h"],
        "f_type f_bsize f_blocks f_bfree f_bavail f_files f_ffree f_fsid f_namelen f_frsize f_flags",
    ),
    ("uio_h.IOVEC", "struct iovec", ["sys/uio.h"], "iov_base iov_len"),
    ("rseq_h.RSEQ_CS", "struct rseq_cs", ["linux/rseq.h"], "version flags start_ip post_commit_offset abort_ip"),
    ("inotify_h.INOTIFY_EVENT", "struct inotify_event", ["sys/inotify.h"], "wd mask cookie len"),
    (
        "sysinfo_h.SYSINFO",
        "struct sysinfo",
        ["linux/sysinfo.h"],
        "uptime loads[0] loads[1] loads[2] totalram freeram sharedram bufferram totalswap freeswap procs totalhigh"
        " freehigh mem_unit",
    ),
    (
        "seccomp_h.SECCOMP_NOTIF",
        "struct seccomp_notif",
        ["linux/seccomp.h"],
        "id pid flags data.nr data.arch data.instruction_pointer data.args[0] data.args[1] data.args[2] data.args[3]"
        " data.args[4] data.args[5]",
    ),
    ("seccomp_h.SECCOMP_NOTIF_RESP", "struct seccomp_notif_resp", ["linux/seccomp.h"], "id val error flags"),
    (
        "seccomp_h.SECCOMP_NOTIF_ADDFD",
        "struct seccomp_notif_addfd",
        ["linux/seccomp.h"],
        "id flags srcfd newfd newfd_flags",
    ),
    ("seccomp_h.SOCK_FILTER", "struct sock_filter", ["linux/filter.h"], "code jt jf k"),
    ("seccomp_h.SOCK_FPROG", "struct sock_fprog", ["linux/filter.h"], "len filter"),
    (
        "ptrace_h.USER_REGS",
        "struct user_regs_struct",
        ["sys/user.h"],
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es"
        " fs gs",
    ),
    ("ipc_h.SEMBUF", "struct sembuf", ["sys/sem.h"], "sem_num sem_op sem_flg"),
    ("ipc_h.MQ_ATTR", "struct mq_attr", ["linux/mqueue.h"], "mq_flags mq_maxmsg mq_msgsize mq_curmsgs"),
    (
        "ipc_h.IPC64_PERM",
        "struct ipc64_perm",
        ["asm/ipcbuf.h"],
        "key uid gid cuid cgid mode seq",
    ),
    (
        "netlink_h.NLMSGHDR",
        "struct nlmsghdr",
        ["linux/netlink.h"],
        "nlmsg_len nlmsg_type nlmsg_flags nlmsg_seq nlmsg_pid",
    ),
    ("netlink_h.NLATTR", "struct nlattr", ["linux/netlink.h"], "nla_len nla_type"),
    ("netlink_h.SOCKADDR_NL", "struct sockaddr_nl", ["linux/netlink.h"], "nl_family nl_pid nl_groups"),
    (
        "rtnetlink_h.IFINFOMSG",
        "struct ifinfomsg",
        ["linux/rtnetlink.h"],
        "ifi_family ifi_type ifi_index ifi_flags ifi_change",
    ),
    (
        "rtnetlink_h.IFADDRMSG",
        "struct ifaddrmsg",
        ["linux/if_addr.h"],
        "ifa_family ifa_prefixlen ifa_flags ifa_scope ifa_index",
    ),
    (
        "rtnetlink_h.RTMSG",
        "struct rtmsg",
        ["linux/rtnetlink.h"],
        "rtm_family rtm_dst_len rtm_src_len rtm_tos rtm_table rtm_protocol rtm_scope rtm_type rtm_flags",
    ),
]


def run_c(directory: Path, includes: list[str], body: str) -> str:
    """What a C program with these headers prints."""
    source = "#define _GNU_SOURCE\n" + "".join(f"#include <{name}>\n" for name in includes)
    source += "#ifndef _NSIG\n#define _NSIG 64\n#endif\n"  # the uapi header leaves it to the kernel's own
    source += "int printf(const char *, ...);\nint main(void) {\n" + body + "return 0; }\n"
    path = directory / "probe.c"
    path.write_text(source)
    subprocess.run(["cc", "-w", "-o", str(directory / "probe"), str(path)], check=True, timeout=60)
    return subprocess.run([str(directory / "probe")], check=True, timeout=60, capture_output=True, text=True).stdout


def constants_of(module: ModuleType) -> dict[str, int]:
    return {name: value for name, value in vars(module).items() if name.isupper() and type(value) is int}


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_constants_equal_those_of_the_headers(name: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"protocol.abi.{name}")
    ours = constants_of(module)
    includes, floor = HEADERS[name]
    lines = "".join(f'#ifdef {key}\nprintf("%s %lld\\n", "{key}", (long long)({key}));\n#endif\n' for key in ours)
    theirs = {key: int(value) for key, value in (row.split() for row in run_c(tmp_path, includes, lines).splitlines())}
    bits = 0xFFFF_FFFF_FFFF_FFFF
    different = {key: (ours[key], value) for key, value in theirs.items() if ours[key] & bits != value & bits}
    # NSIG is 32 in the header for the sake of old programs; the highest numbers grow with the kernel.
    allowed = {"NSIG", "AF_MAX", "CAP_LAST_CAP"}
    # Masks that are int in C print sign-extended.
    different = {key: pair for key, pair in different.items() if pair[0] & 0xFFFFFFFF != pair[1] & 0xFFFFFFFF}
    assert {key: pair for key, pair in different.items() if key not in allowed} == {}
    assert len(theirs) >= floor


def field_offsets(packer: struct.Struct) -> list[tuple[int, int]]:
    """(offset, size) of each value in a format without implicit padding."""
    found: list[tuple[int, int]] = []
    at = 0
    for count, letter in re.findall(r"(\d*)([a-zA-Z])", packer.format):
        if letter in "xs":
            size = int(count or 1)
            if letter == "s":
                found.append((at, size))
            at += size
            continue
        for _ in range(int(count or 1)):
            size = struct.calcsize("<" + letter)
            found.append((at, size))
            at += size
    return found


@pytest.mark.parametrize("row", STRUCTURES, ids=lambda row: row[0])
def test_layout_has_the_offsets_of_the_c_structure(row: tuple[str, str, list[str], str], tmp_path: Path) -> None:
    path, c_type, includes, names = row
    module_name, attribute = path.split(".")
    packer: struct.Struct = getattr(importlib.import_module(f"protocol.abi.{module_name}"), attribute)
    fields = names.split()
    body = f"static {c_type} it;\n" + "".join(
        f'printf("%ld %ld\\n", (long)((char *)&it.{field} - (char *)&it), (long)sizeof(it.{field}));\n'
        for field in fields
    )
    body += 'printf("%ld 0\\n", (long)sizeof(it));\n'
    rows = [tuple(int(n) for n in line.split()) for line in run_c(tmp_path, includes, body).splitlines()]
    assert dict(zip(fields, field_offsets(packer), strict=True)) == dict(zip(fields, rows[:-1], strict=True))
    assert packer.size == rows[-1][0]


def test_numbers_equal_the_table_of_the_header(tmp_path: Path) -> None:
    body = "".join(
        f'#ifdef __NR_{name}\nprintf("%s %d\\n", "{name}", __NR_{name});\n#endif\n' for name in numbers_amd64.NUMBERS
    )
    rows = [line.split() for line in run_c(tmp_path, ["asm/unistd_64.h"], body).splitlines()]
    assert {name: int(number) for name, number in rows} == {name: numbers_amd64.NUMBERS[name] for name, _ in rows}
    assert len(rows) >= 350


def test_every_number_below_the_limit_is_named_except_the_unused_gap() -> None:
    unnamed = [n for n in range(numbers_amd64.NR_SYSCALLS) if n not in numbers_amd64.NAMES]
    assert unnamed == list(range(337, 424))
    assert numbers_amd64.name_of(0) == "read"
    assert numbers_amd64.name_of(400) == "syscall_400"


def test_errno_names_are_the_canonical_ones() -> None:
    assert errno_h.name_of(2) == "ENOENT"
    assert errno_h.name_of(11) == "EAGAIN"
    assert errno_h.name_of(35) == "EDEADLK"
    assert errno_h.name_of(95) == "EOPNOTSUPP"
    assert errno_h.name_of(9999) == "9999"


def test_layout_refuses_a_wrong_size() -> None:
    with pytest.raises(ValueError, match="struct wrong has 4 bytes"):
        layout.layout("struct wrong", "I", 8)


def test_device_numbers_round_trip() -> None:
    for major, minor in [(0, 0), (8, 1), (136, 300), (4095, 0xFFFFF)]:
        device = stat_h.makedev(major, minor)
        assert (stat_h.major(device), stat_h.minor(device)) == (major, minor)


def test_dirent_records_are_aligned_and_hold_the_name() -> None:
    record = dirent_h.pack_dirent64(5, 9, dirent_h.DT_REG, b"name")
    assert len(record) % 8 == 0
    assert dirent_h.DIRENT64_HEAD.unpack_from(record) == (5, 9, len(record), dirent_h.DT_REG)
    assert record[dirent_h.DIRENT64_HEAD.size :].rstrip(b"\0") == b"name"
    old = dirent_h.pack_dirent(5, 9, dirent_h.DT_DIR, b"abcdef")
    assert old[-1] == dirent_h.DT_DIR and len(old) % 8 == 0


def test_siginfo_packers_fill_the_whole_structure() -> None:
    assert len(signal_h.pack_siginfo_kill(9, 0, 1, 2)) == signal_h.SIGINFO_BYTES
    assert len(signal_h.pack_siginfo_child(17, 1, 5, 0, 3, 0, 0)) == signal_h.SIGINFO_BYTES
    assert signal_h.bit(1) == 1 and signal_h.bit(64) == 1 << 63


def test_control_message_sizes_are_those_of_the_macros() -> None:
    assert socket_h.cmsg_len(4) == 20
    assert socket_h.cmsg_space(4) == 24


def test_wait_status_words() -> None:
    assert wait_h.status_exited(3) == 0x300
    assert wait_h.status_signaled(11, core_dumped=True) == 0x8B
    assert wait_h.status_stopped(19) == 0x137F


def test_lseek_and_access_values() -> None:
    assert (fcntl_h.SEEK_DATA, fcntl_h.SEEK_HOLE) == (3, 4)

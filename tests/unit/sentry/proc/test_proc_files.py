"""procfs, sysfs and /dev: everything can be read, what programs parse has the host's shape, access is as documented."""

from __future__ import annotations

import errno
import importlib
import os
import re
import stat

import pytest

from services.sentry.errors import LinuxError
from services.sentry.filesystems.proc.sysctl.values import number
from services.sentry.filesystems.registry import TYPES, make_superblock
from tests.unit.sentry.proc.machine import BASE, Machine, errno_of


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine()


def host(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_every_file_of_proc_and_sys_can_be_read(machine: Machine) -> None:
    count = 0
    for top in (b"/proc", b"/sys"):
        for path, mode in machine.tree(top):
            if stat.S_ISREG(mode) and mode & 0o444 and not path.endswith(b"/mem"):
                if b"/attr/" in path:  # there is no security module
                    with pytest.raises(LinuxError) as caught:
                        machine.read(path)
                    assert caught.value.errno == errno.EINVAL
                else:
                    machine.read(path)
                count += 1
            elif stat.S_ISLNK(mode) and not path.startswith((b"/proc/1/exe", b"/proc/1/task/1/exe")):
                assert machine.readlink(path)
    assert count > 500


def keys(text: bytes) -> list[bytes]:
    return [line.split(b":")[0] for line in text.splitlines() if b":" in line]


def test_status_has_the_fields_of_the_host_in_their_order(machine: Machine) -> None:
    known = keys(host("/proc/self/status"))
    found = keys(machine.read(b"/proc/self/status"))
    assert [name for name in known if name in found] == found
    assert {b"Name", b"Pid", b"VmRSS", b"SigQ", b"CapEff", b"Threads"} <= set(found)


def test_stat_has_52_fields_around_a_name_with_blanks(machine: Machine) -> None:
    machine.task.comm = b"a ) (b"
    text = machine.read(b"/proc/self/stat")
    machine.task.comm = b"program"
    head, _, rest = text.rpartition(b")")
    assert head == b"1 (a ) (b"
    assert len(rest.split()) == len(host("/proc/self/stat").rpartition(b")")[2].split()) == 50
    assert rest.split()[0] == b"R"


@pytest.mark.parametrize("name", ["meminfo", "smaps_rollup", "limits", "net/dev", "net/tcp", "mountinfo", "io"])
def test_tables_have_the_headers_and_keys_of_the_host(machine: Machine, name: str) -> None:
    path = f"/proc/{name}" if name in ("meminfo",) else f"/proc/self/{name}"
    expected, found = host(path), machine.read(path.encode())
    if name in ("limits", "net/dev", "net/tcp"):
        assert found.splitlines()[0].split() == expected.splitlines()[0].split()
    elif name == "mountinfo":
        pattern = rb"\d+ \d+ \d+:\d+ /\S* /\S* \S+ - \S+ \S+ \S+"
        assert all(re.fullmatch(pattern, line) for line in found.splitlines())
        assert found.count(b"\n") == 5
    else:
        order = keys(expected)
        listed = [key for key in keys(found) if key in order]
        assert sorted(listed, key=order.index) == listed
        assert len(listed) >= len(order) * 3 // 4


def test_maps_lines_have_the_host_shape(machine: Machine) -> None:
    line = machine.read(b"/proc/self/maps").splitlines()[0]
    assert line == b"00010000-00110000 rw-p 00000000 00:00 0 ".ljust(73) + b"[heap]"


def test_self_and_thread_self_follow_the_reader(machine: Machine) -> None:
    other = machine.new_process()
    assert machine.readlink(b"/proc/self", other) == b"%d" % other.group.pid
    assert machine.readlink(b"/proc/thread-self", other) == b"%d/task/%d" % (other.group.pid, other.tid)
    assert machine.read(b"/proc/self/stat", other).startswith(b"%d " % other.tid)


def test_command_line_and_environment_come_from_memory(machine: Machine) -> None:
    mm = machine.task.mm
    mm.write(BASE, b"prog\0-x\0A=1\0B=2\0")
    mm.arg_start, mm.arg_end, mm.env_start, mm.env_end = BASE, BASE + 8, BASE + 8, BASE + 16
    assert machine.read(b"/proc/self/cmdline") == b"prog\0-x\0"
    assert machine.read(b"/proc/self/environ") == b"A=1\0B=2\0"


def test_mem_reads_and_writes_the_target(machine: Machine) -> None:
    file = machine.open(b"/proc/self/mem", 2)
    assert file.pwrite(b"hello", BASE + 100) == 5
    assert file.pread(5, BASE + 100) == b"hello"
    assert errno_of(file.pread, 1, 0x5000) == errno.EIO


def test_other_users_cannot_look_into_a_task(machine: Machine) -> None:
    stranger = machine.new_process(uid=1000)
    for name in (b"environ", b"mem", b"fd"):
        assert errno_of(machine.open, b"/proc/1/" + name, 0, stranger) == errno.EACCES
    assert errno_of(machine.read, b"/proc/1/maps", stranger) == errno.EACCES
    assert errno_of(machine.readlink, b"/proc/1/cwd", stranger) == errno.EACCES
    assert machine.read(b"/proc/1/cmdline", stranger) == machine.read(b"/proc/1/cmdline")


def test_descriptors_are_magic_links(machine: Machine) -> None:
    file = machine.open(b"/dev/null", 2)
    fd = machine.task.files.allocate(file)
    assert machine.readlink(b"/proc/self/fd/%d" % fd) == b"/dev/null"
    assert b"%d" % fd in machine.names(b"/proc/self/fd")
    assert machine.read(b"/proc/self/fdinfo/%d" % fd).startswith(b"pos:\t0\nflags:\t02\nmnt_id:\t")
    assert machine.open(b"/dev/fd/%d" % fd).inode is file.inode
    machine.task.files.close(fd, machine.task)
    assert errno_of(machine.readlink, b"/proc/self/fd/%d" % fd) == errno.ENOENT


def test_tasks_appear_and_go(machine: Machine) -> None:
    task = machine.new_process()
    assert b"%d" % task.tid in machine.names(b"/proc")
    assert machine.names(b"/proc/%d/task" % task.tid) == [b"%d" % task.tid]
    held = machine.open(b"/proc/%d/stat" % task.tid)
    task.group.is_reaped = True
    machine.kernel.remove_task(task)
    machine.kernel.groups.pop(task.tid)
    assert errno_of(machine.open, b"/proc/%d" % task.tid) == errno.ENOENT
    assert errno_of(held.read, 10) == errno.ESRCH


def test_sysctls_can_be_set_within_their_rules(machine: Machine) -> None:
    machine.write(b"/proc/sys/kernel/hostname", b"other\n")
    assert machine.task.uts.hostname == b"other"
    machine.write(b"/proc/sys/net/core/somaxconn", b"128\n")
    assert machine.read(b"/proc/sys/net/core/somaxconn") == b"128\n"
    assert number(machine.kernel, b"net/core/somaxconn", 4096) == 128
    assert errno_of(machine.write, b"/proc/sys/vm/overcommit_memory", b"7") == errno.EINVAL
    assert errno_of(machine.write, b"/proc/sys/kernel/core_pattern", b"x") in (errno.EACCES, errno.EPERM, errno.EIO)
    machine.write(b"/proc/sys/kernel/sem", b"10 20")
    assert machine.read(b"/proc/sys/kernel/sem") == b"10\t20\t500\t32000\n"
    assert machine.read(b"/proc/sys/kernel/random/uuid") != machine.read(b"/proc/sys/kernel/random/uuid")
    assert machine.read(b"/proc/sys/kernel/random/boot_id") == machine.read(b"/proc/sys/kernel/random/boot_id")


def test_cpuinfo_shows_the_configured_processor_and_no_more(machine: Machine) -> None:
    text = machine.read(b"/proc/cpuinfo")
    assert text.count(b"processor\t: ") == 2
    assert b"model name\t: Test CPU\n" in text
    assert b"flags\t\t: fpu sse2\n" in text
    assert b"secret" not in text
    expected = host("/proc/cpuinfo").split(b"\n\n")[0]
    shape = {line.split(b":")[0] for line in expected.splitlines()}
    assert {line.split(b":")[0] for line in text.split(b"\n\n")[0].splitlines()} <= shape | {b"TLB size\t"}


def test_oom_score_adj_may_only_be_lowered_with_the_capability(machine: Machine) -> None:
    plain = machine.new_process(uid=1000)
    machine.write(b"/proc/self/oom_score_adj", b"500", plain)
    assert machine.read(b"/proc/self/oom_score_adj", plain) == b"500\n"
    assert errno_of(machine.write, b"/proc/self/oom_score_adj", b"100", plain) == errno.EACCES
    assert errno_of(machine.write, b"/proc/self/oom_score_adj", b"2000", plain) == errno.EINVAL


def test_processors_are_listed_for_the_c_library(machine: Machine) -> None:
    assert machine.read(b"/sys/devices/system/cpu/online") == b"0-1\n"
    assert machine.read(b"/sys/devices/system/cpu/cpu1/topology/core_siblings") == b"3\n"
    assert machine.read(b"/proc/stat").count(b"cpu") == 3
    assert machine.names(b"/sys/class/net") == [b"lo"]
    assert machine.read(b"/sys/class/net/lo/mtu") == b"65536\n"


def test_every_file_system_that_can_be_mounted_has_a_module(machine: Machine) -> None:
    """A sealed Sentry that looked for one that is not there would be killed."""
    for name, row in TYPES.items():
        module = importlib.import_module(f"services.sentry.filesystems.{row.module}")
        assert callable(getattr(module, row.constructor)), name
    assert errno_of(make_superblock, machine.kernel, b"mqueue", b"none", 0, b"") == errno.ENODEV


def test_device_nodes_have_their_numbers_and_modes(machine: Machine) -> None:
    file = machine.open(b"/dev/zero")
    assert file.inode.rdev == os.makedev(1, 5)
    assert file.inode.mode == stat.S_IFCHR | 0o666
    assert {b"null", b"tty", b"ptmx", b"pts", b"shm", b"fd", b"stdin"} <= set(machine.names(b"/dev"))
    assert b"console" not in machine.names(b"/dev")


def test_locks_and_unix_sockets_are_listed(machine: Machine) -> None:
    from protocol.abi.fcntl_h import F_WRLCK
    from services.sentry.sockets.unix.family import create
    from services.sentry.vfs.file_locks import EOF, locks_of

    file = machine.open(b"/dev/null", 2)
    machine.task.files.allocate(file)
    locks_of(file.inode).put(0, 10, F_WRLCK, machine.task.group, 1)
    locks_of(file.inode).put(20, EOF, F_WRLCK, machine.task.group, 1)
    locks_of(file.inode).flock(file, False)
    lines = machine.read(b"/proc/locks").splitlines()
    assert re.fullmatch(rb"1: POSIX  ADVISORY  WRITE 1 [0-9a-f]+:[0-9a-f]+:\d+ 0 9", lines[0])
    assert lines[1].endswith(b" 20 EOF")
    assert lines[2].startswith(b"3: FLOCK  ADVISORY  READ  1 ")

    sock = create(machine.task, 1, 0, 0)
    sock.bind(machine.task, b"\x01\0\0name")
    machine.task.files.allocate(sock)
    table = machine.read(b"/proc/net/unix").splitlines()
    assert table[0].split() == host("/proc/net/unix").splitlines()[0].split()
    assert re.fullmatch(rb"0{16}: 00000002 00000000 00000000 0001 01 +\d+ @name", table[1])

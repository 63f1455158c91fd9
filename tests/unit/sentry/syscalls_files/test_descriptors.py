"""Locks, seals, unnamed files, FIFOs, splices, vectors, limits: what the random comparison does not reach."""

from __future__ import annotations

import errno
import struct

import pytest

from protocol.abi import fcntl_h as fc
from services.sentry.files.pipe import make_pipe
from services.sentry.kernel.waiter import Wait
from services.sentry.vfs.anonymous import pipe_inode
from tests.unit.sentry.syscalls_files.harness import AT_FDCWD, Machine, Memory


@pytest.fixture
def machine() -> Machine:
    return Machine()


def _lock(kind: int, start: int, length: int) -> bytes:
    return fc.FLOCK.pack(kind, 0, start, length, 0)


def _pipe(machine: Machine, flags: int = 0) -> tuple[int, int]:
    read_end, write_end = make_pipe(pipe_inode(machine.kernel), flags)
    return machine.task.files.allocate(read_end), machine.task.files.allocate(write_end)


# --- locks ---
def test_record_locks_split_and_conflict_between_processes(machine: Machine) -> None:
    machine.make(b"/f", b"x" * 100)
    other = machine.other()
    fd = machine.open(b"/f", 2)
    assert machine.call("openat", AT_FDCWD, b"/f", 2, 0, task=other) == 0
    assert machine.call("fcntl", fd, fc.F_SETLK, _lock(fc.F_WRLCK, 0, 100)) == 0
    assert machine.call("fcntl", fd, fc.F_SETLK, _lock(fc.F_UNLCK, 40, 20)) == 0
    assert machine.call("fcntl", 0, fc.F_SETLK, _lock(fc.F_WRLCK, 40, 20), task=other) == 0
    assert machine.call("fcntl", 0, fc.F_SETLK, _lock(fc.F_RDLCK, 50, 20), task=other) == -errno.EAGAIN
    address = machine.memory.here(_lock(fc.F_WRLCK, 45, 1))
    assert machine.handlers["fcntl"](machine.task, fd, fc.F_GETLK, address) == 0
    assert fc.FLOCK.unpack(machine.memory.read(address, 32)) == (fc.F_WRLCK, 0, 40, 20, other.group.pid)


def test_closing_any_descriptor_drops_the_process_locks(machine: Machine) -> None:
    machine.make(b"/f", b"x")
    other = machine.other()
    fd, second = machine.open(b"/f", 2), machine.open(b"/f")
    machine.call("openat", AT_FDCWD, b"/f", 2, 0, task=other)
    assert machine.call("fcntl", fd, fc.F_SETLK, _lock(fc.F_WRLCK, 0, 0)) == 0
    assert machine.call("fcntl", 0, fc.F_SETLK, _lock(fc.F_WRLCK, 0, 0), task=other) == -errno.EAGAIN
    machine.call("close", second)
    assert machine.call("fcntl", 0, fc.F_SETLK, _lock(fc.F_WRLCK, 0, 0), task=other) == 0


def test_waiting_for_a_lock_ends_when_it_is_released_and_a_cycle_is_a_deadlock(machine: Machine) -> None:
    machine.make(b"/f", b"x" * 10)
    other = machine.other()
    fd = machine.open(b"/f", 2)
    machine.call("openat", AT_FDCWD, b"/f", 2, 0, task=other)
    assert machine.call("fcntl", fd, fc.F_SETLK, _lock(fc.F_WRLCK, 0, 1)) == 0
    assert machine.call("fcntl", 0, fc.F_SETLK, _lock(fc.F_WRLCK, 1, 1), task=other) == 0
    wait = machine.outcome("fcntl", 0, fc.F_SETLKW, _lock(fc.F_WRLCK, 0, 1), task=other)
    assert isinstance(wait, Wait)
    assert machine.outcome("fcntl", fd, fc.F_SETLKW, _lock(fc.F_WRLCK, 1, 1)) == -errno.EDEADLK
    machine.call("fcntl", fd, fc.F_SETLK, _lock(fc.F_UNLCK, 0, 0))
    assert wait.retry() == 0


def test_flock_belongs_to_the_description_and_ofd_locks_too(machine: Machine) -> None:
    machine.make(b"/f", b"x")
    first, second = machine.open(b"/f", 2), machine.open(b"/f", 2)
    assert machine.call("flock", first, fc.LOCK_EX) == 0
    assert machine.call("flock", second, fc.LOCK_SH | fc.LOCK_NB) == -errno.EAGAIN
    wait = machine.outcome("flock", second, fc.LOCK_SH)
    assert isinstance(wait, Wait) and wait.retries
    machine.call("close", first)
    assert wait.retry() == 0
    third = machine.open(b"/f", 2)
    assert machine.call("fcntl", second, fc.F_OFD_SETLK, _lock(fc.F_WRLCK, 0, 0)) == 0
    assert machine.call("fcntl", third, fc.F_OFD_SETLK, _lock(fc.F_WRLCK, 0, 0)) == -errno.EAGAIN
    machine.call("close", second)
    assert machine.call("fcntl", third, fc.F_OFD_SETLK, _lock(fc.F_WRLCK, 0, 0)) == 0


# --- nameless files ---
def test_memfd_seals_refuse_what_they_say(machine: Machine) -> None:
    fd = machine.call("memfd_create", b"seal", 2)
    assert machine.write(fd, b"0123456789") == 10
    assert machine.call("fcntl", fd, fc.F_ADD_SEALS, fc.F_SEAL_SHRINK | fc.F_SEAL_GROW) == 0
    assert machine.call("ftruncate", fd, 5) == -errno.EPERM
    assert machine.call("ftruncate", fd, 50) == -errno.EPERM
    assert machine.write(fd, b"x") == -errno.EPERM
    assert machine.call("pwrite64", fd, Memory.BASE, 1, 0) == 1
    assert machine.call("fcntl", fd, fc.F_ADD_SEALS, fc.F_SEAL_WRITE | fc.F_SEAL_SEAL) == 0
    assert machine.call("pwrite64", fd, Memory.BASE, 1, 0) == -errno.EPERM
    assert machine.call("fcntl", fd, fc.F_ADD_SEALS, fc.F_SEAL_SEAL) == -errno.EPERM
    assert machine.call("fcntl", fd, fc.F_GET_SEALS, 0) == 0xF
    plain = machine.call("memfd_create", b"plain", 0)
    assert machine.call("fcntl", plain, fc.F_ADD_SEALS, fc.F_SEAL_WRITE) == -errno.EPERM


def test_tmpfile_has_no_name_until_linked(machine: Machine) -> None:
    fd = machine.open(b"/", fc.O_TMPFILE | 2)
    assert machine.write(fd, b"secret") == 6
    assert machine.names(b"/") == [b".", b".."]
    assert machine.call("linkat", fd, b"", AT_FDCWD, b"/named", fc.AT_EMPTY_PATH) == 0
    assert machine.contents(b"/named") == b"secret"
    assert machine.call("linkat", AT_FDCWD, b"/named", AT_FDCWD, b"/named", 0) == -errno.EEXIST


def test_unlinked_open_file_lives_until_its_last_close(machine: Machine) -> None:
    used = machine.superblock.used_inodes
    fd = machine.open(b"/f", 0o102)
    machine.write(fd, b"x" * 5000)
    assert machine.call("unlink", b"/f") == 0
    assert machine.superblock.used_pages == 2
    assert machine.call("pread64", fd, Memory.BASE, 5000, 0) == 5000
    machine.call("close", fd)
    assert (machine.superblock.used_inodes, machine.superblock.used_pages) == (used, 0)


# --- FIFOs and pipes ---
def test_opening_a_fifo_waits_for_the_other_end(machine: Machine) -> None:
    assert machine.call("mknod", b"/fifo", 0o010644, 0) == 0
    wait = machine.outcome("openat", AT_FDCWD, b"/fifo", 0, 0)
    assert isinstance(wait, Wait) and wait.retries
    assert machine.open(b"/fifo", 0o4001) >= 0
    reader = wait.retry()
    assert isinstance(reader, int)
    assert machine.open(b"/fifo", 0o4001) >= 0


def test_blocking_write_to_a_full_pipe_goes_on_until_everything_is_written(machine: Machine) -> None:
    reader, writer = _pipe(machine)
    wait = machine.outcome("write", writer, Memory.BASE, 100_000)
    assert isinstance(wait, Wait) and wait.retries
    assert wait.on_signal() == 65536
    total = 0
    result = wait
    while total < 100_000:
        total += machine.call("read", reader, Memory.BASE, 30_000)
        if isinstance(result, Wait) and result.retries:
            result = result.retry()
    assert result == 100_000


def test_nonblocking_pipe_says_eagain_and_a_lost_reader_epipe(machine: Machine) -> None:
    reader, writer = _pipe(machine, fc.O_NONBLOCK)
    assert machine.call("read", reader, Memory.BASE, 10) == -errno.EAGAIN
    machine.call("close", reader)
    machine.task.signal_mask = 1 << 12
    assert machine.call("write", writer, Memory.BASE, 10) == -errno.EPIPE
    assert machine.task.pending.signals & 1 << 12


def test_splice_file_to_pipe_to_file_keeps_every_byte(machine: Machine) -> None:
    data = bytes(range(256)) * 700
    machine.make(b"/in", data)
    reader, writer = _pipe(machine)
    source, sink = machine.open(b"/in"), machine.open(b"/out", 0o102)
    moved = 0
    while moved < len(data):
        step = machine.call("splice", source, 0, writer, 0, 1 << 20, 0)
        assert step > 0
        out = 0
        while out < step:
            out += machine.call("splice", reader, 0, sink, 0, 10_000, 0)
        moved += step
    machine.call("close", sink)
    assert machine.contents(b"/out") == data
    assert machine.call("splice", source, 0, sink, 0, 10, 0) == -errno.EBADF


def test_sendfile_to_a_full_blocking_pipe_waits_and_counts_all(machine: Machine) -> None:
    data = b"s" * 150_000
    machine.make(b"/in", data)
    reader, writer = _pipe(machine)
    source = machine.open(b"/in")
    result = machine.outcome("sendfile", writer, source, 0, 1 << 20)
    got = 0
    for _ in range(20):
        if not isinstance(result, Wait):
            break
        got += machine.call("read", reader, Memory.BASE, 50_000)
        assert result.retries
        result = result.retry()
    assert result == 150_000
    assert machine.call("lseek", source, 0, 1) == 150_000


def test_tee_copies_without_consuming(machine: Machine) -> None:
    first, second = _pipe(machine), _pipe(machine)
    machine.write(first[1], b"hello")
    assert machine.call("tee", first[0], second[1], 100, 0) == 5
    assert machine.read(first[0]) == b"hello"
    assert machine.read(second[0]) == b"hello"


def test_copy_file_range_moves_offsets_and_refuses_overlap(machine: Machine) -> None:
    machine.make(b"/in", b"0123456789")
    source, sink = machine.open(b"/in", 2), machine.open(b"/out", 0o102)
    assert machine.call("copy_file_range", source, struct.pack("<Q", 3), sink, 0, 4, 0) == 4
    assert machine.call("lseek", source, 0, 1) == 0
    assert machine.call("lseek", sink, 0, 1) == 4
    assert machine.contents(b"/out") == b"3456"
    assert machine.call("copy_file_range", source, 0, source, struct.pack("<Q", 2), 5, 0) == -errno.EINVAL


# --- vectors, limits, positions ---
def test_vectors_scatter_and_gather(machine: Machine) -> None:
    fd = machine.open(b"/v", 0o102)
    one, two = Memory.BASE, Memory.BASE + 100
    machine.memory.write(one, b"abc")
    machine.memory.write(two, b"defgh")
    vector = struct.pack("<4Q", one, 3, two, 5)
    assert machine.call("writev", fd, vector, 2) == 8
    assert machine.call("preadv", fd, vector, 2, 1, 0) == 7
    assert machine.memory.read(one, 3) == b"bcd"
    assert machine.memory.read(two, 4) == b"efgh"
    assert machine.call("readv", fd, vector, -1) == -errno.EINVAL


def test_file_size_limit_cuts_the_write_and_then_signals(machine: Machine) -> None:
    machine.task.group.rlimits[1] = (100, 100)
    machine.task.signal_mask = 1 << 24
    fd = machine.open(b"/f", 0o102)
    assert machine.call("write", fd, Memory.BASE, 500) == 100
    assert machine.call("write", fd, Memory.BASE, 1) == -errno.EFBIG
    assert machine.task.pending.signals & 1 << 24
    assert machine.call("ftruncate", fd, 101) == -errno.EFBIG


def test_a_read_that_runs_off_mapped_memory_gives_what_fits(machine: Machine) -> None:
    machine.make(b"/f", b"z" * 1000)
    fd = machine.open(b"/f")
    end = Memory.BASE + len(machine.memory.data)
    assert machine.call("read", fd, end - 300, 1000) == 300
    assert machine.call("lseek", fd, 0, 1) == 300
    assert machine.call("read", fd, end, 10) == -errno.EFAULT


def test_large_directory_lists_every_name_once(machine: Machine) -> None:
    machine.call("mkdir", b"/many", 0o755)
    names = [b"/many/%d" % i for i in range(500)]
    for name in names:
        machine.make(name)
    assert sorted(machine.names(b"/many", 700)) == sorted([b".", b".."] + [name[6:] for name in names])


def test_openat2_keeps_a_walk_beneath_its_start(machine: Machine) -> None:
    machine.call("mkdir", b"/jail", 0o755)
    machine.make(b"/outside", b"o")
    machine.make(b"/jail/in", b"i")
    machine.call("symlink", b"/outside", b"/jail/link")
    dirfd = machine.open(b"/jail", 0o200000)

    def openat2(name: bytes, resolve: int) -> int:
        return machine.call("openat2", dirfd, name, fc.OPEN_HOW.pack(0, 0, resolve), 24)

    assert openat2(b"in", fc.RESOLVE_BENEATH) >= 0
    assert openat2(b"../outside", fc.RESOLVE_BENEATH) == -errno.EXDEV
    assert openat2(b"link", fc.RESOLVE_BENEATH) == -errno.EXDEV
    assert openat2(b"link", fc.RESOLVE_NO_SYMLINKS) == -errno.ELOOP
    assert openat2(b"link", fc.RESOLVE_IN_ROOT) == -errno.ENOENT
    assert openat2(b"../../in", fc.RESOLVE_IN_ROOT) >= 0


def test_xattrs_follow_their_name_space_rules(machine: Machine) -> None:
    machine.make(b"/f")
    buffer = Memory.BASE
    assert machine.call("setxattr", b"/f", b"user.a", b"value", 5, 0) == 0
    assert machine.call("setxattr", b"/f", b"user.a", b"value", 5, 1) == -errno.EEXIST
    assert machine.call("setxattr", b"/f", b"user.b", b"value", 5, 2) == -errno.ENODATA
    assert machine.call("getxattr", b"/f", b"user.a", buffer, 2) == -errno.ERANGE
    assert machine.call("getxattr", b"/f", b"user.a", buffer, 100) == 5
    assert machine.call("setxattr", b"/f", b"trusted.t", b"v", 1, 0) == 0
    assert machine.call("listxattr", b"/f", buffer, 100) == len(b"user.a\0trusted.t\0")
    user = machine.other(1000)
    assert machine.call("listxattr", b"/f", buffer, 100, task=user) == len(b"user.a\0")
    assert machine.call("setxattr", b"/f", b"user.c", b"v", 1, 0, task=user) == -errno.EACCES
    assert machine.call("setxattr", b"/f", b"strange.c", b"v", 1, 0) == -errno.EOPNOTSUPP
    assert machine.call("removexattr", b"/f", b"user.a") == 0
    assert machine.call("getxattr", b"/f", b"user.a", buffer, 100) == -errno.ENODATA


def test_writing_to_a_running_program_is_refused(machine: Machine) -> None:
    machine.make(b"/prog", b"#!", 0o755)
    inode = machine.task.fs.mounts.root.root.children[b"prog"].inode
    assert inode is not None
    inode.deny_write += 1
    assert machine.open(b"/prog", 1) == -errno.ETXTBSY
    assert machine.call("truncate", b"/prog", 0) == -errno.ETXTBSY
    inode.deny_write -= 1
    fd = machine.open(b"/prog", 1)
    assert inode.writers == 1
    machine.call("close", fd)
    assert inode.writers == 0

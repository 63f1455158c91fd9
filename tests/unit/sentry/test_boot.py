"""What is put over the root before the first program: the files that name the network."""

from __future__ import annotations

import errno

import pytest

from protocol.control.config import SentryConfig
from services.sentry.boot import cover_files
from tests.unit.sentry.syscalls_files.harness import Machine

MS_RDONLY = 1


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    assert made.call("mkdir", b"/etc", 0o755) == 0
    return made


def cover(machine: Machine, *files: tuple[bytes, bytes]) -> None:
    cover_files(machine.kernel, machine.task, machine.mounts, SentryConfig([b"x"], files=list(files)))


def test_a_file_is_covered_made_where_it_is_missing_and_may_be_written(machine: Machine) -> None:
    machine.make(b"/etc/hosts", b"the root's\n")
    cover(machine, (b"/etc/hosts", b"ours\n"), (b"/etc/resolv.conf", b"nameserver 10.0.2.3\n"), (b"/a/b/c", b"deep"))
    assert machine.contents(b"/etc/hosts") == b"ours\n"
    assert machine.contents(b"/etc/resolv.conf") == b"nameserver 10.0.2.3\n"
    assert machine.contents(b"/a/b/c") == b"deep"
    fd = machine.open(b"/etc/hosts", 0o1002)
    assert machine.write(fd, b"mine\n") == 5
    assert machine.contents(b"/etc/hosts") == b"mine\n"
    assert machine.call("unlink", b"/etc/hosts") == -errno.EBUSY  # a mount point, as Docker's is
    assert machine.call("umount2", b"/etc/hosts", 0) in (0, -errno.EBUSY)


def test_a_symbolic_link_is_followed_also_to_where_nothing_is(machine: Machine) -> None:
    machine.make(b"/target", b"the root's\n")
    assert machine.call("symlink", b"../target", b"/etc/hosts") == 0
    assert machine.call("symlink", b"../run/resolve/stub.conf", b"/etc/resolv.conf") == 0
    assert machine.call("symlink", b"loop", b"/etc/loop") == 0
    cover(machine, (b"/etc/hosts", b"ours\n"), (b"/etc/resolv.conf", b"names\n"), (b"/etc/loop", b"never\n"))
    assert machine.contents(b"/etc/hosts") == machine.contents(b"/target") == b"ours\n"
    assert machine.contents(b"/run/resolve/stub.conf") == machine.contents(b"/etc/resolv.conf") == b"names\n"
    assert machine.open(b"/etc/loop") == -errno.ELOOP


def test_a_read_only_root_is_covered_where_it_has_the_file(machine: Machine) -> None:
    machine.make(b"/etc/hosts", b"the root's\n")
    machine.mounts.remount(machine.mounts.root_path().mount, MS_RDONLY)
    cover(machine, (b"/etc/resolv.conf", b"never\n"), (b"/etc/hosts", b"ours\n"))
    assert machine.contents(b"/etc/hosts") == b"ours\n"
    assert machine.open(b"/etc/resolv.conf") == -errno.ENOENT

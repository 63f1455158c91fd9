"""Mounts as mount(2) and umount2(2) tell: stacking, binds, read-only, busy, detached, namespaces, pivot_root."""

from __future__ import annotations

import errno

from protocol.abi import mount_h as mt
from tests.unit.sentry.syscalls_files.harness import AT_FDCWD, Machine, Memory


def _mount(machine: Machine, target: bytes, flags: int = 0, source: bytes = b"none", kind: bytes = b"tmpfs") -> int:
    return machine.call("mount", source, target, kind, flags, 0)


def _machine() -> Machine:
    machine = Machine()
    for name in (b"/a", b"/b", b"/a/sub", b"/new"):
        assert machine.call("mkdir", name, 0o755) == 0
    machine.make(b"/a/below", b"below")
    return machine


def test_mount_hides_what_was_there_until_umount() -> None:
    machine = _machine()
    assert machine.stat(b"/a/below") != -errno.ENOENT
    assert _mount(machine, b"/a") == 0
    assert machine.stat(b"/a/below") == -errno.ENOENT
    machine.make(b"/a/above")
    assert machine.names(b"/a") == [b".", b"..", b"above"]
    assert machine.call("umount2", b"/a", 0) == 0
    assert machine.stat(b"/a/above") == -errno.ENOENT
    assert machine.contents(b"/a/below") == b"below"


def test_mounts_stack_and_come_off_one_by_one() -> None:
    machine = _machine()
    assert _mount(machine, b"/a") == 0
    machine.make(b"/a/one")
    assert _mount(machine, b"/a") == 0
    assert machine.names(b"/a") == [b".", b".."]
    assert machine.call("umount2", b"/a", 0) == 0
    assert machine.names(b"/a") == [b".", b"..", b"one"]


def test_dotdot_leaves_a_mount_through_its_mount_point() -> None:
    machine = _machine()
    assert _mount(machine, b"/a") == 0
    assert machine.call("mkdir", b"/a/x", 0o755) == 0
    assert machine.call("chdir", b"/a/x") == 0
    assert machine.stat(b"../../b") != -errno.ENOENT
    assert machine.call("getcwd", Memory.BASE, 100) == 5


def test_umount_of_a_mount_in_use_is_busy_and_detach_is_not() -> None:
    machine = _machine()
    assert _mount(machine, b"/a") == 0
    machine.make(b"/a/file", b"kept")
    fd = machine.open(b"/a/file")
    assert machine.call("umount2", b"/a", 0) == -errno.EBUSY
    assert machine.call("umount2", b"/a", mt.MNT_DETACH) == 0
    assert machine.stat(b"/a/file") == -errno.ENOENT
    assert machine.read(fd) == b"kept"


def test_umount_below_which_something_is_mounted_is_busy() -> None:
    machine = _machine()
    assert _mount(machine, b"/a") == 0
    assert machine.call("mkdir", b"/a/sub", 0o755) == 0
    assert _mount(machine, b"/a/sub") == 0
    assert machine.call("umount2", b"/a", 0) == -errno.EBUSY
    assert machine.call("rmdir", b"/a/sub") == -errno.EBUSY
    assert machine.call("umount2", b"/a", mt.MNT_DETACH) == 0


def test_bind_shows_the_same_files_and_recursive_bind_the_mounts_below() -> None:
    machine = _machine()
    assert _mount(machine, b"/a/sub") == 0
    machine.make(b"/a/sub/deep")
    assert _mount(machine, b"/b", mt.MS_BIND, b"/a") == 0
    assert machine.contents(b"/b/below") == b"below"
    assert machine.names(b"/b/sub") == [b".", b".."]
    assert machine.call("umount2", b"/b", 0) == 0
    assert _mount(machine, b"/b", mt.MS_BIND | mt.MS_REC, b"/a") == 0
    assert machine.names(b"/b/sub") == [b".", b"..", b"deep"]
    assert machine.call("link", b"/a/below", b"/b/other") == -errno.EXDEV
    assert machine.call("rename", b"/a/below", b"/b/other") == -errno.EXDEV


def test_bind_of_a_file_needs_a_file() -> None:
    machine = _machine()
    machine.make(b"/target")
    assert _mount(machine, b"/target", mt.MS_BIND, b"/a/below") == 0
    assert machine.contents(b"/target") == b"below"
    assert _mount(machine, b"/b", mt.MS_BIND, b"/a/below") == -errno.ENOTDIR
    assert machine.call("unlink", b"/target") == -errno.EBUSY


def test_read_only_remount_of_a_bind_refuses_writes_there_only() -> None:
    machine = _machine()
    assert _mount(machine, b"/b", mt.MS_BIND, b"/a") == 0
    assert _mount(machine, b"/b", mt.MS_BIND | mt.MS_REMOUNT | mt.MS_RDONLY) == 0
    assert machine.open(b"/b/below", 1) == -errno.EROFS
    assert machine.open(b"/b/fresh", 0o101) == -errno.EROFS
    assert machine.call("mkdir", b"/b/fresh", 0o755) == -errno.EROFS
    assert machine.call("unlink", b"/b/below") == -errno.EROFS
    assert machine.call("chmod", b"/b/below", 0o600) == -errno.EROFS
    assert machine.call("access", b"/b/below", 2) == -errno.EROFS
    assert machine.open(b"/a/below", 1) >= 0


def test_read_only_remount_with_a_writer_is_busy() -> None:
    machine = _machine()
    assert _mount(machine, b"/a") == 0
    machine.make(b"/a/file")
    fd = machine.open(b"/a/file", 1)
    assert _mount(machine, b"/a", mt.MS_REMOUNT | mt.MS_RDONLY) == -errno.EBUSY
    machine.call("close", fd)
    assert _mount(machine, b"/a", mt.MS_REMOUNT | mt.MS_RDONLY) == 0
    assert machine.open(b"/a/file", 1) == -errno.EROFS


def test_move_takes_the_tree_along_and_not_into_itself() -> None:
    machine = _machine()
    assert _mount(machine, b"/a") == 0
    machine.make(b"/a/file")
    assert machine.call("mkdir", b"/a/in", 0o755) == 0
    assert _mount(machine, b"/a/in", mt.MS_MOVE, b"/a") == -errno.ELOOP
    assert _mount(machine, b"/b", mt.MS_MOVE, b"/a") == 0
    assert machine.stat(b"/a/file") == -errno.ENOENT
    assert machine.names(b"/b") == [b".", b"..", b"file", b"in"]


def test_unshared_namespace_keeps_its_mounts_to_itself() -> None:
    machine = _machine()
    other = machine.other()
    other.fs.unshare_mounts()
    assert machine.call("mount", b"x", b"/a", b"tmpfs", 0, 0, task=other) == 0
    buffer = machine.memory.here(200)
    assert machine.call("newfstatat", AT_FDCWD, b"/a/below", buffer, 0, task=other) == -errno.ENOENT
    assert machine.contents(b"/a/below") == b"below"


def test_pivot_root_swaps_the_root_and_keeps_the_old_one_reachable() -> None:
    machine = _machine()
    assert _mount(machine, b"/new") == 0
    assert machine.call("mkdir", b"/new/old", 0o755) == 0
    assert machine.call("chdir", b"/new") == 0
    assert machine.call("pivot_root", b".", b"old") == 0
    assert machine.call("chdir", b"/") == 0
    assert machine.names(b"/") == [b".", b"..", b"old"]
    assert machine.contents(b"/old/a/below") == b"below"
    assert machine.call("umount2", b"/old", mt.MNT_DETACH) == 0
    assert machine.names(b"/old") == [b".", b".."]


def test_mounting_needs_a_capability_and_a_known_type() -> None:
    machine = _machine()
    assert _mount(machine, b"/a", kind=b"nosuchfs") == -errno.ENODEV
    user = machine.other(1000)
    assert machine.call("mount", b"x", b"/a", b"tmpfs", 0, 0, task=user) == -errno.EPERM
    assert machine.call("umount2", b"/a", 0) == -errno.EINVAL


def test_tmpfs_size_limit_gives_short_writes_then_enospc() -> None:
    machine = _machine()
    where = machine.memory
    assert machine.call("mount", b"x", b"/a", b"tmpfs", 0, b"size=8k,nr_inodes=3") == 0
    fd = machine.open(b"/a/file", 0o102)
    assert machine.call("write", fd, where.BASE, 10000) == 8192
    assert machine.call("write", fd, where.BASE, 1) == -errno.ENOSPC
    assert machine.call("mkdir", b"/a/d", 0o755) == 0
    assert machine.call("mkdir", b"/a/e", 0o755) == -errno.ENOSPC
    machine.call("close", fd)
    assert machine.call("unlink", b"/a/file") == 0
    assert machine.call("mkdir", b"/a/e", 0o755) == 0
    assert machine.call("mount", b"x", b"/b", b"tmpfs", 0, b"nonsense=1") == -errno.EINVAL


def test_mounts_below_each_other_to_a_great_depth_go_as_one() -> None:
    machine = _machine()
    depth = 1500
    assert machine.call("mount", b"x", b"/a", b"tmpfs", 0, 0) == 0
    assert machine.call("chdir", b"/a") == 0
    for _ in range(depth):
        assert machine.call("mkdir", b"m", 0o755) == 0
        assert machine.call("mount", b"x", b"m", b"tmpfs", 0, 0) == 0
        assert machine.call("chdir", b"m") == 0
    namespace = machine.task.fs.mounts
    assert len(namespace.mounts) > depth
    shown = list(namespace.subtree(namespace.root))
    assert len(shown) == len(namespace.mounts)
    assert all(each.parent is None or shown.index(each.parent) < at for at, each in enumerate(shown[:100]))
    assert machine.call("chdir", b"/") == 0
    assert machine.call("umount2", b"/a", 2) == 0  # MNT_DETACH
    assert len(namespace.mounts) < depth

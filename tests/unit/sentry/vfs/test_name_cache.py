"""The caches of names: cached paths follow every change, and neither absent nor unused names pile up."""

from __future__ import annotations

import errno
import weakref

import pytest

from services.sentry.vfs import dentry as dentry_module
from tests.unit.sentry.syscalls_files.harness import Machine


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.call("mkdir", b"/d", 0o755)
    machine.make(b"/d/f", b"old")
    return machine


def _size(machine: Machine, path: bytes) -> int:
    shown = machine.stat(path)
    return shown if isinstance(shown, int) else shown[7]


def test_absent_name_appears_when_created_and_goes_when_unlinked(machine: Machine) -> None:
    for _ in range(3):
        assert _size(machine, b"/d/new") == -errno.ENOENT
        machine.make(b"/d/new", b"12")
        assert _size(machine, b"/d/new") == 2
        machine.call("unlink", b"/d/new")


def test_absent_parent_does_not_hide_what_is_made_below_it_later(machine: Machine) -> None:
    assert _size(machine, b"/x/y/z") == -errno.ENOENT
    machine.call("mkdir", b"/x", 0o755)
    assert _size(machine, b"/x/y/z") == -errno.ENOENT
    machine.call("mkdir", b"/x/y", 0o755)
    machine.make(b"/x/y/z", b"1")
    assert _size(machine, b"/x/y/z") == 1


def test_absent_name_below_a_removed_and_remade_directory(machine: Machine) -> None:
    machine.call("mkdir", b"/r", 0o755)
    assert _size(machine, b"/r/f") == -errno.ENOENT
    machine.call("rmdir", b"/r")
    machine.call("mkdir", b"/r", 0o755)
    machine.make(b"/r/f", b"123")
    assert _size(machine, b"/r/f") == 3


def test_renames_of_files_and_of_directories_above_them(machine: Machine) -> None:
    assert _size(machine, b"/d/f") == 3
    machine.make(b"/d/g", b"longer")
    machine.call("rename", b"/d/g", b"/d/f")
    assert _size(machine, b"/d/f") == 6
    assert _size(machine, b"/d/g") == -errno.ENOENT
    machine.call("rename", b"/d", b"/e")
    assert _size(machine, b"/d/f") == -errno.ENOENT
    assert _size(machine, b"/e/f") == 6


def test_symbolic_link_that_changes_its_target(machine: Machine) -> None:
    machine.call("mkdir", b"/other", 0o755)
    machine.make(b"/other/f", b"1")
    machine.call("symlink", b"d", b"/link")
    assert _size(machine, b"/link/f") == 3
    machine.call("unlink", b"/link")
    assert _size(machine, b"/link/f") == -errno.ENOENT
    machine.call("symlink", b"other", b"/link")
    assert _size(machine, b"/link/f") == 1
    machine.call("symlink", b"d", b"/fresh")
    machine.call("rename", b"/fresh", b"/link")
    assert _size(machine, b"/link/f") == 3


def test_path_through_a_directory_that_is_removed(machine: Machine) -> None:
    machine.call("mkdir", b"/gone", 0o755)
    assert _size(machine, b"/gone/../d/f") == 3
    machine.call("rmdir", b"/gone")
    assert _size(machine, b"/gone/../d/f") == -errno.ENOENT


def test_search_permission_and_credentials_are_part_of_the_cache(machine: Machine) -> None:
    user = machine.other(1000)
    buffer = 0x10000
    assert machine.call("stat", b"/d/f", buffer, task=user) == 0
    machine.call("chmod", b"/d", 0o700)
    assert machine.call("stat", b"/d/f", buffer, task=user) == -errno.EACCES
    assert machine.call("stat", b"/d/f", buffer) == 0
    machine.call("chmod", b"/d", 0o711)
    assert machine.call("stat", b"/d/f", buffer, task=user) == 0


def test_chdir_and_chroot_change_what_names_mean(machine: Machine) -> None:
    assert _size(machine, b"f") == -errno.ENOENT
    machine.call("chdir", b"/d")
    assert _size(machine, b"f") == 3
    machine.call("chroot", b"/d")
    assert _size(machine, b"/f") == 3
    assert _size(machine, b"/d/f") == -errno.ENOENT


def test_absent_names_are_bounded(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dentry_module, "NEGATIVE_LIMIT", 100)
    for index in range(1000):
        assert _size(machine, b"/d/no%d" % index) == -errno.ENOENT
    directory = machine.superblock.root.children[b"d"]
    assert len(directory.children) < 150


def test_unused_present_names_are_forgotten_and_open_ones_are_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dentry_module, "POSITIVE_LIMIT", 100)
    machine.superblock.prunable = True
    for index in range(400):
        machine.make(b"/d/%d" % index)
    kept = machine.open(b"/d/0")
    for index in range(400):
        assert _size(machine, b"/d/%d" % index) == 0
    directory = machine.superblock.root.children[b"d"]
    assert len(directory.children) < 250
    assert b"0" in directory.children
    machine.call("unlink", b"/d/0")
    path = machine.task.files.get(kept).path
    assert path is not None and path.dentry.deleted


def test_a_removed_file_is_not_kept_by_the_cache_of_names(machine: Machine) -> None:
    machine.superblock.prunable = True
    machine.make(b"/d/gone")
    inode = machine.superblock.root.children[b"d"].children[b"gone"].inode
    assert inode is not None
    used = machine.superblock.used_inodes  # type: ignore[attr-defined]
    last_user = weakref.ref(inode)
    del inode
    before = len(machine.superblock.positives)
    machine.call("unlink", b"/d/gone")
    assert len(machine.superblock.positives) == before - 1
    assert machine.superblock.used_inodes == used - 1  # type: ignore[attr-defined]
    assert last_user() is None

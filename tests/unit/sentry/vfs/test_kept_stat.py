"""The struct stat and the listing that an inode keeps: every change of what they show voids them, whoever makes it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.sentry.filesystems.overlay.superblock import make_overlay
from services.sentry.filesystems.tmpfs import TmpfsSuperblock
from services.sentry.kernel.credentials import Credentials
from services.sentry.kernel.kernel import Kernel
from services.sentry.vfs.attributes import pack_inode
from services.sentry.vfs.dentry import Dentry
from services.sentry.vfs.directory_file import KEPT, DirectoryFile, Listing
from services.sentry.vfs.inode import NOT_SHOWN, Inode
from services.sentry.vfs.superblock import Superblock
from tests.unit.sentry.syscalls_files.harness import AT_FDCWD, Machine

ROOT = Credentials.for_user(0, 0)
BUFFER = 1 << 16


def tmpfs(kernel: Kernel) -> Superblock:
    return TmpfsSuperblock(kernel, options=b"mode=755")


def overlay(kernel: Kernel) -> Superblock:
    """A lower with `low`, `low_dir/inner` and `low_link`, below an empty upper."""
    lower = TmpfsSuperblock(kernel, options=b"mode=755")
    top = lower.root.inode
    assert top is not None
    low: Any = top.create(b"low", 0o100644, ROOT)
    low.data.write(b"lower data", 0)
    low.touch_written()
    top.mkdir(b"low_dir", 0o755, ROOT).create(b"inner", 0o100644, ROOT)
    top.symlink(b"low_link", b"low", ROOT)
    return make_overlay(kernel, [lower], TmpfsSuperblock(kernel, options=b"mode=755"))


def inodes_of(machine: Machine) -> Iterator[Inode]:
    """Of every name that was looked up, and of every open file."""

    def below(dentry: Dentry) -> Iterator[Inode]:
        if dentry.inode is not None:
            yield dentry.inode
        for child in list(dentry.children.values()):
            yield from below(child)

    yield from below(machine.superblock.root)
    for file in machine.task.files.files.values():
        yield file.inode


def checked(machine: Machine) -> int:
    """Everything kept is what would be packed now; afterwards all is packed. How many were kept."""
    found = 0
    for inode in inodes_of(machine):
        kept = inode.shown[0]
        if kept is not None:
            found += 1
            inode.shown[0] = None
            assert kept == pack_inode(inode), inode
        pack_inode(inode)
    for file in machine.task.files.files.values():
        if isinstance(file, DirectoryFile) and not file.dentry.deleted:
            listing = file.inode.listing
            if listing is not None:
                found += 1
                assert listing.packed == Listing(file.inode, listing.parent_ino).packed
            file.offset = 0
            file.read_packed(1 << 16)
    assert NOT_SHOWN == [None]
    return found


def histories(root: Callable[[Kernel], Superblock]) -> list[tuple[str, tuple[Any, ...]]]:
    """System calls that change something; fds 0 and 1 are /file, 2 is /dir."""
    changes: list[tuple[str, tuple[Any, ...]]] = [
        ("write", (0, BUFFER, 5)),
        ("write", (0, BUFFER, 5000)),
        ("pwrite64", (0, BUFFER, 3, 6000)),
        ("read", (1, BUFFER, 10)),
        ("pread64", (1, BUFFER, 10, 0)),
        ("ftruncate", (0, 3)),
        ("ftruncate", (0, 9000)),
        ("fallocate", (0, 0, 0, 1 << 14)),
        ("fallocate", (0, 3, 0, 4096)),
        ("truncate", (b"/file", 77)),
        ("openat", (AT_FDCWD, b"/file", 0o1002, 0)),
        ("chmod", (b"/file", 0o4755)),
        ("write", (0, BUFFER, 5)),
        ("fchmod", (0, 0o600)),
        ("chown", (b"/file", 5, 6)),
        ("utimensat", (AT_FDCWD, b"/file", 0, 0)),
        ("setxattr", (b"/file", b"user.a", BUFFER, 3, 0)),
        ("removexattr", (b"/file", b"user.a")),
        ("link", (b"/file", b"/dir/second")),
        ("unlink", (b"/dir/second",)),
        ("link", (b"/file", b"/second")),
        ("rename", (b"/second", b"/dir/moved")),
        ("mkdir", (b"/dir/sub", 0o755)),
        ("openat", (AT_FDCWD, b"/dir/sub/new", 0o101, 0o644)),
        ("rename", (b"/dir/sub", b"/sub")),
        ("unlink", (b"/sub/new",)),
        ("rmdir", (b"/sub",)),
        ("symlink", (b"file", b"/dir/link")),
        ("readlink", (b"/dir/link", BUFFER, 100)),
        ("renameat2", (AT_FDCWD, b"/dir/link", AT_FDCWD, b"/file", 2)),
        ("renameat2", (AT_FDCWD, b"/dir/link", AT_FDCWD, b"/file", 2)),
        ("mknod", (b"/fifo", 0o010644, 0)),
        ("rename", (b"/dir/moved", b"/fifo")),
        ("unlink", (b"/fifo",)),
        ("unlink", (b"/file",)),
        ("write", (0, BUFFER, 5)),
        ("fchmod", (0, 0o640)),
    ]
    if root is overlay:
        changes += [
            ("chmod", (b"/low_dir", 0o700)),
            ("readlink", (b"/low_link", BUFFER, 100)),
            ("link", (b"/low", b"/low2")),
            ("openat", (AT_FDCWD, b"/low", 0o2, 0)),
            ("unlink", (b"/low2",)),
            ("truncate", (b"/low_dir/inner", 10)),
            ("unlink", (b"/low_dir/inner",)),
            ("rmdir", (b"/low_dir",)),
            ("rename", (b"/low_link", b"/elsewhere")),
        ]
    return changes


@pytest.mark.parametrize("root", [tmpfs, overlay])
def test_whatever_changes_an_inode_voids_what_it_keeps(root: Callable[[Kernel], Superblock]) -> None:
    machine = Machine(root=root)
    machine.make(b"/file", b"some bytes")
    assert machine.open(b"/file", 2) == 0
    assert machine.open(b"/file", 2) == 1
    assert machine.call("mkdir", b"/dir", 0o755) == 0
    assert machine.open(b"/dir") == 2
    assert machine.open(b"/") == 3
    for path in (b"/low", b"/low_dir/inner", b"/low_link"):
        machine.stat(path, 0x100)
    checked(machine)
    kept = 0
    for name, args in histories(root):
        assert machine.call(name, *args) >= 0, (name, args)
        kept += checked(machine)
    assert kept > 100  # it is kept at all


@pytest.mark.parametrize("root", [tmpfs, overlay])
def test_pages_that_the_host_counts_are_asked_for(root: Callable[[Kernel], Superblock]) -> None:
    machine = Machine(root=root)
    machine.make(b"/file", b"x" * 8192)
    fd = machine.open(b"/file", 2)
    file = machine.task.files.files[fd]
    pack_inode(file.inode)
    assert file.inode.shown[0] is not None
    file.mmap_backing()
    assert file.inode.shown[0] is None
    pack_inode(file.inode)
    assert file.inode.shown[0] is None  # a mapping may make pages at any time


def test_a_changed_file_is_shown_changed() -> None:
    machine = Machine()
    machine.make(b"/file", b"1")
    assert machine.stat(b"/file")[7] == 1  # type: ignore[index]
    assert machine.stat(b"/file")[7] == 1  # type: ignore[index]
    fd = machine.open(b"/file", 1)
    machine.write(fd, b"123")
    assert machine.stat(b"/file")[7] == 3  # type: ignore[index]


def test_a_bounded_number_of_listings_is_kept() -> None:
    machine = Machine()
    for number in range(KEPT + 10):
        machine.call("mkdir", b"/d%d" % number, 0o755)
        assert machine.names(b"/d%d" % number) == [b".", b".."]
    kept = [inode for inode in inodes_of(machine) if inode.listing is not None]
    assert len(kept) == KEPT


def test_a_moved_directory_shows_its_new_parent() -> None:
    machine = Machine()
    for path in (b"/a", b"/b", b"/a/c"):
        machine.call("mkdir", path, 0o755)
    fd = machine.open(b"/a/c")
    file = machine.task.files.files[fd]
    before, _ = file.read_packed(1 << 16)
    machine.call("rename", b"/a/c", b"/b/c")
    after, _ = file.read_packed(1 << 16)
    assert before != after
    assert int.from_bytes(after[24:32], "little") == machine.stat(b"/b")[1]  # type: ignore[index]


SHOWN = {"nlink", "mode", "uid", "gid", "rdev", "size", "blocks", "atime_ns", "mtime_ns", "ctime_ns"}
FOLDER = Path(__file__).parents[4] / "services" / "sentry"
KEEPERS = [
    path
    for kind in ("tmpfs", "overlay", "gofer")
    for path in sorted((FOLDER / "filesystems" / kind).glob("*.py"))
    if path.name not in ("memory_data.py",)
]
FRESH = {"child", "change", "inode"}
"""Local names of what was made in the same function, and of records that are no inodes."""


def _stores(function: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(function):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        )
        for target in targets:
            for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(each, ast.Attribute):
                    yield ast.unparse(each.value), each.attr
                elif isinstance(each, ast.Subscript) and isinstance(each.value, ast.Attribute):
                    yield ast.unparse(each.value.value), each.value.attr


@pytest.mark.parametrize("path", KEEPERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_function_that_stores_an_attribute_voids_the_kept_stat(path: Path) -> None:
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef) or function.name == "__init__":
            continue
        stores = set(_stores(function))
        for owner, attribute in stores:
            if attribute in SHOWN and owner not in FRESH:
                assert (owner, "shown") in stores, f"{function.name}: {owner}.{attribute}"

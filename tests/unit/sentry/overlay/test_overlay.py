"""The overlay over file systems in memory: what is merged, hidden, copied up, moved, kept."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import pytest

from services.sentry.errors import LinuxError
from services.sentry.filesystems.overlay.superblock import OverlaySuperblock
from tests.unit.sentry.gofer_fs.gofer_child import TinyKernel
from tests.unit.sentry.overlay.memory_fs import CRED, MemoryInode, MemorySuperblock

DIR = stat.S_IFDIR | 0o755
REG = stat.S_IFREG | 0o644
NONE: Any = None


class World:
    """One lower (or several) with a few files, one upper, the overlay."""

    def __init__(self, layers: int = 1) -> None:
        kernel: Any = TinyKernel()
        self.lowers = [MemorySuperblock(kernel) for _ in range(layers)]
        self.upper = MemorySuperblock(kernel)
        self.low = self.lowers[0].top
        if layers == 1:
            directory = self.low.add(b"dir", DIR)
            directory.add(b"inner", REG, b"inner data")
            directory.add(b"sub", DIR).add(b"deep", REG, b"deep data")
            self.low.add(b"file", REG, b"lower data")
            self.low.add(b"link", stat.S_IFLNK | 0o777, b"file")
            hard = self.low.add(b"hard1", REG, b"shared")
            self.low.children[b"hard2"] = hard
            self.low.order.add(b"hard2")
            hard.nlink = 2

    def mount(self) -> Any:
        self.overlay = OverlaySuperblock(self.upper.kernel, self.lowers, self.upper)
        return self.overlay.root.inode


def names(directory: Any) -> list[bytes]:
    return [entry[0] for _, entry in directory.entries(0)]


def absent(directory: Any, name: bytes) -> bool:
    try:
        directory.lookup(name)
    except LinuxError as error:
        assert error.errno == errno.ENOENT
        return True
    return False


def content(inode: Any) -> bytes:
    file = inode.open(NONE, os.O_RDONLY, NONE).add_reference()
    data: bytes = file.pread(1 << 20, 0)
    file.close_reference()
    return data


def write(inode: Any, data: bytes, offset: int = 0) -> None:
    file = inode.open(NONE, os.O_WRONLY, NONE).add_reference()
    assert file.pwrite(data, offset) == len(data)
    file.close_reference()


def test_unmodified_tree_shows_the_lower_with_the_same_numbers() -> None:
    world = World()
    root = world.mount()
    assert names(root) == [b"dir", b"file", b"link", b"hard1", b"hard2"]
    file = root.lookup(b"file")
    assert (file.ino, file.size, file.mode) == (world.low.children[b"file"].ino, 10, REG)
    assert root.lookup(b"file") is file
    assert root.lookup(b"link").readlink() == b"file"
    assert root.lookup(b"hard1") is root.lookup(b"hard2")
    assert content(root.lookup(b"dir").lookup(b"sub").lookup(b"deep")) == b"deep data"


def test_write_copies_up_and_leaves_lower_and_number_alone() -> None:
    world = World()
    root = world.mount()
    file = root.lookup(b"file")
    number = file.ino
    write(file, b"UPPER", 0)
    file.refresh()
    assert content(file) == b"UPPER data"
    assert (file.ino, file.size) == (number, 10)
    assert os.pread(world.low.children[b"file"].fd, 100, 0) == b"lower data"
    del file
    again = root.lookup(b"file")
    assert again.ino == number
    assert content(again) == b"UPPER data"


def test_file_open_before_copy_up_reads_new_data_at_its_position() -> None:
    root = World().mount()
    file = root.lookup(b"file")
    reader = file.open(NONE, os.O_RDONLY, NONE).add_reference()
    assert reader.read(6) == b"lower "
    write(file, b"DATA", 6)
    assert reader.offset == 6
    assert reader.read(10) == b"DATA"
    reader.close_reference()


def test_host_fd_of_a_mapping_stays_open_after_copy_up() -> None:
    world = World()
    root = world.mount()
    file = root.lookup(b"file")
    reader = file.open(NONE, os.O_RDONLY, NONE).add_reference()
    backing = reader.mmap_backing()
    lower = world.low.children[b"file"]
    write(file, b"UPPER")
    assert lower.open_files == 1
    assert os.pread(backing.host_fd, 5, 0) == b"lower"
    assert reader.mmap_backing().host_fd != backing.host_fd
    reader.close_reference()
    assert lower.open_files == 0


def test_copy_up_of_one_hard_link_shows_through_the_other() -> None:
    root = World().mount()
    write(root.lookup(b"hard1"), b"CHANGED")
    assert content(root.lookup(b"hard2")) == b"CHANGED"
    root.unlink(b"hard1", root.lookup(b"hard1"))
    assert root.lookup(b"hard2").nlink == 1
    assert absent(root, b"hard1")


def test_chmod_and_chown_keep_the_data_in_the_lower() -> None:
    world = World()
    root = world.mount()
    file = root.lookup(b"file")
    file.set_attributes(mode=0o600, uid=5)
    file.set_attributes(mtime_ns=7)
    del file
    file = root.lookup(b"file")
    assert (file.mode, file.uid, file.mtime_ns) == (stat.S_IFREG | 0o600, 5, 7)
    assert not world.upper.nameless
    write(file, b"x")
    file.refresh()
    assert (file.mode & 0o7777, file.uid) == (0o600, 5)


def test_truncation_copies_only_what_remains() -> None:
    world = World()
    root = world.mount()
    file = root.lookup(b"file")
    file.set_attributes(size=3)
    assert content(file) == b"low"
    (data,) = world.upper.nameless.values()
    assert data.size == 3


def test_full_upper_leaves_the_file_as_it_was() -> None:
    world = World()
    root = world.mount()
    world.upper.full = True
    file = root.lookup(b"file")
    with pytest.raises(LinuxError) as refused:
        file.open(NONE, os.O_WRONLY, NONE)
    assert refused.value.errno == errno.ENOSPC
    assert content(file) == b"lower data"
    assert not world.upper.nameless


def test_unlink_and_create_again_is_a_new_file() -> None:
    root = World().mount()
    old = root.lookup(b"file")
    root.unlink(b"file", old)
    assert absent(root, b"file")
    assert b"file" not in names(root)
    assert old.nlink == 0
    new = root.create(b"file", REG, CRED)
    assert new.ino != old.ino
    assert content(new) == b""
    assert content(old) == b"lower data"
    assert names(root).count(b"file") == 1
    root.unlink(b"file", new)
    assert absent(root, b"file")


def test_directory_removed_and_made_again_is_empty() -> None:
    root = World().mount()
    directory = root.lookup(b"dir")
    with pytest.raises(LinuxError) as refused:
        root.rmdir(b"dir", directory)
    assert refused.value.errno == errno.ENOTEMPTY
    sub = directory.lookup(b"sub")
    sub.unlink(b"deep", sub.lookup(b"deep"))
    directory.rmdir(b"sub", sub)
    directory.unlink(b"inner", directory.lookup(b"inner"))
    root.rmdir(b"dir", directory)
    assert absent(root, b"dir")
    made = root.mkdir(b"dir", 0o700, CRED)
    assert names(made) == []
    assert absent(made, b"inner")


def test_rename_of_a_lower_directory_moves_all_it_shows() -> None:
    root = World().mount()
    directory = root.lookup(b"dir")
    number = directory.ino
    write(directory.lookup(b"inner"), b"INNER")
    root.rename(b"dir", directory, root, b"moved", None, 0)
    assert absent(root, b"dir")
    moved = root.lookup(b"moved")
    assert moved.ino == number
    assert content(moved.lookup(b"inner")) == b"INNER data"
    assert content(moved.lookup(b"sub").lookup(b"deep")) == b"deep data"
    root.mkdir(b"dir", 0o755, CRED)
    assert names(root.lookup(b"dir")) == []
    assert root.nlink == 2 + 2


def test_changes_below_survive_when_nobody_holds_the_directories() -> None:
    root = World().mount()
    root.lookup(b"dir").lookup(b"sub").create(b"new", REG, CRED)
    root.lookup(b"dir").lookup(b"sub").unlink(b"deep", root.lookup(b"dir").lookup(b"sub").lookup(b"deep"))
    assert names(root.lookup(b"dir").lookup(b"sub")) == [b"new"]


def test_rename_over_a_lower_file_hides_it() -> None:
    root = World().mount()
    new = root.create(b"new", REG, CRED)
    write(new, b"new")
    root.rename(b"new", new, root, b"file", root.lookup(b"file"), 0)
    assert content(root.lookup(b"file")) == b"new"
    assert names(root).count(b"file") == 1
    assert absent(root, b"new")


def test_exchange_swaps_lower_and_upper_names() -> None:
    root = World().mount()
    file, directory = root.lookup(b"file"), root.lookup(b"dir")
    root.rename(b"file", file, root, b"dir", directory, 2)
    assert root.lookup(b"dir") is file
    assert root.lookup(b"file") is directory
    assert sorted(names(root)) == [b"dir", b"file", b"hard1", b"hard2", b"link"]


def test_listing_in_progress_neither_repeats_nor_skips() -> None:
    world = World()
    for number in range(50):
        world.low.add(b"n%02d" % number, REG)
    root = world.mount()
    seen: list[bytes] = []
    cookie = 0
    while True:
        step = next(root.entries(cookie), None)
        if step is None:
            break
        cookie, entry = step
        seen.append(entry[0])
        if entry[0].startswith(b"n"):
            root.unlink(entry[0], root.lookup(entry[0]))
        if len(seen) == 10:
            root.create(b"late", REG, CRED)
    assert len(seen) == len(set(seen)) == 56
    assert sorted(names(root)) == [b"dir", b"file", b"hard1", b"hard2", b"late", b"link"]


def test_data_goes_from_the_upper_with_the_last_name() -> None:
    world = World()
    root = world.mount()
    new = root.create(b"new", REG, CRED)
    write(new, b"data")
    assert len(world.upper.nameless) == 1
    root.unlink(b"new", new)
    new.release_last_link()
    assert not world.upper.nameless
    other = root.create(b"other", REG, CRED)
    root.unlink(b"other", other)
    del other
    assert not world.upper.nameless


def test_unnamed_file_can_be_given_a_name() -> None:
    root = World().mount()
    unnamed = root.tmpfile(0o600, CRED)
    file = unnamed.open(NONE, os.O_RDWR, NONE).add_reference()
    file.write(b"text")
    root.link(b"named", unnamed)
    file.close_reference()
    assert root.lookup(b"named").nlink == 1
    assert content(root.lookup(b"named")) == b"text"


def test_xattrs_change_here_and_not_below() -> None:
    world = World()
    world.low.children[b"file"].xattrs[b"user.a"] = b"1"
    root = world.mount()
    file = root.lookup(b"file")
    assert file.get_xattr(b"user.a") == b"1"
    file.set_xattr(b"user.b", b"2", 0)
    file.remove_xattr(b"user.a")
    write(file, b"x")
    assert root.lookup(b"file").list_xattr() == [b"user.b"]
    assert world.low.children[b"file"].xattrs == {b"user.a": b"1"}


def test_setgid_directory_passes_its_group_on() -> None:
    root = World().mount()
    directory = root.mkdir(b"d", 0o755, CRED)
    directory.set_attributes(mode=0o2755, gid=77)
    made = directory.mkdir(b"e", 0o755, CRED)
    assert (made.gid, made.mode & 0o7777) == (77, 0o2755)
    assert directory.create(b"f", REG, CRED).gid == 77


class TestLayers:
    """Several lowers: image layers with overlay whiteouts and opaque marks."""

    def layered(self) -> tuple[World, Any]:
        world = World(layers=2)
        top, bottom = (lower.top for lower in world.lowers)
        bottom.add(b"etc", DIR).add(b"a", REG, b"bottom a")
        bottom.children[b"etc"].add(b"b", REG, b"bottom b")
        bottom.children[b"etc"].add(b"gone", REG, b"gone")
        top.add(b"etc", DIR).add(b"a", REG, b"top a")
        top.children[b"etc"].add(b"gone", stat.S_IFCHR)
        bottom.add(b"opaque", DIR).add(b"below", REG)
        top.add(b"opaque", DIR).add(b"above", REG)
        top.children[b"opaque"].xattrs[b"trusted.overlay.opaque"] = b"y"
        return world, world.mount()

    def test_merge_whiteout_and_opaque(self) -> None:
        _, root = self.layered()
        etc = root.lookup(b"etc")
        assert names(etc) == [b"a", b"b"]
        assert content(etc.lookup(b"a")) == b"top a"
        assert content(etc.lookup(b"b")) == b"bottom b"
        assert absent(etc, b"gone")
        assert names(root.lookup(b"opaque")) == [b"above"]
        assert absent(root.lookup(b"opaque"), b"below")
        assert etc.lookup(b"a").ino != etc.lookup(b"b").ino

    def test_removed_file_of_both_layers_is_gone(self) -> None:
        _, root = self.layered()
        etc = root.lookup(b"etc")
        etc.unlink(b"a", etc.lookup(b"a"))
        assert absent(etc, b"a")
        assert names(etc) == [b"b"]
        root.rename(b"etc", etc, root, b"etc2", None, 0)
        assert names(root.lookup(b"etc2")) == [b"b"]


def test_sparse_lower_file_stays_sparse() -> None:
    world = World()
    sparse = world.low.add(b"sparse", REG)
    assert isinstance(sparse, MemoryInode)
    os.ftruncate(sparse.fd, 1 << 33)
    os.pwrite(sparse.fd, b"end", (1 << 33) - 3)
    sparse.refresh()
    root = world.mount()
    file = root.lookup(b"sparse")
    write(file, b"start")
    (data,) = world.upper.nameless.values()
    assert data.size == 1 << 33
    assert os.fstat(data.fd).st_blocks < 10000
    assert os.pread(data.fd, 10, (1 << 33) - 3) == b"end"

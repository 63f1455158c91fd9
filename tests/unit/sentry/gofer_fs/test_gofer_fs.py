"""The gofer file system over a real gofer in a forked child: how often it asks, what it remembers, what it survives."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.sentry.errors import LinuxError
from services.sentry.filesystems.gofer.superblock import REVALIDATE, GoferSuperblock, make_gofer
from services.sentry.vfs.attributes import pack_inode
from services.sentry.vfs.directory_file import Listing
from tests.unit.sentry.gofer_fs.gofer_child import Counter, TinyKernel, gofer_of, start_child, stop

NONE: Any = None
CRED: Any = SimpleNamespace(fsuid=os.geteuid(), fsgid=os.getegid(), groups=(), cap_effective=-1)
REG = stat.S_IFREG | 0o644


class Memory:
    """Guest memory of 1 MiB from address 0; beyond it EFAULT."""

    def __init__(self) -> None:
        self.data = bytearray(1 << 20)

    def write(self, addr: int, data: bytes | memoryview) -> None:
        if addr + len(data) > len(self.data):
            raise LinuxError(errno.EFAULT)
        self.data[addr : addr + len(data)] = data


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/file").write_bytes(b"contents")
    (tmp_path / "a/link").symlink_to("file")
    return tmp_path


def errno_of(call: Any, *args: Any, **kwargs: Any) -> int:
    with pytest.raises(LinuxError) as refused:
        call(*args, **kwargs)
    return refused.value.errno


def opened(inode: Any, flags: int = os.O_RDONLY) -> Any:
    return inode.open(NONE, flags, NONE).add_reference()


def test_path_is_walked_in_one_round_trip_and_then_known(tree: Path) -> None:
    with gofer_of(tree) as gofer, Counter(gofer) as trips:
        found = gofer.root_inode.lookup_path([b"a", b"b", b"c"])
        assert [inode.is_dir for inode in found] == [True] * 3
        assert trips.count == 1
        assert gofer.root_inode.lookup(b"a").lookup(b"b").lookup(b"c") is found[2]
        assert gofer.root_inode.lookup_path([b"a", b"b", b"c"]) == found
        assert trips.count == 1


def test_path_ends_at_absent_name_and_at_link(tree: Path) -> None:
    with gofer_of(tree) as gofer, Counter(gofer) as trips:
        root = gofer.root_inode
        assert len(root.lookup_path([b"a", b"none", b"c"])) == 1
        assert len(root.lookup_path([b"a", b"none", b"c"])) == 1
        assert root.lookup_path([b"zero"]) == []
        assert trips.count == 2
        assert errno_of(root.lookup, b"zero") == errno.ENOENT
        assert trips.count == 2
        found = root.lookup_path([b"a", b"link", b"x"])
        assert found[-1].readlink() == b"file"
        assert len(found) == 2


def test_listing_answers_the_stats_and_the_absences_that_follow(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"file{number}").write_bytes(b"x" * number)
    with gofer_of(tmp_path) as gofer, Counter(gofer) as trips:
        root = gofer.root_inode
        names = [entry[0] for _, entry in root.entries(0)]
        assert len(set(names)) == 500
        listing = trips.count
        assert listing <= 4
        for number in range(500):
            assert root.lookup(b"file%d" % number).size == number
        assert errno_of(root.lookup, b"absent") == errno.ENOENT
        assert trips.count == listing


def test_open_of_a_cached_file_asks_nobody(tree: Path) -> None:
    with gofer_of(tree) as gofer:
        inode = gofer.root_inode.lookup_path([b"a", b"file"])[1]
        with Counter(gofer) as trips:
            for _ in range(3):
                file = opened(inode)
                assert file.read(100) == b"contents"
                assert not file.mmap_backing().max_prot_write
                file.close_reference()
            assert trips.count == 1


def test_donated_fds_are_bounded_and_closed(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number)
    with gofer_of(tmp_path) as gofer:
        gofer.donated_limit = 8
        kept = opened(gofer.root_inode.lookup(b"f0"))
        before = len(os.listdir("/proc/self/fd"))
        for number in range(40):
            file = opened(gofer.root_inode.lookup(b"f%d" % number))
            assert file.read(9) == b"%d" % number
            file.close_reference()
        assert len(os.listdir("/proc/self/fd")) <= before + 8
        assert kept.pread(9, 0) == b"0"
        kept.close_reference()


def test_remembered_names_are_bounded(tmp_path: Path) -> None:
    for directory in range(20):
        (tmp_path / f"d{directory}").mkdir()
        for number in range(50):
            (tmp_path / f"d{directory}/f{number}").touch()
    with gofer_of(tmp_path) as gofer:
        gofer.name_limit = 200
        for directory in range(20):
            node: Any = gofer.root_inode.lookup(b"d%d" % directory)
            assert len(list(node.entries(0))) == 50
            for number in range(50):
                node.lookup(b"f%d" % number)
        del node
        assert gofer.cached <= 250
        assert gofer.cached == sum(len(d.children or ()) for d in gofer.caching.values())
        assert len(gofer.inodes) <= 300
        assert len(list(gofer.root_inode.lookup(b"d0").entries(0))) == 50


def test_large_reads_reach_guest_memory_and_faults_give_partial_counts(tree: Path) -> None:
    (tree / "big").write_bytes(os.urandom(900_000))
    data = (tree / "big").read_bytes()
    memory: Any = Memory()
    with gofer_of(tree) as gofer:
        file = opened(gofer.root_inode.lookup(b"big"))
        assert file.read_user(memory, 0, 800_000) == 800_000
        assert memory.data[:800_000] == data[:800_000]
        assert file.read_user(memory, 0, 800_000) == 100_000
        assert file.read_user(memory, 0, 10) == 0
        file.seek(0, 0)
        assert file.read_user(memory, (1 << 20) - 600_000, 800_000) == 512 * 1024
        assert errno_of(file.pread_user, memory, 1 << 20, 800_000, 0) == errno.EFAULT
        os.truncate(tree / "big", 5)
        assert file.pread_user(memory, 0, 800_000, 0) == 5
        file.close_reference()


def test_read_only_export_refuses_changes(tree: Path) -> None:
    with gofer_of(tree) as gofer:
        root = gofer.root_inode
        assert errno_of(root.create, b"new", REG, CRED) in (errno.EROFS, errno.EPERM, errno.EACCES)
        file = root.lookup_path([b"a", b"file"])[1]
        assert errno_of(opened, file, os.O_RDWR) in (errno.EROFS, errno.EPERM, errno.EACCES)
        assert opened(file).read(3) == b"con"


def test_writes_show_on_the_host_and_in_the_attributes(tree: Path) -> None:
    with gofer_of(tree, read_only=False) as gofer:
        root = gofer.root_inode
        made = root.create(b"new", stat.S_IFREG | 0o640, CRED)
        file = opened(made, os.O_RDWR | os.O_APPEND)
        with Counter(gofer) as trips:
            assert file.write(b"first ") == 6
            assert file.write(b"second") == 6
            made.refresh()
            assert made.size == 12
            made.set_attributes(size=5)
            assert file.mmap_backing().max_prot_write
            assert trips.count == 0
        file.close_reference()
        assert (tree / "new").read_bytes() == b"first"
        assert (tree / "new").stat().st_mode & 0o777 == 0o640
        root.rename(b"new", made, root.lookup(b"a"), b"moved", None, 0)
        assert (tree / "a/moved").exists()
        assert errno_of(root.lookup, b"new") == errno.ENOENT
        root.lookup(b"a").unlink(b"moved", made)
        assert not (tree / "a/moved").exists()


def test_file_unlinked_while_open_still_reads_and_stats(tree: Path) -> None:
    with gofer_of(tree, read_only=False) as gofer:
        directory = gofer.root_inode.lookup(b"a")
        inode = directory.lookup(b"file")
        file = opened(inode, os.O_RDWR)
        directory.unlink(b"file", inode)
        assert file.pwrite(b"C", 0) == 1
        inode.refresh()
        assert (inode.nlink, inode.size, file.read(8)) == (0, 8, b"Contents")
        file.close_reference()


def test_revalidating_tree_sees_what_the_host_changes(tree: Path) -> None:
    with gofer_of(tree, policy=REVALIDATE) as gofer:
        assert gofer.dynamic
        directory = gofer.root_inode.lookup(b"a")
        inode = directory.lookup(b"file")
        file = opened(inode)
        assert errno_of(directory.lookup, b"later") == errno.ENOENT
        (tree / "a/later").write_bytes(b"x")
        assert directory.lookup(b"later").size == 1
        (tree / "a/file").write_bytes(b"longer contents")
        inode.refresh()
        assert inode.size == 15
        assert file.seek(0, os.SEEK_END) == 15
        os.unlink(tree / "a/file")
        (tree / "a/file").write_bytes(b"another")
        assert file.pread(99, 0) == b"longer contents"
        assert opened(directory.lookup(b"file")).read(99) == b"another"
        assert sorted(entry[0] for _, entry in directory.entries(0)) == [b"b", b"file", b"later", b"link"]


def test_dead_gofer_costs_an_error_and_donated_files_go_on(tree: Path) -> None:
    pid, sock = start_child(str(tree))
    kernel: Any = TinyKernel()
    gofer = make_gofer(kernel, sock)
    inode = gofer.root_inode.lookup_path([b"a", b"file"])[1]
    file = opened(inode)
    stop(pid)
    assert errno_of(gofer.root_inode.lookup, b"unknown") == errno.EIO
    assert errno_of(gofer.root_inode.lookup, b"unknown") == errno.EIO
    assert file.read(8) == b"contents"
    assert len(kernel.log.lines) >= 1

    pid, sock = start_child(str(tree))
    gofer.reconnect(sock)
    assert errno_of(gofer.root_inode.lookup, b"unknown") == errno.ENOENT
    assert gofer.root_inode.lookup_path([b"a", b"b", b"c"])[2].is_dir
    assert file.read(8) == b""
    again = gofer.root_inode.lookup(b"a").lookup(b"link")
    assert again.readlink() == b"file"
    stop(pid)

    gofer.reconnector = lambda: None
    assert errno_of(gofer.root_inode.lookup, b"other") == errno.EIO
    pid, sock = start_child(str(tree))
    gofer.reconnector = lambda: sock
    assert errno_of(gofer.root_inode.lookup, b"other") == errno.ENOENT
    gofer.release()
    stop(pid)


class Liar:
    """A client whose answers are what a test says."""

    def __init__(self, gofer: Any, **answers: Any) -> None:
        self.gofer, self.client, self.answers = gofer, gofer.client, answers

    def __getattr__(self, name: str) -> Any:
        if name in self.answers:
            return lambda *args, **kwargs: self.answers[name](getattr(self.client, name)(*args, **kwargs))
        return getattr(self.client, name)


@pytest.mark.parametrize(
    "lie",
    [
        {"mode": 0o777},
        {"mode": 1 << 20 | 0o100644},
        {"size_bytes": 1 << 63},
        {"mtime_sec": 1 << 60},
        {"atime_nsec": 10**10},
        {"rdev": 1 << 40},
        {"nlink": 1 << 40},
    ],
)
def test_impossible_attributes_cost_eio(tree: Path, lie: dict[str, int]) -> None:
    with gofer_of(tree) as gofer:
        honest: Any = gofer.client
        liar: Any = Liar(gofer, walkgetattr=lambda walk: walk._replace(steps=[walk.steps[0]._replace(**lie)]))
        gofer.client = liar
        assert errno_of(gofer.root_inode.lookup, b"a") == errno.EIO
        gofer.client = honest
        assert gofer.root_inode.lookup(b"a").is_dir


def test_donated_pipe_is_refused(tree: Path) -> None:
    with gofer_of(tree) as gofer:
        honest: Any = gofer.client
        inode = gofer.root_inode.lookup_path([b"a", b"file"])[1]
        reader, writer = os.pipe()

        def swap(result: Any) -> Any:
            os.close(result.fd)
            return result._replace(fd=reader)

        liar: Any = Liar(gofer, walkopen=swap)
        gofer.client = liar
        assert errno_of(opened, inode) == errno.EIO
        gofer.client = honest
        os.close(writer)
        assert opened(inode).read(3) == b"con"


def test_listing_that_never_ends_is_refused(tree: Path) -> None:
    with gofer_of(tree) as gofer:
        honest: Any = gofer.client
        first: list[Any] = []

        def again(result: Any) -> Any:
            first.append(result)
            return first[0]

        too_large: Any = lambda listings: [listing._replace(complete=False) for listing in listings]  # noqa: E731
        liar: Any = Liar(gofer, readdirattr=again, listattr=too_large)
        gofer.client = liar
        assert errno_of(lambda: list(gofer.root_inode.entries(0))) == errno.EIO
        gofer.client = honest
        assert [entry[0] for _, entry in gofer.root_inode.entries(0)] == [b"a"]


def test_walk_through_a_tree_lists_ahead(tree: Path) -> None:
    for number in range(40):
        (tree / f"d{number}" / "below").mkdir(parents=True)
        (tree / f"d{number}" / "file").write_text("x")
    with gofer_of(tree) as gofer:
        calls: list[int] = []

        def count(listings: Any) -> Any:
            calls.append(len(listings))
            return listings

        asked: Any = Liar(gofer, listattr=count)
        gofer.client = asked
        names = [entry[0] for _, entry in gofer.root_inode.entries(0)]
        for name in names:
            inode = gofer.root_inode.lookup(name)
            below = sorted(entry[0] for _, entry in inode.entries(0))
            assert below == sorted(os.listdir(os.fsencode(tree) + b"/" + name))
        assert len(calls) < 10
        assert calls[:3] == [1, 1, 3]


def test_files_read_one_after_the_other_are_opened_ahead(tree: Path) -> None:
    for number in range(60):
        (tree / f"f{number}").write_text(f"text {number}")
    with gofer_of(tree) as gofer:
        calls: list[int] = []

        def count(found: Any) -> Any:
            calls.append(len(found))
            return found

        asked: Any = Liar(gofer, openfds=count)
        gofer.client = asked
        names = [entry[0] for _, entry in gofer.root_inode.entries(0) if entry[0].startswith(b"f")]
        for name in names:
            file = opened(gofer.root_inode.lookup(name))
            assert file.read(100) == b"text " + name[1:]
            file.close_reference()
        assert calls[:3] == [3, 7, 15]
        assert len(calls) < 8

        for host in list(gofer.donated.values()):  # as if others had been opened meanwhile
            host.uncached()
        gofer.donated.clear()
        calls.clear()
        for name in names:
            assert opened(gofer.root_inode.lookup(name)).read(100) == b"text " + name[1:]
        assert sum(calls) >= 58 and len(calls) < 8


def test_other_file_behind_a_name_is_not_taken(tree: Path) -> None:
    for number in range(9):
        (tree / f"f{number}").write_text("right")
    with gofer_of(tree) as gofer:
        names = [entry[0] for _, entry in gofer.root_inode.entries(0) if entry[0].startswith(b"f")]
        wrong: Any = Liar(gofer, openfds=lambda found: [one._replace(qid_path=one.qid_path + 1) for one in found])
        gofer.client = wrong
        for name in names:
            assert opened(gofer.root_inode.lookup(name)).read(9) == b"right"  # the ordinary way, which checks again


def test_odd_errnos_of_a_gofer_become_eio(tree: Path) -> None:
    with gofer_of(tree) as gofer:
        honest: Any = gofer.client
        liar: Any = Liar(gofer, walkgetattr=lambda walk: walk._replace(errno=513, steps=[]))
        gofer.client = liar
        assert errno_of(gofer.root_inode.lookup, b"a") == errno.EIO
        gofer.client = honest


def test_fids_of_dropped_inodes_are_given_back(tree: Path) -> None:
    for number in range(300):
        (tree / f"d{number}").mkdir()
    with gofer_of(tree) as gofer:
        for number in range(300):
            gofer.root_inode.lookup(b"d%d" % number)
        assert len(gofer.holders) >= 300
        gofer.root_inode.forget_children()
        assert gofer.cached == 0
        gofer.root_inode.lookup(b"a")
        assert len(gofer.holders) <= 3
        numbers = gofer.client._next_fid
        for number in range(200):
            gofer.root_inode.lookup(b"d%d" % number)
        assert gofer.client._next_fid <= numbers + 3


def test_special_files_show_their_kind_and_do_not_open_on_the_host(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with gofer_of(tree) as gofer:
        fifo = gofer.root_inode.lookup(b"fifo")
        assert stat.S_ISFIFO(fifo.mode)
        assert errno_of(fifo.open, NONE, os.O_WRONLY | os.O_NONBLOCK, NONE) == errno.ENXIO


def test_deep_directory_is_reached_again_after_a_restart(tmp_path: Path) -> None:
    names = [b"d%d" % number for number in range(50)]
    os.makedirs(os.path.join(os.fsencode(tmp_path), *names))
    with gofer_of(tmp_path) as gofer:
        node: Any = gofer.root_inode
        for name in names:
            node = node.lookup(name)
        pid, sock = start_child(str(tmp_path))
        gofer.reconnect(sock)
        with Counter(gofer) as trips:
            assert list(node.entries(0)) == []
            assert trips.count <= 8
        stop(pid)


def test_two_exports_share_one_connection(tree: Path) -> None:
    with gofer_of(tree) as gofer:
        kernel: Any = gofer.kernel
        second = GoferSuperblock(kernel, gofer.client)
        inode = second.root_inode.lookup_path([b"a", b"file"])[1]
        assert opened(inode).read(3) == b"con"
        assert second.dev != gofer.dev
        second.release()
        assert gofer.root_inode.lookup(b"a").lookup(b"file").size == 8


def test_removed_directory_is_no_longer_counted(tree: Path) -> None:
    with gofer_of(tree, read_only=False) as gofer:
        made: Any = gofer.root_inode.mkdir(b"new", 0o755, CRED)
        for number in range(5):
            made.unlink(b"%d" % number, made.create(b"%d" % number, REG, CRED))
        assert list(made.entries(0)) == []
        gofer.root_inode.rmdir(b"new", made)
        assert gofer.cached == sum(len(d.children or ()) for d in gofer.caching.values())


def test_kept_stat_and_listing_follow_every_change(tree: Path) -> None:
    """What is kept is what would be packed now, after each change; and it is kept at all."""
    with gofer_of(tree, read_only=False) as gofer:
        root: Any = gofer.root_inode
        directory: Any = root.lookup(b"a")
        file: Any = directory.lookup(b"file")
        writer = opened(file, os.O_RDWR)
        kept = 0

        def check() -> None:
            nonlocal kept
            for inode in (root, directory, file):
                packed = inode.shown[0]
                if packed is not None:
                    kept += 1
                    inode.shown[0] = None
                    assert pack_inode(inode) == packed
                pack_inode(inode)
            for inode in (root, directory):
                listing = inode.listing
                if listing is not None:
                    kept += 1
                    assert Listing(inode, 1).packed == listing.packed
                assert inode.keep_listing(Listing(inode, 1))

        changes: list[Any] = [
            lambda: writer.write(b"longer than before"),
            lambda: writer.truncate(3),
            lambda: file.set_attributes(mode=0o600),
            lambda: file.set_attributes(mtime_ns=10**18),
            lambda: directory.link(b"second", file),
            lambda: directory.unlink(b"second", file),
            lambda: directory.rename(b"file", file, root, b"moved", None, 0),
            lambda: root.create(b"new", REG, CRED),
            lambda: root.unlink(b"new", root.lookup(b"new")),
            lambda: directory.mkdir(b"sub", 0o755, CRED),
            lambda: directory.rmdir(b"sub", directory.lookup(b"sub")),
            lambda: directory.symlink(b"sym", b"x", CRED),
            lambda: root.unlink(b"moved", file),
            lambda: writer.write(b"still open"),
        ]
        check()
        for change in changes:
            change()
            check()
        assert kept > 2 * len(changes)
        writer.close_reference()
    with gofer_of(tree, policy=REVALIDATE) as shared:
        assert not shared.root_inode.keep_listing(None)
        pack_inode(shared.root_inode)
        assert shared.root_inode.shown[0] is None

"""The directory backend through a live server in a thread, compared with direct host calls; escapes, fds, big
listings.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.p9 import constants as c
from protocol.p9 import messages as m
from protocol.p9.attributes import ATTRIBUTES, Attributes, SetAttributes
from protocol.p9.client import P9Client
from protocol.p9.conversation import GoferGone, P9Error
from services.gofer import app


class Served:
    """A client, its roots, and the directory on the host."""

    def __init__(self, path: Path, plain: bool) -> None:
        self.path = path
        ours, theirs = socket.socketpair()
        self.log: list[str] = []
        backend = app.build_backend({b"rw": (str(path), False), b"ro": (str(path), True)})
        self.thread = threading.Thread(target=lambda: app.serve(theirs, backend, log=self.log.append))
        self.thread.start()
        self.client = P9Client(ours, timeout_s=60)
        if plain:
            self.client._call_slow(m.Tversion(65536, c.VERSION_PLAIN), m.Rversion, tag=c.NOTAG)
            self.client.msize_bytes, self.client.version = 65536, c.VERSION_PLAIN
        else:
            assert self.client.negotiate() == c.VERSION_EXTENDED
        self.rw, _ = self.client.attach(b"rw")
        self.ro, _ = self.client.attach(b"ro")
        self.backend = backend

    def walk(self, *names: bytes, root: int | None = None) -> int:
        fid = self.client.new_fid()
        result = self.client.walkgetattr(self.rw if root is None else root, fid, names)
        assert result.errno == 0, os.strerror(result.errno)
        return fid

    def close(self) -> None:
        self.client.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.backend.close()
        assert not [line for line in self.log if "bug" in line], self.log


@pytest.fixture(params=["extended", "plain"])
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    before = len(os.listdir("/proc/self/fd"))
    served = Served(tmp_path, request.param == "plain")
    yield served
    served.close()
    assert len(os.listdir("/proc/self/fd")) == before, "an fd leaked"


def expect(number: int) -> pytest.RaisesExc[P9Error]:
    return pytest.raises(P9Error, check=lambda error: error.errno == number)


def assert_same(record: Attributes, st: os.stat_result) -> None:
    assert (record.mode, record.uid, record.gid, record.nlink) == (st.st_mode, st.st_uid, st.st_gid, st.st_nlink)
    assert (record.size_bytes, record.blocks, record.rdev) == (st.st_size, st.st_blocks, st.st_rdev)
    assert (record.mtime_ns, record.ctime_ns) == (st.st_mtime_ns, st.st_ctime_ns)
    assert record.qid_path == st.st_ino


def test_attributes_of_every_kind_equal_the_hosts(served: Served) -> None:
    path = served.path
    (path / "file").write_bytes(b"x" * 5000)
    os.utime(path / "file", ns=(1_000_000_001, 2_000_000_002))
    (path / "dir").mkdir()
    (path / "link").symlink_to("../../etc/passwd")
    os.mkfifo(path / "fifo")
    os.mknod(path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path / "sock"))
    for name in os.listdir(path):
        fid = served.walk(os.fsencode(name))
        assert_same(served.client.getattr(fid), os.lstat(path / name))
        served.client.clunk(fid)
    assert served.client.getattr(served.walk(b"file")).atime_ns == 1_000_000_001


def test_walk_tells_every_step_and_where_it_stopped(served: Served) -> None:
    (served.path / "a" / "b").mkdir(parents=True)
    (served.path / "a" / "link").symlink_to("b")
    client = served.client
    result = client.walkgetattr(served.rw, client.new_fid(), [b"a", b"b", b"c"])
    assert (result.errno, len(result.steps)) == (errno.ENOENT, 2)
    assert_same(result.steps[1], os.lstat(served.path / "a" / "b"))
    result = client.walkgetattr(served.rw, client.new_fid(), [b"a", b"link", b"c"])
    assert (result.errno, len(result.steps), result.target) == (errno.ENOTDIR, 2, b"b")
    clone = client.walkgetattr(served.rw, client.new_fid(), [])
    assert clone.errno == 0
    assert_same(clone.steps[0], os.lstat(served.path))


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/etc", b"a\0b", b"../" * 3 + b"etc"])
def test_escaping_names_are_refused_everywhere(served: Served, name: bytes) -> None:
    client, rw = served.client, served.rw
    (served.path / "a").mkdir()
    (served.path / "f").write_bytes(b"")
    f = served.walk(b"f")
    assert client.walkgetattr(rw, client.new_fid(), [name]).errno == errno.EINVAL
    assert client.walkgetattr(rw, client.new_fid(), [b"a", name]).errno == errno.EINVAL
    assert client.walkopen(rw, client.new_fid(), [name], 0).errno == errno.EINVAL
    for call in (
        lambda: client.create(rw, client.new_fid(), name, 2, 0o644),
        lambda: client.mkdir(rw, name, 0o755),
        lambda: client.mknod(rw, name, stat.S_IFIFO | 0o600),
        lambda: client.symlink(rw, name, b"t"),
        lambda: client.link(rw, f, name),
        lambda: client.unlinkat(rw, name),
        lambda: client.unlinkat(rw, name, c.UNLINK_REMOVEDIR),
        lambda: client.renameat(rw, b"f", rw, name),
        lambda: client.renameat(rw, name, rw, b"g"),
    ):
        with expect(errno.EINVAL):
            call()
    assert sorted(os.listdir(served.path)) == ["a", "f"]


def test_symlinks_are_never_followed(served: Served, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_bytes(b"secret")
    os.symlink(outside, served.path / "dir")
    os.symlink(outside / "secret", served.path / "file")
    os.symlink("/proc/self/root", served.path / "magic")
    client = served.client
    for name in (b"dir", b"file", b"magic"):
        result = client.walkopen(served.rw, client.new_fid(), [name], 0)
        assert result.errno == errno.ELOOP
        assert result.target == os.fsencode(os.readlink(served.path / os.fsdecode(name)))
        assert client.walkopen(served.rw, client.new_fid(), [name, b"secret"], 0).errno == errno.ENOTDIR
        fid = served.walk(name)
        with expect(errno.ELOOP):
            client.open(fid, 0)
        with expect(errno.ENOTDIR):
            client.mkdir(fid, b"x", 0o755)
    created = None
    with pytest.raises(P9Error):
        created = client.create(served.rw, client.new_fid(), b"file", c.L_TRUNC | 1, 0o644)
    assert created is None
    assert (outside / "secret").read_bytes() == b"secret"


def test_directory_swapped_for_a_symlink_is_not_entered(served: Served) -> None:
    (served.path / "d").mkdir()
    fid = served.walk(b"d")
    os.rename(served.path / "d", served.path / "moved")
    os.symlink("/etc", served.path / "d")
    assert served.client.walkgetattr(fid, served.client.new_fid(), [b"passwd"]).errno == errno.ENOENT
    assert served.client.walkopen(served.rw, served.client.new_fid(), [b"d", b"passwd"], 0).errno == errno.ENOTDIR


def test_magic_links_of_an_exported_proc_lead_nowhere() -> None:
    ours, theirs = socket.socketpair()
    backend = app.build_backend({b"proc": ("/proc", True)})
    thread = threading.Thread(target=lambda: app.serve(theirs, backend))
    thread.start()
    client = P9Client(ours)
    client.negotiate()
    root, _ = client.attach(b"proc")
    pid = str(os.getpid()).encode()
    for names in ([pid, b"root"], [pid, b"cwd"], [pid, b"exe"], [pid, b"fd", b"0"]):
        assert client.walkopen(root, client.new_fid(), names, 0).errno == errno.ELOOP
    assert client.walkopen(root, client.new_fid(), [pid, b"root", b"etc"], 0).errno == errno.ENOTDIR
    client.close()
    thread.join(10)
    backend.close()


def test_special_files_are_shown_and_not_opened(served: Served) -> None:
    os.mkfifo(served.path / "fifo")
    os.mknod(served.path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for name in (b"fifo", b"null"):
        result = served.client.walkopen(served.rw, served.client.new_fid(), [name], 0)
        assert result.errno == errno.ENXIO
        assert_same(result.steps[0], os.lstat(served.path / os.fsdecode(name)))
        with expect(errno.ENXIO):
            served.client.open(served.walk(name), 2)


def test_read_only_export_refuses_every_change(served: Served) -> None:
    client, ro = served.client, served.ro
    (served.path / "f").write_bytes(b"x")
    fid = served.walk(b"f", root=ro)
    for call in (
        lambda: client.create(ro, client.new_fid(), b"n", 1, 0o644),
        lambda: client.mkdir(ro, b"n", 0o755),
        lambda: client.mknod(ro, b"n", stat.S_IFIFO),
        lambda: client.symlink(ro, b"n", b"t"),
        lambda: client.link(ro, fid, b"n"),
        lambda: client.unlinkat(ro, b"f"),
        lambda: client.renameat(ro, b"f", ro, b"n"),
        lambda: client.renameat(served.rw, b"f", ro, b"n"),
        lambda: client.setattr(fid, SetAttributes(c.SETATTR_MODE, 0o600)),
        lambda: client.xattr_set(fid, b"user.x", b"1"),
        lambda: client.open(fid, 1),
        lambda: client.open(fid, 2),
        lambda: client.open(fid, c.L_TRUNC),
    ):
        with pytest.raises(P9Error, check=lambda error: error.errno in (errno.EROFS, errno.EXDEV)):
            call()
    assert os.listdir(served.path) == ["f"]
    result = client.walkopen(ro, client.new_fid(), [b"f"], 0)
    assert result.errno == 0
    if result.fd is not None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(result.fd, b"y")
        os.close(result.fd)


def test_file_is_created_written_read_and_donated(served: Served) -> None:
    client = served.client
    fid = client.new_fid()
    made = client.create(served.rw, fid, b"new", c.L_EXCL | 2, 0o640)
    assert client.write(fid, 3, b"hello" * 50_000) == 250_000
    data = b""
    while piece := client.read(fid, len(data), 1 << 20):
        data += piece
    assert data == b"\0\0\0" + b"hello" * 50_000 == (served.path / "new").read_bytes()
    if client.extended:
        assert made.fd is not None
        assert os.pread(made.fd, 5, 3) == b"hello"
        assert not os.get_inheritable(made.fd)
        os.close(made.fd)
    client.fsync(fid)
    with expect(errno.EEXIST):
        client.create(served.rw, client.new_fid(), b"new", c.L_EXCL | 2, 0o640)
    again = client.create(served.rw, client.new_fid(), b"new", c.L_TRUNC | 2, 0o640)
    if again.fd is not None:
        os.close(again.fd)
    assert (served.path / "new").stat().st_size == 0


def test_open_file_outlives_rename_and_unlink(served: Served) -> None:
    client, path = served.client, served.path
    (path / "f").write_bytes(b"content")
    (path / "d").mkdir()
    opened = client.new_fid()
    result = client.walkopen(served.rw, opened, [b"f"], 2, want_fd=False)
    assert result.fd is None
    unopened = served.walk(b"f")
    client.renameat(served.rw, b"f", served.walk(b"d"), b"g")
    client.setattr(unopened, SetAttributes(c.SETATTR_SIZE, size_bytes=4))
    client.open(unopened, 0, want_fd=False)
    assert client.read(unopened, 0, 10) == b"cont" == (path / "d" / "g").read_bytes()
    client.unlinkat(served.walk(b"d"), b"g")
    assert client.read(opened, 0, 10) == b"cont"
    assert client.write(opened, 4, b"!") == 1
    client.setattr(opened, SetAttributes(c.SETATTR_MODE, mode=0o600))
    record = client.getattr(opened)
    assert (record.nlink, record.size_bytes, record.mode & 0o777) == (0, 5, 0o600)


def test_another_file_under_the_name_is_stale(served: Served) -> None:
    (served.path / "f").write_bytes(b"one")
    fid = served.walk(b"f")
    (served.path / "other").write_bytes(b"two")
    os.rename(served.path / "other", served.path / "f")
    with expect(errno.ESTALE):
        served.client.open(fid, c.L_TRUNC | 1)
    assert (served.path / "f").read_bytes() == b"two"


def test_changes_equal_direct_host_calls(served: Served) -> None:
    client, rw, path = served.client, served.rw, served.path
    client.mkdir(rw, b"d", 0o751)
    client.symlink(rw, b"l", b"anywhere/../x")
    client.mknod(rw, b"p", stat.S_IFIFO | 0o604)
    client.mknod(rw, b"r", stat.S_IFREG | 0o600)
    r = served.walk(b"r")
    client.link(rw, r, b"r2")
    change = SetAttributes(0x1FF & ~c.SETATTR_CTIME, 0o4711, 1234, 4321, 77, -5, 6, 7_000_000_000, 8)
    client.setattr(r, change)
    st = os.lstat(path / "r2")
    assert (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_nlink) == (0o104711, 1234, 4321, 77, 2)
    assert (st.st_atime_ns, st.st_mtime_ns) == (-4_999_999_994, 7_000_000_000_000_000_008)
    assert os.readlink(path / "l") == "anywhere/../x" == client.readlink(served.walk(b"l")).decode()
    assert stat.S_ISFIFO(os.lstat(path / "p").st_mode)
    host = os.statvfs(path)
    answer = client.statfs(rw)
    assert (answer.block_size_bytes, answer.blocks, answer.name_max_bytes) == (host.f_bsize, host.f_blocks, 255)
    for call, number in (
        (lambda: client.unlinkat(rw, b"d"), errno.EISDIR),
        (lambda: client.unlinkat(rw, b"r", c.UNLINK_REMOVEDIR), errno.ENOTDIR),
        (lambda: client.mkdir(rw, b"d", 0o755), errno.EEXIST),
        (lambda: client.unlinkat(rw, b"absent"), errno.ENOENT),
        (lambda: client.mkdir(rw, b"n" * 256, 0o755), errno.ENAMETOOLONG),
        (lambda: client.open(served.walk(b"d"), 1), errno.EISDIR),
        (lambda: client.readlink(r), errno.EINVAL),
        (lambda: client.getattr(999), errno.EBADF),
    ):
        with expect(number):
            call()
    client.unlinkat(rw, b"d", c.UNLINK_REMOVEDIR)
    client.unlinkat(rw, b"l")
    assert sorted(os.listdir(path)) == ["p", "r", "r2"]


def test_xattrs_equal_the_hosts(served: Served) -> None:
    client, path = served.client, served.path
    (path / "f").write_bytes(b"")
    fid = served.walk(b"f")
    with expect(errno.ENODATA):
        client.xattr_get(fid, b"user.a")
    client.xattr_set(fid, b"user.a", b"one\0two")
    client.xattr_set(fid, b"user.b", b"")
    assert os.getxattr(path / "f", "user.a") == b"one\0two" == client.xattr_get(fid, b"user.a")
    assert sorted(client.xattr_list(fid)) == [b"user.a", b"user.b"]
    with expect(errno.EEXIST):
        client.xattr_set(fid, b"user.a", b"x", 1)
    client.xattr_remove(fid, b"user.a")
    assert os.listxattr(path / "f") == ["user.b"]
    with expect(errno.ENODATA):
        client.xattr_remove(fid, b"user.a")
    assert client.xattr_list(served.rw) == []


def test_locks_conflict_between_fids(served: Served) -> None:
    client = served.client
    (served.path / "f").write_bytes(b"x" * 100)
    one, two = client.new_fid(), client.new_fid()
    for fid in (one, two):
        assert client.walkopen(served.rw, fid, [b"f"], 2, want_fd=False).errno == 0
    assert client.lock(one, c.LOCK_TYPE_WRLCK, 10, 20, 1) == c.LOCK_SUCCESS
    assert client.lock(two, c.LOCK_TYPE_RDLCK, 15, 1, 2) == c.LOCK_BLOCKED
    found = client.getlock(two, c.LOCK_TYPE_RDLCK, 0, 0, 2)
    assert (found.kind, found.start, found.length) == (c.LOCK_TYPE_WRLCK, 10, 20)
    assert client.lock(one, c.LOCK_TYPE_UNLCK, 0, 0, 1) == c.LOCK_SUCCESS
    assert client.lock(two, c.LOCK_TYPE_RDLCK, 15, 1, 2) == c.LOCK_SUCCESS
    assert client.getlock(two, c.LOCK_TYPE_RDLCK, 0, 0, 2).kind == c.LOCK_TYPE_UNLCK


def test_listing_gives_every_name_once_whatever_the_count(served: Served) -> None:
    for number in range(300):
        (served.path / f"file-{number}").write_bytes(b"")
    (served.path / "dir").mkdir()
    expected = sorted([b".", b"..", *(os.fsencode(name) for name in os.listdir(served.path))])
    walk_fid = served.rw
    for count in (300, 5000, 1 << 20):
        for with_attributes in (False, True):
            fid = served.walk()
            served.client.open(fid, c.L_DIRECTORY)
            names: list[bytes] = []
            offset = 0
            while True:
                if with_attributes:
                    records, offset = served.client.readdirattr(fid, offset, count, walk_fid)
                    names += records
                    for name, record in records.items():
                        attributes = Attributes._make(ATTRIBUTES.unpack(record))
                        assert_same(attributes, os.lstat(served.path / os.fsdecode(name)))
                else:
                    batch = served.client.readdir(fid, offset, count)
                    names += [entry.name for entry in batch]
                    offset = batch[-1].offset if batch else 0
                if not offset:
                    break
            assert sorted(names) == [name for name in expected if not with_attributes or name not in (b".", b"..")]
            served.client.clunk(fid)


def test_whole_listings_stop_at_the_count_and_at_links(served: Served) -> None:
    if not served.client.extended:
        return
    for folder in ("a", "b", "big"):
        (served.path / folder).mkdir()
    (served.path / "a" / "one").write_text("1")
    for number in range(200):
        (served.path / "big" / f"n{number}").touch()
    (served.path / "link").symlink_to("a")
    a, link, none, b = served.client.listattr(served.rw, [b"a", b"link", b"none", b"b"])
    ((name, record),) = a.entries.items()
    assert (a.errno, a.complete, name) == (0, True, b"one")
    assert_same(Attributes._make(ATTRIBUTES.unpack(record)), os.lstat(served.path / "a" / "one"))
    assert (link.errno, none.errno, b.entries) == (errno.ELOOP, errno.ENOENT, {}) or link.errno == errno.ENOTDIR
    several = served.client.listattr(served.rw, [b"a", b"big", b"b"], 4096)
    assert [len(listing.entries) for listing in several] == [1]
    (big,) = served.client.listattr(served.rw, [b"big"], 4096)
    assert (big.errno, big.complete, big.entries) == (0, False, {})
    assert len(served.client.listattr(served.walk(b"big"), [])[0].entries) == 200
    for escape in (b"..", b"a/one", b""):
        assert served.client.listattr(served.rw, [escape])[0].errno


def test_several_files_are_opened_for_reading_only(served: Served) -> None:
    if not served.client.extended:
        return
    for letter in "abc":
        (served.path / letter).write_text(letter)
    (served.path / "link").symlink_to("a")
    (served.path / "directory").mkdir()
    os.mkfifo(served.path / "fifo")
    names = [b"a", b"none", b"link", b"fifo", b"b", b"..", b"a/../c", b"c"]
    found = served.client.openfds(served.rw, names)
    good = {name: opened for name, opened in zip(names, found, strict=True) if not opened.errno}
    assert sorted(good) == [b"a", b"b", b"c"]
    for name, opened in good.items():
        assert os.pread(opened.fd, 9, 0) == name
        assert opened.qid_path == os.stat(served.path / os.fsdecode(name)).st_ino
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(opened.fd, b"x")
        os.close(opened.fd)


def test_big_listing_takes_linear_time(tmp_path: Path) -> None:
    served = Served(tmp_path, plain=False)
    times = []
    for total in (5_000, 20_000):
        for number in range(total):
            os.close(os.open(tmp_path / f"f{number}", os.O_CREAT | os.O_WRONLY))
        fid = served.walk()
        served.client.open(fid, 0)
        began = time.process_time()
        records, offset = served.client.readdirattr(fid, 0, 262144, served.rw)
        found = len(records)
        while offset:
            records, offset = served.client.readdirattr(fid, offset, 262144, served.rw)
            found += len(records)
        times.append(time.process_time() - began)
        assert found == total
    served.close()
    assert times[1] < times[0] * 4 * 2.5, times


def test_fds_and_fids_are_bounded(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    backend = app.build_backend({b"r": (str(tmp_path), False)})
    thread = threading.Thread(target=lambda: app.serve(theirs, backend, max_fids=50))
    thread.start()
    client = P9Client(ours)
    client.negotiate()
    root, _ = client.attach(b"r")
    for _ in range(49):
        client.walkgetattr(root, client.new_fid(), [])
    with expect(errno.ENFILE):
        client.walkgetattr(root, client.new_fid(), [])
    client.close()
    thread.join(10)
    backend.close()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0


def test_attach_to_an_unknown_export_is_refused(served: Served) -> None:
    with expect(errno.ENOENT):
        served.client.attach(b"nothing")


def test_dead_server_is_gone_at_once(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    client = P9Client(ours, timeout_s=60)
    theirs.close()
    with pytest.raises(GoferGone):
        client.negotiate()
    with pytest.raises(GoferGone):
        client.getattr(1)
    client.clunk(1)
    client.flush_clunks()
    client.close()

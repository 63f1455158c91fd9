"""One Gofer connection as a file system: the conversation, the caches' bounds, what to do when the Gofer goes away.

Owns the client, the table of inodes in use by qid (weak: one object per remote file), the fids to give up, the donated
host fds that stay open for the next open(2), and the bound on remembered names. Nothing a Gofer answers is believed
unchecked: the client checks form (a violation ends the conversation), `checked` and `_check_name` the content. A Gofer
that is gone or lies costs EIO, a log entry, and nothing else; `reconnect(sock)` goes on with a new one.

Bounds. `cached` names are swept when they pass `name_limit`: directories in the order they were first used, those used
since the last sweep spared once (a second-chance queue, so a lookup only sets a flag). `donated` is a true LRU of host
fds. Fids of dropped inodes ride in front of the next request (`call`), never from within a finaliser.
Life: construct (attaches), mount, `release`.
"""

from __future__ import annotations

import errno
import os
import stat as stat_mod
import time
from collections import OrderedDict
from collections.abc import Callable
from fcntl import F_GETFL, fcntl
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, cast
from weakref import WeakValueDictionary

from protocol.abi import fcntl_h as fc
from protocol.abi.dirent_h import DT_DIR, DT_REG
from protocol.errors import ProtocolViolation
from protocol.p9 import constants as c
from protocol.p9.attributes import Attributes
from protocol.p9.client import OpenResult, P9Client, WalkResult
from protocol.p9.conversation import GoferGone, GoferTimeout, P9Error
from services.sentry.errors import LinuxError
from services.sentry.filesystems.gofer.inode import DT_SHIFT, FID_LIMIT, PATH_AND_MODE, Ahead, Child, GoferInode
from services.sentry.filesystems.gofer.open_regular import BUFFER_BYTES, HostFile, RemoteData
from services.sentry.vfs.superblock import DEFAULT_BLOCK_SIZE, Statfs, Superblock

if TYPE_CHECKING:
    import socket

    from services.sentry.kernel.kernel import Kernel

__all__ = ["EXCLUSIVE", "REVALIDATE", "GoferSuperblock", "make_gofer"]

P = ParamSpec("P")
T = TypeVar("T")

EXCLUSIVE: Final = "exclusive"
REVALIDATE: Final = "revalidate"
V9FS_MAGIC: Final = 0x01021997  # statfs(2)
NAME_LIMIT: Final = 65536
DONATED_LIMIT: Final = 384
KEEP_ATTRIBUTES: Final = 20000
"""Entries of one directory whose attributes a listing keeps; of the others only number and type."""
MAX_ENTRIES: Final = 16_000_000
READDIR_BYTES: Final = 384 * 1024
FRESH_NS: Final = 1_000_000
"""Under `revalidate`, attributes that came with a lookup serve the system call that made it, and no later one."""
MAX_ERRNO: Final = 133
_TYPES: Final = frozenset(
    (
        stat_mod.S_IFREG,
        stat_mod.S_IFDIR,
        stat_mod.S_IFLNK,
        stat_mod.S_IFIFO,
        stat_mod.S_IFSOCK,
        stat_mod.S_IFCHR,
        stat_mod.S_IFBLK,
    )
)
_MAX_SECOND: Final = 1 << 40


class GoferSuperblock(Superblock):
    """See the module docstring. `reconnector` gives a socket to a Gofer started anew, or None; asked when one went."""

    __slots__ = (
        "_fresh",
        "_fresh_until_ns",
        "aname",
        "buffer",
        "cached",
        "caching",
        "client",
        "donated",
        "donated_limit",
        "dropped",
        "epoch",
        "holders",
        "inodes",
        "last_opening",
        "lost",
        "name_limit",
        "owns_client",
        "reconnector",
        "revalidates",
        "root_inode",
    )

    def __init__(
        self,
        kernel: Kernel,
        client: P9Client,
        *,
        aname: bytes = b"",
        policy: str = EXCLUSIVE,
        source: bytes = b"none",
        flags: int = 0,
        name_limit: int = NAME_LIMIT,
        donated_limit: int = DONATED_LIMIT,
        owns_client: bool = False,
    ) -> None:
        """`client` has negotiated; several superblocks may share it, one per export, then none of them owns it.

        ENOENT: no export `aname`. EIO: the Gofer is gone.
        """
        if policy not in (EXCLUSIVE, REVALIDATE):
            raise LinuxError(errno.EINVAL, "gofer cache policy")
        self.revalidates = policy == REVALIDATE
        super().__init__(kernel, b"9p", V9FS_MAGIC, source=source, flags=flags, dynamic=self.revalidates)
        self.client = client
        self.owns_client = owns_client
        self.aname = aname
        self.epoch = 1
        self.last_opening: Ahead | None = None
        self.lost = ""
        self.reconnector: Callable[[], socket.socket | None] | None = None
        self.inodes: WeakValueDictionary[int, GoferInode] = WeakValueDictionary()
        self.holders: WeakValueDictionary[int, GoferInode] = WeakValueDictionary()
        self.dropped: list[int] = []
        self.donated: OrderedDict[int, GoferInode] = OrderedDict()
        self.donated_limit = donated_limit
        self.caching: dict[int, GoferInode] = {}
        self.cached = 0
        self.name_limit = name_limit
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self._fresh: GoferInode | None = None
        self._fresh_until_ns = 0
        fid, _ = self.call(client.attach, aname)
        attributes = self.checked(self.call(client.getattr, fid))
        self.root_inode = GoferInode(self, attributes, None, b"")
        self.root_inode.hold(fid)
        self.inodes[attributes.qid_path] = self.root_inode
        self.set_root(self.root_inode)

    # --- the conversation ---
    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One request of the client. LinuxError: what the Gofer refused; EIO: it is gone, late, or talks nonsense."""
        if self.dropped:
            dropped, self.dropped = self.dropped, []
            for fid in dropped:
                self.client.clunk(fid)
        try:
            return function(*args, **kwargs)
        except (GoferGone, GoferTimeout) as error:
            self._report(error.strerror or "gone")
            raise LinuxError(errno.EIO, "gofer") from None
        except P9Error as error:
            raise self.refusal(error.errno or errno.EIO) from None
        except ProtocolViolation as violation:
            self._report(violation.why)
            raise LinuxError(errno.EIO, "gofer") from None

    def refusal(self, code: int) -> LinuxError:
        """What a guest sees of an errno that the Gofer answered: only those that exist."""
        return LinuxError(code if 0 < code <= MAX_ERRNO else errno.EIO, "gofer")

    def _can_go_on(self) -> bool:
        """After a failed request that may be repeated: whether the Gofer is gone and there is a new one."""
        if not self.client.gone or self.reconnector is None:
            return False
        self.revive()
        return True

    def _report(self, why: str) -> None:
        """Log a loss once."""
        if self.lost != why:
            self.lost = why
            self._log("gofer of %r: %s", self.source, why)

    def _log(self, text: str, *args: object) -> None:
        log = getattr(self.kernel, "log", None)
        if log is not None:
            log.warning(text, *args)

    def drop_fid(self, fid: int) -> None:
        """Give up a fid of this epoch some time later. Safe in a finaliser."""
        self.dropped.append(fid)

    def revive(self) -> None:
        """The Gofer is gone: go on with a new one if there is any. EIO: there is none."""
        sock = self.reconnector() if self.reconnector is not None else None
        if sock is None:
            raise LinuxError(errno.EIO, "gofer is gone")
        self.reconnect(sock)

    def reconnect(self, sock: socket.socket) -> None:
        """`resume` on a new connection to a Gofer started anew. EIO: it cannot be talked to, or shows another root."""
        client = P9Client(sock)
        try:
            client.negotiate()
            self.resume(client)
        except (P9Error, ProtocolViolation) as error:
            client.close()
            self._report(f"reconnecting: {error}")
            raise LinuxError(errno.EIO, "gofer") from None
        except LinuxError:
            client.close()
            raise
        self.owns_client = True

    def resume(self, client: P9Client) -> None:
        """Go on with `client`, which has negotiated with a Gofer of the same exports. Donated fds go on working; fids
        are walked again by name when they are next needed. EIO: the Gofer refuses, or shows another root.
        """
        fid, qid = self.call(client.attach, self.aname)
        if qid.path != self.root_inode.qid_path:
            self._report("reconnecting: another root")
            raise LinuxError(errno.EIO, "gofer")
        if self.owns_client:
            self.client.close()
        self.client = client
        self.dropped = []
        self.epoch += 1
        self.root_inode.fid = fid
        self.root_inode.epoch = self.epoch
        self.holders = WeakValueDictionary()
        self.lost = ""

    def shed_fids(self) -> None:
        """Give the oldest quarter of the handles up, where the name leads to the file again."""
        for fid, node in list(self.holders.items())[: FID_LIMIT // 4]:
            if node.let_go():
                self.holders.pop(fid, None)

    def walk(self, fid: int, names: list[bytes]) -> tuple[int, list[Attributes], bytes]:
        """Walk all of `names`, what fits one walk: (new fid, a record per name, text of a final link). ESTALE: gone."""
        newfid = self.client.new_fid()
        result = self.call(self.client.walkgetattr, fid, newfid, names)
        if result.errno:
            raise LinuxError(errno.ESTALE, "walk by name")
        return newfid, [self.checked(step) for step in result.steps], result.target

    def walk_from(self, node: GoferInode, names: list[bytes]) -> tuple[int, WalkResult]:
        """One walk of `names` from `node`: (new fid, bound if errno is 0; the result). Outlives a Gofer."""
        base = node.handle()
        newfid = self.client.new_fid()
        try:
            return newfid, self.call(self.client.walkgetattr, base, newfid, names)
        except LinuxError:
            if not self._can_go_on():
                raise
        base = node.handle()
        newfid = self.client.new_fid()
        return newfid, self.call(self.client.walkgetattr, base, newfid, names)

    def ask(self, directory: GoferInode, name: bytes) -> Attributes:
        """The attributes of `name`, just made in `directory`."""
        fid, steps, _ = self.walk(directory.handle(), [name])
        self.drop_fid(fid)
        return steps[-1]

    def checked(self, attributes: Attributes) -> Attributes:
        """`attributes` if they could be those of a file. EIO, and the Gofer is reported, if not."""
        if (
            attributes.mode & 0o170000 in _TYPES
            and attributes.mode <= 0o177777
            and attributes.size_bytes < 1 << 63
            and attributes.blocks < 1 << 63
            and attributes.nlink < 1 << 32
            and attributes.rdev < 1 << 32
            and -_MAX_SECOND < attributes.atime_sec < _MAX_SECOND
            and -_MAX_SECOND < attributes.mtime_sec < _MAX_SECOND
            and -_MAX_SECOND < attributes.ctime_sec < _MAX_SECOND
            and -_MAX_SECOND < attributes.btime_sec < _MAX_SECOND
            and attributes.atime_nsec < 1_000_000_000
            and attributes.mtime_nsec < 1_000_000_000
            and attributes.ctime_nsec < 1_000_000_000
        ):
            return attributes
        self._report("attributes that no file has")
        raise LinuxError(errno.EIO, "attributes")

    # --- inodes ---
    def inode_of(self, attributes: Attributes, parent: GoferInode, name: bytes) -> GoferInode:
        """The inode of checked attributes: the one in use for that qid, or a new one."""
        node = self.inodes.get(attributes.qid_path)
        if node is None or (node.mode ^ attributes.mode) & 0o170000:
            node = GoferInode(self, attributes, parent, name)
            self.inodes[attributes.qid_path] = node
        elif self.revalidates:
            if not node.dirty:
                node.show(attributes)
            if node.parent is not None:
                node.parent, node.name = parent, name
        if self.revalidates:
            self._fresh = node
            self._fresh_until_ns = time.monotonic_ns() + FRESH_NS
        return node

    def is_fresh(self, node: GoferInode) -> bool:
        """Whether the lookup just made brought this inode's attributes."""
        return node is self._fresh and time.monotonic_ns() < self._fresh_until_ns

    def count_cached(self, directory: GoferInode) -> None:
        """One more name is remembered."""
        self.cached += 1
        if self.cached > self.name_limit:
            self.sweep(directory)

    def sweep(self, keep: GoferInode | None = None) -> None:
        """Forget names, of directories not used lately first, until a quarter is free. `keep` is spared."""
        goal = self.name_limit * 3 // 4
        for _ in range(2 * len(self.caching)):
            if self.cached <= goal:
                break
            key = next(iter(self.caching))
            directory = self.caching.pop(key)
            if directory.touched or directory is keep:
                directory.touched = False
                self.caching[key] = directory
            else:
                directory.forget_children()

    def list_directory(self, node: GoferInode) -> None:
        """Read the whole directory with attributes into the node's cache. EIO: a listing that cannot be true."""
        if not (self.client.extended and self._list_whole(node)):
            self._list_in_pieces(node)

    def _list_whole(self, node: GoferInode) -> bool:
        """In one round trip, together with siblings that will be wanted next. False: it is too large for that."""
        parent = node.parent
        group = [node]
        names: list[bytes] = []
        if node.fid != c.NOFID and node.epoch == self.epoch:
            base = node.fid
        elif parent is None or self.revalidates:
            base = node.handle()
        else:
            base = parent.handle()
            group += self._siblings(parent, node)
            names = [member.name for member in group]
        listings = self.call(self.client.listattr, base, names, READDIR_BYTES)
        if listings[0].errno:
            raise self.refusal(listings[0].errno)
        if not listings[0].complete:
            return False
        for member, listing in zip(group, listings, strict=False):
            if listing.complete and not listing.errno:
                self._keep_listing(member, cast(dict[bytes, Child], listing.entries))
        return True

    def _siblings(self, parent: GoferInode, node: GoferInode) -> list[GoferInode]:
        """Directories beside `node` to be listed with it: more, the more of them were listed one after the other."""
        ahead, children = parent.ahead, parent.children
        if children is None or not parent.complete:
            return []
        if ahead is None:
            ahead = parent.ahead = Ahead(
                [name for name, child in children.items() if _type_of(child) == DT_DIR], node.name
            )
            return []
        width = ahead.width = min(2 * ahead.width + 2, c.MAX_WALK_NAMES - 1)
        found: list[GoferInode] = []
        while ahead.names and len(found) < width:
            name = ahead.names.pop()
            sibling = parent.known(name)
            if type(sibling) is GoferInode and sibling is not node:
                assert isinstance(sibling, GoferInode)
                if sibling.is_dir and not sibling.complete:
                    found.append(sibling)
        return found

    def _keep_listing(self, node: GoferInode, names: dict[bytes, Child]) -> None:
        """Make `names`, all there are, what is known of the directory."""
        if max(map(len, names), default=0) > c.MAX_NAME_BYTES:
            raise LinuxError(errno.EIO, "name in a directory")
        old = node.children or {}
        for name, known in old.items():
            if type(known) is GoferInode:
                child = names.get(name)
                if type(child) is bytes and PATH_AND_MODE.unpack_from(child)[0] == known.qid_path:
                    names[name] = known
        self.cached += len(names) - len(old)
        node.children = names
        node.listing = None
        node.complete = not self.revalidates
        node.touched = True
        self.caching[node.qid_path] = node
        if self.cached > self.name_limit:
            self.sweep(node)

    def _list_in_pieces(self, node: GoferInode) -> None:
        """The same of a directory of any size, or from a plain 9P2000.L server."""
        client = self.client
        fid = client.new_fid()
        opened = self.call(client.walkopen, node.handle(), fid, [], fc.O_RDONLY | fc.O_DIRECTORY, False)
        if opened.errno:
            raise self.refusal(opened.errno)
        names: dict[bytes, Child] = {}
        try:
            offset = 0
            while True:
                records, then = self.call(client.readdirattr, fid, offset, READDIR_BYTES, node.handle())
                if not then:
                    break
                names |= records if len(names) < KEEP_ATTRIBUTES else _shortened(records)
                if then == offset or len(names) > MAX_ENTRIES:
                    self._report("a directory without end")
                    raise LinuxError(errno.EIO, "directory")
                offset = then
        finally:
            self.drop_fid(fid)
        self._keep_listing(node, names)

    # --- host files ---
    def open_host(self, node: GoferInode, write: bool) -> HostFile | RemoteData:
        """Have the Gofer open the file and donate its fd; it becomes the inode's."""
        flags = fc.O_RDWR if write else fc.O_RDONLY
        if not write and self.client.extended:
            early = self._open_several(node)
            if early is not None:
                return early
        try:
            newfid, opened = self._walkopen(node, flags)
        except LinuxError:
            if not self._can_go_on():
                raise
            newfid, opened = self._walkopen(node, flags)
        if opened.errno:
            raise self.refusal(opened.errno)
        host = self.accept_host(newfid, opened.fd, write)
        if opened.steps[-1].qid_path != node.qid_path:
            raise LinuxError(errno.ESTALE, "the name leads to another file now")
        node.host = host
        self.keep_host(node)
        return host

    def _open_several(self, node: GoferInode) -> HostFile | None:
        """Open `node` for reading and, where files of its directory are opened one after the other, some that follow.

        None: there is no such pattern, or this file needs the ordinary way.
        """
        parent = node.parent
        if parent is None or not parent.complete or (node.fid != c.NOFID and node.epoch == self.epoch):
            return None
        opening = parent.opening
        if opening is None or (not opening.names and node.name == opening.first):
            children = parent.children or {}
            last, self.last_opening = self.last_opening, None
            opening = Ahead([name for name, child in children.items() if _type_of(child) == DT_REG], node.name)
            parent.opening = self.last_opening = opening
            if last is None or not last.width or len(last.unused) > last.width // 2:
                return None
            opening.width = last.width // 2  # the directory before this one was read through
        opening.unused.discard(node.name)
        if opening.unused or not opening.names:
            return None
        opening.width = min(2 * opening.width + 2, c.MAX_WALK_NAMES - 1)
        group = [node]
        while opening.names and len(group) <= opening.width:
            other = parent.known(opening.names.pop())
            if isinstance(other, GoferInode) and other is not node and other.host is None and other.parent is parent:
                group.append(other)
        found = self.call(self.client.openfds, parent.handle(), [member.name for member in group])
        for member, opened in zip(group, found, strict=True):
            if opened.errno:
                continue
            host = self._checked_host(opened.fd, False)
            if opened.qid_path == member.qid_path:
                member.host = host
                self.keep_host(member)
                if member is not node:
                    opening.unused.add(member.name)
        return node.host if isinstance(node.host, HostFile) else None

    def _walkopen(self, node: GoferInode, flags: int) -> tuple[int, OpenResult]:
        base, names = node.nearest()
        newfid = self.client.new_fid()
        return newfid, self.call(self.client.walkopen, base, newfid, names, flags)

    def accept_host(self, fid: int, fd: int | None, write: bool) -> HostFile | RemoteData:
        """What carries the data of a file opened as `fid`. EIO: the fd is not that of a regular file opened so."""
        if fd is None:
            return RemoteData(self, fid, write)
        self.drop_fid(fid)
        return self._checked_host(fd, write)

    def _checked_host(self, fd: int, write: bool) -> HostFile:
        host = HostFile(fd, write)
        mode = fcntl(fd, F_GETFL)
        if not stat_mod.S_ISREG(os.fstat(fd).st_mode) or mode & fc.O_PATH or (write and mode & 3 != fc.O_RDWR):
            self._report("donated something else than a regular file")
            raise LinuxError(errno.EIO, "donated fd")
        return host

    def keep_host(self, node: GoferInode) -> None:
        """Keep the node's host file open for later, as the one used last."""
        donated = self.donated
        donated[node.qid_path] = node
        donated.move_to_end(node.qid_path)
        if len(donated) > self.donated_limit:
            _, oldest = donated.popitem(last=False)
            oldest.uncached()

    # --- the superblock's own ---
    def statfs(self) -> Statfs:
        """The host's counters, in blocks of `block_size`. EIO: the Gofer is gone."""
        status = self.call(self.client.statfs, self.root_inode.handle())
        unit = max(status.block_size_bytes, 1)

        def blocks(count: int) -> int:
            return count * unit // DEFAULT_BLOCK_SIZE

        return Statfs(
            blocks(status.blocks),
            blocks(status.blocks_free),
            blocks(status.blocks_available),
            status.files,
            status.files_free,
            min(status.name_max_bytes, c.MAX_NAME_BYTES),
        )

    def sync(self) -> None:
        """syncfs(2): the host files that this sandbox has written and still has open."""
        for node in list(self.donated.values()):
            if node.host is not None and node.host.writable and node.host.fd >= 0:
                try:
                    os.fsync(node.host.fd)
                except OSError as error:
                    raise LinuxError(error.errno or errno.EIO, "syncfs") from None

    def release(self) -> None:
        """The last mount went: the caches go, open files keep their donated fds."""
        for node in list(self.donated.values()):
            node.uncached()
        self.donated.clear()
        for directory in list(self.caching.values()):
            directory.forget_children()
        for fid in self.dropped:
            self.client.clunk(fid)
        self.dropped = []
        self.client.flush_clunks()
        if self.owns_client:
            self.client.close()


def _shortened(records: dict[bytes, bytes]) -> dict[bytes, int]:
    """Number and type alone."""
    read = ((name, PATH_AND_MODE.unpack_from(record)) for name, record in records.items())
    return {name: (path & 0x7FFFFFFFFFFFFFFF or 1) << DT_SHIFT | mode >> 12 & 15 for name, (path, mode) in read}


def _type_of(child: Child) -> int:
    """DT_*, of what a listing brought; 0: there is none."""
    if isinstance(child, bytes):
        return int(PATH_AND_MODE.unpack_from(child)[1]) >> 12 & 15
    if isinstance(child, int):
        return child & 15
    return child.mode >> 12 & 15 if child is not None else 0


def make_gofer(
    kernel: Kernel,
    sock: socket.socket,
    *,
    aname: bytes = b"",
    policy: str = EXCLUSIVE,
    source: bytes = b"none",
    flags: int = 0,
    timeout_s: float | None = 30.0,
) -> GoferSuperblock:
    """Negotiate and attach on `sock` (a connected Unix stream, now owned by the result) and make the file system of it.

    ENOENT: no such export. EIO: no Gofer there, or none that speaks 9P2000.L.
    """
    client = P9Client(sock, timeout_s=timeout_s)
    try:
        client.negotiate()
    except (P9Error, ProtocolViolation):
        client.close()
        raise LinuxError(errno.EIO, "gofer: version") from None
    return GoferSuperblock(kernel, client, aname=aname, policy=policy, source=source, flags=flags, owns_client=True)

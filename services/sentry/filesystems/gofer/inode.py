"""Inodes of a Gofer's tree: attributes, the lookup cache, opening, and the changes to the tree.

What the Sentry knows of a remote file, and when it asks again, by the superblock's policy:

- `exclusive` (only this sandbox changes the tree): a name, present or absent, an attribute, a link's target and a
  complete listing are asked for once and stay true, because every change goes through here and is noted here;
- `revalidate` (the host changes it too): names are asked for at every lookup (the answer carries fresh attributes, so
  open, stat and access cost one round trip), attributes of open files at every stat.

`children` maps a name to an inode, to attributes as a listing brought them (an inode is made when somebody asks for the
name), to a number (a listing too large to keep attributes: inode number << 4 | DT_*), or to None (absent).
`complete`: every name is in it, others are absent.
A fid is a handle on the Gofer that an inode gets when it first needs one: from a lookup's walk, else by walking its
name from its parent. Handles of another epoch (the Gofer was restarted) are void and are walked again by the same
means, the qid proving that the file is still the same one. Invariant: the qid path of an inode never changes.
"""

from __future__ import annotations

import errno
import os
import stat as stat_mod
from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from protocol.abi import fcntl_h as fc
from protocol.p9 import constants as c
from protocol.p9.attributes import ATTRIBUTES, Attributes, SetAttributes
from services.sentry.errors import LinuxError
from services.sentry.filesystems.gofer.open_regular import GoferFile, HostFile, RemoteData
from services.sentry.filesystems.special_file import open_special
from services.sentry.vfs.directory_file import DirectoryFile, Listing
from services.sentry.vfs.inode import NOT_SHOWN, DirectoryEntry, Donated, Inode
from services.sentry.vfs.published import revoke

if TYPE_CHECKING:
    from services.sentry.filesystems.gofer.superblock import GoferSuperblock
    from services.sentry.kernel.credentials import Credentials
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["Ahead", "GoferInode"]

SECOND: Final = 1_000_000_000
Child: TypeAlias = "GoferInode | bytes | int | None"
"""What is known of a name: its inode; attributes as a listing brought them, not yet checked; number and type, see
DT_SHIFT; None: there is none."""
PATH_AND_MODE: Final = Struct("<13xQI")  # in attributes as they came (protocol/p9/attributes.py)
DT_SHIFT: Final = 4
MAX_DEPTH: Final = 2048  # components of the longest path
FID_LIMIT: Final = 16384  # handles held at once; a Gofer spends a host fd on each
_UNKNOWN: Final = object()


class Ahead:
    """What is fetched beforehand when a program goes through a directory: subdirectories listed, or files opened.

    `width` is how many go with the next one that is asked for: none with the first, then twice as many each time.
    `unused`: files opened beforehand that nobody opened since; while there are any, no more are.
    `first`: the name with which it began; with it another walk through the directory begins.
    """

    __slots__ = ("first", "names", "unused", "width")

    def __init__(self, names: list[bytes], first: bytes) -> None:
        self.first = first
        names.reverse()
        self.names = names
        self.width = 0
        self.unused: set[bytes] = set()


class GoferInode(Inode):
    """See the module docstring. `host`: the donated file, kept open while the superblock's small cache holds it.

    dirty   writes went to the host file since the attributes were last true; the host fd tells (fstat), no round trip.
    """

    __slots__ = (
        "ahead",
        "children",
        "complete",
        "dirty",
        "epoch",
        "fid",
        "gofer",
        "host",
        "listing",
        "mapped",
        "name",
        "opening",
        "parent",
        "qid_path",
        "target",
        "touched",
    )

    def __init__(self, gofer: GoferSuperblock, attributes: Attributes, parent: GoferInode | None, name: bytes) -> None:
        # Inode.__init__ is not called: it would set every slot twice
        self.superblock = gofer
        self.gofer = gofer
        self.qid_path = attributes.qid_path
        self.ino = attributes.qid_path & 0x7FFFFFFFFFFFFFFF or 1
        self.parent = parent
        self.name = name
        self.fid = c.NOFID
        self.epoch = 0
        self.shown = NOT_SHOWN
        self.locks = self.pipe = self.socket = self.watches = self.published = None
        self.open_files = self.writers = self.deny_write = 0
        self.host: HostFile | RemoteData | None = None
        self.dirty = self.mapped = False
        self.target: bytes | None = None
        self.children: dict[bytes, Child] | None = None
        self.listing: Listing | None = None
        self.ahead: Ahead | None = None
        self.opening: Ahead | None = None
        self.complete = False
        self.touched = False
        self.show(attributes)

    def __del__(self) -> None:
        fid = getattr(self, "fid", c.NOFID)
        if fid != c.NOFID and self.epoch == self.gofer.epoch:
            self.gofer.drop_fid(fid)

    def show(self, attributes: Attributes) -> None:
        """Make the attribute slots say what the Gofer said."""
        (
            _valid,
            _kind,
            _version,
            _path,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.rdev,
            self.size,
            _block_size,
            self.blocks,
            atime,
            atime_nsec,
            mtime,
            mtime_nsec,
            ctime,
            ctime_nsec,
            btime,
            btime_nsec,
            _generation,
            _data_version,
        ) = attributes
        self.atime_ns = atime * SECOND + atime_nsec
        self.mtime_ns = mtime * SECOND + mtime_nsec
        self.ctime_ns = ctime * SECOND + ctime_nsec
        self.btime_ns = btime * SECOND + btime_nsec
        self.shown[0] = None

    # --- handles ---
    def handle(self) -> int:
        """A fid for this file. ESTALE: its name now leads to another file, or it has none. EIO: the Gofer is gone."""
        gofer = self.gofer
        base, names = self.nearest()
        if not names:
            return base
        fid, steps, target = gofer.walk(base, names)
        self.hold_if_same(fid, steps[-1])
        if target and self.is_symlink:
            self._take_target(target)
        return self.fid

    def nearest(self) -> tuple[int, list[bytes]]:
        """The closest fid at or above this file, and the names to walk from there (none: it is this file's).

        EIO: the Gofer is gone. ESTALE: the names run in a circle.
        """
        gofer = self.gofer
        if gofer.client.gone:
            gofer.revive()
        chain: list[GoferInode] = []
        node: GoferInode = self
        while node.fid == c.NOFID or node.epoch != gofer.epoch:
            if node.parent is None or len(chain) == MAX_DEPTH:
                raise LinuxError(errno.ESTALE, "no way to the file by names")
            chain.append(node)
            node = node.parent
        while len(chain) > c.MAX_WALK_NAMES:  # what fits one walk at a time, from the top
            hop = chain[-c.MAX_WALK_NAMES]
            fid, steps, _ = gofer.walk(node.fid, [below.name for below in chain[: -c.MAX_WALK_NAMES - 1 : -1]])
            hop.hold_if_same(fid, steps[-1])
            node = hop
            del chain[-c.MAX_WALK_NAMES :]
        return node.fid, [below.name for below in reversed(chain)]

    def hold_if_same(self, fid: int, reached: Attributes) -> None:
        """Take over what a walk by name reached. ESTALE: it is another file now."""
        if reached.qid_path != self.qid_path:
            self.gofer.drop_fid(fid)
            raise LinuxError(errno.ESTALE, "the name leads to another file now")
        self.hold(fid)

    def hold(self, fid: int) -> None:
        """Take over a fid that leads here; one is enough."""
        gofer = self.gofer
        if self.fid != c.NOFID and self.epoch == gofer.epoch:
            gofer.drop_fid(fid)
            return
        self.fid = fid
        self.epoch = gofer.epoch
        gofer.holders[fid] = self

    def let_go(self) -> bool:
        """Give the fid up if the name leads here again whenever one is needed. Whether it went."""
        if self.parent is None or self.nlink == 0 or self.fid == c.NOFID:
            return False
        if self.epoch == self.gofer.epoch:
            self.gofer.drop_fid(self.fid)
        self.fid = c.NOFID
        return True

    # --- attributes ---
    def donated(self) -> Donated | None:
        """Its times on the host are not this sandbox's concern."""
        host = self.host
        return None if host is None or host.fd < 0 or self.gofer.revalidates else host

    def stat_cell(self) -> list[bytes | None] | None:
        """None: the host file is asked at every stat, or the Gofer is."""
        return None if self.dirty or self.published or self.gofer.revalidates else self.own_cell()

    def refresh(self) -> None:
        """As Inode.refresh. One fstat on the donated fd after writes; a round trip only under `revalidate`."""
        if self.dirty:
            self.refresh_size()
        elif self.gofer.revalidates and not self.gofer.is_fresh(self):
            gofer = self.gofer
            attributes = gofer.checked(gofer.call(gofer.client.getattr, self.handle()))
            if attributes.qid_path != self.qid_path or attributes.mode & 0o170000 != self.mode & 0o170000:
                raise LinuxError(errno.ESTALE, "the file was replaced")
            self.show(attributes)

    def refresh_size(self) -> None:
        """Make size and times true after writes here (or by others, under `revalidate`)."""
        host = self.host
        if not self.dirty and not self.gofer.revalidates:
            return
        if host is None or host.fd < 0:
            self.dirty = False
            gofer = self.gofer
            self.show(gofer.checked(gofer.call(gofer.client.getattr, self.handle())))
            return
        status = os.fstat(host.fd)
        self.mode = self.mode & 0o170000 | status.st_mode & 0o7777
        self.size = status.st_size
        self.blocks = status.st_blocks
        self.atime_ns = status.st_atime_ns
        self.mtime_ns = status.st_mtime_ns
        self.ctime_ns = status.st_ctime_ns
        self.shown[0] = None
        self.dirty = self.mapped

    def current_size(self) -> int:
        """The size now; no host call when only this sandbox writes."""
        if self.gofer.revalidates:
            self.refresh_size()
        return self.size

    def written(self, end: int) -> None:
        """Data up to `end` was written to the host file."""
        self.dirty = True
        self.shown[0] = None
        if end > self.size:
            self.size = end

    def mapped_shared(self) -> None:
        """A writable shared mapping may exist: size and times are asked of the host from now on."""
        self.mapped = self.dirty = True
        self.shown[0] = None

    def reload(self) -> None:
        """Ask for all attributes (after a change that the Gofer made)."""
        gofer = self.gofer
        self.show(gofer.checked(gofer.call(gofer.client.getattr, self.handle())))

    def set_attributes(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
    ) -> None:
        """As Inode.set_attributes. EROFS, EPERM: the Gofer refuses. ctime cannot be chosen: it becomes now."""
        if size is not None and self.published:
            revoke(self)
        if size is not None and self.host is not None and self.host.fd >= 0 and self.host.writable:
            self._truncate_here(self.host.fd, size)
            size = mtime_ns = None  # the host sets the time of the change
        change = SetAttributes()
        if mode is not None:
            change.valid |= c.SETATTR_MODE
            change.mode = mode & 0o7777
        if uid is not None:
            change.valid |= c.SETATTR_UID
            change.uid = uid
        if gid is not None:
            change.valid |= c.SETATTR_GID
            change.gid = gid
        if size is not None:
            change.valid |= c.SETATTR_SIZE
            change.size_bytes = size
        if atime_ns is not None:
            change.valid |= c.SETATTR_ATIME | c.SETATTR_ATIME_SET
            change.atime_sec, change.atime_nsec = divmod(atime_ns, SECOND)
        if mtime_ns is not None:
            change.valid |= c.SETATTR_MTIME | c.SETATTR_MTIME_SET
            change.mtime_sec, change.mtime_nsec = divmod(mtime_ns, SECOND)
        if not change.valid:
            return
        gofer = self.gofer
        gofer.call(gofer.client.setattr, self.handle(), change)
        self.reload()

    def _truncate_here(self, fd: int, size: int) -> None:
        """By the donated fd, without a round trip."""
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            raise LinuxError(error.errno or errno.EIO, "donated host file") from None
        self.size = size
        self.dirty = True
        self.shown[0] = None

    # --- directories ---
    def lookup(self, name: bytes) -> Inode:
        """The child called `name`. ENOENT: none. EIO: the Gofer is gone or lies."""
        children = self.children
        if children is not None and not self.gofer.revalidates:
            child = children.get(name)
            if type(child) is GoferInode:
                self.touched = True
                return cast(Inode, child)
            if self.known(name) is None:
                raise LinuxError(errno.ENOENT)
        found = self.lookup_path([name])
        if not found:
            raise LinuxError(errno.ENOENT)
        return found[0]

    def lookup_path(self, names: list[bytes]) -> list[Inode]:
        """The inodes of `names`, each below the one before, as far as they exist: at most one round trip.

        Shorter than `names` when a name is absent (that is remembered: the next lookup of it says ENOENT at no cost) or
        when what stands there is no directory (a symbolic link: follow it, then go on). [] means the first is absent.
        """
        gofer = self.gofer
        found: list[Inode] = []
        at = self
        if not gofer.revalidates:
            for name in names:
                child = at.known(name)
                if type(child) is not GoferInode:
                    if child is None:
                        return found
                    break
                at = child
                found.append(at)
                if not at.is_dir:
                    return found
        rest = names[len(found) : len(found) + c.MAX_WALK_NAMES]
        if not rest:
            return found
        if len(gofer.holders) > FID_LIMIT:
            gofer.shed_fids()
        newfid, walk = gofer.walk_from(at, rest)
        for name, step in zip(rest, walk.steps, strict=False):
            at = at.adopt(name, gofer.checked(step))
            found.append(at)
        if not walk.errno:
            if at.is_dir or gofer.revalidates:
                at.hold(newfid)
            else:
                gofer.drop_fid(newfid)  # opening goes by the parent and the name
        if walk.target and at.is_symlink:
            at._take_target(walk.target)
        if walk.errno == errno.ENOENT and len(walk.steps) < len(rest):
            at.remember_absent(rest[len(walk.steps)])
        elif walk.errno not in (0, errno.ENOTDIR, errno.ELOOP) or (walk.errno and not found and at.is_dir):
            if not found:
                raise gofer.refusal(walk.errno)
        return found

    def known(self, name: bytes) -> object:
        """What is known of `name` without asking: an inode, None (absent), or something else (unknown)."""
        children = self.children
        if children is None:
            return _UNKNOWN
        self.touched = True
        child = children.get(name, _UNKNOWN)
        if child is _UNKNOWN:
            return None if self.complete else _UNKNOWN
        if type(child) is bytes:
            return self.adopt(name, self.gofer.checked(Attributes._make(ATTRIBUTES.unpack(child))))
        return _UNKNOWN if type(child) is int else child

    def adopt(self, name: bytes, attributes: Attributes) -> GoferInode:
        """The inode of these attributes, now known as our child `name`."""
        child = self.gofer.inode_of(attributes, self, name)
        self.remember(name, child)
        return child

    def remember(self, name: bytes, child: Child) -> None:
        """Note what `name` is. The superblock bounds how much is remembered."""
        children = self.children
        if children is None:
            children = self.children = {}
            self.gofer.caching[self.qid_path] = self
        if name not in children:
            self.gofer.count_cached(self)
        self.touched = True
        children[name] = child

    def remember_absent(self, name: bytes) -> None:
        """Note that there is no `name`."""
        if not self.gofer.revalidates and not self.complete:
            self.remember(name, None)

    def forget_children(self) -> None:
        """Drop the cache of names. Inodes in use elsewhere stay, and are found again by qid."""
        self.gofer.cached -= len(self.children or ())
        self.children = None
        self.listing = None
        self.ahead = self.opening = None
        self.complete = False
        self.gofer.caching.pop(self.qid_path, None)

    def keep_listing(self, listing: Listing | None) -> bool:
        """False: the host changes the directory too."""
        if self.gofer.revalidates:
            return False
        self.listing = listing
        return True

    def entries(self, start: int) -> Iterator[tuple[int, DirectoryEntry]]:
        """As Inode.entries. A listing brings attributes, so the stats that follow cost no round trip."""
        if not self.complete or (self.gofer.revalidates and start == 0):
            self.gofer.list_directory(self)
        unpack = PATH_AND_MODE.unpack_from
        for cookie, (name, child) in enumerate(list((self.children or {}).items())[start:], start + 1):
            if type(child) is bytes:
                path, mode = unpack(child)
                yield cookie, (name, path & 0x7FFFFFFFFFFFFFFF or 1, mode >> 12 & 15)
            elif type(child) is GoferInode:
                yield cookie, (name, child.ino, child.mode >> 12 & 15)
            elif child is not None:
                number = cast(int, child)
                yield cookie, (name, number >> DT_SHIFT, number & 15)

    # --- changes to the tree: the Gofer does them, the caches follow ---
    def _made(self, name: bytes, attributes: Attributes, mode: int, cred: Credentials) -> GoferInode:
        """The inode of what was just made here, given to whom it belongs (inode_init_owner())."""
        gofer = self.gofer
        child = self.adopt(name, gofer.checked(attributes))
        self.listing = None
        gid = self.gid if self.mode & stat_mod.S_ISGID else cred.fsgid
        wanted = mode & 0o7777 | (stat_mod.S_ISGID if child.is_dir and self.mode & stat_mod.S_ISGID else 0)
        if child.uid != cred.fsuid or child.gid != gid or (child.mode & 0o7777 != wanted and not child.is_symlink):
            change = SetAttributes(c.SETATTR_UID | c.SETATTR_GID, uid=cred.fsuid, gid=gid)
            if not child.is_symlink:
                change.valid |= c.SETATTR_MODE
                change.mode = wanted
            try:
                gofer.call(gofer.client.setattr, child.handle(), change)
                child.reload()
            except LinuxError as error:
                if error.errno != errno.EPERM:  # a Gofer that is not root owns what it makes
                    raise
        self.reload()
        return child

    def create(self, name: bytes, mode: int, cred: Credentials, rdev: int = 0) -> Inode:
        """As Inode.create. EROFS, ENOSPC, EPERM (device nodes): the Gofer refuses."""
        gofer = self.gofer
        client = gofer.client
        if not stat_mod.S_ISREG(mode):
            gofer.call(client.mknod, self.handle(), name, mode, os.major(rdev), os.minor(rdev))
            return self._made(name, gofer.ask(self, name), mode, cred)
        newfid = client.new_fid()
        made = gofer.call(client.create, self.handle(), newfid, name, c.L_CREATE | c.L_EXCL | fc.O_RDWR, mode & 0o7777)
        host = gofer.accept_host(newfid, made.fd, True)
        child = self._made(name, made.attributes, mode, cred)
        child.host = host
        gofer.keep_host(child)
        return child

    def mkdir(self, name: bytes, mode: int, cred: Credentials) -> Inode:
        gofer = self.gofer
        gofer.call(gofer.client.mkdir, self.handle(), name, mode & 0o7777)
        return self._made(name, gofer.ask(self, name), mode, cred)

    def symlink(self, name: bytes, target: bytes, cred: Credentials) -> Inode:
        gofer = self.gofer
        gofer.call(gofer.client.symlink, self.handle(), name, target)
        child = self._made(name, gofer.ask(self, name), 0o777, cred)
        child.target = target
        return child

    def link(self, name: bytes, target: Inode) -> None:
        gofer, node = self.gofer, cast(GoferInode, target)
        gofer.call(gofer.client.link, self.handle(), node.handle(), name)
        self.remember(name, node)
        self.listing = None
        node.reload()
        self.reload()

    def unlink(self, name: bytes, child: Inode) -> None:
        self._remove(name, cast(GoferInode, child), 0)

    def rmdir(self, name: bytes, child: Inode) -> None:
        """ENOTEMPTY if it has entries."""
        self._remove(name, cast(GoferInode, child), c.UNLINK_REMOVEDIR)

    def _remove(self, name: bytes, child: GoferInode, flags: int) -> None:
        gofer = self.gofer
        child.keep_reachable()
        gofer.call(gofer.client.unlinkat, self.handle(), name, flags)
        self._gone(name)
        child.lost_name(self, name)
        self.reload()

    def _gone(self, name: bytes) -> None:
        """`name` leads nowhere any more."""
        self.listing = None
        if self.children is not None and name in self.children:
            self.children[name] = None
        else:
            self.remember_absent(name)

    def keep_reachable(self) -> None:
        """Get a fid while the name is still there, if the file will outlive it."""
        if self.open_files or self.nlink > 1:
            self.handle()

    def lost_name(self, parent: GoferInode, name: bytes) -> None:
        """The name (parent, name) of this file went."""
        gofer = self.gofer
        if self.is_dir or self.nlink <= 1:
            self.nlink = 0
            self.shown[0] = None
            self.forget_children()
            gofer.donated.pop(self.qid_path, None)
            if gofer.inodes.get(self.qid_path) is self:
                del gofer.inodes[self.qid_path]  # the host may give its number to another file
            if not self.open_files:
                self.host = None
        else:
            self.reload()

    def rename(
        self, name: bytes, child: Inode, new_dir: Inode, new_name: bytes, replaced: Inode | None, flags: int
    ) -> None:
        """As Inode.rename. EINVAL: flags that 9P cannot carry (RENAME_EXCHANGE, RENAME_WHITEOUT)."""
        if flags & ~1:
            raise LinuxError(errno.EINVAL, "rename flags")
        gofer = self.gofer
        node, target, victim = cast(GoferInode, child), cast(GoferInode, new_dir), cast("GoferInode | None", replaced)
        if victim is not None:
            victim.keep_reachable()
        gofer.call(gofer.client.renameat, self.handle(), name, target.handle(), new_name)
        if victim is node:
            return
        self._gone(name)
        if victim is not None:
            victim.lost_name(target, new_name)
        node.parent, node.name = target, new_name
        target.remember(new_name, node)
        target.listing = None
        node.reload()
        self.reload()
        if target is not self:
            target.reload()

    # --- symbolic links ---
    def readlink(self) -> bytes:
        """The target, asked for once (a link's text cannot change). EINVAL: no link."""
        target = self.target
        if target is None:
            if not self.is_symlink:
                raise LinuxError(errno.EINVAL)
            gofer = self.gofer
            fid = self.handle()
            target = self.known_target()  # a walk to a link brings its text
            if target is None:
                target = gofer.call(gofer.client.readlink, fid)
                self._take_target(target)
        return target

    def known_target(self) -> bytes | None:
        return self.target

    def _take_target(self, target: bytes) -> None:
        if not 0 < len(target) < c.MAX_STRING_BYTES or b"\0" in target:
            raise LinuxError(errno.EIO, "link text")
        self.target = target

    # --- contents ---
    def open_data(self, flags: int) -> OpenFile:
        """As Inode.open_data. No round trip while the donated fd is cached. EACCES, EROFS, EIO: the Gofer refuses."""
        write = flags & fc.O_ACCMODE != fc.O_RDONLY
        host = self.host
        if host is None or (write and not host.writable):
            host = self.gofer.open_host(self, write)
        else:
            self.gofer.keep_host(self)
            parent = self.parent
            if parent is not None and parent.opening is not None:
                parent.opening.unused.discard(self.name)
        return GoferFile(self, flags, host)

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        """As Inode.open."""
        kind = self.mode & 0o170000
        if kind == stat_mod.S_IFREG:
            return self.open_data(flags)
        if kind == stat_mod.S_IFDIR:
            return DirectoryFile(self, flags, dentry)
        return open_special(self, dentry, flags, task)

    def closed(self) -> None:
        """The last open file goes, and with it a host file that is not cached."""
        if self.dirty and self.nlink:
            self.refresh_size()
        self.host = None

    def uncached(self) -> None:
        """The cache of host files dropped this one's; open files keep it."""
        if not self.open_files:
            if self.dirty:
                self.refresh_size()
            self.mapped = self.dirty = False
            self.host = None

    # --- extended attributes ---
    def get_xattr(self, name: bytes) -> bytes:
        """ENODATA: there is none of that name."""
        gofer = self.gofer
        return gofer.call(gofer.client.xattr_get, self.handle(), name)

    def list_xattr(self) -> list[bytes]:
        gofer = self.gofer
        return [name for name in gofer.call(gofer.client.xattr_list, self.handle()) if len(name) <= 255]

    def set_xattr(self, name: bytes, value: bytes, flags: int) -> None:
        """EEXIST, ENODATA: as the flags ask."""
        gofer = self.gofer
        gofer.call(gofer.client.xattr_set, self.handle(), name, value, flags)
        self.reload()

    def remove_xattr(self, name: bytes) -> None:
        """ENODATA: there is none of that name."""
        gofer = self.gofer
        gofer.call(gofer.client.xattr_remove, self.handle(), name)
        self.reload()

"""One devpts instance: its pairs by number, its options, its root (Linux Documentation/filesystems/devpts.rst).

Owns which numbers are in use. The first instance of a sandbox also shows the console as number 0, so that ttyname(3)
works on the standard streams.
"""

from __future__ import annotations

import errno
import os
import stat as stat_mod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocol.abi.dirent_h import DT_CHR
from services.sentry.devices.terminal.openers import open_ptmx
from services.sentry.devices.terminal.pty_pair import SLAVE_MAJOR, MasterFile, PtyPair
from services.sentry.devices.terminal.terminal_file import open_terminal
from services.sentry.devices.terminal.terminals import Terminals
from services.sentry.errors import LinuxError
from services.sentry.filesystems.synthetic import DynamicDir, Node, SyntheticSuperblock

if TYPE_CHECKING:
    from services.sentry.devices.terminal.terminal import Terminal
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.vfs.dentry import Dentry
    from services.sentry.vfs.inode import DirectoryEntry, Inode
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["DevptsSuperblock", "SlaveNode"]

MAGIC: Final = 0x1CD1
ROOT_INO: Final = 1
PTMX_INO: Final = 2
FIRST_INO: Final = 3
MAX_PTYS: Final = 4096  # /proc/sys/kernel/pty/max
PTMX_DEVICE: Final = os.makedev(5, 2)


class SlaveNode(Node):
    """/dev/pts/N."""

    __slots__ = ("terminal",)

    def __init__(self, superblock: DevptsSuperblock, index: int, terminal: Terminal, uid: int, gid: int) -> None:
        mode = stat_mod.S_IFCHR | superblock.mode
        super().__init__(superblock, mode, uid=uid, gid=gid, ino=FIRST_INO + index, fixed=False)
        self.rdev = os.makedev(SLAVE_MAJOR, index)
        self.terminal = terminal

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return open_terminal(self, flags, task, self.terminal)


class PtmxNode(Node):
    """/dev/pts/ptmx."""

    __slots__ = ()

    def __init__(self, superblock: DevptsSuperblock, mode: int) -> None:
        super().__init__(superblock, stat_mod.S_IFCHR | mode, ino=PTMX_INO, fixed=False)
        self.rdev = PTMX_DEVICE

    def open(self, dentry: Dentry, flags: int, task: Task) -> OpenFile:
        return open_ptmx(self, dentry, flags, task)


class DevptsSuperblock(SyntheticSuperblock):
    """Options: uid, gid, mode (0600), ptmxmode (0), max, newinstance (ignored)."""

    __slots__ = ("gid", "limit", "mode", "nodes", "ptmx", "ptmx_mode", "reserved", "uid")

    def __init__(self, kernel: Kernel, source: bytes, flags: int, options: bytes) -> None:
        super().__init__(kernel, b"devpts", MAGIC, source=source or b"devpts", flags=flags, dynamic=True)
        self.block_size = 1024
        self.uid: int | None = None
        self.gid: int | None = None
        self.mode = 0o600
        self.ptmx_mode = 0
        self.limit = MAX_PTYS
        self._parse(options)
        self.nodes: dict[int, SlaveNode] = {}
        self.reserved: set[int] = set()  # numbers of pairs that may still be open somewhere
        self.ptmx = PtmxNode(self, self.ptmx_mode)
        self.set_root(DynamicDir(self, self._find, self._names, 0o755, ino=ROOT_INO))
        terminals = kernel.part(Terminals)
        if terminals.devpts is None:
            terminals.devpts = self
            if terminals.console is not None:
                self.show(0, terminals.console, 0, 0)

    def _parse(self, options: bytes) -> None:
        """EINVAL: an unknown option or a bad number."""
        for option in options.split(b","):
            name, _, value = option.partition(b"=")
            try:
                if name == b"uid":
                    self.uid = int(value)
                elif name == b"gid":
                    self.gid = int(value)
                elif name == b"mode":
                    self.mode = int(value, 8) & 0o777
                elif name == b"ptmxmode":
                    self.ptmx_mode = int(value, 8) & 0o777
                elif name == b"max":
                    self.limit = min(int(value), 1 << 20)
                elif name not in (b"", b"newinstance"):
                    raise LinuxError(errno.EINVAL, f"devpts option {name!r}")
            except ValueError:
                raise LinuxError(errno.EINVAL, f"devpts option {option!r}") from None

    def remount(self, flags: int, options: bytes) -> None:
        self._parse(options)
        self.ptmx.mode = stat_mod.S_IFCHR | self.ptmx_mode
        super().remount(flags, options)

    def show_options(self) -> bytes:
        owner = b",uid=%d" % self.uid if self.uid is not None else b""
        group = b",gid=%d" % self.gid if self.gid is not None else b""
        return b"%b%b,mode=%03o,ptmxmode=%03o" % (owner, group, self.mode, self.ptmx_mode)

    # --- the root directory ---
    def _find(self, name: bytes) -> Inode | None:
        if name == b"ptmx":
            return self.ptmx
        if not name.isdigit() or (name[:1] == b"0" and len(name) > 1):
            return None
        return self.nodes.get(int(name))

    def _names(self) -> Iterator[DirectoryEntry]:
        yield b"ptmx", PTMX_INO, DT_CHR
        for index in sorted(self.nodes):
            yield b"%d" % index, FIRST_INO + index, DT_CHR

    def show(self, index: int, terminal: Terminal, uid: int, gid: int) -> SlaveNode:
        """List `terminal` as number `index`."""
        self.reserved.add(index)
        node = self.nodes[index] = SlaveNode(self, index, terminal, uid, gid)
        return node

    # --- pairs ---
    def open_master(self, inode: Inode, flags: int, task: Task) -> MasterFile:
        """A new pair, its master open. ENOSPC: too many."""
        index = 0
        while index in self.reserved:
            index += 1
        if index >= self.limit:
            raise LinuxError(errno.ENOSPC, "too many ptys")
        pair = PtyPair(self.kernel, index, self._gone)
        cred = task.cred
        uid = cred.fsuid if self.uid is None else self.uid
        gid = cred.fsgid if self.gid is None else self.gid
        node = self.show(index, pair, uid, gid)

        def open_peer(opener: Task, peer_flags: int) -> OpenFile:
            file = open_terminal(node, peer_flags, opener, pair)
            self._give_path(file, index, opener)
            return file

        master = MasterFile(inode, flags, pair, open_peer)
        pair.hidden = lambda: self._hide(index, node)
        return master

    def _hide(self, index: int, node: SlaveNode) -> None:
        if self.nodes.get(index) is node:
            del self.nodes[index]

    def _gone(self, pair: PtyPair) -> None:
        self.nodes.pop(pair.index, None)
        self.reserved.discard(pair.index)

    def _give_path(self, file: OpenFile, index: int, task: Task) -> None:
        """TIOCGPTPEER's file is named by its place below /dev/pts, if this instance is mounted there."""
        from services.sentry.vfs.path_walk import walk

        try:
            path = walk(task, task.fs.root, b"/dev/pts/%d" % index)
        except LinuxError:
            return
        if path.mount.superblock is self:
            file.path = path

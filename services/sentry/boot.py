"""Building a sandbox from its configuration: the mount tree, the first task with its descriptors, its start.

Called by app.py before the seal (but `begin`). Does not touch the platform.
"""

from __future__ import annotations

import errno
import importlib
import os
import socket
from typing import TYPE_CHECKING, Any

from protocol.abi.fcntl_h import O_WRONLY
from protocol.abi.limits import MAXSYMLINKS
from protocol.abi.signal_h import NSIG, SIG_IGN
from protocol.errors import ProtocolViolation
from protocol.p9.client import P9Client
from protocol.p9.conversation import P9Error
from protocol.records import replace
from services.sentry.devices.terminal import host_terminal
from services.sentry.errors import LinuxError, explain
from services.sentry.files.host_file import open_host_file
from services.sentry.filesystems.gofer.superblock import GoferSuperblock
from services.sentry.filesystems.overlay.superblock import make_overlay
from services.sentry.filesystems.registry import TYPES, make_superblock
from services.sentry.kernel.credentials import Credentials
from services.sentry.kernel.execute import start_init
from services.sentry.kernel.signals import UNBLOCKABLE, SigAction, SigInfo, send_signal_group
from services.sentry.vfs import operations
from services.sentry.vfs.fs_context import FsContext
from services.sentry.vfs.mounts import MountNamespace
from services.sentry.vfs.opening import open_existing
from services.sentry.vfs.path_walk import Path, walk

if TYPE_CHECKING:
    from protocol.control.config import MountSpec, SentryConfig, SentryFds
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.kernel.waiter import Outcome
    from services.sentry.vfs.superblock import Superblock

__all__ = ["begin", "cover_files", "import_filesystems", "make_init", "make_mounts", "signal_init"]

_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096
_ROOT = Credentials.for_user(0, 0)


def import_filesystems() -> None:
    """Import every file system now: nothing can be imported once the root is empty."""
    for row in TYPES.values():
        importlib.import_module(f"services.sentry.filesystems.{row.module}")


# --- mounts ---
class _Mounter:
    """Makes the mounts of one configuration over one Gofer connection."""

    def __init__(self, kernel: Kernel, fds: SentryFds) -> None:
        self.kernel = kernel
        self.client = P9Client(socket.socket(fileno=fds.gofer))
        try:
            self.client.negotiate()
        except (P9Error, ProtocolViolation):
            raise LinuxError(errno.EIO, "the gofer does not speak 9P2000.L") from None
        kernel.files_lost = lambda: self.client.gone

    def superblock(self, spec: MountSpec) -> Superblock:
        if spec.type != "gofer":
            return make_superblock(self.kernel, spec.type.encode(), spec.source, spec.flags, spec.options)
        lower = GoferSuperblock(self.kernel, self.client, aname=spec.source, source=spec.source)
        if not spec.overlay:
            return lower
        upper = make_superblock(self.kernel, b"tmpfs", b"overlay", 0, b"mode=755")
        return make_overlay(self.kernel, [lower], upper)


def _make_target(task: Task, destination: bytes, directory: bool) -> Path:
    """The mount point, made with what leads to it where it is missing."""
    root = task.fs.root
    parts = [part for part in destination.split(b"/") if part]
    for k in range(1, len(parts) + 1):
        name = b"/" + b"/".join(parts[:k])
        try:
            walk(task, root, name)
        except LinuxError as error:
            if error.errno != errno.ENOENT:
                raise
            if k == len(parts) and not directory:
                operations.make_node(task, root, name, 0o100644, 0)
            else:
                operations.make_directory(task, root, name, 0o755)
    return walk(task, root, destination)


def make_mounts(kernel: Kernel, config: SentryConfig, fds: SentryFds) -> MountNamespace:
    """The mount tree. LinuxError names the destination that failed."""
    mounter = _Mounter(kernel, fds)
    first, *others = config.mounts
    namespace = MountNamespace(mounter.superblock(first), first.flags)
    kernel.mounts = namespace
    root = namespace.root_path()
    task = kernel.new_init(_ROOT, FsContext(namespace, root, root, 0))
    for spec in others:
        try:
            superblock = mounter.superblock(spec)
            inode = superblock.root.inode
            where = _make_target(task, spec.destination, inode is None or inode.is_dir)
            namespace.mount(superblock, where, spec.flags, spec.source)
        except LinuxError as error:
            why = f"{spec.destination.decode(errors='replace')} ({spec.type})"
            raise LinuxError(error.errno, f"{why}: {error.why}" if error.why else why) from None
    cover_files(kernel, task, namespace, config)
    _restrict(kernel, task, namespace, config)
    return namespace


def cover_files(kernel: Kernel, task: Task, namespace: MountNamespace, config: SentryConfig) -> None:
    """Bind files of a small tmpfs over (or into) the root: config.files. One that cannot be put there is logged only:
    a read-only root without the file, a path through something that is no directory."""
    if not config.files:
        return
    tmpfs = make_superblock(kernel, b"tmpfs", b"tmpfs", 0, b"mode=755,size=16m")
    inside = Path(namespace.new_mount(tmpfs, tmpfs.root, 0, b"tmpfs"), tmpfs.root)
    for number, (destination, contents) in enumerate(config.files):
        name = b"%d" % number
        try:
            where = _make_target(task, _real_name(task, destination), directory=False)
            operations.make_node(task, inside, name, 0o100644, 0)
            source = walk(task, inside, name)
            file = open_existing(task, source, O_WRONLY)
            file.write(contents)
            file.add_reference().close_reference()
            namespace.bind(source, where, recursive=False)
        except LinuxError as error:
            kernel.log.warning("%s stays as it is: %s", destination.decode(errors="replace"), explain(error))


def _real_name(task: Task, name: bytes) -> bytes:
    """`name`, or where symbolic links lead it, so that a dangling one can be given its file."""
    for _ in range(MAXSYMLINKS):
        try:
            inode = walk(task, task.fs.root, name, follow_last=False).dentry.inode
        except LinuxError:
            break
        if inode is None or inode.mode & 0o170000 != 0o120000:
            break
        name = os.path.normpath(os.path.join(os.path.dirname(name), inode.readlink()))
    return name


def _restrict(kernel: Kernel, task: Task, namespace: MountNamespace, config: SentryConfig) -> None:
    """readonlyPaths and maskedPaths of the OCI runtime specification; those that do not exist are left out."""
    for name in config.readonly_paths:
        try:
            path = walk(task, task.fs.root, name)
        except LinuxError:
            continue
        mount = namespace.bind(path, path, recursive=True)
        namespace.remount(mount, mount.flags | _MS_RDONLY)
    null: Superblock | None = None
    for name in config.masked_paths:
        try:
            path = walk(task, task.fs.root, name)
        except LinuxError:
            continue
        inode = path.dentry.inode
        if inode is not None and inode.is_dir:
            cover = make_superblock(kernel, b"tmpfs", b"tmpfs", 0, b"size=0,mode=755")
            namespace.mount(cover, path, _MS_RDONLY, b"tmpfs")
        else:
            null = null or make_superblock(kernel, b"devtmpfs", b"devtmpfs", 0, b"")
            namespace.bind(_inside(namespace, null, b"null"), path, recursive=False)


def _inside(namespace: MountNamespace, superblock: Superblock, name: bytes) -> Path:
    mount = namespace.new_mount(superblock, superblock.root, 0, superblock.source)
    return Path(mount, superblock.root.lookup(name))


# --- the first task ---
def make_init(kernel: Kernel, config: SentryConfig, fds: SentryFds, namespace: MountNamespace) -> Task:
    """Pid 1 with its credentials, limits, working directory and descriptors; it does not run yet."""
    task = kernel.init_group.leader
    _open_streams(kernel, task, config, fds)
    capabilities = config.capabilities
    task.cred = replace(
        Credentials.for_user(config.uid, config.gid, tuple(config.additional_gids)),
        cap_permitted=capabilities.permitted,
        cap_effective=capabilities.effective,
        cap_inheritable=capabilities.inheritable,
        cap_bounding=capabilities.bounding,
        cap_ambient=capabilities.ambient,
    )
    for number, limit in config.rlimits.items():
        task.group.rlimits[number] = limit
    task.files.limit = task.group.rlimits[7][0]
    task.signal_mask = config.blocked_signals & ~UNBLOCKABLE
    for number in range(1, NSIG + 1):
        if config.ignored_signals >> (number - 1) & 1:
            task.group.sighand.set(number, SigAction(SIG_IGN))
    task.nice = config.nice
    task.no_new_privs = config.no_new_privileges
    if config.oom_score_adj is not None:
        task.group.oom_score_adj = config.oom_score_adj
    task.uts.domainname = config.domainname
    try:
        cwd = walk(task, task.fs.root, config.cwd)
    except LinuxError as error:
        raise LinuxError(error.errno, f"working directory {config.cwd.decode(errors='replace')}") from None
    task.fs = FsContext(namespace, task.fs.root, cwd, config.umask)
    return task


def _open_streams(kernel: Kernel, task: Task, config: SentryConfig, fds: SentryFds) -> None:
    streams: list[tuple[int, int | None]] = list(enumerate(fds.stdio))
    streams += sorted(fds.extra.items())
    terminals = [fd for _, fd in streams if fd is not None and os.isatty(fd)] if config.terminal else []
    if terminals:
        console = fds.console if fds.console is not None else terminals[0]
        attached = host_terminal.attach(kernel, console, config.terminal_foreground)
        if config.console_size is not None:
            attached.resize(*config.console_size)
        attached.start()
    shared: dict[tuple[int, int], Any] = {}
    for number, fd in streams:
        if fd is None:
            continue
        if fd in terminals:
            key = (-1, -1)
            file = shared.get(key) or host_terminal.open_standard_stream(task, 2)
        else:
            file = open_host_file(kernel, fd)
            key = (number, fd)
        shared[key] = file
        task.files.install(number, file)


def begin(task: Task, config: SentryConfig) -> Outcome:
    """What makes the first task run its program: the outcome for the dispatcher. Errors as execve(2)."""
    return start_init(task, config.argv[0], config.argv, config.env)


def signal_init(kernel: Kernel, signo: int) -> None:
    """A signal from outside the sandbox: it reaches pid 1 as one from an ancestor's pid namespace would."""
    send_signal_group(kernel.init_group, SigInfo(signo, 0, pid=0, outside=True))

"""What each service sees of the host: its namespaces and its root directory.

Owns: which CLONE_NEW* flags a service is born with, the empty root of the Sentry, the root of the Gofer that holds
its exports and nothing else. Does not own credentials (`privileges.py`). Called in the new process, after it has
imported what it needs and before it is sealed: both roots take the host's files away for good.

Everything goes through the new mount API (open_tree, move_mount, mount_setattr; Linux 5.12), so that no path is looked
up twice and a bundle may lie anywhere, also where the staging directory is.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.supervisor.launch.host_calls_unsafe import HostCalls
    from services.supervisor.launch.plan import Export

# <linux/sched.h>.
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
#: The namespaces every service is born in; an ordinary user needs CLONE_NEWUSER as well.
SERVICE_NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET

# <linux/mount.h>.
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4

#: File systems that show the host's kernel, not files: inside an exported tree they are covered by an empty directory.
KERNEL_FILESYSTEMS = frozenset(
    b"autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nfsd "
    b"proc pstore rpc_pipefs securityfs selinuxfs sysfs tracefs".split()
)
#: Directories of which one is there on every host; the staging file system covers it in the new mount namespace only.
STAGING_DIRECTORIES = (b"/tmp", b"/run", b"/var", b"/usr", b"/etc")


def map_own_user(uid: int, gid: int) -> None:
    """Map the caller's own ids onto themselves in the user namespace it was born in (user_namespaces(7)).

    Raises OSError when the host does not let an ordinary user do so.
    """
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1\n"), ("gid_map", f"{gid} {gid} 1\n")):
        _write(f"/proc/self/{name}", text)


def map_user_of(pid: int, uid: int, gid: int) -> None:
    """The same for another process, by root: `uid` and `gid` are the only ids in its user namespace."""
    _write(f"/proc/{pid}/uid_map", f"{uid} {uid} 1\n")
    _write(f"/proc/{pid}/gid_map", f"{gid} {gid} 1\n")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def enter_empty_root(calls: HostCalls) -> None:
    """Replace the process's root by an empty read-only directory. Needs CAP_SYS_ADMIN over its mount namespace."""
    _make_staging(calls)
    _pivot_into_current_directory(calls)


def enter_export_root(calls: HostCalls, exports: Sequence[Export]) -> list[bytes]:
    """Replace the root by one that holds each export's tree and nothing else.

    Returns the new path of each export ("/0", "/1", ...). Raises OSError, with the export's path as `filename`, when
    one cannot be opened.
    """
    trees = [_clone_export(calls, export) for export in exports]
    staging = _make_staging(calls)
    for index, (tree, is_directory) in enumerate(trees):
        name = b"%d" % index
        if is_directory:
            os.mkdir(name, 0o755)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        calls.attach_tree(tree, name)
        os.close(tree)
    with open("/proc/self/mountinfo", "rb") as file:
        covers = kernel_mounts_below(file.read(), staging)
    for path in covers:
        calls.mount(b"none", path, b"tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, b"size=4k,nr_inodes=2")
    _pivot_into_current_directory(calls)
    return [b"/%d" % index for index in range(len(trees))]


def _clone_export(calls: HostCalls, export: Export) -> tuple[int, bool]:
    try:
        is_directory = os.path.isdir(export.path)
        tree = calls.clone_tree(export.path)
        attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (0 if export.writable else MOUNT_ATTR_RDONLY)
        calls.set_tree_attributes(tree, attributes)
    except OSError as error:
        raise OSError(error.errno, error.strerror, export.path) from None
    return tree, is_directory


def _make_staging(calls: HostCalls) -> bytes:
    """A small tmpfs over some directory of the host, in this mount namespace only; it becomes the current one."""
    calls.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
    staging = next((path for path in STAGING_DIRECTORIES if os.path.isdir(path)), None)
    if staging is None:
        raise OSError(2, "no directory to put the new root on")
    staging = os.path.realpath(staging)
    calls.mount(b"sentrio", staging, b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, b"mode=755,size=256k")
    os.chdir(staging)
    return staging


def _pivot_into_current_directory(calls: HostCalls) -> None:
    # pivot_root(2), NOTES: "pivot_root(".", ".")" puts the old root on top of the new one, whence it is detached.
    try:
        calls.pivot_root(b".", b".")
        calls.detach(b".")
    except OSError as error:
        if error.errno != 22:  # EINVAL: the host's root is the initial ramfs, which cannot be pivoted away
            raise
        calls.mount(b".", b"/", None, MS_MOVE, None)
        os.chroot(".")
    os.chdir("/")
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
    calls.mount(None, b"/", None, flags, None)


def kernel_mounts_below(mountinfo: bytes, staging: bytes) -> list[bytes]:
    """The outermost mount points of kernel file systems strictly inside the exports under `staging`.

    mountinfo: proc_pid_mountinfo(5). An export that is such a file system itself was asked for and stays.
    """
    inside = staging.rstrip(b"/") + b"/"
    found: list[bytes] = []
    for line in mountinfo.splitlines():
        fields = line.split(b" ")
        point, separator = _unescape(fields[4]), fields.index(b"-")
        below = point[len(inside) :].partition(b"/")[2] if point.startswith(inside) else b""
        if below and fields[separator + 1] in KERNEL_FILESYSTEMS and os.path.isdir(point):
            found.append(point)
    found.sort()
    return [path for path in found if not any(path.startswith(other + b"/") for other in found)]


def _unescape(field: bytes) -> bytes:
    """Undo the octal escapes of mountinfo (space, tab, newline, backslash)."""
    for code in (b"040", b"011", b"012", b"134"):
        field = field.replace(b"\\" + code, bytes((int(code, 8),)))
    return field

"""<linux/mount.h>, <sys/statvfs.h>: mount(2), umount2(2), the new mount API, and statfs's f_flags."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# mount(2).
MS_RDONLY: Final[int] = 1
MS_NOSUID: Final[int] = 2
MS_NODEV: Final[int] = 4
MS_NOEXEC: Final[int] = 8
MS_SYNCHRONOUS: Final[int] = 0x10
MS_REMOUNT: Final[int] = 0x20
MS_MANDLOCK: Final[int] = 0x40
MS_DIRSYNC: Final[int] = 0x80
MS_NOSYMFOLLOW: Final[int] = 0x100
MS_NOATIME: Final[int] = 0x400
MS_NODIRATIME: Final[int] = 0x800
MS_BIND: Final[int] = 0x1000
MS_MOVE: Final[int] = 0x2000
MS_REC: Final[int] = 0x4000
MS_VERBOSE: Final[int] = 0x8000
MS_SILENT: Final[int] = 0x8000
MS_POSIXACL: Final[int] = 0x10000
MS_UNBINDABLE: Final[int] = 0x20000
MS_PRIVATE: Final[int] = 0x40000
MS_SLAVE: Final[int] = 0x80000
MS_SHARED: Final[int] = 0x100000
MS_RELATIME: Final[int] = 0x200000
MS_KERNMOUNT: Final[int] = 0x400000
MS_I_VERSION: Final[int] = 0x800000
MS_STRICTATIME: Final[int] = 0x1000000
MS_LAZYTIME: Final[int] = 0x2000000
MS_SUBMOUNT: Final[int] = 0x4000000
MS_NOREMOTELOCK: Final[int] = 0x8000000
MS_NOSEC: Final[int] = 0x10000000
MS_BORN: Final[int] = 0x20000000
MS_ACTIVE: Final[int] = 0x40000000
MS_NOUSER: Final[int] = 0xFFFFFFFF80000000
MS_RMT_MASK: Final[int] = 0x2800051
MS_MGC_VAL: Final[int] = 0xC0ED0000
MS_MGC_MSK: Final[int] = 0xFFFF0000

# umount2(2).
MNT_FORCE: Final[int] = 1
MNT_DETACH: Final[int] = 2
MNT_EXPIRE: Final[int] = 4
UMOUNT_NOFOLLOW: Final[int] = 8

# open_tree(2), move_mount(2), fsopen(2), fsmount(2), fspick(2).
OPEN_TREE_CLONE: Final[int] = 1

MOVE_MOUNT_F_SYMLINKS: Final[int] = 1
MOVE_MOUNT_F_AUTOMOUNTS: Final[int] = 2
MOVE_MOUNT_F_EMPTY_PATH: Final[int] = 4
MOVE_MOUNT_T_SYMLINKS: Final[int] = 0x10
MOVE_MOUNT_T_AUTOMOUNTS: Final[int] = 0x20
MOVE_MOUNT_T_EMPTY_PATH: Final[int] = 0x40
MOVE_MOUNT_SET_GROUP: Final[int] = 0x100
MOVE_MOUNT__MASK: Final[int] = 0x177
FSOPEN_CLOEXEC: Final[int] = 1
FSPICK_CLOEXEC: Final[int] = 1
FSPICK_SYMLINK_NOFOLLOW: Final[int] = 2
FSPICK_NO_AUTOMOUNT: Final[int] = 4
FSPICK_EMPTY_PATH: Final[int] = 8
FSMOUNT_CLOEXEC: Final[int] = 1

# fsconfig(2) commands.
FSCONFIG_SET_FLAG: Final[int] = 0
FSCONFIG_SET_STRING: Final[int] = 1
FSCONFIG_SET_BINARY: Final[int] = 2
FSCONFIG_SET_PATH: Final[int] = 3
FSCONFIG_SET_PATH_EMPTY: Final[int] = 4
FSCONFIG_SET_FD: Final[int] = 5
FSCONFIG_CMD_CREATE: Final[int] = 6
FSCONFIG_CMD_RECONFIGURE: Final[int] = 7

FSCONFIG_CMD_CREATE_EXCL: Final[int] = 8

# mount_setattr(2).
MOUNT_ATTR_RDONLY: Final[int] = 1
MOUNT_ATTR_NOSUID: Final[int] = 2
MOUNT_ATTR_NODEV: Final[int] = 4
MOUNT_ATTR_NOEXEC: Final[int] = 8
MOUNT_ATTR__ATIME: Final[int] = 0x70
MOUNT_ATTR_RELATIME: Final[int] = 0
MOUNT_ATTR_NOATIME: Final[int] = 0x10
MOUNT_ATTR_STRICTATIME: Final[int] = 0x20
MOUNT_ATTR_NODIRATIME: Final[int] = 0x80
MOUNT_ATTR_IDMAP: Final[int] = 0x100000
MOUNT_ATTR_NOSYMFOLLOW: Final[int] = 0x200000

# f_flags of statfs(2) (include/linux/statfs.h).
ST_RDONLY: Final[int] = 1
ST_NOSUID: Final[int] = 2
ST_NODEV: Final[int] = 4
ST_NOEXEC: Final[int] = 8
ST_SYNCHRONOUS: Final[int] = 0x10
ST_VALID: Final[int] = 0x20
ST_MANDLOCK: Final[int] = 0x40
ST_NOATIME: Final[int] = 0x400
ST_NODIRATIME: Final[int] = 0x800
ST_RELATIME: Final[int] = 0x1000
ST_NOSYMFOLLOW: Final[int] = 0x2000

# statmount(2), listmount(2), Linux 6.8.
STATMOUNT_SB_BASIC: Final[int] = 1
STATMOUNT_MNT_BASIC: Final[int] = 2
STATMOUNT_PROPAGATE_FROM: Final[int] = 4
STATMOUNT_MNT_ROOT: Final[int] = 8
STATMOUNT_MNT_POINT: Final[int] = 0x10
STATMOUNT_FS_TYPE: Final[int] = 0x20
STATMOUNT_MNT_NS_ID: Final[int] = 0x40
STATMOUNT_MNT_OPTS: Final[int] = 0x80
LISTMOUNT_REVERSE: Final[int] = 1
LSMT_ROOT: Final[int] = 0xFFFFFFFFFFFFFFFF

MOUNT_ATTR_SIZE_VER0: Final[int] = 32
# struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
MOUNT_ATTR: Final = layout("struct mount_attr", "QQQQ", 32)
# struct mnt_id_req: size, spare, mnt_id, param, mnt_ns_id.
MNT_ID_REQ: Final = layout("struct mnt_id_req", "IIQQQ", 32)
MNT_ID_REQ_SIZE_VER0: Final[int] = 24

"""<asm-generic/statfs.h>, <linux/magic.h>: struct statfs for x86-64 and file system magic numbers."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

ADFS_SUPER_MAGIC: Final[int] = 0x0000ADF5
AFFS_SUPER_MAGIC: Final[int] = 0x0000ADFF
AFS_SUPER_MAGIC: Final[int] = 0x5346414F
AUTOFS_SUPER_MAGIC: Final[int] = 0x00000187
CEPH_SUPER_MAGIC: Final[int] = 0x00C36400
CODA_SUPER_MAGIC: Final[int] = 0x73757245
CRAMFS_MAGIC: Final[int] = 0x28CD3D45
DEBUGFS_MAGIC: Final[int] = 0x64626720
SECURITYFS_MAGIC: Final[int] = 0x73636673
SELINUX_MAGIC: Final[int] = 0xF97CFF8C
SMACK_MAGIC: Final[int] = 0x43415D53
RAMFS_MAGIC: Final[int] = 0x858458F6
TMPFS_MAGIC: Final[int] = 0x01021994
HUGETLBFS_MAGIC: Final[int] = 0x958458F6
SQUASHFS_MAGIC: Final[int] = 0x73717368
ECRYPTFS_SUPER_MAGIC: Final[int] = 0x0000F15F
EFS_SUPER_MAGIC: Final[int] = 0x00414A53
EXT2_SUPER_MAGIC: Final[int] = 0x0000EF53
EXT3_SUPER_MAGIC: Final[int] = 0x0000EF53
XENFS_SUPER_MAGIC: Final[int] = 0xABBA1974
EXT4_SUPER_MAGIC: Final[int] = 0x0000EF53
BTRFS_SUPER_MAGIC: Final[int] = 0x9123683E
NILFS_SUPER_MAGIC: Final[int] = 0x00003434
F2FS_SUPER_MAGIC: Final[int] = 0xF2F52010
HPFS_SUPER_MAGIC: Final[int] = 0xF995E849
ISOFS_SUPER_MAGIC: Final[int] = 0x00009660
JFFS2_SUPER_MAGIC: Final[int] = 0x000072B6
XFS_SUPER_MAGIC: Final[int] = 0x58465342
PSTOREFS_MAGIC: Final[int] = 0x6165676C
EFIVARFS_MAGIC: Final[int] = 0xDE5E81E4
HOSTFS_SUPER_MAGIC: Final[int] = 0x00C0FFEE
OVERLAYFS_SUPER_MAGIC: Final[int] = 0x794C7630
FUSE_SUPER_MAGIC: Final[int] = 0x65735546
MINIX_SUPER_MAGIC: Final[int] = 0x0000137F
MINIX2_SUPER_MAGIC: Final[int] = 0x00002468
MINIX3_SUPER_MAGIC: Final[int] = 0x00004D5A
MSDOS_SUPER_MAGIC: Final[int] = 0x00004D44
EXFAT_SUPER_MAGIC: Final[int] = 0x2011BAB0
NCP_SUPER_MAGIC: Final[int] = 0x0000564C
NFS_SUPER_MAGIC: Final[int] = 0x00006969
OCFS2_SUPER_MAGIC: Final[int] = 0x7461636F
OPENPROM_SUPER_MAGIC: Final[int] = 0x00009FA1
QNX4_SUPER_MAGIC: Final[int] = 0x0000002F
QNX6_SUPER_MAGIC: Final[int] = 0x68191122
AFS_FS_MAGIC: Final[int] = 0x6B414653
REISERFS_SUPER_MAGIC: Final[int] = 0x52654973
SMB_SUPER_MAGIC: Final[int] = 0x0000517B
CIFS_SUPER_MAGIC: Final[int] = 0xFF534D42
SMB2_SUPER_MAGIC: Final[int] = 0xFE534D42
CGROUP_SUPER_MAGIC: Final[int] = 0x0027E0EB
CGROUP2_SUPER_MAGIC: Final[int] = 0x63677270
RDTGROUP_SUPER_MAGIC: Final[int] = 0x07655821
STACK_END_MAGIC: Final[int] = 0x57AC6E9D
TRACEFS_MAGIC: Final[int] = 0x74726163
V9FS_MAGIC: Final[int] = 0x01021997
BDEVFS_MAGIC: Final[int] = 0x62646576
DAXFS_MAGIC: Final[int] = 0x64646178
BINFMTFS_MAGIC: Final[int] = 0x42494E4D
DEVPTS_SUPER_MAGIC: Final[int] = 0x00001CD1
BINDERFS_SUPER_MAGIC: Final[int] = 0x6C6F6F70
FUTEXFS_SUPER_MAGIC: Final[int] = 0x0BAD1DEA
PIPEFS_MAGIC: Final[int] = 0x50495045
PROC_SUPER_MAGIC: Final[int] = 0x00009FA0
SOCKFS_MAGIC: Final[int] = 0x534F434B
SYSFS_MAGIC: Final[int] = 0x62656572
USBDEVICE_SUPER_MAGIC: Final[int] = 0x00009FA2
ANON_INODE_FS_MAGIC: Final[int] = 0x09041934
BTRFS_TEST_MAGIC: Final[int] = 0x73727279
NSFS_MAGIC: Final[int] = 0x6E736673
BPF_FS_MAGIC: Final[int] = 0xCAFE4A11
AAFS_MAGIC: Final[int] = 0x5A3C69F0
ZONEFS_MAGIC: Final[int] = 0x5A4F4653
UDF_SUPER_MAGIC: Final[int] = 0x15013346
DMA_BUF_MAGIC: Final[int] = 0x444D4142
DEVMEM_MAGIC: Final[int] = 0x454D444D
SECRETMEM_MAGIC: Final[int] = 0x5345434D

MQUEUE_MAGIC: Final[int] = 0x19800202

# struct statfs: f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_fsid, f_namelen, f_frsize, f_flags.
STATFS: Final = layout("struct statfs", "qqQQQQQQqqq32x", 120)


def pack_statfs(
    kind: int,
    bsize: int,
    blocks: int,
    bfree: int,
    bavail: int,
    files: int,
    ffree: int,
    fsid: int,
    namelen: int,
    frsize: int,
    flags: int,
) -> bytes:
    """A struct statfs; `kind` is a magic number, counts of blocks are in units of `frsize`, `flags` are ST_*."""
    return STATFS.pack(kind, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags | 0x20)

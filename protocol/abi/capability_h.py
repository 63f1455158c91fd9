"""<linux/capability.h>, <linux/securebits.h>: capability numbers, capget(2) and capset(2), VFS capabilities."""

from __future__ import annotations

from typing import Final

from protocol.abi.layout import layout

# Capabilities, as bit numbers.
CAP_CHOWN: Final[int] = 0
CAP_DAC_OVERRIDE: Final[int] = 1
CAP_DAC_READ_SEARCH: Final[int] = 2
CAP_FOWNER: Final[int] = 3
CAP_FSETID: Final[int] = 4
CAP_KILL: Final[int] = 5
CAP_SETGID: Final[int] = 6
CAP_SETUID: Final[int] = 7
CAP_SETPCAP: Final[int] = 8
CAP_LINUX_IMMUTABLE: Final[int] = 9
CAP_NET_BIND_SERVICE: Final[int] = 10
CAP_NET_BROADCAST: Final[int] = 11
CAP_NET_ADMIN: Final[int] = 12
CAP_NET_RAW: Final[int] = 13
CAP_IPC_LOCK: Final[int] = 14
CAP_IPC_OWNER: Final[int] = 15
CAP_SYS_MODULE: Final[int] = 16
CAP_SYS_RAWIO: Final[int] = 17
CAP_SYS_CHROOT: Final[int] = 18
CAP_SYS_PTRACE: Final[int] = 19
CAP_SYS_PACCT: Final[int] = 20
CAP_SYS_ADMIN: Final[int] = 21
CAP_SYS_BOOT: Final[int] = 22
CAP_SYS_NICE: Final[int] = 23
CAP_SYS_RESOURCE: Final[int] = 24
CAP_SYS_TIME: Final[int] = 25
CAP_SYS_TTY_CONFIG: Final[int] = 26
CAP_MKNOD: Final[int] = 27
CAP_LEASE: Final[int] = 28
CAP_AUDIT_WRITE: Final[int] = 29
CAP_AUDIT_CONTROL: Final[int] = 30
CAP_SETFCAP: Final[int] = 31
CAP_MAC_OVERRIDE: Final[int] = 32
CAP_MAC_ADMIN: Final[int] = 33
CAP_SYSLOG: Final[int] = 34
CAP_WAKE_ALARM: Final[int] = 35
CAP_BLOCK_SUSPEND: Final[int] = 36
CAP_AUDIT_READ: Final[int] = 37
CAP_PERFMON: Final[int] = 38
CAP_BPF: Final[int] = 39
CAP_CHECKPOINT_RESTORE: Final[int] = 40
CAP_LAST_CAP: Final[int] = 40

# security.capability.
VFS_CAP_REVISION_MASK: Final[int] = 0xFF000000
VFS_CAP_REVISION_SHIFT: Final[int] = 0x00000018
VFS_CAP_FLAGS_MASK: Final[int] = 0x00FFFFFF
VFS_CAP_FLAGS_EFFECTIVE: Final[int] = 0x00000001
VFS_CAP_REVISION_1: Final[int] = 0x01000000
VFS_CAP_U32_1: Final[int] = 0x00000001
XATTR_CAPS_SZ_1: Final[int] = 0x0000000C
VFS_CAP_REVISION_2: Final[int] = 0x02000000
VFS_CAP_U32_2: Final[int] = 0x00000002
XATTR_CAPS_SZ_2: Final[int] = 0x00000014
VFS_CAP_REVISION_3: Final[int] = 0x03000000
VFS_CAP_U32_3: Final[int] = 0x00000002
XATTR_CAPS_SZ_3: Final[int] = 0x00000018
XATTR_CAPS_SZ: Final[int] = 0x00000018
VFS_CAP_REVISION: Final[int] = 0x03000000

# Securebits, as bit numbers.
SECURE_NOROOT: Final[int] = 0
SECURE_NOROOT_LOCKED: Final[int] = 1
SECURE_NO_SETUID_FIXUP: Final[int] = 2
SECURE_NO_SETUID_FIXUP_LOCKED: Final[int] = 3
SECURE_KEEP_CAPS: Final[int] = 4
SECURE_KEEP_CAPS_LOCKED: Final[int] = 5
SECURE_NO_CAP_AMBIENT_RAISE: Final[int] = 6
SECURE_NO_CAP_AMBIENT_RAISE_LOCKED: Final[int] = 7

CAPABILITY_VERSION_1: Final[int] = 0x19980330
CAPABILITY_VERSION_2: Final[int] = 0x20071026
CAPABILITY_VERSION_3: Final[int] = 0x20080522
#: Every capability, as a mask.
ALL_CAPABILITIES: Final[int] = (1 << (CAP_LAST_CAP + 1)) - 1

# struct __user_cap_header_struct: version, pid.
CAP_HEADER: Final = layout("struct __user_cap_header_struct", "Ii", 8)
# struct __user_cap_data_struct: effective, permitted, inheritable.
CAP_DATA: Final = layout("struct __user_cap_data_struct", "III", 12)

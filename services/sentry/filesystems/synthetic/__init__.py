"""Base nodes of file systems whose contents the kernel makes up (proc, sysfs, devpts, cgroupfs).

Public: SyntheticSuperblock, Node, StaticDir, DynamicDir, TextFile, TaskTextFile, WritableTextFile, Symlink, MagicLink.
"""

from services.sentry.filesystems.synthetic.nodes import (
    DynamicDir,
    MagicLink,
    Node,
    StaticDir,
    Symlink,
    SyntheticSuperblock,
    TaskTextFile,
    TextFile,
    TextOpenFile,
    WritableTextFile,
)

__all__ = [
    "DynamicDir",
    "MagicLink",
    "Node",
    "StaticDir",
    "Symlink",
    "SyntheticSuperblock",
    "TaskTextFile",
    "TextFile",
    "TextOpenFile",
    "WritableTextFile",
]

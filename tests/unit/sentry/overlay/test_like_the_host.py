"""The same random operations on a host directory and on (a) an overlay over a gofer's copy of it, (b) a writable gofer.

Results, errnos, listings, attributes and contents must be equal; the overlay's lower must not change by a byte.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.sentry.filesystems.overlay.superblock import make_overlay
from services.sentry.filesystems.tmpfs import TmpfsSuperblock
from tests.unit.sentry.gofer_fs.gofer_child import TinyKernel, gofer_of
from tests.unit.sentry.overlay.tiny_vfs import HostWorld, SentryWorld, build_tree, outcome, snapshot

NAMES = st.sampled_from([b"a", b"b", b"f", b"g"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
HANDLES = st.integers(0, 2)
MODES = st.sampled_from([0o600, 0o644, 0o755, 0o400])
DATA = st.sampled_from([b"", b"z", b"hello", b"0123456789" * 30])
OFFSETS = st.sampled_from([0, 1, 3, 300, 5000])


class Machine(RuleBasedStateMachine):
    """`host` and `ours` get every operation; subclasses make `ours`."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.base = tempfile.mkdtemp()
        self.stack.callback(shutil.rmtree, self.base)
        self.stack.callback(os.umask, os.umask(0))
        for name in ("host", "ours"):
            build_tree(f"{self.base}/{name}")
        self.host = HostWorld(f"{self.base}/host")
        self.before = snapshot(f"{self.base}/ours")
        self.ours = SentryWorld(self.make(f"{self.base}/ours"))

    def make(self, top: str) -> Any:
        raise NotImplementedError

    def both(self, operation: str, *args: object) -> None:
        expected = outcome(getattr(self.host, operation), *args)
        got = outcome(getattr(self.ours, operation), *args)
        assert got == expected, (operation, args, expected, got)

    def teardown(self) -> None:
        for number in range(3):
            self.host.close(number)
            self.ours.close(number)
        self.finish()
        self.ours.root = None
        self.stack.close()

    def finish(self) -> None:
        """What must hold at the end."""

    @rule(path=PATHS, mode=MODES)
    def create(self, path: Any, mode: int) -> None:
        self.both("create", path, mode)

    @rule(path=PATHS, mode=MODES)
    def mkdir(self, path: Any, mode: int) -> None:
        self.both("mkdir", path, mode | 0o100)

    @rule(path=PATHS)
    def mkfifo(self, path: Any) -> None:
        self.both("mkfifo", path)

    @rule(path=PATHS, text=st.sampled_from([b"a", b"f", b"none"]))
    def symlink(self, path: Any, text: bytes) -> None:
        self.both("symlink", path, text)

    @rule(path=PATHS)
    def readlink(self, path: Any) -> None:
        self.both("readlink", path)

    @rule(old=PATHS, new=PATHS)
    def link(self, old: Any, new: Any) -> None:
        self.both("link", old, new)

    @rule(path=PATHS)
    def unlink(self, path: Any) -> None:
        self.both("unlink", path)

    @rule(path=PATHS)
    def rmdir(self, path: Any) -> None:
        self.both("rmdir", path)

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: Any, new: Any) -> None:
        self.both("rename", old, new)

    @rule(path=PATHS, mode=MODES)
    def chmod(self, path: Any, mode: int) -> None:
        self.both("chmod", path, mode | 0o100)

    @rule(path=PATHS, uid=st.integers(0, 3), gid=st.integers(0, 3))
    def chown(self, path: Any, uid: int, gid: int) -> None:
        self.both("chown", path, uid, gid)

    @rule(path=PATHS, when=st.integers(1, 9))
    def utime(self, path: Any, when: int) -> None:
        self.both("utime", path, when * 1_000_000_007)

    @rule(
        path=PATHS,
        number=HANDLES,
        flags=st.sampled_from([os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND]),
    )
    def open(self, path: Any, number: int, flags: int) -> None:
        self.both("open", path, number, flags)

    @rule(number=HANDLES)
    def close(self, number: int) -> None:
        self.both("close", number)

    @rule(number=HANDLES, offset=OFFSETS)
    def read(self, number: int, offset: int) -> None:
        self.both("read", number, 10000, offset)

    @rule(number=HANDLES)
    def read_on(self, number: int) -> None:
        self.both("read_on", number, 7)

    @rule(number=HANDLES, data=DATA, offset=OFFSETS)
    def write(self, number: int, data: bytes, offset: int) -> None:
        self.both("write", number, data, offset)

    @rule(number=HANDLES, data=DATA)
    def write_on(self, number: int, data: bytes) -> None:
        self.both("write_on", number, data)

    @rule(number=HANDLES, size=OFFSETS)
    def truncate(self, number: int, size: int) -> None:
        self.both("truncate", number, size)

    @invariant()
    def same_tree(self) -> None:
        for number in range(3):
            self.both("fstat", number)
        waiting: list[tuple[bytes, ...]] = [()]
        while waiting:
            names = waiting.pop()
            self.both("stat", names)
            if os.path.isdir(self.host.at(names)) and not os.path.islink(self.host.at(names)):
                self.both("list", names)
                waiting += [(*names, name) for name in os.listdir(self.host.at(names))]
            elif os.path.isfile(self.host.at(names)) and not os.path.islink(self.host.at(names)):
                self.same_content(names)

    def same_content(self, names: Any) -> None:
        file = self.ours.get(names).open(None, os.O_RDONLY, None).add_reference()
        with open(self.host.at(names), "rb") as there:
            assert file.pread(1 << 20, 0) == there.read()
        file.close_reference()


class OverlayMachine(Machine):
    """(a)"""

    def make(self, top: str) -> Any:
        kernel: Any = TinyKernel()
        self.gofer = self.stack.enter_context(gofer_of(top, kernel=kernel))
        self.upper: Any = TmpfsSuperblock(kernel)
        self.overlay: Any = make_overlay(kernel, [self.gofer], self.upper)
        return self.overlay.root.inode

    def finish(self) -> None:
        assert snapshot(f"{self.base}/ours") == self.before
        self.overlay = None


class GoferMachine(Machine):
    """(b)"""

    def make(self, top: str) -> Any:
        return self.stack.enter_context(gofer_of(top, read_only=False)).root_inode


COMMON = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
TestOverlay = OverlayMachine.TestCase
TestOverlay.settings = COMMON
TestGofer = GoferMachine.TestCase
TestGofer.settings = COMMON

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners are changed")

"""Times of the gofer file system and the overlay over it: `python -m tests.unit.sentry.gofer_fs.bench`.

Cold: the Gofer is asked. Warm: nobody is. Printed in microseconds, best of a few rounds.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

from services.sentry.errors import LinuxError
from services.sentry.filesystems.overlay.superblock import make_overlay
from services.sentry.filesystems.tmpfs import TmpfsSuperblock
from tests.unit.sentry.gofer_fs.gofer_child import TinyKernel, gofer_of

COUNT = 2000
NONE: Any = None


def timed(label: str, count: int, call: Callable[[], object]) -> None:
    """Print microseconds per operation of a call that does `count` of them."""
    start = time.perf_counter_ns()
    call()
    print(f"{label:58} {(time.perf_counter_ns() - start) / count / 1000:9.2f} us")


def repeat(count: int, call: Callable[[], object]) -> Callable[[], None]:
    """`call`, `count` times."""

    def run() -> None:
        for _ in range(count):
            call()

    return run


def open_close(inode: Any) -> None:
    inode.open(NONE, os.O_RDONLY, NONE).add_reference().close_reference()


def absent(directory: Any, name: bytes) -> None:
    try:
        directory.lookup(name)
    except LinuxError:
        pass


def walk_all(directory: Any) -> int:
    """find with stat: every directory listed, every entry looked up and refreshed."""
    seen = 0
    for _, (name, _ino, _kind) in directory.entries(0):
        child = directory.lookup(name)
        child.refresh()
        seen += 1
        if child.is_dir:
            seen += walk_all(child)
    return seen


def measure(label: str, fresh: Callable[[], Any], names: list[bytes]) -> None:
    root = fresh()
    directory = root.lookup(b"many")
    timed(f"{label}: cold lookup", COUNT, lambda: [directory.lookup(name) for name in names[:COUNT]])
    timed(f"{label}: warm lookup", COUNT, lambda: [directory.lookup(name) for name in names[:COUNT]])
    timed(f"{label}: cold open+close", 300, lambda: [open_close(directory.lookup(name)) for name in names[:300]])
    one = directory.lookup(names[0])
    timed(f"{label}: warm open+close", COUNT, repeat(COUNT, lambda: open_close(one)))
    absent(directory, b"none")
    timed(f"{label}: warm absent lookup", COUNT, repeat(COUNT, lambda: absent(directory, b"none")))
    root = fresh()
    root.lookup(b"many")
    timed(f"{label}: path of 8, cold, one lookup_path", 1, lambda: root.lookup_path([b"p"] * 8))
    timed(f"{label}: path of 8, warm lookup_path", COUNT, repeat(COUNT, lambda: root.lookup_path([b"p"] * 8)))
    directory = root.lookup(b"many")
    timed(f"{label}: 5,000 entries with stats, cold, per entry", 5000, lambda: walk_all(directory))
    timed(f"{label}: 5,000 entries with stats, warm, per entry", 5000, lambda: walk_all(directory))
    file = root.lookup(b"big").open(NONE, os.O_RDONLY, NONE).add_reference()
    timed(f"{label}: pread 4 KiB", COUNT, repeat(COUNT, lambda: file.pread(4096, 8192)))
    file.close_reference()


def main() -> None:
    top = tempfile.mkdtemp()
    try:
        os.makedirs(os.path.join(top, *"pppppppp"))
        os.mkdir(f"{top}/many")
        names = [b"file%d" % number for number in range(5000)]
        for name in names:
            with open(os.path.join(os.fsencode(top), b"many", name), "wb") as file:
                file.write(b"x")
        with open(f"{top}/big", "wb") as file:
            file.write(os.urandom(64 << 20))
        kernel: Any = TinyKernel()
        with gofer_of(top, kernel=kernel) as gofer, gofer_of(top, kernel=kernel) as second:
            gofers = [gofer, second]

            def fresh_gofer() -> Any:
                for superblock in gofers:
                    for directory in list(superblock.caching.values()):
                        directory.forget_children()
                return gofer.root_inode

            def fresh_overlay() -> Any:
                fresh_gofer()
                overlay: Any = make_overlay(kernel, [second], TmpfsSuperblock(kernel))
                return overlay.root.inode

            measure("gofer", fresh_gofer, names)
            measure("overlay", fresh_overlay, names)
            big = fresh_overlay().lookup(b"big")
            timed("overlay: copy-up of 64 MiB, per MiB", 64, lambda: big.open(NONE, os.O_RDWR, NONE))
    finally:
        shutil.rmtree(top)


if __name__ == "__main__":
    main()

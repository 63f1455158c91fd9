"""MemoryData against the host's own tmpfs files: same bytes, lengths, holes and pages after any operations."""

from __future__ import annotations

import ctypes
import os
import random
from typing import Any

import pytest

from services.sentry.errors import LinuxError
from services.sentry.filesystems.tmpfs.memory_data import MemoryData, NoQuota

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


def _position(fd: int, offset: int, whence: int) -> int:
    try:
        return os.lseek(fd, offset, whence)
    except OSError as error:
        return -int(error.errno or 0)


def _found(data: MemoryData, offset: int, whence: int) -> int:
    try:
        return data.seek(offset, whence)
    except LinuxError as error:
        return -error.errno


def _run(seed: int) -> None:
    rng = random.Random(seed)
    fd = os.memfd_create("oracle")
    data = MemoryData(NoQuota())
    span = rng.choice([20_000, 400_000, 3_000_000])
    if rng.random() < 0.3:
        data.export()
    log = []
    # Linux takes pages that were reserved and never written for holes (mm/shmem.c); here they are data.
    operations = rng.choice(["wwwwrtpsh", "wwwwrtpa"])
    try:
        for _ in range(25):
            operation = rng.choice(operations)
            offset, count = rng.randrange(span), rng.choice([1, 100, 4096, 5000, 30_000])
            log.append((operation, offset, count))
            if operation == "w":
                block = rng.randbytes(count)
                os.pwrite(fd, block, offset)
                assert data.write(block, offset) == count
            elif operation == "r":
                assert data.read(offset, count) == os.pread(fd, count, offset)
            elif operation == "t":
                os.ftruncate(fd, offset)
                data.truncate(offset)
            elif operation == "p":
                assert _fallocate(fd, 3, offset, count) == 0
                data.punch(offset, count)
            elif operation == "a":
                assert _fallocate(fd, 0, offset, count) == 0
                data.allocate(offset, count, False)
            else:
                whence = 3 if operation == "s" else 4
                assert _found(data, offset, whence) == _position(fd, offset, whence), log
            status = os.fstat(fd)
            data.settle()
            assert (data.size, data.pages) == (status.st_size, status.st_blocks // 8), log
        assert data.read(0, data.size) == os.pread(fd, data.size, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("seed", range(200))
def test_random_operations_agree_with_the_host(seed: int) -> None:
    _run(seed)


class _Unmapped:
    """Guest memory none of which is there; like the real one it exports the buffer while it tries."""

    def write_some(self, addr: int, data: memoryview) -> int:
        held = memoryview(data)
        raise LinuxError(14, f"{len(held)} bytes")

    def read_into(self, addr: int, buffer: memoryview) -> int:
        held = memoryview(buffer)
        raise LinuxError(14, f"{len(held)} bytes")

    def read(self, addr: int, count: int) -> bytes:
        raise LinuxError(14)


@pytest.mark.parametrize("exported", [False, True])
def test_a_large_transfer_to_unmapped_memory_is_efault_and_changes_nothing(exported: bool) -> None:
    data = MemoryData(NoQuota())
    data.write(b"x" * 100_000, 0)
    if exported:
        data.export()
    unmapped: Any = _Unmapped()
    with pytest.raises(LinuxError) as failed:
        data.read_to(unmapped, 0, 100_000, 0)
    assert failed.value.errno == 14
    with pytest.raises(LinuxError):
        data.write_from(unmapped, 0, 100_000, 50_000)
    assert data.size == 100_000
    assert data.write(b"more", 100_000) == 4

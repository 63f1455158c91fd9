"""/dev/null, zero, full, random, kmsg: what they give, take and refuse."""

from __future__ import annotations

import errno
from typing import Any, cast

from protocol.abi import ioctl_h as io
from services.sentry.devices.kmsg import KmsgFile
from tests.unit.sentry.proc.machine import BASE, Machine, blocks, errno_of

MACHINE = Machine()
MM = MACHINE.task.mm


def test_null_reads_nothing_and_takes_everything_without_looking() -> None:
    file = MACHINE.open(b"/dev/null", 2)
    assert file.read(10) == b""
    assert file.write_user(MM, 0, 1 << 30) == 1 << 30
    assert file.read_user(MM, 0, 10) == 0
    assert file.seek(500, 2) == 0


def test_zero_fills_guest_memory_and_maps_as_anonymous() -> None:
    file = MACHINE.open(b"/dev/zero", 2)
    MM.write(BASE, b"x" * 200_000)
    assert file.read_user(MM, BASE, 150_000) == 150_000
    assert MM.read(BASE, 150_001) == bytes(150_000) + b"x"
    assert errno_of(file.read_user, MM, 4096, 1) == errno.EFAULT
    assert file.mmap_backing().host_fd == -1


def test_full_refuses_writes_with_enospc() -> None:
    file = MACHINE.open(b"/dev/full", 2)
    assert errno_of(file.write_user, MM, BASE, 1) == errno.ENOSPC
    assert file.read(3) == bytes(3)


def test_random_gives_fresh_bytes_and_counts_entropy() -> None:
    file = MACHINE.open(b"/dev/urandom", 2)
    assert file.read(32) != file.read(32)
    assert file.write(b"seed") == 4
    assert file.ioctl(MACHINE.task, io.RNDGETENTCNT, BASE) == 0
    assert MM.read_u32(BASE) == 256
    assert errno_of(file.ioctl, MACHINE.task, 0x1234, BASE) == errno.EINVAL


def test_kmsg_gives_one_record_per_read_and_then_blocks() -> None:
    file = cast(Any, MACHINE.open(b"/dev/kmsg", 2))
    assert isinstance(file, KmsgFile)
    assert errno_of(file.read, 5) == errno.EINVAL
    records = [file.read(8192) for _ in file.records]
    assert records[0].startswith(b"0,0,0,-;Linux version")
    assert blocks(file.read, 8192)

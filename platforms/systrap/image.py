"""The stub's flat image and the addresses that stand in the table at its beginning (stub/entry.S)."""

from __future__ import annotations

import os
import struct

from platforms.systrap import layout
from protocol.records import record

__all__ = ["Image", "load"]


@record(frozen=True)
class Image:
    """Guest addresses of the stub's entry points and system-call instructions (the address *after* each)."""

    code: bytes
    main_entry: int
    fast_entry: int
    child_entry: int
    futex_ip: int
    ring_ip: int
    sigreturn_ip: int
    exit_ip: int
    close_ip: int
    op_ip: int
    clone_ip: int
    child_region_ip: int
    hello_ip: int
    take_frame_ip: int
    text_end: int
    setup_ip: int
    fast_buffer_entry: int
    fast_path_entry: int
    yield_ip: int
    any_entry: int
    local_read: int
    local_write: int
    local_pread: int
    local_pwrite: int
    answer_epoll_wait: int
    answer_epoll_pwait: int
    answer_fstat: int
    answer_fstatat: int
    local_mmap: int
    local_munmap: int
    map_ip: int
    unmap_ip: int
    map_undo_ip: int
    local_madvise: int
    advise_ip: int
    local_mask: int
    sigreturn_ask_ip: int
    local_sendto: int
    local_recvfrom: int
    local_poll: int
    local_select: int
    local_pselect6: int
    local_ppoll: int
    wipe_low_ip: int
    wipe_middle_ip: int
    wipe_high_ip: int
    recycle_ip: int
    recycle_close_ip: int
    recycled_entry: int
    recycled_ip: int
    vdso_words: int
    fast_struct_entry: int
    brings: int
    local_robust_list: int
    ring_wait_ip: int
    keep_ip: int
    give_ip: int

    def brings_structure(self, number: int) -> bool:
        """Whether a call of this number brings along what one of its arguments points to."""
        at = self.brings - layout.STUB_BASE
        return 0 <= number < layout.BRINGS_COUNT and self.code[at + number] != 0


def load(path: str | None = None) -> Image:
    """Read the image that the build put beside this file. FileNotFoundError: the package was not built."""
    with open(path or os.path.join(os.path.dirname(__file__), "stub.bin"), "rb") as file:
        code = file.read()
    return Image(code, *struct.unpack_from("<56Q", code))

"""A thread that sleeps in futex(2) on a word of memory, as a stub does for a ring (protocol/rings.py SLEEPS)."""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path

_SYS_FUTEX = 202
_libc = ctypes.CDLL(None, use_errno=True)


class FutexWaiter:
    """Sleeps on the u32 at `offset` of `memory` as long as it is `value`. `woken`: it does not any more."""

    def __init__(self, memory: memoryview, offset: int, value: int) -> None:
        self.woken = threading.Event()
        self._tid = 0
        self._word = ctypes.c_uint32.from_buffer(memory, offset)
        self._value = value
        self._thread = threading.Thread(target=self._sleep, daemon=True)
        self._thread.start()
        end = time.monotonic() + 30
        while not self._asleep():
            assert time.monotonic() < end, "the thread does not sleep"
            time.sleep(0.001)

    def _sleep(self) -> None:
        self._tid = threading.get_native_id()
        _libc.syscall(_SYS_FUTEX, ctypes.byref(self._word), 0, ctypes.c_uint32(self._value), None)
        self.woken.set()

    def _asleep(self) -> bool:
        if not self._tid or self.woken.is_set():
            return self.woken.is_set()
        call = Path(f"/proc/self/task/{self._tid}/syscall").read_text().split()
        return call[:2] == [str(_SYS_FUTEX), hex(ctypes.addressof(self._word))]

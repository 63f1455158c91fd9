"""What one idle sandbox costs: no processor time, and little memory in all its processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

MOST_PSS_BYTES = 60 << 20
WATCHED_S = 5.0


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss")


def test_an_idle_sandbox_takes_no_processor_time_and_little_memory(host: Any) -> None:
    process = host.start("do", "--", "sh", "-c", "echo up; exec sleep 1000")
    host.services(process.pid)
    host.wait_for_text(process, "up")
    before: dict[int, int] = {}

    def settled() -> bool:
        """Two looks a tenth of a second apart that find the same."""
        nonlocal before
        now = {pid: cpu_ticks(pid) for pid in host.processes()}
        same, before = now == before, now
        time.sleep(0.1)
        return same

    host.wait_until(settled, "it comes to rest")
    time.sleep(WATCHED_S)  # the measurement itself
    after = {pid: cpu_ticks(pid) for pid in host.processes()}
    assert after == before
    assert len(after) >= 4, after  # monitor, Sentry, Gofer, at least one guest
    used = {pid: pss_bytes(pid) for pid in after}
    names = host.processes()
    shown = "\n".join(f"{size >> 10} KiB {names.get(pid, '')[:60]}" for pid, size in used.items())
    print(f"{sum(used.values()) / (1 << 20):.1f} MiB\n{shown}")
    assert sum(used.values()) <= MOST_PSS_BYTES, shown
    os.kill(process.pid, 15)
    host.end(process)
    host.assert_nothing_runs()

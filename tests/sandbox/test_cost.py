"""What one idle sandbox costs: no processor time, and little memory in all its processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

MOST_PSS_BYTES = 60 << 20
WATCHED_S = 5.0
# Two processes that wake each other, until waits are known to be short; then, "up", what follows.
PING_PONG = """
import os, time
there, back = os.pipe(), os.pipe()
if not os.fork():
    for _ in range(4000):
        os.read(there[0], 1)
        os.write(back[1], b"x")
    time.sleep(1000)
for _ in range(4000):
    os.write(there[1], b"x")
    os.read(back[0], 1)
print("up", flush=True)
"""


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def pss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss")


def ticks_while_idle(host: Any, process: Any) -> tuple[dict[int, int], dict[int, int]]:
    """By process: processor time when the sandbox said "up" and came to rest, and WATCHED_S later."""
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
    return before, {pid: cpu_ticks(pid) for pid in host.processes()}


def test_an_idle_sandbox_takes_no_processor_time_and_little_memory(host: Any) -> None:
    process = host.start("do", "--", "sh", "-c", "echo up; exec sleep 1000")
    before, after = ticks_while_idle(host, process)
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


def test_nobody_yields_for_long_after_many_short_waits(host: Any) -> None:
    process = host.start("do", "--", "python3", "-c", PING_PONG + "time.sleep(1000)")
    before, after = ticks_while_idle(host, process)
    assert after == before
    os.kill(process.pid, 15)
    host.end(process)
    host.assert_nothing_runs()


def test_a_guest_that_computes_may_use_every_processor(host: Any) -> None:
    process = host.start("do", "--", "python3", "-c", PING_PONG + "while True: pass")
    host.services(process.pid)
    host.wait_for_text(process, "up")
    guests = {pid: cpu_ticks(pid) for pid, words in host.processes().items() if words == "guest"}
    host.wait_until(lambda: any(cpu_ticks(pid) > ticks + 10 for pid, ticks in guests.items()), "a guest computes")
    busiest = max(guests, key=lambda pid: cpu_ticks(pid) - guests[pid])
    assert os.sched_getaffinity(busiest) == os.sched_getaffinity(0)
    os.kill(process.pid, 15)
    host.end(process)
    host.assert_nothing_runs()

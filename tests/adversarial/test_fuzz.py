"""Every system call with arguments at random, undisturbed and while all its processes are stopped and continued at
random: no bug of the Sentry shows, it goes on to the end, and needs no more memory than it should.

The seed is printed when it fails; other ones: FUZZ_SEED, and FUZZ_SECONDS for longer runs.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.adversarial.conftest import GUESTS, Sandbox, descendants
from tests.adversarial.fuzz_table import header

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(600)]
SECONDS = float(os.environ.get("FUZZ_SECONDS", "6"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
HIGHEST_KB = 600_000  # what its calls may name in all is hundreds of times that


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz")
    (place / "fuzz_table.h").write_text(header())
    target = place / "fuzz"
    words = ["cc", "-O1", "-w", "-static", "-pthread", f"-I{place}", "-o", str(target), str(GUESTS / "fuzz.c")]
    subprocess.run(words, check=True, timeout=60)
    return target


def highest_kb(pid: int) -> int:
    """The most memory that the process ever had resident."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])


def disturb(pids: list[int], draw: random.Random) -> None:
    for pid in draw.sample(pids, min(6, len(pids))):
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(draw.choice((0.0003, 0.001, 0.003, 0.01)))
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize("disturbed", [False, True])
def test_random_calls(fuzz: Path, disturbed: bool) -> None:
    sandbox = Sandbox(str(fuzz), str(SECONDS), str(SEED), options=("--network", "netstack"))
    draw = random.Random(SEED)
    highest = 0
    deadline = time.monotonic() + SECONDS * 3 + 60
    try:
        while sandbox.process.poll() is None and time.monotonic() < deadline:
            below = descendants(sandbox.process.pid)[1:]
            if disturbed:
                disturb(below, draw)
            else:
                time.sleep(0.1)
            try:
                highest = max([highest, *(highest_kb(pid) for pid in below[:3])])
            except (OSError, IndexError, ValueError):
                pass  # it is ending
        text = sandbox.text()
    finally:
        status = sandbox.close()
    text = "".join(c for c in text if c.isprintable() or c == "\n")[-3000:]
    assert "bug while serving" not in text, f"seed {SEED}: {text}"
    assert status == 0, f"seed {SEED}: {status} {text}"
    batches = re.search(r"batches (\d+)", text)
    assert batches is not None and int(batches[1]) >= SECONDS, f"seed {SEED}: {text}"
    assert highest < HIGHEST_KB, f"seed {SEED}: {highest} kB"

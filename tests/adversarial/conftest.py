"""Hostile guests under `supervisor do`: each attack in a process of its own, beside innocent ones in the same sandbox
and in a second one. What an attack must come to is written beside it in the tests; what it must never come to is
checked here: the Sentry hangs, spins, ends, or stops serving the others.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from platforms.systrap import image as stub_image
from platforms.systrap import layout

GUESTS = Path(__file__).with_name("guests")
TICKS = os.sysconf("SC_CLK_TCK")
LIMIT_S = 150.0
IDLE_S = 1.0
IDLE_CPU_S = 0.15  # of one second, everything in the sandbox together


def supervisor() -> str:
    beside = Path(sys.executable).with_name("supervisor")
    found = str(beside) if beside.exists() else shutil.which("supervisor")
    assert found, "the `supervisor` command is not installed"
    return found


def addresses() -> str:
    """layout.py and the image's table as a C header."""
    image = stub_image.load()
    lines = [f"#define {name} {value:#x}L" for name, value in layout.CONSTANTS().items()]
    for name in stub_image.Image.__annotations__:
        if name != "code":
            lines.append(f"#define IP_{name} {getattr(image, name):#x}L")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """compiled("jumps"): the driver with that family of attacks; compiled("x", driver=False): a program by itself."""
    place = tmp_path_factory.mktemp("guests")
    (place / "stub_addresses.h").write_text(addresses())
    made: dict[str, Path] = {}

    def compile_once(family: str, *flags: str, driver: bool = True) -> Path:
        if family not in made:
            sources = [str(GUESTS / f"{family}.c"), *([str(GUESTS / "driver.c")] if driver else [])]
            target = place / family
            words = ["cc", "-O1", "-w", "-static", "-mfsgsbase", "-pthread", f"-I{place}", f"-I{GUESTS}"]
            subprocess.run([*words, "-o", str(target), *sources, *flags], check=True, timeout=60)
            made[family] = target
        return made[family]

    return compile_once


def descendants(pid: int) -> list[int]:
    """`pid` and all below it, by the children files; and those of its session that were adopted by others."""
    found, todo = [], [pid]
    while todo:
        each = todo.pop()
        found.append(each)
        try:
            for thread in os.listdir(f"/proc/{each}/task"):
                todo += [int(w) for w in Path(f"/proc/{each}/task/{thread}/children").read_text().split()]
        except OSError:
            continue
    return found


def cpu_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(words[11]) + int(words[12])
    return ticks / TICKS


class Sandbox:
    """One `supervisor do`, output in a file."""

    def __init__(self, *command: str, env: dict[str, str] | None = None, options: tuple[str, ...] = ()) -> None:
        self.output = tempfile.NamedTemporaryFile("w+", suffix=".out")
        self.process = subprocess.Popen(
            [supervisor(), "do", *options, "--", *command],
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )

    def text(self) -> str:
        return Path(self.output.name).read_text(errors="replace")

    def wait_for(self, word: str, limit_s: float = LIMIT_S) -> str:
        deadline = time.monotonic() + limit_s
        while word not in self.text():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.text()}"
            assert time.monotonic() < deadline, f"no {word!r}: {self.text()}"
            time.sleep(0.01)
        return self.text()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()

    def pids(self) -> list[int]:
        return descendants(self.process.pid)

    def idle_cpu_s(self) -> float:
        """What one second of doing nothing costs in all its processes."""
        before = cpu_s(self.pids())
        time.sleep(IDLE_S)
        return cpu_s(self.pids()) - before

    def close(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            return self.process.wait(timeout=60)
        finally:
            if self.process.returncode is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self.output.close()


@pytest.fixture(scope="session")
def innocent() -> Iterator[Callable[[], None]]:
    """A second sandbox that was there before. Calling it shows that it still works: processes, memory, files."""
    script = "while read line; do echo \"$line $(expr 6 '*' 7) $(cat /proc/self/comm)\"; done"
    sandbox = Sandbox("sh", "-c", script)
    count = 0

    def check() -> None:
        nonlocal count
        count += 1
        sandbox.say(f"turn{count}.\n")
        sandbox.wait_for(f"turn{count}. 42 cat", 60)

    try:
        check()
        yield check
    finally:
        status = sandbox.close()
    assert status == 0


@dataclasses.dataclass
class Outcome:
    """What each attack came to: "exit 0", "signal 9", "(killed) x signal 9", "x hangs"; and all that was printed."""

    results: dict[str, str]
    text: str


@pytest.fixture(scope="session")
def attack(compiled: Callable[..., Path], innocent: Callable[[], None]) -> Callable[..., Outcome]:
    """attack("jumps", ["op_mmap", ...]): run them one after the other in one sandbox and look at what is left."""

    def run(family: str, names: list[str], allow_warnings: bool = True) -> Outcome:
        sandbox = Sandbox(str(compiled(family)), *names)
        try:
            text = sandbox.wait_for("all is well")
            innocent()
            idle = sandbox.idle_cpu_s()
        finally:
            status = sandbox.close()
        assert status == 0, text
        assert idle <= IDLE_CPU_S, f"{idle} s of processor time in one idle second: {text}"
        assert "GAINED" not in text, text
        assert "Traceback" not in text, text
        assert "bug while serving" not in text, text
        results = {}
        for line in text.splitlines():
            words = line.split()
            if len(words) >= 2 and words[0].removeprefix("(killed)") in names or words[:1] == ["(killed)"]:
                results[words[1] if words[0] == "(killed)" else words[0]] = line
        return Outcome(results, text)

    return run

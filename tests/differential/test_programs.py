"""Differential tests: each program under programs/ must behave equally on the host and in the sandbox.

The host kernel is the oracle. A program is one C, Go, shell or Python file that prints what it observed: values, errno
names and relations, never pids, times, inode numbers or anything else that two good runs may differ in. Compared are
standard output and exit status, and standard error too where the program asks for it.

The first line of a program is a comment that may hold markers: `static` (link statically), `stderr` (compare standard
error), `timeout=SECONDS`, `runs=N` (how often the host check repeats it). Every run gets a fresh, empty working
directory, `/dev/null` as standard input, and a small fixed environment.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"
# Each run has its own, tighter limit; this one only guards the harness.
pytestmark = pytest.mark.timeout(600)

SUFFIXES = (".c", ".sh", ".py", ".go")
DEFAULT_TIMEOUT = 30.0
# Programs pass bad pointers and sizes on purpose.
QUIET = (
    "array-bounds",
    "format-truncation",
    "infinite-recursion",
    "nonnull",
    "stringop-overflow",
    "stringop-overread",
    "unused-result",
)
COMPILE = ["cc", "-O1", "-Wall", *(f"-Wno-{name}" for name in QUIET), "-pthread"]


@dataclass
class Program:
    """One program and the markers of its first line."""

    path: Path
    static: bool = False
    stderr: bool = False
    timeout: float = DEFAULT_TIMEOUT
    runs: int = 3
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = str(self.path.relative_to(PROGRAMS))
        first = self.path.read_text().split("\n", 1)[0].lstrip("/#! ")
        for word in first.split():
            if word in ("static", "stderr"):
                setattr(self, word, True)
            elif match := re.fullmatch(r"(timeout|runs)=(\d+)", word):
                setattr(self, match[1], int(match[2]))


ALL = [Program(path) for path in sorted(PROGRAMS.rglob("*")) if path.suffix in SUFFIXES]


@dataclass(frozen=True)
class Result:
    """What a run showed."""

    status: int
    output: str
    error: str


@pytest.fixture(scope="session")
def build_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled programs stand; readable by programs that give up root."""
    made = tmp_path_factory.mktemp("programs")
    for folder in (made, *made.parents[:3]):
        if folder.owner() == Path(made).owner() and folder != Path("/tmp"):
            folder.chmod(0o755)
    return made


@pytest.fixture
def working_directories(tmp_path: Path) -> Iterator[Path]:
    """A folder for the runs' working directories, open to programs that give up root; removed afterwards."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder != Path("/tmp") and folder.is_relative_to("/tmp"):
            folder.chmod(0o755)
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def command_of(program: Program, build_directory: Path) -> list[str]:
    """The argv that runs the program; a C or Go program is compiled the first time."""
    if program.path.suffix == ".sh":
        return ["sh", str(program.path)]
    if program.path.suffix == ".py":
        return [sys.executable, "-I", "-B", str(program.path)]
    binary = build_directory / program.name.replace("/", "-").removesuffix(program.path.suffix)
    if not binary.exists():
        static = ["-static"] if program.static else []
        compiler = ["go", "build"] if program.path.suffix == ".go" else [*COMPILE, *static]
        made = subprocess.run(
            [*compiler, "-o", str(binary), str(program.path)],
            env=os.environ | {"GOCACHE": str(build_directory / "go"), "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        assert made.stderr == ""
    return [str(binary)]


def run(command: list[str], directory: Path, timeout: float) -> Result:
    """One run in a new working directory and session; everything it started is killed when it ends or is late."""
    directory.mkdir(mode=0o755)
    environment = {
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "PATH": os.environ["PATH"],
        "TZ": "UTC",
        "CHECK_INCLUDE": str(PROGRAMS),
    }
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        umask=0o022,
    )
    try:
        output, error = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, error = process.communicate()
        text = output.decode(errors="replace") + error.decode(errors="replace")
        pytest.fail(f"{' '.join(command)}: not finished after {timeout} s; so far:\n{text}", pytrace=False)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return Result(process.returncode, output.decode(errors="replace"), error.decode(errors="replace"))


def seen(program: Program, result: Result) -> list[str]:
    """The part of a result that must be equal, as lines."""
    # The shell's view: a process that a signal killed has status 128 + n, which is what `supervisor do` reports.
    status = result.status if result.status >= 0 else 128 - result.status
    error = result.error.splitlines() if program.stderr else []
    return [*result.output.splitlines(), *(f"stderr: {line}" for line in error), f"exit status {status}"]


def require_equal(program: Program, expected: Result, got: Result, what: str) -> None:
    """Fail with the difference, and what the program said on standard error."""
    left, right = seen(program, expected), seen(program, got)
    if left != right:
        difference = "\n".join(difflib.unified_diff(left, right, "host", what, lineterm="", n=2))
        pytest.fail(f"{program.name}\n{difference}\nstandard error: {got.error[-2000:]}", pytrace=False)


@pytest.mark.host_only
@pytest.mark.parametrize("program", ALL, ids=lambda program: program.name)
def test_is_deterministic_on_the_host(program: Program, build_directory: Path, working_directories: Path) -> None:
    """The program passes its own checks and says the same each time: a precondition of comparing at all."""
    command = command_of(program, build_directory)
    results = [run(command, working_directories / str(n), program.timeout) for n in range(program.runs)]
    assert results[0].output != "", "a program that prints nothing proves nothing"
    assert "cannot " not in results[0].output.splitlines()[-1], results[0].output
    assert results[0].status != 99, results[0].output + results[0].error
    for other in results[1:]:
        require_equal(program, results[0], other, "another run")


@pytest.mark.sandbox
@pytest.mark.parametrize("program", ALL, ids=lambda program: program.name)
def test_sandbox_equals_host(program: Program, build_directory: Path, working_directories: Path) -> None:
    """Standard output and exit status in the sandbox are those on the host."""
    command = command_of(program, build_directory)
    host = run(command, working_directories / "host", program.timeout)
    sandbox = run([*supervisor_do(), *command], working_directories / "sandbox", program.timeout * 2)
    require_equal(program, host, sandbox, "sandbox")


def supervisor_do() -> list[str]:
    """The command that runs another in the sandbox: by default the console script beside this interpreter.

    SENTRIO_TEST_SUPERVISOR replaces it (words, as a shell would split them), SENTRIO_TEST_PLATFORM chooses a platform.
    """
    command = shlex.split(os.environ.get("SENTRIO_TEST_SUPERVISOR", str(Path(sys.executable).parent / "supervisor")))
    platform = os.environ.get("SENTRIO_TEST_PLATFORM")
    return [*command, "do", *(["--platform", platform] if platform else []), "--"]

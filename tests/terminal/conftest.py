"""A terminal to run commands in, on the host and in the sandbox, and an `expect` over what they show.

`Console` is a host pty with one command in it, the way a terminal emulator has it: own session, controlling terminal.
What the command writes is only taken while the test waits for something, so that a test may also be a slow reader.
"""

from __future__ import annotations

import errno
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

#: What any single wait may take on a machine with more to do than this.
PATIENCE_S = float(os.environ.get("SENTRIO_TEST_PATIENCE", "60"))
PROMPT = "@> "
#: How bash turns bracketed paste on and off around each line.
BRACKETS = re.compile(r"\x1b\[\?2004(?:h|l\r)")


def supervisor_do(*options: str) -> list[str]:
    """The command that runs another in the sandbox. SENTRIO_TEST_SUPERVISOR and SENTRIO_TEST_PLATFORM change it."""
    command = shlex.split(os.environ.get("SENTRIO_TEST_SUPERVISOR", str(Path(sys.executable).parent / "supervisor")))
    platform = os.environ.get("SENTRIO_TEST_PLATFORM")
    return [*command, "do", *(["--platform", platform] if platform else []), *options, "--"]


def environment(home: Path) -> dict[str, str]:
    """The same small surroundings on the host and in the sandbox."""
    return {
        "HISTFILE": "/dev/null",
        "HOME": str(home),
        "INPUTRC": "/dev/null",
        "LANG": "C.UTF-8",
        "LESSHISTFILE": "-",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PS1": PROMPT,
        "PYTHONDONTWRITEBYTECODE": "1",
        "TERM": "xterm",
        "TZ": "UTC",
        "SENTRIO_QUIET": "1",
    }


def default_signals() -> None:
    """In a child: what a shell in the background or a test runner may have ignored is as a user's shell has it."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def in_terminal() -> None:
    """In a child: standard input is its controlling terminal."""
    default_signals()
    ioctl(0, termios.TIOCSCTTY, 0)


def descendants(pid: int) -> list[int]:
    """Children of `pid`, theirs, and so on; none when it is gone."""
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [one for child in found for one in (*descendants(child), child)]


class Console:
    """One command in a terminal of its own. `text`: everything it has shown; `seen`: how much of that was expected."""

    def __init__(self, command: list[str], home: Path, sandbox: bool, rows: int = 24, columns: int = 80) -> None:
        self.sandbox = sandbox
        self.command = command
        self.master, slave = os.openpty()
        termios.tcsetwinsize(self.master, (rows, columns))
        self.modes = termios.tcgetattr(self.master)
        self.text = ""
        self.seen = 0
        self._partial = b""
        self._ended = False
        self.process = subprocess.Popen(
            command,
            cwd=home,
            env=environment(home),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=in_terminal,
        )
        os.close(slave)

    # --- what it shows ---
    def _take(self, timeout_s: float) -> bool:
        """Take what is there now or comes in time; False: nothing."""
        if self._ended or not select.select([self.master], [], [], max(0.0, timeout_s))[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        self._ended = not data
        data = self._partial + data
        text = data.decode("utf-8", "surrogateescape")
        self._partial = b""
        self.text += text
        return not self._ended

    def expect(self, pattern: str, timeout_s: float = PATIENCE_S) -> str:
        """Wait for a regular expression in what was not expected yet; the text up to its end."""
        deadline = time.monotonic() + timeout_s
        wanted = re.compile(pattern, re.DOTALL | re.MULTILINE)
        while True:
            found = wanted.search(self.text, self.seen)
            if found:
                start, self.seen = self.seen, found.end()
                return self.text[start : self.seen]
            if not self._take(deadline - time.monotonic()) and (self._ended or time.monotonic() >= deadline):
                how = "ended" if self._ended else f"not in {timeout_s:g} s"
                pytest.fail(
                    f"{shlex.join(self.command)}: {how}: {pattern!r}; since the last: {self.text[self.seen :]!r}",
                    pytrace=False,
                )

    def shows(self, pattern: str, timeout_s: float) -> bool:
        """Whether what was not expected yet matches, now or in time. Nothing counts as expected after it."""
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern, self.text[self.seen :]):
            left = deadline - time.monotonic()
            if not self._take(left) and (self._ended or left <= 0):
                return False
        return True

    def expect_text(self, text: str, timeout_s: float = PATIENCE_S) -> str:
        return self.expect(re.escape(text), timeout_s)

    def prompt(self) -> str:
        """Wait for the next prompt; what came before it."""
        return self.expect_text(PROMPT)[: -len(PROMPT)]

    # --- what is typed ---
    def send(self, text: str | bytes) -> None:
        """Type; what is shown meanwhile is taken, as a terminal emulator does."""
        data = text.encode() if isinstance(text, str) else text
        deadline = time.monotonic() + PATIENCE_S
        os.set_blocking(self.master, False)
        while data:
            assert time.monotonic() < deadline, f"{len(data)} bytes cannot be typed: {self.text[-500:]!r}"
            readable, writable, _ = select.select([self.master], [self.master], [], 1.0)
            if readable:
                self._take(0)
            if writable:
                try:
                    data = data[os.write(self.master, data[:1024]) :]
                except BlockingIOError:
                    pass
        os.set_blocking(self.master, True)

    def run(self, line: str) -> str:
        """A command line at a prompt of bash; what it shows, without its own echo, up to the next prompt."""
        self.send(line + "\r")
        self.expect("\n")
        return BRACKETS.sub("", self.prompt()).replace("\r\n", "\n")

    def start(self, line: str) -> None:
        """A command line that prints `ready` once it has the terminal."""
        self.send(line + "\r")
        self.expect(r"[\r\n]ready\r?\n")

    def press(self, key: str, at_prompt: bool = False) -> str:
        """A key that makes a signal and brings the prompt back; what came before that.

        Linux signals first and drops output not taken yet afterwards (n_tty.c, isig): the host's prompt may be lost.
        With `at_prompt` the signal may come just before readline blocks in pselect(2), which then waits for the next
        key, on the host as well; another key would go to the line, which is still there, so the same one is pressed
        again, as a user does.
        """
        self.send(key)
        if at_prompt and not self.shows(re.escape(PROMPT), 15):
            self.send(key)
        if not self.sandbox and not self.shows(re.escape(PROMPT), 5):
            self.send("\r")
        return self.prompt()

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self.master, (rows, columns))

    # --- its end ---
    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit status, taking what it shows meanwhile."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still runs; since the last: {self.text[self.seen :]!r}"
            self._take(0.05)
            if self._ended:
                time.sleep(0.01)
        while self._take(0.0):
            pass
        return self.process.returncode

    def close(self) -> None:
        for pid in [*descendants(self.process.pid), self.process.pid]:  # jobs have process groups of their own
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A working directory that both sides start in."""
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def console(home: Path) -> Iterator[Callable[..., Console]]:
    """Starts a command in a terminal; with `sandbox`, in the sandbox."""
    made: list[Console] = []

    def start(*command: str, sandbox: bool = True, **options: Any) -> Console:
        one = Console([*(supervisor_do() if sandbox else []), *command], home, sandbox, **options)
        made.append(one)
        return one

    yield start
    for one in made:
        one.close()


@pytest.fixture
def words() -> str:
    """`supervisor do --`, to be typed at a prompt."""
    return shlex.join(supervisor_do())


@pytest.fixture
def bash(console: Callable[..., Console]) -> Callable[..., Console]:
    """An interactive bash at its first prompt."""

    def start(*, sandbox: bool = True, **options: Any) -> Console:
        one = console("bash", "--norc", "--noprofile", "-i", sandbox=sandbox, **options)
        one.prompt()
        return one

    return start


class Sandbox:
    """`supervisor do` with streams of the test's choice. `command`: the words before the guest's own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.command = supervisor_do()
        self.token = uuid.uuid4().hex
        self.environment = {**environment(home), "SENTRIO_TOKEN": self.token}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, prefix: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[bytes]:
        options.setdefault("stdin", subprocess.DEVNULL)
        words = [*prefix, *self.command, *command]
        options.setdefault("preexec_fn", default_signals)
        process = subprocess.Popen(words, cwd=self.home, env=self.environment, start_new_session=True, **options)
        self._started.append(process)
        return process

    def run(self, *command: str, timeout: float = PATIENCE_S, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run to the end; standard output and errors are kept unless they go elsewhere."""
        data = options.pop("input", None)
        if data is not None:
            options["stdin"] = subprocess.PIPE
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        process = self.start(*command, **options)
        output, errors = process.communicate(data, timeout)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def shell(self, script: str, *command: str) -> subprocess.CompletedProcess[bytes]:
        """A shell of the host starts it: `script` says how, with "$@"."""
        return self.run(*command, prefix=("sh", "-c", script, "sh"))

    def processes(self) -> list[int]:
        """What was started here and still runs: the monitor and what was forked from it."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    ours = f"SENTRIO_TOKEN={self.token}".encode() in Path(f"/proc/{name}/environ").read_bytes()
                    state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if ours and state not in "ZX":
                    found.append(int(name))
        return found

    def wait_until_nothing_runs(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.processes():
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.01)

    def close(self) -> None:
        for process in self._started:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture
def sandbox(home: Path) -> Iterator[Sandbox]:
    one = Sandbox(home)
    yield one
    one.close()

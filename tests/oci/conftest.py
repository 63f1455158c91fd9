"""Running the command line with fake services, as root, as an ordinary user, and where the host refuses namespaces."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ordinary_user import BECOME, USER, python_path, user_python

REFUSING_HOST = Path(__file__).with_name("refusing_host.py")


class Supervisor:
    """The command line with fake services. `token` stands in every process's command line."""

    def __init__(self, prefix: list[str], state: Path, home: Path) -> None:
        self.prefix = prefix
        self.state = state
        self.home = home
        self.token = f"token-{uuid.uuid4().hex}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": python_path(),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SENTRIO_TOKEN": self.token,
        }
        self._started: list[subprocess.Popen[Any]] = []

    def words(self, *words: str) -> list[str]:
        flags = ["--root", str(self.state / self.token)]
        return [*self.prefix, "-m", "services.supervisor.testing", *flags, *words]

    def start(self, *words: str, **options: Any) -> subprocess.Popen[Any]:
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen(
            self.words(*words), cwd=options.pop("cwd", self.home), env=self.environment, text=True, **options
        )
        self._started.append(process)
        return process

    def __call__(self, *words: str, status: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        # Files, not pipes: a container in the background holds its streams for as long as it lives.
        text: str | None = options.pop("input", None)
        with (
            tempfile.TemporaryFile("w+") as given,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as errors,
        ):
            given.write(text or "")
            given.seek(0)
            options.setdefault("stdout", out)
            done = subprocess.run(
                self.words(*words),
                cwd=options.pop("cwd", self.home),
                env=self.environment,
                timeout=60,
                check=False,
                stdin=given,
                stderr=errors,
                **options,
            )
            for file in (out, errors):
                file.seek(0)
            done.stdout, done.stderr = out.read(), errors.read()
        if status is not None:
            assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done

    def literal(self, *words: str) -> Any:
        return ast.literal_eval(self(*words).stdout)

    def listed(self) -> dict[str, str]:
        return {row["id"]: row["status"] for row in json.loads(self("list", "--format", "json").stdout)}

    def processes(self) -> dict[int, list[str]]:
        """Every process of this command line: the monitor, what was forked from it, and what those forked."""
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    words = Path(f"/proc/{name}/cmdline").read_bytes().decode().split("\0")
                    state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if any(self.token in word for word in words) and state not in "ZX":
                    found[int(name)] = words
        return found

    def children(self, pid: int) -> list[int]:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in text.split()]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.processes()}"
            time.sleep(0.01)

    def assert_nothing_runs(self) -> None:
        self.wait_until(lambda: not self.processes(), "processes are left")

    def bundle(self, *args: str, **changes: Any) -> Path:
        """A bundle whose program is `args`; `changes` are merged into its process."""
        path = self.home / f"bundle-{uuid.uuid4().hex[:8]}"
        (path / "rootfs").mkdir(parents=True)
        hooks = changes.pop("hooks", None)
        document: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": {"args": list(args), "cwd": "/", "env": ["A=b"], **changes},
            "root": {"path": "rootfs"},
        }
        if hooks:
            document["hooks"] = hooks
        (path / "config.json").write_text(json.dumps(document))
        for part in (path, path / "rootfs", path / "config.json"):
            os.chmod(part, 0o755)
        return path

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for pid in self.processes():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass


@pytest.fixture
def make_supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Supervisor]]:
    """Makes a Supervisor for one of the three kinds of host: "root", "user", "refused"."""
    made: list[Supervisor] = []
    homes: list[Path] = []

    def make(kind: str) -> Supervisor:
        prefix = [*BECOME, user_python("services.supervisor")] if kind == "user" else [sys.executable]
        if kind == "refused":
            prefix = [sys.executable, str(REFUSING_HOST), sys.executable]
        home = Path("/tmp") / f"sentrio-oci-{uuid.uuid4().hex[:12]}"
        state = home / "state"
        state.mkdir(parents=True)
        homes.append(home)
        if kind == "user":
            for path in (home, state):
                os.chown(path, USER, USER)
        made.append(Supervisor(prefix, state, home))
        return made[-1]

    yield make
    for one in made:
        one.close()
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def supervisor(make_supervisor: Callable[[str], Supervisor]) -> Supervisor:
    return make_supervisor("root")


@pytest.fixture(params=["root", "user", "refused"])
def any_host(request: pytest.FixtureRequest, make_supervisor: Callable[[str], Supervisor]) -> Supervisor:
    one = make_supervisor(request.param)
    one.kind = request.param  # type: ignore[attr-defined]
    return one

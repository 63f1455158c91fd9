"""The installed supervisor with its real services, as root, as an ordinary user, and where the host refuses namespaces.

Owns: `Host`, one way to run the command line, with a home and a state directory of its own, and the root file systems
(`busybox_root`, `debian_root`). Everything a test started is gone when it ends, or the test fails: guests' host
processes have no command line to know them by, but they never leave their Sentry's session.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.ordinary_user import BECOME, ROOT, USER, python_path, user_python
from tests.sandbox.peers import Peer

HERE = Path(__file__).parent
KINDS = ("root", "user", "refused")
DEADLINE_S = 60
CACHE = Path(os.environ.get("SENTRIO_TEST_CACHE", "/var/tmp/sentrio-tests"))


class Done:
    """A command that has ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def said(self) -> list[str]:
        """What was said on standard error, but for warnings of weaker confinement."""
        return [line for line in self.err.splitlines() if "weaker confinement" not in line]

    def __repr__(self) -> str:
        return f"status {self.status}\n--- out\n{self.out}\n--- err\n{self.err}"


class Host:
    """One way to run the supervisor. kind: one of KINDS. `token` stands in each of its processes' command lines."""

    def __init__(self, kind: str, prefix: Sequence[str], home: Path) -> None:
        self.kind = kind
        self.prefix = list(prefix)
        self.home = home
        self.token = f"token-{uuid.uuid4().hex}"
        self.state = home / self.token
        self.sessions: set[int] = set()
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PYTHONPATH": python_path(),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._started: list[subprocess.Popen[Any]] = []

    def words(self, *words: str) -> list[str]:
        return [*self.prefix, "-m", "services.supervisor", "--root", str(self.state), *words]

    def start(self, *words: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a command; output goes to files `out`, `err` (attributes `out_path`, `err_path`)."""
        number = len(self._started)
        out, err = self.home / f"out{number}", self.home / f"err{number}"
        with out.open("w") as out_file, err.open("w") as err_file:
            process = subprocess.Popen(
                self.words(*words),
                cwd=options.pop("cwd", self.home),
                env=self.environment | options.pop("environment", {}),
                stdin=options.pop("stdin", subprocess.DEVNULL),
                stdout=out_file,
                stderr=err_file,
                **options,
            )
        process.out_path, process.err_path = out, err  # type: ignore[attr-defined]
        self._started.append(process)
        return process

    def end(self, process: subprocess.Popen[Any]) -> Done:
        """Wait for a started command."""
        status = process.wait(DEADLINE_S)
        out, err = process.out_path, process.err_path  # type: ignore[attr-defined]
        done = Done(status, out.read_text(errors="replace"), err.read_text(errors="replace"))
        assert "bug while serving" not in done.err, done
        return done

    def __call__(self, *words: str, status: int | None = 0, **options: Any) -> Done:
        done = self.end(self.start(*words, **options))
        assert status is None or done.status == status, done
        return done

    def do(self, *command: str, status: int | None = 0, **options: Any) -> Done:
        return self("do", "--", *command, status=status, **options)

    def listed(self) -> dict[str, str]:
        return {row["id"]: row["status"] for row in json.loads(self("list", "--format", "json").out)}

    def state_of(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("state", name).out)
        return found

    def bundle(self, root: Path, *args: str, **document: Any) -> Path:
        """A bundle on `root`. `process`: members to merge in; everything else: members of the document."""
        path = self.home / f"bundle-{uuid.uuid4().hex[:8]}"
        path.mkdir()
        process = {
            "args": list(args),
            "cwd": "/",
            "env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin", "TERM=dumb"],
            "user": {"uid": 0, "gid": 0},
        } | document.pop("process", {})
        mounts = document.pop("mounts", [])
        readonly = document.pop("readonly", False)
        whole: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": str(root), "readonly": readonly},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, *mounts],
        } | document
        (path / "config.json").write_text(json.dumps(whole))
        for part in (path, path / "config.json"):
            os.chmod(part, 0o755)
        return path

    # --- what runs ---
    def children(self, pid: int) -> list[int]:
        try:
            return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def services(self, monitor: int) -> tuple[int, int]:
        """The Sentry's and the Gofer's pid, as soon as both are there; their sessions are watched from now on."""
        self.wait_until(lambda: len(self.children(monitor)) >= 2, "the services start")
        sentry, gofer = self.children(monitor)[:2]
        self.sessions |= {sentry, gofer}
        return sentry, gofer

    def processes(self) -> dict[int, str]:
        """Every process of this host's sandboxes: by command line, or by a service's session."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")
                fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] not in "ZX" and (self.token in words or int(fields[3]) in self.sessions):
                found[int(name)] = words.replace("\0", " ") or "guest"
        return found

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.processes()}"
            time.sleep(0.01)

    def wait_for_text(self, process: subprocess.Popen[Any], text: str, alone: bool = True) -> None:
        """Until the command, or (`alone` false) a container that it left behind, has written `text`."""
        path = process.out_path  # type: ignore[attr-defined]
        self.wait_until(lambda: text in path.read_text(errors="replace") or alone and process.poll() is not None, text)
        assert text in path.read_text(errors="replace"), self.end(process)

    def assert_nothing_runs(self) -> None:
        self.wait_until(lambda: not self.processes(), "processes are left")

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait(DEADLINE_S)
        for pid in self.processes():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass


@pytest.fixture
def make_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Host]]:
    made: list[Host] = []

    def make(kind: str) -> Host:
        prefix = [*BECOME, user_python("platforms._host, services.supervisor")] if kind == "user" else [sys.executable]
        if kind == "refused":
            prefix = [sys.executable, str(ROOT / "tests/oci/refusing_host.py"), sys.executable]
        if kind == "without-notification":
            prefix = [sys.executable, str(HERE / "without_notification.py"), sys.executable]
        home = Path("/tmp") / f"sentrio-sandbox-{uuid.uuid4().hex[:12]}"
        home.mkdir()
        if kind == "user":
            os.chown(home, USER, USER)
        made.append(Host(kind, prefix, home))
        return made[-1]

    yield make
    for host in made:
        host.close()
        shutil.rmtree(host.home, ignore_errors=True)


@pytest.fixture
def host(make_host: Callable[[str], Host]) -> Host:
    return make_host("root")


@pytest.fixture(params=KINDS)
def any_host(request: pytest.FixtureRequest, make_host: Callable[[str], Host]) -> Host:
    return make_host(request.param)


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer(os.getpid() % 16384)
    try:
        made.make()
        yield made
    finally:
        made.close()


# --- root file systems ---
def _build_once(name: str, build: Callable[[Path], None]) -> Path:
    """CACHE/name, made by `build` if it is not there; one process at a time, whole or not at all."""
    CACHE.mkdir(mode=0o755, exist_ok=True)
    found = CACHE / name
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            staging = CACHE / f"{name}.new"
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            build(staging)
            staging.rename(found)
    return found


def _build_busybox(root: Path) -> None:
    for name in ("bin", "sbin", "dev", "proc", "sys", "tmp", "etc", "root", "data"):
        (root / name).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    (root / "etc/secret").write_text("secret\n")
    (root / "tmp").chmod(0o1777)
    (root / "bin/plain").write_text("not a program\n")
    (root / "bin/broken").write_text("#!/no/such/interpreter\n")
    (root / "bin/broken").chmod(0o755)
    root.chmod(0o755)


def _build_debian(root: Path) -> None:
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm"]
    mirrors = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert mirrors, "apt has no package sources for bookworm: apt-get update"
    shown = subprocess.run(["apt-config", "shell", "proxy", "Acquire::http::Proxy"], capture_output=True, text=True)
    proxy = shown.stdout.strip().partition("=")[2].strip("'")
    environment = {**os.environ, "http_proxy": proxy} if proxy else dict(os.environ)
    done = subprocess.run(  # in a mount namespace of its own: what it mounts goes with it, also when it is killed
        ["unshare", "--mount", "debootstrap", "--variant=minbase", "bookworm", str(root), mirrors[0]],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    root.chmod(0o755)


@pytest.fixture(scope="session")
def busybox_root() -> Path:
    return _build_once("busybox-1", _build_busybox)


@pytest.fixture(scope="session")
def debian_root() -> Path:
    return _build_once("debian-bookworm-1", _build_debian)

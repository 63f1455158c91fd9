"""A guest sees no host file, process or environment variable that was not given to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WORD = f"canary{uuid.uuid4().hex}"


@pytest.fixture
def host_process() -> Iterator[None]:
    """A process of the host that bears the word in its name and in its environment."""
    command = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)", WORD]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "CANARY": WORD})
    assert process.stdout is not None
    process.stdout.readline()
    yield
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.sandbox
def test_bundle_sees_nothing_outside_its_root(
    compiled: Callable[..., Path], tmp_path: Path, host_process: None
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(WORD)
    root = tmp_path / "bundle" / "rootfs"
    (root / "proc").mkdir(parents=True)
    shutil.copy(compiled("probe", driver=False), root / "probe")
    (root / "absolute").symlink_to(secret)
    (root / "relative").symlink_to("../../secret")
    (root / "up").symlink_to("../..")
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "args": ["/probe", WORD, str(secret), "/absolute", "/relative", "/up/secret", "/secret"],
            "cwd": "/",
            "env": ["A=b"],
        },
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    }
    (tmp_path / "bundle" / "config.json").write_text(json.dumps(config))
    supervisor = shutil.which("supervisor") or str(Path(sys.executable).with_name("supervisor"))
    command = [supervisor, "--root", str(tmp_path / "state"), "run", "--bundle", str(tmp_path / "bundle"), "x1"]
    done = subprocess.run(
        command,
        env={**os.environ, "CANARY": WORD},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "looked: 1 processes, pid 1" in done.stdout
    assert "SEEN" not in done.stdout, done.stdout


@pytest.mark.sandbox
def test_do_shows_no_host_process(compiled: Callable[..., Path], host_process: None) -> None:
    supervisor = shutil.which("supervisor") or str(Path(sys.executable).with_name("supervisor"))
    done = subprocess.run(
        [supervisor, "do", "--", str(compiled("probe", driver=False)), WORD],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "looked: 1 processes" in done.stdout, done.stdout
    assert "SEEN" not in done.stdout, done.stdout

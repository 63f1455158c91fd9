"""docs/NETSTACK.md: every command in it runs, and what it says about keys is true."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from services.netstackd.config.load import load
from tests.netstack.networks import ROOT, World

DOCUMENT = ROOT / "docs" / "NETSTACK.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)


def test_the_commands_run_as_written(world: World, tmp_path: Path) -> None:
    unique = f"nsd{os.getpid()}"
    script = "".join(blocks("sh"))
    assert script.count("netstackd ") > 10
    script = (
        script.replace("nsd-home", f"{unique}h").replace("nsd-web", f"{unique}w").replace("/tmp/nsd", str(tmp_path))
    )
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "netstackd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m services.netstackd "$@"\n')
    program.chmod(0o755)
    python = tmp_path / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    path = f"export PATH={tmp_path / 'bin'}:$PATH\n"
    try:
        done = world.run("bash", "-e", "-u", "-o", "pipefail", "-c", path + script, check=False, timeout=200)
        log = tmp_path / "log"
        assert done.status == 0, done.out + done.err + (log.read_text() if log.exists() else "")
    finally:
        for name in (f"{unique}h", f"{unique}w"):
            for pid in world.run("ip", "netns", "pids", name, check=False).out.split():
                os.kill(int(pid), 9)
            world.run("ip", "netns", "del", name, check=False)
    assert done.out.count("hello from home") == 2
    assert "hello from a program" in done.out and "db: Connection refused" in done.out
    assert "10.0.2.40/24" in done.out
    assert "2 received" in done.out and "home goes out" in done.out
    assert "drop by the policy of chain input" in done.out and "forward rule" in done.out
    assert "destination becomes 192.168.8.2:80" in done.out


def test_every_key_of_the_reader_is_in_the_document() -> None:
    text = DOCUMENT.read_text()
    source = "".join((ROOT / "services/netstackd/config" / name).read_text() for name in ("load.py", "policy.py"))
    asked = set(re.findall(r'reader\.\w+\(\s*"(\w+)"', source)) | set(
        re.findall(r'_(?:ranges|ports)\(reader, "(\w+)"', source)
    )
    missing = [key for key in sorted(asked) if not re.search(rf"`[^`]*\b{key}\b[^`]*`", text)]
    assert missing == []


def test_the_example_is_a_good_configuration() -> None:
    found = re.search(r"<<'END'\n(.*?)^END$", "".join(blocks("sh")), re.DOTALL | re.MULTILINE)
    assert found is not None
    config = load("example", found.group(1))
    assert len(config.interfaces) == 2 and config.policy.tracks

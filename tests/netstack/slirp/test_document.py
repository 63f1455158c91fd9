"""The part on slirp in docs/NETSTACK.md: its commands run, by an ordinary user."""

from __future__ import annotations

import os

import pytest

from tests.netstack.networks import World
from tests.netstack.router.test_document import blocks
from tests.netstack.slirp.conftest import as_user, make_host, slirp_python
from tests.ordinary_user import USER


@pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")
def test_the_commands_run_as_written(world: World) -> None:
    home = world.path / "home"
    (home / "bin").mkdir(parents=True)
    program = home / "bin" / "netstackd"
    program.write_text(f'#!/bin/sh\nexec {slirp_python()} -P -m services.netstackd "$@"\n')
    program.chmod(0o755)
    os.chown(home, USER, USER)
    script = "".join(blocks("bash")).replace("/tmp/vm", str(home / "vm"))
    assert script.count("netstackd ") > 9
    path = f"export PATH={home / 'bin'}:$PATH\n"
    host = make_host(world)
    command = ("bash", "-e", "-u", "-o", "pipefail", "-c", path + script)
    done = world.at(host, *as_user(home), *command, check=False, timeout=100)
    assert done.status == 0, done.out + done.err + (home / "vm" / "log").read_text()
    assert "10.0.2.15/24" in done.out and "web:80" in done.out and "10.0.2.128:53" in done.out
    assert "queries" in done.out and "servers" in done.out

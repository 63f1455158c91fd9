"""A Debian root made by debootstrap, as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)  # the first one makes the root

CAPABILITIES = [
    f"CAP_{name}" for name in "CHOWN DAC_OVERRIDE FOWNER FSETID SETGID SETUID KILL SYS_CHROOT AUDIT_WRITE MKNOD".split()
]
DEVICES = [
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
]


def test_shell_package_listing_and_exit_status(any_host: Any, debian_root: Path) -> None:
    script = "set -e; . /etc/os-release; echo $ID; dpkg -l | grep -c ^ii; dpkg -s bash | grep ^Status; exit 4"
    bundle = any_host.bundle(debian_root, "/bin/bash", "-c", script, mounts=DEVICES)
    done = any_host("up", str(bundle), status=4)
    lines = done.out.splitlines()
    assert lines[0] == "debian"
    assert int(lines[1]) > 50
    assert lines[2] == "Status: install ok installed"
    assert done.said == [], done
    any_host.assert_nothing_runs()


def test_users_are_added_and_files_changed(host: Any, debian_root: Path) -> None:
    script = (
        "set -e; useradd -m someone;"
        " id -un someone; su someone -s /bin/sh -c 'id -un; cd; pwd; touch mine; stat -c %U mine';"
        " perl -e 'print 6*7, \"\\n\"'; sed -i s/root/ruut/ /etc/passwd; head -c4 /etc/passwd"
    )
    process = {"capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)}
    done = host("up", str(host.bundle(debian_root, "/bin/bash", "-c", script, mounts=DEVICES, process=process)))
    assert done.out.split() == ["someone", "someone", "/home/someone", "someone", "42", "ruut"], done
    assert not (debian_root / "home/someone").exists()

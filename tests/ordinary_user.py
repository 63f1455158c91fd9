"""Running the installed packages as an ordinary user: who that is, which interpreter, what it needs to import them."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USER = 12_345
BECOME = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")


def python_path() -> str:
    """What a child needs to import the supervisor from where its C parts were built, and what it depends on."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    built = next((path for path in (*packages, str(ROOT)) if list(Path(path).glob("platforms/_host*.so"))), str(ROOT))
    return os.pathsep.join([built, *(path for path in packages if path != built)])


@functools.cache
def user_python(modules: str, *, by_the_user: bool = False) -> str:
    """An interpreter that can be run as an ordinary user and can import `modules` ("a, b"). `by_the_user`: it is that
    user who starts it. (That of the tests may be in a home that is closed; setpriv(1) still has root's rights when it
    starts a program.)"""
    become = [*BECOME, "env"] if by_the_user else BECOME
    for python in (sys.executable, os.path.realpath(sys.executable), "/usr/bin/python3"):
        tried = subprocess.run(
            [*become, python, "-c", f"import {modules}, sys; sys.exit(sys.version_info < (3, 11))"],
            cwd="/",
            env={"PYTHONPATH": python_path(), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        if tried.returncode == 0:
            return python
    raise AssertionError("no Python 3.11 that an ordinary user may run, or the tree is not readable for one")

"""What all tests share: hypothesis without time limits (a loaded machine breaks them) and folder; Ctrl-C that works;
the Sentry's own modules as Python."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from hypothesis import HealthCheck, settings

settings.register_profile("sentrio", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sentrio")

# A shell that starts this in the background leaves SIGINT ignored, and so would every program that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Interpreted:
    """Finds the modules of the Sentry and its platform as the Python that they are, also where they are installed
    compiled (services/compiled.py): tests inside this process give them stand-ins of what they work on and look at what
    only an interpreted module shows. What is compiled runs in the sandboxes that the other tests start.
    SENTRIO_TEST_COMPILED=1 in the environment leaves it out.
    """

    TOPS = ("services.sentry.", "platforms.systrap.", "platforms.base")

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(self.TOPS) or not path:
            return None
        source = Path(path[0]) / f"{name.rpartition('.')[2]}.py"
        return importlib.util.spec_from_file_location(name, source) if source.is_file() else None


if not os.environ.get("SENTRIO_TEST_COMPILED"):
    sys.meta_path.insert(0, Interpreted())

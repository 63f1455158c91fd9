"""OCI hooks: programs that run on the host at points of a container's life (config.md, "POSIX-platform Hooks").

Owns: `run_hooks`. The state stands on each hook's standard input as JSON. A failing hook before the program starts ends
the container; after that it is a warning (runtime.md, "Lifecycle").
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from services.supervisor.errors import SupervisorError, reason
from services.supervisor.log import Log
from services.supervisor.spec.model import Hook


def run_hooks(point: str, hooks: Sequence[Hook], state: dict[str, Any]) -> None:
    """Run `hooks` in order with `state`. Raises SupervisorError at the first that fails."""
    for index, hook in enumerate(hooks):
        where = f"hooks.{point}[{index}]"
        try:
            done = subprocess.run(
                hook.args,
                executable=hook.path,
                env=dict(variable.split("=", 1) for variable in hook.env),
                input=json.dumps(state).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=hook.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SupervisorError(where, f"{hook.path}: still running after {hook.timeout_s} s") from None
        except OSError as error:
            raise SupervisorError(where, f"{hook.path}: {reason(error)}") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
            why = f"{hook.path}: exit status {done.returncode}" + (f": {said}" if said else "")
            raise SupervisorError(where, why)


def try_hooks(point: str, hooks: Sequence[Hook], state: dict[str, Any], log: Log) -> None:
    """The same for the points after the start, where a failure is a warning and the next hook still runs."""
    for index, hook in enumerate(hooks):
        try:
            run_hooks(point, [hook], state)
        except SupervisorError as error:
            log.warning(f"hooks.{point}[{index}]: {error.why}")

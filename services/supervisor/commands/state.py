"""`supervisor state ID`: the container's state as JSON (runtime.md, "State")."""

from __future__ import annotations

import json
import sys

from services.supervisor.container.store import Store
from services.supervisor.grammar import Option, parse
from services.supervisor.operands import one_id
from services.supervisor.settings import Settings

SYNOPSIS = "state ID"
OPTIONS: tuple[Option, ...] = ()


def run(words: list[str], settings: Settings) -> int:
    """Prints the state; SupervisorError when there is no such container."""
    given, _ = parse("state", OPTIONS, words, stop_at_operand=False)
    record = Store(settings.state_root).load(one_id("state", given))
    document = record.oci_state()
    if record.exit_status is not None:
        document["exitStatus"] = record.exit_status
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0

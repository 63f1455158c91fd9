"""`supervisor spec`: write a config.json to start from."""

from __future__ import annotations

import json
import os

from services.supervisor.errors import SupervisorError, os_reason
from services.supervisor.grammar import Option, parse
from services.supervisor.operands import none
from services.supervisor.settings import Settings
from services.supervisor.spec.default import default_spec
from services.supervisor.spec.load import CONFIG_NAME

SYNOPSIS = "spec [OPTIONS]"
OPTIONS = (
    Option(("--bundle", "-b"), "DIR", "where to write it (default: the current directory)"),
    Option(("--rootless",), "", "for the caller's own user"),
)


def run(words: list[str], settings: Settings) -> int:
    """Writes the file; an existing one is left alone and is an error."""
    given, _ = parse("spec", OPTIONS, words, stop_at_operand=False)
    none("spec", given)
    path = os.path.join(given.one("bundle", "."), CONFIG_NAME)
    ids = (os.geteuid(), os.getegid()) if given.has("rootless") else (0, 0)
    try:
        with open(path, "x") as file:
            json.dump(default_spec(*ids), file, indent=4)
            file.write("\n")
    except FileExistsError:
        raise SupervisorError(path, "exists already", "remove it first") from None
    except OSError as error:
        raise SupervisorError(path, os_reason(error)) from None
    return 0

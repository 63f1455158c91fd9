"""Reads a bundle's config.json from disk.

Owns: `load_spec`: the file, its size, its JSON. The meaning of the fields is validate.py's.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from services.supervisor.errors import SupervisorError, os_reason
from services.supervisor.spec.model import Spec
from services.supervisor.spec.validate import validate

CONFIG_NAME: Final = "config.json"
MAX_BYTES: Final = 16 << 20


def load_spec(bundle: str) -> Spec:
    """The specification in directory `bundle` (absolute). Raises SupervisorError with one clear reason."""
    if not os.path.isdir(bundle):
        why = "not a directory" if os.path.exists(bundle) else "no such directory"
        raise SupervisorError(bundle, why, "a bundle is a directory with config.json and a root file system")
    path = os.path.join(bundle, CONFIG_NAME)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SupervisorError(bundle, "not a bundle: it has no config.json", "`supervisor spec` writes one") from None
    except OSError as error:
        raise SupervisorError(path, os_reason(error)) from None
    if len(data) > MAX_BYTES:
        raise SupervisorError(CONFIG_NAME, f"larger than {MAX_BYTES >> 20} MiB")
    return validate(parse_json(data), bundle)


def parse_json(data: bytes) -> Any:
    """`data` as JSON, in which a name stands once per object. Raises SupervisorError with line and column."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise SupervisorError(CONFIG_NAME, f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise SupervisorError(CONFIG_NAME, f"not JSON: {where}: {error.msg.lower()}") from None
    except RecursionError:
        raise SupervisorError(CONFIG_NAME, "not usable JSON: nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise SupervisorError(CONFIG_NAME, f"the name {key[:60]} stands twice in one object")
        made[key] = value
    return made


def _no_constant(name: str) -> Any:
    raise SupervisorError(CONFIG_NAME, f"not JSON: {name}")

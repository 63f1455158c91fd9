"""`supervisor features`: what this runtime supports, as JSON (features.md of the OCI runtime specification)."""

from __future__ import annotations

import json
import sys

from services.supervisor.grammar import Option, parse
from services.supervisor.operands import none
from services.supervisor.settings import Settings
from services.supervisor.spec import validate

SYNOPSIS = "features"
OPTIONS: tuple[Option, ...] = ()


def run(words: list[str], settings: Settings) -> int:
    """Prints the document."""
    given, _ = parse("features", OPTIONS, words, stop_at_operand=False)
    none("features", given)
    points = [point for point in validate.HOOK_POINTS if point not in validate.UNSUPPORTED_HOOKS]
    document = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": points,
        "mountOptions": sorted({*validate.MOUNT_FLAGS, *validate.PROPAGATION}),
        "linux": {
            "namespaces": list(validate.NAMESPACE_TYPES),
            "capabilities": sorted(validate.CAPABILITY_NUMBERS, key=validate.CAPABILITY_NUMBERS.__getitem__),
            "cgroup": {"v1": False, "v2": False, "systemd": False, "systemdUser": False},
            "seccomp": {"enabled": False},
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
        },
        "annotations": {"io.sentrio.platforms": "systrap"},
    }
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0

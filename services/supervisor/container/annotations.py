"""The annotations by which a bundle chooses how it is run.

Owns: their names, values and defaults.
    io.sentrio.platform   systrap (default), ptrace, kvm
    io.sentrio.gofer      name in the entry point group `sentrio.gofers`, default directory
    io.sentrio.root       overlay (default: writes stay in memory) or write-through
    io.sentrio.network    none (default), netstack, netstack:CONTROL-SOCKET or host
    io.sentrio.network.name      the shared network to join
    io.sentrio.network.publish   ports as with -p, separated by commas (network/options.py reads these three)
"""

from __future__ import annotations

from typing import Final

from services.supervisor.errors import SupervisorError

PLATFORM: Final = "io.sentrio.platform"
GOFER: Final = "io.sentrio.gofer"
ROOT: Final = "io.sentrio.root"
#: And what begins with it.
NETWORK: Final = "io.sentrio.network"
ROOT_WRITE_THROUGH: Final = "write-through"

#: Annotation -> (values, empty for any; default).
_CHOICES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    PLATFORM: (("systrap", "ptrace", "kvm"), "systrap"),
    GOFER: ((), "directory"),
    ROOT: (("overlay", ROOT_WRITE_THROUGH), "overlay"),
}


def choice(annotations: dict[str, str], name: str) -> str:
    """The value of annotation `name`. Raises SupervisorError when it is none of those it may have."""
    values, default = _CHOICES[name]
    value = annotations.get(name, default)
    if values and value not in values:
        why = f"annotations.{name}: expected one of {', '.join(values)}"
        raise SupervisorError("config.json", why, f'found "{value[:40]}"')
    return value

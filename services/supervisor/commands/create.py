"""`supervisor create ID`: a container from a bundle, created but not started."""

from __future__ import annotations

from services.supervisor.container.making import MakeRequest, create_detached
from services.supervisor.grammar import NETWORK_OPTIONS, Option, parse
from services.supervisor.operands import one_id, warn_unhonoured
from services.supervisor.settings import Settings

SYNOPSIS = "create [OPTIONS] ID"
OPTIONS = (
    *NETWORK_OPTIONS,
    Option(("--bundle", "-b"), "DIR", "the bundle (default: the current directory)"),
    Option(("--console-socket",), "PATH", "Unix socket that gets the controlling end of the container's terminal"),
    Option(("--pid-file",), "FILE", "write the process id of the container's monitor there"),
    Option(("--preserve-fds",), "N", "not honoured yet"),
    Option(("--no-pivot",), "", "accepted; a sandbox has no pivot", hidden=True),
    Option(("--no-new-keyring",), "", "accepted; a sandbox has no host keyring", hidden=True),
)


def run(words: list[str], settings: Settings) -> int:
    """Returns 0 when the container is created."""
    given, _ = parse("create", OPTIONS, words, stop_at_operand=False)
    request = MakeRequest(
        one_id("create", given), given.one("bundle", "."), given.one("console-socket"), given.one("pid-file"), given
    )
    warn_unhonoured(given, settings)
    create_detached(request, settings)
    return 0

"""`supervisor run ID`: create and start a container; in the foreground, wait for its end and delete it."""

from __future__ import annotations

from services.supervisor.commands import create, start
from services.supervisor.container.making import MakeRequest, create_detached, run_foreground
from services.supervisor.grammar import Option, parse
from services.supervisor.operands import one_id, warn_unhonoured
from services.supervisor.settings import Settings

SYNOPSIS = "run [OPTIONS] ID"
OPTIONS = (
    *create.OPTIONS,
    Option(("--detach", "-d"), "", "return when it runs"),
    Option(("--no-subreaper",), "", "accepted for other runtimes' sake", hidden=True),
)


def run(words: list[str], settings: Settings) -> int:
    """The container's exit status; with --detach 0."""
    given, _ = parse("run", OPTIONS, words, stop_at_operand=False)
    container_id = one_id("run", given)
    request = MakeRequest(
        container_id, given.one("bundle", "."), given.one("console-socket"), given.one("pid-file"), given
    )
    warn_unhonoured(given, settings)
    if not given.has("detach"):
        return run_foreground(request, settings)
    create_detached(request, settings)
    return start.run([container_id], settings)

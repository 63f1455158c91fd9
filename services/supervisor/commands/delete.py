"""`supervisor delete ID`: remove a stopped container, or with --force whatever is left of any."""

from __future__ import annotations

from services.supervisor.container.making import end_processes, remove_container
from services.supervisor.container.states import check
from services.supervisor.container.store import Store
from services.supervisor.errors import SupervisorError
from services.supervisor.grammar import Option, parse
from services.supervisor.operands import one_id
from services.supervisor.settings import Settings

SYNOPSIS = "delete [--force] ID"
OPTIONS = (Option(("--force", "-f"), "", "end it first if it runs; no error when there is none"),)


def run(words: list[str], settings: Settings) -> int:
    """Returns 0 when nothing of the container is left."""
    given, _ = parse("delete", OPTIONS, words, stop_at_operand=False)
    container_id = one_id("delete", given)
    force = given.has("force")
    store = Store(settings.state_root)
    with store.locked(container_id):
        try:
            record = store.load(container_id)
        except SupervisorError:
            if force:
                return 0
            raise
        if not force:
            check("delete", container_id, record.status)
        end_processes(record)
        remove_container(record, store, settings.log)
    return 0

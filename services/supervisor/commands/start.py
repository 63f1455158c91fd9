"""`supervisor start ID`: run the program of a created container."""

from __future__ import annotations

from services.supervisor.container.client import Refused, ask
from services.supervisor.container.states import check
from services.supervisor.container.store import Store
from services.supervisor.errors import SupervisorError, exec_status
from services.supervisor.grammar import Option, parse
from services.supervisor.operands import one_id
from services.supervisor.settings import Settings

SYNOPSIS = "start ID"
OPTIONS: tuple[Option, ...] = ()


def run(words: list[str], settings: Settings) -> int:
    """Returns 0 when the program runs."""
    given, _ = parse("start", OPTIONS, words, stop_at_operand=False)
    container_id = one_id("start", given)
    store = Store(settings.state_root)
    with store.locked(container_id):
        check("start", container_id, store.load(container_id).status)
        try:
            ask(store, container_id, "start")
        except Refused as error:
            raise SupervisorError("exec", error.why, status=exec_status(error.errno)) from None
    return 0

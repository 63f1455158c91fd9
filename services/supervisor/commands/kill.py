"""`supervisor kill ID [SIGNAL]`: send a signal to a container's first process, or to all of them."""

from __future__ import annotations

import signal

from services.supervisor.container.client import ask
from services.supervisor.container.states import check
from services.supervisor.container.store import Store
from services.supervisor.errors import SupervisorError
from services.supervisor.grammar import Option, parse
from services.supervisor.operands import check_id, too_many
from services.supervisor.settings import Settings

SYNOPSIS = "kill [--all] ID [SIGNAL]"
OPTIONS = (Option(("--all", "-a"), "", "to every process of the container"),)


def run(words: list[str], settings: Settings) -> int:
    """Returns 0 when the signal was sent."""
    given, _ = parse("kill", OPTIONS, words, stop_at_operand=False)
    if not 1 <= len(given.operands) <= 2:
        raise too_many("kill", "a container id and a signal", given)
    container_id = check_id(given.operands[0])
    number = signal_number(given.operands[1] if len(given.operands) == 2 else "TERM")
    store = Store(settings.state_root)
    check("kill", container_id, store.load(container_id).status)
    ask(store, container_id, "signal", number, given.has("all"))
    return 0


def signal_number(text: str) -> int:
    """The number of a signal given as "9", "KILL", "SIGKILL", "SIGRTMIN+3". Raises SupervisorError."""
    name = text.upper().removeprefix("SIG")
    base, plus, offset = name.partition("+")
    try:
        number = int(name) if name.isdigit() else int(signal.Signals[f"SIG{base}"]) + (int(offset) if plus else 0)
    except (KeyError, ValueError):
        number = 0
    if not 1 <= number <= 64:
        raise SupervisorError(f"signal {text[:40]}", "no such signal", "a number from 1 to 64, or a name such as TERM")
    return number

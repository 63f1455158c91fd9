"""What the verbs' operands must be.

Owns: the checks that several commands share. Raises SupervisorError.
"""

from __future__ import annotations

from services.supervisor.errors import SupervisorError
from services.supervisor.grammar import Parsed
from services.supervisor.settings import Settings


def one_id(verb: str, given: Parsed) -> str:
    """The single operand, a container id."""
    if len(given.operands) != 1:
        raise too_many(verb, "one container id", given)
    return check_id(given.operands[0])


def check_id(text: str) -> str:
    """`text`, which the store checks further."""
    if not text:
        raise SupervisorError("container id", "it is empty")
    return text


def none(verb: str, given: Parsed) -> None:
    """No operands at all."""
    if given.operands:
        raise too_many(verb, "no operands", given)


def too_many(verb: str, expected: str, given: Parsed) -> SupervisorError:
    """The error for a wrong number of operands."""
    found = " ".join(given.operands)[:80] or "nothing"
    return SupervisorError(verb, f"expected {expected}, found {found}", f"supervisor {verb} --help")


def warn_unhonoured(given: Parsed, settings: Settings) -> None:
    """Name what was asked for and is not done yet."""
    if given.one("preserve-fds", "0") != "0":
        settings.log.warning("--preserve-fds is not honoured yet")

"""`supervisor up [DIR]`: run a bundle in the foreground, under an id made for it."""

from __future__ import annotations

import os

from services.supervisor.container.making import MakeRequest, run_foreground
from services.supervisor.grammar import NETWORK_OPTIONS, parse
from services.supervisor.operands import too_many
from services.supervisor.settings import Settings

SYNOPSIS = "up [DIR]"
OPTIONS = NETWORK_OPTIONS


def run(words: list[str], settings: Settings) -> int:
    """The exit status of the bundle's program."""
    given, _ = parse("up", OPTIONS, words, stop_at_operand=False)
    if len(given.operands) > 1:
        raise too_many("up", "one bundle directory", given)
    bundle = os.path.abspath(given.operands[0] if given.operands else ".")
    return run_foreground(MakeRequest(_container_id(bundle), bundle, given=given), settings)


def _container_id(bundle: str) -> str:
    """The bundle's name, made into an id, and our process id: unique while we run."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in os.path.basename(bundle))
    return f"{name.strip('-')[:60] or 'bundle'}-{os.getpid()}"

"""Where Python gets to run the handlers of signals that came: in code that it interprets.

mypyc's code (services/compiled.py) looks for signals nowhere, and a loop that is compiled with all it calls would let
them wait for ever. Python looks when a function begins.
"""

from __future__ import annotations

__all__ = ["heed"]


def heed() -> None:
    """The handlers of the signals that came have run when this returns; what they raise is raised."""

"""What may be referred to weakly.

mypyc makes no room for weak references in instances of a class, unless it has an interpreted base: this one, which for
that reason is not compiled (services/compiled.py). In an interpreted class the slot "__weakref__" makes it.
"""

from __future__ import annotations

__all__ = ["Referable"]


class Referable:
    """Base of objects that a table holds as long as somebody else does."""

    __slots__ = ()

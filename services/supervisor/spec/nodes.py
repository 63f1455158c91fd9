"""A position in a JSON document, and what is expected there.

Owns: `Node`. Every failure is one SupervisorError that names the path of the field, what was expected and what was
found: `supervisor: config.json: process.args: expected a non-empty array of strings (found a string)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from services.supervisor.errors import SupervisorError

T = TypeVar("T")

_KINDS: Final = {dict: "an object", list: "an array", str: "a string", bool: "true or false", int: "a number"}


def describe(value: Any) -> str:
    """What kind of JSON value this is, in words."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f'"{value[:40]}"' if value else "an empty string"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)[:40]
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    return _KINDS.get(type(value), "something else")


class Node:
    """`value` at `path` ("process.args[0]", "" for the whole document) of the file called `file`."""

    __slots__ = ("file", "path", "value")

    def __init__(self, file: str, path: str, value: Any) -> None:
        self.file = file
        self.path = path
        self.value = value

    def wrong(self, expected: str, found: str | None = None) -> NoReturn:
        """Raise: here something else was expected. `found` defaults to a description of the value."""
        where = f"{self.path}: " if self.path else ""
        raise SupervisorError(self.file, f"{where}expected {expected}", f"found {found or describe(self.value)}")

    def child(self, key: str) -> Node:
        """The member `key` of an object; its value is None when it is not there."""
        if not isinstance(self.value, dict):
            self.wrong("an object")
        return Node(self.file, f"{self.path}.{key}" if self.path else key, self.value.get(key))

    def required(self, key: str, expected: str) -> Node:
        """The same, which must be there."""
        node = self.child(key)
        if node.value is None:
            node.wrong(expected, "null" if key in self.value else "nothing")
        return node

    @property
    def missing(self) -> bool:
        """Whether nothing (or null) stands here."""
        return self.value is None

    def object(self) -> dict[str, Any]:
        """An object, {} when nothing is here."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            self.wrong("an object")
        return self.value

    def text(self, expected: str = "a string", empty: bool = True) -> str:
        """A string without NUL."""
        if not isinstance(self.value, str) or (not empty and not self.value):
            self.wrong(expected)
        if "\0" in self.value:
            self.wrong(expected, "one with a NUL character")
        return self.value

    def absolute_path(self) -> str:
        """A string that begins with "/"."""
        path = self.text("an absolute path")
        if not path.startswith("/"):
            self.wrong("an absolute path")
        return path

    def flag(self, default: bool = False) -> bool:
        """true or false."""
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            self.wrong("true or false")
        return self.value

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not low <= self.value <= high:
            self.wrong(f"a number from {low} to {high}")
        return self.value

    def items(self, expected: str, read: Callable[[Node], T], empty: bool = True) -> list[T]:
        """An array, each element through `read`; [] when nothing is here and that is allowed."""
        if self.value is None and empty:
            return []
        if not isinstance(self.value, list) or (not empty and not self.value):
            self.wrong(expected)
        return [read(Node(self.file, f"{self.path}[{index}]", value)) for index, value in enumerate(self.value)]

    def texts(self, empty: bool = True) -> list[str]:
        """An array of strings."""
        expected = "an array of strings" if empty else "a non-empty array of strings"
        return self.items(expected, Node.text, empty)

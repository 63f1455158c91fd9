"""Reads a table of a configuration strictly: types, ranges, units, and no key that nobody knows.

A `Reader` wraps one table with the place it stands at. Its methods return the value of a key or the default; what is
wrong is noted in `problems` with its line and key and reading goes on, so that `check` shows everything at once. `end`
complains about keys that were never asked for, and suggests the nearest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.netstackd.config.model import Address, Prefix

_DURATION: Final = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_SIZE: Final = {"": 1, "b": 1, "kb": 1000, "mb": 10**6, "gb": 10**9, "kib": 1024, "mib": 1 << 20, "gib": 1 << 30}
_RATE: Final = {"bit": 1, "kbit": 1000, "mbit": 10**6, "gbit": 10**9, "bps": 8, "kbps": 8000, "mbps": 8 * 10**6}
_NUMBER: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*\Z")

Path = tuple[str | int, ...]


class Source:
    """The text a configuration was read from, to find the line of a key."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._lines = text.splitlines()

    def line_of(self, path: Path) -> int | None:
        """The line of a key, or of its table when it is not there. 1 is the first; None: not found."""
        table: tuple[str | int, ...] = ()
        counts: dict[str, int] = {}
        best: int | None = None
        for number, line in enumerate(self._lines, 1):
            stripped = line.strip()
            if stripped.startswith("["):
                header = re.match(r"(\[\[?)\s*([^\]]+?)\s*\]", stripped)
                if header is None:
                    continue
                name = header.group(2).replace('"', "")
                table = tuple(name.split("."))
                if header.group(1) == "[[":
                    table = (*table, counts.get(name, 0))
                    counts[name] = counts.get(name, 0) + 1
                if table == path[: len(table)]:
                    best = number
            elif "=" in stripped and not stripped.startswith("#"):
                key = stripped.split("=", 1)[0].strip().strip('"')
                full = (*table, *key.split("."))
                if full == path[: len(full)]:
                    return number
        return best


class Reader:
    """See the module docstring."""

    def __init__(self, table: Mapping[str, Any], path: Path, source: Source, problems: list[str]) -> None:
        self._table = table
        self._path = path
        self._source = source
        self._asked: set[str] = set()
        self.problems = problems

    def problem(self, key: str, what: str) -> None:
        """Note what is wrong with a key."""
        path = (*self._path, key) if key else self._path
        line = self._source.line_of(path)
        place = f"{self._source.name}:{line}" if line is not None else self._source.name
        self.problems.append(f"{place}: {written(path)}: {what}")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._table

    def raw(self, key: str) -> Any:
        """The value as it is, None when it is not there."""
        self._asked.add(key)
        return self._table.get(key)

    def _typed(self, key: str, kind: type, words: str) -> Any:
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            self.problem(key, f"must be {words}, is {shown(value)}")
            return None
        return value

    def text(self, key: str, default: str = "") -> str:
        """A string."""
        value = self._typed(key, str, "a string")
        return default if value is None else value

    def required(self, key: str) -> str:
        """A string that must be there."""
        if not self.has(key):
            self.problem(key, "is missing")
        return self.text(key)

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of some words."""
        value = self.text(key, default)
        if value not in choices:
            self.problem(key, f"must be one of {', '.join(choices)}, is {shown(value)}{_nearest(value, choices)}")
            return default
        return value

    def boolean(self, key: str, default: bool = False) -> bool:
        """true or false."""
        value = self._typed(key, bool, "true or false")
        return default if value is None else value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number within limits."""
        value = self._typed(key, int, f"a whole number of {low} to {high}")
        if value is None:
            return default
        if not low <= value <= high:
            self.problem(key, f"must be {low} to {high}, is {value}")
            return default
        return int(value)

    def chance(self, key: str) -> float:
        """A probability: 0.25 or "25%"."""
        value = self.raw(key)
        if value is None:
            return 0.0
        if isinstance(value, str) and value.endswith("%"):
            try:
                value = float(value[:-1]) / 100
            except ValueError:
                value = None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            self.problem(key, f'must be 0 to 1 or a percentage such as "1%", is {shown(self.raw(key))}')
            return 0.0
        return float(value)

    def texts(self, key: str) -> list[str]:
        """A list of strings; one string alone is a list of one."""
        value = self.raw(key)
        if value is None:
            return []
        if isinstance(value, str):
            return [value]
        if isinstance(value, list) and all(
            isinstance(item, str | int) and not isinstance(item, bool) for item in value
        ):
            return [str(item) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return [str(value)]
        self.problem(key, f"must be a string or a list of strings, is {shown(value)}")
        return []

    def _number(self, key: str, units: Mapping[str, int], example: str, default: int) -> int:
        value = self.raw(key)
        if value is None:
            return default
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        found = _NUMBER.match(text) if isinstance(text, str) else None
        unit = units.get(found.group(2).lower()) if found else None
        if found is None or unit is None:
            self.problem(key, f'must be a number with a unit, such as "{example}", is {shown(value)}')
            return default
        return int(float(found.group(1)) * unit)

    def duration(self, key: str, default: int) -> int:
        """Nanoseconds; units ns us ms s m h d."""
        return self._number(key, _DURATION, "30s", default)

    def size(self, key: str, default: int) -> int:
        """Bytes; kB is 1000, KiB 1024."""
        return self._number(key, _SIZE, "64KiB", default)

    def rate(self, key: str, default: int) -> int:
        """Bits a second; kbit, mbit, gbit (bps are bytes, as tc has it)."""
        return self._number(key, _RATE, "100mbit", default)

    def prefix(self, key: str, text: str) -> Prefix | None:
        """An address with its prefix length, host bits kept."""
        import ipaddress

        try:
            found = ipaddress.ip_interface(text)
        except ValueError:
            self.problem(key, f"{shown(text)} is no address with a prefix length (such as 192.168.1.1/24)")
            return None
        return found.version, int(found.ip), found.network.prefixlen

    def network(self, key: str, text: str) -> Prefix | None:
        """A network: `default`, `default6`, or a prefix without host bits."""
        import ipaddress

        if text in ("default", "default6"):
            return (4, 0, 0) if text == "default" else (6, 0, 0)
        try:
            found = ipaddress.ip_network(text)
        except ValueError as error:
            why = "has host bits set" if "host bits" in str(error) else "is no network (such as 10.0.0.0/8, default)"
            self.problem(key, f"{shown(text)} {why}")
            return None
        return found.version, int(found.network_address), found.prefixlen

    def address(self, key: str, text: str, version: int = 0) -> Address | None:
        """One address, of a version when that is given."""
        import ipaddress

        try:
            found = ipaddress.ip_address(text)
        except ValueError:
            self.problem(key, f"{shown(text)} is no address")
            return None
        if version and found.version != version:
            self.problem(key, f"{text} is no IPv{version} address")
            return None
        return found.version, int(found)

    def addresses(self, key: str, version: int) -> tuple[int, ...]:
        """A list of addresses of one version."""
        found = [self.address(key, text, version) for text in self.texts(key)]
        return tuple(item[1] for item in found if item is not None)

    def mac(self, key: str, text: str) -> bytes:
        """A hardware address, b"" when it is none."""
        if not re.fullmatch(r"(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}", text):
            self.problem(key, f"{shown(text)} is no hardware address (such as 02:00:00:00:00:01)")
            return b""
        found = bytes.fromhex(text.replace(":", "").replace("-", ""))
        if found[0] & 1:
            self.problem(key, f"{text} is a group address")
            return b""
        return found

    def table(self, key: str) -> Reader:
        """A table inside this one; an empty one when it is not there."""
        value = self.raw(key)
        if value is not None and not isinstance(value, dict):
            self.problem(key, f"must be a table, is {shown(value)}")
            value = None
        return Reader(value or {}, (*self._path, key), self._source, self.problems)

    def tables(self, key: str) -> list[Reader]:
        """An array of tables."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.problem(key, f"must be an array of tables ([[{key}]])")
            return []
        path = (*self._path, key)
        return [Reader(item, (*path, index), self._source, self.problems) for index, item in enumerate(value)]

    def keys(self) -> list[str]:
        """All keys, for tables whose keys are names."""
        return list(self._table)

    def end(self) -> None:
        """Complain about keys that nobody asked for."""
        for key in self._table:
            if key not in self._asked:
                self.problem(key, f"is not known here{_nearest(key, sorted(self._asked))}")


def written(path: Path) -> str:
    """A path as people write it: interface[2].addresses."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


def shown(value: object) -> str:
    """A value in a message, not at length."""
    text = (
        f'"{value}"'
        if isinstance(value, str)
        else "true"
        if value is True
        else "false"
        if value is False
        else str(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."


def _nearest(word: str, words: Sequence[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(word, words, 1)
    return f" (did you mean {found[0]}?)" if found else ""

"""The host calls that sealed services may make: their own tables, gathered for `supervisor doctor --surface`.

Owns: `Allowlist`, `gather`. A service declares its list as tuples of protocol.sealing.rows.Row in a module named
`host_filter`; this reads whatever such tuples it finds there, so that a new table needs no change here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Final

from protocol.sealing.rows import Argument, Compare, Row, distinct_calls

#: Service as shown -> modules that may declare a list for it.
SERVICES: Final = {
    "gofer": ("services.gofer.host_filter",),
    "sentry": ("services.sentry.host_filter",),
    "netstackd": ("services.netstackd.host_filter",),
    "host network": ("services.hostnet.host_filter",),
    "systrap stub": ("platforms.systrap.filter",),
}
_SIGNS: Final = {
    Compare.NE: "!=",
    Compare.LT: "<",
    Compare.LE: "<=",
    Compare.EQ: "==",
    Compare.GE: ">=",
    Compare.GT: ">",
}


@dataclass(slots=True, frozen=True)
class Allowlist:
    """One table: whose, what it is called there, its rows."""

    service: str
    table: str
    rows: tuple[Row, ...]

    @property
    def count(self) -> int:
        """Distinct host calls."""
        return len(distinct_calls(self.rows))


def gather() -> tuple[list[Allowlist], list[str]]:
    """Every table there is, and the services that have none yet."""
    found: list[Allowlist] = []
    without: list[str] = []
    for service, modules in SERVICES.items():
        tables: list[Allowlist] = []
        for name in modules:
            try:
                module = import_module(name)
            except ImportError:
                continue
            for attribute, value in sorted(vars(module).items()):
                if attribute == "HOST_CALLS":  # the stub's: name -> reason; the arguments are its own program's matter
                    value = tuple(Row(call, reason) for call, reason in value.items())
                if isinstance(value, tuple) and value and all(isinstance(row, Row) for row in value):
                    if not attribute.startswith("_"):
                        tables.append(Allowlist(service, attribute, value))
        found += tables
        if not tables:
            without.append(service)
    return found, without


def restriction(row: Row) -> str:
    """A row's argument conditions in words, "" for none."""
    return ", ".join(_condition(argument) for argument in row.args)


def _condition(argument: Argument) -> str:
    if argument.compare == Compare.MASKED_EQ:
        return f"arg{argument.index} & {argument.mask:#x} == {argument.value:#x}"
    return f"arg{argument.index} {_SIGNS[argument.compare]} {argument.value:#x}"

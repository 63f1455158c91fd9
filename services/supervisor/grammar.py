"""Option parsing for the command line, small enough to cost nothing at start-up (argparse costs 10 ms).

Owns: `Option`, `Parsed`, `parse`, `usage`. Knows no command. Long options take `--name value` and `--name=value`; short
ones `-v value`. Parsing stops at `--` and, where `stop_at_operand`, at the first operand: what follows belongs to the
program that is run.
"""

from __future__ import annotations

from services.supervisor.errors import SupervisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Option:
    """One option. names: ("--volume", "-v"), the first is its key without dashes. metavar: "" for a switch.
    many: may be given repeatedly. choices: what is accepted, or () for anything. hidden: not in the help."""

    __slots__ = ("choices", "help", "hidden", "key", "many", "metavar", "names")

    def __init__(
        self,
        names: tuple[str, ...],
        metavar: str,
        text: str,
        many: bool = False,
        choices: tuple[str, ...] = (),
        hidden: bool = False,
    ) -> None:
        self.names = names
        self.key = names[0].lstrip("-")
        self.metavar = metavar
        self.help = text
        self.many = many
        self.choices = choices
        self.hidden = hidden


#: The options of every verb that makes a sandbox, about its network (network/options.py reads them).
NETWORK_OPTIONS = (
    Option(
        ("--network",),
        "KIND",
        "none (default: loopback only), netstack, netstack:CONTROL-SOCKET (a running netstackd), or host",
    ),
    Option(("--network-name",), "NAME", "share a network with all sandboxes that give this name"),
    Option(
        ("--publish", "-p"),
        "[ADDR:]PORT:PORT[/udp]",
        "let a port of the host lead to one of the sandbox (ranges A-B)",
        many=True,
    ),
    Option(("--hostname",), "NAME", "the sandbox's host name, and its name in a shared network"),
)


class Parsed:
    """What was given: option values by key, and the operands."""

    __slots__ = ("operands", "values")

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.operands: list[str] = []

    def has(self, key: str) -> bool:
        """Whether the switch or option was given."""
        return key in self.values

    def one(self, key: str, default: str = "") -> str:
        """The value of an option (the last one wins), or the default."""
        return self.values[key][-1] if key in self.values else default

    def all(self, key: str) -> list[str]:
        """Every value of a repeatable option, in order."""
        return self.values.get(key, [])


def wants_network(given: Parsed) -> bool:
    """Whether any of NETWORK_OPTIONS was given."""
    return any(option.key in given.values for option in NETWORK_OPTIONS)


def parse(
    what: str, options: Sequence[Option], words: Sequence[str], stop_at_operand: bool
) -> tuple[Parsed, list[str]]:
    """Parse `words`; returns what was found and, with `stop_at_operand`, the words from the first operand on.

    Raises SupervisorError naming the word that is wrong; `what` is the command for its message.
    """
    by_name = {name: option for option in options for name in option.names}
    parsed = Parsed()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            if stop_at_operand:
                rest.insert(0, word)
                break
            parsed.operands.append(word)
            continue
        name, equals, value = word.partition("=")
        option = by_name.get(name)
        if option is None and not word.startswith("--") and len(word) > 2:
            option, equals, value = by_name.get(word[:2]), "=", word[2:]
            if option is not None and not option.metavar:
                option = None
        if option is None:
            raise SupervisorError(
                what, f"unknown option {name}", f"supervisor {what} --help lists them".replace("  ", " ")
            )
        if not option.metavar:
            if equals and value not in ("true", "false"):
                raise SupervisorError(what, f"{name} takes no value")
            if value != "false":
                parsed.values.setdefault(option.key, []).append("true")
            continue
        if not equals:
            if not rest:
                raise SupervisorError(what, f"{name} needs a value: {option.metavar}")
            value = rest.pop(0)
        if option.choices and value not in option.choices:
            raise SupervisorError(what, f"{name} {value}: expected one of {', '.join(option.choices)}")
        if not option.many:
            parsed.values.pop(option.key, None)
        parsed.values.setdefault(option.key, []).append(value)
    if stop_at_operand:
        return parsed, rest
    parsed.operands += rest
    return parsed, []


def usage(synopsis: str, summary: str, options: Sequence[Option]) -> str:
    """The help text of a command."""
    lines = [f"usage: supervisor {synopsis}", "", summary, ""]
    shown = [option for option in options if not option.hidden]
    if shown:
        lines.append("options:")
    for option in shown:
        left = "  " + ", ".join(option.names) + (f" {option.metavar}" if option.metavar else "")
        if len(left) > 30:
            lines.append(left)
            left = ""
        lines.append(f"{left:32}{option.help}")
    return "\n".join(lines).rstrip() + "\n"

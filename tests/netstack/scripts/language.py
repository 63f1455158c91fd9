"""The script language of README.md: text to steps. Knows nothing of TCP's implementation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

LETTERS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10, "U": 0x20, "E": 0x40, "C": 0x80}
VERBS = frozenset(
    "in out quiet connect listen accept write urgent read oob shutdown shutdown_read close abort error option icmp path"
    " expect set socket iss peer given wait mark drain events".split()
)
ANY_SEQ = 1 << 40  # what `*` stands for in place of a sequence number


class ScriptError(Exception):
    """The script itself is wrong; says file and line."""


@dataclass
class SegmentText:
    """A segment as a script writes it; None where nothing is said."""

    flags: int
    seq: int
    length: int
    push: bool | None  # True: must be there, False: must not, None: whatever
    words: dict[str, str]


@dataclass
class Step:
    line: int
    text: str
    delay: float | None  # seconds, None: `*`
    verb: str
    words: list[str] = field(default_factory=list)
    segment: SegmentText | None = None
    result: str | None = None


@dataclass
class Script:
    path: Path
    title: str
    steps: list[Step]


def parse(path: Path) -> Script:
    lines = path.read_text().splitlines()
    if not lines or not lines[0].startswith("# ") or not ("RFC" in lines[0] or "Linux" in lines[0]):
        raise ScriptError(f"{path}:1: the first line has to name the rule, with its RFC section or Linux")
    steps = [step for number, line in enumerate(lines, 1) if (step := _parse_line(path, number, line)) is not None]
    return Script(path, lines[0][2:], steps)


def _parse_line(path: Path, number: int, line: str) -> Step | None:
    text = line.split("#", 1)[0].strip()
    if not text:
        return None
    words = text.split()
    where = f"{path}:{number}"
    delay: float | None = 0.0
    if words[0] not in VERBS:
        try:
            delay = None if words[0] == "*" else float(words[0])
        except ValueError:
            raise ScriptError(f"{where}: neither a time nor a verb: {words[0]}") from None
        words = words[1:]
    if not words or words[0] not in VERBS:
        raise ScriptError(f"{where}: unknown verb in: {text}")
    verb, rest = words[0], words[1:]
    result = None
    if verb not in ("in", "out") and "=" in rest:
        at = rest.index("=")
        result = " ".join(rest[at + 1 :])
        rest = rest[:at]
    segment = _parse_segment(where, rest) if verb in ("in", "out") else None
    return Step(number, text, delay, verb, rest, segment, result)


def _parse_segment(where: str, words: list[str]) -> SegmentText:
    if len(words) < 2:
        raise ScriptError(f"{where}: a segment needs flags and a sequence number")
    flags = 0
    push: bool | None = None
    for letter in words[0]:
        if letter == "p":
            push = False
        elif letter != "-":
            if letter not in LETTERS:
                raise ScriptError(f"{where}: unknown flag {letter}")
            flags |= LETTERS[letter]
    if flags & LETTERS["P"]:
        push = True
    start, _, length = words[1].replace("*", str(ANY_SEQ)).partition("+")
    try:
        seq, size = int(start), int(length or 0)
    except ValueError:
        raise ScriptError(f"{where}: not a sequence number: {words[1]}") from None
    options: dict[str, str] = {}
    for word in words[2:]:
        key, equals, value = word.partition("=")
        if key not in ("ack", "win", "urg", "ecn", "gso", "mss", "wscale", "sackok", "fo", "sack", "ts"):
            raise ScriptError(f"{where}: unknown field {key}")
        options[key] = value if equals else "yes"
    return SegmentText(flags, seq, size, push, options)

"""Every *.pkt file below this folder is one test; see README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netstack.scripts.language import ScriptError, parse
from tests.netstack.scripts.runner import Failure, run_file

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.rglob("*.pkt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=[str(path.relative_to(HERE))[:-4] for path in SCRIPTS])
def test_script(path: Path) -> None:
    run_file(path)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "x.pkt"
    path.write_text("\n".join(("# RFC 0: a test of the runner", *lines)))
    return path


@pytest.mark.parametrize(
    "lines",
    [
        ("connect", "0 out S 1"),  # another sequence number
        ("connect", "0 out SA 0"),  # other flags
        ("connect", "0 out S 0 mss=1400"),
        ("connect", "0 out S 0 ts=none"),
        ("connect", ".5 out S 0"),  # another time
        ("connect", "0 out S 0", ".5 out S 0"),  # nothing is sent so early
        ("connect",),  # something is left at the end
        ("connect", "0 out S 0", "expect state ESTABLISHED"),
        ("connect", "0 out S 0", "expect counter TcpActiveOpens 2"),
        ("connect", "0 out S 0", "2 quiet"),
        ("given established", "write 10 = 11", "0 out PA 1+10"),
        ("given established", "write 10", "0 out A 1+11"),
        ("given established", "write 10", "0 out Ap 1+10"),
        ("given established", "0 in A 1+10 ack=1", "read 20 = 11", "* out A 1 ack=11"),
        ("given established", "0 in A 1+10 ack=1", "read 20", "* out A 1 ack=12"),
    ],
)
def test_the_runner_sees_what_is_wrong(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(Failure):
        run_file(write(tmp_path, *lines))


@pytest.mark.parametrize(
    "line", ["sing", "0 sing", "x out S 0", "0 out S", "0 out Q 0", "0 out S x", "0 out S 0 mess=1"]
)
def test_the_language_refuses_nonsense(tmp_path: Path, line: str) -> None:
    with pytest.raises(ScriptError):
        parse(write(tmp_path, line))


def test_a_script_without_a_rule_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pkt"
    path.write_text("connect\n")
    with pytest.raises(ScriptError):
        parse(path)

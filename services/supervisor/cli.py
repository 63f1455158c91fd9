"""The `supervisor` command: the grammar, and what becomes of errors. It imports nothing heavy.

Owns: the flags before the verb (those of Docker's and containerd's shims among them), the table of verbs, `main`.
Each verb is a module in `commands/`, imported when it is asked for.

Errors are one line on standard error, `supervisor: what: why (what to do)`, exit status 125 to 127; a traceback only
with --debug.
"""

from __future__ import annotations

import os
import sys

from services.supervisor.errors import STATUS_FAILURE, SupervisorError, os_reason, reason
from services.supervisor.grammar import Option, Parsed, parse, usage
from services.supervisor.launch.plan import ServiceModules
from services.supervisor.log import Log
from services.supervisor.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

#: Verb -> what it does. The module is commands/<verb>.py.
VERBS = {
    "do": "run a command on the host's files, which stay as they are",
    "up": "run a bundle in the foreground",
    "run": "create and start a container, and wait for its end",
    "create": "create a container from a bundle",
    "start": "run the program of a created container",
    "state": "print a container's state as JSON",
    "kill": "send a signal to a container",
    "delete": "remove a stopped container",
    "list": "list containers",
    "ps": "list the processes in a container",
    "spec": "write a config.json to start from",
    "features": "print what this runtime supports as JSON",
    "doctor": "what this host offers, what is missing and how to get it",
}

GLOBAL_OPTIONS = (
    Option(("--root",), "DIR", "where containers' states are kept (default $XDG_RUNTIME_DIR/sentrio or /run/sentrio)"),
    Option(("--log",), "FILE", "write warnings and errors there as well"),
    Option(("--log-format",), "FORMAT", "text or json", choices=("text", "json")),
    Option(("--log-level",), "LEVEL", "accepted for other runtimes' sake", hidden=True),
    Option(("--debug",), "", "show tracebacks and the services' logs"),
    Option(("--systemd-cgroup",), "", "accepted; cgroups are not managed yet"),
    Option(("--rootless",), "BOOL", "accepted; an ordinary user needs no flag", hidden=True),
    Option(("--criu",), "PATH", "accepted for other runtimes' sake", hidden=True),
    Option(
        ("--unsafe-unsealed",), "", "start services that cannot seal themselves (never for guests you do not trust)"
    ),
    Option(("--version", "-v"), "", "print the version"),
    Option(("--help", "-h"), "", "print this, or with a verb its options"),
)


def main(argv: Sequence[str] | None = None, modules: ServiceModules | None = None, isolate: bool = True) -> NoReturn:
    """Run the command line and end the process with its status. `modules` and `isolate` are for tests."""
    words = list(sys.argv[1:] if argv is None else argv)
    _ensure_standard_streams()
    debug = "--debug" in words[: _verb_index(words)]
    log = Log(debug=debug)
    status = STATUS_FAILURE
    try:
        status, log = _run(words, log, modules or ServiceModules(), isolate)
    except SupervisorError as error:
        _traceback(debug)
        _pending.get("log", log).error(error.line())
        status = error.status
    except KeyboardInterrupt:
        _traceback(debug)
        status = 130
    except BrokenPipeError:
        status = STATUS_FAILURE
    except OSError as error:
        _traceback(debug)
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "host"
        _pending.get("log", log).error(SupervisorError(name, os_reason(error)).line())
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else STATUS_FAILURE
    except BaseException as error:
        _traceback(debug)
        hint = "a bug; --debug before the verb shows where"
        _pending.get("log", log).error(SupervisorError("internal error", reason(error), hint).line())
    _leave(status)


#: The log that the flags asked for, once they were read: for errors of the verb.
_pending: dict[str, Log] = {}


def _leave(status: int) -> NoReturn:
    """End at once: nothing is left to finalize, and taking the interpreter down costs milliseconds."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue  # the caller had closed it
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or STATUS_FAILURE
    os._exit(status & 0xFF)


def _traceback(debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()


def _ensure_standard_streams() -> None:
    """A caller may have closed 0, 1 or 2: nothing of ours may get those numbers, or a guest would be given it."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            _CLOSED.add(fd)
            os.open("/dev/null", os.O_RDWR)


#: Standard streams that were closed when the command began; the guest gets them closed.
_CLOSED: set[int] = set()


def guest_streams() -> list[int | None]:
    """The standard streams to pass on: None for one that the caller had closed."""
    return [None if fd in _CLOSED else fd for fd in (0, 1, 2)]


def _verb_index(words: Sequence[str]) -> int:
    """Where the verb stands, for looking at flags before they can be parsed."""
    for index, word in enumerate(words):
        if word in VERBS:
            return index
    return len(words)


def _run(words: list[str], log: Log, modules: ServiceModules, isolate: bool) -> tuple[int, Log]:
    flags, rest = parse("", GLOBAL_OPTIONS, words, stop_at_operand=True)
    if flags.has("version"):
        return _version(), log
    if flags.has("help") or not rest:
        sys.stdout.write(_help())
        return (0 if flags.has("help") else STATUS_FAILURE), log
    verb, words = rest[0], rest[1:]
    if verb not in VERBS:
        raise SupervisorError(verb, "no such verb", "supervisor --help lists them")
    log = _log(flags)
    _pending["log"] = log
    settings = Settings(
        log,
        modules,
        state_root=flags.one("root"),
        debug=flags.has("debug"),
        sealed=not flags.has("unsafe-unsealed"),
        isolate=isolate,
    )
    if flags.has("systemd-cgroup"):
        log.warning("--systemd-cgroup is not honoured: cgroups are not managed yet", can_hide=True)
    if not settings.sealed:
        log.warning("--unsafe-unsealed: the services of this sandbox do not confine themselves")
    from importlib import import_module

    command = import_module(f"services.supervisor.commands.{verb}")
    if words and words[0] in ("--help", "-h"):
        sys.stdout.write(usage(command.SYNOPSIS, VERBS[verb], command.OPTIONS))
        return 0, log
    return int(command.run(words, settings)), log


def _log(flags: Parsed) -> Log:
    return Log(
        debug=flags.has("debug"),
        path=flags.one("log") or None,
        as_json=flags.one("log-format") == "json",
        quiet=os.environ.get("SENTRIO_QUIET", "") not in ("", "0"),
    )


def _version() -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("sentrio")
    except PackageNotFoundError:
        number = "(not installed)"
    sys.stdout.write(f"supervisor (sentrio) {number}\nspec: 1.0.2\n")
    return 0


def _help() -> str:
    text = usage("[OPTIONS] VERB ...", "Runs programs on a Linux kernel written in Python.", GLOBAL_OPTIONS)
    verbs = "".join(f"  {verb:12}{summary}\n" for verb, summary in VERBS.items())
    return f"{text}\nverbs (supervisor VERB --help says more):\n{verbs}"

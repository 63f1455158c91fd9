"""`supervisor do -- CMD`: run a command in a sandbox of its own, with no preparation at all."""

from __future__ import annotations

import os

from services.supervisor.errors import SupervisorError
from services.supervisor.grammar import NETWORK_OPTIONS, Option, parse, wants_network
from services.supervisor.launch.direct import DirectRequest, parse_volume, plan_direct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.settings import Settings

SYNOPSIS = "do [OPTIONS] [--] COMMAND [ARGUMENT ...]"
PLATFORMS = ("systrap", "ptrace", "kvm")
OPTIONS = (
    Option(("--platform",), "NAME", "what runs the program: systrap (default), ptrace or kvm", choices=PLATFORMS),
    *NETWORK_OPTIONS,
    Option(("--rw",), "", "write to the host's files; without it writes stay in memory and vanish"),
    Option(("-v", "--volume"), "HOST:GUEST[:ro]", "show a host file or directory at another place", many=True),
    Option(("--root",), "DIR", "use this host directory as the root"),
    Option(("--cwd",), "DIR", "the command's working directory (default: the caller's)"),
    Option(("--report-missing",), "", "name the system calls that were not there when the command ends"),
    Option(("--strace",), "", "log every system call of the guest"),
    Option(("--debug",), "", "show tracebacks and the services' logs"),
)


def run(words: list[str], settings: Settings) -> int:
    """Run the command; its exit status, 128 + n after signal n."""
    from services.supervisor.cli import guest_streams
    from services.supervisor.launch.processes import launch
    from services.supervisor.monitor.lifecycle import Lifecycle

    plan = plan_direct(_request(words, settings), settings, guest_streams())
    terminal = None
    if plan.console is not None:
        from services.supervisor.monitor.terminal import Terminal

        terminal = Terminal(plan.console)  # before the Sentry may change its modes
    sandbox = launch(plan)
    # Both services import by now; what the monitor needs is imported beside them.
    from services.supervisor.monitor.monitor import Monitor

    return Monitor(sandbox, Lifecycle(), settings.log, terminal, start_when_ready=plan.network is not None).run()


def _request(words: list[str], settings: Settings) -> DirectRequest:
    given, command = parse("do", OPTIONS, words, stop_at_operand=True)
    if not command:
        raise SupervisorError("do", "no command", "supervisor do -- COMMAND")
    if given.has("debug"):
        settings.debug = settings.log.is_debug = True
    request = DirectRequest([os.fsencode(word) for word in command])
    request.platform = given.one("platform", "systrap")
    request.writable = given.has("rw")
    request.volumes = [parse_volume(text) for text in given.all("v")]
    request.report_missing = given.has("report-missing")
    request.strace = given.has("strace")
    if wants_network(given):
        from services.supervisor.network.options import network_of_flags

        request.network = network_of_flags(given)
    if given.has("root"):
        request.root = os.path.abspath(os.fsencode(given.one("root")))
    if given.has("cwd"):
        request.cwd = os.path.normpath(os.fsencode(given.one("cwd")))
        if not request.cwd.startswith(b"/"):
            raise SupervisorError("do", f"--cwd {given.one('cwd')}: expected an absolute path")
    return request

"""Makes containers out of bundles: in the background for `create`, in the foreground for `run` and `up`.

Owns: `MakeRequest`, `create_detached`, `run_foreground`, `end_processes`, `remove_container`. In the background the
monitor is a daemon whose parent waits on a pipe until the container is created or why it cannot be; its standard
streams are the container's, and it holds them no longer than the start.
"""

from __future__ import annotations

import json
import os
from typing import Final

from services.supervisor.cli import guest_streams
from services.supervisor.container.annotations import NETWORK
from services.supervisor.container.container import prepare_console, run_container
from services.supervisor.container.hooks import try_hooks
from services.supervisor.container.states import Status
from services.supervisor.container.store import ProcessId, Record, Store
from services.supervisor.errors import STATUS_FAILURE, SupervisorError, os_reason, reason
from services.supervisor.grammar import Parsed, wants_network
from services.supervisor.launch.bundle import plan_bundle
from services.supervisor.launch.plan import LaunchPlan
from services.supervisor.log import Log
from services.supervisor.settings import Settings
from services.supervisor.spec.load import load_spec
from services.supervisor.spec.model import Hook, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.network.options import NetworkRequest

_REPORT_BYTES: Final = 65_536


class MakeRequest:
    """What `create`, `run` and `up` ask for. bundle: absolute. console_socket, pid_file: "" for none. given: the
    options, of which those about the network are read here."""

    __slots__ = ("bundle", "console_socket", "container_id", "given", "pid_file")

    def __init__(
        self, container_id: str, bundle: str, console_socket: str = "", pid_file: str = "", given: Parsed | None = None
    ) -> None:
        self.container_id = container_id
        self.bundle = os.path.abspath(bundle)
        self.console_socket = console_socket
        self.pid_file = pid_file
        self.given = given


def create_detached(request: MakeRequest, settings: Settings) -> None:
    """Create the container; its monitor stays behind as a daemon. Raises SupervisorError, and nothing is left then."""
    spec = _load(request, settings.log)
    if spec.process.terminal and not request.console_socket:
        raise SupervisorError("config.json", "process.terminal: a container in the background needs --console-socket")
    store = Store(settings.state_root)
    store.directory(request.container_id)
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(reader)
        os.setsid()
        if os.fork() == 0:
            os.setsid()  # a session of its own, whose terminal a console's pty may become
            _be_daemon(request, spec, store, settings, writer)
        os._exit(0)
    os.close(writer)
    os.waitpid(middle, 0)
    pid = _read_report(reader, request.container_id, store, settings.log)
    if request.pid_file:
        _write_pid_file(request.pid_file, pid)


def run_foreground(request: MakeRequest, settings: Settings) -> int:
    """Create, start, wait, delete: the container's exit status."""
    spec = _load(request, settings.log)
    store = Store(settings.state_root)
    plan = plan_bundle(spec, request.container_id, settings, guest_streams(), _network(request, spec))
    terminals = [fd for fd in plan.stdio if fd is not None and os.isatty(fd)]
    if spec.process.terminal and request.console_socket:
        _use_console(plan, prepare_console(request.console_socket, spec.process.console_size))
    elif spec.process.terminal and terminals:
        plan.console = terminals[0]
    elif spec.process.terminal:
        settings.log.warning("process.terminal: the caller has no terminal, so the program gets none", can_hide=True)
        plan.build_config().terminal = False
    record = _record(request, spec)
    store.create(record)
    try:
        if request.pid_file:
            _write_pid_file(request.pid_file, os.getpid())
        return run_container(plan, record, spec, store, settings.log, lambda: None, at_once=True)
    finally:
        remove_container(record, store, settings.log)


def end_processes(record: Record) -> None:
    """End what may still run of a container: its monitor, with which the services die, and then those by name."""
    if record.status is Status.STOPPED:
        record.monitor.wait()  # it is on its way out, and its exit status is the container's
    record.monitor.kill()
    for process in record.processes.values():
        process.kill()


def remove_container(record: Record, store: Store, log: Log) -> None:
    """Remove a stopped container's files, then run its poststop hooks (runtime.md, "Lifecycle", steps 12 and 13)."""
    store.remove(record.id)
    record.status = Status.STOPPED
    hooks = [Hook(path, args, env, timeout) for path, args, env, timeout in record.poststop]
    try_hooks("poststop", hooks, record.oci_state(), log)


def _load(request: MakeRequest, log: Log) -> Spec:
    spec = load_spec(request.bundle)
    for text in spec.warnings:
        log.warning(f"config.json: {text}", can_hide=True)
    return spec


def _network(request: MakeRequest, spec: Spec) -> NetworkRequest | None:
    """What network the options, the bundle's annotations or else its namespaces ask for; None for none."""
    annotated = any(name.startswith(NETWORK) for name in spec.annotations)
    asked = annotated or (request.given is not None and wants_network(request.given))
    if not asked and not spec.network_path:
        return None
    from services.supervisor.network.options import NetworkRequest, network_of_bundle

    if not asked:
        taken = NetworkRequest("netstack")
        taken.taken = spec.network_path
        return taken
    return network_of_bundle(spec.annotations, request.given)


def _record(request: MakeRequest, spec: Spec) -> Record:
    record = Record(request.container_id, request.bundle, spec.annotations, ProcessId.of(os.getpid()))
    hooks = spec.hooks.get("poststop", [])
    record.poststop = [[hook.path, hook.args, hook.env, hook.timeout_s] for hook in hooks]
    return record


def _use_console(plan: LaunchPlan, terminal: int) -> None:
    plan.stdio = [terminal, terminal, terminal]
    plan.console = terminal


def _be_daemon(request: MakeRequest, spec: Spec, store: Store, settings: Settings, report: int) -> None:
    """The monitor's whole life; ends the process with the container's exit status."""
    status = STATUS_FAILURE
    record = None
    told = False

    def tell(document: dict[str, object]) -> None:
        nonlocal told
        if not told:
            told = True
            os.write(report, json.dumps(document).encode())
            os.close(report)

    def created() -> None:
        _let_go_of_streams()
        tell({"pid": os.getpid()})

    try:
        os.write(report, b"%d\n" % os.getpid())
        made = _record(request, spec)
        store.create(made)
        record = made
        plan = plan_bundle(spec, request.container_id, settings, guest_streams(), _network(request, spec))
        if spec.process.terminal:
            _use_console(plan, prepare_console(request.console_socket, spec.process.console_size))
        status = run_container(plan, record, spec, store, settings.log, created, at_once=False)
        if not told:
            raise SupervisorError(f"container {record.id}", "ended before it was created")
    except SupervisorError as error:
        if told:
            settings.log.error(error.line())
            status = error.status
        else:
            _give_up(record, store, settings)
            tell({"error": [error.what, error.why, error.hint, error.status]})
    except BaseException as error:
        _give_up(record if not told else None, store, settings)
        tell({"error": ["internal error", reason(error), "a bug; --debug before the verb shows where", STATUS_FAILURE]})
        if settings.debug:
            raise
    finally:
        os._exit(status & 0xFF)


def _give_up(record: Record | None, store: Store, settings: Settings) -> None:
    if record is not None:
        remove_container(record, store, settings.log)


def _let_go_of_streams() -> None:
    """The container's streams end with the container's processes, not with ours."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _read_report(reader: int, container_id: str, store: Store, log: Log) -> int:
    """The daemon's pid once its container is created. Its report is its pid, a newline, and a JSON object."""
    with os.fdopen(reader, "rb") as file:
        number, _, data = file.read(_REPORT_BYTES).partition(b"\n")
    if not data:
        _clean_up_after(int(number or b"0"), container_id, store, log)
        raise SupervisorError(f"container {container_id}", "its monitor ended before it was created")
    report = json.loads(data)
    if "error" in report:
        what, why, hint, status = report["error"]
        raise SupervisorError(what, why, hint, status)
    return int(report["pid"])


def _clean_up_after(pid: int, container_id: str, store: Store, log: Log) -> None:
    """Remove what a monitor that was killed left behind, if the container of that name is its own."""
    try:
        record = store.load(container_id)
    except SupervisorError:
        return
    if record.monitor.pid == pid:
        end_processes(record)
        remove_container(record, store, log)


def _write_pid_file(path: str, pid: int) -> None:
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w") as file:
            file.write(str(pid))
        os.rename(temporary, path)
    except OSError as error:
        raise SupervisorError(f"--pid-file {path}", os_reason(error)) from None

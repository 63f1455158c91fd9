"""What is on disk about containers: one small directory each, true after any crash.

Owns: `Record`, `Store`, and whether a recorded process still is the one that was recorded. Layout of the state root:
    <id>/state.json     written beside and renamed, never in place
    <id>/control.sock   the monitor's socket
    .new-<pid>-...      a directory being made; renamed to <id> when complete, so that an <id> is never half there
A container whose monitor is dead is stopped, whatever its file says: the services die with the monitor.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from services.supervisor.container.states import Status
from services.supervisor.errors import SupervisorError, os_reason

OCI_VERSION: Final = "1.0.2"
SOCKET_NAME: Final = "control.sock"
_STATE_NAME: Final = "state.json"
_NEW_PREFIX: Final = ".new-"
_END_WAIT_MS: Final = 5_000


class ProcessId:
    """A process that cannot be mistaken for another: its pid and its start time in clock ticks (proc_pid_stat(5))."""

    __slots__ = ("pid", "start")

    def __init__(self, pid: int, start: int) -> None:
        self.pid = pid
        self.start = start

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has `pid` now; start 0 when there is none."""
        return cls(pid, _start_time(pid))

    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        return self.pid > 0 and self.start > 0 and _start_time(self.pid) == self.start

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone; nothing happens to another process with its number."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            if self.alive():
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                _await_end(fd, _END_WAIT_MS)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)

    def wait(self) -> None:
        """Wait, not for ever, until it has ended by itself."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            if self.alive():
                _await_end(fd, _END_WAIT_MS)
        finally:
            os.close(fd)


def _await_end(pidfd: int, limit_ms: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(limit_ms)


def _start_time(pid: int) -> int:
    """Field 22 of /proc/<pid>/stat, 0 for a process that is not there or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


class Record:
    """A container as state.json has it. monitor: the process that owns it; processes: its services by name.
    exit_status: None until it stopped by itself. poststop: those hooks, [path, args, env, timeout in seconds] each."""

    __slots__ = ("annotations", "bundle", "created", "exit_status", "id", "monitor", "poststop", "processes", "status")

    def __init__(self, container_id: str, bundle: str, annotations: dict[str, str], monitor: ProcessId) -> None:
        self.id = container_id
        self.bundle = bundle
        self.annotations = annotations
        self.monitor = monitor
        self.status = Status.CREATING
        self.created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.exit_status: int | None = None
        self.processes: dict[str, ProcessId] = {}
        self.poststop: list[Any] = []

    def oci_state(self) -> dict[str, Any]:
        """The `state` of runtime.md; pid is the monitor's, which ends with the container's exit status."""
        return {
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "status": self.status.value,
            "pid": 0 if self.status is Status.STOPPED else self.monitor.pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        }

    def to_json(self) -> dict[str, Any]:
        """What state.json holds: the OCI state and what only we need."""
        processes = {name: [process.pid, process.start] for name, process in self.processes.items()}
        own = {
            "monitor": [self.monitor.pid, self.monitor.start],
            "processes": processes,
            "created": self.created,
            "exitStatus": self.exit_status,
            "poststop": self.poststop,
        }
        return {**self.oci_state(), "sentrio": own}

    @classmethod
    def from_json(cls, container_id: str, document: Any) -> Record:
        """The inverse. Raises ValueError, KeyError or TypeError for a file that is not ours."""
        own = document["sentrio"]
        pid, start = own["monitor"]
        record = cls(container_id, document["bundle"], document["annotations"], ProcessId(int(pid), int(start)))
        record.status = Status(document["status"])
        record.created = own["created"]
        record.exit_status = own["exitStatus"]
        record.poststop = list(own["poststop"])
        record.processes = {name: ProcessId(int(p), int(s)) for name, (p, s) in own["processes"].items()}
        return record


def default_root() -> str:
    """Where states are kept: /run/sentrio for root, else below $XDG_RUNTIME_DIR."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() == 0 and not runtime:
        return "/run/sentrio"
    if runtime and os.path.isdir(runtime):
        return os.path.join(runtime, "sentrio")
    return "/run/sentrio" if os.geteuid() == 0 else f"/tmp/sentrio-{os.geteuid()}"


class Store:
    """The containers below one state root ("" for the default one)."""

    def __init__(self, root: str = "") -> None:
        self.root = os.path.abspath(root or default_root())

    def directory(self, container_id: str) -> str:
        """Where the container's files are. Raises SupervisorError for an id that cannot be one."""
        if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]{0,199}", container_id):
            raise SupervisorError(f"container id {container_id[:60]!r}", "expected letters, digits, _, +, - and .")
        return os.path.join(self.root, container_id)

    def create(self, record: Record) -> None:
        """Put a new container there, complete at once. Raises SupervisorError when the id is taken."""
        final = self.directory(record.id)
        self._make_root()
        self._sweep()
        new = os.path.join(self.root, f"{_NEW_PREFIX}{os.getpid()}-{_start_time(os.getpid())}")
        os.mkdir(new, 0o700)
        _write(os.path.join(new, _STATE_NAME), record)
        try:
            os.rename(new, final)  # rename(2): a directory that is not empty is never replaced
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            if os.path.lexists(final):
                hint = "choose another id, or delete it"
                raise SupervisorError(f"container {record.id}", "there is one with this id already", hint) from None
            raise SupervisorError(f"container {record.id}", os_reason(error)) from None

    def save(self, record: Record) -> None:
        """Write the record anew. Nothing happens when the container was deleted meanwhile."""
        try:
            _write(os.path.join(self.directory(record.id), _STATE_NAME), record)
        except FileNotFoundError:
            pass

    def load(self, container_id: str) -> Record:
        """The container as it is now. Raises SupervisorError when there is none."""
        directory = self.directory(container_id)
        if not os.path.isdir(directory):
            hint = f"`supervisor list` shows those below {self.root}"
            raise SupervisorError(f"container {container_id}", "does not exist", hint)
        try:
            with open(os.path.join(directory, _STATE_NAME), "rb") as file:
                record = Record.from_json(container_id, json.load(file))
        except (OSError, ValueError, KeyError, TypeError):
            record = Record(container_id, "", {}, ProcessId(0, 0))
            record.created = ""
        if not record.monitor.alive():
            record.status = Status.STOPPED
        return record

    def list(self) -> list[Record]:
        """Every container, by id."""
        try:
            names = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SupervisorError(self.root, os_reason(error), "--root chooses another place") from None
        records = []
        for name in names:
            if not name.startswith(".") and os.path.isdir(os.path.join(self.root, name)):
                try:
                    records.append(self.load(name))
                except SupervisorError:
                    continue  # deleted meanwhile, or not one of ours
        return records

    def remove(self, container_id: str) -> None:
        """Remove everything about a container. No error when it is gone."""
        directory = self.directory(container_id)
        # Away from its name in one step: nobody sees it half removed.
        grave = os.path.join(self.root, f"{_NEW_PREFIX}{os.getpid()}-{_start_time(os.getpid())}-removed")
        try:
            os.rename(directory, grave)
        except FileNotFoundError:
            return
        shutil.rmtree(grave, ignore_errors=True)

    @contextmanager
    def locked(self, container_id: str) -> Iterator[None]:
        """Hold the container's lock: verbs that change its state come one after the other."""
        directory = self.directory(container_id)
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            yield  # load() says that there is none
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _make_root(self) -> None:
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            status = os.stat(self.root)
        except OSError as error:
            raise SupervisorError(self.root, os_reason(error), "--root chooses another place") from None
        if status.st_uid != os.geteuid():
            raise SupervisorError(self.root, "belongs to another user", "--root chooses another place")

    def _sweep(self) -> None:
        """Remove what a creator or remover that was killed left behind."""
        for name in os.listdir(self.root):
            found = re.match(re.escape(_NEW_PREFIX) + r"(\d+)-(\d+)", name)
            if found and not ProcessId(int(found[1]), int(found[2])).alive():
                shutil.rmtree(os.path.join(self.root, name), ignore_errors=True)


def _write(path: str, record: Record) -> None:
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(record.to_json(), file)
    os.rename(temporary, path)

"""The Sentry as a process: wires kernel, platform, file systems and control channel; seals; runs; ends.

`prepare(config)` runs while the host's files are in sight and imports everything; `run(config, fds)` never returns.
Order of `run`: platform (it forks its pristine process, so it comes before the seal), Gofer and mounts, first task,
seal, `ready`, then the loop. Before `ready` no guest instruction runs. The end of the sandbox is the end of pid 1, of
the control channel, or of this process; guest processes end with it in every case.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from platforms._host import lib
from platforms.systrap.systrap_platform import SystrapPlatform
from protocol.logs import Log, traceback_text
from services.sentry import boot, host_filter
from services.sentry.config import HostFacts, read_host_facts
from services.sentry.edge import loop
from services.sentry.edge.control import ControlChannel
from services.sentry.edge.host_poll import HostPoll
from services.sentry.errors import LinuxError, explain
from services.sentry.kernel.clocks import HostClock
from services.sentry.kernel.dispatcher import Dispatcher
from services.sentry.kernel.kernel import Kernel
from services.sentry.kernel.signals import SigInfo, send_signal_group
from services.sentry.strace.format import Tracer
from services.sentry.syscalls import table

if TYPE_CHECKING:
    from protocol.control.config import SentryConfig, SentryFds
    from protocol.control.msgpack_subset import Fd
    from services.sentry.kernel.task import Task

__all__ = ["prepare", "run"]

_PR_SET_DUMPABLE = 4
_NR_PRCTL = 157
_STATUS_FAILURE = 125
_PLATFORMS = ("systrap",)
_MAX_BUGS_TOLD = 5
_BUG_LENGTH = 800


class _Prepared:
    """What `prepare` found, for `run` in the same process."""

    facts: HostFacts | None = None
    platform: SystrapPlatform | None = None
    rows: list[table.Row | None] | None = None
    program: bytes | None = None


def prepare(config: SentryConfig) -> None:
    """Import, build tables, read what needs the host's /proc. Called once, before the root is emptied."""
    _Prepared.facts = read_host_facts(config)
    _Prepared.platform = SystrapPlatform()
    _Prepared.platform.prepare()
    _Prepared.rows = table.build()
    boot.import_filesystems()
    if config.network != "none":
        importlib.import_module("services.sentry.sockets.inet.netstack.provider")
    if config.sealed:
        from protocol.sealing.seal_unsafe import SealError, cache_directory, cached_filter

        try:
            _Prepared.program = cached_filter(host_filter.ROWS, cache_directory())
        except SealError:
            pass  # sealing says it


def run(config: SentryConfig, fds: SentryFds) -> NoReturn:
    """Run one sandbox; ends with os._exit."""
    if _Prepared.facts is None:
        prepare(config)
    assert _Prepared.facts is not None and _Prepared.platform is not None and _Prepared.rows is not None
    sentry = _Sentry(config, fds, _Prepared.facts, _Prepared.platform, _Prepared.rows)
    sentry.main()
    os._exit(0)


class _Sentry:
    def __init__(
        self,
        config: SentryConfig,
        fds: SentryFds,
        facts: HostFacts,
        platform: SystrapPlatform,
        rows: list[table.Row | None],
    ) -> None:
        self.config = config
        self.fds = fds
        self.platform = platform
        self.kernel = Kernel(facts, HostClock(), Log("sentry", config.log_level))
        self.kernel.platform = platform
        self.kernel.futexes.note_wake = platform.note_wake
        self.outside = HostPoll()
        self.kernel.host_poll = self.outside
        self.dispatcher = Dispatcher(self.kernel, platform, rows)
        self.dispatcher.oops = self._oops
        self._bugs = 0
        self._alone = os.getpid() != 1  # else the host ends all processes of its namespace with it
        if config.strace:
            self.kernel.tracing = True
            self.dispatcher.trace = Tracer(lambda line: print(line, file=sys.stderr))
        self.init: Any = None
        self.loop: loop.MainLoop | None = None
        self.started = False
        handlers: dict[str, Callable[..., Any]] = {
            "start": self.start,
            "signal": self.signal,
            "window_size": self.window_size,
            "foreground": self.foreground,
            "processes": self.processes,
            "state": self.state,
            "network_restarted": self.network_restarted,
            "shutdown": self.shutdown,
        }
        self.control = ControlChannel(socket.socket(fileno=fds.control), handlers, self.shutdown)
        self.outside.watch(fds.control, 1, self.control.readable)

    def main(self) -> None:
        """All of it, on the one thread: what comes before the seal, then the loop, then the report."""
        stage = "internal"
        try:
            for stage, step in self.steps():  # noqa: B007 - the handlers below name it
                step()
        except (LinuxError, OSError) as error:
            if self.config.debug:
                self.kernel.log.error("cannot start", exc_info=error)
            self.fail(stage, error.errno or 0, explain(error))
        except Exception as error:
            if self.config.debug:
                self.kernel.log.error("bug", exc_info=error)
            self.fail(stage, 0, f"{type(error).__name__}: {error}")
        assert self.loop is not None
        try:
            self.loop.run()
        except Exception as error:  # the interpreter's own report would open files, which is death here
            self.kernel.log.error("bug in the main loop", exc_info=error)
            self.fail("internal", 0, traceback_text(error)[:_BUG_LENGTH])
        self._end()

    def steps(self) -> list[tuple[str, Any]]:
        """What is done before the loop, by the stage that a failure is reported as."""
        return [
            ("platform", self._start_platform),
            ("mount", self._mount),
            ("mount", self._first_task),
            ("network", self._join_network),
            ("seal", self._seal),
            ("exec", self._ready),
        ]

    def fail(self, stage: str, number: int, why: str) -> NoReturn:
        self.control.notify("failed", stage, number, why)
        os._exit(_STATUS_FAILURE)

    # --- before the seal ---
    def _start_platform(self) -> None:
        if self.config.platform not in _PLATFORMS:
            raise OSError(0, f"{self.config.platform}: not available yet, only {', '.join(_PLATFORMS)}")
        # guests inherit it: the Sentry reads their memory, which the kernel refuses for processes that are not dumpable
        lib.sentrio_syscall(_NR_PRCTL, _PR_SET_DUMPABLE, 1, 0, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.platform.start(signal.SIGKILL if self._alone else 0)
        signal.signal(signal.SIGCHLD, self._child_ended)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _child_ended(self, _signo: int, _frame: object) -> None:
        self.dispatcher.reap_wanted = True
        try:
            os.eventfd_write(self.platform.doorbell, 1)
        except BlockingIOError:  # guests can fill it; then it is readable, which is all that matters
            pass

    def _mount(self) -> None:
        self.namespace = boot.make_mounts(self.kernel, self.config, self.fds)

    def _first_task(self) -> None:
        self.init = boot.make_init(self.kernel, self.config, self.fds, self.namespace)
        console = self.kernel.console
        if console is not None:
            console.wanted = lambda: self.control.notify("terminal_wanted")

    def _join_network(self) -> None:
        """Last before the seal: what serves the other end was started beside us."""
        if self.fds.network is not None:
            from services.sentry.sockets.inet.netstack import attach

            attach(self.kernel, self.fds.network)

    def _seal(self) -> None:
        self.loop = loop.MainLoop(self.kernel, self.dispatcher, self.platform, self.outside)
        gc.freeze()  # what is here stays, and nothing was collected so far (launch/birth.py)
        gc.enable()
        gc.set_threshold(50_000, 20, 50)
        if not self.config.sealed:
            lib.sentrio_syscall(_NR_PRCTL, _PR_SET_DUMPABLE, 0, 0, 0, 0, 0)
            return
        from protocol.sealing.seal_unsafe import SealError, seal

        try:
            seal(host_filter.ROWS, keep_fds=range(1024), dumpable=False, program=_Prepared.program)
        except SealError as error:
            raise OSError(0, str(error)) from None

    def _ready(self) -> None:
        if self.fds.ready is not None:
            os.write(self.fds.ready, b"r")
            os.close(self.fds.ready)
        self.control.notify("ready")
        if self.config.autostart:
            self.start()

    # --- the life ---
    def _end(self) -> None:
        if self._alone:
            self.platform.end()
        console = self.kernel.console
        if console is not None:
            console.restore()
        if self.config.report_missing and self.kernel.missed:
            names = ", ".join(f"{name} ({count})" for name, count in self.kernel.missed.most_common())
            self.control.notify("report", f"not implemented: {names}")
        left = {"tasks": len(self.kernel.tasks), **self.platform.counts()}
        self.kernel.log.info("at the end: %s", ", ".join(f"{name} {count}" for name, count in left.items()))
        if self.kernel.files_lost():
            self.control.notify("files_lost")
        status = self.kernel.exit_status
        self.control.notify("exited", status if status is not None else 0)

    def _oops(self, task: Task, error: BaseException) -> None:
        """A bug of ours ends a process: its user is told, a few times at most, and the log has all of them."""
        self.kernel.log.error("bug while serving %s (pid %d)", task.comm, task.group.pid, exc_info=error)
        self._bugs += 1
        if self._bugs <= _MAX_BUGS_TOLD:
            name = "".join(chr(c) if 32 <= c < 127 else f"\\x{c:02x}" for c in task.comm)
            why = traceback_text(error)[:_BUG_LENGTH]
            text = f"bug while serving {name} (pid {task.group.pid}), which is killed: {why}"
            self.control.notify("report", f"supervisor: warning: {text}")

    # --- requests of the monitor ---
    def start(self) -> None:
        """Run the first program. Errors as execve(2)."""
        if self.started:
            raise LinuxError(114, "the program was started already")
        self.started = True
        task = self.init
        try:
            outcome = boot.begin(task, self.config)
        except LinuxError as error:
            name = self.config.argv[0].decode(errors="replace")
            why = name if name in error.why or not error.why else f"{name}: {error.why}"
            raise LinuxError(error.errno, why) from None
        self.dispatcher._complete(task, outcome)
        self.control.notify("started")

    def signal(self, signo: int, everyone: bool) -> None:
        """Send a signal to the first process, or to all."""
        if not 1 <= signo <= 64:
            raise LinuxError(22, f"no signal {signo}")
        info = SigInfo(signo, 0x80, pid=0, outside=True)
        if everyone:
            for group in list(self.kernel.groups.values()):
                send_signal_group(group, info)
            return
        boot.signal_init(self.kernel, signo)

    def window_size(self, rows: int, columns: int) -> None:
        console = self.kernel.console
        if console is not None:
            console.resize(rows, columns)

    def foreground(self, yes: bool) -> None:
        """Whether the host's terminal is ours to read."""
        console = self.kernel.console
        if console is not None:
            console.set_foreground(yes)

    def processes(self) -> list[dict[str, object]]:
        """What `ps` shows: one map a process."""
        found: list[dict[str, object]] = []
        for group in self.kernel.groups.values():
            leader = group.leader
            memory = leader.mm_or_none  # None at its end
            found.append(
                {
                    "pid": group.pid,
                    "ppid": group.parent.pid if group.parent is not None else 0,
                    "uid": leader.cred.ruid,
                    "state": leader.state,
                    "cpu_ns": group.cpu_time_ns(),
                    "rss_bytes": memory.total_pages * 4096 if memory is not None else 0,
                    "command": leader.comm,
                }
            )
        return found

    def state(self) -> dict[str, object]:
        return {"phase": "running" if self.started else "created", "processes": len(self.kernel.groups)}

    def network_restarted(self, connection: Fd) -> None:
        """A new connection to the socket service; what ran over the old one is reset. ENOTCONN without a network."""
        restarted = self.kernel.network_restarted
        if restarted is None:
            os.close(connection.number)
            raise LinuxError(107, "the sandbox has no network")
        restarted(connection.number)

    def shutdown(self) -> NoReturn:
        """End at once. Guest processes die with this one (pid namespace, or the parent-death signal)."""
        console = self.kernel.console
        if console is not None:
            console.restore()
        os._exit(0)

"""Watches one sandbox from its launch to its end: the event loop of the monitor process.

Owns: the control channel to the Sentry, signals and their forwarding, reaping, the clients of the sandbox's own socket,
the decision when it is over and with which exit status, and that nothing is left. Does not own starting (launch/)
or files (container/).

Life: `Monitor(...)` around a launched sandbox -> `run()` once. Phases: BOOTING -> READY (sealed, nothing of the guest
ran) -> RUNNING -> over. One thread, one poll(2); no callback blocks but the lifecycle's hooks.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from enum import Enum

from protocol.control.messages import (
    FROM_SENTRY,
    NOTIFICATION,
    REQUEST,
    RESPONSE,
    Decoder,
    Message,
    request,
)
from protocol.errors import ProtocolViolation
from services.supervisor.errors import (
    STATUS_FAILURE,
    SupervisorError,
    exec_status,
    reason,
)
from services.supervisor.launch.processes import BORN_PLAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from services.supervisor.launch.processes import Sandbox, ServiceProcess
    from services.supervisor.log import Log
    from services.supervisor.monitor.clients import Clients
    from services.supervisor.monitor.lifecycle import Lifecycle
    from services.supervisor.monitor.terminal import Terminal
    from services.supervisor.monitor.warden import Warden

#: Signals that go on to the guest's first process.
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGCONT,
    signal.SIGIO,
    signal.SIGPROF,
    signal.SIGVTALRM,
)
#: With a terminal these come from it, and the guest's own line discipline makes them.
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
#: Before the guest runs, these end the sandbox.
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)

_ESRCH = 3
#: How long a Sentry may go on after its Gofer left in peace.
_GOFER_GRACE_S = 2.0
_READ_BYTES = 65_536
_LOG_KEPT_BYTES = 16_384


class Phase(Enum):
    """How far the sandbox got."""

    BOOTING = 1
    READY = 2
    RUNNING = 3


class Monitor:
    """One sandbox's monitor.

    terminal: the caller's, when the guest uses it. clients: the sandbox's own socket, for containers. log: where
    warnings go. sentry_debug: the services' own log goes to our standard error already.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        lifecycle: Lifecycle,
        log: Log,
        terminal: Terminal | None = None,
        clients: Clients | None = None,
    ) -> None:
        self.phase = Phase.BOOTING
        self._sandbox = sandbox
        self._lifecycle = lifecycle
        self._log = log
        self._terminal = terminal
        self._clients = clients
        self._poll = select.poll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._alive = {service.pid: service for service in (sandbox.sentry, sandbox.gofer)}
        self._decoder = Decoder(FROM_SENTRY)
        self._answers: dict[int, Callable[[Message], None]] = {}
        self._requests = 0
        self._outgoing = bytearray()
        self._status: int | None = None
        self._error: SupervisorError | None = None
        self._weak: list[str] = []
        self._sealed: set[str] = set()
        self._last_words: dict[str, bytearray] = {"sentry": bytearray(), "gofer": bytearray()}
        self._boot_text: dict[str, bytearray] = {"sentry": bytearray(), "gofer": bytearray()}
        self._wake_reader = self._wake_writer = -1
        self._warden: Warden | None = None
        self._ending: set[int] = set()
        self._gofer_deadline: float | None = None

    def run(self) -> int:
        """Watch until the end; the exit status of the sandbox. Raises SupervisorError when it failed as such.

        Afterwards no process of the sandbox is left and the terminal is as it was.
        """
        try:
            self._watch_everything()
            self._lifecycle.launched(self._sandbox)
            while self._status is None and self._error is None:
                self._turn()
        except SupervisorError as error:
            self._error = error
        finally:
            self._end_everything()
        status = self._error.status if self._error is not None else self._status or 0
        self._lifecycle.stopped(status)
        if self._error is not None:
            raise self._error
        return status

    def request(self, method: str, params: list[object], answered: Callable[[Message], None] | None = None) -> None:
        """Send a request to the Sentry; `answered` gets its response."""
        self._requests += 1
        if answered is not None:
            self._answers[self._requests] = answered
        self._send(request(self._requests, method, *params))

    def start(self, answered: Callable[[Message], None]) -> None:
        """Run the guest's first process (OCI `start`). When it cannot be executed the sandbox is over."""

        def began(message: Message) -> None:
            over = self._status is not None or self._error is not None
            if message.error is None and not over:
                self._note_started()
            answered(message)
            if message.error is not None:
                errno, why = message.error
                self._on_failed("exec", int(errno), str(why))

        self.request("start", [], began)

    def shut_down(self, status: int) -> None:
        """End the sandbox now, with this exit status."""
        if self._status is None:
            self._status = status

    def watch(self, fd: int, reader: Callable[[], None]) -> None:
        """Call `reader` whenever `fd` is readable or hung up."""
        self._readers[fd] = reader
        self._poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`; before `fd` is closed."""
        if self._readers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    # What is watched.

    def _watch_everything(self) -> None:
        self._watch_signals()
        self.watch(self._sandbox.control.fileno(), self._read_control)
        for service in (self._sandbox.sentry, self._sandbox.gofer):
            self.watch(service.boot.fileno(), lambda service=service: self._read_boot(service))  # type: ignore[misc]
            self.watch(service.ready, lambda service=service: self._read_ready(service))  # type: ignore[misc]
            if service.log >= 0:
                self.watch(service.log, lambda service=service: self._read_log(service))  # type: ignore[misc]
        if self._clients is not None:
            self._clients.attach(self)
        if self._sandbox.sentry.born == BORN_PLAIN:
            from services.supervisor.monitor.warden import Warden

            self._warden = Warden(self._sandbox.sentry.pid)
        self._reap()  # whatever ended before SIGCHLD was watched

    def _watch_signals(self) -> None:
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        self._ending = {number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN}
        for number in (*FORWARDED, signal.SIGCHLD, signal.SIGWINCH):
            signal.signal(number, _noted)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        # The guest has what the caller blocked; we are to hear everything.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._note_terminal()
        self.watch(self._wake_reader, self._read_signals)

    def _turn(self) -> None:
        timeout_ms = None if self._gofer_deadline is None else max(0.0, self._gofer_deadline - time.monotonic()) * 1000
        found = self._poll.poll(timeout_ms)
        if not found:
            self.fail(SupervisorError("sandbox", "the Gofer ended unexpectedly: exit status 0"))
        for fd, _ in found:
            reader = self._readers.get(fd)
            if reader is not None:
                reader()
            if self._status is not None or self._error is not None:
                return

    def _read_signals(self) -> None:
        for number in os.read(self._wake_reader, 512):
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGWINCH:
                self._tell_window_size()
            elif number in FORWARDED:
                if number == signal.SIGCONT:
                    self._look_at_terminal(tell=True)
                self._forward(number)

    def _forward(self, number: int) -> None:
        self._read_control()  # what the Sentry said before the signal counts as before it
        if self.phase is not Phase.RUNNING:
            if number in self._ending:
                self.shut_down(128 + number)
        elif self._terminal is None or not self._terminal.ours or number not in FROM_TERMINAL:
            self.request("signal", [number, False])

    def _note_terminal(self) -> None:
        """While the terminal is ours Ctrl-Z is the guest's; otherwise it stops us as it does any job."""
        if self._terminal is not None:
            signal.signal(signal.SIGTSTP, signal.SIG_IGN if self._terminal.ours else signal.SIG_DFL)

    def _look_at_terminal(self, tell: bool) -> None:
        """The Sentry is told when the terminal became ours or ceased to be; with `tell` also when it did not."""
        if self._terminal is None or not (self._terminal.look() or tell):
            return
        self._note_terminal()
        if self._terminal.ours:
            self._tell_window_size()
        self.request("foreground", [self._terminal.ours])

    def _on_terminal_wanted(self) -> None:
        if self._terminal is None:
            return
        self._look_at_terminal(tell=False)
        if not self._terminal.ours:
            self._terminal.stop_as_reader()

    def _tell_window_size(self) -> None:
        if self._terminal is not None and self.phase is not Phase.BOOTING:
            rows, columns = self._terminal.size()
            self.request("window_size", [rows, columns])

    # The services' ends.

    def _reap(self) -> None:
        for pid, service in list(self._alive.items()):
            done, wait_status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._alive[pid]
                self._died(service, wait_status)

    def _died(self, service: ServiceProcess, wait_status: int) -> None:
        # What it still said counts: the Sentry's `exited` and a boot failure come before its end.
        self._read_boot(service)
        self._read_control()
        if service.log >= 0:
            self._read_log(service)
        if self._status is not None or self._error is not None:
            return
        code = os.waitstatus_to_exitcode(wait_status)
        if service is self._sandbox.gofer and code == 0:
            # Its conversation ended: the Sentry is ending too, and its status is the one that counts.
            self._gofer_deadline = time.monotonic() + _GOFER_GRACE_S
            return
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        said = self._last_words[service.name].decode("utf-8", "replace").strip().rpartition("\n")[2]
        name = "the Sentry" if service.name == "sentry" else "the Gofer"
        why = f"{name} ended unexpectedly: {how}" + (f": {said[:300]}" if said else "")
        self.fail(SupervisorError("sandbox", why, "--debug before the verb shows its log"))

    def _read_boot(self, service: ServiceProcess) -> None:
        if service.boot.fileno() < 0:
            return
        text = self._boot_text[service.name]
        while True:
            try:
                data = service.boot.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.unwatch(service.boot.fileno())
                service.boot.close()
                break
            text += data
        while b"\n" in text:
            line, _, rest = bytes(text).partition(b"\n")
            text[:] = rest
            self._boot_line(service, line.decode("utf-8", "replace"))

    def _boot_line(self, service: ServiceProcess, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "weak":
            if rest not in self._weak:
                self._weak.append(rest)
        elif word == "fail":
            self.fail(SupervisorError("sandbox", rest))
        elif word == "map":
            self._map_ids(service)

    def _map_ids(self, service: ServiceProcess) -> None:
        from services.supervisor.launch.namespaces import map_user_of
        from services.supervisor.launch.privileges import UNPRIVILEGED_ID

        try:
            map_user_of(service.pid, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
            answer = b"done\n"
        except OSError as error:
            self._log.debug(f"user namespace of the {service.name}: {reason(error)}")
            answer = b"no\n"
        try:
            service.boot.sendall(answer)
        except OSError:
            pass  # it ended; SIGCHLD tells

    def _read_ready(self, service: ServiceProcess) -> None:
        """One byte: it is sealed. End of file alone: it is not, and SIGCHLD will tell."""
        try:
            sealed = bool(os.read(service.ready, 8))
        except BlockingIOError:
            return
        self.unwatch(service.ready)
        os.close(service.ready)
        service.ready = -1
        if sealed:
            self._note_sealed(service.name)

    def _read_log(self, service: ServiceProcess) -> None:
        words = self._last_words[service.name]
        while service.log >= 0:
            try:
                data = os.read(service.log, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self.unwatch(service.log)
                os.close(service.log)
                service.log = -1
                return
            words += data
            del words[:-_LOG_KEPT_BYTES]

    # The Sentry's conversation.

    def _read_control(self) -> None:
        control = self._sandbox.control
        while control.fileno() >= 0:
            try:
                data = control.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.unwatch(control.fileno())
                control.close()
                return
            try:
                messages = self._decoder.feed_untrusted(data)
            except ProtocolViolation as error:
                self.fail(SupervisorError("sandbox", f"the Sentry sent a bad message: {error.why}"))
                return
            for message in messages:
                self._handle(message)

    def _handle(self, message: Message) -> None:
        if message.kind == NOTIFICATION:
            _NOTIFICATIONS[message.method](self, *message.params)
        elif message.kind == RESPONSE:
            answered = self._answers.pop(message.number, None)
            if answered is not None:
                answered(message)
        elif message.kind == REQUEST:
            self.fail(SupervisorError("sandbox", "the Sentry sent a request"))

    def _on_ready(self) -> None:
        self._note_sealed("sentry")

    def _note_sealed(self, name: str) -> None:
        self._sealed.add(name)
        if self.phase is Phase.BOOTING and len(self._sealed) == len(self._boot_text):
            self.phase = Phase.READY
            for service in list(self._alive.values()):
                self._read_boot(service)  # what it said before its seal may be seen only now
            if self._weak:
                text = "weaker confinement: " + "; ".join(self._weak)
                self._log.warning(text, "seccomp alone is left of it; SENTRIO_QUIET=1 hides this", can_hide=True)
            self._lifecycle.ready()

    def _on_started(self) -> None:
        # A guest that runs was read through the Gofer, which serves after its seal only.
        self._note_sealed("gofer")
        self._note_sealed("sentry")
        self._note_started()

    def _note_started(self) -> None:
        if self.phase is not Phase.RUNNING:
            self.phase = Phase.RUNNING
            self._lifecycle.started()

    def _on_exited(self, wait_status: int) -> None:
        try:
            code = os.waitstatus_to_exitcode(wait_status)
        except (ValueError, OverflowError):
            self.fail(SupervisorError("sandbox", f"the Sentry sent wait status {wait_status}, which is none"))
            return
        self.shut_down(code if code >= 0 else 128 - code)

    def _on_failed(self, stage: str, errno: int, why: str) -> None:
        status = exec_status(errno) if stage == "exec" else STATUS_FAILURE
        self.fail(SupervisorError(stage if stage != "internal" else "sandbox", why[:2000], status=status))

    def _on_log(self, level: str, text: str) -> None:
        self._log.service(level, text)

    def _on_report(self, text: str) -> None:
        self._log.plain(text)

    def fail(self, error: SupervisorError) -> None:
        """End the sandbox now, with this error; the first one counts."""
        if self._error is None and self._status is None:
            self._error = error

    def _send(self, data: bytes) -> None:
        """Requests are few and small: a Sentry that does not read 200 KB of them is stuck, and they are dropped."""
        if self._sandbox.control.fileno() < 0:
            return
        try:
            self._sandbox.control.sendall(data)
        except BlockingIOError:
            self._log.debug("the Sentry does not read its control channel")
        except OSError:
            pass  # it ended; SIGCHLD tells

    # The end.

    def _end_everything(self) -> None:
        for pid in self._alive:
            _kill(pid)
        for pid in list(self._alive):
            os.waitpid(pid, 0)
            del self._alive[pid]
        if self._warden is not None:
            from services.supervisor.monitor.warden import kill_group

            kill_group(self._sandbox.sentry.pid)
            self._warden.dismiss()
        if self._terminal is not None:
            self._terminal.restore()
        self._answer_the_waiting()
        if self._clients is not None:
            self._clients.close()
        for service in (self._sandbox.sentry, self._sandbox.gofer):
            service.boot.close()
            if service.ready >= 0:
                os.close(service.ready)
                service.ready = -1
        self._sandbox.control.close()
        signal.set_wakeup_fd(-1)
        if sys.stderr is not None:
            sys.stderr.flush()

    def _answer_the_waiting(self) -> None:
        """Whoever asked the Sentry for something that ended it (a signal) is told so before we hang up."""
        error = None if self._error is None else [_ESRCH, self._error.why]
        for number, answered in list(self._answers.items()):
            answered(Message(RESPONSE, number, error=error))
        self._answers.clear()


def _noted(_number: int, _frame: object) -> None:
    """The wake-up descriptor carries the number; see _read_signals."""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


_NOTIFICATIONS: dict[str, Callable[..., None]] = {
    "ready": Monitor._on_ready,
    "started": Monitor._on_started,
    "exited": Monitor._on_exited,
    "failed": Monitor._on_failed,
    "terminal_wanted": Monitor._on_terminal_wanted,
    "log": Monitor._on_log,
    "report": Monitor._on_report,
}

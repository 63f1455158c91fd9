"""Watches one sandbox from its launch to its end: the event loop of the monitor process.

Owns: the control channel to the Sentry, signals and their forwarding, reaping, the clients of the sandbox's own socket,
the decision when it is over and with which exit status, and that nothing is left. Does not own starting (launch/)
or files (container/).

Life: `Monitor(...)` around a launched sandbox -> `run()` once. Phases: BOOTING -> READY (sealed, nothing of the guest
ran) -> RUNNING -> over. One thread, one poll(2); no callback blocks but the lifecycle's hooks.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import sys
from enum import Enum

from protocol.control.messages import (
    FROM_SENTRY,
    NOTIFICATION,
    REQUEST,
    RESPONSE,
    Decoder,
    Message,
    request_with_fds,
)
from protocol.errors import ProtocolViolation
from services.supervisor.errors import (
    STATUS_FAILURE,
    SupervisorError,
    exec_status,
)
from services.supervisor.launch.processes import BORN_PLAIN
from services.supervisor.monitor.loop import Loop
from services.supervisor.monitor.service_watch import ServiceWatch, how_it_ended

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
#: How long the network may go on sending what the sandbox has sent before it ended; netstackd gives up after a second
#: in which nobody took anything.
DRAIN_LIMIT_S = 10.0
_READ_BYTES = 65_536


class Phase(Enum):
    """How far the sandbox got."""

    BOOTING = 1
    READY = 2
    RUNNING = 3


class Monitor:
    """One sandbox's monitor.

    terminal: the caller's, when the guest uses it. clients: the sandbox's own socket, for containers. log: where
    warnings go. start_when_ready: run the guest as soon as everything is sealed; else the Sentry does it by itself
    (SentryConfig.autostart) or `start` is asked for.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        lifecycle: Lifecycle,
        log: Log,
        terminal: Terminal | None = None,
        clients: Clients | None = None,
        start_when_ready: bool = False,
    ) -> None:
        self.phase = Phase.BOOTING
        self._sandbox = sandbox
        self._lifecycle = lifecycle
        self._log = log
        self._terminal = terminal
        self._clients = clients
        self._start_when_ready = start_when_ready
        self.loop = Loop()
        self.services = ServiceWatch(self.loop, self, log)
        self._decoder = Decoder(FROM_SENTRY)
        self._answers: dict[int, Callable[[Message], None]] = {}
        self._requests = 0
        self._outgoing = bytearray()
        self._status: int | None = None
        self._error: SupervisorError | None = None
        #: What must be said to be sealed (or, for "network", joined) before anything of the guest runs.
        self._unsealed = {"sentry", "gofer"}
        self._wake_reader = self._wake_writer = -1
        self._warden: Warden | None = None
        self._ending: set[int] = set()
        self._drained = False
        self._files_lost = False

    def run(self) -> int:
        """Watch until the end; the exit status of the sandbox. Raises SupervisorError when it failed as such.

        Afterwards no process of the sandbox is left and the terminal is as it was.
        """
        try:
            self._watch_everything()
            self._lifecycle.launched(self._sandbox)
            while not self.is_over():
                self.loop.turn(self.is_over)
        except SupervisorError as error:
            self._error = error
        finally:
            self._end_everything()
        status = self._error.status if self._error is not None else self._status or 0
        self._lifecycle.stopped(status)
        if self._error is not None:
            raise self._error
        return status

    def is_over(self) -> bool:
        """Whether the sandbox has ended, or is about to be."""
        return self._status is not None or self._error is not None

    def request(self, method: str, params: list[object], answered: Callable[[Message], None] | None = None) -> None:
        """Send a request to the Sentry; `answered` gets its response. Params may hold an `Fd`."""
        self._requests += 1
        if answered is not None:
            self._answers[self._requests] = answered
        self._send(*request_with_fds(self._requests, method, *params))

    def start(self, answered: Callable[[Message], None]) -> None:
        """Run the guest's first process (OCI `start`). When it cannot be executed the sandbox is over."""

        def began(message: Message) -> None:
            if message.error is None and not self.is_over():
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

    def expect(self, name: str) -> None:
        """Nothing of the guest runs before `note_sealed(name)`; to be called before `run` turns."""
        self._unsealed.add(name)

    def services_changed(self) -> None:
        """A service of the network was started anew: book is kept of the processes."""
        self._lifecycle.launched(self._sandbox)

    def warn(self, text: str) -> None:
        """A line for the user that ends nothing."""
        self._log.warning(text)

    # What is watched.

    def _watch_everything(self) -> None:
        self._watch_signals()
        self.loop.watch(self._sandbox.control.fileno(), self._read_control)
        for service in (self._sandbox.sentry, self._sandbox.gofer):
            self.services.add(service)
        if self._sandbox.network is not None:
            self._sandbox.network.attach(self)
        if self._clients is not None:
            self._clients.attach(self)
        if self._sandbox.sentry.born == BORN_PLAIN:
            from services.supervisor.monitor.warden import Warden

            self._warden = Warden(self._sandbox.sentry.pid)
        self.services.reap()  # whatever ended before SIGCHLD was watched

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
        self.loop.watch(self._wake_reader, self._read_signals)

    def _read_signals(self) -> None:
        for number in os.read(self._wake_reader, 512):
            if number == signal.SIGCHLD:
                self.services.reap()
            elif number == signal.SIGWINCH:
                self._tell_window_size()
            elif number in FORWARDED:
                if number == signal.SIGCONT:
                    self._look_at_terminal(tell=True)
                self._forward(number)

    def _forward(self, number: int) -> None:
        self._read_control()  # what the Sentry said before the signal counts as before it
        if self.is_over():
            self._drained |= number in self._ending  # whoever asks for the end once more does not want to wait
        elif self.phase is not Phase.RUNNING:
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

    def service_ended(self, service: ServiceProcess, code: int) -> None:
        """See ServiceEvents: but for the network's, the end of a service is the end of the sandbox."""
        # What it still said counts: the Sentry's `exited` comes before its end.
        self._read_control()
        network = self._sandbox.network
        if self._status is not None or self._error is not None:
            # What it had still to send is lost with it.
            self._drained |= network is not None and service in network.services
            return
        if network is not None and service in network.services:
            network.ended(service, code)
        elif service is self._sandbox.sentry and self._files_lost:
            pass  # it has told of the Gofer's end, which is the one that counts
        elif service is self._sandbox.gofer and code == 0:
            # Its conversation ended: the Sentry is ending too, and its status is the one that counts.
            error = SupervisorError("sandbox", "the Gofer ended unexpectedly: exit status 0")
            self.loop.call_later(_GOFER_GRACE_S, lambda: self.fail(error))
        else:
            hint = "--debug before the verb shows its log"
            self.fail(SupervisorError("sandbox", how_it_ended(service, code), hint))

    def service_failed(self, service: ServiceProcess, why: str) -> None:
        """See ServiceEvents."""
        self.fail(SupervisorError("sandbox", why))

    def service_sealed(self, service: ServiceProcess) -> None:
        """See ServiceEvents."""
        self.note_sealed(service.name)

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
                self.loop.unwatch(control.fileno())
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
        self.note_sealed("sentry")

    def note_sealed(self, name: str) -> None:
        """`name` was sealed or joined; when it was the last, the sandbox is ready."""
        self._unsealed.discard(name)
        if self.phase is Phase.BOOTING and not self._unsealed:
            self.phase = Phase.READY
            for service in list(self.services.alive.values()):
                self.services.read_boot(service)  # what it said before its seal may be seen only now
            if self.services.weak:
                text = "weaker confinement: " + "; ".join(self.services.weak)
                self._log.warning(text, "seccomp alone is left of it; SENTRIO_QUIET=1 hides this", can_hide=True)
            self._lifecycle.ready()
            if self._start_when_ready:
                self.start(lambda _answer: None)

    def _on_started(self) -> None:
        # A guest that runs was read through the Gofer, which serves after its seal only.
        self.note_sealed("gofer")
        self.note_sealed("sentry")
        self._note_started()

    def _note_started(self) -> None:
        if self.phase is not Phase.RUNNING:
            self.phase = Phase.RUNNING
            self._lifecycle.started()

    def _on_files_lost(self) -> None:
        """The Gofer ends, or has ended; that it has been reaped may take a moment longer than what comes of it."""
        self._files_lost = True
        error = SupervisorError("sandbox", "the Gofer's conversation with the Sentry ended unexpectedly")
        self.loop.call_later(_GOFER_GRACE_S, lambda: self.fail(error))

    def _on_exited(self, wait_status: int) -> None:
        if self._files_lost:
            return
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

    def _send(self, data: bytes, fds: list[int]) -> None:
        """Requests are few and small: a Sentry that does not read 200 KB of them is stuck, and they are dropped."""
        if self._sandbox.control.fileno() < 0:
            return
        try:
            if fds:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                self._sandbox.control.sendmsg([data], rights)
            else:
                self._sandbox.control.sendall(data)
        except BlockingIOError:
            self._log.debug("the Sentry does not read its control channel")
        except OSError:
            pass  # it ended; SIGCHLD tells

    # The end.

    def _end_everything(self) -> None:
        self.services.end_all((self._sandbox.sentry, self._sandbox.gofer))
        if self._warden is not None:
            from services.supervisor.monitor.warden import kill_group

            kill_group(self._sandbox.sentry.pid)
            self._warden.dismiss()
        if self._terminal is not None:
            self._terminal.restore()
        self._let_network_drain()
        self.services.end_all()
        self._answer_the_waiting()
        if self._clients is not None:
            self._clients.close()
        if self._sandbox.network is not None:
            self._sandbox.network.close()
        for service in (self._sandbox.sentry, self._sandbox.gofer):
            self.services.forget(service)
        self._sandbox.control.close()
        signal.set_wakeup_fd(-1)
        if sys.stderr is not None:
            sys.stderr.flush()

    def _let_network_drain(self) -> None:
        """As Linux goes on sending what a process has sent before it ended."""
        network = self._sandbox.network
        if network is None or self.phase is not Phase.RUNNING:
            return

        def over() -> None:
            self._drained = True

        network.drain(over)
        if not self._drained:
            self.loop.call_later(DRAIN_LIMIT_S, over)
        while not self._drained:
            self.loop.turn(lambda: self._drained)

    def _answer_the_waiting(self) -> None:
        """Whoever asked the Sentry for something that ended it (a signal) is told so before we hang up."""
        error = None if self._error is None else [_ESRCH, self._error.why]
        for number, answered in list(self._answers.items()):
            answered(Message(RESPONSE, number, error=error))
        self._answers.clear()


def _noted(_number: int, _frame: object) -> None:
    """The wake-up descriptor carries the number; see _read_signals."""


_NOTIFICATIONS: dict[str, Callable[..., None]] = {
    "ready": Monitor._on_ready,
    "started": Monitor._on_started,
    "files_lost": Monitor._on_files_lost,
    "exited": Monitor._on_exited,
    "failed": Monitor._on_failed,
    "terminal_wanted": Monitor._on_terminal_wanted,
    "log": Monitor._on_log,
    "report": Monitor._on_report,
}

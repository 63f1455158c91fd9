"""The keeper of a named network: a daemon that has netstackd and its connector as children for as long as it is used.

Owns: `join_or_start`, `NetworkKeeper`. Below the state root:
    .networks/             its flock(2) is held while somebody joins, starts or ends a network
    .networks/NAME/member.sock    the keeper's: each member holds a connection, and with the last the network ends
    .networks/NAME/control.sock   netstackd's control socket; it listens on while netstackd is started again

Whoever comes first binds both sockets and forks the keeper, so that connecting works from that moment on. A keeper that
was killed takes netstackd with it (PR_SET_PDEATHSIG); its members start another one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket

from services.supervisor.container.store import Store
from services.supervisor.errors import SupervisorError
from services.supervisor.launch.plan import LaunchPlan
from services.supervisor.log import Log
from services.supervisor.monitor.loop import Loop
from services.supervisor.monitor.service_watch import ServiceWatch, how_it_ended
from services.supervisor.network.private import PRESET, Carrier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from services.supervisor.launch.processes import ServiceProcess
    from services.supervisor.settings import Settings

NETWORKS = ".networks"
MEMBERS = "member.sock"
CONTROL = "control.sock"
_BACKLOG = 128
#: How long netstackd may go on sending what the last members have sent before they ended.
_DRAIN_LIMIT_S = 10.0


def join_or_start(name: str, settings: Settings) -> tuple[socket.socket, socket.socket]:
    """Connections to the keeper and to netstackd's control socket of network `name`, made if need be. OSError."""
    above = os.path.join(Store(settings.state_root).root, NETWORKS)
    os.makedirs(above, 0o700, exist_ok=True)
    path = os.path.join(above, name)
    lock = _locked(above)
    try:
        try:
            return _connected(os.path.join(path, MEMBERS)), _connected(os.path.join(path, CONTROL))
        except OSError:
            pass  # there is none, or its keeper was killed
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path, 0o700)
        members = _listening(os.path.join(path, MEMBERS))
        control = _listening(os.path.join(path, CONTROL))
        _start_keeper(name, path, settings, members, control)
        members.close()
        control.close()
        return _connected(os.path.join(path, MEMBERS)), _connected(os.path.join(path, CONTROL))
    finally:
        os.close(lock)


def _locked(directory: str) -> int:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _listening(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    os.chmod(path, 0o600)
    sock.listen(_BACKLOG)
    return sock


def _start_keeper(name: str, path: str, settings: Settings, members: socket.socket, control: socket.socket) -> None:
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _be_keeper(name, path, settings, members, control)
    finally:
        os._exit(0)


def _be_keeper(name: str, path: str, settings: Settings, members: socket.socket, control: socket.socket) -> None:
    """Nothing of who forked it is kept: no descriptor, no signal handler, no directory."""
    os.chdir("/")
    signal.set_wakeup_fd(-1)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    low = 3
    for fd in sorted((members.fileno(), control.fileno())):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 30)
    log = Log(path=os.path.join(path, "log"))
    plan = LaunchPlan(
        sandbox_id=f"network {name}",
        exports=[],
        build_config=_no_config,
        stdio=[],
        modules=settings.modules,
        sealed=settings.sealed,
        isolate=settings.isolate,
    )
    NetworkKeeper(path, plan, members, control, log).run()


def _no_config():  # type: ignore[no-untyped-def]
    raise AssertionError("a network has no Sentry")


class NetworkKeeper:
    """See the module docstring. Ends when its last member has ended."""

    def __init__(self, path: str, plan: LaunchPlan, members: socket.socket, control: socket.socket, log: Log) -> None:
        self._path = path
        self._plan = plan
        self._listener = members
        self._log = log
        self._loop = Loop()
        self._services = ServiceWatch(self._loop, self, log)
        self._carrier = Carrier(PRESET, lambda: None, lambda: None, control)
        self._members: dict[int, socket.socket] = {}
        self._over = False
        self._ended: Callable[[], None] = lambda: None

    def run(self) -> None:
        """Until the last member has left."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)  # it ends with its members
        signal.signal(signal.SIGCHLD, lambda *_: None)

        def child_ended() -> None:
            os.read(reader, 512)
            self._services.reap()

        self._loop.watch(reader, child_ended)
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), self._accept)
        try:
            self._start()
            while not self._over:
                self._loop.turn(lambda: self._over)
            self._let_drain()
        except SupervisorError as error:
            self._log.error(error.line())
        finally:
            self._carrier.end()

    def _let_drain(self) -> None:
        """What its members sent before they ended goes on its way. Nobody waits for that."""
        drained = False

        def over() -> None:
            nonlocal drained
            drained = True

        self._ended = over
        self._carrier.drain(over)
        self._loop.call_later(_DRAIN_LIMIT_S, over)
        while not drained:
            self._loop.turn(lambda: drained)

    def service_sealed(self, service: ServiceProcess) -> None:
        """See ServiceEvents."""

    def service_failed(self, service: ServiceProcess, why: str) -> None:
        """See ServiceEvents: its end follows."""
        self._log.error(f"{service.title}: {why}")

    def service_ended(self, service: ServiceProcess, code: int) -> None:
        """See ServiceEvents."""
        self._log.warning(how_it_ended(service, code))
        if self._over:
            self._ended()
            return
        if self._carrier.connector_ended(service):
            return
        self._carrier.end()
        if self._carrier.may_restart():
            self._start()
        else:
            self._over = True  # its members see that, and try again after a while

    def _start(self) -> None:
        self._carrier.start(self._plan)
        self._carrier.watch(self._loop, self._services)

    def _accept(self) -> None:
        try:
            member, _ = self._listener.accept()
        except OSError:
            return
        self._members[member.fileno()] = member
        self._loop.watch(member.fileno(), lambda: self._left(member))

    def _left(self, member: socket.socket) -> None:
        self._loop.unwatch(member.fileno())
        del self._members[member.fileno()]
        member.close()
        if self._members:
            return
        lock = _locked(os.path.dirname(self._path))  # nobody joins meanwhile
        try:
            self._accept()
            if not self._members:
                shutil.rmtree(self._path, ignore_errors=True)
                self._over = True
        finally:
            os.close(lock)

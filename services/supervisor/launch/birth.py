"""What happens in a new service process between its fork and its entry point.

Owns: `Birth`, run in the child only. Life: keep nothing but what was given -> import -> take the host's files away ->
drop rights -> entry point, which seals and says `ready`. Does not own how (namespaces.py, privileges.py) nor what the
services then do.

Until then the process talks to the monitor over its boot socket, in lines of text; end of file says that the entry
point was reached:
    child -> monitor: "map"        root's Sentry asks for ids in its new user namespace; answered by "done" or "no"
                      "weak TEXT"  a part of the confinement that this host refuses
                      "fail TEXT"  it gives up
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import sys
from importlib import import_module

from services.supervisor.errors import STATUS_FAILURE, reason
from services.supervisor.launch import namespaces, privileges
from services.supervisor.launch.processes import BORN_BY_ROOT, BORN_BY_USER, BORN_PLAIN, TITLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import NoReturn

    from services.supervisor.launch.host_calls_unsafe import HostCalls
    from services.supervisor.launch.plan import LaunchPlan


class Birth:
    """One service being born. ids: the caller's effective uid and gid, which a new user namespace hides. ready: the
    pipe that the service tells its seal by."""

    def __init__(
        self,
        calls: HostCalls,
        plan: LaunchPlan,
        name: str,
        born: str,
        ids: tuple[int, int],
        boot: socket,
        log: int,
        given: list[socket],
        ready: int,
        about: object = None,
    ) -> None:
        self._calls = calls
        self._plan = plan
        self._name = name
        self._born = born
        self._ids = ids
        self._boot = boot
        self._log = log
        self._given = given
        self._ready = ready
        self._about = about

    def live(self) -> NoReturn:
        """Run the service. Never returns: it ends with the service's status, or STATUS_FAILURE after a "fail"."""
        try:
            gc.disable()  # imports leave no garbage; each service enables it when it has come that far
            privileges.die_with_monitor(self._calls)
            _forget_handlers()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what the caller blocked is the guest's
            # No controlling terminal: its Ctrl-C, Ctrl-Z and hang-up are the monitor's and, through it, the guest's.
            os.setsid()
            self._keep_only_what_was_given()
            lives = {
                "sentry": self._sentry,
                "gofer": self._gofer,
                "netstackd": self._netstackd,
                "connector": self._connector,
                "host-network": self._host_network,
            }
            lives[self._name]()
        except BaseException as error:
            sys.__excepthook__(type(error), error, error.__traceback__)  # needs no import, the modules may be gone
            if self._boot.fileno() >= 0:
                self._fail(reason(error))
        os._exit(STATUS_FAILURE)

    def _sentry(self) -> None:
        from protocol.control.config import SentryFds

        config = self._plan.build_config()  # first: it may ask for the limits that the caller had
        _raise_file_limit()
        app = import_module(self._plan.modules.sentry)
        prepare = getattr(app, "prepare", None)
        if prepare is not None:
            prepare(config)
        elif self._plan.sealed:
            _import_seal()
        self._set_oom_score()
        self._confine()
        control, files, *network = (sock.detach() for sock in self._given)
        fds = SentryFds(control, files, self._plan.stdio, self._plan.console, self._ready)
        fds.network = network[0] if network else None
        self._reached()
        app.run(config, fds)

    def _gofer(self) -> None:
        _raise_file_limit()
        app = import_module(self._plan.modules.gofer)
        exports = self._plan.exports
        prepare = getattr(app, "prepare", None)
        prepared = {}
        if prepare is not None:
            writable = any(export.writable for export in exports)
            prepared["program"] = prepare(exports[0].backend, writable, self._ready)
        if self._has_own_mounts():
            try:
                paths = namespaces.enter_export_root(self._calls, exports)
            except OSError as error:
                if error.filename is not None:
                    self._fail(f"cannot serve {os.fsdecode(error.filename)}: {reason(error)}")
                self._weak(f"the host's mounts stay in sight: {reason(error)}")
            else:
                for export, path in zip(exports, paths, strict=True):
                    export.path = path
        wanted = 0
        if os.geteuid() == 0 and self._born != BORN_BY_USER:
            writable = any(export.writable for export in exports)
            wanted = privileges.GOFER_WRITE if writable else privileges.GOFER_READ
        privileges.keep_capabilities(self._calls, wanted)
        kept = [number for number in range(privileges.CAP_LAST_CAP + 1) if wanted >> number & 1]
        files = self._given[0]
        self._reached()
        gc.freeze()
        gc.enable()
        app.run_in_child(
            files,
            {export.name: (os.fsdecode(export.path), not export.writable) for export in exports},
            seal=self._plan.sealed,
            ready_fd=self._ready,
            backend_name=exports[0].backend,
            keep_capabilities=kept,
            **prepared,
        )

    def _netstackd(self) -> None:
        """given: its keeper's channel; for a shared network the control socket, which listens. about: the
        configuration's text."""
        _raise_file_limit()
        app = import_module(self._plan.modules.netstackd)
        channel, listener, *_ = (*self._given, None)
        app.run_in_child(channel, listener, str(self._about), seal=self._plan.sealed, confine=self._confine_and_reach)

    def _connector(self) -> None:
        """given: netstackd's channel. about: netstackd's configuration."""
        _raise_file_limit()
        app = import_module(self._plan.modules.connector)
        app.run_connector(
            self._given[0],
            str(self._about),
            seal=self._plan.sealed,
            confine=self._confine_and_reach,
            ready_fd=self._ready,
        )

    def _host_network(self) -> None:
        """given: the Sentry's connection to the socket service."""
        _raise_file_limit()
        app = import_module(self._plan.modules.host_network)
        app.run_in_child(self._given[0], seal=self._plan.sealed, confine=self._confine_and_reach, ready_fd=self._ready)

    def _confine(self) -> None:
        """Take the host's files and every right away."""
        if self._has_own_mounts():
            try:
                namespaces.enter_empty_root(self._calls)
            except OSError as error:
                self._weak(f"the host's mounts stay in sight: {reason(error)}")
        self._drop_rights()

    def _confine_and_reach(self) -> None:
        """The same for a service that says itself when it has all it needs, right before its seal."""
        if self._plan.sealed:
            _import_seal()
        self._confine()
        self._reached()

    def _has_own_mounts(self) -> bool:
        """Whether the process may rearrange its mounts; maps its ids when it was born in a user namespace."""
        if self._born == BORN_PLAIN:
            self._weak("the host refuses namespaces")
            return False
        if self._born == BORN_BY_USER:
            try:
                namespaces.map_own_user(*self._ids)
            except OSError as error:
                self._weak(f"the host refuses to map ids in a user namespace: {reason(error)}")
                return False
        if self._calls.effective_capabilities() >> privileges.CAP_SYS_ADMIN & 1:
            return True
        self._weak("a user namespace has no rights on this host")
        return False

    def _drop_rights(self) -> None:
        """Root's Sentry becomes nobody, in a user namespace that only root owns: no other process of that user may
        touch it, and it holds no right anywhere. Any other one keeps its user; none keeps a capability. So do the
        services of a network, but that root's broker of the host's network keeps LOW_PORTS, and with it, that it counts
        there, the host's user namespace."""
        wanted = 0
        if self._ids[0] == 0 and self._born != BORN_BY_USER:
            wanted = privileges.LOW_PORTS if self._name == "host-network" else 0
            privileges.keep_capabilities(self._calls, privileges.CHANGE_USER | wanted)
            try:
                os.setgroups([])
                if not wanted and self._born == BORN_BY_ROOT and self._enter_user_namespace():
                    privileges.keep_capabilities(self._calls, privileges.CHANGE_USER)
                self._calls.prctl(privileges.PR_SET_KEEPCAPS, int(bool(wanted)))
                privileges.become_unprivileged(self._calls)
                self._calls.set_capabilities(wanted)
            except OSError as error:
                self._weak(
                    f"{TITLES.get(self._name, self._name)} keeps user id 0, without capabilities: {reason(error)}"
                )
        privileges.keep_capabilities(self._calls, wanted)

    def _enter_user_namespace(self) -> bool:
        try:
            self._calls.unshare(namespaces.CLONE_NEWUSER)
        except OSError as error:
            self._weak(f"no user namespace for {TITLES.get(self._name, self._name)}: {reason(error)}")
            return False
        self._boot.sendall(b"map\n")
        if self._boot.recv(16) != b"done\n":
            raise OSError(1, "its ids cannot be mapped")
        return True

    def _set_oom_score(self) -> None:
        if self._plan.oom_score_adj is None:
            return
        try:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(str(self._plan.oom_score_adj))
        except OSError as error:
            self._weak(f"oom_score_adj is not honoured: {reason(error)}")

    def _keep_only_what_was_given(self) -> None:
        """0 and 1 become /dev/null, 2 the log; every other descriptor that was not given is closed."""
        plan = self._plan
        keep = [sock.fileno() for sock in (*self._given, self._boot)] + [self._ready]
        if self._name == "sentry":
            plan.stdio = [None if fd is None else os.dup(fd) for fd in plan.stdio]
            plan.console = None if plan.console is None else os.dup(plan.console)
            keep += [fd for fd in (*plan.stdio, plan.console) if fd is not None]
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0, inheritable=False)
        os.dup2(null, 1, inheritable=False)
        if self._log != 2:
            os.dup2(self._log, 2, inheritable=False)
        if sys.stderr is None:  # the caller had closed 2; what is there now may be written to
            sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
        low = 3
        for fd in sorted(keep):
            os.closerange(low, fd)
            low = fd + 1
        os.closerange(low, 1 << 30)

    def _reached(self) -> None:
        """The last step: the kernel shall end us with the monitor (a change of user cleared that), if it still is."""
        privileges.die_with_monitor(self._calls)
        poll = select.poll()
        poll.register(self._boot.fileno(), 0)
        if poll.poll(0):  # hung up: the monitor ended before that
            os._exit(STATUS_FAILURE)
        self._boot.close()

    def _weak(self, text: str) -> None:
        self._boot.sendall(f"weak {text}\n".encode("utf-8", "replace"))

    def _fail(self, text: str) -> NoReturn:
        self._boot.sendall(f"fail {text}\n".encode("utf-8", "replace"))
        os._exit(STATUS_FAILURE)


def _forget_handlers() -> None:
    """Signals are no business of the monitor's any more: it may have been running when this was forked."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _import_seal() -> None:
    """protocol.sealing imports some of itself when it seals, which is after the files went away."""
    for name in ("pyseccomp", "protocol.sealing.landlock_unsafe"):
        try:
            import_module(name)
        except (ImportError, RuntimeError):
            pass  # the seal says so


def _raise_file_limit() -> None:
    """A service holds one descriptor per open guest file: as many as the host lets it have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = max(hard, 1 << 20)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""What the flags before the verb say; passed to every command.

Owns: `Settings`. `modules` names the services' entry points, which only tests replace.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.launch.plan import ServiceModules
    from services.supervisor.log import Log


class Settings:
    """state_root: --root, or "" for the default place. isolate: False only in tests of hosts without namespaces."""

    __slots__ = ("debug", "isolate", "log", "modules", "sealed", "state_root", "strace")

    def __init__(
        self,
        log: Log,
        modules: ServiceModules,
        state_root: str = "",
        debug: bool = False,
        sealed: bool = True,
        isolate: bool = True,
        strace: bool = False,
    ) -> None:
        self.log = log
        self.modules = modules
        self.state_root = state_root
        self.debug = debug
        self.sealed = sealed
        self.isolate = isolate
        self.strace = strace

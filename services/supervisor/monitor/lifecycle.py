"""What the monitor tells whoever keeps book about a container.

Owns: `Lifecycle`, which does nothing: that is what `do` needs. `container/record.py` keeps a container's state by it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from services.supervisor.launch.processes import Sandbox


class Lifecycle:
    """Called by the monitor in this order; `stopped` always, the others as far as the sandbox gets."""

    def launched(self, sandbox: Sandbox) -> None:
        """Both services exist; nothing is sealed yet."""

    def ready(self) -> None:
        """Both are sealed. May raise SupervisorError: the sandbox is ended then (a hook failed)."""

    def started(self) -> None:
        """The guest's first process runs."""

    def stopped(self, status: int) -> None:
        """Everything is over; `status` as the command will exit with."""

"""The states of a container, as runtime.md of the OCI runtime specification has them, in one table.

Owns: `Status`, `Event`, `TRANSITIONS`, and which verb is allowed when. An illegal pair is one error, in `after`.

    creating --sealed--> created --started--> running --ended--> stopped
        `---------------------`--- ended -------------------------^
"""

from __future__ import annotations

from enum import Enum

from services.supervisor.errors import SupervisorError


class Status(Enum):
    """The `status` property of a container's state."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class Event(Enum):
    """What moves a container on."""

    SEALED = "sealed"
    STARTED = "started"
    ENDED = "ended"


TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.CREATING, Event.SEALED): Status.CREATED,
    (Status.CREATED, Event.STARTED): Status.RUNNING,
    (Status.CREATING, Event.ENDED): Status.STOPPED,
    (Status.CREATED, Event.ENDED): Status.STOPPED,
    (Status.RUNNING, Event.ENDED): Status.STOPPED,
}

#: Verb -> states in which it does something. `delete --force` is allowed in all.
ALLOWED: dict[str, frozenset[Status]] = {
    "start": frozenset({Status.CREATED}),
    "kill": frozenset({Status.CREATED, Status.RUNNING}),
    "ps": frozenset({Status.CREATED, Status.RUNNING}),
    "delete": frozenset({Status.STOPPED}),
}


def after(status: Status, event: Event) -> Status:
    """The state that follows. Raises ValueError for a pair that the table does not have: a bug of the caller."""
    following = TRANSITIONS.get((status, event))
    if following is None:
        raise ValueError(f"a container that is {status.value} cannot be {event.value}")
    return following


def check(verb: str, container_id: str, status: Status) -> None:
    """Raise SupervisorError when `verb` makes no sense for a container that is `status`."""
    if status not in ALLOWED[verb]:
        wanted = " or ".join(sorted(state.value for state in ALLOWED[verb]))
        hint = "delete --force ends it first" if verb == "delete" else ""
        raise SupervisorError(f"container {container_id}", f"cannot {verb}: it is {status.value}, not {wanted}", hint)

"""Descriptors in flight (SCM_RIGHTS) and the garbage they can become.

A queued message holds a reference of each file it carries. Sockets that are only reachable through messages in each
other's inboxes would live for ever: `collect` finds them as Linux does (net/unix/garbage.c) and empties those inboxes.
A file is charged to the sender's user while it flies; past RLIMIT_NOFILE sending more is ETOOMANYREFS (unix(7)).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeGuard

from services.sentry.errors import LinuxError

if TYPE_CHECKING:
    from services.sentry.sockets.unix.endpoint import Message, UnixSocket
    from services.sentry.sockets.unix.names import UnixTable
    from services.sentry.vfs.open_file import OpenFile

__all__ = ["check_limit", "close_all", "collect", "collect_soon", "is_unix", "land", "take_off"]

_LOOKS: Final = 16  # at sockets in flight, that a close may cost


def is_unix(file: OpenFile) -> TypeGuard[UnixSocket]:
    """Whether `file` is a unix socket (told by its slots: endpoint.py imports this module)."""
    return hasattr(file, "in_flight")


def check_limit(table: UnixTable, uid: int, limit: int, privileged: bool) -> None:
    """ETOOMANYREFS: `uid` has more than `limit` descriptors in flight, also after a collection."""
    if privileged or table.in_flight_of.get(uid, 0) <= limit:
        return
    collect(table)
    if table.in_flight_of.get(uid, 0) > limit:
        raise LinuxError(errno.ETOOMANYREFS)


def take_off(table: UnixTable, files: Iterable[OpenFile], uid: int) -> None:
    """The files entered a queue; their references are the message's now."""
    count = 0
    for file in files:
        count += 1
        if is_unix(file):
            file.in_flight += 1
            table.in_flight[file] = None
    table.in_flight_of[uid] = table.in_flight_of.get(uid, 0) + count


def land(table: UnixTable, message: Message) -> tuple[OpenFile, ...]:
    """Take the files out of `message`; their references are the caller's now."""
    files, message.files = message.files, ()
    for file in files:
        if is_unix(file):
            file.in_flight -= 1
            if not file.in_flight:
                table.in_flight.pop(file, None)
    left = table.in_flight_of.get(message.uid, 0) - len(files)
    if left > 0:
        table.in_flight_of[message.uid] = left
    else:
        table.in_flight_of.pop(message.uid, None)
    return files


def close_all(table: UnixTable, files: Iterable[OpenFile]) -> None:
    """Close files whose messages are thrown away. With a socket others may go that lie in its inbox, and so on to any
    depth: so they are closed one after the other, as Linux defers the last fput(). Never raises.
    """
    if table.closing is not None:
        table.closing.extend(files)
        return
    table.closing = deque(files)
    try:
        while table.closing:
            table.closing.popleft().close_reference()
    finally:
        table.closing = None


def collect_soon(table: UnixTable) -> None:
    """A close may have made garbage: `collect`, but where many sockets fly not for each of them."""
    table.closes += 1
    if table.closes * _LOOKS >= len(table.in_flight):
        collect(table)


def collect(table: UnixTable) -> None:
    """Empty the inboxes of sockets that nothing but such inboxes can reach. Not re-entrant: emptying may call it."""
    if table.collecting:
        return
    table.collecting = True
    table.closes = 0
    try:
        suspects = {socket for socket in table.in_flight if socket.refs <= socket.in_flight}
        if not suspects:
            return
        # A suspect that some message outside the suspects' inboxes carries is alive, and so is all it can hand out.
        inside: dict[UnixSocket, int] = dict.fromkeys(suspects, 0)
        for socket in suspects:
            for target in _carried(socket):
                if target in inside:
                    inside[target] += 1
        alive = [socket for socket, count in inside.items() if count < socket.in_flight]
        while alive:
            socket = alive.pop()
            if socket in suspects:
                suspects.discard(socket)
                alive.extend(target for target in _carried(socket) if target in suspects)
        for socket in suspects:
            socket.add_reference()
        for socket in suspects:
            socket.drop_inbox()
            for waiting in _embryos(socket):
                waiting.drop_inbox()
        for socket in suspects:
            socket.close_reference()
    finally:
        table.collecting = False


def _carried(socket: UnixSocket) -> Iterable[UnixSocket]:
    """The unix sockets in messages that `socket` would hand out, also through connections nobody accepted yet."""
    for holder in (socket, *_embryos(socket)):
        for item in holder.inbox:
            for file in getattr(item, "files", ()):
                if is_unix(file):
                    yield file


def _embryos(socket: UnixSocket) -> Iterable[UnixSocket]:
    return tuple(getattr(socket, "pending", ()))

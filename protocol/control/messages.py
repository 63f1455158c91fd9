"""MessagePack-RPC as the monitor, the Sentry and the command line speak it, and the table of methods.

Owns: framing of requests `[0, id, method, params]`, responses `[1, id, error, result]` and notifications
`[2, method, params]` (github.com/msgpack-rpc/msgpack-rpc/blob/master/spec.md) as values in, bytes out and back; the
names and parameters of every method. Does not own sockets.

Sentry -> monitor, notifications:
    ready []                        sealed; no guest instruction has run
    started []                      the first guest process runs
    files_lost []                   the Gofer is gone; at the latest before `exited`, which then only tells what the
                                    program made of that
    exited [wait_status]            the first guest process ended, status as wait4(2) gives it; the sandbox is over
    failed [stage, errno, why]      the sandbox cannot run: stage is one of STAGES, errno 0 when there is none
    terminal_wanted []              the guest would read the terminal, which is not ours in the background
    log [level, text]               one line
    report [text]                   asked for by SentryConfig.report_missing, before `exited`
Monitor -> Sentry, requests (result nil unless said):
    start []                        run the first guest process; error [errno, why] when it cannot be executed
    signal [signo, all]             to the first guest process, or to every one; error [ESRCH, why] when it is gone
    window_size [rows, columns]     of the terminal, after the host's SIGWINCH
    foreground [yes]                whether the terminal is ours to read and to change, after a change of that
    processes []                    -> list of maps: pid, ppid, uid, state, cpu_ns, rss_bytes, command (bytes)
    state []                        -> map: phase ("created", "running"), processes (count)
    network_restarted [Fd]          what carries the sandbox's sockets (netstackd, the host's broker) ended and runs
                                    again: the descriptor is a new connection to its socket service
    shutdown []                     end at once; no answer is waited for
Command line -> monitor, requests on the sandbox's own socket: start, signal, processes, shutdown as above, and
    status []                       -> map: the sandbox's state as `supervisor state` prints it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from protocol.control.msgpack_subset import Fd, Unpacker, pack, pack_with_fds
from protocol.errors import ProtocolViolation

REQUEST: Final = 0
RESPONSE: Final = 1
NOTIFICATION: Final = 2

#: Where a sandbox may fail before its program runs. "exec" decides between exit status 126 and 127.
STAGES: Final = ("seal", "platform", "gofer", "mount", "network", "exec", "internal")

#: Method -> types of its parameters.
FROM_SENTRY: Final[dict[str, tuple[type, ...]]] = {
    "ready": (),
    "started": (),
    "files_lost": (),
    "exited": (int,),
    "failed": (str, int, str),
    "terminal_wanted": (),
    "log": (str, str),
    "report": (str,),
}
TO_SENTRY: Final[dict[str, tuple[type, ...]]] = {
    "start": (),
    "signal": (int, bool),
    "window_size": (int, int),
    "foreground": (bool,),
    "processes": (),
    "state": (),
    "network_restarted": (Fd,),
    "shutdown": (),
}
TO_MONITOR: Final[dict[str, tuple[type, ...]]] = {
    "start": (),
    "signal": (int, bool),
    "processes": (),
    "shutdown": (),
    "status": (),
}


class Message:
    """One decoded message. `kind` is REQUEST, RESPONSE or NOTIFICATION; the fields it has not are at their defaults.

    number: of a request or response. error: None or what the peer gave, usually [errno, why].
    """

    __slots__ = ("error", "kind", "method", "number", "params", "result")

    def __init__(
        self,
        kind: int,
        number: int = 0,
        method: str = "",
        params: list[Any] | None = None,
        error: Any = None,
        result: Any = None,
    ) -> None:
        self.kind = kind
        self.number = number
        self.method = method
        self.params = params or []
        self.error = error
        self.result = result


def request(number: int, method: str, *params: object) -> bytes:
    """A request frame; `number` is unique among the unanswered ones."""
    return pack([REQUEST, number, method, params])


def request_with_fds(number: int, method: str, *params: object) -> tuple[bytes, list[int]]:
    """The same for parameters that may hold an `Fd`: the frame, and the descriptors to send beside its first byte."""
    return pack_with_fds([REQUEST, number, method, params])


def response(number: int, error: object, result: object) -> bytes:
    """The answer to request `number`: `error` is None or [errno, why]."""
    return pack([RESPONSE, number, error, result])


def notification(method: str, *params: object) -> bytes:
    """A message that is not answered."""
    return pack([NOTIFICATION, method, params])


class Decoder:
    """Splits a stream into messages, checking requests and notifications against `methods`. fds: whether messages may
    bring descriptors."""

    def __init__(self, methods: dict[str, tuple[type, ...]], *, fds: bool = False) -> None:
        self._methods = methods
        self._unpacker = Unpacker(fds=fds)

    def feed_untrusted(self, data: bytes, fds: Sequence[int] = ()) -> list[Message]:
        """The messages that `data` completes; takes over `fds`. Raises ProtocolViolation; the conversation is then
        over."""
        self._unpacker.feed(data, fds)
        found: list[Message] = []
        while (value := self._unpacker.next_untrusted()) is not Unpacker.NOTHING:
            found.append(self._message_untrusted(value))
        return found

    def _message_untrusted(self, value: object) -> Message:
        match value:
            case [0, int() as number, str() as method, list() as params]:
                self._check(method, params)
                return Message(REQUEST, number, method, params)
            case [1, int() as number, error, result]:
                return Message(RESPONSE, number, error=error, result=result)
            case [2, str() as method, list() as params]:
                self._check(method, params)
                return Message(NOTIFICATION, method=method, params=params)
            case _:
                raise ProtocolViolation("message: neither request, response nor notification")

    def _check(self, method: str, params: list[Any]) -> None:
        expected = self._methods.get(method)
        if expected is None:
            raise ProtocolViolation(f"message: unknown method {method[:40]}")
        if len(params) != len(expected):
            raise ProtocolViolation(f"{method}: {len(params)} parameters, expected {len(expected)}")
        for value, kind in zip(params, expected, strict=True):
            if type(value) is not kind:
                raise ProtocolViolation(f"{method}: expected {kind.__name__}")

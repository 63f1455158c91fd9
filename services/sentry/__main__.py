"""`sentry --config FILE --control-fd N --gofer-fd N …`: one Sentry on descriptors it was given.

Grammar only; `app.run` does the work, and tells its monitor over the control channel how the program ended. What the
supervisor does before, and this command does not, is to put it into namespaces of its own. Errors are one line on
standard error; exit status 0 the sandbox ran to its end, 125 it could not start, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from protocol.control.config import SentryConfig, SentryFds, from_wire_untrusted
from protocol.control.msgpack_subset import MAX_MESSAGE, Unpacker
from protocol.errors import ProtocolViolation

_USAGE = 2


class _Unusable(Exception):
    """What is wrong with the command line, in words."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sentry", description="Run one sandbox on inherited descriptors.")
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="what the sandbox shall be (protocol/control/config.py)"
    )
    parser.add_argument("--control-fd", required=True, **number, help="a connected socket: the monitor's requests")
    parser.add_argument("--gofer-fd", required=True, **number, help="a connected socket: 9P2000.L")
    parser.add_argument("--network-fd", **number, help="a connected socket: the socket service of its network")
    parser.add_argument(
        "--stdio", default="0,1,2", metavar="IN,OUT,ERR", help="what the program gets, - for a closed one (0,1,2)"
    )
    parser.add_argument("--console-fd", **number, help="the terminal among them to take sizes and modes from")
    parser.add_argument("--ready-fd", **number, help="gets one byte when sealed and ready")
    parser.add_argument("--unsafe-unsealed", action="store_true", help="do not seal: for debugging only")
    return parser


def _config(path: str) -> SentryConfig:
    unpacker = Unpacker()
    try:
        with open(path, "rb") as file:
            unpacker.feed(file.read(MAX_MESSAGE + 1))
        value = unpacker.next_untrusted()
        if value is Unpacker.NOTHING or unpacker.next_untrusted() is not Unpacker.NOTHING:
            raise ProtocolViolation("not one MessagePack value")
        return from_wire_untrusted(value)
    except OSError as error:
        raise _Unusable(f"--config {path}: {error.strerror}") from None
    except ProtocolViolation as error:
        raise _Unusable(f"--config {path}: {error}") from None


def _socket(option: str, fd: int) -> int:
    try:
        sock = socket.socket(fileno=fd)
    except (OSError, ValueError):
        raise _Unusable(f"{option} {fd}: not an open socket") from None
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise _Unusable(f"{option} {fd}: not a unix stream socket")
    return sock.detach()


def _open(option: str, fd: int) -> int:
    try:
        os.fstat(fd)
    except (OSError, OverflowError):
        raise _Unusable(f"{option}: {fd} is not open") from None
    return fd


def _stdio(text: str) -> list[int | None]:
    """What the program gets. Copies, for they are closed with the program's own, and 2 is also this process's log."""
    words = text.split(",")
    if len(words) != 3 or not all(word == "-" or word.isdecimal() for word in words):
        raise _Unusable(f"--stdio {text}: not of the form IN,OUT,ERR")
    return [None if word == "-" else os.dup(_open(f"--stdio {text}", int(word))) for word in words]


def _give_up_standard_streams() -> None:
    """Standard input and output are the program's alone."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def _fds(options: argparse.Namespace, network: str) -> SentryFds:
    if (network != "none") != (options.network_fd is not None):
        raise _Unusable(f"the configuration's network is {network}: --network-fd goes with any but none")
    optional = {"--console-fd": options.console_fd, "--ready-fd": options.ready_fd}
    for option, fd in optional.items():
        if fd is not None:
            _open(option, fd)
    return SentryFds(
        control=_socket("--control-fd", options.control_fd),
        gofer=_socket("--gofer-fd", options.gofer_fd),
        stdio=_stdio(options.stdio),
        console=options.console_fd,
        ready=options.ready_fd,
        network=None if options.network_fd is None else _socket("--network-fd", options.network_fd),
    )


def run(argv: Sequence[str] | None = None) -> int:
    """The command. Comes back only from wrong usage, with its exit status."""
    options = _parser().parse_args(argv)
    try:
        config = _config(options.config)
        fds = _fds(options, config.network)
    except _Unusable as error:
        print(f"sentry: {error}", file=sys.stderr)
        return _USAGE
    if options.unsafe_unsealed:
        print("sentry: warning: not sealed: whoever breaks out of the sandbox is on the host", file=sys.stderr)
        config.sealed = False
    # All of a kernel: nobody waits for it to be told of an error.
    from protocol.sealing.seal_unsafe import drop_capabilities
    from services.sentry import app

    _give_up_standard_streams()
    drop_capabilities()  # before there are guest processes: who has fewer rights than they may not read their memory
    app.run(config, fds)


def main() -> None:
    """Console script `sentry`."""
    sys.exit(run())


if __name__ == "__main__":
    main()

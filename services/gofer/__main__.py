"""`gofer --export NAME=PATH[:ro] … --socket-fd N`: a gofer on sockets it was given.

Grammar only; `app.run` does the work. Errors are one line on standard error; exit status 0 served to the end, 1 could
not start, 2 wrong usage, 70 a bug of ours.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence

from services.gofer import app
from services.gofer.errors import ConfigurationError


def parse_export(text: str) -> tuple[bytes, tuple[str, bool]]:
    """NAME=PATH[:ro|:rw] to (name, (path, read_only)). ConfigurationError."""
    name, equals, path = text.partition("=")
    read_only = path.endswith(":ro")
    if read_only or path.endswith(":rw"):
        path = path[:-3]
    if not equals or not path:
        raise ConfigurationError(f"--export {text}: not of the form NAME=PATH[:ro]")
    return name.encode(), (path, read_only)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gofer", description="Serve directories over 9P2000.L on an inherited socket."
    )
    parser.add_argument("--export", action="append", required=True, metavar="NAME=PATH[:ro]", help="a tree to serve")
    parser.add_argument("--socket-fd", action="append", required=True, type=int, metavar="N", help="a connected socket")
    parser.add_argument("--ready-fd", type=int, metavar="N", help='gets one byte "R" when sealed and ready')
    parser.add_argument("--backend", default="directory", help="implementation (entry point group sentrio.gofers)")
    parser.add_argument("--filter-cache", metavar="DIR", help="where the compiled host filter is kept")
    parser.add_argument(
        "--keep-file-capabilities", action="store_true", help="keep what it takes to act on files of every owner"
    )
    parser.add_argument("--unsafe-unsealed", action="store_true", help="do not seal: for debugging only")
    return parser


def _adopt_sockets(fds: Sequence[int]) -> list[socket.socket]:
    socks = []
    for fd in fds:
        try:
            sock = socket.socket(fileno=fd)
        except (OSError, ValueError):
            raise ConfigurationError(f"--socket-fd {fd}: not an open socket") from None
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise ConfigurationError(f"--socket-fd {fd}: not a unix stream socket")
        socks.append(sock)
    return socks


def run(argv: Sequence[str] | None = None) -> int:
    """The command, to its exit status."""
    options = _parser().parse_args(argv)
    try:
        exports = dict(parse_export(text) for text in options.export)
        socks = _adopt_sockets(options.socket_fd)
    except ConfigurationError as error:
        print(f"gofer: {error}", file=sys.stderr)
        return app.EXIT_USAGE
    return app.run(
        socks,
        exports,
        backend_name=options.backend,
        sealed=not options.unsafe_unsealed,
        ready_fd=options.ready_fd,
        keep_capabilities=app.FILE_CAPABILITIES if options.keep_file_capabilities else (),
        filter_cache=options.filter_cache,
    )


def main() -> None:
    """Console script `gofer`. Leaves by _exit: behind the seal, nothing else is allowed."""
    app.exit_with(run())


if __name__ == "__main__":
    main()

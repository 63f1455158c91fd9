"""`netstackd diff FILE [OTHER]`: what a configuration would change, of the running router or of another file."""

from __future__ import annotations

from collections.abc import Sequence

from services.netstackd.commands.common import CommandError, default_socket, read_file, usage_parser
from services.netstackd.commands.connection import Control
from services.netstackd.config.diff import differences
from services.netstackd.config.load import load
from services.netstackd.config.model import Config, ConfigError


def main(arguments: Sequence[str]) -> int:
    """Exit status 0: no difference, 3: there are some. CommandError."""
    parser = usage_parser("netstackd diff", "Show what FILE would change.")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("other", metavar="OTHER", nargs="?", help="compare with this file, not with the running router")
    parser.add_argument("--socket", default=default_socket(), metavar="PATH", help="control socket (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        new = load(options.file, read_file(options.file))
        old = load(options.other, read_file(options.other)) if options.other else _running(options.socket)
    except ConfigError as error:
        raise CommandError("\n".join(error.problems)) from None
    lines = differences(old, new)
    for line in lines:
        print(line)
    return 3 if lines else 0


def _running(path: str) -> Config:
    with Control(path) as control:
        name, text = control.call("config")
    return load(name, text)

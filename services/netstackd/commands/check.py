"""`netstackd check FILE`: read a configuration and say everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from services.netstackd.commands.common import CommandError, read_file, usage_parser
from services.netstackd.config.load import load
from services.netstackd.config.model import ConfigError


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 when the file can be used. CommandError with all problems."""
    parser = usage_parser("netstackd check", "Check a configuration without using it.")
    parser.add_argument("file", metavar="FILE")
    path = parser.parse_args(arguments).file
    try:
        config = load(path, read_file(path))
    except ConfigError as error:
        raise CommandError("\n".join(error.problems)) from None
    rules = len(config.policy.rules)
    print(f"{path}: good: {len(config.interfaces)} interfaces, {len(config.routes)} routes, {rules} filter rules")
    return 0

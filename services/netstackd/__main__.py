"""The console script `netstackd`: a router, its checker, and the client of a running one.

    netstackd --config FILE | --preset ... | --tap ...     start (commands/run.py)
    netstackd check FILE | diff FILE | ctl VERB            the other verbs

Imports a verb only when it is used. Errors are one line on standard error; exit status 2 for wrong usage, 1 otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    from services.netstackd.commands.common import CommandError

    try:
        verb = words[0] if words else ""
        if verb == "check":
            from services.netstackd.commands import check

            return check.main(words[1:])
        if verb == "diff":
            from services.netstackd.commands import diff

            return diff.main(words[1:])
        if verb == "ctl":
            from services.netstackd.commands import ctl

            return ctl.main(words[1:])
        from services.netstackd.commands import run

        return run.main(words)
    except CommandError as error:
        for line in error.why.splitlines():
            print(f"netstackd: {line}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

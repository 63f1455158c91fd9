"""The console script `netstackd`: says honestly that there is no network stack yet, and fails.

Owns nothing else. Exit status 125, as for every error of our own (the guest's statuses stay below).
"""

from __future__ import annotations

import sys


def main() -> int:
    """One line on standard error; returns the exit status 125."""
    print(
        "netstackd: not available: the network stack is not written yet (run sandboxes with --network none)",
        file=sys.stderr,
    )
    return 125


if __name__ == "__main__":
    sys.exit(main())

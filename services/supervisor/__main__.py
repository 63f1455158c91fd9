"""`python -m services.supervisor`: the same as the `supervisor` command."""

from __future__ import annotations

from services.supervisor.cli import main

if __name__ == "__main__":
    main()

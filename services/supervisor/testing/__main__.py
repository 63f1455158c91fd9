"""`python -m services.supervisor.testing ...`: the command line with fake services. `--plain` first: no namespaces."""

from __future__ import annotations

import sys

from services.supervisor.cli import main
from services.supervisor.launch.plan import ServiceModules

if __name__ == "__main__":
    words = sys.argv[1:]
    plain = words[:1] == ["--plain"]
    fakes = ServiceModules("services.supervisor.testing.fake_sentry", "services.supervisor.testing.fake_gofer")
    main(words[1:] if plain else words, fakes, isolate=not plain)

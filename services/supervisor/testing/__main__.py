"""`python -m services.supervisor.testing ...`: the command line with fake services. `--plain` first: no namespaces."""

from __future__ import annotations

import sys

from services.supervisor.cli import main
from services.supervisor.launch.plan import ServiceModules

if __name__ == "__main__":
    words = sys.argv[1:]
    plain = words[:1] == ["--plain"]
    here = "services.supervisor.testing."
    netstackd = here + "fake_netstackd"
    fakes = ServiceModules(here + "fake_sentry", here + "fake_gofer", netstackd, netstackd, here + "fake_host_network")
    main(words[1:] if plain else words, fakes, isolate=not plain)

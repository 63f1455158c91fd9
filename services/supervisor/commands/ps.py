"""`supervisor ps ID`: the processes in a container, as its Sentry counts them."""

from __future__ import annotations

import json
import sys
from typing import Any

from services.supervisor.container.client import ask
from services.supervisor.container.states import check
from services.supervisor.container.store import Store
from services.supervisor.grammar import Option, parse
from services.supervisor.operands import one_id
from services.supervisor.settings import Settings

SYNOPSIS = "ps [OPTIONS] ID"
OPTIONS = (Option(("--format", "-f"), "FORMAT", "table (default) or json (their ids)", choices=("table", "json")),)


def run(words: list[str], settings: Settings) -> int:
    """Prints one line a process."""
    given, _ = parse("ps", OPTIONS, words, stop_at_operand=False)
    container_id = one_id("ps", given)
    store = Store(settings.state_root)
    check("ps", container_id, store.load(container_id).status)
    rows: list[dict[str, Any]] = ask(store, container_id, "processes")
    if given.one("format") == "json":
        sys.stdout.write(json.dumps([row["pid"] for row in rows]) + "\n")
        return 0
    lines = [f"{'UID':>6} {'PID':>6} {'PPID':>6} S {'TIME':>9} {'RSS':>9} COMMAND\n"]
    for row in rows:
        seconds, rss_kib = row["cpu_ns"] / 1e9, row["rss_bytes"] // 1024
        command = row["command"].decode("utf-8", "replace")
        lines.append(
            f"{row['uid']:>6} {row['pid']:>6} {row['ppid']:>6} {row['state']} {seconds:>9.2f} {rss_kib:>8}K {command}\n"
        )
    sys.stdout.write("".join(lines))
    return 0

"""`supervisor doctor`: what this host offers, what is missing and how to get it; --surface: what services may do."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from services.supervisor.errors import STATUS_FAILURE
from services.supervisor.grammar import Option, parse
from services.supervisor.operands import none
from services.supervisor.settings import Settings

SYNOPSIS = "doctor [OPTIONS]"
OPTIONS = (
    Option(("--surface",), "", "print every host call that each sealed service may make, with its reason"),
    Option(("--json",), "", "as one JSON document"),
)


def run(words: list[str], settings: Settings) -> int:
    """0 when a sandbox can run here (perhaps confined less), 125 when something required is missing."""
    given, _ = parse("doctor", OPTIONS, words, stop_at_operand=False)
    none("doctor", given)
    if given.has("surface"):
        return _surface(given.has("json"))
    return _host(given.has("json"))


def _host(as_json: bool) -> int:
    from services.supervisor.host.probes_unsafe import examine

    findings = examine()
    missing = [finding for finding in findings if not finding.present]
    fatal = any(finding.level == "required" for finding in missing)
    weaker = any(finding.level == "stronger" for finding in missing)
    if as_json:
        document = {"findings": [asdict(finding) for finding in findings], "usable": not fatal, "weaker": weaker}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return STATUS_FAILURE if fatal else 0
    for finding in findings:
        mark = "ok     " if finding.present else "MISSING"
        sys.stdout.write(f"{mark}  {finding.name:27} {finding.level:9} {finding.detail}\n")
        if finding.hint:
            sys.stdout.write(f"{'':9}how: {finding.hint}\n")
    if fatal:
        verdict = "a sandbox cannot run here"
    elif weaker:
        verdict = "a sandbox runs here, but what is missing above confines its services less; seccomp always does"
    else:
        verdict = "a sandbox runs here, fully confined"
    sys.stdout.write(f"\n{verdict}\n")
    return STATUS_FAILURE if fatal else 0


def _surface(as_json: bool) -> int:
    from services.supervisor.host.surface import gather, restriction

    tables, without = gather()
    if as_json:
        document = [
            {
                "service": table.service,
                "table": table.table,
                "distinct": table.count,
                "rows": [{"call": row.name, "only": restriction(row), "reason": row.reason} for row in table.rows],
            }
            for table in tables
        ]
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0
    for table in tables:
        sys.stdout.write(f"{table.service}, {table.table}: {table.count} distinct host calls\n")
        for row in table.rows:
            only = restriction(row)
            sys.stdout.write(f"  {row.name:20} {row.reason}" + (f" [{only}]" if only else "") + "\n")
        sys.stdout.write("\n")
    if without:
        sys.stdout.write(f"no table yet: {', '.join(without)}\n")
    return 0

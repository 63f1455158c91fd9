"""`python -m tests.netstack.scripts.show FILE...`: run scripts, printing what leaves beside the lines; for writing
them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.netstack.scripts.language import parse
from tests.netstack.scripts.runner import Emitted, Failure, Machine


def show(path: Path) -> bool:
    machine = Machine(parse(path))
    step = machine._step

    class Talking(list[Emitted]):
        pass

    append = machine.emitted.append

    def say(item: Emitted) -> None:
        print("        ", machine.describe(item))
        append(item)

    machine.route.send = lambda endpoint, segment: (  # type: ignore[method-assign]
        say(Emitted(machine.now, segment)),
        setattr(machine, "our_ts", segment.ts_val) if segment.ts_val >= 0 else None,
    )[1]
    print(f"== {path.name}: {machine.script.title}")
    for line in machine.script.steps:
        print(f"{line.line:4} {line.text}")
        try:
            step(line)
        except Failure as failure:
            print("  FAILED:", failure)
            return False
    if machine.emitted:
        print("  FAILED: left:", *[machine.describe(item) for item in machine.emitted], sep="\n     ")
        return False
    return True


if __name__ == "__main__":
    good = [show(Path(name)) for name in sys.argv[1:]]
    print(sum(good), "of", len(good), "pass")

"""How long a round trip to a sealed gofer takes: `python tests/unit/gofer/round_trip.py`. Figures in microseconds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

from protocol.p9.client import P9Client
from services.gofer.testing.process import gofer_process


def measure(call: Callable[[], object], rounds: int = 500, repeats: int = 12) -> tuple[float, float, float]:
    """(10th percentile, median, 90th percentile) of one call, of the repeat with the best median."""
    found = []
    for _ in range(repeats):
        samples = []
        for _ in range(rounds):
            began = time.perf_counter_ns()
            call()
            samples.append(time.perf_counter_ns() - began)
        samples.sort()
        found.append((samples[rounds // 2] / 1e3, samples[rounds // 10] / 1e3, samples[rounds * 9 // 10] / 1e3))
    median, low, high = min(found)
    return low, median, high


def figures(client: P9Client, root: int) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """The calls on the way of an uncached open()."""
    usr = client.new_fid()
    client.walkgetattr(root, usr, [b"usr", b"bin"])

    def walk() -> None:
        fid = client.new_fid()
        client.walkgetattr(usr, fid, [b"env"])
        client.clunk(fid)

    def walk_open(names: list[bytes], start: int) -> None:
        fid = client.new_fid()
        result = client.walkopen(start, fid, names, 0)
        assert result.fd is not None
        os.close(result.fd)
        client.clunk(fid)

    yield "getattr", measure(lambda: client.getattr(usr))
    yield "walkgetattr, 1 name", measure(walk)
    yield "walkgetattr, absent", measure(lambda: client.walkgetattr(usr, client.new_fid(), [b"absent"]))
    yield "walkopen with fd, 1 name", measure(lambda: walk_open([b"env"], usr))
    yield "walkopen with fd, 3 names", measure(lambda: walk_open([b"usr", b"bin", b"env"], root))


def main() -> None:
    with gofer_process({b"root": ("/", True)}, seal="unsealed" not in sys.argv) as (client, _):
        root, _qid = client.attach(b"root")
        for name, (low, median, high) in figures(client, root):
            print(f"{name:28} p10 {low:7.1f}  median {median:7.1f}  p90 {high:7.1f}")


if __name__ == "__main__":
    main()

"""Seeded transfers over bad links: every byte arrives, both ends finish, no timer is left.

SENTRIO_NETSIM_RUNS=5000 runs more seeds than the default; SENTRIO_NETSIM_FIRST chooses where they begin. A failure
names its seed, and `pytest -k 'seed[17]'`... is the same run again.
"""

from __future__ import annotations

import os
import random

import pytest

from services.netstackd.transport.tcp.parameters import MILLISECOND, NEVER, SECOND, Parameters
from tests.netstack.netsim.transfer import Outcome, settle, transfer
from tests.netstack.netsim.world import PathRules, World

RUNS = int(os.environ.get("SENTRIO_NETSIM_RUNS", "200"))
FIRST = int(os.environ.get("SENTRIO_NETSIM_FIRST", "0"))


def random_parameters(rng: random.Random) -> Parameters:
    """Extensions on or off, buffers from tiny to default, for one host."""
    p = Parameters()
    p.sack = rng.random() < 0.8
    p.timestamps = rng.random() < 0.8
    p.window_scaling = rng.random() < 0.8
    p.dsack = rng.random() < 0.8
    p.ecn = rng.choice((0, 1, 2))
    p.congestion = rng.choice(("cubic", "cubic", "reno"))
    p.early_retrans = rng.random() < 0.8
    p.frto = rng.random() < 0.8
    p.pacing = rng.random() < 0.2
    if rng.random() < 0.3:
        size = rng.choice((1024, 2304, 4096, 20000))
        p.rmem = (size, size, size)
    if rng.random() < 0.3:
        size = rng.choice((1000, 4096, 10000))
        p.wmem = (size, size, size)
    p.retries2 = 60  # a link this bad would not live fifteen time-outs long
    p.orphan_retries = 60
    p.syn_retries = p.synack_retries = 12
    return p


def random_rules(rng: random.Random, mss: int, gso: int) -> PathRules:
    rules = PathRules(mss=mss, gso=gso, delay=rng.choice((0, 1, 20, 150)) * MILLISECOND)
    if rng.random() < 0.7:
        rules.loss = rng.choice((0.001, 0.01, 0.05, 0.2))
    if rng.random() < 0.4:
        rules.duplicate = rng.choice((0.01, 0.1, 0.5))
    if rng.random() < 0.5:
        rules.reorder = rng.choice((0.01, 0.1, 0.5))
        rules.reorder_delay = rng.choice((1, 15, 200)) * MILLISECOND
    if rng.random() < 0.3:
        rules.jitter = rng.choice((1, 10, 50)) * MILLISECOND
    if rng.random() < 0.5:
        rules.rate = rng.choice((20_000, 1_000_000, 100_000_000))
        rules.queue_bytes = rng.choice((3 * (mss + 60), 30_000, 500_000))
        if rng.random() < 0.5:
            rules.mark_above = rules.queue_bytes // 3
    return rules


def run_seed(seed: int) -> tuple[World, Outcome]:
    rng = random.Random(seed)
    mss = rng.choice((100, 536, 1220, 1460, 1460, 8960))
    gso = rng.choice((0, 0, 64000))
    forth, back = random_rules(rng, mss, gso), random_rules(rng, mss, gso)
    world = World(seed, forth, back, (random_parameters(rng), random_parameters(rng)))
    for host in (world.client, world.server):
        if rng.random() < 0.5:
            host.start = (1 << 32) - rng.randrange(1, 40_000)
    most = 2_000 if mss == 100 else 20_000 if max(forth.loss, back.loss) > 0.1 else 80_000
    outcome = transfer(
        world,
        rng.randrange(most),
        rng.choice((0, rng.randrange(most))),
        chunk=rng.choice((1, 100, 1000, 16384, 200_000)) if most < 50_000 else rng.choice((1000, 16384, 200_000)),
        read_chunk=rng.choice((10, 1000, 65536)),
        seed=seed,
        limit=24 * 3600 * SECOND,
    )
    return world, outcome


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_every_byte_arrives_and_nothing_is_left(seed: int) -> None:
    world, outcome = run_seed(seed)
    client, server = outcome.client, outcome.server
    assert outcome.finished, f"stuck: {client.endpoint} {server.endpoint}"
    assert bytes(server.received) == client.expected(client.total)
    assert bytes(client.received) == server.expected(server.total)
    settle(world)
    assert world.client.connection is None and world.server.connection is None
    assert world.client.context.time_wait_count == world.server.context.time_wait_count == 0
    assert world.client.context.orphan_count == world.server.context.orphan_count == 0
    assert world.server.listener is not None and not world.server.listener.requests
    for side in (client, server):
        assert side.endpoint is not None and side.endpoint.deadline == NEVER

"""The main loop's choice of processors: when guests keep off the one on which the Sentry looks for events."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from services.sentry.edge import loop
from services.sentry.edge.loop import SURE, MainLoop


class Platform:
    doorbell = listener = 0

    def __init__(self, processors: int) -> None:
        self.processors = frozenset(range(processors))
        self.reserved = -1
        self.settled = False
        self.wanting: list[object] = []
        self.is_asked = False
        self.spins: list[tuple[int, int]] = []

    def reserve(self, processor: int) -> None:
        self.reserved = processor

    def settle(self, processors: frozenset[int]) -> None:
        self.settled = bool(processors)

    def call_in(self) -> None:
        pass

    def set_spin(self, pauses: int, yields: int) -> None:
        self.spins.append((pauses, yields))


@pytest.fixture(autouse=True)
def wakeup_fd() -> Iterator[None]:
    before = signal.set_wakeup_fd(-1)
    yield
    signal.set_wakeup_fd(before)


def make(processors: int) -> tuple[Any, Platform]:
    platform = Platform(processors)
    dispatcher: Any = SimpleNamespace(looks=0, at_work=0, quiet=True, withdraw=lambda: None)
    outside: Any = SimpleNamespace(fd=0)
    return MainLoop(SimpleNamespace(), dispatcher, platform, outside), platform  # type: ignore[arg-type]


def after_bursts(made: Any, at_work: float, count: int = SURE) -> None:
    """`count` bursts during which `at_work` guest threads on average were not parked."""
    made.dispatcher.looks, made.dispatcher.at_work = 100, int(at_work * 100)
    for _ in range(count):
        made._share()


@pytest.mark.parametrize(
    ("processors", "at_work", "reserved"),
    [(1, 1, False), (2, 1, True), (2, 1.4, True), (2, 2, False), (4, 3, True), (4, 4, False), (64, 1, False)],
)
def test_guests_that_fit_beside_us_keep_off_our_processor(processors: int, at_work: float, reserved: bool) -> None:
    made, platform = make(processors)
    after_bursts(made, at_work)
    assert (platform.reserved >= 0) == reserved


def test_one_burst_decides_nothing() -> None:
    made, platform = make(2)
    after_bursts(made, 1, SURE - 1)
    assert platform.reserved < 0
    after_bursts(made, 1, 1)
    assert platform.reserved >= 0
    after_bursts(made, 2, SURE - 1)
    assert platform.reserved >= 0
    after_bursts(made, 2, 1)
    assert platform.reserved < 0


def test_crowded_processors_are_all_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    switches = iter((0, 100, 100))
    now = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr(loop.resource, "getrusage", lambda who: SimpleNamespace(ru_nivcsw=next(switches)))
    monkeypatch.setattr(loop.time, "monotonic_ns", lambda: next(now))
    made, platform = make(2)
    assert made._spin_ns() > 0
    after_bursts(made, 1)
    assert platform.reserved >= 0
    assert platform.spins[-1][1] > 0
    assert made._spin_ns() == 0
    assert platform.reserved < 0
    assert platform.spins[-1][1] == 0
    after_bursts(made, 1)
    assert platform.reserved < 0
    assert made._spin_ns() > 0
    assert platform.spins[-1][1] > 0
    after_bursts(made, 1)
    assert platform.reserved >= 0


def test_nobody_yields_where_there_is_one_processor() -> None:
    _, platform = make(1)
    assert platform.spins[-1][1] == 0


class Sleeps:
    """A main loop without a host: each sleep takes some time and ends with some of the four descriptors ready.

    serves: there is something to be served behind each. `spins`: how long was looked for more, each time. `log`: what
    was asked of the platform and of the outside after each. `limits`: how long each might have taken.
    """

    DOORBELL, LISTENER, OUTSIDE, SIGNALS = range(4)

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *sleeps: tuple[int, set[int]],
        processors: int = 2,
        serves: bool = False,
        wanting: bool = False,
        asked: bool = False,
    ) -> None:
        self.made, platform = make(processors)
        platform.is_asked = asked
        if wanting:
            platform.wanting.append(object())
        self.limits: list[int] = []
        self.log: list[list[str]] = []
        self.spins: list[int] = []
        self.now = 0
        left = list(sleeps)
        kernel: Any = self.made.kernel
        kernel.exit_status, kernel.runnable = None, []
        kernel.timers = SimpleNamespace(next_deadline=lambda: None)
        fake: Any = platform
        fake.arm = lambda: None
        fake.disarm = lambda rung=True: self.log[-1].append("ring") if rung and self.log else None
        fake.serve_strangers = lambda: self.log[-1].append("strangers")
        outside: Any = self.made.outside
        outside.pending = False
        outside.run_deferred = lambda: None
        asleep = waits = False

        def dispatch() -> bool:
            nonlocal asleep
            if asleep:
                self.log[-1].append("outside")
            asleep = False
            return False

        def burst(spin: int) -> bool:
            nonlocal asleep, waits
            asleep = False
            self.spins.append(spin)
            served, waits = waits, False
            return served

        def poll(pollfds: Any, count: int, timeout: int) -> int:
            nonlocal asleep, waits
            self.limits.append(timeout)
            waits = serves
            took, ready = left.pop(0)
            if not left:
                kernel.exit_status = 0
            self.now += took
            self.log.append([])
            asleep = True
            for index in range(count):
                pollfds[index * 8 + 6] = b"\1" if index in ready else b"\0"
            return len(ready)

        outside.dispatch, self.made.dispatcher.burst = dispatch, burst
        monkeypatch.setattr(loop, "lib", SimpleNamespace(sentrio_poll=poll, sentrio_processor=lambda: 0))
        monkeypatch.setattr(loop.time, "monotonic_ns", lambda: self.now)
        monkeypatch.setattr(loop.resource, "getrusage", lambda who: SimpleNamespace(ru_nivcsw=0))
        self.made.run()


def test_after_a_sleep_nothing_is_asked_that_poll_has_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Sleeps
    ran = Sleeps(
        monkeypatch,
        (10**6, {s.DOORBELL}),
        (10**6, {s.LISTENER}),
        (10**6, {s.OUTSIDE}),
        (10**6, {s.DOORBELL, s.LISTENER, s.OUTSIDE}),
        (10**6, set()),
    )
    assert ran.log == [["ring"], ["strangers"], ["outside"], ["ring", "outside", "strangers"], []]


def test_no_sleep_is_long_while_somebody_is_to_get_a_host_thread_or_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[tuple[int, set[int]]] = [(10**6, set())] * 2
    assert Sleeps(monkeypatch, *sleeps).limits == [loop.FOREVER] * 2
    assert Sleeps(monkeypatch, *sleeps, wanting=True).limits == [loop.WANTING_NS] * 2
    assert Sleeps(monkeypatch, *sleeps, asked=True).limits == [loop.ASKED_NS] * 2


def test_handlers_of_signals_run_behind_a_sleep_that_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    monkeypatch.setattr(loop, "heed", lambda: heard.append(0))
    Sleeps(monkeypatch, (10**6, {Sleeps.DOORBELL}), (10**6, {Sleeps.DOORBELL}), (10**6, set()))
    without = len(heard)  # every few milliseconds
    heard.clear()
    Sleeps(monkeypatch, (10**6, {Sleeps.SIGNALS}), (10**6, {Sleeps.SIGNALS}), (10**6, set()))
    assert len(heard) == without + 2 and without


def test_long_waits_for_the_outside_shorten_the_look_before_a_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = Sleeps(monkeypatch, *[(10**6, {Sleeps.OUTSIDE})] * 5, (10**6, set()))
    assert ran.made._spin == loop.LEAST_SPIN_NS
    assert max(ran.spins[-4:]) == loop.LEAST_SPIN_NS


def test_a_short_look_is_not_repeated_behind_what_was_served(monkeypatch: pytest.MonkeyPatch) -> None:
    news = [(10**6, {Sleeps.OUTSIDE})] * 5
    bells = [(10**6, {Sleeps.DOORBELL})] * 3
    assert Sleeps(monkeypatch, *news, *bells, serves=True).spins[-4:] == [loop.LEAST_SPIN_NS, 0] * 2
    assert Sleeps(monkeypatch, *bells, serves=True).spins[-6:] == [loop.SPIN_NS, loop.SPIN_NS, 0] * 2


def test_short_sleeps_make_it_longer_when_nothing_comes_from_outside_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [(10**6, {Sleeps.OUTSIDE})] * 5
    short = (loop.SPIN_NS, {Sleeps.DOORBELL})
    assert Sleeps(monkeypatch, *waits, *[short] * (loop.HEARD - 1)).made._spin == loop.LEAST_SPIN_NS
    assert Sleeps(monkeypatch, *waits, *[short] * (loop.HEARD + 5)).made._spin == loop.SPIN_NS


def test_where_there_are_processors_enough_it_stays_long(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = Sleeps(monkeypatch, *[(10**6, {Sleeps.OUTSIDE})] * 5, processors=4)
    assert ran.made._spin == loop.SPIN_NS


def test_long_waits_for_guests_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = Sleeps(monkeypatch, *[(10**6, {Sleeps.DOORBELL})] * 5)
    assert ran.made._spin == loop.SPIN_NS


def test_who_was_asked_to_stay_on_a_processor_leaves_it_when_others_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = iter((5, 5 + 300_000_000, 5 + 700_000_000))
    now = iter(range(10**9, 10**12, 10**9))
    monkeypatch.setattr(loop.os, "pread", lambda fd, count, offset: b"1 %d 3\n" % next(waited))
    monkeypatch.setattr(loop.time, "monotonic_ns", lambda: next(now))
    made, platform = make(2)
    made._spin_ns()
    platform.settle(frozenset((1,)))
    made._spin_ns()
    made._spin_ns()
    assert platform.settled, "three tenths of the time were waited"
    made._spin_ns()
    assert not platform.settled


def test_what_was_waited_before_it_was_asked_to_stay_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = iter((5, 5 + 10**9, 5 + 10**9))
    now = iter(range(10**9, 10**12, 10**9))
    monkeypatch.setattr(loop.os, "pread", lambda fd, count, offset: b"1 %d 3\n" % next(waited))
    monkeypatch.setattr(loop.time, "monotonic_ns", lambda: next(now))
    made, platform = make(2)
    platform.settle(frozenset((1,)))
    made._spin_ns()
    platform.settle(frozenset())
    made._spin_ns()
    platform.settle(frozenset((1,)))
    made._spin_ns()
    made._spin_ns()
    assert platform.settled

"""Which first calls of a program are remembered to be foretold the next time."""

from __future__ import annotations

from platforms.systrap import layout
from services.sentry.kernel.start_maps import FirstCalls, StartMaps

ACCESS, OPENAT = 21, 257
FIRST = (ACCESS, b"/etc/preload", 4)
SECOND = (OPENAT, b"/etc/cache", 0o2000000)
THIRD = (OPENAT, b"/lib/library", 0o2000000)


def learned(*calls: tuple[int, bytes, int]) -> FirstCalls:
    first = FirstCalls()
    for position, call in enumerate(calls):
        assert first.note(position, call)
    return first


def test_the_calls_of_the_first_start_are_remembered_in_their_order() -> None:
    assert learned(FIRST, SECOND, THIRD).calls == [FIRST, SECOND, THIRD]


def test_a_start_that_does_the_same_changes_nothing() -> None:
    first = learned(FIRST, SECOND)
    assert first.note(0, FIRST) and first.note(1, SECOND)
    assert first.calls == [FIRST, SECOND]


def test_what_differs_ends_what_is_remembered_for_good() -> None:
    first = learned(FIRST, SECOND, THIRD)
    assert not first.note(1, THIRD)
    assert first.calls == [FIRST]
    assert not first.note(1, SECOND)
    assert first.calls == [FIRST]


def test_a_program_that_goes_another_way_has_fewer_calls_in_common() -> None:
    first = learned(FIRST, SECOND, THIRD)
    first.settle(2)
    assert first.calls == [FIRST, SECOND]
    assert not first.note(2, THIRD)


def test_names_that_cannot_be_foretold_are_not_remembered() -> None:
    first = FirstCalls()
    assert not first.note(0, (OPENAT, b"relative", 0))
    assert not first.note(0, (OPENAT, b"/" * layout.PATH_NAME_SIZE, 0))
    for position in range(layout.PATHS_MOST):
        assert first.note(position, (OPENAT, b"/%d" % position, 0))
    assert not first.note(layout.PATHS_MOST, FIRST)
    assert len(first.calls) == layout.PATHS_MOST


def test_each_program_has_calls_of_its_own() -> None:
    maps = StartMaps()
    maps.first_calls(b"/bin/one").note(0, FIRST)
    assert maps.first_calls(b"/bin/one").calls == [FIRST]
    assert maps.first_calls(b"/bin/two").calls == []

"""Records behave as dataclasses with slots do."""

from __future__ import annotations

import copy
import pickle

import pytest

from protocol.records import field, record, replace


@record
class Plain:
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)

    def total(self) -> int:
        return self.a + len(self.c)


@record
class Longer(Plain):
    d: int = 7


@record(frozen=True)
class Fixed:
    x: int
    y: tuple[int, ...] = ()


def test_fields_are_taken_by_position_and_by_name() -> None:
    one = Plain(1, c=[2])
    assert (one.a, one.b, one.c, one.total()) == (1, "b", [2], 2)
    assert repr(one) == "Plain(a=1, b='b', c=[2])"


def test_a_default_factory_is_called_for_each_instance() -> None:
    first, second = Plain(1), Plain(1)
    first.c.append(1)
    assert second.c == []
    assert first != second
    assert Plain(1) == Plain(1)


def test_a_missing_or_unknown_field_is_a_type_error() -> None:
    for words in ({}, {"a": 1, "z": 2}):
        with pytest.raises(TypeError):
            Plain(**words)  # type: ignore[arg-type]


def test_a_record_has_slots_and_is_unhashable_unless_frozen() -> None:
    with pytest.raises(AttributeError):
        Plain(1).z = 2  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        hash(Plain(1))


def test_a_frozen_record_cannot_change_and_is_hashable() -> None:
    one = Fixed(1, (2,))
    assert {one: 1}[Fixed(1, (2,))] == 1
    with pytest.raises(AttributeError):
        one.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del one.x
    assert replace(one, x=3) == Fixed(3, (2,))
    assert copy.copy(one) == one
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_record_inherits_fields_before_its_own() -> None:
    one = Longer(1, "x")
    assert (one.a, one.b, one.c, one.d) == (1, "x", [], 7)
    assert Longer.__match_args__ == ("a", "b", "c", "d")
    assert one != Plain(1, "x")
    match one:
        case Plain(a, b):
            assert (a, b) == (1, "x")


def test_replace_refuses_what_is_no_field() -> None:
    with pytest.raises(TypeError):
        replace(Fixed(1), z=1)

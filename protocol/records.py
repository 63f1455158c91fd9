"""Classes that are their fields, as dataclasses are, at a tenth of the cost when a program starts.

`dataclasses` imports inspect, ast and tokenize (7 ms) and compiles several functions for every class (0.4 ms); each
sandbox starts two services that would pay for all of theirs. Here a class costs some microseconds until its first
instance is made, when its `__init__` is compiled; comparison, hash and representation are shared. Type checkers take
`record` for a dataclass (typing.dataclass_transform). Fields are what is annotated in the class body, after those of
the record it inherits from; every record has `__slots__`. There is no ClassVar, KW_ONLY, InitVar or __post_init__.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, dataclass_transform, overload

__all__ = ["field", "record", "replace"]

_T = TypeVar("_T")
_C = TypeVar("_C", bound=type)


class _Factory:
    """A default that is made anew for each instance."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


_NO_DEFAULT: Final = object()


def field(*, default_factory: Callable[[], _T]) -> _T:
    """A field whose default is what `default_factory` returns."""
    return _Factory(default_factory)  # type: ignore[return-value]


@overload
def record(cls: _C, /) -> _C: ...


@overload
def record(*, frozen: bool = False, eq: bool = True, repr: bool = True) -> Callable[[_C], _C]: ...


@dataclass_transform(field_specifiers=(field,))
def record(
    cls: type | None = None, /, *, frozen: bool = False, eq: bool = True, repr: bool = True
) -> type | Callable[[type], type]:
    """Class decorator. `frozen`: instances cannot be changed and, with `eq`, are hashable.

    `eq`, `repr`: whether to give the class those; False leaves what it inherits.
    """

    def make(given: type) -> type:
        return _make(given, frozen, eq, repr)

    return make if cls is None else make(cls)


def replace(instance: _T, **changes: object) -> _T:
    """A copy with some fields changed. TypeError for one that is not a field."""
    values = {name: getattr(instance, name) for name in type(instance).__match_args__}  # type: ignore[attr-defined]
    return type(instance)(**values | changes)


def _make(given: type, frozen: bool, eq: bool, repr: bool) -> type:
    own = tuple(given.__dict__.get("__annotations__", ()))
    inherited: tuple[str, ...] = getattr(given, "__match_args__", ())
    defaults: dict[str, object] = dict(getattr(given, "_record_defaults", {}))
    namespace: dict[str, Any] = {
        key: value for key, value in given.__dict__.items() if key not in ("__dict__", "__weakref__")
    }
    for name in own:
        if name in namespace:
            defaults[name] = namespace.pop(name)
    names = inherited + tuple(name for name in own if name not in inherited)
    namespace["__slots__"] = tuple(name for name in own if name not in inherited)
    namespace["__match_args__"] = names
    namespace["_record_defaults"] = defaults
    namespace.setdefault("__reduce__", _reduce)
    if eq and "__eq__" not in namespace:
        namespace["__eq__"] = _equal
        namespace.setdefault("__hash__", _hash if frozen else None)
    if repr:
        namespace.setdefault("__repr__", _represent)
    if frozen:
        namespace["__setattr__"] = _refuse_to_set
        namespace["__delattr__"] = _refuse_to_delete
    made = type(given)(given.__name__, given.__bases__, namespace)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        init = _compile_init(made, names, defaults, frozen)
        made.__init__ = init  # type: ignore[misc]
        init(self, *args, **kwargs)

    made.__init__ = __init__  # type: ignore[misc]
    return made


def _compile_init(cls: type, names: tuple[str, ...], defaults: dict[str, object], frozen: bool) -> Callable[..., None]:
    """`__init__` as one would write it. It sets slots by their descriptors: that works for frozen classes too."""
    known: dict[str, Any] = {"_none_given": _NO_DEFAULT}
    parameters, lines = ["self"], []
    for name in names:
        value = name
        if name in defaults:
            default = defaults[name]
            if isinstance(default, _Factory):
                known[f"_make_{name}"], known[f"_default_{name}"] = default.make, _NO_DEFAULT
                value = f"_make_{name}() if {name} is _none_given else {name}"
            else:
                known[f"_default_{name}"] = default
            parameters.append(f"{name}=_default_{name}")
        else:
            parameters.append(name)
        if frozen:
            known[f"_set_{name}"] = getattr(cls, name).__set__
            lines.append(f"    _set_{name}(self, {value})")
        else:
            lines.append(f"    self.{name} = {value}")
    source = f"def __init__({', '.join(parameters)}):\n" + ("\n".join(lines) or "    pass")
    exec(source, known)
    init: Callable[..., None] = known["__init__"]
    return init


def _values(self: Any) -> tuple[object, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _equal(self: object, other: object) -> bool:
    if type(other) is not type(self):
        return NotImplemented  # type: ignore[no-any-return]
    equal: bool = _values(self) == _values(other)
    return equal


def _hash(self: object) -> int:
    return hash(_values(self))


def _represent(self: Any) -> str:
    inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({inside})"


def _reduce(self: object) -> tuple[type, tuple[object, ...]]:
    return type(self), _values(self)


def _refuse_to_set(self: object, name: str, _value: object) -> None:
    raise AttributeError(f"cannot assign to field {name!r} of a frozen record")


def _refuse_to_delete(self: object, name: str) -> None:
    raise AttributeError(f"cannot delete field {name!r} of a frozen record")

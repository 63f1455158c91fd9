"""What tests of modules that may be installed compiled (services/compiled.py) have to do in another way."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType


def interpreted(name: str) -> ModuleType:
    """A module of its own, made from the .py file of the module `name`: to give it stand-ins of what it works on."""
    package, _, leaf = name.rpartition(".")
    source = Path(importlib.import_module(package).__path__[0]) / f"{leaf}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_interpreted", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def attributes(cls: type) -> list[str]:
    """The attributes that instances of a class with __slots__ have."""
    kinds = (MemberDescriptorType, GetSetDescriptorType)
    return [name for name in dir(cls) if isinstance(getattr(cls, name), kinds) and not name.startswith("__")]

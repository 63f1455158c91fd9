"""What mypyc compiles keeps to the rules of services/netstackd/compiled.py that it does not enforce itself."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.netstackd.compiled import groups

ROOT = Path(__file__).resolve().parents[2]
FILES = [file for files, _ in groups(ROOT) for file in files]


@dataclass
class Class:
    """A class of the source: names of its bases, of what is assigned to its instances, and of its properties."""

    file: str
    bases: list[str]
    attributes: set[str] = field(default_factory=set)
    properties: set[str] = field(default_factory=set)
    open_to_all: bool = False


def last_name(node: ast.expr) -> str:
    return ast.unparse(node).split("[")[0].split(".")[-1]


def read(file: str, node: ast.ClassDef) -> Class:
    found = Class(file, [last_name(base) for base in node.bases])
    found.open_to_all = any("allow_interpreted_subclasses" in ast.unparse(each) for each in node.decorator_list)
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            decorators = {last_name(decorator) for decorator in each.decorator_list}
            if decorators & {"property", "setter"}:
                found.properties.add(each.name)
        for inner in ast.walk(each):
            if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                if isinstance(inner.value, ast.Name) and inner.value.id == "self":
                    found.attributes.add(inner.attr)
    return found


def classes(files: list[str]) -> dict[str, Class]:
    return {
        node.name: read(file, node)
        for file in files
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, ast.ClassDef)
    }


COMPILED = classes(FILES)


def ancestors(name: str) -> Iterator[Class]:
    for base in COMPILED[name].bases:
        if base in COMPILED:
            yield COMPILED[base]
            yield from ancestors(base)


def imported(file: Path) -> set[str]:
    """The names that a file has from compiled modules."""
    modules = {name.removesuffix(".py").replace("/", ".") for name in FILES}
    return {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in modules
        for alias in node.names
    }


def test_the_rules_are_looked_for_in_all_of_them() -> None:
    assert len(FILES) > 100 and len(COMPILED) > 150
    assert len(FILES) == len(set(FILES))


def test_no_property_hides_an_attribute_of_a_base_class() -> None:
    """The attribute would be read past it."""
    hidden = [
        (name, sorted(found.properties & (base.attributes - base.properties)))
        for name, found in COMPILED.items()
        for base in ancestors(name)
        if found.properties & (base.attributes - base.properties)
    ]
    assert hidden == []


def test_classes_are_derived_from_where_they_allow_it() -> None:
    """Python raises TypeError for others when such a module is imported."""
    compiled = {ROOT / file for file in FILES}
    wrong = []
    for file in sorted(path for top in ("services", "sentrio", "tests") for path in (ROOT / top).rglob("*.py")):
        if file in compiled:
            continue
        known = imported(file) & COMPILED.keys()
        for node in ast.walk(ast.parse(file.read_text())) if known else ():
            if isinstance(node, ast.ClassDef):
                wrong += [
                    (str(file.relative_to(ROOT)), node.name)
                    for base in map(last_name, node.bases)
                    if base in known and not COMPILED[base].open_to_all
                ]
    assert wrong == []


@pytest.mark.parametrize("what", ["copy.copy(", "copy.deepcopy(", "__new__(", "import weakref"])
def test_what_such_classes_cannot_do_is_not_asked_of_them(what: str) -> None:
    assert [file for file in FILES if what in (ROOT / file).read_text()] == []


def test_all_of_them_are_installed_in_one_way() -> None:
    """Compiled, or as they are: an editable install."""
    names = [file.removesuffix(".py").replace("/", ".") for file in FILES]
    specs = {name: importlib.util.find_spec(name) for name in names}
    kinds = {Path(spec.origin or "").suffix for spec in specs.values() if spec is not None}
    assert None not in specs.values() and len(kinds) == 1 and kinds <= {".so", ".py"}

"""What mypyc compiles keeps to the rules of services/compiled.py that it does not enforce itself."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.machinery
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.compiled import groups

ROOT = Path(__file__).resolve().parents[2]
FILES = [file for files, _ in groups(ROOT) for file in files]


@dataclass
class Class:
    """A class of the source: names of its bases, of what is assigned to its instances, its properties and methods."""

    file: str
    bases: list[str]
    attributes: set[str] = field(default_factory=set)
    properties: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)
    open_to_all: bool = False


def last_name(node: ast.expr) -> str:
    return ast.unparse(node).split("[")[0].split(".")[-1]


def read(file: str, node: ast.ClassDef) -> Class:
    found = Class(file, [last_name(base) for base in node.bases])
    found.open_to_all = any("allow_interpreted_subclasses" in ast.unparse(each) for each in node.decorator_list)
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            decorators = {last_name(decorator) for decorator in each.decorator_list}
            (found.properties if decorators & {"property", "setter"} else found.methods).add(each.name)
        for inner in ast.walk(each):
            if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                if isinstance(inner.value, ast.Name) and inner.value.id == "self":
                    found.attributes.add(inner.attr)
    return found


def program(file: str) -> str:
    """Which one `file` belongs to: a name is one class within it."""
    return "/".join(file.split("/")[:2])


def classes(files: list[str]) -> dict[tuple[str, str], Class]:
    return {
        (program(file), node.name): read(file, node)
        for file in files
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, ast.ClassDef)
    }


COMPILED = classes(FILES)


def ancestors(name: tuple[str, str]) -> Iterator[Class]:
    for each in COMPILED[name].bases:
        base = (name[0], each)
        if base in COMPILED:
            yield COMPILED[base]
            yield from ancestors(base)


def imported(file: Path) -> dict[str, Class]:
    """The classes that a file has from compiled modules, by the name they have there."""
    modules = {name.removesuffix(".py").replace("/", "."): program(name) for name in FILES}
    return {
        alias.asname or alias.name: COMPILED[modules[node.module], alias.name]
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in modules
        for alias in node.names
        if (modules[node.module], alias.name) in COMPILED
    }


def test_the_rules_are_looked_for_in_all_of_them() -> None:
    assert len(FILES) > 300 and len(COMPILED) > 400
    assert len(FILES) == len(set(FILES))


def test_no_property_hides_an_attribute_of_a_base_class() -> None:
    """The attribute would be read past it."""
    hidden = [
        (name, sorted(found.properties & base.attributes - inherited))
        for name, found in COMPILED.items()
        for inherited in [{each for base in ancestors(name) for each in base.properties}]
        for base in ancestors(name)
        if found.properties & base.attributes - inherited
    ]
    assert hidden == []


def test_no_method_hides_an_attribute_of_a_base_class_or_is_hidden_by_one() -> None:
    """The base's code would go on with its own."""
    hidden = [
        (name, sorted(found.methods & base.attributes | found.attributes & base.methods))
        for name, found in COMPILED.items()
        for base in ancestors(name)
        if found.methods & base.attributes or found.attributes & base.methods
    ]
    assert hidden == []


def at_run_time(tree: ast.Module) -> set[str]:
    """The names of a module when it runs: not those imported for types alone."""
    names = set(dir(builtins)) - {"object"}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign):
            names |= set(map(ast.unparse, node.targets))
    return names


def test_fields_of_named_tuples_are_of_what_is_there_when_the_module_runs() -> None:
    """mypyc looks for their classes then; for object it looks among the module's own names. (What a field can be called
    with or holds is not looked for.)"""
    missing = []
    for file in FILES:
        tree = ast.parse((ROOT / file).read_text())
        known = at_run_time(tree)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and "NamedTuple" in map(last_name, node.bases):
                for each in node.body:
                    if isinstance(each, ast.AnnAssign) and isinstance(each.annotation, ast.Name):
                        if each.annotation.id not in known:
                            missing.append((file, node.name, ast.unparse(each)))
    assert missing == []


def test_classes_are_derived_from_where_they_allow_it() -> None:
    """Python raises TypeError for others when such a module is imported. (Tests have the Sentry interpreted.)"""
    compiled = {ROOT / file for file in FILES}
    wrong = []
    for file in sorted(path for top in ("services", "sentrio", "tests") for path in (ROOT / top).rglob("*.py")):
        if file in compiled:
            continue
        known = imported(file)
        for node in ast.walk(ast.parse(file.read_text())) if known else ():
            if isinstance(node, ast.ClassDef):
                wrong += [
                    (str(file.relative_to(ROOT)), node.name)
                    for base in map(last_name, node.bases)
                    if base in known and not known[base].open_to_all
                    if file.is_relative_to(ROOT / "services") or program(known[base].file) == "services/netstackd"
                ]
    assert wrong == []


@pytest.mark.parametrize("what", ["copy.copy(", "copy.deepcopy(", "__new__(", "import weakref"])
def test_what_such_classes_cannot_do_is_not_asked_of_them(what: str) -> None:
    assert [file for file in FILES if what in (ROOT / file).read_text()] == []


def test_only_what_makes_room_for_weak_references_is_referred_to_weakly() -> None:
    users = {file for file in FILES if "from weakref import" in (ROOT / file).read_text()}
    assert users == {
        "services/sentry/filesystems/gofer/superblock.py",  # inodes
        "services/sentry/filesystems/overlay/superblock.py",  # inodes
        "services/sentry/vfs/dentry.py",
    }
    assert {name for (_, name), found in COMPILED.items() if "Referable" in found.bases} == {"Dentry", "Inode"}


def test_what_has_the_handlers_of_signals_run_is_interpreted() -> None:
    """They run as a function of Python's begins."""
    assert (ROOT / "services/sentry/edge/signals.py").is_file() and "services/sentry/edge/signals.py" not in FILES
    assert "services/sentry/edge/loop.py" in FILES


def test_all_of_them_are_installed_in_one_way() -> None:
    """Compiled, or as they are: an editable install."""
    kinds = set()
    for file in FILES:
        package, _, name = file.removesuffix(".py").rpartition("/")
        (folder,) = importlib.import_module(package.replace("/", ".")).__path__
        found = importlib.machinery.PathFinder.find_spec(name, [folder])
        assert found is not None and found.origin is not None
        kinds.add(Path(found.origin).suffix)
    assert len(kinds) == 1 and kinds <= {".so", ".py"}


PURE = {"abs", "index", "int", "len", "max", "min", "ord"}  # computed twice they cost a little, and change nothing


def test_no_call_with_effects_stands_where_a_slice_begins_or_ends() -> None:
    wrong = []
    for file in FILES:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if not isinstance(node, ast.Slice):
                continue
            for part in (node.lower, node.upper):
                for inner in ast.walk(part) if part is not None else ():
                    if isinstance(inner, ast.NamedExpr) or (
                        isinstance(inner, ast.Call) and last_name(inner.func) not in PURE
                    ):
                        wrong.append(f"{file}:{inner.lineno} {ast.unparse(inner)}")
    assert wrong == []

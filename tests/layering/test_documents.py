"""What the documents name is there, and what is there is named: folders and files of docs/ARCHITECTURE.md's map, the
layers of its lists, and the tests of docs/NETSTACK.md's RFC tables."""

from __future__ import annotations

import re
from pathlib import Path

from tests.layering.test_imports import NETSTACKD_LAYERS, SENTRY_LAYERS

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = ROOT / "docs" / "ARCHITECTURE.md"
NETSTACK = ROOT / "docs" / "NETSTACK.md"
SERVICES_WITH_A_README = ("supervisor", "netstackd", "hostnet", "gofer")  # their folders are listed there, or are few


def section(document: Path, heading: str) -> str:
    text = document.read_text()
    begin = text.index(f"\n## {heading}\n")
    end = text.find("\n## ", begin + 1)
    return text[begin : end if end > 0 else len(text)]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row but headings."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith(("| folder |", "| RFC |"))
    ]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def packages(top: Path) -> list[Path]:
    return sorted(path.parent for path in top.glob("*/__init__.py"))


def named_in_the_map() -> list[Path]:
    """The paths of the map's first column; a name without a folder lies beside the one before."""
    found: list[Path] = []
    for cells in rows(section(ARCHITECTURE, "Where what lives")):
        folder = ROOT
        for name in quoted(cells[0]):
            path = ROOT / name if "/" in name else folder / name
            folder = path.parent
            found.append(path)
    return found


def test_every_place_on_the_map_is_there() -> None:
    named = named_in_the_map()
    assert len(named) > 25
    assert [str(path) for path in named if not path.exists()] == []


def test_every_package_is_on_the_map() -> None:
    named = set(named_in_the_map())
    wanted = [*packages(ROOT / "protocol"), *packages(ROOT / "platforms"), *packages(ROOT / "services" / "sentry")]
    wanted += [path for path in packages(ROOT / "services") if path.name in SERVICES_WITH_A_README]
    wanted += packages(ROOT / "sentrio")
    assert [str(path) for path in wanted if path not in named] == []
    assert {path.name for path in packages(ROOT / "services")} == {*SERVICES_WITH_A_README, "sentry"}


def test_every_folder_of_tests_is_named_where_tests_are_listed() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.glob("*"))} - {
        "__pycache__"
    }
    on_the_map = next(cells[1] for cells in rows(section(ARCHITECTURE, "Where what lives")) if cells[0] == "`tests/`")
    readme = "".join(cells[0] for cells in rows(section(ROOT / "README.md", "Tests")))
    assert folders <= set(quoted(on_the_map))
    assert folders == {name.removeprefix("tests/").rstrip("/") for name in quoted(readme)}


def test_the_lists_of_layers_are_the_tables_that_are_checked() -> None:
    lists = re.findall(r"(?:^\d+\. .*\n)+", section(ARCHITECTURE, "What may import what"), re.MULTILINE)
    for written, layers, folder in (
        (lists[0], SENTRY_LAYERS, ROOT / "services" / "sentry"),
        (lists[1], NETSTACKD_LAYERS, ROOT / "services" / "netstackd"),
    ):
        said = re.sub(r"`([^`{]*)\{([^}]*)\}`", lambda m: ", ".join(f"`{m[1]}{x}`" for x in m[2].split(",")), written)
        for layer in layers:
            for name in layer:
                path = folder / name.replace(".", "/")
                if path.exists() or path.with_suffix(".py").exists():
                    assert f"`{name}`" in said, name


def test_the_tests_of_the_rfc_tables_are_there() -> None:
    names = 0
    for cells in rows(section(NETSTACK, "RFCs")):
        folder = ROOT / "tests" / "netstack"
        for name in quoted(cells[-1]):
            names += 1
            if name.endswith(".py"):
                path = ROOT / "tests" / "netstack" / name if "/" in name else folder / name
                folder = path.parent
                assert path.exists(), name
            else:  # a packet script, some of them, or a folder of them
                scripts = ROOT / "tests" / "netstack" / "scripts"
                assert any(scripts.glob(f"{name}*" if name.endswith("/") else f"{name}.*")), name
    assert names > 60

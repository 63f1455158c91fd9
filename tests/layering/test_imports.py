"""The import contract, checked on the source: who may import whom, and that importing does nothing.

Imports under `if TYPE_CHECKING:` do not count. To allow a new edge, change one of the tables below, with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("platforms", "protocol", "sentrio", "services")

# Package -> prefixes of ours it may import (itself is always allowed). The longest matching key decides.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "protocol": (),
    "platforms": ("protocol",),
    "sentrio": ("protocol",),
    "services": (),
    "services.gofer": ("protocol", "sentrio"),
    "services.netstackd": ("protocol", "sentrio"),
    "services.hostnet": ("protocol",),
    "services.sentry": ("protocol", "platforms", "sentrio"),
    "services.supervisor": ("protocol", "platforms", "sentrio"),
    # The launcher imports the services once and forks them, to start fast: lazily, inside functions.
    # Those of a network only where one is asked for; tests/oci/test_network.py looks that nothing else imports them.
    "services.supervisor.launch": (
        "protocol",
        "platforms",
        "sentrio",
        "services.sentry.app",
        "services.gofer.app",
        "services.netstackd.supervised",
        "services.hostnet.app",
    ),
}

# The edges above that must stay inside functions, so that the command line does not pay for them.
LAZY_ONLY = ("services.sentry.app", "services.gofer.app", "services.netstackd.supervised", "services.hostnet.app")

# Layers of the Sentry, lowest first; a module imports its own layer and those before it. Folders or modules of
# services.sentry; the longest name wins. Modules in one row are on one level and may import each other.
SENTRY_LAYERS: list[tuple[str, ...]] = [
    ("errors", "config", "host_filter"),
    # What every part of the kernel speaks of and what depends on nothing: waits, users, signal numbers and sets.
    ("kernel.waiter", "kernel.clocks", "kernel.credentials", "kernel.signals", "kernel.uts"),
    ("mm", "syscalls.arguments"),
    ("vfs",),
    ("files",),
    ("devices", "filesystems"),
    ("sockets", "ipc", "loader"),
    ("kernel",),
    # These show the kernel's own objects: tasks, sessions, mounts.
    (
        "devices.registry",
        "devices.terminal",
        "filesystems.devpts",
        "filesystems.devtmpfs",
        "filesystems.proc",
        "filesystems.sysfs",
    ),
    ("strace",),
    ("syscalls",),
    ("control", "checkpoint"),
    ("edge",),
    ("testing",),
    ("app", "boot"),
    ("__main__",),
]

# The same for netstackd.
NETSTACKD_LAYERS: list[tuple[str, ...]] = [
    ("errors", "counters", "host_filter"),
    # A packet is what parsers fill in; everything else of both is values and bytes.
    ("wire", "storage"),
    # What an interface offers, which links need to know and nothing else of the network.
    ("network.interface",),
    ("network",),
    # TCP itself knows no IP: it sees segments and a route that it is given.
    ("transport.tcp",),
    ("transport",),
    ("stack",),
    ("sockets",),
    # Host sockets come in as values.
    ("slirp",),
    ("links",),
    ("filter",),
    ("config",),
    ("edge", "services"),
    ("namespaces",),
    # Sockets of namespaces for other processes.
    ("socket_service",),
    ("draining",),
    ("app",),
    ("control",),
    ("process",),
    ("supervised",),
    ("commands",),
    ("__main__",),
]

# Service -> its layers.
LAYERS: dict[str, list[tuple[str, ...]]] = {
    "services.sentry": SENTRY_LAYERS,
    "services.netstackd": NETSTACKD_LAYERS,
}

# Modules of netstackd that are sans-IO: time, randomness and descriptors come from outside.
SANS_IO = ("wire", "storage", "network", "transport", "filter", "services", "slirp", "stack", "sockets")
IO_MODULES = frozenset({"asyncio", "fcntl", "os", "selectors", "socket", "subprocess", "threading", "time", "trio"})

# (importer, imported) pairs that the tables would refuse, each with its reason.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("services.sentry.vfs.anonymous", "services.sentry.filesystems.anonymous"): (
        "pipes, sockets and the like need an inode of a file system that nobody mounts"
    ),
    ("services.sentry.filesystems.special_file", "services.sentry.devices.registry"): (
        "opening a device node on any file system has to find its driver by number"
    ),
}

# Calls at module level that would make an import do something. A name matches as written in the source.
FORBIDDEN_CALLS = {
    "open",
    "print",
    "input",
    "os.open",
    "os.pipe",
    "os.pipe2",
    "os.fork",
    "os.system",
    "os.mkdir",
    "os.makedirs",
    "socket.socket",
    "socket.socketpair",
    "subprocess.run",
    "subprocess.Popen",
    "threading.Thread",
    "mmap.mmap",
    "signal.signal",
    "trio.run",
    "anyio.run",
    "asyncio.run",
    "time.sleep",
    "time.time",
    "time.monotonic",
    "time.monotonic_ns",
    "logging.basicConfig",
    "atexit.register",
    "random.random",
    "os.urandom",
}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    found: dict[str, ast.Module] = {}
    for top in OURS:
        for path in sorted((ROOT / top).rglob("*.py")):
            found[module_name(path)] = ast.parse(path.read_text(), str(path))
    return found


def is_package(name: str) -> bool:
    return (ROOT / Path(*name.split(".")) / "__init__.py").exists()


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def targets(node: ast.Import | ast.ImportFrom, importer: str) -> Iterator[str]:
    """The full names of modules (or names in modules) that an import statement reaches."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        package = importer.split(".") if is_package(importer) else importer.split(".")[:-1]
        stem = package[: len(package) - node.level + 1]
        base = ".".join([*stem, base] if base else stem)
    for alias in node.names:
        full = f"{base}.{alias.name}"
        yield full if full in modules() else base


def imports(importer: str, tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """(target, line, inside a function) of every run-time import of ours."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and is_type_checking(child.test):
                for other in child.orelse:
                    yield from walk(other, lazy)
                continue
            if isinstance(child, ast.Import | ast.ImportFrom):
                for target in targets(child, importer):
                    if target.split(".")[0] in OURS:
                        yield target, child.lineno, lazy
            inner = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, inner)

    yield from walk(tree, False)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def allowed_prefixes(importer: str) -> tuple[str, ...]:
    key = max((key for key in MAY_IMPORT if within(importer, key)), key=len)
    return MAY_IMPORT[key]


def own_part(name: str) -> str:
    """The part of the system a module belongs to: a service, or a top package."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "services" else parts[0]


def layer_of(service: str, module: str) -> int | None:
    """The index of a service's module in its table; None for the package itself."""
    rest = module.removeprefix(service).lstrip(".")
    best: tuple[int, int] | None = None
    for index, row in enumerate(LAYERS[service]):
        for entry in row:
            if within(rest, entry) and (best is None or len(entry) > best[0]):
                best = (len(entry), index)
    return best[1] if best else None


def excused(importer: str, target: str) -> bool:
    return any(within(importer, left) and within(target, right) for left, right in EXCEPTIONS)


@pytest.mark.host_only
def test_imports_point_one_way() -> None:
    wrong: list[str] = []
    for importer, tree in modules().items():
        for target, line, lazy in imports(importer, tree):
            if own_part(importer) == own_part(target) or target == "services" or excused(importer, target):
                continue
            if not any(within(target, prefix) for prefix in allowed_prefixes(importer)):
                wrong.append(f"{importer}:{line} imports {target}")
            elif not lazy and any(within(target, prefix) for prefix in LAZY_ONLY):
                wrong.append(f"{importer}:{line} imports {target} at its top (do it inside the function)")
    assert wrong == []


@pytest.mark.host_only
@pytest.mark.parametrize("service", sorted(LAYERS))
def test_layers_of_a_service_point_downwards(service: str) -> None:
    wrong: list[str] = []
    for importer, tree in modules().items():
        if not importer.startswith(service + "."):
            continue
        above = layer_of(service, importer)
        if above is None:
            wrong.append(f"{importer} is in no layer: add its folder to the table of {service}")
            continue
        for target, line, _ in imports(importer, tree):
            if not target.startswith(service + ".") or excused(importer, target):
                continue
            below = layer_of(service, target)
            if below is not None and below > above:
                wrong.append(f"{importer}:{line} ({LAYERS[service][above][0]}) imports {target} from above")
    assert wrong == []


@pytest.mark.host_only
def test_the_network_stack_does_no_io() -> None:
    wrong: list[str] = []
    for importer, tree in modules().items():
        rest = importer.removeprefix("services.netstackd.")
        if rest == importer or not any(within(rest, part) for part in SANS_IO):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            wrong += [f"{importer}:{node.lineno} imports {name}" for name in names if name.split(".")[0] in IO_MODULES]
    assert wrong == []


def module_level_calls(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of every call that runs when the module is imported."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending.extend([*node.decorator_list, *node.args.defaults])
            continue
        if isinstance(node, ast.Lambda) or (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)):
            continue
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno
        pending.extend(ast.iter_child_nodes(node))


@pytest.mark.host_only
def test_importing_does_nothing() -> None:
    wrong = [
        f"{name}:{line} calls {call} when imported"
        for name, tree in modules().items()
        for call, line in module_level_calls(tree)
        if call in FORBIDDEN_CALLS
    ]
    assert wrong == []


@pytest.mark.host_only
def test_every_module_opens_with_its_contract() -> None:
    assert [name for name, tree in modules().items() if not ast.get_docstring(tree)] == []

"""The parts of the build that pyproject.toml cannot say: the host-call extension and the guest-side stub, both from C,
and the Python that mypyc compiles (the Sentry, its platform and netstackd's core).

Owns where their products go: the extensions beside their packages as setuptools puts them, `platforms/systrap/stub.bin`
in the built package, or in the source tree for an editable install. What is compiled and how stands with the sources:
`platforms/host_build.py`, `platforms/systrap/stub/build.py` and `services/compiled.py`.

An editable install compiles no Python, so that what is edited is what runs.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path(__file__).parent.resolve()
HOST_BUILD = SOURCE / "platforms" / "host_build.py"
STUB = SOURCE / "platforms" / "systrap" / "stub"
COMPILED = SOURCE / "services" / "compiled.py"
COLD_PATHS = SOURCE / "services" / "cold_paths.h"

# A build has none of the libraries that the modules import, so their types are unknown there; `mypy` proper, with all
# of them, is what judges the types.
MYPY_FLAGS = ["--ignore-missing-imports", "--allow-subclassing-any", "--no-warn-return-any", "--no-warn-unused-ignores"]


def require_c_compiler() -> None:
    """End the build with one line when there is no C compiler."""
    compiler = os.environ.get("CC", "cc").split()[0]
    if shutil.which(compiler) is None:
        sys.exit(f"sentrio: cannot build: no C compiler named {compiler!r} (install gcc and the C library's headers)")


def load(path: Path) -> ModuleType:
    """The module in `path`, without the package around it."""
    spec = importlib.util.spec_from_file_location(f"sentrio_{path.stem}", path)
    if spec is None or spec.loader is None:
        sys.exit(f"sentrio: cannot build: {path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What mypyc 2.4 writes for classes whose instances can be referred to weakly (those with an interpreted base): the list
# of weak references taken for an object of the instance's.
_WEAK_LIST = re.compile(
    r"    Py_(?:VISIT|CLEAR)\(\*\(\(PyObject \*\*\)"
    r"\(\(char \*\)self \+ sizeof\(PyObject \*\) \+ sizeof\((?!Py)(\w+)\)\)\)\);\n"
)
_DEALLOC = r"(_dealloc\({} \*self\)\n\{{\n(?:    .*\n|done: .*\n)*?    PyObject_GC_UnTrack\(self\);\n)"


def mend_weak_references(source: Path) -> None:
    """Have the C in `source` clear the weak references to an instance that ends, which mypyc forgets: they would go on
    leading to its memory."""
    text = source.read_text()
    structs = set(_WEAK_LIST.findall(text))
    if not structs:
        return
    text = _WEAK_LIST.sub("", text)
    for struct in structs:
        text, found = re.subn(_DEALLOC.format(struct), r"\1    PyObject_ClearWeakRefs((PyObject *)self);\n", text)
        if found != 1:
            sys.exit(f"sentrio: cannot build: mypyc wrote {source} in another way than is known (for {struct})")
    source.write_text(text)


def own_sources(extension: Extension, extensions: list[Extension]) -> list[str]:
    """Its sources, with a copy of each that others have too (mypyc's runtime): they are built side by side, and one
    would link the object that another is just writing, which the linker takes for an empty one."""
    others = {source for other in extensions if other is not extension for source in other.sources}
    sources = []
    for source in extension.sources:
        if source in others:
            copy = Path(source).parent / extension.name / Path(source).name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            source = str(copy)
        sources.append(source)
    return sources


def compiled_modules(first: Path) -> list[Extension]:
    """The extensions that mypyc makes of Python modules: a few libraries, and a name for each module.

    The largest come first, so that no processor is left with one in the end. `first`: a header that all begin with.
    """
    from mypyc.build import mypycify

    os.chdir(SOURCE)  # where mypy finds its configuration and what the modules import
    groups = load(COMPILED).groups(SOURCE)
    files = [file for group, _ in groups for file in group]
    extensions: list[Extension] = mypycify(
        [*MYPY_FLAGS, *files], opt_level="1", debug_level="0", multi_file=True, separate=groups
    )
    for extension in extensions:
        extension.sources = own_sources(extension, extensions)
        for source in extension.sources:
            mend_weak_references(Path(source))
        flags = [flag for flag in extension.extra_compile_args if flag != "-Werror"]  # warnings of other compilers
        # Each file of a library defines the tables of the other libraries, without `extern`. What a library calls of
        # itself is not looked for elsewhere first, nor reached through a table.
        flags += ["-fcommon", "-fvisibility=hidden", "-fno-plt"]
        # What -O2 has besides these two takes the compiler two thirds as long again, and what mypyc writes is no faster
        # for it: it is calls into Python's own library for the most part.
        flags += ["-finline-small-functions", "-freorder-blocks-and-partition", "-include", str(first)]
        extension.extra_compile_args = flags
        extension.extra_link_args = [*extension.extra_link_args, "-Wl,-Bsymbolic-functions"]
    return sorted(extensions, key=lambda each: -sum(os.path.getsize(source) for source in each.sources))


class BuildCompiled(build_ext):
    """build_ext of what mypyc wrote: nine hundred files, each of which would read Python's headers anew."""

    def build_extensions(self) -> None:
        """Compile the header that all begin with, with the flags of all, then build them."""
        self.first.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(COLD_PATHS, self.first)
        compiler, flags = self.compiler, self.extensions[0].extra_compile_args
        own = flags[: flags.index("-include")]
        paths = [f"-I{path}" for path in (*compiler.include_dirs, *self.extensions[0].include_dirs)]
        self.spawn([*compiler.compiler_so, *paths, "-x", "c-header", str(self.first), "-o", f"{self.first}.gch", *own])
        super().build_extensions()

    @property
    def first(self) -> Path:
        """Where the compiler finds that header, compiled or not."""
        return Path(self.build_temp).resolve() / COLD_PATHS.name


class BuildNativeParts(build_ext):
    """build_ext, then what mypyc makes of Python unless the install is an editable one, then the stub."""

    def run(self) -> None:
        """Build everything that is C, or becomes C."""
        require_c_compiler()
        super().run()
        in_tree = bool(self.inplace or getattr(self, "editable_mode", False))
        if COMPILED.exists() and not in_tree:
            self.build_compiled()
        if (STUB / "build.py").exists():
            output = (SOURCE if in_tree else Path(self.build_lib)) / "platforms" / "systrap" / "stub.bin"
            output.parent.mkdir(parents=True, exist_ok=True)
            load(STUB / "build.py").build(STUB, output)

    def build_compiled(self) -> None:
        """Build them by a command of their own: the extensions of this one are fixed before it runs, and what only
        asks for names and metadata need not wait for mypyc."""
        command = BuildCompiled(self.distribution)
        command.build_lib, command.build_temp = self.build_lib, self.build_temp
        command.parallel = os.cpu_count()
        own, self.distribution.ext_modules = self.distribution.ext_modules, compiled_modules(command.first)
        try:
            command.ensure_finalized()
            command.run()
        finally:
            self.distribution.ext_modules = own


setup(
    cmdclass={"build_ext": BuildNativeParts},
    cffi_modules=["platforms/host_build.py:ffibuilder"] if HOST_BUILD.exists() else [],
)

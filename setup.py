"""The parts of the build that pyproject.toml cannot say: the host-call extension and the guest-side stub, both from C.

Owns where their products go: the extension beside its package as setuptools puts it, `platforms/systrap/stub.bin` in
the built package, or in the source tree for an editable install. What is compiled and how stands with the sources:
`platforms/host_build.py` and `platforms/systrap/stub/build.py`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

SOURCE = Path(__file__).parent.resolve()
HOST_BUILD = SOURCE / "platforms" / "host_build.py"
STUB = SOURCE / "platforms" / "systrap" / "stub"


def require_c_compiler() -> None:
    """End the build with one line when there is no C compiler."""
    compiler = os.environ.get("CC", "cc").split()[0]
    if shutil.which(compiler) is None:
        sys.exit(f"sentrio: cannot build: no C compiler named {compiler!r} (install gcc and the C library's headers)")


def stub_builder() -> Callable[[Path, Path], None]:
    """The function `build(source_dir, output)` of the stub's own build.py."""
    spec = importlib.util.spec_from_file_location("sentrio_stub_build", STUB / "build.py")
    if spec is None or spec.loader is None:
        sys.exit(f"sentrio: cannot build: {STUB / 'build.py'} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build: Callable[[Path, Path], None] = module.build
    return build


class BuildNativeParts(build_ext):
    """build_ext, then the stub."""

    def run(self) -> None:
        """Build everything that is C."""
        require_c_compiler()
        super().run()
        if not (STUB / "build.py").exists():
            return
        in_tree = self.inplace or getattr(self, "editable_mode", False)
        output = (SOURCE if in_tree else Path(self.build_lib)) / "platforms" / "systrap" / "stub.bin"
        output.parent.mkdir(parents=True, exist_ok=True)
        stub_builder()(STUB, output)


setup(
    cmdclass={"build_ext": BuildNativeParts},
    cffi_modules=["platforms/host_build.py:ffibuilder"] if HOST_BUILD.exists() else [],
)

"""Builds the guest-side stub: stub.c and the assembly beside it -> one flat image at a fixed address.

`build(source_dir, output)` is what setup.py calls; it needs `cc`, `ld` and `objcopy` and nothing of the package but
`layout.py`, which it loads by path.
"""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from pathlib import Path

__all__ = ["build"]

FLAGS = (
    "-O2 -ffreestanding -nostdlib -fPIE -mcmodel=small -fno-stack-protector -mgeneral-regs-only -mfsgsbase"
    " -fno-jump-tables"
    " -fno-asynchronous-unwind-tables -fcf-protection=none -fvisibility=hidden -fno-builtin -Wall -Wextra -Werror"
).split()


def _layout(source_dir: Path) -> dict[str, int]:
    spec = importlib.util.spec_from_file_location("systrap_layout", source_dir.parent / "layout.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    constants: dict[str, int] = module.CONSTANTS()
    return constants


def build(source_dir: Path, output: Path) -> None:
    """Compile the stub in `source_dir` and write the flat image to `output`. Raises CalledProcessError or OSError."""
    constants = _layout(source_dir)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "layout.h").write_text("".join(f"#define {k} {v:#x}\n" for k, v in constants.items()))
        objects = []
        names = "entry.S local.S rings.S counters.S polls.S answers.S local_maps.S local_mask.S local_sigreturn.S"
        names += " local_told.S first_contents.c recycle.S saved_memory.c stub.c trapped.c"
        for name in names.split():
            target = work / (name + ".o")
            subprocess.run(["cc", *FLAGS, "-I", folder, "-c", source_dir / name, "-o", target], check=True)
            objects.append(target)
        script = work / "stub.ld"
        script.write_text((source_dir / "stub.ld").read_text().replace("STUB_BASE", hex(constants["STUB_BASE"])))
        linked = work / "stub.elf"
        subprocess.run(["ld", "-static", "-no-pie", "-T", script, "-o", linked, *objects], check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", linked, output], check=True)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    build(here, here.parent / "stub.bin")

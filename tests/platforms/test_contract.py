"""Every platform passes the conformance suite. systrap's checks run in forked processes: it reaps all children."""

from __future__ import annotations

import os
import struct
import traceback
from collections.abc import Callable, Generator
from typing import Any

import pytest

from platforms._host import ffi
from platforms.base import Op
from platforms.testing import contract
from platforms.testing.scripted import Call, Fault, ScriptedContext, ScriptedPlatform, Spin

CODE = 0x2000_0000
_ANON = 0x32


class ScriptedHarness:
    executes = False

    def __init__(self) -> None:
        self.platform: Any = ScriptedPlatform()

    def _program(self, steps: tuple[Any, ...]) -> Callable[[ScriptedContext], Generator[Any, int, None]]:
        def program(context: ScriptedContext) -> Generator[Any, int, None]:
            for step in steps:
                if not isinstance(step, Spin):
                    yield step
            while True:
                yield Spin()

        return program

    def guest(self, *steps: Any) -> Any:
        return self.platform.start_guest("guest", self._program(steps))

    def child_steps(self, *steps: Any) -> None:
        self.platform.programs.append(("child", self._program(steps)))


class SystrapHarness:
    """Steps become machine code; the result of a call is kept in rbx for the next stop."""

    executes = True

    def __init__(self) -> None:
        from platforms.systrap import systrap_platform

        self.platform: Any = systrap_platform.SystrapPlatform()
        self.platform.start()
        space = systrap_platform.SystrapAddressSpace
        read, write = space.read_into, space.write_from
        space.read_into = lambda self, addr, buffer, n: read(self, addr, ffi.from_buffer(buffer), n)  # type: ignore
        space.write_from = lambda self, addr, buffer, n: write(self, addr, ffi.from_buffer(buffer), n)  # type: ignore

    def guest(self, *steps: Any) -> Any:
        made: list[Any] = []
        self.platform.new_space(lambda context, result: made.append(context))
        contract._pump(self, lambda: bool(made))
        context = made[0]
        code = assemble(steps)
        pages = (len(code) + 4095) // 4096
        assert contract.ops(self, context, contract.mmap_op(CODE, pages)) == [CODE]
        assert contract.write(context, CODE, code) == len(code)
        assert contract.ops(self, context, Op(10, (CODE, pages * 4096, 5, 0, 0, 0))) == [0]
        context.regs.rip = CODE
        context.regs.rsp = CODE + 64
        return context

    def child_steps(self, *steps: Any) -> None:
        """The child of a clone goes on in its parent's code, where a call follows."""


def assemble(steps: tuple[Any, ...]) -> bytes:
    code = b""
    for step in steps:
        if isinstance(step, Call):
            loads = ((0x48, 0xBF), (0x48, 0xBE), (0x48, 0xBA), (0x49, 0xBA), (0x49, 0xB8), (0x49, 0xB9))
            for (rex, op), value in zip(loads, (*step.args, 0, 0, 0, 0, 0, 0), strict=False):
                code += bytes([rex, op]) + struct.pack("<Q", value)
            code += b"\xb8" + struct.pack("<I", step.nr) + b"\x90\x0f\x05" + b"\x48\x89\xc3"
        elif isinstance(step, Fault):
            code += b"\x48\xb8" + struct.pack("<Q", step.addr) + b"\x8a\x00"
        elif isinstance(step, Spin):
            code += b"\xeb\xfe"
    return code + b"\xeb\xfe"


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_scripted(check: Callable[[Any], None]) -> None:
    check(ScriptedHarness())


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_systrap(check: Callable[[Any], None]) -> None:
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        harness: Any = None
        try:
            harness = SystrapHarness()
            check(harness)
            status = 0
        except BaseException:
            os.write(theirs, traceback.format_exc().encode()[-4000:])
        finally:
            for space in set(harness.platform.spaces_by_pid.values()) if harness else ():
                space.release()  # an ended context's host thread waits for another task as long as its memory is there
            os._exit(status)
    os.close(theirs)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(ours, "rb") as pipe:
        os.set_blocking(pipe.fileno(), False)
        said = pipe.read() or b""
    assert status == 0, said.decode()

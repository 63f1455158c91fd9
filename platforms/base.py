"""What a platform is: it runs guest code in address spaces that it owns and says why it stopped. No Linux semantics.

Read next: platforms/systrap/systrap_platform.py (the default), platforms/testing/scripted.py (for unit tests),
platforms/testing/contract.py (the conformance suite that every platform passes).

The two nouns are `AddressSpace` and `Context` (one guest thread). A context is either *in the guest* (resumed) or
*held* (an event of it was taken and not yet answered); registers, operations and answers need it held. Events are taken
with `Platform.collect()`: held contexts whose `kind`, `nr` and `args` slots are filled, in the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

__all__ = ["AddressSpace", "Context", "Kind", "Op", "Platform", "Registers"]


class Kind:
    """Why a context stopped."""

    SYSCALL_FAST = 1  # a system call from a patched site: the full register file is not there (take_frame() gets it)
    SYSCALL = 2
    FAULT = 3
    INTERRUPTED = 4
    OPS_DONE = 5  # internal: operations were carried out
    FRAME_TAKEN = 6  # internal
    RING_MOVED = 8  # a call was done on a ring whose other side waits; `nr` is its result


class Op(NamedTuple):
    """One change of an address space, carried out in it: a host system call whose arguments are all in registers.

    Arguments are unsigned. `host_fd`: a host file to hand in for this mmap (its fd argument is then chosen by the
    platform), or -1.
    """

    nr: int
    args: tuple[int, int, int, int, int, int]
    host_fd: int = -1


class Registers(Protocol):
    """The full register file of a held context, unsigned 64-bit ints."""

    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rdi: int
    rsi: int
    rbp: int
    rbx: int
    rdx: int
    rax: int
    rcx: int
    rsp: int
    rip: int
    eflags: int


class AddressSpace(Protocol):
    """Memory shared by some contexts."""

    def read_into(self, addr: int, buffer: Any, length: int) -> int:
        """Bytes copied from guest memory (fewer at a hole), or -errno."""

    def write_from(self, addr: int, buffer: Any, length: int) -> int:
        """Bytes copied to guest memory (fewer at a hole), or -errno."""

    def release(self) -> None:
        """End every context and free the memory."""


class Context(Protocol):
    """One guest thread."""

    kind: int
    nr: int
    owner: Any  # whatever the kernel attaches: its task
    fault: tuple[int, int, int]  # host signal, si_code, address of the last FAULT
    regs: Registers
    fs_base: int

    def resume(self, result: int) -> None:
        """Back to the guest with `result` (negative errno on failure) of the system call it is held in."""

    def resume_registers(self) -> None:
        """Back to the guest with everything that `regs` says. Needs a full frame."""

    def run_ops(self, ops: Sequence[Op], done: Callable[[list[int]], None]) -> None:
        """Carry out `ops` in order until one fails; then `done(results)` runs inside collect()."""

    def has_frame(self) -> bool:
        """Whether the full register file is there."""

    def take_frame(self, done: Callable[[], None]) -> None:
        """Get the full register file of a context held in SYSCALL_FAST."""

    def interrupt(self) -> None:
        """Make a context that is in the guest stop with INTERRUPTED soon (may be spurious)."""

    def exit(self) -> None:
        """End this thread. The context must be held."""


class Platform(Protocol):
    """Owner of all address spaces of a sandbox."""

    def collect(self, spin_ns: int) -> list[Context]:
        """Contexts that stopped, after at most `spin_ns` of looking; empty when none did."""

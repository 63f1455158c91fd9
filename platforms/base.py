"""What a platform is: it runs guest code in address spaces that it owns and says why it stopped. No Linux semantics.

Read next: platforms/systrap/systrap_platform.py (the default), platforms/testing/scripted.py (for unit tests),
platforms/testing/contract.py (the conformance suite that every platform passes).

The two nouns are `AddressSpace` and `Context` (one guest thread). A context is either *in the guest* (resumed) or
*held* (an event of it was taken and not yet answered); registers, operations and answers need it held. Events are taken
with `Platform.collect()`: held contexts whose `kind`, `nr` and `args` slots are filled, in the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from mypy_extensions import mypyc_attr

__all__ = ["AddressSpace", "Context", "Kind", "Op", "Platform", "Registers"]


class Kind:
    """Why a context stopped."""

    SYSCALL_FAST: Final = 1  # a call from a patched site: the full register file is not there (take_frame() gets it)
    SYSCALL: Final = 2
    FAULT: Final = 3
    INTERRUPTED: Final = 4
    OPS_DONE: Final = 5  # internal: operations were carried out
    FRAME_TAKEN: Final = 6  # internal
    RING_MOVED: Final = 8  # a call was done on a ring whose other side waits; `nr` is its result


class Op(NamedTuple):
    """One change of an address space, carried out in it: a host system call whose arguments are all in registers.

    Arguments are unsigned. `host_fd`: a host file to hand in for this mmap (its fd argument is then chosen by the
    platform), or -1.
    """

    nr: int
    args: tuple[int, int, int, int, int, int]
    host_fd: int = -1


class Registers:
    """The full register file of a held context, unsigned 64-bit ints."""

    __slots__ = (
        "cr2", "eflags", "err", "r10", "r11", "r12", "r13", "r14", "r15", "r8", "r9", "rax", "rbp", "rbx", "rcx", "rdi",
        "rdx", "rip", "rsi", "rsp", "trapno",
    )  # fmt: skip

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
    err: int  # of the last fault, as the processor told it
    trapno: int
    cr2: int


@mypyc_attr(allow_interpreted_subclasses=True)
class AddressSpace:
    """Memory shared by some contexts: base of the platforms' own classes.

    vm_pid  the host process that process_vm_readv(2) finds it by, 0: there is none any more.
    shares  another address space may have some of it too.
    """

    __slots__ = ("shares", "vm_pid")

    shares: bool
    vm_pid: int

    def read_into(self, addr: int, buffer: Any, length: int) -> int:
        """Bytes copied from guest memory (fewer at a hole), or -errno."""
        raise NotImplementedError

    def write_from(self, addr: int, buffer: Any, length: int) -> int:
        """Bytes copied to guest memory (fewer at a hole), or -errno."""
        raise NotImplementedError

    def release(self) -> None:
        """End every context and free the memory."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Context:
    """One guest thread: base of the platforms' own classes, which give all attributes their values.

    owner           whatever the kernel attaches: its task.
    kind, nr, args  the event that it is held in. orig_rax: the call that it came with, -1 none.
    fault           host signal, si_code, address of the last FAULT.
    in_guest        it was let go, and its next event was not taken.
    dead            its host thread is gone, or on its way out.
    has_full_frame  the full register file is there (take_frame() gets it).
    awaiting        the one internal event that may come next, 0: only a guest's own.
    parked          nobody looks at its slot: the answer takes long.
    kept            it holds a file for its next operation, which every answer has to let go.
    The rest is where the dispatcher and UserMemory, which do this for every call, find its slot in the platform's
    memory (platforms/systrap/layout.py): `arena_map`, `u64`, and places there; those that end in _i count words.

    What a platform need not have is done without here: a stub that answers calls by itself.
    """

    __slots__ = (
        "arena_map",
        "args",
        "args_i",
        "awaiting",
        "copy_at",
        "dead",
        "event_at",
        "fault",
        "has_full_frame",
        "in_at",
        "in_guest",
        "in_length_i",
        "kept",
        "kind",
        "nr",
        "orig_rax",
        "owner",
        "parked",
        "result_i",
        "rip_i",
        "state_i",
        "u64",
        "waiting_i",
    )

    arena_map: Any
    args: tuple[int, ...]
    args_i: int
    awaiting: int
    copy_at: int
    dead: bool
    event_at: int
    fault: tuple[int, int, int]
    has_full_frame: bool
    in_at: int
    in_guest: bool
    in_length_i: int
    kept: int
    kind: int
    nr: int
    orig_rax: int
    owner: Any
    parked: bool
    result_i: int
    rip_i: int
    state_i: int
    u64: Any
    waiting_i: int

    # --- registers ---
    @property
    def regs(self) -> Registers:
        """The register file; writing marks it for loading."""
        raise NotImplementedError

    @property
    def fs_base(self) -> int:
        """What FS is based on."""
        raise NotImplementedError

    @fs_base.setter
    def fs_base(self, value: int) -> None:
        raise NotImplementedError

    def take_frame(self, done: Callable[[], None]) -> None:
        """Get the full register file of a context held in SYSCALL_FAST."""
        raise NotImplementedError

    def forget_registers(self) -> None:
        """The thread goes on: what was read of its registers is no longer true."""
        raise NotImplementedError

    def fpstate(self) -> bytes:
        """The XSAVE image as on a Linux signal frame, software bytes and both magics included; b'': there is none."""
        raise NotImplementedError

    def fpstate_size(self) -> int:
        """The length of what `fpstate` gives."""
        raise NotImplementedError

    def set_fpstate(self, image: bytes) -> None:
        """Load such an image (checked by the caller); b'' gives the initial state."""
        raise NotImplementedError

    def return_in_child(self, stack: int, fs_base: int | None) -> None:
        """For a held copy of another thread: it goes on behind the same call, which gives 0, on a stack of its own (0:
        the other's) and with an FS base of its own (None: the other's).
        """
        raise NotImplementedError

    def enter_program(self, rip: int, rsp: int) -> None:
        """A new program begins (execve(2)): all other registers are cleared."""
        raise NotImplementedError

    def fill(self, zeroed: Sequence[tuple[int, int]], addr: int, data: bytes) -> bool:
        """Have the held thread write, before it goes on by `resume_registers`, zeros at `zeroed` (address and length
        each) and `data` at `addr`. What is mapped there is private memory, and whole files: a page that cannot be had
        then ends the thread. False: it is not going to.
        """
        return False

    def await_filled(self) -> None:
        """What `fill` was given is there when this returns, unless the thread does not get to run."""

    # --- answers ---
    def is_held(self) -> bool:
        """Whether an event of it was taken and not answered yet."""
        return not self.in_guest

    def resume(self, result: int) -> None:
        """Back to the guest with `result` (negative errno on failure) of the system call it is held in."""
        raise NotImplementedError

    def resume_with_copy(self, result: int, addr: int, data: bytes) -> None:
        """The same; `data`, at most CARRIED_MAX bytes, is stored at `addr` first."""
        raise NotImplementedError

    def resume_registers(self) -> None:
        """Back to the guest with everything that `regs` says. Needs a full frame."""
        raise NotImplementedError

    def park(self) -> None:
        """The thread is held, and its answer will take long or never come: others may have its processor."""
        raise NotImplementedError

    # --- operations ---
    def run_ops(self, ops: Sequence[Op], done: Callable[[list[int]], None]) -> None:
        """Carry out `ops` in order until one fails; then `done(results)` runs inside collect()."""
        raise NotImplementedError

    def resume_with_ops(self, ops: Sequence[Op], result: int, done: Callable[[list[int] | None], None]) -> None:
        """Back to the guest with `result` once `ops` are carried out: `done(None)` when that is known, with the
        thread's next event. When one fails: `done(results)` as `run_ops`.
        """
        raise NotImplementedError

    def await_event(self, done: Callable[[list[int] | None], None]) -> None:
        """This thread, whose call is being served, is going to be answered as any: `done(None)` with its next event."""
        raise NotImplementedError

    def left(self, kind: int) -> bool:
        """Whether the event `kind` tells that operations posted by `resume_with_ops` have all been carried out."""
        return False

    def hand_ahead(self, files: Sequence[Any], anew: bool = False) -> list[int]:
        """Have these host files ready for a new program: the numbers under which its stub finds them; [] none."""
        return []

    def forget_ahead(self) -> None:
        """Operations from now on are not the new program's own."""

    def reports_ops(self) -> bool:
        """Whether the thread is on operations that were posted, until it reports on them."""
        return False

    def can_save(self) -> bool:
        """Whether `save_memory` can be used."""
        return False

    def save_memory(self, ranges: Sequence[tuple[int, int]], done: Callable[[list[int]], None]) -> None:
        """Have the held thread save the memory at `ranges` (address and length, whole words): `done([])` inside
        collect(), or `done([-errno])`.
        """
        raise NotImplementedError

    def put_memory_back(self, done: Callable[[list[int]], None]) -> None:
        """Have the held thread put back what it saved; as `save_memory`."""
        raise NotImplementedError

    # --- its life ---
    def others(self) -> Sequence[Context]:
        """The other contexts of its address space."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Make a context that is in the guest stop with INTERRUPTED soon (may be spurious)."""
        raise NotImplementedError

    def at_large(self) -> bool:
        """Whether the thread may be in guest code: it was let go, and has not posted an event since."""
        raise NotImplementedError

    def exit(self) -> None:
        """End this thread. The context must be held."""
        raise NotImplementedError

    def kill(self) -> None:
        """End the host thread wherever it is; no event follows."""
        raise NotImplementedError

    def destroy(self, why: str) -> None:
        """End the whole process by force: its guest code broke a rule, or does not stop."""
        raise NotImplementedError

    def abandon(self) -> None:
        """The host thread is gone. What was posted for it has failed."""
        raise NotImplementedError

    def cpu_time_ns(self, patience_ns: int = 0) -> int:
        """Processor time that the thread used. `patience_ns`: how old that may be."""
        raise NotImplementedError

    def sleeps(self) -> int:
        """How often the thread began or ended to sleep by itself: odd while it does."""
        return 0

    # --- what its stub may do by itself ---
    def publish(self, pid: int, tid: int, ppid: int) -> None:
        """Let the thread read these without asking. Call again when one changes."""

    def file_rows(self) -> Any:
        """The rows that tell it of descriptors (kernel/published_files.py), None: it does not look."""
        return None

    def use_rows(self, allowed: bool) -> None:
        """Whether this thread, which must be held, is to look at them."""

    def map_log(self) -> Any:
        """Where it notes what it maps by itself (mm/local_maps.py), None: it does not."""
        return None

    def change_log(self) -> Any:
        """Where it notes how it changed mappings (mm/local_changes.py), None: it does not."""
        return None

    def let_tell(self, traps: int | None = None) -> bool:
        """Let it take what only matters later (`told`: so far nothing), and answer `traps` calls that trap (None: as
        many as were left). False: it does not.
        """
        return False

    def told(self) -> tuple[int | None, int | None]:
        """What set_robust_list(2) and set_tid_address(2) said since `let_tell`, None: nothing."""
        return None, None

    def share_mask(self, mask: int, traps: bool, altstack: tuple[int, int, int]) -> bool:
        """Let it change its signal mask; `traps`: also where a call traps. `altstack` must stay so until `take_mask`:
        it then also returns from handlers. False: it does not.
        """
        return False

    def shared_mask(self) -> int:
        """What the mask is now, while this thread is held."""
        raise NotImplementedError

    def take_mask(self) -> int:
        """What the mask is now; from now on the stub asks."""
        raise NotImplementedError

    def brought_word(self) -> int | None:
        """The futex word of the call being served, if it came along and no wake-up was served since it was read."""
        return None

    def called(self) -> int:
        """The number of the call that it stopped with, as its slot says now, -1: it did not trap."""
        raise NotImplementedError

    def first_argument(self) -> int:
        """Of the call being served, as its slot says now."""
        raise NotImplementedError


class Platform(Protocol):
    """Owner of all address spaces of a sandbox."""

    def collect(self, spin_ns: int) -> list[Context]:
        """Contexts that stopped, after at most `spin_ns` of looking; empty when none did."""

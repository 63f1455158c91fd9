"""One guest thread as the Sentry sees it: its slot in the arena, its registers, the operations posted for it.

Life: prepared (slot filled, nothing runs) -> started (its host thread said hello) -> in the guest <-> held -> gone.
A context is *active* while its slot is looked at by `SystrapPlatform.collect`; a held one that is answered much later
(`park`) is not.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from platforms._host import lib
from platforms.base import Op
from platforms.systrap import layout
from platforms.systrap.file_rows import FileRows
from platforms.systrap.filter import is_direct

if TYPE_CHECKING:
    from platforms.systrap.systrap_platform import SystrapAddressSpace, SystrapPlatform

__all__ = ["ANSWER_WITH_COPY", "Frame", "Registers", "SystrapContext"]

_REG_NAMES: Final = (
    "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags segments err trapno oldmask cr2"
).split()
_GREGS: Final = struct.Struct("<23Q")
ANSWER_WITH_COPY: Final = struct.Struct("<qQQ")  # RESULT, COPY_TO, COPY_LENGTH
_MASK: Final = 0xFFFFFFFFFFFFFFFF
_SEGMENTS_64: Final = 0x33 | 0x2B << 48  # cs, ss of 64-bit user code
_UC_GREGS: Final = 40
_UC_FPSTATE: Final = 224
_UC_SIZE: Final = 304
_FP_SOFTWARE_BYTES: Final = 464  # struct _fpx_sw_bytes in the FXSAVE area
_FP_MAGIC1: Final = 0x46505853
_FXSAVE_SIZE: Final = 512
_UC_FLAGS: Final = 0x1 | 0x2 | 0x4  # FP_XSTATE, SIGCONTEXT_SS, STRICT_RESTORE_SS


class Registers:
    """The register file of a held context, read once from the slot. Attributes as platforms.base.Registers."""

    __slots__ = tuple(_REG_NAMES)

    def __init__(self, values: Sequence[int]) -> None:
        for name, value in zip(_REG_NAMES, values, strict=True):
            setattr(self, name, value)

    def pack(self) -> bytes:
        return _GREGS.pack(*[getattr(self, name) & _MASK for name in _REG_NAMES])


class Frame:
    """Layout of a host signal frame at the top of a slot's signal stack, built from nothing for a new thread."""

    UCONTEXT: Final = layout.SLOT_SIZE - 0x400  # offset in the slot of a frame made by us

    @staticmethod
    def fresh(slot_addr: int) -> bytes:
        """ucontext with cleared registers and initial floating-point state, whose signal stack is the slot's."""
        uc = struct.pack("<QQQiiQ", 0x6, 0, slot_addr + layout.STACK, 0, 0, layout.SLOT_SIZE - layout.STACK)
        gregs = [0] * 23
        gregs[17] = 0x202  # IF
        gregs[18] = _SEGMENTS_64
        return uc + _GREGS.pack(*gregs) + struct.pack("<Q64xQ", 0, 0)


class SystrapContext:
    """See the module. `owner` is the kernel's: the task that runs here."""

    __slots__ = (
        "_command_i",
        "_done",
        "_expected",
        "_flags_i",
        "_position",
        "_regs",
        "_widths",
        "args",
        "at",
        "awaiting",
        "cpu_ns",
        "dead",
        "event_at",
        "fault",
        "has_full_frame",
        "in_guest",
        "index",
        "kind",
        "killed",
        "nr",
        "on_started",
        "orig_rax",
        "owner",
        "parked",
        "platform",
        "result_i",
        "rip_i",
        "slot_addr",
        "space",
        "state_i",
        "state_pointer",
        "tgid",
        "tid",
        "waiting_i",
    )

    def __init__(self, platform: SystrapPlatform, space: SystrapAddressSpace, index: int) -> None:
        self.platform = platform
        self.space = space
        self.index = index
        self.at = space.slot_offset(index)
        self.slot_addr = layout.STUB_BASE + layout.SLOTS + index * layout.SLOT_SIZE
        self.state_i = (self.at + layout.STATE) // 4
        self.waiting_i = (self.at + layout.WAITING) // 4
        self._command_i = (self.at + layout.COMMAND) // 4
        self._flags_i = (self.at + layout.FLAGS) // 4
        self.result_i = (self.at + layout.RESULT) // 8
        self.event_at = self.at + layout.KIND
        self.rip_i = (self.at + layout.REGS) // 8 + 16
        self.state_pointer = platform.pointer(platform.arena_address + self.at)
        self.tid = 0
        self.tgid = 0
        self.kind = 0
        self.nr = -1
        self.args: tuple[int, ...] = ()
        self.orig_rax = -1
        self.owner: Any = None
        self.fault = (0, 0, 0)
        self.has_full_frame = False
        self.dead = False  # its host thread is gone, or on its way out: nothing may be written to the slot any more
        self.killed = False  # to end at its next stop
        self.awaiting = 0  # the one internal event that may come next, 0: only a guest's own
        self.parked = True
        self.in_guest = False
        self.cpu_ns = 0
        self._regs: Registers | None = None
        self._expected: list[tuple[int, tuple[int, ...], int]] = []
        self._position = 0
        self._widths: list[int] = []  # rows that each posted operation takes
        self._done: Callable[[list[int]], None] | None = None
        self.on_started: Callable[[], None] | None = None

    # --- registers ---
    def has_frame(self) -> bool:
        return self.has_full_frame

    @property
    def regs(self) -> Registers:
        """The registers of the last event; changes are written back by `resume_registers`."""
        if self._regs is None:
            self._regs = Registers(_GREGS.unpack_from(self.platform.arena.map, self.at + layout.REGS))
        return self._regs

    @property
    def fs_base(self) -> int:
        return self.platform.arena.u64[(self.at + layout.FS_BASE) // 8]

    @fs_base.setter
    def fs_base(self, value: int) -> None:
        arena = self.platform.arena
        arena.u64[(self.at + layout.FS_BASE) // 8] = value & _MASK
        arena.u32[self._flags_i] = 1

    def _ucontext_at(self) -> int:
        """Offset in the arena of the saved ucontext; the guest could have changed where the slot says it is."""
        offset: int = self.platform.arena.u64[(self.at + layout.UCONTEXT) // 8] - self.slot_addr
        if not layout.STACK <= offset <= layout.SLOT_SIZE - _UC_SIZE:
            return -1
        return self.at + offset

    def fpstate(self) -> bytes:
        """The XSAVE image of the held frame as the kernel wrote it (with its magic words), b'' when there is none."""
        at = self._ucontext_at()
        if at < 0:
            return b""
        arena = self.platform.arena
        start = struct.unpack_from("<Q", arena.map, at + _UC_FPSTATE)[0] - self.slot_addr
        if not layout.STACK <= start <= layout.SLOT_SIZE - _FXSAVE_SIZE:
            return b""
        magic, size = struct.unpack_from("<II", arena.map, self.at + start + _FP_SOFTWARE_BYTES)
        if magic != _FP_MAGIC1 or not _FXSAVE_SIZE <= size <= layout.SLOT_SIZE - start:
            size = _FXSAVE_SIZE
        return bytes(arena.view[self.at + start : self.at + start + size])

    def set_fpstate(self, image: bytes) -> None:
        """Replace the held frame's XSAVE image by `image` (as `fpstate` gave it), b'': by the initial state.

        The host kernel checks it again.
        """
        if not image:
            self.clear_fpstate()
            return
        at = self._ucontext_at()
        if at < 0:
            return
        arena = self.platform.arena
        start = struct.unpack_from("<Q", arena.map, at + _UC_FPSTATE)[0] - self.slot_addr
        if not layout.STACK <= start <= layout.SLOT_SIZE - _FXSAVE_SIZE:
            return
        magic, size = struct.unpack_from("<II", arena.map, self.at + start + _FP_SOFTWARE_BYTES)
        if magic != _FP_MAGIC1:
            size = _FXSAVE_SIZE
        if len(image) >= _FXSAVE_SIZE and len(image) <= min(size, layout.SLOT_SIZE - start):
            # keep the frame's own description of its layout: it is what the host kernel expects back
            keep = bytes(arena.view[self.at + start + _FP_SOFTWARE_BYTES : self.at + start + _FXSAVE_SIZE])
            arena.view[self.at + start : self.at + start + len(image)] = image
            arena.view[self.at + start + _FP_SOFTWARE_BYTES : self.at + start + _FXSAVE_SIZE] = keep

    def clear_fpstate(self) -> None:
        """Initial floating-point state on the next return (execve)."""
        at = self._ucontext_at()
        if at >= 0:
            struct.pack_into("<Q", self.platform.arena.map, at + _UC_FPSTATE, 0)

    def put_registers(self, registers: Registers) -> None:
        """Go on with `registers`, taken from `regs` before operations ran."""
        self._regs = registers

    def forget_registers(self) -> None:
        """The thread goes on: what was read of its registers is no longer true."""
        self._regs = None

    # --- small copies that travel in the slot (patched call sites) ---
    def brought(self, addr: int, count: int) -> bytes | None:
        """The `count` bytes at `addr`, if the call site brought exactly them along."""
        u64 = self.platform.u64
        at = self.at
        if u64[(at + layout.IN_LENGTH) >> 3] != count or u64[(at + layout.ARGS + 8) >> 3] != addr or not count:
            return None
        if count > layout.IN_SIZE:
            return None
        return self.platform.arena_map[at + layout.IN : at + layout.IN + count]

    def brought_string(self, addr: int) -> bytes | None:
        """The string at `addr` without its NUL, if the call site brought it along."""
        u64 = self.platform.u64
        at = self.at
        length = u64[(at + layout.IN_LENGTH) >> 3]
        if not 0 < length <= layout.IN_SIZE:
            return None
        if length == 1:
            return b"" if addr in (u64[(at + layout.ARGS) >> 3], u64[(at + layout.ARGS + 8) >> 3]) else None
        first = (at + layout.ARGS) >> 3
        if addr != u64[first] and addr != u64[first + 1]:
            return None
        text = self.platform.arena_map[at + layout.IN : at + layout.IN + length]
        end = text.find(b"\0")
        return text[:end] if end >= 0 else None

    def resume_with_copy(self, result: int, addr: int, data: bytes) -> None:
        """Back to the guest with `result`; its stub first copies `data` (at most BUFFER_SIZE bytes) to `addr`."""
        arena = self.platform.arena
        start = self.at + layout.BUFFER
        arena.map[start : start + len(data)] = data
        ANSWER_WITH_COPY.pack_into(arena.map, self.at + layout.RESULT, result, addr, len(data))
        self._go(layout.COPY_NOW)

    # --- answers ---
    def _go(self, state: int = layout.RESUME) -> None:
        arena = self.platform.arena
        self._regs = None
        self.in_guest = True
        if self.parked:
            self.parked = False
            self.platform.active[self] = None
        arena.u32[self.state_i] = state
        if arena.u32[self.waiting_i]:
            lib.sentrio_futex_wake(self.state_pointer)

    def resume(self, result: int) -> None:
        if self.dead:
            return
        arena = self.platform.arena
        arena.i64[self.result_i] = result
        self._go(layout.RETURN_NOW)

    def resume_registers(self) -> None:
        if self.dead:
            return
        arena = self.platform.arena
        regs = self._regs
        if regs is not None:
            regs.segments = _SEGMENTS_64  # type: ignore[attr-defined]
            at = self.at + layout.REGS
            arena.map[at : at + 184] = regs.pack()
        arena.u32[self._command_i] = layout.COMMAND_RESTORE
        self._go()

    def park(self) -> None:
        """The answer will take long: the thread sleeps, `collect` looks no more."""
        if not self.parked and not self.dead:
            self.parked = True
            self.platform.active.pop(self, None)
            self.platform.arena.u32[self.state_i] = layout.BLOCKED

    # --- operations ---
    def run_ops(self, ops: Sequence[Op], done: Callable[[list[int]], None]) -> None:
        platform = self.platform
        if self.dead:
            done([-errno.ENOMEM])
            return
        platform.trace_ops(self, ops)
        self._done = done
        rows: list[int] = []
        widths: list[int] = []
        expected: list[tuple[int, tuple[int, ...], int]] = []
        for op in ops:
            if op.host_fd >= 0:
                number = layout.DONATED_FD + self.index % layout.DONATED_FDS
                args = (*op.args[:4], number, op.args[5])
                rows += (op.nr, *args, 0, 3, number, 0, 0, 0, 0, 0, 0)
                expected.append((op.nr, args, op.host_fd))
                widths.append(2)
            else:
                rows += (op.nr, *op.args, 0)
                widths.append(1)
                if not is_direct(op.nr, op.args):
                    expected.append((op.nr, op.args, -1))
        count = len(rows) // 8
        if count > layout.MAX_OPS:
            raise ValueError("too many operations in one post")
        self._expected = expected
        self._widths = widths
        self._position = 0
        arena = platform.arena
        start = (self.at + layout.OPS) // 8
        for k, value in enumerate(rows):
            arena.u64[start + k] = value & _MASK
        arena.u32[(self.at + layout.OP_COUNT) // 4] = count
        arena.u32[self._command_i] = layout.COMMAND_OPS
        self._await_ops()

    def expect_clone(self, args: tuple[int, ...], done: Callable[[list[int]], None]) -> None:
        """The platform wrote a clone into OPS: let the thread carry it out."""
        if self.dead:
            done([-errno.ENOMEM])
            return
        self._done = done
        self._expected = [(56, args, -1)]
        self._widths = [1]
        self._position = 0
        self.platform.arena.u32[self._command_i] = layout.COMMAND_CLONE
        self._await_ops()

    def _await_ops(self) -> None:
        self.awaiting = layout.OPS_DONE
        self.platform.posted += 1
        self.platform.note_progress()
        self._go()

    def expects(self, nr: int, args: tuple[int, ...]) -> bool:
        """Whether this is the next operation posted for this thread."""
        if self._position >= len(self._expected):
            return False
        wanted_nr, wanted, _ = self._expected[self._position]
        return nr == wanted_nr and args[: len(wanted)] == wanted

    def expected_fd(self) -> int:
        return self._expected[self._position][2]

    def advance(self) -> None:
        self._position += 1

    def take_frame(self, done: Callable[[], None]) -> None:
        """Leave the patched path so that the full register file is there."""

        def taken(_: list[int]) -> None:
            done()

        if self.dead:
            return
        self._done = taken
        self.awaiting = layout.FRAME_TAKEN
        self.platform.arena.u32[self._command_i] = layout.COMMAND_TAKE_FRAME
        self._go()

    def finish_internal(self) -> None:
        """The internal event that was awaited came; the context is held again. Called by the platform alone."""
        done, self._done = self._done, None
        awaited, self.awaiting = self.awaiting, 0
        results: list[int] = []
        if awaited == layout.OPS_DONE:
            self.platform.posted -= 1
            results = self._results()
            self._expected = []
        if done is not None:
            done(results)

    def abandon(self) -> None:
        """The host thread is gone. What was posted for it has failed; a full frame that was asked for never comes."""
        self.dead = True
        done, self._done = self._done, None
        awaited, self.awaiting = self.awaiting, 0
        self._expected = []
        if awaited == layout.OPS_DONE:
            self.platform.posted -= 1
            if done is not None:
                done([-errno.ENOMEM])

    def _results(self) -> list[int]:
        arena = self.platform.arena
        start = (self.at + layout.OPS) // 8
        results = []
        row = 0
        for width in self._widths:
            result: int = arena.i64[start + row * 8 + 7]
            results.append(result)
            if -4096 < result < 0:
                break
            row += width
        return results

    # --- the rest ---
    def interrupt(self) -> None:
        if self.in_guest and not self.dead and self.tid:
            lib.sentrio_tgkill(self.tgid, self.tid, layout.KICK_SIGNAL)

    def exit(self) -> None:
        """End the host thread; the context must be held."""
        if self.dead:
            return
        self.dead = True
        self.platform.active.pop(self, None)
        if not self.space.keep_leader(self):
            self.leave()
        self.space.forget(self)

    def leave(self) -> None:
        """Let the held host thread end itself."""
        arena = self.platform.arena
        arena.u32[self._command_i] = layout.COMMAND_EXIT
        arena.u32[self.state_i] = layout.RESUME
        if arena.u32[self.waiting_i]:
            lib.sentrio_futex_wake(self.state_pointer)

    def hold(self) -> None:
        """Leave the held host thread asleep for good."""
        self.platform.arena.u32[self.state_i] = layout.BLOCKED

    def kill(self) -> None:
        """End this thread wherever it is: at once when held, else at its next stop, which is asked for."""
        self.owner = None
        if self.dead:
            return
        if self.in_guest:
            self.killed = True
            self.interrupt()
        else:
            self.exit()

    def destroy(self, why: str) -> None:
        """SIGKILL for the whole host process: its guest broke a rule, or does not stop. Its contexts become `lost`."""
        if self.dead:
            return
        self.platform.warn(f"guest process {self.tgid}: {why}; killed")
        self.platform.active.pop(self, None)
        self.parked = True
        self.space.kill_process(self.tgid)

    def set_start(self, stack: int | None, fs_base: int | None) -> None:
        """For a context that was prepared and has not started: its stack pointer and FS base."""
        arena = self.platform.arena
        at = self._ucontext_at()
        if stack is not None and at >= 0:
            struct.pack_into("<Q", arena.map, at + _UC_GREGS + 15 * 8, stack)
        if fs_base is not None:
            self.fs_base = fs_base

    def publish(self, pid: int, tid: int, ppid: int) -> None:
        """Let the thread read these without asking (its patched call sites do). Call again when one changes."""
        chunk, within = divmod(self.index, layout.SLOTS_PER_REGION)
        regions = self.space.regions
        if not regions or next(iter(regions)) != chunk:
            return  # the header of a later region is not mapped
        arena = self.platform.arena
        offset = within * layout.HEADER_ENTRY
        entry = (regions[chunk] * layout.REGION_SIZE + offset) // 4
        arena.u32[entry + layout.PUBLISHED_PID // 4] = pid
        arena.u32[entry + layout.PUBLISHED_TID // 4] = tid
        arena.u32[entry + layout.PUBLISHED_PPID // 4] = ppid
        arena.u64[(self.at + layout.PUBLISHED) // 8] = layout.STUB_BASE + layout.HEADER + offset

    def first_argument(self) -> int:
        """Of the call being served, as its slot says now."""
        return self.platform.u64[(self.at + layout.ARGS) >> 3]

    def file_rows(self) -> FileRows | None:
        """The rows that the threads of this address space may use (`use_rows`)."""
        return FileRows(self.platform.arena, self.space.header_offset)

    def use_rows(self, allowed: bool) -> None:
        """Whether this thread, which must be held, is to look at the address space's file rows."""
        where = layout.STUB_BASE + layout.HEADER + layout.FILE_ROWS if allowed else 0
        self.platform.arena.u64[(self.at + layout.FILE_TABLE) // 8] = where

    def cpu_time_ns(self) -> int:
        """CPU time this thread used; with several threads in the process an estimate (account_cpu)."""
        if self.tgid and not self.dead:
            self.space.account_cpu(self.tgid)
        return self.cpu_ns

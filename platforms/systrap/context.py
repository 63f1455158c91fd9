"""One guest thread as the Sentry sees it: its slot in the arena, its registers, the operations posted for it.

Life: prepared (slot filled, nothing runs) -> started (its host thread said hello) -> in the guest <-> held -> gone.
A context is *active* while its slot is looked at by `SystrapPlatform.collect`; a held one that is answered much later
(`park`) is not.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from platforms._host import lib
from platforms.base import Context, Op
from platforms.base import Registers as BaseRegisters
from platforms.systrap import layout
from platforms.systrap.change_log import ChangeLog
from platforms.systrap.file_rows import FileRows
from platforms.systrap.filter import is_direct
from platforms.systrap.map_log import MapLog

if TYPE_CHECKING:
    from platforms.systrap.systrap_platform import HostFile, SystrapAddressSpace, SystrapPlatform

__all__ = ["HAND_IN", "Frame", "Registers", "SystrapContext"]

_REG_NAMES: Final = (
    "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags segments err trapno oldmask cr2"
).split()
_GREGS: Final = struct.Struct("<23Q")
_MASK: Final = 0xFFFFFFFFFFFFFFFF
_ONE_OP: Final = struct.Struct("<7Q")
_FILL_ROWS: Final = [struct.Struct(f"<{4 + 3 * count}Q") for count in range(layout.FILL_ROWS_MOST)]
_FILLED_NS: Final = 5_000_000  # a thread that has a processor takes microseconds
_OP_ROWS: Final = [struct.Struct(f"<{8 * count}Q") for count in range(layout.MAX_OPS + 1)]
_COPIES: Final[dict[int, Callable[..., None]]] = {}  # by length: what writes COPY_RESULT and all behind it
_UC_GREGS: Final = 40
_UC_FPSTATE: Final = 224
_UC_SIZE: Final = 304
_FP_SOFTWARE_BYTES: Final = 464  # struct _fpx_sw_bytes in the FXSAVE area
_FP_MAGIC1: Final = layout.FP_MAGIC1
_FP_MAGIC2_SIZE: Final = 4
_SHARED_MASK: Final = struct.Struct("<4Q")
_FXSAVE_SIZE: Final = 512
_POINTER: Final = struct.Struct("<Q")
_MAGIC_AND_SIZE: Final = struct.Struct("<II")
_PID_I, _TID_I, _PPID_I = (
    offset // 4 for offset in (layout.PUBLISHED_PID, layout.PUBLISHED_TID, layout.PUBLISHED_PPID)
)
_UC_FLAGS: Final = 0x1 | 0x2 | 0x4  # FP_XSTATE, SIGCONTEXT_SS, STRICT_RESTORE_SS


# An mmap that is never carried out: its notification is the moment to hand files in. Nothing else is asked with it.
HAND_IN: Final = (0, 0, 0, 2, _MASK, 0)
_NR_MMAP, _NR_CLOSE, _NR_CLONE = 9, 3, 56
_MAX_REPEATS: Final = 64  # of one clone
_MASK_OF_SIGNALS: Final = _MASK & ~(layout.MASK_SHARED | layout.MASK_TRAPS)
_Expected: TypeAlias = "tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]]"  # number, arguments, (fd, its number)


class Registers(BaseRegisters):
    """The register file of a held context, read once from the slot. Attributes as platforms.base.Registers."""

    __slots__ = ("oldmask", "segments")

    # fmt: off
    def __init__(self, values: Sequence[int]) -> None:
        (self.r8, self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15, self.rdi, self.rsi, self.rbp,
         self.rbx, self.rdx, self.rax, self.rcx, self.rsp, self.rip, self.eflags, self.segments, self.err, self.trapno,
         self.oldmask, self.cr2) = values

    def pack(self) -> bytes:
        """As they lie in the slot; values are taken modulo 2**64."""
        try:  # as a rule none is beyond
            return _GREGS.pack(
                self.r8, self.r9, self.r10, self.r11, self.r12, self.r13, self.r14, self.r15, self.rdi, self.rsi,
                self.rbp, self.rbx, self.rdx, self.rax, self.rcx, self.rsp, self.rip, self.eflags, self.segments,
                self.err, self.trapno, self.oldmask, self.cr2)
        except struct.error:
            pass
        return _GREGS.pack(
            self.r8 & _MASK, self.r9 & _MASK, self.r10 & _MASK, self.r11 & _MASK, self.r12 & _MASK, self.r13 & _MASK,
            self.r14 & _MASK, self.r15 & _MASK, self.rdi & _MASK, self.rsi & _MASK, self.rbp & _MASK, self.rbx & _MASK,
            self.rdx & _MASK, self.rax & _MASK, self.rcx & _MASK, self.rsp & _MASK, self.rip & _MASK,
            self.eflags & _MASK, self.segments & _MASK, self.err & _MASK, self.trapno & _MASK, self.oldmask & _MASK,
            self.cr2 & _MASK)
    # fmt: on


class Frame:
    """Layout of a host signal frame at the top of a slot's signal stack, built from nothing for a new thread."""

    UCONTEXT: Final = layout.FRESH_FRAME

    @staticmethod
    def fresh(slot_addr: int) -> bytes:
        """ucontext with cleared registers and initial floating-point state, whose signal stack is the slot's."""
        uc = struct.pack("<QQQiiQ", 0x6, 0, slot_addr + layout.STACK, 0, 0, layout.SLOT_SIZE - layout.STACK)
        gregs = [0] * 23
        gregs[17] = layout.FLAGS_AT_START
        gregs[18] = layout.SEGMENTS_64
        return uc + _GREGS.pack(*gregs) + struct.pack("<Q64xQ", 0, 0)


class SystrapContext(Context):
    """See the module. `owner` is the kernel's: the task that runs here."""

    __slots__ = (
        "_ahead",
        "_command_i",
        "_done",
        "_drop_i",
        "_expected",
        "_fills",
        "_first_row",
        "_first_state",
        "_kept_file",
        "_flags_i",
        "_ids_address",
        "_ids_i",
        "_leaving",
        "_numbers",
        "_op_count_i",
        "_op_rows",
        "_position",
        "_regs",
        "_repeated",
        "_stale",
        "_told_i",
        "arriving",
        "at",
        "cpu_ns",
        "due_ns",
        "entry",
        "index",
        "kept_off",
        "killed",
        "giver",
        "on_started",
        "mask_i",
        "platform",
        "promised",
        "signalled",
        "sleeps_i",
        "slept",
        "slot_addr",
        "space",
        "state_pointer",
        "tgid",
        "tid",
        "word_i",
        "xstate_size_i",
    )

    def __init__(self, platform: SystrapPlatform, space: SystrapAddressSpace, index: int) -> None:
        self.platform = platform
        self.space = space
        self.index = index
        self.at, self._ids_i, self._ids_address = space.places(index)
        self.slot_addr = layout.STUB_BASE + layout.SLOTS + index * layout.SLOT_SIZE
        self.state_i = (self.at + layout.STATE) // 4
        self.waiting_i = (self.at + layout.WAITING) // 4
        self._command_i = (self.at + layout.COMMAND) // 4
        self._flags_i = (self.at + layout.FLAGS) // 4
        self._op_count_i = (self.at + layout.OP_COUNT) // 4
        self._drop_i = (self.at + layout.DROP) // 4
        self.result_i = (self.at + layout.RESULT) // 8
        self._told_i = (self.at + layout.TOLD) // 4
        self.sleeps_i = (self.at + layout.SLEEPS) // 4
        self.copy_at = self.at + layout.COPY_RESULT
        self.mask_i = (self.at + layout.MASK) // 8
        self.xstate_size_i = (self.at + layout.XSTATE_SIZE) // 8
        self.word_i = (self.at + layout.WORD) // 8
        self.event_at = self.at + layout.KIND
        # Where UserMemory finds what a patched call site brought along:
        self.u64 = platform.u64
        self.arena_map = platform.arena_map
        self.in_at = self.at + layout.IN
        self.in_length_i = (self.at + layout.IN_LENGTH) // 8
        self.args_i = (self.at + layout.ARGS) // 8
        self.rip_i = (self.at + layout.REGS) // 8 + 16
        self.state_pointer = platform.pointer(platform.arena_address + self.at)
        self.tid = 0  # of its host thread, 0: it has none (yet, or gave it away)
        self.tgid = 0
        self.kind = 0
        self.nr = -1
        self.args = ()
        self.orig_rax = -1
        self.owner = None
        self.fault = (0, 0, 0)
        self.has_full_frame = False
        self.dead = False  # its host thread is gone, or on its way out: nothing may be written to the slot any more
        self.killed = False  # to end at its next stop
        self.signalled = False  # its host thread was ever sent a signal
        self.slept = 0  # what `sleeps` gave when `SystrapPlatform.call_in` looked last
        self.entry = 0  # the notification that its new process waits in, see `SystrapPlatform.fork_space`
        self.giver: SystrapContext | None = None  # who gave it its host thread, see `SystrapPlatform.hand_thread_over`
        self.arriving = False  # that thread has not been told to come yet
        self.promised = False  # another one is kept for it meanwhile
        self.due_ns = 0  # when it is to have that one
        self._first_state = 0  # what it is told when it has one
        self.awaiting = 0  # the one internal event that may come next, 0: only a guest's own
        self.parked = True
        self.in_guest = False
        self.cpu_ns = 0
        self.kept_off = -1  # the processor that its host thread may not use
        self._regs: Registers | None = None
        self._expected: list[_Expected] = []
        self._numbers: list[int] = []  # descriptors that this post's files become
        self._ahead: dict[int, int] = {}  # numbers of files that are there for a new program, by host descriptor,
        self._stale: list[int] = []  # and of those that it is not to have
        self._fills = False  # whether what is to be written before it goes on is in its slot
        self.kept = 0  # the descriptor of a file that stays handed in until the next call, see `_post`
        self._kept_file = -1  # the host file that it is
        self._position = 0
        self._repeated = 0  # how often a clone was made again, see `repeats`
        self._leaving = False  # the thread goes back to the guest by itself after what was posted
        self._first_row = 0  # of the operations themselves, and how many they are
        self._op_rows = 0
        self._done: Callable[[Any], None] | None = None  # takes the results
        self.on_started: Callable[[], None] | None = None

    def begin_anew(self) -> None:
        """Its host thread waited for another task, and is that one's now: what the former left is forgotten."""
        self.orig_rax = -1
        self.has_full_frame = True
        self.dead = self.killed = self.in_guest = False
        self.parked = True
        self.cpu_ns = 0
        self.giver = None
        self._regs = None
        u64 = self.u64
        u64[(self.at + layout.PUBLISHED) // 8] = 0
        u64[self.mask_i] = 0
        u32 = self.platform.u32
        u32[self._flags_i] = u32[self._told_i] = u32[self._told_i + 1] = u32[self.sleeps_i] = 0

    # --- registers ---
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
        start, size = self._fpstate_range()
        # What the stub returns from by itself (`share_mask`) is as long as what the host gave.
        self.u64[self.xstate_size_i] = size - _FP_MAGIC2_SIZE if size > _FXSAVE_SIZE else 0
        return bytes(self.arena_map[start : start + size])

    def fpstate_size(self) -> int:
        """How many bytes `fpstate` gives."""
        return self._fpstate_range()[1]

    def _fpstate_range(self) -> tuple[int, int]:
        """Where the XSAVE image lies in the arena, and its size: 0 when there is none."""
        at = self._ucontext_at()
        if at < 0:
            return 0, 0
        arena_map = self.platform.arena_map
        start: int = _POINTER.unpack_from(arena_map, at + _UC_FPSTATE)[0] - self.slot_addr
        if not layout.STACK <= start <= layout.SLOT_SIZE - _FXSAVE_SIZE:
            return 0, 0
        magic, size = _MAGIC_AND_SIZE.unpack_from(arena_map, self.at + start + _FP_SOFTWARE_BYTES)
        if magic != _FP_MAGIC1 or not _FXSAVE_SIZE <= size <= layout.SLOT_SIZE - start:
            size = _FXSAVE_SIZE
        return self.at + start, size

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

    def brought_word(self) -> int | None:
        """The futex word of the call being served, if it came along and no wake-up was served since it was read."""
        platform = self.platform
        value: int = platform.u64[self.word_i]
        return value & 0xFFFFFFFF if value >> 32 == platform.wakes else None

    # --- answers ---
    def _go(self, state: int = layout.RESUME) -> None:
        platform = self.platform
        self._regs = None
        self.in_guest = True
        if not self.tid:
            self._first_state = state
            platform.want_thread(self)
            return
        if self.parked:
            self.parked = False
            platform.active[self] = None
            if self.kept_off != platform.reserved:
                platform.place(self)
        u32 = platform.u32
        if self.kept and not self._leaving:
            self._let_go()
            if state == layout.RETURN_NOW:  # the hot forms do not look at DROP
                state, u32[self._command_i] = layout.RESUME, layout.COMMAND_RETURN
            elif state == layout.COPY_NOW:
                state, u32[self._command_i] = layout.RESUME, layout.COMMAND_COPY_OUT
        u32[self.state_i] = state
        if u32[self.waiting_i]:
            lib.sentrio_futex_wake(self.state_pointer)
        if self.entry:
            self._let_in()
        elif self.arriving:
            assert self.giver is not None
            self.arriving = False
            self.giver.send_thread(self)

    def _let_in(self) -> None:
        """Its new process finds in the slot what it is to do first."""
        ident, self.entry = self.entry, 0
        self.platform.let_in(ident)

    # --- host threads that go from one context to another (SystrapPlatform.hand_thread_over) ---
    def send_thread(self, other: SystrapContext) -> None:
        """The host thread that waits in this slot goes on in that of `other`, where it finds what it is told."""
        if self.kept:
            self._let_go()
        u32 = self.platform.u32
        self.u64[(self.at + layout.OTHER) // 8] = other.slot_addr
        u32[self._command_i] = layout.COMMAND_MOVE
        u32[self.state_i] = layout.RESUME
        if u32[self.waiting_i]:
            lib.sentrio_futex_wake(self.state_pointer)

    def has_left(self) -> bool:
        """Whether the host thread that it had has said that it is in another slot."""
        return int(self.platform.u32[self.state_i]) == layout.BLOCKED

    def take_thread(self, former: SystrapContext) -> None:
        """It has the host thread of `former` from now on, and finds there what it was told, or will be."""
        platform = self.platform
        self.tid, former.tid = former.tid, 0
        self.kept_off = former.kept_off
        self.signalled = self.signalled or former.signalled
        platform.by_tid[self.tid] = self
        platform.u32[self._flags_i] = 1  # the FS base of the slot is not the thread's
        if not self.in_guest:
            platform.u32[self.state_i] = layout.READY  # the answer is near, as a rule: spin
            return
        platform.u32[self.state_i] = self._first_state
        self.parked = False
        platform.active[self] = None
        if self.kept_off != platform.reserved:
            platform.place(self)

    def resume(self, result: int) -> None:
        if self.dead:
            return
        platform = self.platform
        platform.i64[self.result_i] = result
        if self.kept or self.entry or self.arriving or not self.tid:
            self._go(4)  # layout.RETURN_NOW
            return
        self._regs = None  # as `_go`
        self.in_guest = True
        if self.parked:
            self.parked = False
            platform.active[self] = None
            if self.kept_off != platform.reserved:
                platform.place(self)
        platform.u32[self.state_i] = 4
        if platform.u32[self.waiting_i]:
            lib.sentrio_futex_wake(self.state_pointer)

    def resume_with_copy(self, result: int, addr: int, data: bytes) -> None:
        """Back to the guest with `result`; its stub first copies `data`, which fits into COPY_DATA, to `addr`.

        The dispatcher's `serve` does the same in place.
        """
        if self.dead:
            return
        length = len(data)
        pack = _COPIES.get(length)
        if pack is None:
            pack = _COPIES[length] = struct.Struct(f"<qQQ{length}s").pack_into
        platform = self.platform
        pack(platform.arena_map, self.copy_at, result, addr, length, data)
        if self.kept or self.entry or self.arriving or not self.tid:
            self._go(layout.COPY_NOW)
            return
        self._regs = None  # as `_go`
        self.in_guest = True
        if self.parked:
            self.parked = False
            platform.active[self] = None
            if self.kept_off != platform.reserved:
                platform.place(self)
        platform.u32[self.state_i] = 6  # layout.COPY_NOW
        if platform.u32[self.waiting_i]:
            lib.sentrio_futex_wake(self.state_pointer)

    def resume_registers(self) -> None:
        if self.dead:
            return
        arena = self.platform.arena
        regs = self._regs
        if regs is not None:
            regs.segments = layout.SEGMENTS_64
            at = self.at + layout.REGS
            arena.map[at : at + 184] = regs.pack()
        arena.u32[self._command_i] = layout.COMMAND_FILL if self._fills else layout.COMMAND_RESTORE
        self._fills = False
        self._go()

    def park(self) -> None:
        """The answer will take long: the thread sleeps, `collect` looks no more."""
        if not self.parked and not self.dead:
            platform = self.platform
            platform.u32[self.state_i] = 3  # layout.BLOCKED; first, for the thread can give its processor away
            self.parked = True
            platform.active.pop(self, None)
            giver = self.giver
            if giver is not None and not giver.tid and giver.in_guest and not giver.dead:  # it waits no longer
                platform.give_thread(giver)

    # --- operations ---
    def run_ops(self, ops: Sequence[Op], done: Callable[[list[int]], None]) -> None:
        """Have the held thread carry out `ops`, in order up to the first that fails; `done(results)` inside collect().

        It is held again then.
        """
        if self.dead:
            done([-errno.ENOMEM])
            return
        if not self._post(ops):
            done([-errno.ENOMEM])
            return
        self._done = done
        self.platform.arena.u32[self._command_i] = layout.COMMAND_OPS
        self._await_ops()

    def resume_with_ops(self, ops: Sequence[Op], result: int, done: Callable[[list[int] | None], None]) -> None:
        """Back to the guest with `result` once `ops` are carried out.

        `done(None)` when that is known, with the thread's next event. When one fails: `done(results)` as `run_ops`.
        """
        if self.dead:
            return
        if not self._post(ops, keep=True):
            done([-errno.ENOMEM])
            return
        self._done = done
        self._leaving = True
        platform = self.platform
        platform.i64[self.result_i] = result
        platform.arena.u32[self._command_i] = layout.COMMAND_OPS_RETURN
        self.awaiting = layout.OPS_DONE
        if self._expected:
            platform.posted += 1
            platform.note_progress()
        self._go()

    def await_event(self, done: Callable[[list[int] | None], None]) -> None:
        """This thread, whose call is being served, is going to be answered as any: `done(None)` with its next event."""
        self._done = done
        self._leaving = True
        self._expected = []
        self.awaiting = layout.OPS_DONE

    def hand_ahead(self, files: Sequence[HostFile], anew: bool = False) -> list[int]:
        """Have these host files, at most AHEAD_MOST, ready for a new program, which may read them: their numbers.

        They are the program's until it is over; its stub closes them (`ChangeLog.name_ahead`). What the next operations
        map of them needs no more. Those that its process has had before are not handed in again (unless `anew`), and
        all others that it has are closed. Only while the new process waits in its first call, else there are none.
        """
        space = self.space
        had, space.handed = space.handed, {}
        self._stale = list(had) if not self.entry else []
        if not self.entry or self.dead:
            return []
        had_by_file = {} if anew else {id(host): number for number, host in had.items()}
        numbers = []
        missing = []
        for host in files[: layout.AHEAD_MOST]:
            number = had_by_file.pop(id(host), 0)
            if not number:
                number = space.take_number()
                if number < 0:
                    break
                missing.append((host.fd, number))
            numbers.append(number)
            space.handed[number] = host
            self._ahead[host.fd] = number
        self._stale = [number for number in had if number not in space.handed]
        if missing:  # where the host refuses there is nothing to be mapped
            self.platform.hand_in(self.entry, missing)
        return numbers

    def forget_ahead(self) -> None:
        """Operations from now on are not the new program's own: what they map is handed in as ever."""
        self._ahead = {}

    def left(self, kind: int) -> bool:
        """Whether the event tells that operations posted by `resume_with_ops` have all been carried out."""
        if not self._leaving or kind == layout.OPS_DONE:
            return False
        self._forget_ops()
        done, self._done = self._done, None
        if done is not None:
            done(None)
        return True

    def _post(self, ops: Sequence[Op], keep: bool = False) -> bool:
        """Write `ops` into the slot. Files for private mappings are handed in first, by one operation that asks.

        `keep`: the file of a single mapping may stay handed in until the next call, which often maps it again (a
        library is four or five mappings). Only where no other thread is: what a thread may map it may have mapped for
        it as long as it asks for nothing else, but another one could close the file and give up its rights meanwhile.
        False: too many threads are at it.
        """
        platform = self.platform
        platform.trace_ops(self, ops)
        self._position = 0
        if self.kept:
            if keep and self._post_kept(ops):
                return True
            self._let_go()
        if len(ops) == 1 and ops[0].host_fd < 0 and not self._stale:  # by far the most
            nr, args, _ = ops[0]
            self._expected = [] if is_direct(nr, args, platform.vdso_range) else [(nr, args, ())]
            self._first_row = 0
            self._op_rows = 1
            _ONE_OP.pack_into(platform.arena_map, self.at + layout.OPS, nr, *args)
            platform.u32[self._op_count_i] = 1
            return True
        rows: list[int] = []
        expected: list[_Expected] = []
        files: dict[int, int] = {}
        ahead = self._ahead
        first = 0
        for nr, args, host_fd in ops:
            if host_fd in ahead:
                args = (args[0], args[1], args[2], args[3], ahead[host_fd], args[5])
                host_fd = -1
            elif host_fd >= 0:
                number = files.get(host_fd, 0)
                if not number:
                    number = files[host_fd] = self.space.take_number()
                    if number < 0:
                        del files[host_fd]
                        self.space.give_numbers(list(files.values()))
                        return False
                args = (args[0], args[1], args[2], args[3], number, args[5])
            rows += (nr, *args, 0)
            if not is_direct(nr, args, platform.vdso_range):
                expected.append((nr, args, ((host_fd, number),) if host_fd >= 0 else ()))
            elif host_fd >= 0:
                first = 1
        if first and self.entry:
            first = 0
            if platform.hand_in(self.entry, list(files.items())):
                self.space.give_numbers(list(files.values()))
                return False
        if first:
            rows[:0] = (_NR_MMAP, *HAND_IN, 0)
            expected.insert(0, (_NR_MMAP, HAND_IN, tuple(files.items())))
        numbers = list(files.values())
        if keep and first and len(ops) == 1 and len(self.space.contexts) == 1:
            self.kept, self._kept_file = numbers.pop(), ops[0].host_fd
        if self._stale:
            numbers, self._stale = numbers + self._stale, []
        for number in numbers:
            rows += (_NR_CLOSE, number, 0, 0, 0, 0, 0, 0)
        count = len(rows) // 8
        if count > layout.MAX_OPS:
            raise ValueError("too many operations in one post")
        self._expected = expected
        self._numbers = numbers
        self._first_row = first
        self._op_rows = len(ops)
        _OP_ROWS[count].pack_into(platform.arena_map, self.at + layout.OPS, *rows)
        platform.u32[self._op_count_i] = count
        return True

    def _post_kept(self, ops: Sequence[Op]) -> bool:
        """Write `ops` if they are one private mapping of the file that is still there: nothing is asked then."""
        nr, args, host_fd = ops[0]
        if len(ops) != 1 or host_fd != self._kept_file:
            return False
        args = (args[0], args[1], args[2], args[3], self.kept, args[5])
        platform = self.platform
        if not is_direct(nr, args, platform.vdso_range):
            return False
        self._expected = []
        self._first_row = 0
        self._op_rows = 1
        _ONE_OP.pack_into(platform.arena_map, self.at + layout.OPS, nr, *args)
        platform.u32[self._op_count_i] = 1
        return True

    def _let_go(self) -> None:
        """The file that stayed is closed by the stub before it does what it is told next."""
        self.platform.u32[self._drop_i] = self.kept
        self.u64[(self.space.header_offset + layout.WINDOW_HIGH) // 8] = 0  # nothing can be mapped of it any more
        self.space.give_numbers([self.kept])
        self.kept = 0

    def expect_clone(self, args: tuple[int, ...], done: Callable[[list[int]], None]) -> None:
        """The platform wrote a clone into OPS: let the thread carry it out."""
        if self.dead:
            done([-errno.ENOMEM])
            return
        self._done = done
        self._expected = [(_NR_CLONE, args, ())]
        self._repeated = 0
        self._first_row, self._op_rows = 0, 1
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

    def will_ask(self) -> bool:
        """Whether a notification belongs to what was posted for it."""
        return bool(self._expected)

    def expected_files(self) -> tuple[tuple[int, int], ...]:
        """What goes with it: host files and the descriptors that they become."""
        return self._expected[self._position][2]

    def repeats(self, nr: int, args: tuple[int, ...]) -> bool:
        """Whether this is the clone that was let through last, made again: a signal without a handler (a stop, a
        debugger, the host's freezer) sends clone(2) back to its start. A guest could say so too, so not for ever.
        """
        if nr != _NR_CLONE or self._position != 1 or self._expected != [(nr, args[:5], ())]:
            return False
        self._repeated += 1
        return self is self.platform.pristine or self._repeated <= _MAX_REPEATS

    def advance(self) -> None:
        self._position += 1
        if self._leaving and self._position == len(self._expected):  # nothing more will be asked
            self._expected = []
            self.platform.posted -= 1

    def can_save(self) -> bool:
        """Whether there is room for `save_memory`: not where many threads are, or were."""
        return self.space.has_saving_room() and not self.dead

    def save_memory(self, ranges: Sequence[tuple[int, int]], done: Callable[[list[int]], None]) -> None:
        """Have the held thread save the memory at `ranges` (address and length, whole words, at most LOAN_RANGES_MOST
        and LOAN_MOST bytes): `done([])` inside collect(), or `done([-errno])`; it is held again then.
        """
        platform = self.platform
        at = self.space.header_offset
        words = [word for each in ranges for word in each]
        platform.u64[(at + layout.LOAN_COUNT) // 8] = len(ranges)
        struct.pack_into(f"<{len(words)}Q", platform.arena_map, at + layout.LOAN_RANGES, *words)
        self._command(layout.COMMAND_SAVE, done)

    def put_memory_back(self, done: Callable[[list[int]], None]) -> None:
        """Have the held thread put back what it saved; as `save_memory`."""
        self._command(layout.COMMAND_PUT_BACK, done)

    def _command(self, command: int, done: Callable[[list[int]], None]) -> None:
        """Have the held thread do what asks for nothing and has no result."""
        if self.dead:
            done([-errno.ENOMEM])
            return
        self._done = done
        self._expected = []
        self._first_row = self._op_rows = self._position = 0
        self.platform.u32[self._command_i] = command
        self._await_ops()

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
        awaited = self.awaiting
        results: list[int] = []
        if awaited == layout.OPS_DONE:
            results = self._results()
            self._forget_ops()
        self.awaiting = 0
        if done is not None:
            done(results)

    def _forget_ops(self) -> None:
        """What was posted is done with."""
        if not self._leaving or self._expected:
            self.platform.posted -= 1
        self._leaving = False
        self._expected = []
        self.awaiting = 0
        if self._numbers:
            self.space.give_numbers(self._numbers)
            self._numbers = []

    def give_numbers_if_done(self) -> None:
        """A thread that went back to the guest by itself has closed what it was handed, though it has not said so."""
        if self._leaving and self._numbers and not self.platform.u32[self._op_count_i]:
            self.space.give_numbers(self._numbers)
            self._numbers = []

    def abandon(self) -> None:
        """The host thread is gone. What was posted for it has failed; a full frame that was asked for never comes."""
        self.dead = True
        done, self._done = self._done, None
        awaited, self.awaiting = self.awaiting, 0
        if awaited == layout.OPS_DONE:
            leaving = self._leaving
            self._forget_ops()
            if done is not None and not leaving:  # the call of one that leaves is over
                done([-errno.ENOMEM])

    def _results(self) -> list[int]:
        """What each operation gave, up to the first that failed."""
        i64 = self.platform.i64
        at = (self.at + layout.OPS) // 8 + 7
        results: list[int] = []
        if self._first_row:
            handed_in: int = i64[at]
            if -4096 < handed_in < 0:
                return [handed_in]
            at += 8
        for _ in range(self._op_rows):
            result: int = i64[at]
            results.append(result)
            if -4096 < result < 0:
                break
            at += 8
        return results

    # --- the rest ---
    def others(self) -> list[Context]:
        return [each for each in self.space.contexts if each is not self]

    def at_large(self) -> bool:
        """Whether the thread may be in guest code: it was let go, and has not posted an event since.

        A guest that says it has, and goes on, only has what is done to its memory done while it runs.
        """
        return self.in_guest and not self.dead and self.platform.u32[self.state_i] != layout.READY

    def sleeps(self) -> int:
        """How often the thread began or ended to sleep for a ring in its stub, as it says: odd while it does."""
        return int(self.platform.u32[self.sleeps_i])

    def reports_ops(self) -> bool:
        """Whether the thread is in its stub until it reports on the operations that were posted."""
        return bool(self.awaiting) and not self._leaving

    def interrupt(self) -> None:
        if not self.in_guest or self.dead:
            return
        if self.tid:
            self.signalled = True
            lib.sentrio_tgkill(self.tgid, self.tid, layout.KICK_SIGNAL)
        else:  # whoever means it asks again
            self.platform.give_thread(self)

    def exit(self) -> None:
        """The context, which must be held, is no more; its host thread goes back to who gave it, ends, or waits for
        another task.
        """
        if self.dead:
            return
        self.dead = True
        platform = self.platform
        platform.active.pop(self, None)
        if self.kept:
            self._let_go()
        if self in platform.wanting:
            platform.no_longer_wants(self)
        if not self.tid or platform.pass_on(self):
            self.space.vacate(self)
            return
        kept = self.space.forget(self)
        u32 = platform.u32
        if kept:  # it leaves its frames, and waits for another task
            u32[self.state_i] = layout.PARK
        else:
            u32[self._command_i] = layout.COMMAND_EXIT
            u32[self.state_i] = layout.RESUME
        if u32[self.waiting_i]:
            lib.sentrio_futex_wake(self.state_pointer)
        if self.entry:
            self._let_in()

    def kill(self) -> None:
        """End this thread wherever it is: at once when held, else at its next stop, which is asked for."""
        self.owner = None
        if self.dead:
            return
        if self.in_guest and self.tid:
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

    def return_in_child(self, stack: int, fs_base: int | None) -> None:
        """For a held copy of another thread: it goes on behind the same call, which gives 0, on a stack of its own (0:
        the other's) and with an FS base of its own (None: the other's).
        """
        rip = self.rip_i  # the registers lie in the order of _REG_NAMES
        u64 = self.u64
        u64[rip - 3] = 0
        if stack:
            u64[rip - 1] = stack & _MASK
        if fs_base is not None:  # as the property
            u64[(self.at + layout.FS_BASE) // 8] = fs_base & _MASK
            self.platform.u32[self._flags_i] = 1

    def enter_program(self, rip: int, rsp: int) -> None:
        """A new program begins (execve(2)): all other registers are cleared."""
        cleared = (0,) * 15
        start = (rsp, rip, layout.FLAGS_AT_START, layout.SEGMENTS_64)
        _GREGS.pack_into(self.arena_map, self.at + layout.REGS, *cleared, *start, 0, 0, 0, 0)
        self._regs = None
        self.fs_base = 0

    def fill(self, zeroed: Sequence[tuple[int, int]], addr: int, data: bytes) -> bool:
        if len(data) > layout.FILL_MOST or len(zeroed) >= layout.FILL_ROWS_MOST:
            return False
        rows = [len(zeroed) + 1, addr, len(data), layout.FILL_BYTES]
        for start, length in zeroed:
            rows += (start, length, 0)
        arena_map = self.arena_map
        _FILL_ROWS[len(zeroed)].pack_into(arena_map, self.at + layout.FILL_COUNT, *rows)
        at = self.at + layout.FILL_BYTES
        arena_map[at : at + len(data)] = data
        self._fills = True
        return True

    def await_filled(self) -> None:
        at = (self.at + layout.FILL_COUNT) // 8
        u64 = self.u64
        deadline = time.monotonic_ns() + _FILLED_NS
        while u64[at] and not self.dead and time.monotonic_ns() < deadline:
            pass

    def publish(self, pid: int, tid: int, ppid: int) -> None:
        """Let the thread read these without asking (its patched call sites do). Call again when one changes."""
        entry = self._ids_i
        if entry < 0:
            return  # the header of a later region is not mapped
        u32 = self.platform.u32
        u32[entry + _PID_I] = pid
        u32[entry + _TID_I] = tid
        u32[entry + _PPID_I] = ppid
        self.u64[(self.at + layout.PUBLISHED) // 8] = self._ids_address

    def called(self) -> int:
        """The number of the call that it stopped with, as its slot says now, -1: it did not trap."""
        if self.platform.u32[(self.at + layout.KIND) >> 2] != layout.SYSCALL:
            return -1
        return self.platform.u64[(self.at + layout.NR) >> 3]

    def first_argument(self) -> int:
        """Of the call being served, as its slot says now."""
        return self.platform.u64[(self.at + layout.ARGS) >> 3]

    def file_rows(self) -> FileRows | None:
        """The rows that the threads of this address space may use (`use_rows`)."""
        return FileRows(self.platform.arena, self.space.header_offset)

    def map_log(self) -> MapLog | None:
        """Where the stub of this address space notes what it maps by itself."""
        return MapLog(self.platform.arena, self.space.header_offset)

    def change_log(self) -> ChangeLog | None:
        """Where the stub of this address space notes how it changed mappings for calls that trapped."""
        alone = self.index == 0 and self.space.used_slots == 1
        return ChangeLog(self.platform.arena, self.space.header_offset, alone)

    def let_tell(self, traps: int | None = None) -> bool:
        """Let the stub of this thread, which must be held, take by itself what only matters later (`told`: so far
        nothing), and answer `traps` calls that trap (None: as many as were left). False: it does not.
        """
        u32 = self.platform.u32
        u32[self._told_i] = layout.TOLD_ALLOWED
        if traps is not None:
            u32[self._told_i + 1] = traps
        return True

    def told(self) -> tuple[int | None, int | None]:
        """What set_robust_list(2) and set_tid_address(2) said since `let_tell`, None: nothing."""
        told = self.platform.u32[self._told_i]
        return (
            self.u64[(self.at + layout.ROBUST_LIST) // 8] if told & layout.TOLD_ROBUST else None,
            self.u64[(self.at + layout.CLEAR_TID) // 8] if told & layout.TOLD_TID else None,
        )

    def share_mask(self, mask: int, traps: bool, altstack: tuple[int, int, int]) -> bool:
        """Let the stub of this thread, which must be held, change its signal mask; `traps`: also where a call traps.

        `mask` has no signal that cannot be blocked. `altstack`, as sigaltstack(2) took it, must stay so until
        `take_mask`: the stub then also returns from signal handlers whose frames name it. False: it does not.
        """
        flags = layout.MASK_SHARED | (layout.MASK_TRAPS if traps else 0)
        _SHARED_MASK.pack_into(self.arena_map, self.mask_i * 8, mask | flags, *altstack)
        return True

    def shared_mask(self) -> int:
        """What the mask is now, while this thread is held."""
        return int(self.u64[self.mask_i]) & _MASK_OF_SIGNALS

    def take_mask(self) -> int:
        """What the mask is now; from now on the stub asks."""
        pointer = self.platform.pointer(self.platform.arena_address + 8 * self.mask_i)
        return int(lib.sentrio_exchange(pointer, 0)) & _MASK_OF_SIGNALS

    def use_rows(self, allowed: bool) -> None:
        """Whether this thread, which must be held, is to look at the address space's file rows."""
        where = layout.STUB_BASE + layout.HEADER + layout.FILE_ROWS if allowed else 0
        self.platform.arena.u64[(self.at + layout.FILE_TABLE) // 8] = where

    def cpu_time_ns(self, patience_ns: int = 0) -> int:
        """CPU time this thread used; with several threads in the process an estimate (account_cpu)."""
        if self.tgid and not self.dead:
            self.space.account_cpu(self.tgid, patience_ns)
        return self.cpu_ns

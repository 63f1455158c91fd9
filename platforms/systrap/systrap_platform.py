"""systrap: guest code runs in host processes that can make no host call of their own; see docs/ARCHITECTURE.md.

Owns the arena, the pristine process from which every address space is forked, the notification listener and the
doorbell. Read layout.py and stub/stub.c first, then context.py. Everything here runs on the Sentry's one thread.

`start()` must be called before the Sentry seals itself: it forks. Afterwards new processes come only from the stub's
own clone, with CLONE_PARENT, so that the Sentry reaps them all.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from platforms._host import ffi, lib
from platforms.base import AddressSpace, Kind, Op
from platforms.systrap import filter as guest_filter
from platforms.systrap import layout
from platforms.systrap.arena import Arena
from platforms.systrap.context import HAND_IN, Frame, SystrapContext
from platforms.systrap.image import Image, load
from platforms.systrap.recycling import Recycler
from protocol.logs import Log
from protocol.rings import full_barrier

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SystrapAddressSpace", "SystrapPlatform"]

_EVENT: Final = struct.Struct("<I7Q")  # KIND, NR, ARGS
_FAULT: Final = struct.Struct("<IIQ")
_RECV, _SEND, _ADDFD = 0xC0502100, 0xC0182101, 0x40182103
_CONTINUE: Final = 1
_NOTIF: Final = struct.Struct("<QIIiIQ6Q")
_NO_WINDOW: Final = bytes(layout.OPS)
_NO_ORDERS: Final = bytes(layout.XSTATE_SIZE + 8 - layout.DROP)
_POINTER: Final = struct.Struct("<Q")
_STACK: Final = struct.Struct("<QiiQ")  # stack_t
_REGS_END: Final = layout.REGS + 23 * 8
_CLONE_ROWS: Final = struct.Struct("<16Q")
_RESP: Final = struct.Struct("<QqiI")
_ADDFD_STRUCT: Final = struct.Struct("<QIIII")
_CLONE_VM, _CLONE_FS, _CLONE_FILES, _CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
_CLONE_PARENT, _CLONE_THREAD, _CLONE_SYSVSEM = 0x8000, 0x10000, 0x40000
_THREAD_FLAGS: Final = _CLONE_VM | _CLONE_FS | _CLONE_FILES | _CLONE_SIGHAND | _CLONE_THREAD | _CLONE_SYSVSEM
_SIGCHLD: Final = 17
_PROT_RX: Final = 5
_MAP_SHARED: Final = 1
_MAP_PRIVATE_FIXED: Final = 0x12
_MAP_SHARED_FIXED: Final = 0x11
_NR_MMAP, _NR_MUNMAP, _NR_CLONE, _NR_CLOSE = 9, 11, 56, 3
_SLOTS_LENGTH: Final = layout.SLOTS_PER_REGION * layout.SLOT_SIZE
_USER_END: Final = 0x7FFF_FFFF_F000
_ZERO_NOTIF: Final = bytes(80)
_LATER: Final = 1  # answered already, or not yet
_AGAIN: Final = 2  # see `hand_in`
_SETFD, _ADDFD_SEND = 1, 2  # flags of ADDFD: a number of our choice; answer the notification with it
_PID_MAX: Final = 1 << 22
_NO_FD: Final = 0xFFFF_FFFF_FFFF_FFFF
_NOTIFICATIONS_AT_ONCE: Final = 16  # then others have their turn: a guest may make them as fast as we answer
_BUSY_NS: Final = 3_000_000
_MAX_WARNINGS: Final = 100
_FREED_SLOTS_TRIED: Final = 4
_CPU_LOOK_NS: Final = 1_000_000  # how old the split of CPU time may be when a thread begins or ends
# One is taken while the one before is on its way (recycling.py), which takes longer than from an exit to an execve.
_MAX_SPARES: Final = 2
_FEW_ACTIVE: Final = 4  # contexts that cost little to look at
_MAX_IDLE: Final = 16  # host threads of an address space that wait for another task
HANDOVER_NS: Final = 50_000  # how long a parent does without its host thread: to wake another takes about as long
_FEWEST_SKIPPED, _MOST_SKIPPED = 4, 1024  # threads made in another way after one that took longer
_log = Log("platform")


class HostFile(Protocol):
    """A file of the Sentry's: `fd` is its descriptor as long as this object lives."""

    fd: int


class SystrapAddressSpace(AddressSpace):
    """The memory of one host process, and the slots of its threads.

    Guest processes that share memory (vfork) are threads of one host process: nothing of the host tells them apart.
    """

    __slots__ = (
        "_cpu_looked_ns",
        "_free",
        "_idle",
        "_next",
        "_next_number",
        "_numbers",
        "contexts",
        "cpu_seen_ns",
        "growing",
        "handed",
        "multiplied",
        "pids",
        "platform",
        "promises",
        "regions",
        "retired",
        "vain_handovers",
        "handovers_to_skip",
        "_vacant",
    )

    def __init__(self, platform: SystrapPlatform, first_region: int, parent: SystrapAddressSpace | None = None) -> None:
        """`parent`: the one that it is a copy of."""
        self.platform = platform
        self.regions: dict[int, int] = {0: first_region}  # chunk of slots -> region
        self.contexts: dict[SystrapContext, None] = {}
        self._free: deque[tuple[int, int, int]] = deque()  # slot, and the process and thread that had it last
        self._next = 0
        self.vm_pid = 0  # always a process id, never a thread's: it is not used again before we have reaped it
        self.retired = False
        self.pids: set[int] = set()  # host processes not reaped yet: the slots are theirs as long
        self._idle: deque[SystrapContext] = deque()  # ended ones whose host threads wait for another task,
        self.promises = 0  # how many of those are kept for who gave its own away (`SystrapPlatform.hand_thread_over`)
        self._vacant: deque[SystrapContext] = deque()  # ended ones whose host thread is another's now
        self.vain_handovers = 0  # how many were skipped after the last one that lasted too long,
        self.handovers_to_skip = 0  # and how many are still to be
        self.growing: list[Callable[[int], None]] | None = None  # who waits while another region is mapped
        self.shares = False  # whether another process may have some of its memory too,
        self.multiplied = False  # and whether it ever made another process or thread (recycling.py)
        self.handed: dict[int, HostFile] = {}  # files that were handed in ahead, or are there still, by descriptor
        self._numbers: list[int] = []  # descriptors for others: those given back,
        self._next_number = layout.DONATED_FD  # and the first that never was in use
        if parent is not None:
            self.shares = parent.shares or len(parent.regions) > 1
            self._next_number = parent._next_number
            self._numbers = [*range(layout.DONATED_FD, self._next_number)]
        self._cpu_looked_ns = 0  # when a thread began or ended and this was brought up to date
        self.cpu_seen_ns: dict[int, int] = {}  # by host process: how much of its CPU time its contexts were given

    def places(self, index: int) -> tuple[int, int, int]:
        """Of a slot: its offset in the arena; where its ids are published, an index into u32, and the guest's address.

        -1 and 0: it has no such place, for only the first region's header is mapped.
        """
        chunk, within = divmod(index, layout.SLOTS_PER_REGION)
        region = self.regions[chunk] * layout.REGION_SIZE
        at = region + (within + 1) * layout.SLOT_SIZE
        if next(iter(self.regions)) != chunk:
            return at, -1, 0
        ids = within * layout.HEADER_ENTRY
        return at, (region + ids) // 4, layout.STUB_BASE + layout.HEADER + ids

    @property
    def used_slots(self) -> int:
        """How many slots of the first region anything may have been written to."""
        return min(self._next, layout.SLOTS_PER_REGION)

    @property
    def header_offset(self) -> int:
        return next(iter(self.regions.values())) * layout.REGION_SIZE

    def has_room(self) -> bool:
        """Whether `take_slot` will find one. A freed slot counts once its old thread is gone: it still reads it."""
        free = self._free
        for _ in range(min(len(free), _FREED_SLOTS_TRIED)):
            _, tgid, tid = free[0]
            if not tid or lib.sentrio_tgkill(tgid, tid, 0) != 0:
                return True
            free.rotate(-1)
        return self._next // layout.SLOTS_PER_REGION in self.regions

    def has_saving_room(self) -> bool:
        """Whether the end of its region is free for saved memory."""
        return self._next < layout.LOAN_SLOTS and [*self.regions] == [0]

    def take_slot(self, wanted: int | None = None) -> int:
        """A slot's index. MemoryError: `make_room` first."""
        if wanted is not None:
            self._next = wanted + 1
            self._free.extend((index, 0, 0) for index in range(wanted - wanted % layout.SLOTS_PER_REGION, wanted))
            return wanted
        free = self._free
        for _ in range(min(len(free), _FREED_SLOTS_TRIED)):
            index, tgid, tid = free[0]
            if not tid or lib.sentrio_tgkill(tgid, tid, 0) != 0:
                free.popleft()
                return index
            free.rotate(-1)
        if self._next // layout.SLOTS_PER_REGION not in self.regions:
            raise MemoryError("no slot left")
        self._next += 1
        return self._next - 1

    def take_number(self) -> int:
        """A descriptor under which a file can be handed in, -1 when all are in use. Then `give_numbers`."""
        numbers = self._numbers
        if not numbers:
            if self._next_number < layout.DONATED_FD + layout.DONATED_FDS:
                self._next_number += 1
                return self._next_number - 1
            for context in self.contexts:
                context.give_numbers_if_done()
        return numbers.pop() if numbers else -1

    def numbers_used(self) -> int:
        """How many descriptors, from DONATED_FD on, a file may have been handed in under."""
        return self._next_number - layout.DONATED_FD

    def successor(self, region: int, held: dict[int, HostFile]) -> SystrapAddressSpace:
        """An empty one, to be had by the same host process when that is recycled, with the files `held` by number."""
        space = SystrapAddressSpace(self.platform, region)
        space.handed = held
        space._next_number = layout.DONATED_FD + layout.RECYCLED_FDS
        space._numbers = [n for n in range(layout.DONATED_FD, space._next_number) if n not in held]
        return space

    def still_handed(self) -> dict[int, HostFile]:
        """Of `handed`, what the stub has not closed, says the guest."""
        words, at = self.platform.u64, (self.header_offset + layout.AHEAD) // 8
        named = set(words[at : at + layout.AHEAD_MOST])
        few = layout.DONATED_FD + layout.RECYCLED_FDS
        return {number: host for number, host in self.handed.items() if number in named and number < few}

    def threads(self) -> list[SystrapContext]:
        """Whose host threads are there: of tasks, and those that wait for another."""
        return [*self.contexts, *self._idle]

    def give_numbers(self, numbers: list[int]) -> None:
        """Their files are closed, or will be replaced by the next to be handed in."""
        self._numbers += numbers

    def add_region(self, chunk: int, region: int) -> None:
        """Slots `chunk` * SLOTS_PER_REGION and on are mapped."""
        self.regions[chunk] = region
        self._next = chunk * layout.SLOTS_PER_REGION

    def account_cpu(self, tgid: int, patience_ns: int = 0) -> None:
        """Give the CPU time that host process `tgid` used since the last look to its contexts that ran.

        The host tells a thread's own time only to its own process, a whole process's to everyone: with more than one
        thread the split is an estimate, equal shares among those that were not parked. `patience_ns`: a look that is no
        older will do.
        """
        if patience_ns:
            now = time.monotonic_ns()
            if now - self._cpu_looked_ns < patience_ns:
                return
            self._cpu_looked_ns = now
        total = int(lib.sentrio_thread_time(tgid, 1))
        used = total - self.cpu_seen_ns.get(tgid, 0)
        if used <= 0:
            return
        members = [context for context in self.contexts if context.tgid == tgid]
        sharing = [context for context in members if not context.parked] or members
        if sharing:
            self.cpu_seen_ns[tgid] = total
            for context in sharing:
                context.cpu_ns += used // len(sharing)

    def take_idle(self) -> SystrapContext | None:
        """An ended context whose host thread has left its old frames; it is the caller's now."""
        u32 = self.platform.u32
        idle = self._idle
        for _ in range(len(idle)):
            context = idle.pop()
            if u32[context.state_i] == layout.BLOCKED:
                return context
            idle.appendleft(context)
        return None

    def can_spare(self) -> bool:
        """Whether a host thread waits for a task that is kept for nobody."""
        return len(self._idle) > self.promises

    def vacate(self, context: SystrapContext) -> None:
        """`context` ended, and its host thread is another's, or on its way there."""
        self.contexts.pop(context, None)
        if not self.retired:
            self._vacant.append(context)

    def take_vacant(self) -> SystrapContext | None:
        """An ended context whose host thread has left it; it is the caller's now."""
        vacant = self._vacant
        if vacant and vacant[0].has_left():
            return vacant.popleft()
        return None

    def end_promise(self, context: SystrapContext) -> None:
        """No host thread is kept for `context` any more."""
        if context.promised:
            context.promised = False
            self.promises -= 1

    def forget(self, context: SystrapContext, gone: bool = False) -> bool:
        """`context` ended. Whether its host thread, if it is not `gone`, is to wait for another task: `take_idle`.

        That is much cheaper than a new one. A leader always stays: a process whose leader is gone has no memory that
        could be reached by its process id, and thread ids are used again without our being asked: a guest could have
        had us write into another guest's memory.
        """
        tid = context.tid
        self.contexts.pop(context, None)
        by_tid = self.platform.by_tid
        if by_tid.get(tid) is context:
            del by_tid[tid]
        if gone or self.retired or (len(self._idle) >= _MAX_IDLE and tid != context.tgid):
            self._free.append((context.index, context.tgid, tid))  # whoever takes the slot sees to it that it is gone
            return False
        self._idle.append(context)
        return True

    def kill_process(self, tgid: int) -> None:
        """SIGKILL. To each thread: one that ended by itself, were it the leader, would not take the others along."""
        if not tgid:
            return
        lib.sentrio_tgkill(tgid, tgid, signal.SIGKILL)
        for context in (*self.contexts, *self._idle):
            if context.tgid == tgid and context.tid and context.tid != tgid:
                lib.sentrio_tgkill(tgid, context.tid, signal.SIGKILL)

    # --- memory ---
    def read_into(self, addr: int, buffer: Any, length: int) -> int:
        return int(lib.sentrio_vm_read(self.vm_pid, addr, buffer, length))

    def write_from(self, addr: int, buffer: Any, length: int) -> int:
        return int(lib.sentrio_vm_write(self.vm_pid, addr, buffer, length))

    def release(self) -> None:
        """Kill what is left of its host processes; the arena regions are free when those are reaped."""
        platform = self.platform
        recycled = platform.recycle(self)
        if not recycled:
            for tgid in self.pids:
                self.kill_process(tgid)
        contexts = list(self.contexts)
        self.contexts.clear()
        self._idle.clear()
        self._vacant.clear()
        for context in contexts:
            platform.active.pop(context, None)
            if platform.by_tid.get(context.tid) is context and not recycled:
                del platform.by_tid[context.tid]
            platform.fail_children_of(context)
            context.abandon()
        self.vm_pid = 0
        platform.retire(self)


class _Child:
    """A clone that was posted. Its host thread is believed when its parent's clone returned that thread's id.

    A thread that has not shown itself yet could be anyone's: what it says about itself stands in registers that a guest
    may have chosen. `callers`: those that claim to be this child and came before the parent had its result. `waits`: it
    stays in its first call until it is told what to do.
    """

    __slots__ = ("callers", "context", "finish", "new_space", "nonce", "parent", "result", "waits")

    def __init__(
        self,
        parent: SystrapContext,
        context: SystrapContext,
        new_space: bool,
        nonce: int,
        finish: Callable[[int], None],
        waits: bool,
    ) -> None:
        self.parent = parent
        self.context = context
        self.new_space = new_space
        self.nonce = nonce
        self.finish = finish
        self.waits = waits
        self.result = 0  # the parent's clone: the child's id, 0 while it is not known
        self.callers: list[tuple[int, int, int, tuple[int, ...]]] = []  # notification, its thread, address, arguments


class SystrapPlatform:
    """See the module. `active`: contexts whose slots `collect` looks at. `posted`: operations under way."""

    def __init__(self, image: Image | None = None) -> None:
        self.image = image or load()
        self.arena = Arena()
        self.active: dict[SystrapContext, None] = {}
        self.by_tid: dict[int, SystrapContext] = {}
        self.wanting: list[SystrapContext] = []  # let go, and without a host thread so far
        self.posted = 0
        self.listener = -1
        self.doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.pristine: SystrapContext | None = None
        self.lost: list[SystrapContext] = []  # contexts whose host process died unasked
        self.spaces_by_pid: dict[int, SystrapAddressSpace] = {}
        self.vdso: tuple[int, int, int] = (0, 0, 0)  # start of vvar, start of vdso, end
        self.vdso_range = (0, 0)  # start of both, end
        self._children: dict[int, _Child] = {}  # by nonce (also the header's offset for new spaces)
        self._claims: dict[int, _Child] = {}  # by the id that the parent's clone returned
        # Ids of children that were refused or died before they were claimed.
        self._vanished: deque[int] = deque(maxlen=256)
        self._nonce = 1
        self._progress_ns = 0
        self._warnings = 0
        self._wanted: deque[Callable[[SystrapContext | None, int], None]] = deque()
        self.spares: list[SystrapContext] = []  # of address spaces made ahead
        self._short = False  # whether somebody had to wait for one that was still on its way
        self.recycler = Recycler(self)
        self._arena_buffer = ffi.from_buffer(self.arena.map)
        self.arena_address = int(ffi.cast("uintptr_t", self._arena_buffer))
        self._notif = bytearray(80)
        self._notif_c = ffi.from_buffer(self._notif)
        self._resp = bytearray(24)
        self._resp_c = ffi.from_buffer(self._resp)
        self._pollfds = bytearray(16)
        self._pollfds_c = ffi.from_buffer(self._pollfds)
        self._armed_i = layout.ARMED // 4
        self.arena_map = self.arena.map
        self.u32 = self.arena.u32
        self.i64 = self.arena.i64
        self.u64 = self.arena.u64
        self.processors = frozenset(os.sched_getaffinity(0))
        self.reserved = -1  # the processor that guests keep off, see `reserve`
        self._others = self.processors
        self.settled = False  # this process runs on some of them alone
        self._wakes_i = layout.WAKES // 4
        self.wakes = 0
        self.note_wake()

    @property
    def busy(self) -> bool:
        """Whether operations or clones are under way: do not sleep, they end within microseconds.

        Not for long: a guest that never carries them out would keep us spinning. What ends later rings the doorbell.
        """
        if self.posted or self._children or self.recycler.is_wanted:
            return time.monotonic_ns() - self._progress_ns < _BUSY_NS
        return False

    @property
    def is_asked(self) -> bool:
        """Whether to look for notifications. An ended process's can wait while operations are under way."""
        if self._children or self.recycler.is_wanted:
            return True
        if self.posted:
            return len(self.active) > _FEW_ACTIVE or any(context.will_ask() for context in self.active)
        return self.recycler.pending is not None

    def note_progress(self) -> None:
        """An operation was posted, asked for or done."""
        self._progress_ns = time.monotonic_ns()

    def warn(self, message: str) -> None:
        """Log what a guest did that no honest one does; not without bound."""
        self._warnings += 1
        if self._warnings <= _MAX_WARNINGS:
            _log.warning("%s%s", message, "" if self._warnings < _MAX_WARNINGS else " (further ones are not logged)")

    def pointer(self, address: int) -> Any:
        """A C pointer into the arena."""
        return ffi.cast("void *", address)

    # --- start ---
    def prepare(self) -> None:
        """What needs the host's /proc: may be called early, before it is out of reach."""
        if not self.vdso[1]:
            self.vdso = _find_vdso()
            self.vdso_range = (self.vdso[0], self.vdso[2])

    def start(self, death_signal: int = 0) -> None:
        """Make the pristine process. OSError with the reason when the host refuses (no user notification, ...)."""
        if self.doorbell != layout.DOORBELL_FD:
            os.dup2(self.doorbell, layout.DOORBELL_FD, inheritable=False)
            os.close(self.doorbell)
            self.doorbell = layout.DOORBELL_FD
        if self.arena.fd != layout.ARENA_FD:
            os.dup2(self.arena.fd, layout.ARENA_FD, inheritable=False)
            os.close(self.arena.fd)
            self.arena.fd = layout.ARENA_FD
        self.set_spin(2000, 0)
        self.prepare()
        first = SystrapAddressSpace(self, self.arena.allocate())
        context = self._prepare(first, first.take_slot())
        self._map_stub_here(first)
        try:
            self._write_setup(context, death_signal)
            pid = lib.sentrio_enter(
                _CLONE_FILES | _SIGCHLD, self.image.main_entry, context.slot_addr, context.slot_addr + Frame.UCONTEXT
            )
            if pid < 0:
                raise OSError(-pid, "clone of the stub process")
        finally:
            self._unmap_stub_here()
        context.tid = context.tgid = first.vm_pid = pid
        first.contexts[context] = None
        first.pids.add(pid)
        self.by_tid[pid] = context
        listener = self._await_setup(context)
        if listener < 0:
            raise OSError(-listener, "seccomp user notification (kernel 5.19 or newer with CONFIG_SECCOMP_FILTER)")
        self.listener = listener
        self._make_pristine(context)

    def _await_setup(self, context: SystrapContext) -> int:
        deadline = time.monotonic() + 5
        while self.arena.u32[context.state_i] != layout.READY:
            if os.waitpid(context.tid, os.WNOHANG)[0]:
                raise OSError(errno.ECHILD, "the stub process died while it was set up")
            if time.monotonic() > deadline:
                raise OSError(errno.ETIMEDOUT, "the stub process does not answer")
            time.sleep(0.0002)
        return int(self.arena.i64[(context.at + layout.BUFFER + 96) // 8])

    def _make_pristine(self, first: SystrapContext) -> None:
        """The first process shares our descriptor table (that is how its listener reached us); its child does not."""
        opened = [fd for fd in _open_fds() if fd not in (layout.DOORBELL_FD, layout.ARENA_FD)]
        done: list[int] = []
        pristine = self.fork_space(first, done.append, held=True)
        self._pump(lambda: bool(done))
        if done[0] < 0:
            raise OSError(-done[0], "clone of the pristine process")
        for fd in opened:  # one by one: a number that is closed already (the listing's own) ends a batch
            closed: list[list[int]] = []
            pristine.run_ops([Op(_NR_CLOSE, (fd, 0, 0, 0, 0, 0))], closed.append)
            self._pump(lambda: bool(closed))  # noqa: B023 - used before the next turn
        pristine.park()
        self.pristine = pristine
        pid = first.tid
        first.space.release()
        os.waitpid(pid, 0)
        first.space.pids.discard(pid)
        self.retire(first.space)

    def _pump(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not until():
            self.collect(1_000_000)
            if time.monotonic() > deadline:
                raise OSError(errno.ETIMEDOUT, "the stub process does not answer")

    def _map_stub_here(self, space: SystrapAddressSpace) -> None:
        text = os.memfd_create("stub", os.MFD_CLOEXEC)
        os.write(text, self.image.code)
        os.pwrite(text, struct.pack("<QQ", *self.vdso_range), self.image.vdso_words - layout.STUB_BASE)
        region = space.header_offset
        fd = self.arena.fd
        _host_mmap(layout.STUB_BASE, (len(self.image.code) + 4095) & ~4095, _PROT_RX, _MAP_PRIVATE_FIXED, text, 0)
        _host_mmap(layout.STUB_BASE + layout.GLOBAL, 4096, 1, _MAP_SHARED_FIXED, fd, 0)
        _host_mmap(layout.STUB_BASE + layout.HEADER, layout.REGION_SIZE, 3, _MAP_SHARED_FIXED, fd, region)
        os.close(text)

    def _unmap_stub_here(self) -> None:
        lib.sentrio_syscall(_NR_MUNMAP, layout.STUB_BASE, layout.STUB_END - layout.STUB_BASE, 0, 0, 0, 0)

    def _write_setup(self, context: SystrapContext, death_signal: int) -> None:
        vvar, _, vdso_end = self.vdso
        ranges = (
            0x1000,
            layout.STUB_BASE - 0x1000,
            layout.STUB_END,
            vvar - layout.STUB_END,
            vdso_end,
            _USER_END - vdso_end,
        )
        program = guest_filter.program(self.image, (vvar, vdso_end))
        at = context.at + layout.BUFFER
        setup = struct.pack(
            "<8Q6Q",
            *ranges,
            0,
            0,
            lib.sentrio_rseq_area(),
            lib.sentrio_rseq_length(),
            len(program) // 8,
            context.slot_addr + layout.BUFFER + 256,
            0,
            death_signal,
        )
        self.arena.map[at : at + len(setup)] = setup
        self.arena.map[at + 256 : at + 256 + len(program)] = program

    # --- address spaces and threads ---
    def reserved_ranges(self) -> list[tuple[int, int, bytes]]:
        """(start, end, name for /proc) of what a guest may neither see changed nor map over."""
        vvar, vdso, end = self.vdso
        ranges = [(layout.STUB_BASE, layout.STUB_END, b""), (layout.FILE_WINDOWS, layout.FILE_WINDOWS_END, b"")]
        if vvar != vdso:
            ranges.append((vvar, vdso, b"[vvar]"))
        return [*ranges, (vdso, end, b"[vdso]")]

    def prepare_context(self, space: SystrapAddressSpace) -> SystrapContext:
        """The first context of an empty address space, not started."""
        return self._prepare(space, space.take_slot())

    def _prepare(self, space: SystrapAddressSpace, index: int, fresh: bool = True) -> SystrapContext:
        """A context on a fresh slot, with a frame of its own making; not `fresh`: another's will be copied there."""
        context = SystrapContext(self, space, index)
        arena = self.arena
        arena.map[context.at : context.at + layout.OPS] = _NO_WINDOW  # the region's last owner may have written there
        if fresh:
            at = context.at + Frame.UCONTEXT
            frame = Frame.fresh(context.slot_addr)
            arena.map[at : at + len(frame)] = frame
        arena.u64[(context.at + layout.UCONTEXT) // 8] = context.slot_addr + Frame.UCONTEXT
        arena.u64[(context.at + layout.SELF) // 8] = context.slot_addr
        arena.map[context.at + layout.DROP : context.at + layout.XSTATE_SIZE + 8] = _NO_ORDERS
        arena.u32[context.state_i] = layout.BLOCKED
        context.has_full_frame = True
        return context

    def _copy_frame(self, source: SystrapContext, target: SystrapContext) -> None:
        """Give `target` the signal frame that `source` is held in, moved to the same place of its own slot."""
        u64 = self.u64
        offset = u64[(source.at + layout.UCONTEXT) // 8] - source.slot_addr
        if not layout.STACK <= offset <= layout.SLOT_SIZE - 304:
            return
        arena_map, view = self.arena_map, self.arena.view
        at = target.at + offset
        view[at : target.at + layout.SLOT_SIZE] = view[source.at + offset : source.at + layout.SLOT_SIZE]
        (fp,) = _POINTER.unpack_from(arena_map, at + 224)
        if fp:
            moved = target.slot_addr - source.slot_addr
            _POINTER.pack_into(arena_map, at + 224, (fp + moved) & 0xFFFFFFFFFFFFFFFF)
        _STACK.pack_into(arena_map, at + 16, target.slot_addr + layout.STACK, 0, 0, layout.SLOT_SIZE - layout.STACK)
        _POINTER.pack_into(arena_map, at + 296, 0)  # no host signal stays blocked
        u64[(target.at + layout.UCONTEXT) // 8] = target.slot_addr + offset
        view[target.at + layout.REGS : target.at + _REGS_END] = view[source.at + layout.REGS : source.at + _REGS_END]
        u64[(target.at + layout.FS_BASE) // 8] = u64[(source.at + layout.FS_BASE) // 8]

    def new_space(self, finish: Callable[[SystrapContext | None, int], None]) -> None:
        """An empty address space with one held context, forked from the pristine process.

        `finish(context, 0)`, or `finish(None, -errno)`, runs at once if there is one made ahead, else inside collect().
        Requests queue: there is one pristine process.
        """
        spare = self._take_spare()
        if spare is not None:
            self.recycler.begin()  # while the guests wait for us
            finish(spare, 0)
        elif self.recycler.request(finish):
            self._short = True
        elif self._wanted and self._wanted[0] == self.put_by:  # it is being made
            self._wanted[0] = finish
        else:
            self._wanted.append(finish)
            if len(self._wanted) == 1:
                self._next_space()

    def prepare_space(self) -> None:
        """One is going to be asked for: have it made meanwhile. It waits, in its first call, as long as it takes."""
        if not self._wanted and not self._spares_left() and not self.recycler.begin() and not self.recycler.count:
            self._make_spare()

    def _make_spare(self) -> None:
        self._wanted.append(self.put_by)
        self._next_space()

    def tidy(self) -> None:
        """Nobody wants anything now: begin with what was put off, if there is any."""
        if self.recycler.begin():
            context = self.recycler.pending
            assert context is not None
            if context.kept_off >= 0:  # ours is free while we sleep
                self._put_on(context, self.processors, -1)
            return
        if not self._short or self._wanted:
            return
        self._short = False  # one program begins while the one before is taken apart: that takes two processes
        if self._spares_left() + self.recycler.count < _MAX_SPARES:
            self._make_spare()

    def put_by(self, context: SystrapContext | None, result: int) -> None:
        """`context`, of an empty address space, waits until one is asked for."""
        if context is not None:
            self.spares.append(context)

    def _take_spare(self) -> SystrapContext | None:
        spares = self.spares
        while spares:
            spare = spares.pop()
            if not spare.dead:
                return spare
        return None

    def _spares_left(self) -> int:
        """How many wait; those that died meanwhile are forgotten."""
        if any(spare.dead for spare in self.spares):
            self.spares = [spare for spare in self.spares if not spare.dead]
        return len(self.spares)

    def recycle(self, space: SystrapAddressSpace) -> bool:
        """Whether the host process of `space`, which is being released, becomes a spare one."""
        if self.pristine is None or self._wanted or max(self._spares_left(), self.recycler.count) >= _MAX_SPARES:
            return False
        return self.recycler.take(space)

    def _next_space(self) -> None:
        pristine = self.pristine
        if pristine is None or pristine.dead:
            while self._wanted:
                self._wanted.popleft()(None, -errno.ENOMEM)
            return
        made: list[SystrapContext] = []

        def finished(result: int) -> None:
            pristine.park()
            done = self._wanted.popleft()
            done(made[0] if result >= 0 else None, min(result, 0))
            if self._wanted:
                self._next_space()

        try:
            made.append(self.fork_space(pristine, finished, held=True, waits=True))
        except MemoryError:
            finished(-errno.ENOMEM)

    def fork_space(
        self,
        parent: SystrapContext,
        finish: Callable[[int], None],
        *,
        held: bool = False,
        copy_frame: bool = False,
        waits: bool = False,
    ) -> SystrapContext:
        """A copy of `parent`'s address space with one context. `parent` must be held.

        The new context starts held (`held`), or goes straight to the guest through a copy of the parent's frame with
        rax 0; `finish(result)` runs inside collect() when both sides are there: its host pid, or -errno. `waits`: its
        process stays in its first call, a notification, until the context goes on. So files that its first operations
        map are handed in with the answer, and need no notification of their own.
        """
        others = [chunk for chunk in parent.space.regions if chunk > 0]
        space = SystrapAddressSpace(self, self._allocate_region(), parent.space)
        # the first slots are what a child maps of its own; they lie over its parent's
        index = space.take_slot(parent.index % layout.SLOTS_PER_REGION)
        context = self._prepare(space, index, fresh=not copy_frame)

        def started(result: int) -> None:
            if others and result >= 0:
                self._drop_slots(context, others, lambda: finish(result))
            else:
                finish(result)

        flags = _CLONE_PARENT | _SIGCHLD
        return self._clone(parent, context, flags, started, new_space=True, held=held, copy=copy_frame, waits=waits)

    def add_thread(self, parent: SystrapContext, finish: Callable[[int], None]) -> SystrapContext:
        """Another context in the same address space: a thread of the same host process, held in a copy of the parent's
        frame.

        `finish(result)`: its host thread's id, or -errno; inside collect().
        """
        space = parent.space
        space.account_cpu(parent.tgid, _CPU_LOOK_NS)
        context = self._prepare(space, space.take_slot(), fresh=False)
        return self._clone(parent, context, _THREAD_FLAGS, finish, new_space=False, held=True, copy=True)

    def reuse_thread(self, parent: SystrapContext) -> SystrapContext | None:
        """As `add_thread`, at once and without a host call, when a host thread waits for a task. `parent` is held."""
        space = parent.space
        context = space.take_idle() if space.can_spare() else None
        if context is None:
            return None
        space.account_cpu(parent.tgid, _CPU_LOOK_NS)
        context.begin_anew()
        self._copy_frame(parent, context)
        space.contexts[context] = None
        self.by_tid[context.tid] = context
        return context

    def hand_thread_over(self, parent: SystrapContext) -> SystrapContext | None:
        """As `reuse_thread`, but the host thread of `parent` itself goes on in the new context: nobody has to be woken,
        and a task that ends soon costs its parent no more than the two calls that it makes.

        `parent`, let go meanwhile, goes on when the new context has ended or waits, or after HANDOVER_NS, in a thread
        that is kept for it. None: there is none to keep; and for a while after a handover that lasted that long.
        """
        space = parent.space
        if not parent.tid or parent.arriving or parent.dead or not space.can_spare():
            return None
        if space.handovers_to_skip:
            space.handovers_to_skip -= 1
            return None
        context = space.take_vacant()
        if context is not None:
            context.begin_anew()
        elif space.has_room():
            context = self._prepare(space, space.take_slot(), fresh=False)
        else:
            return None
        space.account_cpu(parent.tgid, _CPU_LOOK_NS)
        parent.promised = True
        space.promises += 1
        self._copy_frame(parent, context)
        space.contexts[context] = None
        context.tgid = parent.tgid
        context.take_thread(parent)
        context.giver = parent
        context.arriving = True
        parent.parked = True
        self.active.pop(parent, None)
        return context

    def want_thread(self, context: SystrapContext) -> None:
        """`context` is let go after it handed its host thread over."""
        context.due_ns = time.monotonic_ns() + HANDOVER_NS
        self.wanting.append(context)

    def give_threads(self, now: int) -> None:
        """Those whose handover lasts too long get another one."""
        for context in tuple(self.wanting):
            if context.due_ns <= now and self.give_thread(context):
                space = context.space
                space.vain_handovers = min(space.vain_handovers * 2 or _FEWEST_SKIPPED, _MOST_SKIPPED)
                space.handovers_to_skip = space.vain_handovers

    def give_thread(self, context: SystrapContext) -> bool:
        """Have a host thread that waits for a task go on as `context`, which wants one; whether it does."""
        if context.dead:
            self.no_longer_wants(context)
            return False
        idle = context.space.take_idle() if context.has_left() else None
        if idle is None:
            return False
        self.no_longer_wants(context)
        context.take_thread(idle)
        idle.send_thread(context)
        context.space.vacate(idle)
        return True

    def no_longer_wants(self, context: SystrapContext) -> None:
        """`context` has a host thread, or ended without one."""
        self.wanting.remove(context)
        context.space.end_promise(context)

    def pass_on(self, ended: SystrapContext) -> bool:
        """`ended`, which is held, needs its host thread no more: whether another context goes on in it.

        The one that gave it, be it let go or not yet; else any other of the address space that wants one. Who gave it
        long ago may have had another since, and given that away too: it still is in that slot, or leaving it.
        """
        heir = ended.giver
        if heir is None or heir.tid or heir.dead or not (ended.arriving or heir.has_left()):
            heir = None
            for each in self.wanting:
                if each.space is ended.space and not each.dead and each.has_left():
                    heir = each
                    break
            if heir is None:
                return False
        if heir.in_guest:
            self.no_longer_wants(heir)
            heir.space.vain_handovers = 0
        else:
            heir.space.end_promise(heir)
        heir.take_thread(ended)
        if not ended.arriving:
            ended.send_thread(heir)
        else:
            ended.arriving = False
            self.u32[ended.state_i] = layout.BLOCKED  # no thread was ever there
            if heir is not ended.giver:
                assert ended.giver is not None
                ended.giver.send_thread(heir)
        return True

    def make_room(self, parent: SystrapContext, then: Callable[[int], None]) -> None:
        """See to it that the next `add_thread` finds a slot; `then(0)`, at once or from collect(), or `then(-errno)`.

        A region more is mapped by `parent` itself, which must be held; who asks meanwhile waits for the same region.
        """
        space = parent.space
        if space.growing is not None:
            space.growing.append(then)
            return
        if space.has_room():
            then(0)
            return
        chunk = next((n for n in range(layout.MAX_REGIONS_PER_SPACE) if n not in space.regions), -1)
        try:
            region = self._allocate_region() if chunk >= 0 else -1
        except MemoryError:
            region = -1
        if region < 0:
            then(-errno.EAGAIN)
            return
        waiting = space.growing = [then]
        start = layout.STUB_BASE + layout.SLOTS + chunk * _SLOTS_LENGTH
        offset = region * layout.REGION_SIZE + layout.SLOT_SIZE

        def mapped(results: list[int]) -> None:
            space.growing = None
            done = bool(results) and results[0] == start
            if done:
                space.add_region(chunk, region)
            elif space.retired and not space.pids:
                self.arena.free(region)
            else:
                space.regions[-1 - chunk] = region  # it may be mapped for all we know: free when the space is gone
            for each in waiting:
                each(0 if done else -errno.EAGAIN)

        op = Op(_NR_MMAP, (start, _SLOTS_LENGTH, 3, _MAP_SHARED_FIXED, layout.ARENA_FD, offset))
        parent.run_ops([op], mapped)

    def _drop_slots(self, context: SystrapContext, chunks: list[int], then: Callable[[], None]) -> None:
        """A forked child unmaps the slots of its parent's other threads before anything else."""
        ops = [
            Op(_NR_MUNMAP, (layout.STUB_BASE + layout.SLOTS + chunk * _SLOTS_LENGTH, _SLOTS_LENGTH, 0, 0, 0, 0))
            for chunk in chunks
        ]

        def dropped(results: list[int]) -> None:
            left = ops[layout.MAX_OPS :]
            if results and results[-1] == 0 and left:
                del ops[: layout.MAX_OPS]
                context.run_ops(ops[: layout.MAX_OPS], dropped)
                return
            if not results or results[-1] != 0:
                context.destroy("it keeps its parent's slots")
            context.put_registers(registers)
            then()

        registers = context.regs  # already set for the child's first return
        context.run_ops(ops[: layout.MAX_OPS], dropped)

    def _clone(
        self,
        parent: SystrapContext,
        context: SystrapContext,
        flags: int,
        finish: Callable[[int], None],
        *,
        new_space: bool,
        held: bool = False,
        copy: bool = False,
        waits: bool = False,
    ) -> SystrapContext:
        arena = self.arena
        if parent is not self.pristine:
            parent.space.multiplied = True
        if copy:
            self._copy_frame(parent, context)
        arena.i64[(context.at + layout.RESULT) // 8] = 0
        arena.u32[(context.at + layout.COMMAND) // 4] = layout.COMMAND_RETURN
        arena.u32[context.state_i] = layout.READY if held else layout.RESUME
        self._nonce += 1
        region_at = context.space.header_offset
        nonce = region_at if new_space else self._nonce << 32
        child = _Child(parent, context, new_space, nonce, finish, waits)
        self._children[nonce] = child
        stack = context.slot_addr + layout.SLOT_SIZE - 64
        args = (flags, stack, 0, 0, 0)
        uc = arena.u64[(context.at + layout.UCONTEXT) // 8]
        header = region_at if new_space else -1
        row = (
            _NR_CLONE, *args, 0, 0,
            context.slot_addr, uc, header & 0xFFFFFFFFFFFFFFFF, nonce, 0, 0, 0, 0,
        )  # fmt: skip
        _CLONE_ROWS.pack_into(arena.map, parent.at + layout.OPS, *row)
        context.kept_off = parent.kept_off  # the host hands it down
        parent.expect_clone(args, lambda results: self._parent_done(child, results))
        return context

    def _parent_done(self, child: _Child, results: list[int]) -> None:
        """The parent says what its clone returned: now the child's own calls can be answered."""
        result = results[0] if results else -errno.EAGAIN
        if not 0 < result <= _PID_MAX or result in self._claims:
            self._fail_child(child, result if -4096 < result < 0 else -errno.EAGAIN)
            return
        known = self.by_tid.get(result)
        if known is not None and known.space is child.parent.space:
            child.parent.destroy("its clone returned a thread that was there before")
            self._fail_child(child, -errno.EAGAIN)
            return
        if result in self._vanished:
            self._vanished.remove(result)
            self._fail_child(child, -errno.EAGAIN)
            return
        child.result = result
        self._claims[result] = child
        if not child.callers:
            child.parent.park()  # what it waits for is the child, which may want this very processor
        callers, child.callers = child.callers, []
        for ident, pid, ip, args in callers:
            self._respond(ident, self._judge_child(pid, ip, args, ident))

    def _fail_child(self, child: _Child, result: int) -> None:
        """The clone came to nothing: whatever it left is ended, and `finish` told."""
        self._children.pop(child.nonce, None)
        if self._claims.get(child.result) is child:
            del self._claims[child.result]
        callers, child.callers = child.callers, []
        for ident, *_ in callers:
            self._respond(ident, -errno.EPERM)
        context = child.context
        context.dead = True
        if child.new_space:
            context.space.release()
        else:
            context.space.forget(context, gone=True)
        child.finish(result)

    def fail_children_of(self, parent: SystrapContext) -> None:
        """`parent` is gone: children that it named and that have not come yet are not waited for."""
        for child in [c for c in self._children.values() if c.parent is parent and c.result]:
            self._fail_child(child, -errno.EAGAIN)

    def _child_started(self, child: _Child, pid: int) -> None:
        context = child.context
        del self._children[child.nonce]
        del self._claims[pid]
        context.tid = pid
        context.tgid = pid if child.new_space else child.parent.tgid
        context.space.contexts[context] = None
        if not context.space.vm_pid:
            context.space.vm_pid = context.tgid
        self.by_tid[pid] = context
        if self.arena.u32[context.state_i] == layout.RESUME:
            context.parked = False
            context.in_guest = True
            self.active[context] = None
        if context.on_started is not None:
            context.on_started()
        child.finish(pid)

    # --- regions of dead address spaces ---
    def _allocate_region(self) -> int:
        return self.arena.allocate()

    def retire(self, space: SystrapAddressSpace) -> None:
        """`space` was released: its regions may be another's as soon as no host process can touch them."""
        if not space.pids:
            for chunk, region in space.regions.items():
                self.arena.free(region, space.used_slots if not chunk else layout.SLOTS_PER_REGION)
            space.regions = {}
        space.retired = True

    # --- notifications ---
    def _serve_notification(self) -> bool:
        """Take and answer one notification, if there is one.

        RECV does not block here even if the caller was killed after the poll: each notification raises a count that
        only RECV lowers (kernel/seccomp.c), so RECV finds the count, finds nothing, and gives ENOENT
        (tests/adversarial/test_notifications.py).
        """
        self._pollfds[0:8] = struct.pack("<ihh", self.listener, 1, 0)
        if lib.sentrio_poll(self._pollfds_c, 1, 0) != 1 or not self._pollfds[6] & 1:
            return False
        self._notif[:] = _ZERO_NOTIF
        if lib.sentrio_ioctl(self.listener, _RECV, self._notif_c) < 0:
            return False
        ident, pid, _, nr, _, ip, *args = _NOTIF.unpack(self._notif)
        self.note_progress()
        self._respond(ident, self._judge(pid, nr, ip, tuple(args), ident))
        return True

    def _respond(self, ident: int, verdict: int | None) -> None:
        if verdict == _LATER:
            return
        if verdict is None:
            _RESP.pack_into(self._resp, 0, ident, 0, 0, _CONTINUE)
        else:
            _RESP.pack_into(self._resp, 0, ident, 0, verdict, 0)
        lib.sentrio_ioctl(self.listener, _SEND, self._resp_c)

    def _judge(self, pid: int, nr: int, ip: int, args: tuple[int, ...], ident: int) -> int | None:
        """None: go on, it is what was posted. Else the negative errno to answer (0: done, do not carry it out)."""
        image = self.image
        known = self.by_tid.get(pid)
        if known is not None and known is self.recycler.pending:
            return self.recycler.judge(ip, ident)
        if ip in (image.child_region_ip, image.hello_ip):
            return self._judge_child(pid, ip, args, ident)
        if known is None:
            return -errno.EPERM
        if known.awaiting != layout.OPS_DONE or not known.expects(nr, args):
            if known.awaiting == layout.OPS_DONE and known.repeats(nr, args):
                return None
            known.destroy(f"system call {nr} from the stub that was not posted")
            return -errno.EPERM
        if nr == _NR_MMAP and args[3] & _MAP_SHARED:
            known.space.shares = True
        only_files = args == HAND_IN
        refused = self.hand_in(ident, known.expected_files(), only_files)
        if refused:
            return _LATER if refused == _AGAIN else refused
        known.advance()
        return _LATER if only_files else None

    def hand_in(self, ident: int, files: Sequence[tuple[int, int]], answer: bool = False) -> int:
        """Put host files into the table of the process that waits in notification `ident`, under numbers of our choice.

        `answer`: it goes on with the last one, whose number is its call's result. 0, or a negative errno; _AGAIN: its
        call was answered with 0 and without that file, for a signal came, and is made again by the stub. (The host
        notes the answer first, and does not take it back.)
        """
        for k, (host_fd, number) in enumerate(files):
            flags = _SETFD | (_ADDFD_SEND if answer and k == len(files) - 1 else 0)
            request = bytearray(_ADDFD_STRUCT.pack(ident, flags, host_fd, number, 0))
            while True:  # it waits for the guest's thread, and SIGCHLD may interrupt that
                added = lib.sentrio_ioctl(self.listener, _ADDFD, ffi.from_buffer(request))
                if added != -errno.EINTR:
                    break
                if flags & _ADDFD_SEND:
                    return _AGAIN
            if added < 0:
                return int(added)
        return 0

    def let_in(self, ident: int) -> None:
        """A new process that waits in its first call, notification `ident`, goes on."""
        self._respond(ident, None)

    def _judge_child(self, pid: int, ip: int, args: tuple[int, ...], ident: int) -> int | None:
        """A thread that says it is a new one: as `_judge`, or _LATER (its parent's word is awaited)."""
        known = self.by_tid.get(pid)
        if known is not None:  # no newcomer; or this id was once a thread that left by its own hand
            known.destroy("an old thread in the stub's entry for new ones")
            return self._refuse_child(pid)
        child = self._claims.get(pid)
        if child is None:
            child = self._children.get(args[1 if ip == self.image.hello_ip else 5])
            if child is None or child.result:
                return self._refuse_child(pid)
            child.callers.append((ident, pid, ip, args))
            return _LATER
        if (ip, args) != self._expected_of_child(child) or not self._may_be(child, pid):
            return self._refuse_child(pid)
        if child.waits:
            child.context.entry = ident
        else:  # it comes to itself while the rest is done, and waits for its context to go on
            self._respond(ident, None if child.new_space else 0)
        self._child_started(child, pid)
        return _LATER

    def _refuse_child(self, pid: int) -> int:
        child = self._claims.get(pid)
        if child is not None:
            self._fail_child(child, -errno.EAGAIN)
        else:
            self._vanished.append(pid)
        return -errno.EPERM

    def _may_be(self, child: _Child, pid: int) -> bool:
        """Whether the thread is of the right process: its parent's, or the leader of its own. Notes a new process."""
        if not child.new_space:
            return bool(lib.sentrio_tgkill(child.parent.tgid, pid, 0) == 0)
        if lib.sentrio_tgkill(pid, pid, 0) != 0:
            return False
        space = child.context.space
        space.pids.add(pid)
        self.spaces_by_pid[pid] = space
        return True

    def _expected_of_child(self, child: _Child) -> tuple[int, tuple[int, ...]]:
        """The one call of a child: it maps its own header and slots, or (in its parent's memory) says hello."""
        if child.new_space:
            at = (layout.STUB_BASE + layout.HEADER, layout.REGION_SIZE, 3, _MAP_SHARED_FIXED, layout.ARENA_FD)
            return self.image.child_region_ip, (*at, child.nonce)
        return self.image.hello_ip, (child.context.slot_addr, child.nonce, 0, 0, _NO_FD, 0)

    # --- the loop's side ---
    def set_spin(self, pauses: int, yields: int) -> None:
        """How many pauses a guest thread spins for its answer before it sleeps (0: sleep at once).

        `yields`: how often one whose answer takes long may yield its processor to others before it sleeps.
        """
        self.arena.u32[layout.SPIN // 4] = pauses
        self.arena.u32[layout.YIELDS // 4] = yields

    def note_wake(self) -> None:
        """A futex wake-up is served: words that patched calls brought along before are out of date."""
        self.wakes = self.u32[self._wakes_i] = (self.wakes + 1) & 0xFFFFFFFF or 1

    def reserve(self, processor: int) -> None:
        """From now on a guest thread that was parked goes on on other processors than this one; -1: on any.

        Threads that run are left where they are, except that they may use all processors again.
        """
        self.reserved = processor
        self._others = self.processors - {processor}
        if processor < 0:
            for context in self.active:
                if context.kept_off >= 0:
                    self.place(context)

    def settle(self, processors: frozenset[int]) -> None:
        """This process runs on these alone from now on, as far as they are ours; where none is, on all."""
        to = processors & self.processors
        self.settled = bool(to)
        try:
            os.sched_setaffinity(0, to or self.processors)
        except OSError:  # as for a guest's thread
            pass

    def place(self, context: SystrapContext) -> None:
        """Keep the thread of `context` off the reserved processor, and off no other."""
        self._put_on(context, self._others, self.reserved)

    def _put_on(self, context: SystrapContext, processors: frozenset[int], kept_off: int) -> None:
        context.kept_off = kept_off
        if context.tid:
            try:
                os.sched_setaffinity(context.tid, processors)
            except OSError:  # it is gone, or the host gave us other processors meanwhile: then they are all the same
                pass

    def call_in(self) -> None:
        """Where many threads are active, have those ask that slept for a ring already when this was called last.

        They are active, and looked at again and again; who waits here instead is not.
        """
        if len(self.active) <= _FEW_ACTIVE:
            return
        u32 = self.u32
        for context in self.active:
            sleeps = u32[context.sleeps_i]
            if sleeps & 1 and sleeps == context.slept and context.in_guest:
                context.interrupt()
            context.slept = sleeps

    def arm(self) -> None:
        """From now on a stopping thread rings the doorbell. Look once more (`collect(0)`) before sleeping on it."""
        self.recycler.look()
        for context in tuple(self.wanting):
            self.give_thread(context)
        self.arena.u32[self._armed_i] = 1
        full_barrier()  # either a thread that stops sees this, or the last look sees what it posted (stub.c, post)

    def disarm(self, rung: bool = True) -> None:
        """No thread rings any more. `rung`: it may have rung; a ring that is left is one sleep less, later."""
        self.arena.u32[self._armed_i] = 0
        if not rung:
            return
        try:
            os.eventfd_read(self.doorbell)
        except BlockingIOError:
            pass

    def serve_strangers(self) -> None:
        """Answer notifications that nothing was posted for (a guest that jumped into the stub): they get EPERM."""
        self.serve_notifications()

    # --- for the dispatcher's hot path, which reads slots itself ---
    event = staticmethod(_EVENT.unpack_from)

    def scan(self) -> list[SystrapContext]:
        """Contexts in the guest that posted an event; `take` them, or answer them in place."""
        u32 = self.u32
        return [context for context in self.active if u32[context.state_i] == 1 and context.in_guest]

    def wake(self, context: SystrapContext) -> None:
        """The thread of `context` sleeps on its slot: wake it."""
        lib.sentrio_futex_wake(context.state_pointer)

    def serve_notifications(self) -> None:
        """Answer what the stubs ask while operations are under way."""
        for _ in range(_NOTIFICATIONS_AT_ONCE):
            if not self._serve_notification():
                break
        if self.recycler.pending is not None:
            self.recycler.look()

    def take(self, stopped: Iterable[SystrapContext]) -> list[SystrapContext]:
        """Take the events of contexts that `scan` gave; internal ones are carried on with, the others are returned."""
        return self._take(stopped)

    # --- the general form ---
    def collect(self, spin_ns: int) -> list[SystrapContext]:
        u32 = self.arena.u32
        deadline = 0
        while True:
            ready = [context for context in self.active if u32[context.state_i] == 1 and context.in_guest]
            if ready:
                return self._take(ready)
            if self.posted or self._children or self.recycler.pending is not None:
                self.serve_notifications()
            now = time.monotonic_ns()
            if not deadline:
                deadline = now + spin_ns
            if now >= deadline:
                return ready

    def _take(self, stopped: Iterable[SystrapContext]) -> list[SystrapContext]:
        arena_map = self.arena.map
        events = []
        for context in stopped:
            kind, nr, *args = _EVENT.unpack_from(arena_map, context.at + layout.KIND)
            if kind == layout.SYSCALL_BROUGHT or layout.STRUCT_BROUGHT <= kind <= layout.STRUCT_BROUGHT_LAST:
                kind = Kind.SYSCALL_FAST
            if context.awaiting and not context.left(kind):
                self._take_internal(context, kind)
                continue
            if not Kind.SYSCALL_FAST <= kind <= Kind.INTERRUPTED and kind != Kind.RING_MOVED:
                context.destroy(f"an event of kind {kind} that nobody asked for")
                continue
            context.in_guest = False
            if context.killed:
                context.exit()
                continue
            context.kind = kind
            context.has_full_frame = Kind.SYSCALL_FAST < kind < Kind.RING_MOVED
            context.nr = nr
            context.args = tuple(args)
            if kind == Kind.FAULT:
                context.fault = _FAULT.unpack_from(arena_map, context.at + layout.SIGNO)
                context.nr = -1
            elif kind == Kind.INTERRUPTED:
                context.nr = -1
            events.append(context)
        return events

    def _take_internal(self, context: SystrapContext, kind: int) -> None:
        """An event while operations or a frame are awaited: that, and nothing else, may come."""
        if kind != context.awaiting:
            context.destroy(f"an event of kind {kind} where {context.awaiting} was due")
            return
        self.note_progress()
        context.in_guest = False
        if kind == Kind.FRAME_TAKEN:
            context.has_full_frame = True
        context.finish_internal()
        if context.killed and not context.in_guest:
            context.exit()

    def reap(self) -> None:
        """Collect host processes that ended (call after SIGCHLD); contexts that went with them unasked are `lost`.

        Whoever takes a context from `lost` calls its `abandon` afterwards.
        """
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            space = self.spaces_by_pid.pop(pid, None)
            if pid in self._claims:
                self._fail_child(self._claims[pid], -errno.EAGAIN)
            if space is None:
                self._vanished.append(pid)
                continue
            for context in [c for c in space.contexts if c.tgid == pid]:
                context.dead = True
                self.active.pop(context, None)
                space.forget(context, gone=True)
                self.fail_children_of(context)
                self.lost.append(context)
            space.pids.discard(pid)
            space.cpu_seen_ns.pop(pid, None)
            if space.retired:
                self.retire(space)
            self.recycler.lost(pid)

    def end(self) -> None:
        """No guest will run any more: what stands ready for new ones goes, and whoever is left."""
        for pid, space in self.spaces_by_pid.items():
            space.kill_process(pid)

    def counts(self) -> dict[str, int]:
        """What is there now, by name, but for spare ones: for logs and for tests that look for leaks."""
        spare = self._spares_left() + self.recycler.count
        return {
            "processes": len(self.spaces_by_pid) - spare,
            "contexts": len(self.by_tid) - spare,
            "regions": self.arena.used - spare,
            "active": len(self.active),
            "clones": len(self._children) + len(self._claims),
            "posted": self.posted,
        }

    def trace_ops(self, context: SystrapContext, ops: Sequence[Op]) -> None:
        """For debugging: override to see every operation."""


def _host_mmap(addr: int, length: int, prot: int, flags: int, fd: int, offset: int) -> None:
    result = lib.sentrio_syscall(_NR_MMAP, addr, length, prot, flags, fd, offset)
    if result != addr:
        raise OSError(-result, "mapping the stub")


def _find_vdso() -> tuple[int, int, int]:
    """(start of vvar, start of the vDSO, its end) in this process, and so in every fork of it."""
    vvar = vdso = end = 0
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        for line in maps:
            bounds, _, name = line.partition(" ")
            low, high = (int(part, 16) for part in bounds.split("-"))
            if "[vvar" in name and not vvar:
                vvar = low
            elif "[vdso]" in name:
                vdso, end = low, high
    if not vdso:
        raise OSError(errno.ENOSYS, "the host kernel gives no vDSO")
    return vvar or vdso, vdso, end


def _open_fds() -> list[int]:
    """Our descriptors, found without /proc (it may be out of reach already)."""
    return [fd for fd in range(1024) if lib.sentrio_syscall(72, fd, 1, 0, 0, 0, 0) >= 0]  # fcntl(F_GETFD)

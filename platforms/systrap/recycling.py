"""The host process of an ended program as the next empty address space: no clone, no end, nothing to reap.

What comes out must be as clean as a fork of the pristine process, whatever its program did, and the Sentry must know so
from the host kernel, not from the guest. Two notifications at addresses of the stub tell (stub/recycle.S): at the first
the thread stands before code that wipes the process; no guest can have the second come without having run that code.
What a guest could have left behind, and why it is gone then:

- Memory: unmapped between the two, all but stub and vDSO, which no guest can change or map over (filter.py). The region
  of the arena is cleared by the Sentry while the thread waits in the first.
- Registers, floating-point state, protection keys, flags, signal mask and signal stack: set by one rt_sigreturn from a
  frame in that region; segment registers, their bases and the remaining flags by the code behind it.
- A trap flag or a signal stack of the guest's, before that: whatever signal comes, its handler ends the process.
- Descriptors: those under which files can have been handed in are closed. Doorbell and arena cannot be. But those that
  its stub was to close and has not (`AHEAD`) stay: the next program, mostly of the same kind, needs the same files. A
  guest can close such a number, never make it another file's. What the next program may not read is closed by its stub
  before it runs (`SystrapContext.hand_ahead`); if a file turns out not to be there, execve(2) begins anew.
- All else that a process or thread has on the host needs calls that a guest has not (HOST_CALLS in filter.py).

That holds if nobody else can write to what the thread uses meanwhile. So a process is recycled only if it has one
thread and never had another, made no process (which could share its region still), never had shared memory, and was
never sent a signal that might still come (`_only_thread`). All others are killed as ever, and so is one that does not
come in time: a guest need not do what it is told.

All this takes the Sentry's time and a processor's, and so it begins when nobody wants anything else, or somebody wants
an address space (`begin`): when a program ends, its parent is to go on first.
"""

from __future__ import annotations

import signal
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from platforms._host import lib
from platforms.systrap import layout
from platforms.systrap.context import Frame

if TYPE_CHECKING:
    from platforms.systrap.context import SystrapContext
    from platforms.systrap.systrap_platform import SystrapAddressSpace, SystrapPlatform

__all__ = ["Recycler"]

_RSP_RIP: Final = struct.Struct("<QQ")
_AT_RSP: Final = Frame.UCONTEXT + 40 + 15 * 8  # in the slot: the frame's rsp, and rip behind it,
_AT_MASK: Final = Frame.UCONTEXT + 296  # and its signal mask
_ALL_SIGNALS: Final = 0xFFFF_FFFF_FFFF_FFFF
_EPERM: Final = -1
_LATER: Final = 1  # as the platform's: answered later
_LIMIT_NS: Final = 5_000_000  # an honest process takes microseconds, unless it has very much memory to give back
_LIMIT_WANTED_NS: Final = 1_000_000  # when somebody waits for it


class Recycler:
    """At most one process on its way from one program to the next, and those that are to go the same way.

    `pending`: its thread's context, that of the old program at first and then that of the next; None: there is none.
    `kept`: the contexts of those whose program ended and that have been told nothing yet.
    `limit_ns`, `wanted_limit_ns`: how long it may take, and when somebody waits for it.
    """

    def __init__(self, platform: SystrapPlatform) -> None:
        self.platform = platform
        self.pending: SystrapContext | None = None
        self.kept: deque[SystrapContext] = deque()
        self._wiping = False  # the first notification came
        self._since_ns = 0
        self.limit_ns = _LIMIT_NS
        self.wanted_limit_ns = _LIMIT_WANTED_NS
        self._finish: Callable[[SystrapContext | None, int], None] | None = None

    def take(self, space: SystrapAddressSpace) -> bool:
        """Whether the process of `space`, which is being released, goes on as another's: then it must not be killed."""
        context = _only_thread(space)
        if context is None:
            return False
        self.platform.by_tid[context.tid] = context
        self.kept.append(context)
        return True

    def begin(self) -> bool:
        """The next of those that are kept is on its way, if there is one, and no other is."""
        if not self.kept or self.pending is not None:
            return False
        platform = self.platform
        self.pending = context = self.kept.popleft()
        self._wiping = False
        self._since_ns = time.monotonic_ns()
        platform.u32[(context.at + layout.COMMAND) // 4] = layout.COMMAND_RECYCLE
        platform.u32[context.state_i] = layout.RESUME
        if platform.u32[context.waiting_i]:
            platform.wake(context)
        return True

    @property
    def count(self) -> int:
        """How many processes are to be spare ones."""
        return len(self.kept) + (self.pending is not None)

    def request(self, finish: Callable[[SystrapContext | None, int], None]) -> bool:
        """The next address space is wanted: whether the pending one is to be it (as `SystrapPlatform.new_space`)."""
        self.begin()
        if self.pending is None or self._finish is not None:
            return False
        self._finish = finish
        self.platform.note_progress()
        return True

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for the pending process."""
        return self._finish is not None

    def judge(self, ip: int, ident: int) -> int:
        """What the pending process says, as `SystrapPlatform._judge`."""
        image = self.platform.image
        if ip == image.recycle_ip and not self._wiping:
            self._renew()
            return 0
        if ip == image.recycled_ip and self._wiping:
            self._arrived(ident)
            return _LATER
        self.give_up()
        return _EPERM

    def _renew(self) -> None:
        """The thread waits at the first notification: what it is to find behind it, on its old region, cleared."""
        platform, old = self.platform, self.pending
        assert old is not None
        former = old.space
        held = former.still_handed()
        region = former.regions.pop(0)
        former.pids.discard(old.tgid)
        platform.arena.clear(region, former.used_slots)
        space = former.successor(region, held)
        space.vm_pid = old.tgid
        space.pids.add(old.tgid)
        platform.spaces_by_pid[old.tgid] = space
        context = platform.prepare_context(space)
        context.tid, context.tgid, context.kept_off = old.tid, old.tgid, old.kept_off
        space.contexts[context] = None
        platform.by_tid[context.tid] = context
        arena = platform.arena
        _RSP_RIP.pack_into(
            arena.map, context.at + _AT_RSP, context.slot_addr + Frame.UCONTEXT - 256, platform.image.recycled_entry
        )
        arena.u64[(context.at + _AT_MASK) // 8] = _ALL_SIGNALS  # until it goes to its program, as a new process has it
        arena.u32[(context.at + layout.BUFFER) // 4] = layout.DONATED_FD
        arena.u32[(context.at + layout.BUFFER) // 4 + 1] = sum(1 << number - layout.DONATED_FD for number in held)
        arena.u32[(context.at + layout.COMMAND) // 4] = layout.COMMAND_RETURN
        arena.u32[context.state_i] = layout.READY
        self.pending, self._wiping = context, True

    def _arrived(self, ident: int) -> None:
        """It is clean. It waits in this notification until it has something to do."""
        context = self.pending
        assert context is not None
        context.entry = ident
        self.platform.arena.u64[(context.at + _AT_MASK) // 8] = 0
        context.space.cpu_seen_ns[context.tgid] = int(lib.sentrio_thread_time(context.tgid, 1))
        finish, self._finish, self.pending = self._finish, None, None
        (finish or self.platform.put_by)(context, 0)

    def look(self) -> None:
        """Give up on a process that takes too long."""
        if self.pending is None:
            return
        limit = self.limit_ns if self._finish is None else min(self.limit_ns, self.wanted_limit_ns)
        if time.monotonic_ns() - self._since_ns > limit:
            self.give_up()

    def give_up(self) -> None:
        """Kill the pending process, if there is one."""
        context = self.pending
        if context is None:
            return
        context.signalled = True
        lib.sentrio_tgkill(context.tgid, context.tid, signal.SIGKILL)
        self._forget(context)

    def lost(self, tgid: int) -> None:
        """A host process ended and was reaped: the pending one, or one that is kept?"""
        context = self.pending
        if context is not None and context.tgid == tgid:
            self._forget(context)
        for context in [each for each in self.kept if each.tgid == tgid]:
            self.kept.remove(context)
            if self.platform.by_tid.get(context.tid) is context:
                del self.platform.by_tid[context.tid]

    def _forget(self, context: SystrapContext) -> None:
        self.pending = None
        platform = self.platform
        if platform.by_tid.get(context.tid) is context:
            del platform.by_tid[context.tid]
        if self._wiping:
            context.space.release()
        finish, self._finish = self._finish, None
        if finish is not None:
            platform.new_space(finish)


def _only_thread(space: SystrapAddressSpace) -> SystrapContext | None:
    """The context of the one thread of a process that can be recycled; it is held, or waits for another task."""
    threads = space.threads()
    if space.shares or space.multiplied or len(threads) != 1 or len(space.pids) != 1 or [*space.regions] != [0]:
        return None
    context = threads[0]
    if context.tid != context.tgid or context.tid not in space.pids or context.tid != space.vm_pid:
        return None
    if context.in_guest or context.awaiting or context.entry or context.signalled:
        return None
    return context if space.numbers_used() <= layout.RECYCLED_FDS else None

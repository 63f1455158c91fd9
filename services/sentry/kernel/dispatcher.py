"""The dispatcher: takes events from the platform, runs handlers, parks and wakes tasks, sends them back to guest code.

The heart of the trap path: `_syscall` is what every call costs. Nothing here awaits; `burst` runs for about a
millisecond and returns, `app.py` decides when to sleep. Read kernel/waiter.py (what handlers return) and
platforms/base.py first.

One call, end to end: the platform's collect() finds a stopped context -> `_event` -> the row's handler(task, arguments)
-> an int: `resume` at once; a Wait: `park`, later `_run` -> retry(); a StubOp: posted to the guest's stub, later
`_finish`; NO_RETURN: the registers were replaced. Whenever a signal is pending, `exit_to_user` has the last word.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from platforms.base import Kind
from services.sentry.errors import LinuxError, Restart, WouldBlock
from services.sentry.kernel import faults
from services.sentry.kernel.exits import complete_vfork, exit_group
from services.sentry.kernel.futex import FutexWait
from services.sentry.kernel.guest_ops import end_loan, publish
from services.sentry.kernel.loans import ALLOWED
from services.sentry.kernel.patch_stop import PatchStop
from services.sentry.kernel.published_rings import ring_moved
from services.sentry.kernel.signal_delivery import deliver
from services.sentry.kernel.standing_answers import STEADY
from services.sentry.kernel.waiter import NO_RETURN, READ_MASK, FinalOps, NoReturn, Outcome, ReadWait, StubOp, Wait
from services.sentry.mm.patching import HOT, MOST_VAIN, STOP_FROM, find_site, others_at_large, try_patch
from services.sentry.mm.user_memory import CARRIED_MAX

if TYPE_CHECKING:
    from platforms.base import Context
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task
    from services.sentry.mm.address_space import AddressSpace
    from services.sentry.strace.format import Tracer
    from services.sentry.syscalls.table import Row

__all__ = ["Dispatcher"]

_BURST_NS: Final = 1_000_000
_LOOKS_AT_ONE: Final = range(24)
_OTHER_LOOKS: Final = 3  # of so many looks and one, one is for what nobody waits for
_NEED_FRAME: Final = frozenset(
    ("clone", "clone3", "fork", "vfork", "execve", "execveat", "rt_sigreturn", "arch_prctl", "sigaltstack")
)
_SIGSYS_STATUS: Final = 31
_SIGKILL: Final = 9
_SIGILL: Final = 4
_MAX_SITES: Final = 4096
_MAX_NUMBER: Final = 1024  # of system calls whose names are remembered
_NOT_PLAIN: Final = (None, 0)


class Dispatcher:
    """See the module. One per sandbox."""

    def __init__(self, kernel: Kernel, platform: Any, table: list[Row | None]) -> None:
        self.kernel = kernel
        self.platform = platform
        self.rows = table
        self.handlers: list[Callable[..., Outcome] | None] = [row.handler if row else None for row in table]
        self.arity = [len(row.args.split()) if row else 0 for row in table]
        self.need_frame = [bool(row and row.name in _NEED_FRAME) for row in table]
        self.in_loans = [bool(row and row.name in ALLOWED) for row in table]  # calls that do not end one
        self.reap_wanted = False
        self._missing_names: dict[int, str] = {}
        self.looks = 0  # of the last burst: how often no event was there,
        self.at_work = 0  # and how many guest threads were not parked then, added up
        self.quiet = False  # it ended because nothing came any more
        self.oops: Callable[[Task, BaseException], None] = self._log_oops
        self._trace: Tracer | None = None
        self._stop: PatchStop | None = None
        self._served: Task | None = None  # whose event or continuation is under way
        self._serve = self._make_server()
        self._run_tasks = self._make_runner()
        kernel.answer = self.answer

    # --- the loop ---
    def burst(self, spin_ns: int) -> bool:
        """Serve what is there for about a millisecond; whether anything was. See `_burst`.

        What a handler raises is caught where it is called. A bug behind it (in a callback, in what is done with the
        result) ends the process that was served, too; one that is nobody's, or of a task that is ending, is raised.
        """
        try:
            return self._burst(spin_ns)
        except Exception as error:
            task = self._served
            if task is None:
                raise
            mm = task.mm_or_none
            if mm is not None:
                mm.fast = mm.trapped = mm.pending = None
            self._bug(task, error)
            self.reap_wanted = True  # perhaps it was cut short
            self.quiet = False
            return True

    def _burst(self, spin_ns: int) -> bool:
        """Ends early when nothing came for `spin_ns`."""
        platform, kernel = self.platform, self.kernel
        runnable, timers, leaving = kernel.runnable, kernel.timers, kernel.leaving
        active: dict[Context, None] = platform.active
        u32, serve = platform.u32, self._serve
        now = time.monotonic_ns()
        end = now + _BURST_NS
        quiet_end = now + spin_ns
        turn = 0
        busy = False
        looks = at_work = 0
        while True:
            self._served = None
            served = self._stop is not None and self._stop.look()
            contexts = tuple(active)
            for context in contexts:
                if u32[context.state_i] == 1 and context.in_guest:  # layout.READY
                    serve(context)
                    served = True
            if len(contexts) == 1 and not len(runnable) and not platform.posted:
                # Nobody else is at work: look at this one some more before looking at all else, which costs as much as
                # a call, until something else is there to be looked at.
                state_i = context.state_i
                for _ in _LOOKS_AT_ONE:
                    if u32[state_i] == 1 and context.in_guest:
                        serve(context)
                        served = True
                        if len(runnable) or platform.posted or context.is_held() or len(active) != 1:
                            break
            if runnable:
                self._run_tasks()
                served = True
            if leaving:  # behind those who waited for it, before any other call is served
                self._release_memory()
            if served:
                busy = True
                turn += 1
                if turn & 15:
                    quiet_end = 0
                    continue
            else:
                looks += 1
                at_work += len(active)
            self._served = None
            if platform.busy:
                quiet_end = 0
                if platform.is_asked:
                    self.withdraw()
                    platform.serve_notifications()
            elif not looks & _OTHER_LOOKS and platform.is_asked:  # by an ended process, which changes nothing here
                platform.serve_notifications()
            now = time.monotonic_ns()
            if platform.wanting:
                platform.give_threads(now)
            # Guests seldom wait for this: done while they are at work, but within a burst.
            if self.reap_wanted and (platform.posted or now >= end or 0 < quiet_end <= now + spin_ns // 2):
                self.reap_wanted = False
                self.withdraw()
                self._reap()
            deadline = timers.next_deadline()
            if deadline is not None and deadline <= now:
                self.withdraw()
                timers.run(now)
                busy = True
                quiet_end = 0
            if now >= end or kernel.exit_status is not None:
                platform.tidy()
                break
            if not quiet_end:
                quiet_end = now + spin_ns
            elif now >= quiet_end and not runnable and not platform.busy:
                platform.tidy()
                if not platform.busy:
                    break
        self.looks, self.at_work = looks, at_work
        self.quiet = now < end and kernel.exit_status is None
        return busy

    def _make_server(self) -> Callable[[Context], None]:
        """`serve(context)`: one event. A plain system call is all done in its one frame.

        A closure, because what it needs a dozen times a microsecond is then in local cells. What can wait comes after
        the store to the state word: the guest goes on meanwhile.
        """
        platform, serve_other = self.platform, self._serve_other
        every: list[tuple[Callable[..., Outcome] | None, int]] = [
            (row.handler, len(row.args.split())) if row else (partial(self._missing, nr=nr), 0)
            for nr, row in enumerate(self.rows)
        ]
        plain = [
            _NOT_PLAIN if row and row.name in _NEED_FRAME else each for row, each in zip(self.rows, every, strict=True)
        ]
        size = len(every)
        plain.append((ring_moved, 2))  # at -1
        event, arena_map, u32, i64, wake = platform.event, platform.arena_map, platform.u32, platform.i64, platform.wake
        u64 = platform.u64
        live, park, in_loans = self.kernel.standing.live, self.kernel.park, self.in_loans
        packers: list[Callable[..., None] | None] = [None] * (CARRIED_MAX + 1)

        def packer(count: int) -> Callable[..., None]:
            """What writes COPY_RESULT, _TO, _LENGTH and `count` bytes of COPY_DATA (platforms/systrap/layout.py)."""
            made = packers[count] = struct.Struct(f"<qQQ{count}s").pack_into
            return made

        def serve(context: Context) -> None:
            kind: int
            nr: int
            kind, nr, a0, a1, a2, a3, a4, a5 = event(arena_map, context.event_at)
            if live and not (0 < kind < 3 and nr in STEADY):
                u64[live.pop()] = 0  # as `withdraw`
            task: Task | None = context.owner
            self._served = task
            brought = -1
            if kind > 6:
                if kind == 7:  # layout.SYSCALL_BROUGHT
                    kind = 1
                    brought = a1
                elif kind == 8:  # layout.RING_MOVED: a call that has been done
                    kind, nr, a1 = 1, -1, nr
                elif kind < 15:  # layout.STRUCT_BROUGHT, by argument
                    brought = (a0, a1, a2, a3, a4, a5)[kind - 9]
                    kind = 1
            if not 0 < kind < 3 or task is None or nr >= size:
                serve_other(context, kind, nr)
                return
            kept = 0
            if context.awaiting:
                if not context.left(kind):
                    serve_other(context, kind, nr)
                    return
                kept = context.kept
            mm = task.mm_or_none
            handler, count = (plain if kind == 1 else every)[nr]
            if handler is None or mm is None or (mm.loan is not None and not in_loans[nr]):
                serve_other(context, kind, nr)
                return
            if kind == 1:  # layout.SYSCALL_FAST
                mm.fast = context
                mm.brought = brought
            else:  # it trapped, and is counted; the full frame is there
                rip = u64[context.rip_i]
                seen = mm.patcher.seen
                times = seen.get(rip, 0) + 1
                if times == 1 and len(seen) > _MAX_SITES:  # a guest may name as many addresses as it likes
                    seen.clear()
                seen[rip] = times
                if times >= HOT and not times & 3 and self._patch_when_hot(task, context, rip, nr):
                    return
                context.has_full_frame = True
                context.nr = context.orig_rax = nr
                if mm.users == 1 and plain[nr] is not _NOT_PLAIN:
                    mm.trapped = context
            context.in_guest = False
            try:
                if count == 3:
                    outcome = handler(task, a0, a1, a2)
                elif count == 2:
                    outcome = handler(task, a0, a1)
                elif count == 4:
                    outcome = handler(task, a0, a1, a2, a3)
                elif count == 1:
                    outcome = handler(task, a0)
                elif count == 0:
                    outcome = handler(task)
                elif count == 5:
                    outcome = handler(task, a0, a1, a2, a3, a4)
                else:
                    outcome = handler(task, a0, a1, a2, a3, a4, a5)
            except LinuxError as error:
                outcome = -error.errno
            except WouldBlock:
                outcome = -errno.EAGAIN
            except Exception as error:  # a bug of ours ends this process, not the sandbox
                mm.fast = mm.trapped = mm.pending = None
                self._bug(task, error)
                return
            if kind == 2:
                mm.trapped = None
            if (
                type(outcome) is int
                and (outcome >= 0 or not -517 < outcome < -511)
                and not task.signal_pending
                and context.owner is task
                and not kept
            ):
                data = mm.pending
                if data is None:
                    i64[context.result_i] = outcome
                    u32[context.state_i] = 4  # layout.RETURN_NOW
                else:
                    length = len(data)
                    pack = packers[length] or packer(length)
                    pack(arena_map, context.copy_at, outcome, mm.pending_addr, length, data)
                    u32[context.state_i] = 6  # layout.COPY_NOW
                    mm.pending = None
                mm.fast = None
                context.in_guest = True
                context.forget_registers()
                if u32[context.waiting_i]:
                    wake(context)
                return
            if type(outcome) is ReadWait and not task.signal_pending and mm.pending is None:
                context.park()  # at once, for its processor is another's meanwhile; then what `Kernel.park` does
                task.wait = outcome
                task.state = "S"
                task.nvcsw += 1
                task.timed_out = False
                queue = task.waited_queue = outcome.file.queue
                task.mask = READ_MASK
                queue.entries[task] = None
                mm.fast = None
                if kind == 1:
                    context.has_full_frame = False
                    context.nr = context.orig_rax = nr
                return
            mm.fast = None
            if live and nr not in STEADY:  # what follows may be more than an answer
                u64[live.pop()] = 0
            if mm.pending is not None:
                try:
                    mm.flush()
                except LinuxError as error:
                    outcome = -error.errno
            if kind == 1:
                context.has_full_frame = False
                context.nr = context.orig_rax = nr
            context.args = (a0, a1, a2, a3, a4, a5)
            if type(outcome) is FutexWait or type(outcome) is Wait:  # as in _complete
                context.park()
                park(task, outcome)
            elif outcome is not NO_RETURN or not task.exiting:
                self._complete(task, outcome)
            if kept and mm.changes is not None:
                mm.changes.end_window()

        return serve

    def withdraw(self) -> None:
        """Take back the answer that stands (kernel/standing_answers.py): something is about to happen."""
        live = self.kernel.standing.live
        if live:
            self.platform.u64[live.pop()] = 0

    @property
    def trace(self) -> Tracer | None:
        """What is told of every call (--strace); while there is one, none is served in one frame."""
        return self._trace

    @trace.setter
    def trace(self, tracer: Tracer | None) -> None:
        self._trace = tracer
        self._serve = self._make_server() if tracer is None else self._serve_traced

    def _serve_traced(self, context: Context) -> None:
        kind, nr, *_ = self.platform.event(self.platform.arena_map, context.event_at)
        self._serve_other(context, kind, nr)

    def _serve_other(self, context: Context, kind: int, nr: int) -> None:
        """Every event but the hot one: a trap, a fault, an internal event, or nonsense that the platform judges."""
        for each in self.platform.take((context,)):
            self._event(each)

    def _patch_when_hot(self, task: Task, context: Context, rip: int, nr: int) -> bool:
        """The call site `rip` trapped HOT times or more; whether it is being patched (the call goes on afterwards).

        Other threads of the program are held meanwhile. If some are in guest code they must be stopped first, which
        takes a while: so only for a site that is very hot. When it is none that can be patched, it is looked at again
        only after HOT traps more.
        """
        mm = task.mm
        if self.need_frame[nr] or self._stop is not None or mm.loan is not None:
            return False
        patcher = mm.patcher
        if others_at_large(context):
            if patcher.seen[rip] < STOP_FROM << patcher.vain_stops:
                return False
            if find_site(mm, rip, nr) is None:
                patcher.seen[rip] = 0
                return False
        patcher.seen[rip] = 0
        if not context.others():
            self._patch(task, context, rip, nr, None)
            return True

        def given_up() -> None:
            patcher.vain_stops = min(patcher.vain_stops + 1, MOST_VAIN)
            self._stop = None

        stop = self._stop = PatchStop(
            self.kernel, self.platform, task, context, lambda: self._patch(task, context, rip, nr, stop), given_up
        )
        stop.look()
        return True

    def _patch(self, task: Task, context: Context, rip: int, nr: int, stop: PatchStop | None) -> None:
        """No other thread is in guest code: patch the site of the call that `context` waits for, then serve it."""

        def go_on() -> None:
            if stop is not None:
                stop.end()
                if self._stop is stop:
                    self._stop = None

        self.withdraw()
        (event,) = self.platform.take((context,)) or (None,)
        if event is None:
            go_on()
            return
        mm = task.mm
        mm.patcher.vain_stops = max(mm.patcher.vain_stops - 1, 0)

        def patched() -> None:
            go_on()
            context.kind = Kind.SYSCALL
            context.has_full_frame = True
            self._event(context)

        if not try_patch(mm, context, rip, nr, patched):
            go_on()
            self._event(context)

    def _event(self, context: Context) -> None:
        task: Task | None = context.owner
        self._served = task
        if task is None or task.exiting:
            context.exit()
            return
        kind = context.kind
        if task.mm.loan is not None and not self._goes_on_in_loan(context):
            self._end_loan(task, lambda: self._after_loan(task))
        elif kind <= Kind.SYSCALL:
            self._syscall(task, context)
        elif kind == Kind.INTERRUPTED:
            context.orig_rax = -1
            self.exit_to_user(task, None)
        elif kind == Kind.RING_MOVED:
            context.orig_rax = -1
            self.exit_to_user(task, ring_moved(task, context.args[0], context.nr))
        else:
            context.orig_rax = -1
            self._fault(task, context)
            self.exit_to_user(task, None)

    def _fault(self, task: Task, context: Context) -> None:
        """A fault becomes a signal; a jump into a patched site goes on behind it."""
        if context.fault[0] == _SIGILL:
            behind = task.mm.patcher.redirect.get(context.regs.rip)
            if behind is not None:
                context.regs.rip = behind
                return
        faults.handle(task)

    # --- children that run in their parent's memory (kernel/loans.py) ---
    def _goes_on_in_loan(self, context: Context) -> bool:
        nr = context.nr
        return context.kind <= Kind.SYSCALL and nr < len(self.in_loans) and self.in_loans[nr]

    def _end_loan(self, task: Task, then: Callable[[], Outcome]) -> None:
        """`task`, which is held, gets memory of its own; then its call ends with what `then()` gives."""
        context = task.context
        if not context.has_full_frame:
            context.take_frame(lambda: self._end_loan(task, then))
            return

        def ended(result: int) -> Outcome:
            complete_vfork(task, at_once=True)
            if result < 0:
                exit_group(task, _SIGKILL)
                return NO_RETURN
            publish(task)
            task.share_mask()
            task.let_tell()
            return then()

        outcome = StubOp(lambda complete: end_loan(task, lambda result: complete(lambda: ended(result))))
        task.wait = outcome
        outcome.start(lambda thunk: self._finish(task, thunk))

    def _after_loan(self, task: Task) -> Outcome:
        """What ended the loan of `task`."""
        context = task.context
        nr = context.nr
        if context.kind <= Kind.SYSCALL:
            handler = self.handlers[nr] if nr < len(self.handlers) else None
            context.orig_rax = nr
            return self._missing(task, nr) if handler is None else handler(task, *context.args[: self.arity[nr]])
        context.orig_rax = -1
        if context.kind == Kind.FAULT:
            self._fault(task, context)
        return NO_RETURN

    def _syscall(self, task: Task, context: Context) -> None:
        nr = context.nr
        args = context.args
        context.orig_rax = nr
        outcome: Outcome
        handler = self.handlers[nr] if nr < len(self.handlers) else None
        if handler is None:
            outcome = self._missing(task, nr)
        elif self.need_frame[nr] and not context.has_full_frame:
            context.take_frame(lambda: self._syscall(task, context))
            return
        else:
            try:
                count = self.arity[nr]
                if count == 3:
                    outcome = handler(task, args[0], args[1], args[2])
                elif count == 2:
                    outcome = handler(task, args[0], args[1])
                elif count == 1:
                    outcome = handler(task, args[0])
                elif count == 4:
                    outcome = handler(task, args[0], args[1], args[2], args[3])
                elif count == 0:
                    outcome = handler(task)
                else:
                    outcome = handler(task, *args[:count])
            except LinuxError as error:
                outcome = -error.errno
            except WouldBlock:
                outcome = -errno.EAGAIN
            except Exception as error:  # a bug of ours ends this process, not the sandbox
                self._bug(task, error)
                return
        if self._trace is not None:
            if type(outcome) is FinalOps:
                outcome = outcome.posted(context)
            self._trace.call(task, self.rows[nr] if nr < len(self.rows) else None, nr, args, outcome)
        if type(outcome) is int and not task.signal_pending:
            context.resume(outcome)
        else:
            self._complete(task, outcome)

    def _missing(self, task: Task, nr: int) -> int:
        """ENOSYS, counted once for the program's end and the log."""
        name = self._missing_names.get(nr)
        if name is None:
            from protocol.abi.numbers_amd64 import NAMES

            name = NAMES.get(nr, f"syscall_{nr}" if nr < 1 << 16 else "syscall of another ABI")
            if nr < _MAX_NUMBER:
                self._missing_names[nr] = name
            if not self.kernel.missed[name]:
                self.kernel.log.info("%s: %s is not implemented", task.comm.decode(errors="replace"), name)
        self.kernel.missed[name] += 1
        return -errno.ENOSYS

    # --- outcomes ---
    def _complete(self, task: Task, outcome: Outcome) -> None:
        """End or park the call of `task` whose handler or continuation gave `outcome`."""
        if self._trace is not None:
            self._trace.end(task, outcome)
        if type(outcome) is int:
            if task.signal_pending or -517 < outcome < -511:  # the internal restart codes are deliver's to translate
                self.exit_to_user(task, outcome)
            else:
                task.context.resume(outcome)
        elif type(outcome) is FinalOps:
            if task.signal_pending:
                self._complete(task, outcome.posted(task.context))
            else:
                self._leave(task, outcome)
        elif isinstance(outcome, StubOp):
            task.wait = outcome
            outcome.start(lambda thunk: self._finish(task, thunk))
        elif isinstance(outcome, Wait):
            task.context.park()
            self.kernel.park(task, outcome)
        else:
            assert isinstance(outcome, NoReturn), outcome
            if not task.exiting and task.context_or_none is not None:
                self.exit_to_user(task, None)
            if outcome.beside is not None:
                outcome.beside()

    def _leave(self, task: Task, outcome: FinalOps) -> None:
        """The thread goes back to the guest by itself after the call's last operations, unless one fails."""

        def done(results: list[int] | None) -> None:
            if results is not None:
                self._finish(task, lambda: outcome.end(results))
            elif outcome.settled is not None:
                outcome.settled()

        context = task.context
        context.resume_with_ops(outcome.ops, outcome.result, done)
        outcome.note()

    def _finish(self, task: Task, thunk: Callable[[], Outcome]) -> None:
        """What a StubOp posted is done: evaluate what follows from it."""
        self._served = task
        task.wait = None
        if task.exiting:
            return
        self._complete_thunk(task, thunk)

    def _complete_thunk(self, task: Task, thunk: Callable[[], Outcome]) -> None:
        try:
            outcome = thunk()
        except LinuxError as error:
            outcome = -error.errno
        except WouldBlock:
            outcome = -errno.EAGAIN
        except Exception as error:
            self._bug(task, error)
            return
        self._complete(task, outcome)

    def exit_to_user(self, task: Task, result: int | None) -> None:
        """Back to guest code with `result` (None: with the registers as they stand), signals first."""
        context = task.context
        if task.signal_pending or result is None:
            if task.mm.loan is not None:  # who is to be told of a signal may stop, or never come back
                self._end_loan(task, lambda: NO_RETURN if result is None else result)
                return
            if not context.has_full_frame:
                context.take_frame(lambda: self.exit_to_user(task, result))
                return
            if task.signal_pending:
                shown = task.mm.patcher.to_original.get(context.regs.rip)
                if shown is not None:  # a guest sees its own code's addresses
                    context.regs.rip = shown
                try:
                    goes_on = deliver(task, result)
                except Exception as error:
                    self._bug(task, error)
                    return
                if not goes_on:
                    if not task.exiting and task.context_or_none is not None:
                        task.context.park()
                    return
            elif result is not None:
                context.regs.rax = result & 0xFFFFFFFFFFFFFFFF
            context.resume_registers()
            return
        context.resume(result)

    # --- tasks that were woken ---
    def _make_runner(self) -> Callable[[], None]:
        """`run_tasks()`: goes on with all that are runnable. A read that finds something is all done in this frame."""
        u64, runnable, live = self.platform.u64, self.kernel.runnable, self.kernel.standing.live
        run = self._run

        def run_tasks() -> None:
            if live:
                u64[live.pop()] = 0
            for _ in range(len(runnable)):
                task = runnable.popleft()
                self._served = task
                task.queued = False
                wait = task.wait
                if type(wait) is not ReadWait or task.signal_pending or task.exiting or self._trace is not None:
                    if not task.exiting:
                        run(task)
                    continue
                mm = task.mm
                context = task.context
                queue = task.waited_queue
                if not context.has_full_frame:
                    mm.fast = context
                    mm.brought = -1
                try:
                    outcome = wait.file.read_user(mm, wait.addr, wait.count)
                except WouldBlock:
                    outcome = None
                except LinuxError as error:
                    outcome = -error.errno
                except Exception as error:
                    mm.fast = mm.pending = None
                    self._bug(task, error)
                    continue
                mm.fast = None
                if outcome is None:
                    continue
                task.wait = None  # as Kernel.unpark
                task.state = "R"
                if queue is not None:
                    queue.entries.pop(task, None)
                task.waited_queue = None
                self._answer_read(task, context, mm, outcome)

        return run_tasks

    def _answer_read(self, task: Task, context: Context, mm: AddressSpace, count: int) -> None:
        """A read that waited found something; a signal may have come with it."""
        data = mm.pending
        if task.signal_pending:
            self._complete_thunk(task, partial(_flushed, mm, count))
        elif data is None:
            context.resume(count)
        else:
            mm.pending = None
            context.resume_with_copy(count, mm.pending_addr, data)

    def _run(self, task: Task) -> None:
        wait = task.wait
        if wait is None:
            context = task.context_or_none  # None at its end
            if context is not None and not context.in_guest and not task.in_stop:
                self.exit_to_user(task, None)
            return
        if isinstance(wait, StubOp):
            return
        kernel = self.kernel
        timed_out = task.timed_out
        if wait.retries:
            outcome = self._retry(task, wait)
            if outcome is NO_RETURN or task.exiting:
                return
            if outcome is not wait:
                kernel.unpark(task)
                self._complete(task, outcome)
                if type(outcome) is not Wait or task.wait is not outcome:
                    return
                wait = outcome
            # It goes on waiting: the deadline or signal that woke it still counts.
        if timed_out:
            kernel.unpark(task)
            self._complete_thunk(task, wait.on_timeout)
        elif task.signal_pending and (not wait.uninterruptible or task.group.exiting or task.zapped):
            self._interrupt(task, wait)

    def _retry(self, task: Task, wait: Wait) -> Outcome:
        """Go on with a call that was woken: its outcome, `wait` itself when it goes on waiting.

        NO_RETURN: nothing is left to do. So it is when the result is there and goes straight to the guest; as in
        `serve`, a last small copy to guest memory then travels with it.
        """
        context = task.context_or_none
        mm = task.mm_or_none
        if mm is not None and context is not None and not context.has_full_frame:
            mm.fast = context
            mm.brought = -1
        outcome: Outcome
        try:
            outcome = wait.retry()
        except WouldBlock:
            outcome = wait
        except LinuxError as error:
            outcome = -error.errno
        except Exception as error:
            if mm is not None:
                mm.fast = mm.pending = None
            self._bug(task, error)
            return NO_RETURN
        if mm is None:
            return outcome
        mm.fast = None
        if (
            isinstance(outcome, int)
            and outcome >= 0
            and self._trace is None
            and not task.signal_pending
            and not task.exiting
        ):
            assert context is not None
            self.kernel.unpark(task)
            if mm.pending is None:
                context.resume(outcome)
            else:
                data, mm.pending = mm.pending, None
                context.resume_with_copy(outcome, mm.pending_addr, data)
            return NO_RETURN
        if mm.pending is not None:
            try:
                mm.flush()
            except LinuxError as error:
                outcome = -error.errno
        return outcome

    def answer(self, task: Task, result: int) -> bool:
        """End the call for which `task` is parked with `result` at once, sparing it the way through `runnable`.

        False: something else has to be looked at first; mark it runnable, and let its Wait give the result.
        """
        if task.signal_pending or task.exiting or task.queued or self._trace is not None:
            return False
        self.kernel.unpark(task)
        task.context.resume(result)
        return True

    def _interrupt(self, task: Task, wait: Wait) -> None:
        """A signal ends the wait: a partial result, EINTR, or one of the restart codes."""
        self.kernel.unpark(task)
        result: int | None
        try:
            result = wait.on_signal()
        except LinuxError as error:
            result = -error.errno
        if result is None:
            result = -(wait.restart or errno.EINTR)
            if wait.restart == Restart.BLOCK:
                task.restart_call = wait.restart_call
        if self._trace is not None:
            self._trace.end(task, result)
        self.exit_to_user(task, result)

    # --- ends ---
    def _release_memory(self) -> None:
        """What ended tasks left, before anybody can ask what it holds: files that must not be written, or sealed."""
        self._served = None
        leaving = self.kernel.leaving
        while leaving:
            memory, context = leaving.pop()
            memory.release()
            if context is not None:
                context.kill()

    def _reap(self) -> None:
        """Host processes ended. One that was not asked to (the OOM killer, a guest's own doing) takes its task too."""
        platform = self.platform
        platform.reap()
        while platform.lost:
            context = platform.lost.pop()
            task = context.owner
            if task is not None and not task.exiting:
                exit_group(task, _SIGKILL)
            context.abandon()

    def _bug(self, task: Task, error: BaseException) -> None:
        """A bug of ours while `task` was served ends its process. One that is ending cannot be ended again: `error` is
        raised, and the sandbox ends, rather than that somebody waits for ever for what was left undone.
        """
        self.oops(task, error)
        if task.exiting:
            raise error
        exit_group(task, _SIGSYS_STATUS)

    def _log_oops(self, task: Task, error: BaseException) -> None:
        self.kernel.log.error("bug while serving %s (pid %d)", task.comm, task.group.pid, exc_info=error)


def _flushed(mm: AddressSpace, outcome: Outcome) -> Outcome:
    """`outcome`, once what was to travel with it is in guest memory. EFAULT."""
    if mm.pending is not None:
        mm.flush()
    return outcome

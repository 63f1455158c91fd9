"""The conformance suite: what every platform must do. Agnostic of the test runner.

A platform joins by a `Harness`: how to make it and how to give it a guest. `CHECKS` names the checks; each is a
function of a fresh harness and raises AssertionError. `Harness.executes` is False for a platform that runs no real
instructions (then what only code can show is not asked of it).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from platforms.base import Kind, Op

__all__ = ["CHECKS", "Harness"]

BASE: Final = 0x1000_0000
PAGE: Final = 4096
_RW, _R = 3, 1
_ANON: Final = 0x32  # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
_SHARED: Final = 0x31
_NO_FD: Final = 0xFFFF_FFFF_FFFF_FFFF
_MMAP, _MPROTECT, _MUNMAP, _MREMAP = 9, 10, 11, 25


class Harness(Protocol):
    """`platform` is started. The steps of a guest are those of platforms.testing.scripted (Call, Fault, Spin)."""

    executes: bool
    platform: Any

    def guest(self, *steps: Any) -> Any:
        """A held context with memory of its own that will do `steps` in order once it is resumed."""

    def child_steps(self, *steps: Any) -> None:
        """What the next forked context or thread does."""


def mmap_op(addr: int, pages: int = 1, prot: int = _RW, flags: int = _ANON) -> Op:
    return Op(_MMAP, (addr, pages * PAGE, prot, flags, _NO_FD, 0))


def collect(harness: Harness, limit: int = 2000) -> Any:
    """The next event."""
    for _ in range(limit):
        for context in harness.platform.collect(1_000_000):
            return context
    raise AssertionError("no event came")


def ops(harness: Harness, context: Any, *wanted: Op) -> list[int]:
    """Carry out operations and wait for their results."""
    found: list[list[int]] = []
    context.run_ops(list(wanted), found.append)
    _pump(harness, lambda: bool(found))
    return found[0]


def _pump(harness: Harness, until: Callable[[], bool]) -> None:
    for _ in range(2000):
        if until():
            return
        assert not harness.platform.collect(1_000_000), "an event that nobody asked for"
    raise AssertionError("it did not come about")


def write(context: Any, addr: int, data: bytes) -> int:
    return int(context.space.write_from(addr, bytearray(data), len(data)))


def read(context: Any, addr: int, length: int) -> tuple[int, bytes]:
    buffer = bytearray(length)
    done = int(context.space.read_into(addr, buffer, length))
    return done, bytes(buffer[: max(done, 0)])


def _calls(*numbers: int) -> list[Any]:
    from platforms.testing.scripted import Call

    return [Call(number, (1, 2, 3, 4, 5, 6)) for number in numbers]


def begin(harness: Harness, *steps: Any) -> Any:
    """A guest that has come to its first stop."""
    context = harness.guest(*steps)
    context.resume_registers() if harness.executes else context.resume(0)
    assert collect(harness) is context
    return context


# --- memory ---
def memory_is_mapped_read_and_written_up_to_holes(harness: Harness) -> None:
    context = begin(harness, *_calls(39))
    assert ops(harness, context, mmap_op(BASE, 2)) == [BASE]
    assert write(context, BASE + PAGE - 2, b"abcd") == 4
    assert read(context, BASE + PAGE - 2, 4) == (4, b"abcd")
    assert ops(harness, context, Op(_MUNMAP, (BASE + PAGE, PAGE, 0, 0, 0, 0))) == [0]
    assert read(context, BASE + PAGE - 2, 4) == (2, b"ab")
    assert write(context, BASE + PAGE - 1, b"xyz") == 1
    assert read(context, BASE + PAGE, 4)[0] == -errno.EFAULT
    assert write(context, BASE + PAGE, b"x") == -errno.EFAULT


def protection_is_kept(harness: Harness) -> None:
    context = begin(harness, *_calls(39))
    assert ops(harness, context, mmap_op(BASE)) == [BASE]
    assert write(context, BASE, b"kept") == 4
    assert ops(harness, context, Op(_MPROTECT, (BASE, PAGE, _R, 0, 0, 0))) == [0]
    assert write(context, BASE, b"lost") == -errno.EFAULT
    assert read(context, BASE, 4) == (4, b"kept")
    assert ops(harness, context, Op(_MPROTECT, (BASE, PAGE, _RW, 0, 0, 0))) == [0]
    assert write(context, BASE, b"new.") == 4


def memory_moves(harness: Harness) -> None:
    context = begin(harness, *_calls(39))
    assert ops(harness, context, mmap_op(BASE)) == [BASE]
    write(context, BASE, b"moves")
    target = BASE + 0x10_0000
    assert ops(harness, context, Op(_MREMAP, (BASE, PAGE, 2 * PAGE, 3, target, 0))) == [target]
    assert read(context, target, 5) == (5, b"moves")
    assert read(context, BASE, 1)[0] == -errno.EFAULT
    assert write(context, target + PAGE, b"more") == 4


def a_failing_operation_ends_its_batch(harness: Harness) -> None:
    context = begin(harness, *_calls(39))
    bad = Op(_MPROTECT, (BASE + 0x100_0000, PAGE, _RW, 0, 0, 0))
    results = ops(harness, context, mmap_op(BASE), bad, mmap_op(BASE + PAGE))
    assert results == [BASE, -errno.ENOMEM]
    assert read(context, BASE, 1)[0] == 1
    assert read(context, BASE + PAGE, 1)[0] == -errno.EFAULT


def fork_copies_private_memory_and_shares_shared(harness: Harness) -> None:
    parent = begin(harness, *_calls(57, 39))
    ops(harness, parent, mmap_op(BASE), mmap_op(BASE + PAGE, flags=_SHARED))
    write(parent, BASE, b"parent")
    harness.child_steps(*_calls(110))
    done: list[int] = []
    child = harness.platform.fork_space(parent, done.append, held=True, copy_frame=True)
    _pump(harness, lambda: bool(done))
    assert done[0] > 0
    write(child, BASE, b"child.")
    write(child, BASE + PAGE, b"both")
    assert read(parent, BASE, 6) == (6, b"parent")
    assert read(child, BASE, 6) == (6, b"child.")
    assert read(parent, BASE + PAGE, 4) == (4, b"both")
    parent.exit()
    assert read(child, BASE, 6) == (6, b"child.")
    child.exit()


def saved_memory_is_put_back(harness: Harness) -> None:
    context = begin(harness, *_calls(57))
    if not context.can_save():
        return
    ops(harness, context, mmap_op(BASE, 4))
    write(context, BASE, b"a" * 2 * PAGE)
    ranges = ((BASE + 8, PAGE), (BASE + 2 * PAGE, PAGE), (BASE + 0x1000_0000, PAGE))  # the last one is not there
    done: list[list[int]] = []
    context.save_memory(ranges, done.append)
    _pump(harness, lambda: bool(done))
    write(context, BASE, b"b" * 4 * PAGE)
    context.put_memory_back(done.append)
    _pump(harness, lambda: len(done) > 1)
    assert done == [[], []]
    expected = b"b" * 8 + b"a" * PAGE + b"b" * (PAGE - 8) + bytes(PAGE) + b"b" * PAGE
    assert read(context, BASE, 4 * PAGE) == (4 * PAGE, expected)
    context.exit()


def new_program_finds_what_was_left_for_it(harness: Harness) -> None:
    context = begin(harness, *_calls(39, 39))
    ops(harness, context, mmap_op(BASE, 2))
    write(context, BASE, b"a" * 2 * PAGE)
    rip = context.regs.rip
    if not context.fill([(BASE + 1, 2), (BASE + PAGE - 1, 2)], BASE + 5, b"text"):
        return
    assert not context.fill([], BASE, bytes(1 << 16))  # it is to be written by others
    assert read(context, BASE, 1) == (1, b"a")
    context.enter_program(rip, BASE + PAGE)
    context.resume_registers()
    context.await_filled()
    assert read(context, BASE, 10) == (10, b"a\0\0aatexta")
    assert read(context, BASE + PAGE - 2, 4) == (4, b"a\0\0a")
    assert collect(harness) is context
    assert context.nr == 39
    assert context.fill([], BASE + 2 * PAGE - 1, b"xy")  # it cannot be written
    context.resume_registers()
    assert collect(harness) is context
    assert context.kind == Kind.FAULT
    assert (context.fault[0], context.regs.rip) == (11, 0)
    context.exit()


def threads_share_memory(harness: Harness) -> None:
    parent = begin(harness, *_calls(56, 39))
    ops(harness, parent, mmap_op(BASE))
    harness.child_steps(*_calls(110))
    done: list[int] = []
    child = harness.platform.add_thread(parent, done.append)
    _pump(harness, lambda: bool(done))
    assert done[0] > 0
    write(child, BASE, b"shared")
    assert read(parent, BASE, 6) == (6, b"shared")
    assert child.space is parent.space
    child.exit()
    assert read(parent, BASE, 6) == (6, b"shared")
    parent.exit()


# --- calls, faults, interrupts ---
def calls_arrive_with_their_arguments_and_get_their_results(harness: Harness) -> None:
    context = begin(harness, *_calls(39, 102, 231))
    for number in (39, 102, 231):
        assert context.kind == Kind.SYSCALL
        assert context.nr == number
        assert tuple(context.args) == (1, 2, 3, 4, 5, 6)
        if number != 231:
            context.resume(-errno.EPERM)
            assert collect(harness) is context
            if harness.executes:
                assert context.regs.rbx == -errno.EPERM & 0xFFFFFFFFFFFFFFFF  # where the guest kept it
    context.exit()


def parked_context_is_answered_later(harness: Harness) -> None:
    context = begin(harness, *_calls(0, 39))
    context.park()
    assert harness.platform.collect(0) == []
    context.resume(7)
    assert collect(harness) is context
    assert context.nr == 39
    context.exit()


def registers_go_in_and_out(harness: Harness) -> None:
    context = begin(harness, *_calls(39, 102))
    regs = context.regs
    for k, name in enumerate(("r12", "r13", "r14", "r15", "rbp")):
        setattr(regs, name, 0x1111_0000_0000_0000 * (k + 1) + k)
    context.fs_base = BASE
    context.resume_registers()
    assert collect(harness) is context
    for k, name in enumerate(("r12", "r13", "r14", "r15", "rbp")):
        assert getattr(context.regs, name) == 0x1111_0000_0000_0000 * (k + 1) + k
    assert context.fs_base == BASE
    context.exit()


def floating_point_goes_in_and_out(harness: Harness) -> None:
    context = begin(harness, *_calls(39, 102))
    image = bytearray(context.fpstate())
    assert len(image) >= 512
    image[160:176] = bytes(range(16))  # xmm0
    if len(image) > 520:
        image[512] |= 2  # the extended header: SSE state is there
    context.set_fpstate(bytes(image))
    context.resume_registers()
    assert collect(harness) is context
    assert context.fpstate()[160:176] == bytes(range(16))
    context.exit()


def faults_name_address_and_code(harness: Harness) -> None:
    from platforms.testing.scripted import Fault

    context = begin(harness, Fault(11, 1, 0x5000_0000))
    assert context.kind == Kind.FAULT
    assert tuple(context.fault) == (11, 1, 0x5000_0000)
    context.exit()


def spinning_guest_is_interrupted(harness: Harness) -> None:
    from platforms.testing.scripted import Spin

    context = begin(harness, *_calls(39), Spin())
    context.resume(0)
    assert harness.platform.collect(2_000_000) == []
    context.interrupt()
    assert collect(harness) is context
    assert context.kind == Kind.INTERRUPTED
    context.resume_registers()
    context.interrupt()
    assert collect(harness) is context
    context.exit()


def killed_in_guest_code_and_held(harness: Harness) -> None:
    from platforms.testing.scripted import Spin

    spinning = begin(harness, *_calls(39), Spin())
    spinning.resume(0)
    spinning.kill()
    for _ in range(200):
        if spinning.dead:
            break
        assert harness.platform.collect(1_000_000) == []
    assert spinning.dead
    held = begin(harness, *_calls(39))
    held.kill()
    assert held.dead
    held.resume(0)  # too late, and harmless
    assert harness.platform.collect(1_000_000) == []


def many_contexts_at_once(harness: Harness) -> None:
    contexts = [harness.guest(*_calls(39, 102)) for _ in range(20)]
    for context in contexts:
        context.resume_registers() if harness.executes else context.resume(0)
    seen: dict[Any, list[int]] = {context: [] for context in contexts}
    for _ in range(2000):
        for each in harness.platform.collect(1_000_000):
            seen[each].append(each.nr)
            if len(seen[each]) < 2:
                each.resume(0)
        if all(len(numbers) == 2 for numbers in seen.values()):
            break
    assert all(numbers == [39, 102] for numbers in seen.values())
    for context in contexts:
        context.space.release()


CHECKS: Final[Sequence[Callable[[Harness], None]]] = (
    memory_is_mapped_read_and_written_up_to_holes,
    protection_is_kept,
    memory_moves,
    a_failing_operation_ends_its_batch,
    fork_copies_private_memory_and_shares_shared,
    saved_memory_is_put_back,
    new_program_finds_what_was_left_for_it,
    threads_share_memory,
    calls_arrive_with_their_arguments_and_get_their_results,
    parked_context_is_answered_later,
    registers_go_in_and_out,
    floating_point_goes_in_and_out,
    faults_name_address_and_code,
    spinning_guest_is_interrupted,
    killed_in_guest_code_and_held,
    many_contexts_at_once,
)

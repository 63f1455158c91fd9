"""The host process of an ended program as the next address space: clean whatever its program did, or not used at all.

Every check runs in a forked process (test_contract.py); its guests are assembled from the programs below.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from platforms.base import Op
from platforms.systrap import image as stub_image
from platforms.systrap import layout
from platforms.testing import contract
from tests.platforms.test_contract import CODE, file_with, made_ahead, map_file, run_apart, taken

PAGE = 4096
SLOT = layout.STUB_BASE + layout.SLOTS
SEEN = CODE + 0x4000  # where `look` puts what it sees
FRAME = CODE + 0x5000  # where a guest makes signal frames of its own
ALT = CODE + 0x8000  # its signal stack
PAGES = 16
ANON = 0x32
GETPID, EXIT_GROUP = 39, 231

MACROS = """
  .macro call nr
    mov $\\nr, %eax
    nop
    syscall
  .endm
  /* as if the stub had posted a system call, without being in it */
  .macro forge
    mov $231, %eax
    mov %rax, %gs:NR
    movl $SYSCALL_FAST, %gs:KIND
    mov $READY, %eax
    xchg %eax, %gs:STATE
  .endm
  /* until it is told to get ready for another program */
  .macro await_recycling
  9: cmpl $RESUME, %gs:STATE
    jne 9b
    cmpl $COMMAND_RECYCLE, %gs:COMMAND
    jne 9b
  .endm
  .macro to_site where
    mov $9, %eax
    xor %edi, %edi
    xor %esi, %esi
    xor %edx, %edx
    xor %r10d, %r10d
    xor %r8d, %r8d
    xor %r9d, %r9d
    movabs $\\where, %r11
    sub $2, %r11
    jmp *%r11
  .endm
  /* rt_sigreturn by the stub's own instruction, from a frame of this program's, going on at `to` */
  .macro sigreturn_to to
    lea \\to(%rip), %rax
    sigreturn 0x202
  .endm
  /* to the address in rax, rax then being 9 */
  .macro sigreturn flags
    movabs $FRAME, %rbx
    mov %rax, 40+16*8(%rbx)
    mov %rsp, 40+15*8(%rbx)
    movq $\\flags, 40+17*8(%rbx)
    movq $9, 40+13*8(%rbx)
    movabs $0x002b000000000033, %rax
    mov %rax, 40+18*8(%rbx)
    movq $6, (%rbx)
    movabs $ALT, %rax
    mov %rax, 16(%rbx)        /* the signal stack */
    movl $0, 24(%rbx)
    movq $0x4000, 32(%rbx)
    movq $0x400000, 296(%rbx) /* the Sentry's kick blocked */
    mov %rbx, %rsp
    mov $15, %eax
    movabs $IP_sigreturn, %r11
    sub $2, %r11
    jmp *%r11
  .endm
  .macro set_flag bits
    pushfq
    orq $\\bits, (%rsp)
    popfq
  .endm
"""

LOOK = """
  movabs $SEEN, %r15
  pushfq
  pop %rax
  mov %rax, (%r15)
  xor %eax, %eax
  mov %ds, %eax
  mov %rax, 8(%r15)
  mov %es, %eax
  mov %rax, 16(%r15)
  mov %fs, %eax
  mov %rax, 24(%r15)
  mov %gs, %eax
  mov %rax, 32(%r15)
  rdfsbase %rax
  mov %rax, 40(%r15)
  rdgsbase %rax
  mov %rax, 48(%r15)
  stmxcsr 56(%r15)
  fnstcw 60(%r15)
  movdqu %xmm0, 64(%r15)
  movdqu %xmm15, 80(%r15)
  call 39
  1: jmp 1b
"""

MARK_REGISTERS = """
  mov $0x2b, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs               /* its base too: back to the slot */
  movabs $SLOT, %rcx
  wrgsbase %rcx
  movabs $0x123456789000, %rax
  wrfsbase %rax
  pcmpeqd %xmm0, %xmm0
  pcmpeqd %xmm15, %xmm15
  movl $0x1f00, -8(%rsp)
  ldmxcsr -8(%rsp)
  movw $0x0c7f, -8(%rsp)
  fldcw -8(%rsp)
  set_flag 0x244400           /* ID, AC, NT, direction */
"""

# Memory where only the stub's own instruction can map it unasked, at the ends of what is to be wiped.
MAP_ALL_OVER = """
  .irp at, 0x10000, 0x7dfc00000000, 0x7e4100000000, 0x7f0000000000, 0x7fffffffe000
    mov $9, %eax
    movabs $\\at, %rdi
    mov $4096, %esi
    mov $3, %edx
    mov $0x32, %r10d
    mov $-1, %r8
    xor %r9d, %r9d
    lea 5f(%rip), %rcx
    push %rcx
    movabs $IP_op, %r11
    sub $2, %r11
    jmp *%r11
  5:
  .endr
"""


OWN_SIGNAL_STACK = """
  sigreturn_to 7f
  7:
"""

# What an honest stub would do first is left out: giving the memory back.
KEEP_ALL = """
  forge
  await_recycling
  to_site IP_recycle
"""


def assembled(text: str) -> bytes:
    image = stub_image.load()
    names = {**layout.CONSTANTS(), "SLOT": SLOT, "SEEN": SEEN, "FRAME": FRAME, "ALT": ALT}
    names |= {
        f"IP_{name.removesuffix('_ip')}": getattr(image, name) for name in image.__annotations__ if name[-3:] == "_ip"
    }
    with tempfile.TemporaryDirectory() as folder:
        source, target, flat = (Path(folder) / name for name in ("a.S", "a.o", "a.bin"))
        source.write_text("".join(f"#define {k} {v:#x}\n" for k, v in names.items()) + MACROS + text)
        subprocess.run(["cc", "-c", "-o", target, source], check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", target, flat], check=True)
        return flat.read_bytes()


def run(harness: Any, context: Any, text: str) -> Any:
    """Have a fresh context run a program, up to the first event that it makes or forges; its context again."""
    code = assembled(text)
    assert contract.ops(harness, context, contract.mmap_op(CODE, PAGES)) == [CODE]
    assert contract.write(context, CODE, code) == len(code)
    assert contract.ops(harness, context, Op(10, (CODE, PAGE, 5, 0, 0, 0))) == [0]
    regs = context.regs
    regs.rip, regs.rsp, regs.eflags = CODE, CODE + 0x3000, 0x202
    context.resume_registers()
    assert contract.collect(harness) is context
    return context


def fresh(harness: Any) -> Any:
    """A context of an address space forked from the pristine process."""
    assert not harness.platform.spares
    made_ahead(harness)
    return taken(harness)


def end(context: Any) -> None:
    context.exit()
    context.space.release()
    context.platform.tidy()


def recycled(harness: Any, context: Any) -> Any:
    """End the program of `context`; its host process is the spare then, this is its new context."""
    pid = context.tgid
    harness.platform.recycler.limit_ns = 10**10
    end(context)
    contract._pump(harness, lambda: bool(harness.platform.spares))
    assert harness.platform.spares[-1].tgid == pid
    assert harness.platform.recycler.pending is None
    return taken(harness)


def gone(harness: Any, context: Any, limit_ns: int = 10**10) -> None:
    """End the program of `context`: nothing of it is used again, and its process ends."""
    platform, pid = harness.platform, context.tgid
    platform.recycler.limit_ns = limit_ns
    end(context)
    for _ in range(2000):
        assert not platform.collect(100_000)
        platform.reap()
        while platform.lost:
            platform.lost.pop().abandon()
        assert not platform.spares
        if pid not in platform.spaces_by_pid:
            assert platform.recycler.pending is None
            assert platform.counts()["processes"] == platform.counts()["contexts"]
            assert pid not in platform.by_tid
            return
        time.sleep(0.001)
    raise AssertionError("its process is still there")


def looks(pid: int) -> dict[str, Any]:
    """What the host shows of a process, but for what differs between any two: ids, times, its region of the arena."""
    at = Path(f"/proc/{pid}")
    maps = re.sub(r" [0-9a-f]{8} ([0-9a-f:]+ \d+ +/memfd:arena)", r" \1", (at / "maps").read_text())
    status = {}
    for line in (at / "status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key not in ("Tgid", "Pid", "PPid", "Ngid", "NSpid", "NStgid", "NSpgid", "NSsid") and not key.endswith(
            "switches"
        ):
            status[key] = value.split()
    # FDSize: how many descriptors the host's table has room for, which does not become less. SigQ counts all signals of
    # the user's.
    for key in [key for key in status if key.startswith(("Vm", "Rss", "FDSize", "SigQ"))]:
        del status[key]
    return {
        "maps": maps.splitlines(),
        **status,
        "fds": sorted((name, os.readlink(at / "fd" / name)) for name in os.listdir(at / "fd")),
        "limits": (at / "limits").read_text(),
        "personality": (at / "personality").read_text(),
        "slack": (at / "timerslack_ns").read_text(),
        "timers": (at / "timers").read_text(),
        "oom": (at / "oom_score_adj").read_text(),
        "affinity": os.sched_getaffinity(pid),
        "priority": os.getpriority(os.PRIO_PROCESS, pid),
        "directory": os.readlink(at / "cwd"),
    }


def asleep(context: Any) -> int:
    """Its process, when it waits in its notification."""
    for _ in range(1000):
        if "S (sleeping)" in Path(f"/proc/{context.tgid}/status").read_text():
            return int(context.tgid)
        time.sleep(0.001)
    raise AssertionError("it does not wait")


def seen(harness: Any, context: Any) -> bytes:
    """What a program sees of registers at its start."""
    run(harness, context, LOOK)
    count, data = contract.read(context, SEEN, 96)
    assert count == 96
    return data


# --- what comes out ---
def process_is_as_a_fork_of_the_pristine_one(harness: Any) -> None:
    first = fresh(harness)
    wanted = looks(asleep(first))
    before = harness.platform.counts()
    files = [map_file(CODE + 0x200000 + page * PAGE, file_with(b"file")) for page in range(layout.RECYCLED_FDS - 1)]
    assert len(contract.ops(harness, first, *files)) == len(files)  # so that the next gets a high number
    run(harness, first, "call 39" + MAP_ALL_OVER + MARK_REGISTERS + OWN_SIGNAL_STACK + KEEP_ALL)
    first.resume_with_ops([map_file(CODE + 0x100000, file_with(b"left"))], 0, lambda _: None)  # it stays handed in
    assert contract.collect(harness) is first
    marked = looks(first.tgid)
    assert len(marked["maps"]) >= len(wanted["maps"]) + 6
    assert len(marked["fds"]) == len(wanted["fds"]) + 1
    assert marked["SigBlk"] != wanted["SigBlk"]
    second = recycled(harness, first)
    found = looks(asleep(second))
    assert {key: (found[key], value) for key, value in wanted.items() if found[key] != value} == {}
    assert harness.platform.counts() == before
    assert contract.read(second, CODE, 16)[0] < 0


def registers_are_as_in_a_fork_of_the_pristine_one(harness: Any) -> None:
    first = fresh(harness)
    wanted = seen(harness, first)
    wanted = (
        wanted[:40] + bytes(8) + wanted[48:]
    )  # a new process has the FS base of the Sentry until it is told another
    second = recycled(harness, first)
    run(harness, second, MARK_REGISTERS + LOOK)
    assert contract.read(second, SEEN, 96)[1] != wanted
    third = recycled(harness, second)
    assert seen(harness, third) == wanted


def cpu_time_is_its_own(harness: Any) -> None:
    first = run(harness, fresh(harness), "mov $300000000, %ecx\n 1: dec %ecx\n jnz 1b\n call 39")
    used = first.cpu_time_ns()
    second = recycled(harness, first)
    assert second.cpu_time_ns() < used / 4


def slot_has_nothing_of_the_last_program(harness: Any) -> None:
    first = fresh(harness)
    platform, region = harness.platform, first.space.header_offset
    scribble = """
      movabs $(STUB_BASE + HEADER), %rdi
      mov $(REGION_SIZE / 8), %ecx
      movabs $0x5a5a5a5a5a5a5a5a, %rax
      cld
      rep stosq                 /* the whole region, and with it this thread's own slot */
      movabs $SLOT, %rax
      movq $0, %gs:WAITING
      mov %rax, %gs:SELF
    """
    run(harness, first, scribble + KEEP_ALL)
    second = recycled(harness, first)
    assert second.space.header_offset == region
    left = bytes(platform.arena.view[region : region + layout.REGION_SIZE])
    assert b"\x5a\x5a" not in left


def it_goes_on_for_ever(harness: Any) -> None:
    context = fresh(harness)
    pid = context.tgid
    for turn in range(20):
        assert contract.ops(harness, context, map_file(CODE - PAGE, file_with(b"turn"))) == [CODE - PAGE]
        run(harness, context, "call 39")
        assert contract.read(context, CODE - PAGE, 4) == (4, b"turn"), turn
        context = recycled(harness, context)
        assert context.tgid == pid
    assert harness.platform.counts()["regions"] == 2


# --- hostile ones ---
def one_that_keeps_its_memory_loses_it(harness: Any) -> None:
    first = fresh(harness)
    wanted = looks(asleep(first))["maps"]
    run(harness, first, MAP_ALL_OVER + KEEP_ALL)
    assert looks(asleep(recycled(harness, first)))["maps"] == wanted


def one_that_skips_the_wiping_is_killed(harness: Any) -> None:
    gone(harness, run(harness, fresh(harness), "forge\n await_recycling\n to_site IP_recycled"))


def one_that_asks_for_something_else_is_killed(harness: Any) -> None:
    gone(harness, run(harness, fresh(harness), "forge\n await_recycling\n to_site IP_hello"))


def one_that_goes_on_by_itself_is_killed(harness: Any) -> None:
    gone(harness, run(harness, fresh(harness), "forge\n 1: jmp 1b"), 10**7)


def trap_flag_ends_it(harness: Any) -> None:
    """Every instruction behind the first notification would come to a handler on the guest's own stack."""
    text = "forge\n await_recycling\n movabs $(IP_recycle - 2), %rax\n sigreturn 0x302"
    gone(harness, run(harness, fresh(harness), text))


def signal_stack_is_not_its_own_any_more(harness: Any) -> None:
    second = recycled(harness, run(harness, fresh(harness), OWN_SIGNAL_STACK + KEEP_ALL))
    assert contract.ops(harness, second, contract.mmap_op(ALT & -PAGE, 8)) == [ALT & -PAGE]
    os.kill(second.tgid, layout.KICK_SIGNAL)  # while it is in the stub
    assert contract.ops(harness, second, contract.mmap_op(CODE - PAGE)) == [CODE - PAGE]
    assert contract.read(second, ALT, 0x4000)[1] == bytes(0x4000)
    assert seen(harness, second)


# --- those of whom something may be elsewhere ---
def one_that_shared_memory_is_not_used_again(harness: Any) -> None:
    context = fresh(harness)
    assert contract.ops(harness, context, contract.mmap_op(CODE - PAGE, flags=0x31)) == [CODE - PAGE]
    gone(harness, run(harness, context, "call 39"))


def child_of_one_that_shared_memory_is_not_used_again(harness: Any) -> None:
    context = fresh(harness)
    assert contract.ops(harness, context, contract.mmap_op(CODE - PAGE, flags=0x31)) == [CODE - PAGE]
    gone(harness, forked(harness, run(harness, context, "call 39")))


def forked(harness: Any, parent: Any) -> Any:
    found: list[int] = []
    child = harness.platform.fork_space(parent, found.append, held=True, copy_frame=True)
    contract._pump(harness, lambda: bool(found))
    assert found[0] > 0
    return child


def child_is_used_again_and_its_parent_is_not(harness: Any) -> None:
    parent = run(harness, fresh(harness), "call 39\n call 39")
    child = forked(harness, parent)
    again = recycled(harness, child)
    assert seen(harness, again)
    gone(harness, parent)


def one_with_threads_is_not_used_again(harness: Any) -> None:
    parent = run(harness, fresh(harness), "call 39")
    found: list[int] = []
    harness.platform.add_thread(parent, found.append)
    contract._pump(harness, lambda: bool(found))
    gone(harness, parent)


def one_that_was_interrupted_is_not_used_again(harness: Any) -> None:
    context = run(harness, fresh(harness), "call 39\n 1: jmp 1b")
    context.resume(0)
    context.interrupt()
    assert contract.collect(harness) is context
    gone(harness, context)


def one_that_had_many_files_is_not_used_again(harness: Any) -> None:
    context = fresh(harness)
    files = [map_file(CODE + page * PAGE, file_with(b"file")) for page in range(layout.RECYCLED_FDS + 1)]
    assert len(contract.ops(harness, context, *files)) == len(files)
    gone(harness, run(harness, context, "call 39"))


class Host:
    """A file of the Sentry's."""

    def __init__(self, text: bytes) -> None:
        self.fd = file_with(text)


def counted(harness: Any) -> list[int]:
    """Host descriptors that are handed in from now on."""
    handed: list[int] = []
    hand_in = harness.platform.hand_in

    def counting(ident: int, files: Any, answer: bool = False) -> int:
        handed.extend(fd for fd, _ in files)
        return int(hand_in(ident, files, answer))

    harness.platform.hand_in = counting
    return handed


def with_files(harness: Any, files: list[Host], text: str = "call 39") -> tuple[Any, list[int]]:
    """A program that has run to its end with these files, handed in ahead; its context, and their numbers."""
    context = fresh(harness)
    numbers = context.hand_ahead(files)
    mappings = [map_file(CODE + 0x100000 + k * PAGE, file.fd) for k, file in enumerate(files)]
    assert contract.ops(harness, context, *mappings) == [op.args[0] for op in mappings]
    context.forget_ahead()
    context.change_log().name_ahead(numbers)
    context.let_tell(64)
    run(harness, context, text)
    return context, numbers


def maps(harness: Any, context: Any, number: int) -> list[int]:
    """What comes of a mapping of what has this number in the process."""
    return contract.ops(harness, context, Op(9, (CODE + 0x200000, PAGE, 1, 0x12, number, 0)))  # type: ignore[no-any-return]


def files_stay_for_the_next_program(harness: Any) -> None:
    one, two, three = Host(b"one"), Host(b"two"), Host(b"three")
    first, numbers = with_files(harness, [one, two])
    second = recycled(harness, first)
    handed = counted(harness)
    again = second.hand_ahead([three, two])
    assert handed == [three.fd]
    assert again[1] == numbers[1]
    mappings = [map_file(CODE, three.fd), map_file(CODE + PAGE, two.fd)]
    assert contract.ops(harness, second, *mappings) == [CODE, CODE + PAGE]
    assert contract.read(second, CODE, 5) == (5, b"three")
    assert contract.read(second, CODE + PAGE, 3) == (3, b"two")
    assert maps(harness, second, numbers[0]) == [-errno.EBADF]
    assert maps(harness, second, numbers[1]) == [CODE + 0x200000]
    second.exit()


def files_that_the_next_program_may_not_have_go(harness: Any) -> None:
    files = [Host(b"one"), Host(b"two"), Host(b"three")]
    # the first of them is gone already when all are to be closed
    closes = f"mov $3, %eax\n mov ${layout.DONATED_FD}, %edi\n lea 5f(%rip), %rcx\n push %rcx\n"
    closes += "movabs $IP_close, %r11\n sub $2, %r11\n jmp *%r11\n 5:\n call 39"
    first, numbers = with_files(harness, files, closes)
    assert numbers[0] == layout.DONATED_FD
    second = recycled(harness, first)
    assert second.hand_ahead([]) == []
    assert contract.ops(harness, second, contract.mmap_op(CODE, 1)) == [CODE]
    assert [maps(harness, second, number) for number in numbers] == [[-errno.EBADF]] * 3
    assert harness.platform.counts()["posted"] == 0
    second.exit()


def file_that_is_missing_is_handed_in_anew(harness: Any) -> None:
    one, two = Host(b"one"), Host(b"two")
    closes = f"mov $3, %eax\n mov ${layout.DONATED_FD + 1}, %edi\n lea 5f(%rip), %rcx\n push %rcx\n"
    closes += "movabs $IP_close, %r11\n sub $2, %r11\n jmp *%r11\n 5:\n call 39"
    first, _ = with_files(harness, [one, two], closes)
    second = recycled(harness, first)
    second.hand_ahead([one, two])
    mappings = [map_file(CODE, one.fd), map_file(CODE + PAGE, two.fd)]
    assert contract.ops(harness, second, *mappings) == [CODE, -errno.EBADF]
    second.exit()
    second.space.release()
    made_ahead(harness)
    third = taken(harness)
    handed = counted(harness)
    third.hand_ahead([one, two], anew=True)
    assert handed == [one.fd, two.fd]
    assert contract.ops(harness, third, *mappings) == [CODE, CODE + PAGE]
    third.exit()


def file_that_a_program_closed_does_not_stay(harness: Any) -> None:
    one, two = Host(b"one"), Host(b"two")
    first, numbers = with_files(harness, [one, two])
    words = harness.platform.u64
    at = (first.space.header_offset + layout.AHEAD) // 8
    words[at + 1] = 0  # as its stub does when it closes it
    words[at + 2] = layout.DONATED_FD + 5  # never handed in
    second = recycled(harness, first)
    handed = counted(harness)
    second.hand_ahead([one, two])
    assert handed == [two.fd]
    assert contract.ops(harness, second, map_file(CODE, two.fd)) == [CODE]
    assert contract.read(second, CODE, 3) == (3, b"two")
    assert maps(harness, second, layout.DONATED_FD + 5) == [-errno.EBADF]
    assert maps(harness, second, numbers[0]) == [CODE + 0x200000]
    second.exit()


def they_end_with_the_sentry(harness: Any) -> None:
    """Whose listener is closed, as it is when its process ends."""
    platform = harness.platform
    spare, other = recycled(harness, fresh(harness)), fresh(harness)
    asleep(spare)
    os.close(platform.listener)
    end(other)
    assert platform.recycler.pending is not None
    for context in (spare, other):
        for _ in range(1000):
            if os.waitpid(context.tgid, os.WNOHANG)[0]:
                break
            time.sleep(0.001)
        else:
            raise AssertionError("it is still there")


def who_asks_meanwhile_gets_it(harness: Any) -> None:
    context = run(harness, fresh(harness), "call 39")
    recycler = harness.platform.recycler
    recycler.limit_ns = recycler.wanted_limit_ns = 10**10
    made: list[Any] = []
    end(context)
    harness.platform.new_space(lambda made_context, result: made.append(made_context))
    contract._pump(harness, lambda: bool(made))
    assert (made[0].tgid, harness.platform.spares) == (context.tgid, [])


def who_waits_for_one_that_dies_gets_another(harness: Any) -> None:
    context = run(harness, fresh(harness), "forge\n 1: jmp 1b")
    end(context)
    assert harness.platform.recycler.pending is not None
    made: list[Any] = []
    harness.platform.new_space(lambda made_context, result: made.append(made_context))
    contract._pump(harness, lambda: bool(made))
    assert made[0].tgid != context.tgid
    assert seen(harness, made[0])


def nothing_happens_to_an_ended_one_until_there_is_time(harness: Any) -> None:
    platform = harness.platform
    platform.recycler.limit_ns = 10**10
    first = run(harness, fresh(harness), "call 39")
    made_ahead(harness)
    before = platform.counts()
    first.exit()
    first.space.release()
    assert not platform.is_asked and not platform.collect(1_000_000)
    assert platform.recycler.count == 1 and platform.recycler.pending is None
    assert platform.counts()["processes"] == before["processes"] - 1
    taken(harness)  # the guests wait for us meanwhile
    assert platform.is_asked and not platform.busy
    contract._pump(harness, lambda: bool(platform.spares))
    assert platform.spares[-1].tgid == first.tgid and platform.recycler.count == 0


def who_had_to_wait_has_another_one_made(harness: Any) -> None:
    """From then on one program can begin while the one before is taken apart."""
    platform = harness.platform
    platform.recycler.limit_ns = platform.recycler.wanted_limit_ns = 10**10
    first = run(harness, fresh(harness), "call 39")
    first.exit()
    first.space.release()
    made: list[Any] = []
    platform.new_space(lambda context, result: made.append(context))
    assert platform.busy and not made
    contract._pump(harness, lambda: bool(made))
    platform.tidy()
    contract._pump(harness, lambda: bool(platform.spares))
    platform.tidy()
    assert not platform.busy and len(platform.spares) == 1


def of_many_that_end_at_once_few_are_kept(harness: Any) -> None:
    platform = harness.platform
    platform.recycler.limit_ns = 10**10
    many = []
    for _ in range(5):
        made_ahead(harness)
        many.append(run(harness, taken(harness), "call 39"))
    for context in many:
        context.exit()
        context.space.release()
    kept = platform.recycler.count
    assert 1 <= kept < len(many)
    for _ in range(kept):
        platform.tidy()
        contract._pump(harness, lambda: platform.recycler.pending is None)
    assert len(platform.spares) == kept


CHECKS = (
    process_is_as_a_fork_of_the_pristine_one,
    registers_are_as_in_a_fork_of_the_pristine_one,
    slot_has_nothing_of_the_last_program,
    it_goes_on_for_ever,
    one_that_keeps_its_memory_loses_it,
    one_that_skips_the_wiping_is_killed,
    one_that_asks_for_something_else_is_killed,
    one_that_goes_on_by_itself_is_killed,
    trap_flag_ends_it,
    signal_stack_is_not_its_own_any_more,
    one_that_shared_memory_is_not_used_again,
    child_of_one_that_shared_memory_is_not_used_again,
    child_is_used_again_and_its_parent_is_not,
    one_with_threads_is_not_used_again,
    one_that_was_interrupted_is_not_used_again,
    one_that_had_many_files_is_not_used_again,
    they_end_with_the_sentry,
    files_stay_for_the_next_program,
    files_that_the_next_program_may_not_have_go,
    file_that_is_missing_is_handed_in_anew,
    file_that_a_program_closed_does_not_stay,
    cpu_time_is_its_own,
    who_asks_meanwhile_gets_it,
    who_waits_for_one_that_dies_gets_another,
    nothing_happens_to_an_ended_one_until_there_is_time,
    who_had_to_wait_has_another_one_made,
    of_many_that_end_at_once_few_are_kept,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_recycling(check: Callable[[Any], None]) -> None:
    run_apart(check)

"""/proc/PID/stat and statm (proc_pid_stat(5), proc_pid_statm(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.sentry.devices.terminal.terminal import controlling_terminal
from services.sentry.filesystems.proc.access import may_read, mm_of
from services.sentry.filesystems.proc.task.usage import usage_of

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = [
    "children",
    "encode_device",
    "group_stat",
    "priority_of",
    "signal_sets",
    "state_letter",
    "statm",
    "thread_stat",
]

TICK_NS: Final = 10_000_000
PAGE: Final = 4096
PF_FORKNOEXEC: Final = 0x40
PF_RANDOMIZE: Final = 0x400000
INFINITY: Final = 0xFFFFFFFFFFFFFFFF


def state_letter(target: Task) -> str:
    """R, S, D, T or Z; a leader whose other threads live on is Z as well."""
    if target.group.is_dead or (target.exiting and mm_of(target) is None):
        return "Z"
    return target.current_state()


def encode_device(number: int) -> int:
    """A device number as old interfaces show it (linux/kdev_t.h new_encode_dev)."""
    import os

    major, minor = os.major(number), os.minor(number)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def priority_of(target: Task) -> tuple[int, int]:
    """(priority, nice) as the stat file shows them: 20 + nice, or -1 - priority for real-time policies."""
    if target.sched_policy in (1, 2):
        return -1 - target.sched_priority, target.nice
    return 20 + target.nice, target.nice


def signal_sets(target: Task) -> tuple[int, int, int, int]:
    """Masks: pending (thread), blocked, ignored, caught."""
    ignored = caught = 0
    for signo in range(1, 65):
        handler = target.group.sighand.actions[signo].handler
        if handler == 1:
            ignored |= 1 << (signo - 1)
        elif handler:
            caught |= 1 << (signo - 1)
    return target.pending.signals, target.signal_mask, ignored, caught


def _stat(reader: Task, target: Task, whole_group: bool) -> bytes:
    group, kernel, mm = target.group, target.kernel, mm_of(target)
    allowed = may_read(reader, target)
    terminal = controlling_terminal(group.session)
    tty, foreground = 0, -1
    if terminal is not None:
        tty = encode_device(terminal.number)
        foreground = terminal.foreground.id if terminal.foreground is not None else -1
    used = group.cpu_time_ns() if whole_group else target.cpu_time_ns()
    priority, nice = priority_of(target)
    started = (target.start_time_ns - kernel.boot_monotonic_ns) // TICK_NS
    usage = usage_of(mm) if mm is not None else None
    pending, blocked, ignored, caught = (mask & 0x7FFFFFFF for mask in signal_sets(target))
    process_group = group.process_group
    fields: list[int] = [
        group.parent.pid if group.parent is not None else 0,
        process_group.id if process_group is not None else 0,
        group.session.id,
        tty,
        foreground,
        PF_RANDOMIZE | (0 if group.did_exec else PF_FORKNOEXEC),
        0, 0, 0, 0,  # page faults
        used // TICK_NS, 0, group.children_cpu_ns // TICK_NS, 0,
        priority, nice, len(group.tasks), 0, max(0, started),
        usage.size if usage else 0,
        usage.resident // PAGE if usage else 0,
        group.rlimits[5][0],  # RLIMIT_RSS
    ]  # fmt: skip
    if mm is None:
        fields += [0] * 5
    elif allowed:
        fields += [_text_start(target), _text_start(target) + (usage.text if usage else 0), mm.stack_start, 0, 0]
    else:
        fields += [1, 1, 0, 0, 0]
    fields += [pending, blocked, ignored, caught, 0, 0, 0, group.exit_signal, 0, target.sched_priority]
    fields += [target.sched_policy, 0, 0, 0]
    if mm is not None and allowed:
        fields += [0, 0, mm.brk_start, mm.arg_start, mm.arg_end, mm.env_start, mm.env_end]
        fields.append(group.exit_status if group.is_dead else 0)
    else:
        fields += [0] * 8
    head = b"%d (%b) %b " % (target.tid, target.comm, state_letter(target).encode())
    return head + b" ".join(b"%d" % field for field in fields) + b"\n"


def _text_start(target: Task) -> int:
    for area in target.mm.vmas:
        if area.file is not None and area.prot & 4:
            return area.start
    return 0


def group_stat(reader: Task, target: Task) -> bytes:
    """/proc/PID/stat: times of the whole process."""
    return _stat(reader, target, whole_group=True)


def thread_stat(reader: Task, target: Task) -> bytes:
    """/proc/PID/task/TID/stat: times of the thread."""
    return _stat(reader, target, whole_group=False)


def statm(reader: Task, target: Task) -> bytes:
    mm = mm_of(target)
    if mm is None:
        return b"0 0 0 0 0 0 0\n"
    usage = usage_of(mm)
    numbers = (usage.size, usage.resident, usage.file, usage.text, 0, usage.data + usage.stack, 0)
    return b" ".join(b"%d" % (number // PAGE) for number in numbers) + b"\n"


def children(reader: Task, target: Task) -> bytes:
    """/proc/PID/task/TID/children: children made by this thread."""
    group = target.group
    mine = [
        child.pid
        for child in group.children.values()
        if child.parent_thread is target or (target is group.leader and child.parent_thread not in group.tasks.values())
    ]
    return b"".join(b"%d " % pid for pid in mine)

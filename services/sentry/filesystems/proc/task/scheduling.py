"""/proc/PID/{sched,schedstat,wchan,syscall,stack,timers,timens_offsets}: what the task does and waits for (proc(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sentry.filesystems.proc.task.stat_ import priority_of

if TYPE_CHECKING:
    from services.sentry.kernel.task import Task

__all__ = ["sched", "schedstat", "syscall", "timens_offsets", "timers", "wchan"]


def schedstat(reader: Task, target: Task) -> bytes:
    """ns on a processor, ns waiting for one (unknown), time slices."""
    return b"%d 0 %d\n" % (target.cpu_time_ns(), target.voluntary_switches())


def sched(reader: Task, target: Task) -> bytes:
    used = target.cpu_time_ns()
    priority, _ = priority_of(target)
    rows = (
        ("se.exec_start", f"{target.kernel.uptime_ns() / 1e6:.6f}"),
        ("se.vruntime", f"{used / 1e6:.6f}"),
        ("se.sum_exec_runtime", f"{used / 1e6:.6f}"),
        ("se.nr_migrations", "0"),
        ("nr_switches", str(target.voluntary_switches())),
        ("nr_voluntary_switches", str(target.voluntary_switches())),
        ("nr_involuntary_switches", "0"),
        ("se.load.weight", "1048576"),
        ("policy", str(target.sched_policy)),
        ("prio", str(100 + priority)),
    )
    name = target.comm.decode("utf-8", "replace")
    head = f"{name} ({target.tid}, #threads: {len(target.group.tasks)})\n" + "-" * 67 + "\n"
    return (head + "".join(f"{name:<45}:{value:>21}\n" for name, value in rows)).encode()


def wchan(reader: Task, target: Task) -> bytes:
    """The kernel function it sleeps in: only whether it sleeps is told."""
    return b"do_wait" if target.wait is not None or target.current_state() == "S" else b"0"


def syscall(reader: Task, target: Task) -> bytes:
    """proc_pid_syscall(5): arguments are not kept, so a sleeping task shows -1 and its stack and program counters."""
    if target.wait is None:
        return b"running\n"
    context = target.context_or_none
    registers = None if context is None else context.regs
    sp, pc = (registers.rsp, registers.rip) if registers is not None else (0, 0)
    return b"-1 0x%x 0x%x\n" % (sp, pc)


def timers(reader: Task, target: Task) -> bytes:
    """POSIX timers are not listed."""
    return b""


def timens_offsets(reader: Task, target: Task) -> bytes:
    return b"monotonic           0         0\nboottime            0         0\n"

"""Files about what the system does: stat, uptime, loadavg, interrupts, softirqs, schedstat, pressure (proc(5))."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.sentry.kernel.kernel import Kernel
    from services.sentry.kernel.task import Task

__all__ = ["interrupts", "loadavg", "pressure", "schedstat", "softirqs", "stat", "uptime"]

TICK_NS: Final = 10_000_000  # USER_HZ is 100
_SOFTIRQS: Final = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU")


def busy_ns(kernel: Kernel) -> int:
    """CPU time that the guest used since start: of living processes and of the children they waited for."""
    return sum(group.cpu_time_ns() + group.children_cpu_ns for group in kernel.groups.values())


def running(kernel: Kernel) -> int:
    """Tasks that run or could (state R)."""
    return sum(task.current_state() == "R" for task in kernel.tasks.values())


def stat(reader: Task) -> bytes:
    """proc_stat(5). All guest time is user time, spread evenly over the processors."""
    kernel = reader.kernel
    count = kernel.cpu_count
    used = busy_ns(kernel) // TICK_NS
    whole = kernel.uptime_ns() * count // TICK_NS
    idle = max(0, whole - used)
    lines = [f"cpu  {used} 0 0 {idle} 0 0 0 0 0 0"]
    lines += [f"cpu{number} {used // count} 0 0 {idle // count} 0 0 0 0 0 0" for number in range(count)]
    blocked = sum(task.state == "D" for task in kernel.tasks.values())
    switches = sum(task.voluntary_switches() for task in kernel.tasks.values())
    lines += [
        "intr 0",
        f"ctxt {switches}",
        f"btime {kernel.boot_realtime_ns // 1_000_000_000}",
        f"processes {max(kernel.forks, len(kernel.tasks))}",
        f"procs_running {max(1, running(kernel))}",
        f"procs_blocked {blocked}",
        "softirq 0 0 0 0 0 0 0 0 0 0 0",
    ]
    return ("\n".join(lines) + "\n").encode()


def _hundredths(value_ns: int) -> bytes:
    return b"%d.%02d" % (value_ns // 1_000_000_000, value_ns // TICK_NS % 100)


def uptime(reader: Task) -> bytes:
    kernel = reader.kernel
    up = kernel.uptime_ns()
    idle = max(0, up * kernel.cpu_count - busy_ns(kernel))
    return _hundredths(up) + b" " + _hundredths(idle) + b"\n"


def loadavg(reader: Task) -> bytes:
    """The averages are 0: nothing samples the run queue."""
    kernel = reader.kernel
    last = max(kernel.tasks, default=0)
    return b"0.00 0.00 0.00 %d/%d %d\n" % (max(1, running(kernel)), len(kernel.tasks), last)


def interrupts(reader: Task) -> bytes:
    return b"           " + b"".join(b"CPU%-8d" % number for number in range(reader.kernel.cpu_count)) + b"\n"


def softirqs(reader: Task) -> bytes:
    count = reader.kernel.cpu_count
    head = "                    " + "".join(f"CPU{number:<8d}" for number in range(count))
    rows = [f"{name + ':':>13}" + " ".join(f"{0:>10d}" for _ in range(count)) for name in _SOFTIRQS]
    return ("\n".join([head, *rows]) + "\n").encode()


def schedstat(reader: Task) -> bytes:
    kernel = reader.kernel
    head = f"version 15\ntimestamp {kernel.uptime_ns() // 1_000_000}\n"
    return (head + "".join(f"cpu{number} 0 0 0 0 0 0 0 0 0\n" for number in range(kernel.cpu_count))).encode()


def pressure(kinds: tuple[bytes, ...]) -> Callable[[Task], bytes]:
    """/proc/pressure/*: no stall is ever measured."""

    def render(reader: Task) -> bytes:
        return b"".join(kind + b" avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" for kind in kinds)

    return render

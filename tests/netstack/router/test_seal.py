"""The seal: what a sealed router may call, counted; what it may not, tried; and what a running one has left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.sealing.rows import distinct_calls
from services.netstackd import host_filter
from tests.netstack.networks import ROOT, Sides, World

FORBIDDEN = {
    "socket", "connect", "bind", "listen", "open", "openat", "openat2", "creat", "execve", "execveat",
    "fork", "vfork", "clone", "clone3", "kill", "tkill", "ptrace", "mount", "setns", "unshare", "process_vm_readv",
    "process_vm_writev", "pidfd_getfd", "bpf", "io_uring_setup", "memfd_create", "dup", "dup2", "dup3", "mprotect",
}  # fmt: skip

ATTEMPT = """
import ctypes, errno, os, socket, subprocess, sys
from protocol.sealing.seal_unsafe import compile_filter, errno_action, seal
from services.netstackd import host_filter
read_end, write_end = os.pipe()
rows = (*host_filter.SEALED, host_filter.wake_by(write_end))
libc = ctypes.CDLL(None, use_errno=True)
actions = {
    "socket": lambda: socket.socket(),
    "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "create": lambda: os.open("/tmp/x", os.O_CREAT | os.O_WRONLY),
    "fork": lambda: os.fork(),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "ioctl": lambda: __import__("fcntl").ioctl(write_end, 0x5401),
    "write elsewhere": lambda: os.write(1, b"no"),
    "executable memory": lambda: __import__("mmap").mmap(-1, 4096, prot=7),
    "socketpair elsewhere": lambda: socket.socketpair(socket.AF_INET, socket.SOCK_STREAM),
    "setsockopt": lambda: out.setsockopt(socket.IPPROTO_TCP, 1, 1),
    "another's processors": lambda: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0)),
}
import fcntl, mmap
from services.netstackd.edge.processors import open_processors
found = open_processors()
out, other = socket.socketpair()
done = errno.EXDEV
keep = {1, 2, read_end, write_end, out.fileno(), other.fileno(), *(found[1] if found else ())}
seal(rows, keep_fds=keep, program=compile_filter(rows, errno_action(done)))
for name, attempt in actions.items():
    try:
        attempt()
        said = "allowed"
    except OSError as error:
        said = "refused" if error.errno == done else f"errno {error.errno}"
    os.write(2, f"{name}={said}\\n".encode())
os.write(write_end, b"x")
if found:
    found[0].look(1)
    found[0].look(2)
    if len(found[0]._all) > 1:
        found[0]._go(frozenset((found[0]._here(),)), 3)
        assert found[0].due == 3, "refused"
os.write(2, b"end=allowed\\n")
os._exit(0)
"""


def test_the_list_is_short_and_names_nothing_dangerous() -> None:
    rows = (*host_filter.SEALED, host_filter.wake_by(9))
    calls = distinct_calls(rows)
    assert len(calls) <= host_filter.MAX_DISTINCT_CALLS == 30
    assert not calls & FORBIDDEN
    assert all(row.reason for row in rows)
    assert all(
        row.args
        for row in rows
        if row.name in ("ioctl", "mmap", "setsockopt", "socketpair", "write", "sched_setaffinity")
    )


def test_what_is_outside_the_list_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", ATTEMPT], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    said = dict(line.split("=") for line in done.stderr.splitlines() if line.count("=") == 1)
    assert said.pop("end") == "allowed", done.stderr
    assert len(said) == 12 and set(said.values()) == {"refused"}, said


def test_a_running_router_is_sealed_and_holds_only_its_links(world: World) -> None:
    sides = Sides(world)
    pid = sides.router.child()
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    assert {status[name].strip("0") for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {""}
    held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    kinds = [
        name for name in held if not name.startswith(("socket:", "pipe:", "anon_inode:[eventpoll]", "/dev/net/tun"))
    ]
    assert sorted(kinds) == sorted([str(sides.router.log_file), f"/proc/{pid}/schedstat", f"/proc/{pid}/stat"]), held
    assert sum(name == "/dev/net/tun" for name in held) == 2 and sum(name.startswith("socket:") for name in held) == 2


@pytest.mark.parametrize(
    "words", [("status",), ("ping", "10.1.0.2", "-c", "1"), ("metrics",), ("why", "udp 10.1.0.2:1 > 10.2.0.2:2 in lan")]
)
def test_the_sealed_router_answers_everything_it_may_be_asked(world: World, words: tuple[str, ...]) -> None:
    sides = Sides(world, '\n[nat]\nmasquerade = "wan"\n[filter]\ninput = "reject"\n')
    before = sides.router.child()
    for _ in range(2):
        assert sides.router.ctl(*words).out
    for verb in (
        "addr",
        "link",
        "route",
        "rule",
        "neigh",
        "fdb",
        "conn",
        "nat",
        "filter",
        "set",
        "dhcp",
        "ss",
        "stats",
    ):
        sides.router.ctl(verb)
    assert sides.router.ctl("why", "nonsense", check=False).status == 1
    assert sides.router.ctl("ping", "nowhere", check=False).status == 1
    assert sides.router.child() == before

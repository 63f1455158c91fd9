"""What a guest may do to its processes, or the host to a guest's, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SUPERVISOR = str(Path(sys.executable).parent / "supervisor")
pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(180)]


def do(*command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """The command in a sandbox that says at its end what is left."""
    return subprocess.run(
        [SUPERVISOR, "--debug", "do", "--", *command],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def left_in(log: str) -> dict[str, int]:
    """The Sentry's own counts at the end."""
    line = re.search(r"at the end: (.*)", log)
    assert line is not None, log
    return {name: int(count) for name, count in (item.split() for item in line[1].split(", "))}


PROCESSES = """
import os
for _ in range(150):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
for _ in range(3):
    read, write = os.pipe()
    children = []
    for _ in range(60):
        pid = os.fork()
        if not pid:
            os.close(write)
            os.read(read, 1)
            os._exit(1)
        children.append(pid)
    os.close(read), os.close(write)
    print(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


def test_many_short_processes_leave_no_region_task_or_clone() -> None:
    ended = do(sys.executable, "-I", "-c", PROCESSES)
    assert ended.stdout.split() == ["60", "60", "60"]
    left = left_in(ended.stderr)
    assert left["tasks"] == 1
    assert left["regions"] <= 3  # the pristine process's, init's, one that is being reaped
    assert left["clones"] == 0


def test_many_executions_leave_no_region() -> None:
    ended = do("sh", "-c", "i=0; while [ $i -lt 60 ]; do /bin/true | /bin/true; i=$((i+1)); done; echo done")
    assert ended.stdout == "done\n"
    assert left_in(ended.stderr)["regions"] <= 5


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from descendants(int(child))


def test_guest_killed_on_the_host_is_a_killed_child_to_its_parent() -> None:
    script = "sh -c 'while :; do :; done'; echo status $?; echo goes on"
    process = subprocess.Popen(
        [SUPERVISOR, "do", "--", "sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        busiest = _busiest_below(process.pid)
        os.kill(busiest, signal.SIGKILL)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert output == "status 137\ngoes on\n"


def _busiest_below(pid: int) -> int:
    """The descendant that burns the processor: the guest process of the endless loop."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.5)
        used = {}
        for child in descendants(pid):
            try:
                fields = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            used[child] = int(fields[11])  # utime
        if used and max(used.values()) > 60:
            return max(used, key=lambda child: used[child])
    raise AssertionError("no guest process runs")


READS = """
import os, time
fd = os.open("/volume/data", os.O_RDONLY)
for _ in range(1000):
    os.pread(fd, 4096, 8192)
print("hot", flush=True)
end = time.monotonic() + 60
while len(os.pread(fd, 4096, 8192)) == 4096 and time.monotonic() < end:
    pass
print(len(os.pread(fd, 4096, 8192)), len(os.pread(fd, 4096, 0)))
"""


def test_host_shortens_a_file_that_a_guest_reads_all_the_time(tmp_path: Path) -> None:
    """The guest's stub copies from a mapping of it (a window): that faults, and the Sentry answers."""
    data = tmp_path / "data"
    data.write_bytes(bytes(65536))
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder != Path("/tmp") and folder.is_relative_to("/tmp"):
            folder.chmod(0o755)
    command = [SUPERVISOR, "do", "-v", f"{tmp_path}:/volume", "--", sys.executable, "-I", "-c", READS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hot\n"
        time.sleep(0.2)
        os.truncate(data, 4096)
        assert process.stdout.read() == "0 4096\n"
        assert process.wait(timeout=60) == 0


LARGE = """
import ctypes, mmap, os, resource, socket, threading
memory = mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:1 << 20] = bytes(range(256)) * 4096
def number(call, *arguments):
    try: return call(*arguments)
    except OSError as error: return os.strerror(error.errno)
for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    one.setblocking(False)
    sent = number(one.send, memory)
    print(sent if kind != socket.SOCK_STREAM else 1 << 16 < sent < 1 << 26, number(one.sendmsg, [memory] * 3))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    print(number(udp.sendto, memory, ("127.0.0.1", 9)), number(udp.sendto, b"", ("127.0.0.1", 9)))
# a blocking stream takes it all, in order, and what a part cannot give is not sent
one, other = socket.socketpair()
got = []
def take():
    while piece := other.recv(1 << 20): got.append(piece)
taker = threading.Thread(target=take)
taker.start()
text = memoryview(memory)[:(5 << 20) + 77]
print(one.send(text), one.sendmsg([text[:3 << 20], text[3 << 20:]]))
one.close()
taker.join()
print(b"".join(got) == bytes(text) * 2)
# memory of a process: as far as there is some
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
here, there = (libc.mmap(None, 9 << 20, 3, 0x22, -1, 0) for _ in range(2))
libc.munmap(there + (8 << 20) + 12288, 4096)
libc.memset(ctypes.c_void_p(there), 7, 8 << 20)
class iovec(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
mine, its = iovec(here, 1 << 30), iovec(there, 1 << 45)
print(libc.process_vm_readv(os.getpid(), ctypes.byref(mine), 1, ctypes.byref(its), 1, 0) - (8 << 20))
print(ctypes.string_at(here, 8 << 20) == b"\\7" * (8 << 20))
print("done", flush=True)
input()
"""


def test_calls_about_a_lot_of_memory_cost_the_sentry_little() -> None:
    """A guest's memory may be large, for next to nothing: what one call names of it is never copied whole."""
    native = subprocess.run([sys.executable, "-Ic", LARGE], input="\n", capture_output=True, text=True, check=True)
    process = subprocess.Popen(
        [SUPERVISOR, "do", "--", sys.executable, "-Ic", LARGE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        said = ""
        while "done" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        sentry = min(int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        highest = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{sentry}/status").read_text())
        process.communicate("\n", timeout=30)
    finally:
        process.kill()
        process.wait()
    assert said == native.stdout
    assert highest is not None and int(highest[1]) < 150_000

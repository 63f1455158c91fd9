"""What sealed processes may do on the host: the lists say it, the filters mean it, live processes have it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from platforms.systrap import filter as guest_filter
from platforms.systrap import image as stub_image
from platforms.systrap import layout
from protocol.abi.numbers_amd64 import NAMES
from protocol.sealing.rows import Row, distinct_calls
from protocol.sealing.seal_unsafe import compile_filter, errno_action, seal
from services.gofer import host_filter as gofer_filter
from services.sentry import host_filter as sentry_filter


def _sibling(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"adversarial_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


bpf = _sibling("bpf")
MARK = 3999
LAST_CALL = 469
# uretprobe, uprobe: the kernel lets them past any filter; they work from its trampolines only
PAST_EVERY_FILTER = {335, 336}
VDSO = (0x7FFD_8000_2000, 0x7FFD_8000_8000)  # where it might lie
MAX_STUB_CALLS = 12
NUMBERS = {name: number for number, name in NAMES.items()}
LISTS = {
    "sentry": sentry_filter.ROWS,
    "gofer-read-only": gofer_filter.READ_ONLY,
    "gofer-read-write": gofer_filter.READ_WRITE,
}


def allowed_numbers(rows: tuple[Row, ...]) -> set[int]:
    return {NUMBERS[name] for name in distinct_calls(rows)}


@pytest.mark.parametrize("name", LISTS)
def test_list_is_short_and_every_row_has_its_reason(name: str) -> None:
    rows = LISTS[name]
    assert len(distinct_calls(rows)) <= 45
    assert all(row.reason.strip() for row in rows)


@pytest.mark.parametrize("name", LISTS)
def test_filter_lets_through_what_the_list_names_and_nothing_else(name: str) -> None:
    code = bpf.decode(compile_filter(LISTS[name]))
    allowed = allowed_numbers(LISTS[name])
    wild = ((0,) * 6, (2**64 - 1,) * 6, tuple(range(6)), (0x1000,) * 6)
    for number in range(LAST_CALL + 50):
        for args in wild:
            action = bpf.run(code, bpf.Data(number, bpf.X86_64, 0x401000, args).pack())
            assert action in (bpf.ALLOW, bpf.KILL_PROCESS)
            assert action == bpf.KILL_PROCESS or number in allowed, number
            for arch, other in ((bpf.I386, number), (bpf.X86_64, number | 0x40000000), (0xC00000B7, number)):
                assert bpf.run(code, bpf.Data(other, arch, 0x401000, args).pack()) == bpf.KILL_PROCESS


@pytest.mark.parametrize("name", LISTS)
def test_every_call_outside_the_list_is_refused_from_inside(name: str) -> None:
    rows = LISTS[name]
    allowed = allowed_numbers(rows) | PAST_EVERY_FILTER
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.argtypes = [ctypes.c_long] * 7
    pid = os.fork()
    if not pid:
        status = 99
        try:
            seal(rows, keep_fds=(2,), landlock=(), default_action=errno_action(MARK))
            let_through = [
                number
                for number in [*range(LAST_CALL + 1), 0x40000000, 0x40000001, 0x40000000 | 520]
                if number not in allowed
                and (libc.syscall(number, -1, -1, -1, -1, -1, -1) != -1 or ctypes.get_errno() != MARK)
            ]
            executable = libc.syscall(9, 0, 4096, 5, 0x22, -1, 0)
            if executable != -1 or ctypes.get_errno() != MARK:
                let_through.append(9)
            status = 1 if let_through else 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


# --- the stub ---
def _stub_actions(ip: int, arch: int, nr: int, code: Any) -> set[int]:
    """Every action that some arguments get: those that the filter compares with, and others."""
    low, high = layout.STUB_BASE - 0x4_0000_0000, layout.STUB_BASE + 0x2_0000_0000
    choices = [
        (0, 0, 0, 0, 0, 0),
        (0, 1, 0, 0, 0, 0),
        (layout.DOORBELL_FD, 0, 8, 0, 0, 0),
        (layout.DOORBELL_FD, 0, 16, 0, 0, 0),
        (1, 0, 8, 0, 0, 0),
        *((start, 4096, 4, 0x32, 0, 0) for start in (low, high, layout.STUB_BASE)),
        *((start, 4096, 3, 0x12, 5, 0) for start in (low, high, layout.STUB_BASE)),
        *((start, 4096, 9, 0x11, 5, 0) for start in (low, high, layout.STUB_BASE)),
        (2**64 - 1,) * 6,
    ]
    return {bpf.run(code, bpf.Data(nr, arch, ip, args).pack()) for args in choices}


def test_stub_filter_really_allows_what_host_calls_says_and_no_more() -> None:
    image = stub_image.load()
    code = bpf.decode(guest_filter.program(image, VDSO))
    found: set[str] = set()
    for ip in range(layout.STUB_BASE, image.text_end + 1):
        site = ip in {getattr(image, name) for name in stub_image.Image.__annotations__ if name != "code"}
        numbers = range(LAST_CALL + 1) if site else (0, 1, 9, 56, 59, 202)
        for nr in numbers:
            actions = _stub_actions(ip, bpf.X86_64, nr, code)
            assert actions <= {bpf.ALLOW, bpf.NOTIFY, bpf.TRAP, bpf.KILL_PROCESS}
            if actions & {bpf.ALLOW, bpf.NOTIFY}:
                found.add(NAMES[nr])
            if ip == image.take_frame_ip:
                assert actions == {bpf.TRAP}
    assert found == set(guest_filter.HOST_CALLS)
    assert len(found) <= MAX_STUB_CALLS
    assert all(reason.strip() for reason in guest_filter.HOST_CALLS.values())


def test_outside_the_stub_and_in_other_abis_everything_traps() -> None:
    image = stub_image.load()
    code = bpf.decode(guest_filter.program(image, VDSO))
    outside = [0, 0x401000, layout.STUB_BASE - 1, image.text_end + 1, layout.STUB_BASE + layout.GLOBAL, layout.STUB_END]
    outside += [image.op_ip + (1 << 32), image.op_ip & 0xFFFFFFFF, image.op_ip | 1 << 63, 2**64 - 1, 0xFFFFFFFFFF600007]
    for ip in outside:
        for nr in range(LAST_CALL + 1):
            assert _stub_actions(ip, bpf.X86_64, nr, code) == {bpf.TRAP}, (hex(ip), nr)
    for ip in (image.op_ip, image.clone_ip, image.futex_ip, image.ring_ip, 0x401000):
        for nr in range(LAST_CALL + 1):
            assert _stub_actions(ip, bpf.I386, nr, code) == {bpf.TRAP}
    for ip in (image.op_ip, image.clone_ip, image.futex_ip, image.ring_wait_ip, image.ring_ip):
        for nr in range(LAST_CALL + 1):
            assert _stub_actions(ip, bpf.X86_64, nr | 0x40000000, code) == {bpf.KILL_PROCESS}


def test_nothing_is_let_through_unasked_in_the_stubs_own_range() -> None:
    image = stub_image.load()
    code = bpf.decode(guest_filter.program(image, VDSO))
    page = 4096
    ranges = [(start, length) for start in (layout.STUB_BASE, layout.STUB_BASE + layout.HEADER, layout.STUB_END - page)
              for length in (0, 1, page, 1 << 31)]  # fmt: skip
    ranges += [(layout.STUB_BASE - page, 2 * page), (0, 2**47), (1 << 40, 0x7F0000000000), (0x1000, 2**64 - 0x1000)]
    ranges += [(layout.STUB_BASE - (1 << 32), (1 << 32) + 1), (2**64 - page, 2**63), (layout.STUB_BASE - 1, 1 << 32)]
    for start, length in ranges:
        for nr, third, flags in ((9, 3, 0x32), (11, 0, 0), (10, 0, 0), (28, 4, 0), (28, 8, 0)):
            args = (start, length, third, flags, 0, 0)
            action = bpf.run(code, bpf.Data(nr, bpf.X86_64, image.op_ip, args).pack())
            assert action == bpf.NOTIFY, (nr, hex(start), hex(length))
            assert not guest_filter.is_direct(nr, args, VDSO)
    for nr, args in ((9, (1 << 40, 4096, 1, 0x12, 5, 0)), (10, (1 << 40, 4096, 2, 0, 0, 0)), (25, (1 << 40,) * 6)):
        assert bpf.run(code, bpf.Data(nr, bpf.X86_64, image.op_ip, args).pack()) == bpf.NOTIFY


@pytest.mark.parametrize("vdso", ((0x7FFD_8000_2000, 0x7FFD_8000_8000), (0x7FFD_FFFF_E000, 0x7FFE_0000_3000)))
def test_nothing_is_let_through_unasked_on_the_vdso(vdso: tuple[int, int]) -> None:
    """Against what ranges are: all that meets it asks, all that is not huge and does not meet it goes on."""
    image = stub_image.load()
    code = bpf.decode(guest_filter.program(image, vdso))
    page, block = 4096, 1 << 32
    start, end = vdso
    edges = sorted({edge + step for edge in (*vdso, start & -block, end & -block, (end & -block) + block)
                    for step in (-block, -2 * page, -page, 0, page, 2 * page, block)})  # fmt: skip
    edges = [edge for edge in edges if edge < 2**47]
    for low in edges:
        for high in edges:
            for length in (high - low, high - low - 1):
                if length <= 0:
                    continue
                meets = low < end and low + length > start
                for nr, third, flags in ((9, 3, 0x32), (11, 0, 0), (10, 1, 0), (28, 4, 0)):
                    args = (low, length, third, flags, 0, 0)
                    action = bpf.run(code, bpf.Data(nr, bpf.X86_64, image.op_ip, args).pack())
                    assert guest_filter.is_direct(nr, args, vdso) == (action == bpf.ALLOW), (hex(low), hex(length))
                    if meets:
                        assert action == bpf.NOTIFY, (nr, hex(low), hex(length))
                    elif length < block:
                        assert action == bpf.ALLOW, (nr, hex(low), hex(length))


def test_host_neither_chooses_where_memory_comes_unasked_nor_shares_it() -> None:
    image = stub_image.load()
    code = bpf.decode(guest_filter.program(image, VDSO))
    for flags in (0x22, 0x100022, 0x132, 0x02, 0x31, 0x33):  # or has others share it
        args = (1 << 40, 4096, 3, flags, layout.DONATED_FD, 0)
        for ip in (image.op_ip, image.map_ip):
            assert bpf.run(code, bpf.Data(9, bpf.X86_64, ip, args).pack()) == bpf.NOTIFY
        assert not guest_filter.is_direct(9, args, VDSO)


def test_memory_is_made_writable_unasked_only_a_little_at_a_time_and_none_of_the_stubs_own() -> None:
    image = stub_image.load()
    code = bpf.decode(guest_filter.program(image, VDSO))
    low, page, kept = layout.FILE_WINDOWS_END, 4096, layout.MAP_KEPT_MAX
    assert layout.STUB_END <= layout.FILE_WINDOWS < low and low & 0xFFFFFFFF == 0
    for addr, length, prot, action in (
        (low, page, 3, bpf.ALLOW),
        (VDSO[0] - page, page, 3, bpf.ALLOW),
        (VDSO[1], kept, 3, bpf.ALLOW),
        (VDSO[0] - page, 2 * page, 3, bpf.NOTIFY),
        (VDSO[1] - page, page, 3, bpf.NOTIFY),
        (low - page, 2 * page, 3, bpf.NOTIFY),
        (layout.FILE_WINDOWS, page, 3, bpf.NOTIFY),
        (layout.STUB_BASE, page, 3, bpf.NOTIFY),
        (1 << 40, page, 3, bpf.NOTIFY),
        (low & 0xFFFFFFFF, page, 3, bpf.NOTIFY),
        (low, kept + 1, 3, bpf.NOTIFY),
        (low, 1 << 32, 3, bpf.NOTIFY),
        (low, page, 7, bpf.NOTIFY),
        (low, page, 1, bpf.NOTIFY),
    ):
        data = bpf.Data(10, bpf.X86_64, image.give_ip, (addr, length, prot, 0, 0, 0))
        assert bpf.run(code, data.pack()) == action, (hex(addr), hex(length), prot)
    for nr in (9, 11, 25, 28):
        data = bpf.Data(nr, bpf.X86_64, image.give_ip, (low, page, 3, 0, 0, 0))
        assert bpf.run(code, data.pack()) == bpf.KILL_PROCESS


def test_wiping_is_these_three_calls_and_closes_no_more_than_others() -> None:
    image = stub_image.load()
    code = bpf.decode(guest_filter.program(image, VDSO))
    wanted = {
        image.wipe_low_ip: (0, layout.STUB_BASE),
        image.wipe_middle_ip: (layout.STUB_END, VDSO[0]),
        image.wipe_high_ip: (VDSO[1], layout.USER_END),
    }
    for ip, (low, high) in wanted.items():
        assert bpf.run(code, bpf.Data(11, bpf.X86_64, ip, (low, high - low, 0, 0, 0, 0)).pack()) == bpf.ALLOW
        for start, length in ((low + 4096, high - low), (low, high - low + 4096), (low, 4096), (low + (1 << 32), 4096),
                              (low, high - low + (1 << 32))):  # fmt: skip
            action = bpf.run(code, bpf.Data(11, bpf.X86_64, ip, (start, length, 0, 0, 0, 0)).pack())
            assert action == bpf.KILL_PROCESS
        assert bpf.run(code, bpf.Data(9, bpf.X86_64, ip, (low, high - low, 0, 0, 0, 0)).pack()) == bpf.KILL_PROCESS
    for fd, action in ((layout.DOORBELL_FD, bpf.KILL_PROCESS), (layout.ARENA_FD, bpf.KILL_PROCESS), (64, bpf.ALLOW)):
        for ip in (image.close_ip, image.recycle_close_ip):
            assert bpf.run(code, bpf.Data(3, bpf.X86_64, ip, (fd | 7 << 32, 0, 0, 0, 0, 0)).pack()) == action
    for ip in (image.recycle_ip, image.recycled_ip):
        assert bpf.run(code, bpf.Data(9, bpf.X86_64, ip).pack()) == bpf.NOTIFY


def test_every_system_call_instruction_of_the_stub_is_a_known_one() -> None:
    image = stub_image.load()
    known = {getattr(image, name) for name in stub_image.Image.__annotations__ if name.endswith("_ip")}
    text = image.code[: image.text_end - layout.STUB_BASE]
    found = {layout.STUB_BASE + at + 2 for at in range(len(text) - 1) if text[at : at + 2] == b"\x0f\x05"}
    assert found == known
    assert b"\xcd\x80" not in text and b"\x0f\x34" not in text


# --- live processes ---
def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _fds(pid: int) -> dict[int, str]:
    return {int(n): os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}


def _is_guest(pid: int) -> bool:
    return "7e0000000000-" in Path(f"/proc/{pid}/maps").read_text()


@pytest.fixture(scope="module")
def live() -> Iterator[dict[str, list[int]]]:
    """A running sandbox's processes by what they are."""
    sandboxes = _sibling("conftest")
    sandbox = sandboxes.Sandbox("sh", "-c", "echo is ready; while read x; do :; done")
    sandbox.wait_for("is ready")
    found: dict[str, list[int]] = {"guest": [], "sentry": [], "gofer": []}
    for pid in sandbox.pids()[1:]:
        names = " ".join(_fds(pid).values())
        kind = "guest" if _is_guest(pid) else "sentry" if "seccomp notify" in names else "gofer"
        found[kind].append(pid)
    assert len(found["sentry"]) == 1 and len(found["gofer"]) == 1 and len(found["guest"]) >= 2
    yield found
    assert sandbox.close() == 0


@pytest.mark.sandbox
def test_live_processes_are_filtered_and_can_gain_nothing(live: dict[str, list[int]]) -> None:
    for pid in [pid for pids in live.values() for pid in pids]:
        status = _status(pid)
        assert status["Seccomp"] == "2"
        assert status["NoNewPrivs"] == "1"
        assert status["CapInh"] == status["CapAmb"] == "0" * 16
    for pid in [*live["sentry"], *live["guest"]]:
        assert _status(pid)["CapEff"] == _status(pid)["CapPrm"] == "0" * 16
    (gofer,) = live["gofer"]
    assert int(_status(gofer)["CapEff"], 16) & ~0b101 == 0  # CHOWN and DAC_READ_SEARCH at most


@pytest.mark.sandbox
def test_live_processes_are_in_namespaces_of_their_own_with_nothing_in_sight(live: dict[str, list[int]]) -> None:
    for pid in [pid for pids in live.values() for pid in pids]:
        for name in ("pid", "mnt", "net", "ipc", "uts"):
            assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), (pid, name)
    for pid in [*live["sentry"], *live["guest"]]:
        assert os.listdir(f"/proc/{pid}/root") == []
        assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")


@pytest.mark.sandbox
def test_live_processes_hold_only_what_they_were_given(live: dict[str, list[int]]) -> None:
    for pid in live["guest"]:
        names = [line.split(maxsplit=5)[5:] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
        assert not [n for n in names if n and ("python" in n[0] or "venv" in n[0])]
        fds = _fds(pid)
        assert {layout.DOORBELL_FD, layout.ARENA_FD} <= fds.keys(), fds
        mapped = {n[0].strip() for n in names if n}
        for fd in fds.keys() - {layout.DOORBELL_FD, layout.ARENA_FD}:
            # What the program runs is there for the next one that its process becomes; nothing else, and to be read.
            assert fds[fd] in mapped, fds
            info = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines())
            assert int(info["flags"], 8) & os.O_ACCMODE == os.O_RDONLY, (fd, info)
    (sentry,) = live["sentry"]
    kinds = (
        "/memfd:",
        "pipe:",
        "socket:",
        "anon_inode:[event",
        "anon_inode:seccomp notify",
        "/dev/null",
        "/null",
        "/0/",
    )
    held = _fds(sentry)
    assert [name for name in held.values() if not name.startswith(kinds) and not name.endswith(".out")] == []
    assert len([name for name in held.values() if name.startswith("socket:")]) <= 2, held
    for number, name in held.items():
        if name.startswith("/0/"):  # donated by the Gofer: for reading
            flags = int(Path(f"/proc/{sentry}/fdinfo/{number}").read_text().split("flags:")[1].split()[0], 8)
            assert flags & os.O_ACCMODE == os.O_RDONLY, name
    (gofer,) = live["gofer"]
    held = _fds(gofer)
    assert len([name for name in held.values() if name.startswith("socket:")]) == 1, held
    assert all(name.startswith(("/0", "pipe:", "socket:")) for name in held.values()), held


@pytest.mark.sandbox
def test_sealed_processes_map_nothing_executable_and_writable(live: dict[str, list[int]]) -> None:
    for pid in [*live["sentry"], *live["gofer"]]:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            assert "wx" not in line.split()[1], line


def test_doctor_prints_the_same_lists() -> None:
    command = [sys.executable, "-m", "services.supervisor", "doctor", "--surface"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    for rows in LISTS.values():
        assert f"{len(distinct_calls(rows))} distinct host calls" in done.stdout
        for row in rows:
            assert row.name in done.stdout and row.reason in done.stdout
    assert f"systrap stub, HOST_CALLS: {len(guest_filter.HOST_CALLS)} distinct host calls" in done.stdout
    for name, reason in guest_filter.HOST_CALLS.items():
        assert name in done.stdout and reason in done.stdout
